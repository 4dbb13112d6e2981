"""The last claims: what the source has, as transformers reads it, is where it was in the result.

Both sides are read by others: tokens by transformers, rows by safetensors. The splice only says
which target id belongs to which source id.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lingraft.certificate.claims import Claim
from lingraft.certificate.readings import Reading, their_reading
from lingraft.certificate.source_claims import Differences
from lingraft.checkpoint.config_files import SPECIAL_IDS, named_ids
from lingraft.splice import Splice
from lingraft.tokenizer.added_tokens import FLAGS

TOKENS_KEPT = "source tokens where they were"
ROWS_KEPT = "source rows where they were"
IDS_NAMED = "configured ids name the same tokens"

_BLOCK = 16_384  # rows compared at a time


def certify_tokens(source: Path, target: Path, splice: Splice) -> Claim:
    """Compare ids, flags and roles of all source tokens in the result, both read by transformers."""
    before, after = their_reading(source), their_reading(target)
    if not isinstance(before, Reading):
        return _not_compared(before)
    if not isinstance(after, Reading):
        return _not_compared(after)
    target_id_of = _target_ids(splice)
    found = Differences()
    for token, token_id in before.vocab.items():
        found.compare(f"id of {token!r}", after.vocab.get(token), target_id_of.get(token_id))
    for content, flags in before.flags.items():
        kept = before.vocab[content] in target_id_of
        found.compare(f"flags of {content!r}", after.flags.get(content), flags if kept else None)
    for role, role_id in before.roles.items():
        if role_id is not None:
            found.compare(f"{role} id", after.roles[role], target_id_of.get(role_id))
    around = [[target_id_of.get(token_id) for token_id in ids] for ids in before.plain([""])]
    found.compare("ids around a text", after.plain([""]), around)
    detail = (
        f"the result, read by {after.reader}, has every token of the source, read by "
        f"{before.reader}, under its id, with its flags ({', '.join(FLAGS)}) and role"
    )
    return Claim(
        TOKENS_KEPT,
        found.value,
        found.of,
        "tokens, flags and roles",
        detail,
        exceptions=tuple(found.examples),
    )


def _not_compared(reason: str) -> Claim:
    return Claim(TOKENS_KEPT, 0, 0, "tokens", "nothing was compared", exceptions=(reason,))


def certify_rows(source: Path, target: Path, splice: Splice, *, changed_by: str = "") -> Claim:
    """Compare the rows of all source ids bit for bit, in every tensor that has a row for each id.

    `changed_by` names a method that changes rows of the base on purpose: the claim then informs.
    """
    found = Differences()
    for name, before, after in _tables(source, target, splice):
        for ids in _blocks(splice, before.get_shape()[0]):
            _compare_rows(found, name, before, after, ids)
    detail = "in every tensor with a row for each id, the rows of the source's ids, bit for bit"
    if changed_by:
        detail += f"; {changed_by}"
    return Claim(
        ROWS_KEPT,
        found.value,
        found.of,
        "rows",
        detail,
        fatal=not changed_by,
        exceptions=tuple(found.examples),
    )


def certify_named_ids(source: Path, target: Path) -> Iterator[Claim]:
    """Compare the tokens that config.json and generation_config.json name before and after.

    An id that named no token must not name a new one either.
    """
    before, after = their_reading(source), their_reading(target)
    if not isinstance(before, Reading) or not isinstance(after, Reading):
        return
    found = Differences()
    tokens_before, tokens_after = _by_id(before), _by_id(after)
    for name in ("config.json", "generation_config.json"):
        old, new = _named(source / name), _named(target / name)
        for key, ids in old.items():
            named = new.get(key, []) if new else ids  # no such file: the source's ids go on
            tokens = [tokens_before.get(token_id) for token_id in ids]
            found.compare(
                f"{name}: {key} {ids}", [tokens_after.get(token_id) for token_id in named], tokens
            )
    if found.of:
        yield Claim(
            IDS_NAMED,
            found.value,
            found.of,
            "ids",
            "the ids in config.json and generation_config.json name the tokens that they named",
            exceptions=tuple(found.examples),
        )


def certify_source_ids(source: Path) -> Iterator[Claim]:
    """Check that the ids that a source's configuration names are ids of tokens."""
    reading = their_reading(source)
    if not isinstance(reading, Reading):
        return
    tokens = _by_id(reading)
    found = Differences()
    for name in ("config.json", "generation_config.json"):
        for key, ids in _named(source / name).items():
            for token_id in ids if key.rpartition(".")[2] in SPECIAL_IDS else ():
                found.check(token_id in tokens, f"{name}: no token has the {key} {token_id}")
    if found.of:
        yield Claim(
            "configured ids are tokens",
            found.value,
            found.of,
            "ids",
            "config.json and generation_config.json name ids of tokens that transformers knows",
            exceptions=tuple(found.examples),
        )


def _named(path: Path) -> dict[str, list[int]]:
    """Return the ids that a configuration names, by key; none where the file is missing."""
    if not path.is_file():
        return {}
    return named_ids(json.loads(path.read_text(encoding="utf-8")))


def _by_id(reading: Reading) -> dict[int | None, str]:
    return {token_id: token for token, token_id in reading.vocab.items()}


def _target_ids(splice: Splice) -> dict[int, int]:
    return {source_id: target_id for target_id, source_id in splice.corresponding.items()}


def _tables(source: Path, target: Path, splice: Splice) -> Iterator[tuple[str, Any, Any]]:
    """Yield name, source and target of every tensor that has a row for each id."""
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    rows = config.get("vocab_size", (config.get("text_config") or {}).get("vocab_size"))
    old, new = _slices(source), _slices(target)
    for name, before in old.items():
        if name not in new:
            continue
        shape, other = before.get_shape(), new[name].get_shape()
        grown = shape[:1] != other[:1]
        has_ids = bool(shape) and shape[1:] == other[1:] and shape[0] >= splice.source_size
        if has_ids and (grown or shape[0] == rows):
            yield name, before, new[name]


def _slices(folder: Path) -> dict[str, Any]:
    """Return every tensor of a model folder by name, none of them read yet."""
    from safetensors import safe_open

    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118 - it is no dictionary
                found[name] = file.get_slice(name)
    return found


def _blocks(splice: Splice, rows: int) -> Iterator[Sequence[tuple[int, int]]]:
    """Yield blocks of (source id, target id) of kept rows, in the order of target ids."""
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
    found: Differences, name: str, before: Any, after: Any, ids: Sequence[tuple[int, int]]
) -> None:
    """Compare one block of rows; they are read as one range, which holds few others."""
    import torch

    first_source, last_source = min(ids)[0], max(ids)[0]
    first_target, last_target = ids[0][1], ids[-1][1]
    source_rows = before[first_source : last_source + 1]
    target_rows = after[first_target : last_target + 1]
    source_places = torch.tensor([pair[0] - first_source for pair in ids])
    target_places = torch.tensor([pair[1] - first_target for pair in ids])
    mine = source_rows[source_places].reshape(len(ids), -1).contiguous().view(torch.uint8)
    other = target_rows[target_places].reshape(len(ids), -1).contiguous().view(torch.uint8)
    same = (mine == other).all(dim=1)
    found.of += int(same.sum())
    for place in (~same).nonzero().flatten().tolist():
        found.check(holds=False, exception=f"{name}: row {ids[place][0]}")
