"""The last claims: the result has the tokens, rows and configured ids of the source.

Both sides are read by other libraries, tokens by transformers and rows by safetensors. The splice
only says which target id belongs to which source id.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from safetensors import safe_open

from lingraft.certificate.claims import Claim, map_to_target
from lingraft.certificate.readings import Reading, read_with_transformers
from lingraft.certificate.source_claims import Differences
from lingraft.checkpoint.config_files import SPECIAL_IDS, named_ids
from lingraft.checkpoint.model_class import read_model_config
from lingraft.splice import Splice
from lingraft.tokenizer.added_tokens import FLAGS

TOKENS_KEPT = "source tokens where they were"
ROWS_KEPT = "source rows where they were"
IDS_NAMED = "configured ids name the same tokens"

_BLOCK = 16_384  # rows compared at a time, which bounds the memory

_CONFIGURATIONS = ("config.json", "generation_config.json")


def certify_tokens(source: Path, target: Path, splice: Splice) -> Claim:
    """Compare ids, flags and roles of all source tokens with those of the result."""
    before, after = read_with_transformers(source), read_with_transformers(target)
    if not isinstance(before, Reading):
        return _not_compared(before)
    if not isinstance(after, Reading):
        return _not_compared(after)
    target_id_of = map_to_target(splice)
    differences = Differences()
    for token, token_id in before.vocab.items():
        differences.compare(f"id of {token!r}", after.vocab.get(token), target_id_of.get(token_id))
    for content, flags in before.flags.items():
        kept = before.vocab[content] in target_id_of
        differences.compare(
            f"flags of {content!r}", after.flags.get(content), flags if kept else None
        )
    for role, role_id in before.roles.items():
        if role_id is not None:
            differences.compare(f"{role} id", after.roles[role], target_id_of.get(role_id))
    around = [list(map(target_id_of.get, ids)) for ids in before.plain([""])]
    differences.compare("ids around a text", after.plain([""]), around)
    detail = (
        f"the result, read by {after.reader}, has every token of the source, read by "
        f"{before.reader}, under its id, with its flags ({', '.join(FLAGS)}) and role"
    )
    return differences.claim(TOKENS_KEPT, "tokens, flags and roles", detail)


def _not_compared(reason: str) -> Claim:
    return Claim(TOKENS_KEPT, 0, 0, "tokens", "nothing was compared", exceptions=(reason,))


def certify_rows(source: Path, target: Path, splice: Splice, *, changed_by: str = "") -> Claim:
    """Compare the rows of all source ids bit for bit, in every tensor with a row for each id.

    `changed_by` names a method that changes rows of the base on purpose. The claim is then for
    information.
    """
    differences = Differences()
    for name, before, after in _row_tensors(source, target, splice):
        for ids in _blocks(splice, before.get_shape()[0]):
            _compare_rows(differences, name, before, after, ids)
    detail = "in every tensor with a row for each id, the rows of the source's ids, bit for bit"
    if changed_by:
        detail += f"; {changed_by}"
    return differences.claim(ROWS_KEPT, "rows", detail, fatal=not changed_by)


def certify_named_ids(source: Path, target: Path) -> Iterator[Claim]:
    """Compare the tokens that config.json and generation_config.json name before and after.

    An id that named no token before must not name a new token.
    """
    before, after = read_with_transformers(source), read_with_transformers(target)
    if not isinstance(before, Reading) or not isinstance(after, Reading):
        return
    differences = Differences()
    tokens_before, tokens_after = _tokens_by_id(before), _tokens_by_id(after)
    for name in _CONFIGURATIONS:
        old, new = _read_named_ids(source / name), _read_named_ids(target / name)
        for key, ids in old.items():
            # Without a file in the result, the ids of the source stay in use.
            new_ids = new.get(key, []) if new else ids
            expected = list(map(tokens_before.get, ids))
            actual = list(map(tokens_after.get, new_ids))
            differences.compare(f"{name}: {key} {ids}", actual, expected)
    if differences.of:
        yield differences.claim(
            IDS_NAMED,
            "ids",
            "the ids in config.json and generation_config.json name the same tokens as before",
        )


def certify_source_ids(source: Path) -> Iterator[Claim]:
    """Check that the ids in the configuration of a source are ids of tokens."""
    reading = read_with_transformers(source)
    if not isinstance(reading, Reading):
        return
    tokens = _tokens_by_id(reading)
    differences = Differences()
    for name in _CONFIGURATIONS:
        for key, ids in _read_named_ids(source / name).items():
            if key.rpartition(".")[2] not in SPECIAL_IDS:
                continue
            for token_id in ids:
                differences.check(token_id in tokens, f"{name}: no token has the {key} {token_id}")
    if differences.of:
        yield differences.claim(
            "configured ids are tokens",
            "ids",
            "config.json and generation_config.json name ids of tokens that transformers knows",
        )


def _read_named_ids(path: Path) -> dict[str, list[int]]:
    """Return the ids that a configuration names, by key; none if the file is missing."""
    if not path.is_file():
        return {}
    return named_ids(json.loads(path.read_text(encoding="utf-8")))


def _tokens_by_id(reading: Reading) -> dict[int | None, str]:
    return {token_id: token for token, token_id in reading.vocab.items()}


def _row_tensors(source: Path, target: Path, splice: Splice) -> Iterator[tuple[str, Any, Any]]:
    """Yield the name of every tensor with a row for each id, and its slices in both models."""
    rows = _configured_rows(source)
    old, new = _open_slices(source), _open_slices(target)
    for name, before in old.items():
        if name not in new:
            continue
        shape, other = before.get_shape(), new[name].get_shape()
        # A tensor whose first size changed was resized, so it belongs to the vocabulary.
        resized = shape[:1] != other[:1]
        has_ids = bool(shape) and shape[1:] == other[1:] and shape[0] >= splice.source_size
        if has_ids and (resized or shape[0] == rows):
            yield name, before, new[name]


def _configured_rows(folder: Path) -> int | None:
    """Return the vocabulary size of a configuration, which counts padding rows as well."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    # A multimodal model has its vocabulary size in text_config.
    for part in (config, config.get("text_config") or {}):
        if part.get("vocab_size") is not None:
            return int(part["vocab_size"])
    # Gemma 3 is published without it: it is the default of the type.
    size = getattr(read_model_config(folder).get_text_config(decoder=True), "vocab_size", None)
    return None if size is None else int(size)


def _open_slices(folder: Path) -> dict[str, Any]:
    """Return every tensor of a model folder by name, without reading any of them."""
    slices = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118 - safe_open is not a dictionary
                slices[name] = file.get_slice(name)
    return slices


def _blocks(splice: Splice, rows: int) -> Iterator[Sequence[tuple[int, int]]]:
    """Yield blocks of (source id, target id) of kept rows, in target id order."""
    pairs = []
    for target_id, source_id in sorted(splice.kept.items()):
        if source_id < rows:
            pairs.append((source_id, target_id))
        if len(pairs) == _BLOCK:
            yield pairs
            pairs = []
    if pairs:
        yield pairs


def _compare_rows(
    differences: Differences, name: str, before: Any, after: Any, ids: Sequence[tuple[int, int]]
) -> None:
    """Compare one block of rows bit for bit."""
    import torch

    # One range per block is read: kept rows are in the same order on both sides, so it
    # contains few other rows.
    first_source, last_source = min(ids)[0], max(ids)[0]
    first_target, last_target = ids[0][1], ids[-1][1]
    source_rows = before[first_source : last_source + 1]
    target_rows = after[first_target : last_target + 1]
    source_ids, target_ids = torch.tensor(ids).unbind(1)
    # Bytes, not numbers: NaN differs from itself, and 0.0 equals -0.0.
    before_bytes = (
        source_rows[source_ids - first_source].reshape(len(ids), -1).contiguous().view(torch.uint8)
    )
    after_bytes = (
        target_rows[target_ids - first_target].reshape(len(ids), -1).contiguous().view(torch.uint8)
    )
    same = (before_bytes == after_bytes).all(dim=1)
    differences.of += int(same.sum())
    for place in (~same).nonzero().flatten().tolist():
        differences.check(holds=False, exception=f"{name}: row {ids[place][0]}")
