"""Claims about a changed pre-tokenizer: untrained rows in use, scripts that are cut differently.

There are no such claims if the pre-tokenizer is that of the base. The first claim is checked with
`tokenizers` itself: a base token that the target produces on held-out text must be one that the
base produces on some text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import islice

from lingraft.certificate.claims import Claim, Evidence
from lingraft.pretokenizer import SAMPLES, completions, find_changed_scripts
from lingraft.tokenizer import Family, ModelTokenizer, family_of
from lingraft.tokenizer.byte_level_bpe import ByteLevel

_EXAMPLES = 8
_BATCH = 512


def certify_pretokenizer(evidence: Evidence) -> list[Claim]:
    """Check the claims about a changed pre-tokenizer."""
    before = evidence.source.family.data.get("pre_tokenizer")
    after = evidence.target.family.data.get("pre_tokenizer")
    if before == after or not isinstance(evidence.source.family, ByteLevel):
        return []
    return [_check_rows_in_use(evidence), _list_reinitialised(evidence), _list_scripts(evidence)]


def _check_rows_in_use(evidence: Evidence) -> Claim:
    """Check that each base row in use on held-out text is of a token that the base can produce."""
    splice, source, target = evidence.splice, evidence.source, evidence.target
    used: Counter[int] = Counter()
    produced: set[int] = set()
    texts = iter(evidence.target_heldout())
    while batch := list(islice(texts, _BATCH)):
        for before, after in zip(source.encode(batch), target.encode(batch), strict=True):
            produced.update(before)
            used.update(after)
    uses_of: dict[int, int] = {}
    for target_id, source_id in splice.kept.items():
        if used[target_id]:
            uses_of[source_id] = used[target_id]
    # Tokens that the base did not produce on this text may still occur in other text.
    untrained = _find_never_produced(source, sorted(uses_of.keys() - produced))
    return Claim(
        "no untrained base row in use",
        sum(uses_of[token_id] for token_id in untrained),
        used.total(),
        "held-out tokens",
        "each base token that the new pre-tokenizer produces, with the base's row, is one that the "
        "base produces as well: its row was trained",
        fatal=False,
        exceptions=_show(source, untrained),
    )


def _find_never_produced(source: ModelTokenizer, token_ids: Sequence[int]) -> list[int]:
    """Return the tokens that the source does not produce on any text that contains their bytes."""
    texts_of = []
    all_texts: list[str] = []
    for token_id in token_ids:
        texts = completions(source.vocabulary.surfaces[token_id] or b"")
        texts_of.append(texts)
        all_texts += texts
    encoded = iter(source.encode(all_texts))
    never = []
    for token_id, texts in zip(token_ids, texts_of, strict=True):
        uses = 0
        # `encoded` runs over the texts of all tokens, so every text of this token is consumed.
        for _ in texts:
            uses += token_id in next(encoded)
        if not uses:
            never.append(token_id)
    return never


def _list_reinitialised(evidence: Evidence) -> Claim:
    """Count and list the base tokens that only the changed pre-tokenizer produces."""
    source_ids = list(evidence.splice.reinitialised.values())
    return Claim(
        "no base token becomes reachable",
        len(source_ids),
        evidence.splice.source_size,
        "tokens",
        "base tokens that only the changed pre-tokenizer produces: their rows were never trained, "
        "so they are initialised again and trained like those of added tokens",
        fatal=False,
        exceptions=_show(evidence.source, source_ids),
    )


def _list_scripts(evidence: Evidence) -> Claim:
    """List the scripts whose sample sentences the changed pre-tokenizer cuts differently."""
    changes = find_changed_scripts(evidence.source.family, _change_pretokenizer_only(evidence))
    listed = "; ".join(map(str, changes)) or "none"
    return Claim(
        "scripts cut as before",
        len(changes),
        len(SAMPLES),
        "scripts",
        "two sentences in each script with combining marks and in languages with apostrophes or "
        "joiners inside words, before any token is added; tokens "
        f"before -> after: {listed}",
        fatal=False,
        exceptions=tuple(change.script for change in changes[:_EXAMPLES]),
    )


def _change_pretokenizer_only(evidence: Evidence) -> Family:
    """Return the vocabulary of the base with the changed pre-tokenizer, without new tokens."""
    source = evidence.source
    changed = {"pre_tokenizer": evidence.target.family.data["pre_tokenizer"]}
    family = family_of({**source.family.data, **changed}, source.folder)
    return family.reuse_model_of(source.family)


def _show(tokenizer: ModelTokenizer, token_ids: Sequence[int]) -> tuple[str, ...]:
    """Return the text of the first few tokens."""
    texts = []
    for token_id in token_ids[:_EXAMPLES]:
        surface = tokenizer.vocabulary.surfaces[token_id] or b""
        texts.append(surface.decode("utf-8", errors="backslashreplace"))
    return tuple(texts)
