"""Building the target tokenizer.json and the splice from the selected tokens.

The splice says for each target id whether its embedding row is copied from a source id or
initialised from the source ids that spelled the same bytes (see `lingraft.splice`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path

from lingraft.pretokenizer import newly_reachable, split_where_always_cut
from lingraft.splice import AddedToken, Splice
from lingraft.tokenizer.base import Family
from lingraft.tokenizer.json_format import Data, build_model_only, compact_ids
from lingraft.tokenizer.load_tokenizer import family_of
from lingraft.vocabulary.base import Selected

_LEFT_OUT = "left out: it would change protected text"


def extend_family(family: Family, selected: Selected) -> Data:
    """Return the tokenizer.json of a tokenizer with the selected tokens at its end."""
    if selected.whole_units:
        return family.with_units(selected.surfaces)
    return family.with_tokens(selected.surfaces)


def protect_text(family: Family, selected: Selected, protected: Collection[str]) -> Selected:
    """Remove tokens until none occurs in protected units and all others are reachable.

    Removing a token can let other tokens apply, or make tokens that were built from it
    unreachable. The check is therefore repeated until nothing changes.
    """
    units = list(protected)
    before = len(selected.surfaces)
    while units and selected.surfaces and not selected.dropped:
        removed = _find_used_or_unreachable(family, selected, units)
        if not removed:
            break
        selected = _remove_positions(selected, removed)
    left_out = before - len(selected.surfaces)
    if not left_out:
        return selected
    notes = {**selected.notes, _LEFT_OUT: selected.notes.get(_LEFT_OUT, 0) + left_out}
    return replace(selected, notes=notes)


def _find_used_or_unreachable(family: Family, selected: Selected, units: Sequence[str]) -> set[int]:
    """Return the positions of new tokens that occur in the units or that no merge produces."""
    bare = build_model_only(extend_family(family, selected))
    positions = set()
    for encoding in bare.encode_batch_fast(units, add_special_tokens=False):
        for token_id in encoding.ids:
            if token_id >= family.size:
                positions.add(token_id - family.size)
    pieces = [family.piece_of(surface) for surface in selected.surfaces]
    encodings = bare.encode_batch_fast(pieces, add_special_tokens=False)
    for position, encoding in enumerate(encodings):
        if encoding.ids != [family.size + position]:
            positions.add(position)
    return positions


def _remove_positions(selected: Selected, positions: Collection[int]) -> Selected:
    """Remove the tokens at these positions."""
    kept = [i for i in range(len(selected.surfaces)) if i not in positions]
    surfaces = tuple(selected.surfaces[i] for i in kept)
    saved = tuple(selected.saved[i] for i in kept) if selected.saved else ()
    return replace(selected, surfaces=surfaces, saved=saved)


def build_splice(
    source: Family, family: Family, selected: Selected, where: Path
) -> tuple[Data, Splice]:
    """Return the target tokenizer.json and the splice between the source and the target.

    `source` is the tokenizer as the model knows it. `family` is the tokenizer to extend, whose
    pre-tokenizer may be changed. New tokens reuse the ids of dropped tokens in order; the others
    get ids at the end. If more tokens are dropped than added, the remaining ids are renumbered
    without gaps. Source tokens that only the changed pre-tokenizer produces are reinitialised.
    """
    data, ids = _extend(family, selected, where)
    renumbered = {i: i for i in range(family.size + len(selected.surfaces))}
    untrained = newly_reachable(source, data) - set(selected.dropped)
    if len(selected.dropped) > len(selected.surfaces):
        data, renumbered = compact_ids(data)
    dropped = set(selected.dropped)
    kept: dict[int, int] = {}
    gone: list[int] = []
    for source_id in range(source.size):
        if source_id in dropped or source_id not in renumbered:
            gone.append(source_id)
        elif source_id not in untrained:
            kept[renumbered[source_id]] = source_id
    reinitialised = {renumbered[source_id]: source_id for source_id in sorted(untrained)}
    added = (
        *spell_new(source, selected, [renumbered[token_id] for token_id in ids]),
        *_spell_reinitialised(source, reinitialised),
    )
    return data, Splice(source.size, kept, added, tuple(gone), reinitialised)


def _extend(family: Family, selected: Selected, where: Path) -> tuple[Data, list[int]]:
    """Return the extended tokenizer.json and the ids of the new tokens."""
    ids = new_ids(family, selected)
    if not selected.dropped or selected.whole_units:
        return extend_family(family, selected), ids
    pruned = family_of(family.without_tokens(selected.dropped), where)
    return pruned.with_tokens(selected.surfaces, ids), ids


def new_ids(family: Family, selected: Selected) -> list[int]:
    """Return the ids of the new tokens: those of dropped tokens first, then ids at the end."""
    count = len(selected.surfaces)
    reused = () if selected.whole_units else selected.dropped
    at_end = range(family.size, family.size + max(count - len(reused), 0))
    return [*reused, *at_end][:count]


def spell_new(source: Family, selected: Selected, ids: Sequence[int]) -> Iterable[AddedToken]:
    """Yield the new tokens with the source ids that spell each of them."""
    spellings = spell_surfaces(source, selected.surfaces)
    saved = selected.saved or (0,) * len(ids)
    for token_id, surface, pieces, count in zip(
        ids, selected.surfaces, spellings, saved, strict=True
    ):
        yield AddedToken(token_id, surface, pieces, count)


def _spell_reinitialised(source: Family, reinitialised: dict[int, int]) -> Iterable[AddedToken]:
    """Yield the reinitialised tokens with the source ids that the source cuts them into."""
    surface_of = source.vocabulary.surfaces
    surfaces = [surface_of[source_id] or b"" for source_id in reinitialised.values()]
    spellings = spell_surfaces(source, surfaces)
    for target_id, surface, pieces in zip(reinitialised, surfaces, spellings, strict=True):
        yield AddedToken(target_id, surface, pieces)


def spell_surfaces(source: Family, surfaces: Sequence[bytes]) -> list[tuple[int, ...]]:
    """Return the source ids that spell each surface inside a text.

    The pre-tokenizer of the source applies. Merging without it gives other ids for 19 of 2,000
    Hindi tokens on Llama-3.
    """
    units_of = [_units(source, surface) for surface in surfaces]
    # One call for all units: `segment` is fast on a batch.
    segmented = iter(source.segment(list(chain.from_iterable(units_of))))
    spellings = []
    for units in units_of:
        ids: list[int] = []
        for _ in units:
            ids += next(segmented)
        spellings.append(tuple(ids))
    return spellings


def can_spell(source: Family, surface: bytes) -> bool:
    """Return whether the source can spell bytes: text pieces have no incomplete character."""
    try:
        source.piece_of(surface)
    except UnicodeDecodeError:
        return False
    return True


def _units(source: Family, surface: bytes) -> list[str]:
    """Return the units that the source's pre-tokenizer makes of a surface.

    There are several if the source cuts where the changed pre-tokenizer does not.
    """
    piece = source.piece_of(surface)
    # Two kinds of surface cannot be cut as text. Bytes of a part of a character do not decode,
    # and SentencePiece would add a word start to some surfaces, which changes the piece.
    with suppress(UnicodeDecodeError):
        units = list(source.cut(surface.decode()))
        if "".join(units) == piece:
            return units
    # They are cut only where the source's pre-tokenizer cuts them in every text.
    return [source.piece_of(part) for part in split_where_always_cut(source, surface)]
