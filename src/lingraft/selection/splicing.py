"""From what was selected to the target tokenizer.json, and to the splice that relates it to the source."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from lingraft.families.base import Family
from lingraft.families.compact import compacted
from lingraft.families.content import Data
from lingraft.families.opening import family_of
from lingraft.pretokenizer import newly_reachable, parts_of
from lingraft.selection.base import Selected
from lingraft.vocabulary import AddedToken, Splice


def spliced(source: Family, family: Family, selected: Selected, where: Path) -> tuple[Data, Splice]:
    """Return the target tokenizer.json and the splice.

    `source` is the tokenizer as the model knows it, `family` the one to extend (its pre-tokenizer may be repaired).
    New tokens take the ids of dropped ones, first to first, and go to the end otherwise; where more is dropped than
    added, ids close up. Tokens of the source that only the changed pre-tokenizer produces are reinitialised.
    """
    count = len(selected.surfaces)
    if selected.whole_units:
        data = family.with_units(selected.surfaces)
        ids = list(range(family.size, family.size + count))
    elif selected.dropped:
        pruned = family_of(family.without(selected.dropped), where)
        fresh = range(family.size, family.size + max(count - len(selected.dropped), 0))
        ids = [*selected.dropped, *fresh][:count]
        data = pruned.extended(selected.surfaces, ids)
    else:
        data = family.extended(selected.surfaces)
        ids = list(range(family.size, family.size + count))
    moved = {token_id: token_id for token_id in range(family.size + count)}
    woken = newly_reachable(source, data) - set(selected.dropped)
    if len(selected.dropped) > count:
        data, moved = compacted(data)
    dropped = set(selected.dropped)
    gone = {token_id for token_id in range(source.size) if token_id in dropped or token_id not in moved}
    again = {moved[token_id]: token_id for token_id in sorted(woken)}
    kept = {moved[token_id]: token_id for token_id in range(source.size) if token_id not in gone | woken}
    added = (*_added(source, selected, [moved[token_id] for token_id in ids]), *_reinitialised(source, again))
    return data, Splice(source.size, kept, added, tuple(sorted(gone)), again)


def _added(source: Family, selected: Selected, ids: list[int]) -> tuple[AddedToken, ...]:
    """Spell each new token as the source does inside a text: cut by its regex, without a spurious word start."""
    spelled = _spelled(source, selected.surfaces)
    saved = selected.saved or (0,) * len(ids)
    return tuple(AddedToken(token_id, surface, pieces, count) for token_id, surface, pieces, count
                 in zip(ids, selected.surfaces, spelled, saved, strict=True))


def _reinitialised(source: Family, again: dict[int, int]) -> tuple[AddedToken, ...]:
    """Spell tokens of the source that its own pre-tokenizer cuts as it cuts them."""
    surfaces = [source.vocabulary.surfaces[token_id] or b"" for token_id in again.values()]
    return tuple(AddedToken(token_id, surface, pieces) for token_id, surface, pieces
                 in zip(again, surfaces, _spelled(source, surfaces), strict=True))


def _spelled(source: Family, surfaces: Sequence[bytes]) -> list[tuple[int, ...]]:
    """Return the source ids that spell each surface."""
    units = [_units(source, surface) for surface in surfaces]
    cut = iter(source.segment([unit for group in units for unit in group]))
    return [tuple(token_id for _ in group for token_id in next(cut)) for group in units]


def _units(source: Family, surface: bytes) -> list[str]:
    """Return what the source's model sees of a surface: several units where its regex cuts and a repaired one does not.

    A part of a character is no text, and SentencePiece would put a word start before some: those are cut only where the
    source's pre-tokenizer cuts them in every text.
    """
    piece = source.piece_of(surface)
    with suppress(UnicodeDecodeError):
        units = list(source.cut(surface.decode()))
        if "".join(units) == piece:
            return units
    return [source.piece_of(part) for part in parts_of(source, surface)]
