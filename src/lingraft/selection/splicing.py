"""From what was selected to the target tokenizer.json, and to the splice that relates it to the source."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from lingraft.families.base import Family
from lingraft.families.compact import compacted
from lingraft.families.content import Data
from lingraft.families.opening import family_of
from lingraft.selection.base import Selected
from lingraft.vocabulary import AddedToken, Splice


def spliced(source: Family, family: Family, selected: Selected, where: Path) -> tuple[Data, Splice]:
    """Return the target tokenizer.json and the splice.

    `source` is the tokenizer as the model knows it, `family` the one to extend (its pre-tokenizer may be repaired).
    New tokens take the ids of dropped ones, first to first, and go to the end otherwise; where more is dropped than
    added, ids close up.
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
    if len(selected.dropped) > count:
        data, moved = compacted(data)
    gone = {token_id for token_id in range(source.size) if token_id in set(selected.dropped) or token_id not in moved}
    kept = {moved[token_id]: token_id for token_id in range(source.size) if token_id not in gone}
    return data, Splice(source.size, kept, _added(source, selected, [moved[token_id] for token_id in ids]),
                        tuple(sorted(gone)))


def _added(source: Family, selected: Selected, ids: list[int]) -> tuple[AddedToken, ...]:
    """Spell each new token as the source does inside a text: cut by its regex, without a spurious word start."""
    units = [_units(source, surface) for surface in selected.surfaces]
    cut = iter(source.segment([unit for group in units for unit in group]))
    spelled = [[token_id for _ in group for token_id in next(cut)] for group in units]
    saved = selected.saved or (0,) * len(ids)
    return tuple(AddedToken(token_id, surface, tuple(pieces), count) for token_id, surface, pieces, count
                 in zip(ids, selected.surfaces, spelled, saved, strict=True))


def _units(source: Family, surface: bytes) -> list[str]:
    """Return what the source's model sees of a surface: several units where its regex cuts and a repaired one does not.

    A part of a character is no text, and SentencePiece would put a word start before some: those go as they are.
    """
    piece = source.piece_of(surface)
    with suppress(UnicodeDecodeError):
        units = list(source.cut(surface.decode()))
        if "".join(units) == piece:
            return units
    return [piece]
