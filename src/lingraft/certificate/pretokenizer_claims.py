"""Claims about a changed pre-tokenizer: untrained rows that come into use, and scripts that are cut otherwise.

No claim is made where the pre-tokenizer is the base's. The first claim asks `tokenizers` itself: a base token that the
target produces on held-out text must be one that the base, too, produces on some text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import islice

from lingraft.certificate.claims import Claim, Evidence
from lingraft.pretokenizer import SENTENCES, completions, find_changed_scripts
from lingraft.tokenizer import Family, ModelTokenizer, family_of
from lingraft.tokenizer.byte_level_bpe import ByteLevel

_NAMED = 8
_BATCH = 512


def certify_pretokenizer(evidence: Evidence) -> list[Claim]:
    """Check the claims about a changed pre-tokenizer."""
    before, after = (t.family.data.get("pre_tokenizer") for t in (evidence.source, evidence.target))
    if before == after or not isinstance(evidence.source.family, ByteLevel):
        return []
    return [_rows_in_use(evidence), _reinitialised(evidence), _scripts(evidence)]


def _rows_in_use(evidence: Evidence) -> Claim:
    """Each base row that held-out text uses belongs to a token that the base can produce."""
    splice, source, target = evidence.splice, evidence.source, evidence.target
    used: Counter[int] = Counter()
    produced: set[int] = set()
    total = 0
    texts = iter(evidence.target_heldout())
    while batch := list(islice(texts, _BATCH)):
        for before, after in zip(source.encode(batch), target.encode(batch), strict=True):
            produced.update(before)
            used.update(after)
            total += len(after)
    kept = {
        source_id: used[target_id]
        for target_id, source_id in splice.kept.items()
        if used[target_id]
    }
    untrained = _never_produced(source, sorted(kept.keys() - produced))
    return Claim(
        "no untrained base row in use",
        sum(kept[token_id] for token_id in untrained),
        total,
        "held-out tokens",
        "each base token that the new pre-tokenizer produces, with the base's row, is one that the base "
        "produces as well: its row was trained",
        fatal=False,
        exceptions=tuple(_shown(source, token_id) for token_id in untrained[:_NAMED]),
    )


def _never_produced(source: ModelTokenizer, token_ids: Sequence[int]) -> list[int]:
    """Return the tokens that the source produces neither on their own text nor on one that completes it."""
    texts = [completions(source.vocabulary.surfaces[token_id] or b"") for token_id in token_ids]
    encoded = iter(source.encode([text for group in texts for text in group]))
    found = []
    for token_id, group in zip(token_ids, texts, strict=True):
        produced = [token_id in next(encoded) for _ in group]
        if not any(produced):
            found.append(token_id)
    return found


def _reinitialised(evidence: Evidence) -> Claim:
    """Base tokens that only the changed pre-tokenizer produces are named, and counted."""
    again = evidence.splice.reinitialised
    counts = {source_id: target_id for target_id, source_id in again.items()}
    named = tuple(_shown(evidence.source, source_id) for source_id in islice(counts, _NAMED))
    return Claim(
        "no base token becomes reachable",
        len(again),
        evidence.splice.source_size,
        "tokens",
        "base tokens that the base's pre-tokenizer could never produce, and the changed one does: their rows were "
        "never trained, so they are made again by the initialisation and trained like those of added tokens",
        fatal=False,
        exceptions=named,
    )


def _unextended(evidence: Evidence) -> Family:
    """Return the base's vocabulary behind the changed pre-tokenizer."""
    source = evidence.source
    front = {"pre_tokenizer": evidence.target.family.data["pre_tokenizer"]}
    return family_of({**source.family.data, **front}, source.folder).reuse_model_of(source.family)


def _shown(tokenizer: ModelTokenizer, token_id: int) -> str:
    surface = tokenizer.vocabulary.surfaces[token_id] or b""
    return surface.decode("utf-8", errors="backslashreplace")


def _scripts(evidence: Evidence) -> Claim:
    """The scripts whose sample sentences the changed pre-tokenizer cuts otherwise, nothing added."""
    touched = find_changed_scripts(evidence.source.family, _unextended(evidence))
    changes = "; ".join(str(change) for change in touched) or "none"
    return Claim(
        "scripts cut as before",
        len(touched),
        len(SENTENCES),
        "scripts",
        "two sentences in each script with combining marks, before any token is added; tokens before -> after: "
        f"{changes}",
        fatal=False,
        exceptions=tuple(change.script for change in touched[:_NAMED]),
    )
