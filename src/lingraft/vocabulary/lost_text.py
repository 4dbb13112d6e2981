"""Text that a BPE has no tokens for: it is left out, and much of it is refused."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial

from lingraft.errors import TokenizerError
from lingraft.tokenizer.unknown_tokens import find_lost_units
from lingraft.vocabulary.base import SelectionRequest

# A script without tokens is nearly all of a text; with less, words of other characters can still
# become tokens, and the certificate warns of what is lost.
MAX_LOST_SHARE = 0.2


def without_lost_text(request: SelectionRequest) -> SelectionRequest:
    """Leave out the units in which the tokenizer loses text; raise `TokenizerError` if it is much.

    New merges cannot bring lost text back. Where bytes are left out, the tokens around them would
    even form tokens that no text contains.
    """
    readable = partial(_keep_readable, request)
    balanced = tuple(replace(text, counts=readable(text.counts)) for text in request.balanced)
    return replace(request, counts=readable(request.counts), balanced=balanced)


def _keep_readable(request: SelectionRequest, counts: Counter[str]) -> Counter[str]:
    family = request.family
    lost_units = find_lost_units(family, counts)
    if not lost_units:
        return counts
    lost = sum(counts[unit] * size for unit, size in lost_units.items())
    total = sum(count * len(family.surface_of(unit)) for unit, count in counts.items())
    if lost > MAX_LOST_SHARE * total:
        msg = (
            f"{request.where}: this {family.name} cannot encode {lost / total:.1%} of the bytes of "
            "the target text, and new merges do not change that; choose another base, or set "
            "vocabulary.size: 0 to add no tokens"
        )
        raise TokenizerError(msg)
    return Counter({unit: count for unit, count in counts.items() if unit not in lost_units})
