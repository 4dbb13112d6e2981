"""Claims about the vocabulary itself: ids, special tokens, the order of rules, and reachability.

The *rules* of a model are the merges of a BPE and the scored pieces of a Unigram.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lingraft.certificate.claims import Claim, Evidence, map_to_target
from lingraft.tokenizer import ModelTokenizer
from lingraft.tokenizer.file_names import CHAT_TEMPLATE_FILES
from lingraft.tokenizer.json_format import build_model_only


def certify_vocabulary(evidence: Evidence) -> list[Claim]:
    """Check the claims about the vocabulary itself."""
    return [
        _check_base_ids(evidence),
        *_check_special_tokens(evidence),
        *_check_ranks(evidence),
        *_check_reachable(evidence),
    ]


def _check_base_ids(evidence: Evidence) -> Claim:
    """Check that every piece of the source has the target id that the splice gives it."""
    before, after = evidence.source.family.pieces, evidence.target.family.pieces
    target_id_of = map_to_target(evidence.splice)
    moved = 0
    for piece, token_id in before.items():
        if token_id in target_id_of and after.get(piece) != target_id_of[token_id]:
            moved += 1
    return Claim(
        "base ids kept",
        moved,
        len(before),
        "tokens",
        "every token of the base keeps its id and spelling",
    )


def _check_special_tokens(evidence: Evidence) -> Iterator[Claim]:
    """Check that added tokens keep id, content and flags, and chat templates every byte."""
    before, after = _added_tokens(evidence.source), _added_tokens(evidence.target)
    target_id_of = map_to_target(evidence.splice)
    backend = evidence.target.backend
    changed = 0
    for content in before.keys() | after.keys():
        old, new = before.get(content), after.get(content)
        expected = {**old, "id": target_id_of.get(old["id"])} if old else None
        # The file is not enough: `tokenizers` renumbers an added token on loading if the
        # vocabulary of the model does not contain it.
        same = new == expected and new is not None and backend.token_to_id(content) == new["id"]
        changed += not same
    # Chat templates are files of their own, or an entry of tokenizer_config.json.
    folder = evidence.source.folder
    templates = [path for name in CHAT_TEMPLATE_FILES for path in folder.glob(name)]
    for original in templates:
        written = evidence.target.folder / original.relative_to(folder)
        changed += not written.is_file() or written.read_bytes() != original.read_bytes()
    inline = evidence.source.config.get("chat_template")
    changed += inline != evidence.target.config.get("chat_template")
    of = len(before.keys() | after.keys()) + len(templates) + (inline is not None)
    if of or changed:
        yield Claim(
            "special tokens and chat template kept",
            changed,
            max(of, changed),
            "tokens and templates",
            "special and added tokens keep their ids and flags, also after saving and loading",
        )


def _check_ranks(evidence: Evidence) -> Iterator[Claim]:
    """Check that the rules of the base come first and are unchanged."""
    before, after = _rules(evidence.source), _rules(evidence.target)
    if evidence.splice.dropped:  # the rules of removed tokens are gone: compare the others
        remaining = set(map(tuple, after))
        before = [rule for rule in before if tuple(rule) in remaining]
    if not before:
        return
    changed = max(len(before) - len(after), 0)
    for old, new in zip(before, after, strict=False):
        changed += old != new
    yield Claim(
        "new tokens rank below the base",
        changed,
        len(before),
        "rules",
        "every rule of the base comes before every new one, unchanged",
    )


def _check_reachable(evidence: Evidence) -> Iterator[Claim]:
    """Check that the model alone turns the surface of each added token into that token.

    A BPE is checked with whole-word lookup (`ignore_merges`) off and on.
    """
    added = evidence.splice.added
    if not added:
        return
    family = evidence.target.family
    model = family.data["model"]
    units = [family.piece_of(token.surface) for token in added]
    for lookup in (False, True) if model["type"] == "BPE" else (False,):
        if lookup == bool(model.get("ignore_merges")):
            bare = family.model_only
        else:
            bare = build_model_only({**family.data, "model": {**model, "ignore_merges": lookup}})
        encodings = bare.encode_batch_fast(units, add_special_tokens=False)
        lost = 0
        for encoding, token in zip(encodings, added, strict=True):
            lost += encoding.ids != [token.id]
        method = " by whole-word lookup" if lookup else ""
        yield Claim(
            f"added tokens reachable{method}",
            lost,
            len(added),
            "tokens",
            "the model turns the spelling of each added token into that token"
            f"{method or ' by its rules'}",
            fatal=evidence.by_rules or lookup,
        )


def _added_tokens(tokenizer: ModelTokenizer) -> dict[str, dict[str, Any]]:
    """Return the added tokens of tokenizer.json by content."""
    tokens = {}
    for token in tokenizer.family.data.get("added_tokens") or []:
        tokens[token["content"]] = token
    return tokens


def _rules(tokenizer: ModelTokenizer) -> list[Any]:
    """Return the merges of a BPE or the scored pieces of a Unigram."""
    model = tokenizer.family.data["model"]
    rules: list[Any] = model["merges"] if model["type"] == "BPE" else model["vocab"]
    return rules
