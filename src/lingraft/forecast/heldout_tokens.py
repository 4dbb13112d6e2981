"""Learn tokens from one text, and count the tokens of another one after so many of them.

The learner gets the held-out text with weight 0, so its segmentation is known after every token
without building a tokenizer.

Suffixes: G groups of held-out documents, K sizes, T targets, E entries.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lingraft.forecast.extrapolate import TARGETS, Floats
from lingraft.tokenizer.base import Family
from lingraft.tokenizer.unigram import Unigram
from lingraft.vocabulary import ContinuedBPE, SelectionRequest
from lingraft.vocabulary.auto_size import SIZES
from lingraft.vocabulary.bpe_learner import BPELearner
from lingraft.vocabulary.word_counts import cut_by_base, cut_words

GROUPS = 50
DEFAULT_METHOD = ContinuedBPE()


def text_bytes(texts: Sequence[str]) -> int:
    """Return the size of texts in bytes of UTF-8."""
    return sum(len(text.encode()) for text in texts)


@dataclass(frozen=True)
class GroupedUnits:
    """Units of held-out text by group of documents.

    Entry E counts how often a unit (its index in `units`) occurs in a group.
    """

    units: list[str]
    unit_by_entry: npt.NDArray[np.int64]
    group_by_entry: npt.NDArray[np.int64]
    count_by_entry: npt.NDArray[np.int64]
    groups: int
    bytes: int

    def tokens(self, length_by_unit: npt.NDArray[np.int64]) -> Floats:
        """Return the tokens of each group, [G], from the tokens of each unit."""
        tokens_E = (length_by_unit[self.unit_by_entry] * self.count_by_entry).astype(np.float64)
        tokens_G = np.bincount(self.group_by_entry, weights=tokens_E, minlength=self.groups)
        return tokens_G.astype(np.float64)


def group_units(family: Family, documents: Sequence[str], groups: int = GROUPS) -> GroupedUnits:
    """Count the units of held-out documents, in so many groups of documents."""
    groups = min(groups, len(documents))
    index: dict[str, int] = {}
    entries = []
    for group in range(groups):
        for unit, count in family.units(documents[group::groups]).items():
            entries.append((index.setdefault(unit, len(index)), group, count))
    unit_E, group_E, count_E = np.array(entries, dtype=np.int64).reshape(-1, 3).T
    size = text_bytes(documents)
    return GroupedUnits(list(index), unit_E, group_E, count_E, groups, size)


def learn_and_count(
    family: Family,
    counts: Counter[str],
    heldout: GroupedUnits,
    sizes: Sequence[int] = SIZES,
    method: ContinuedBPE = DEFAULT_METHOD,
) -> tuple[Floats, int]:
    """Return the tokens of each group with 0 and `sizes` tokens added, and the useful tokens.

    The first has the shape [1 + K, G].
    """
    if not isinstance(family, Unigram):
        return _count_with_learner(family, counts, heldout, sizes, method)
    surfaces = method.select(SelectionRequest(family, counts, sizes[-1])).surfaces
    return _count_with_tokenizer(family, surfaces, heldout, sizes), len(surfaces)


def _count_with_learner(
    family: Family,
    counts: Counter[str],
    heldout: GroupedUnits,
    sizes: Sequence[int],
    method: ContinuedBPE,
) -> tuple[Floats, int]:
    """Count with the segmentation of the learner: in BPE families it is that of the tokenizer."""
    all_units = Counter(counts)
    for unit in heldout.units:
        all_units.setdefault(unit, 0)
    learner = BPELearner(
        cut_words(family, all_units),
        cut_alone=cut_by_base(family),
        minimum=method.min_saving,
        step_cost=method.step_cost,
        allowed=lambda surface: len(surface) <= method.max_token_bytes and family.allows(surface),
    )
    # `cut_words` sorts the units in this way, so this is the index of a unit in the learner.
    ordered = sorted(all_units, key=lambda unit: (-all_units[unit], unit))
    word_index = dict(zip(ordered, range(len(ordered)), strict=True))
    heldout_words = np.array([word_index[unit] for unit in heldout.units], dtype=np.int64)
    tokens_KG, added = [heldout.tokens(_lengths(learner)[heldout_words])], 0
    for size in sizes:
        for _ in learner.run(size - added):
            pass
        added = size
        tokens_KG.append(heldout.tokens(_lengths(learner)[heldout_words]))
    return np.array(tokens_KG), len(learner.learned.surfaces)


def _lengths(learner: BPELearner) -> npt.NDArray[np.int64]:
    """Return the current tokens of each word; a character without a token costs its bytes."""
    words, symbols = learner.words, learner.index.symbol
    cost = np.ones(len(learner.surfaces), dtype=np.int64)
    cost[words.virtual : words.virtual + len(words.costs)] = words.costs
    ends = np.concatenate([[0], np.cumsum(np.where(symbols >= 0, cost[symbols], 0))])
    return np.asarray(ends[words.starts[1:]] - ends[words.starts[:-1]])


def _count_with_tokenizer(
    family: Family, surfaces: Sequence[bytes], heldout: GroupedUnits, sizes: Sequence[int]
) -> Floats:
    """Count with extended tokenizers at some of `sizes`, for families without merges.

    Building and running a tokenizer is slow, so the other sizes are interpolated.
    """
    targets = sorted({*TARGETS, *set(sizes).difference(SIZES)})
    tokens_TG = []
    for size in (0, *targets):
        extended = type(family)(family.with_tokens(surfaces[:size])) if size else family
        lengths = list(map(len, extended.segment(heldout.units)))
        tokens_TG.append(heldout.tokens(np.array(lengths, dtype=np.int64)))
    # log1p keeps size 0 on the logarithmic scale.
    known = np.log1p(np.array([0, *targets]))
    requested = np.log1p(np.array([0, *sizes]))
    by_group = np.array(tokens_TG).T
    return np.stack([np.interp(requested, known, tokens_T) for tokens_T in by_group], axis=1)
