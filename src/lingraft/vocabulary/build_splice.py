"""Protected text: leaving out what would be used in it, whatever method chose it.

From what was selected to the target tokenizer.json, and to the splice that relates it to the source.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from lingraft.pretokenizer import newly_reachable, split_where_always_cut
from lingraft.splice import AddedToken, Splice
from lingraft.tokenizer.base import Family
from lingraft.tokenizer.json_format import Data, build_model_only, compact_ids
from lingraft.tokenizer.load_tokenizer import family_of
from lingraft.vocabulary.base import Selected

REASON = "left out: it would change protected text"


def protect_text(family: Family, selected: Selected, protected: Collection[str]) -> Selected:
    """Drop tokens until none occurs in protected units and all that are left can still be reached.

    A token left out may free others to fire, or take the parts of others away, so it is tried again until it holds.
    """
    units = list(protected)
    before = len(selected.surfaces)
    while units and selected.surfaces and not selected.dropped:
        bare = build_model_only(_data(family, selected))
        first = family.size
        used = {
            token_id - first
            for encoding in bare.encode_batch_fast(units, add_special_tokens=False)
            for token_id in encoding.ids
            if token_id >= first
        }
        alone = bare.encode_batch_fast(
            [family.piece_of(s) for s in selected.surfaces], add_special_tokens=False
        )
        used |= {i for i, encoding in enumerate(alone) if encoding.ids != [first + i]}
        if not used:
            break
        selected = _without(selected, used)
    left_out = before - len(selected.surfaces)
    notes = (
        {**selected.notes, REASON: selected.notes.get(REASON, 0) + left_out}
        if left_out
        else selected.notes
    )
    return replace(selected, notes=notes)


def cost_of_protecting(free: Selected, strict: Selected) -> float | None:
    """Return by what share the target text grows where base text is protected; `None` where a method cannot say.

    >>> free, strict = Selected((b"ab",), (60,), 100), Selected((b"c",), (50,), 100)
    >>> cost_of_protecting(free, strict)
    0.25
    """
    if not free.saved:
        return None
    tokens_free, tokens_strict = (one.tokens_before - sum(one.saved) for one in (free, strict))
    return tokens_strict / tokens_free - 1 if tokens_free and strict.saved else None


def _data(family: Family, selected: Selected) -> Data:
    return (
        family.with_units(selected.surfaces)
        if selected.whole_units
        else family.with_tokens(selected.surfaces)
    )


def _without(selected: Selected, places: Collection[int]) -> Selected:
    surfaces = tuple(surface for i, surface in enumerate(selected.surfaces) if i not in places)
    saved = tuple(count for i, count in enumerate(selected.saved) if i not in places)
    return replace(selected, surfaces=surfaces, saved=saved)


def build_splice(
    source: Family, family: Family, selected: Selected, where: Path
) -> tuple[Data, Splice]:
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
        pruned = family_of(family.without_tokens(selected.dropped), where)
        fresh = range(family.size, family.size + max(count - len(selected.dropped), 0))
        ids = [*selected.dropped, *fresh][:count]
        data = pruned.with_tokens(selected.surfaces, ids)
    else:
        data = family.with_tokens(selected.surfaces)
        ids = list(range(family.size, family.size + count))
    moved = {token_id: token_id for token_id in range(family.size + count)}
    woken = newly_reachable(source, data) - set(selected.dropped)
    if len(selected.dropped) > count:
        data, moved = compact_ids(data)
    dropped = set(selected.dropped)
    gone = {
        token_id for token_id in range(source.size) if token_id in dropped or token_id not in moved
    }
    again = {moved[token_id]: token_id for token_id in sorted(woken)}
    kept = {
        moved[token_id]: token_id for token_id in range(source.size) if token_id not in gone | woken
    }
    added = (
        *_added(source, selected, [moved[token_id] for token_id in ids]),
        *_reinitialised(source, again),
    )
    return data, Splice(source.size, kept, added, tuple(sorted(gone)), again)


def _added(source: Family, selected: Selected, ids: list[int]) -> tuple[AddedToken, ...]:
    """Spell each new token as the source does inside a text: cut by its regex, without a spurious word start."""
    spelled = _spelled(source, selected.surfaces)
    saved = selected.saved or (0,) * len(ids)
    return tuple(
        AddedToken(token_id, surface, pieces, count)
        for token_id, surface, pieces, count in zip(
            ids, selected.surfaces, spelled, saved, strict=True
        )
    )


def _reinitialised(source: Family, again: dict[int, int]) -> tuple[AddedToken, ...]:
    """Spell tokens of the source that its own pre-tokenizer cuts as it cuts them."""
    surfaces = [source.vocabulary.surfaces[token_id] or b"" for token_id in again.values()]
    return tuple(
        AddedToken(token_id, surface, pieces)
        for token_id, surface, pieces in zip(
            again, surfaces, _spelled(source, surfaces), strict=True
        )
    )


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
    return [source.piece_of(part) for part in split_where_always_cut(source, surface)]
