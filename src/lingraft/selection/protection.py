"""Protected text: leaving out what would be used in it, whatever method chose it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from lingraft.families.base import Family
from lingraft.families.content import Data, bare_of
from lingraft.selection.base import Selected

REASON = "left out: it would change protected text"


def protecting(family: Family, selected: Selected, protected: Collection[str]) -> Selected:
    """Drop tokens until none occurs in protected units and all that are left can still be reached.

    A token left out may free others to fire, or take the parts of others away, so it is tried again until it holds.
    """
    units = list(protected)
    before = len(selected.surfaces)
    while units and selected.surfaces and not selected.dropped:
        bare = bare_of(_data(family, selected))
        first = family.size
        used = {token_id - first for encoding in bare.encode_batch_fast(units, add_special_tokens=False)
                for token_id in encoding.ids if token_id >= first}
        alone = bare.encode_batch_fast([family.piece_of(s) for s in selected.surfaces], add_special_tokens=False)
        used |= {i for i, encoding in enumerate(alone) if encoding.ids != [first + i]}
        if not used:
            break
        selected = _without(selected, used)
    left_out = before - len(selected.surfaces)
    notes = {**selected.notes, REASON: selected.notes.get(REASON, 0) + left_out} if left_out else selected.notes
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
    return family.with_units(selected.surfaces) if selected.whole_units else family.extended(selected.surfaces)


def _without(selected: Selected, places: Collection[int]) -> Selected:
    surfaces = tuple(surface for i, surface in enumerate(selected.surfaces) if i not in places)
    saved = tuple(count for i, count in enumerate(selected.saved) if i not in places)
    return replace(selected, surfaces=surfaces, saved=saved)
