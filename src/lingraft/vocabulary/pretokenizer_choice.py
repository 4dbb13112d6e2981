"""Whether to change the pre-tokenizer: the saving on target text against the cost.

Two numbers are measured on a sample of the target text, as shares of its tokens:

- *saving*: how much shorter the text gets with the changed pre-tokenizer, with the same number of
  added tokens on both sides.
- *growth*: how much longer the text gets before any token is added. A growth above 0 means that the
  base cuts the language into more tokens than it was trained on.

Both leave out the base tokens that only the changed pre-tokenizer produces (see
`pretokenizer.reachable_tokens`). The rows of these tokens were never trained, so they are worth no
more than new tokens. `auto` changes the pre-tokenizer if saving - growth is above `THRESHOLD` and
no base-language document changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lingraft.pretokenizer import find_changed_scripts, newly_reachable, split_patterns
from lingraft.pretokenizer.change import REWRITES, PretokenizerChange, Rewrite
from lingraft.pretokenizer.llama_cpp_names import find_llama_cpp_name
from lingraft.tokenizer.base import Family
from lingraft.tokenizer.json_format import build_model_only
from lingraft.tokenizer.load_tokenizer import family_of
from lingraft.vocabulary.base import Selection, SelectionRequest
from lingraft.vocabulary.build_splice import extend_family

SAMPLE_BYTES = 2_000_000

# Minimum of saving - growth. Measured with 2 MB of text and 2,000 added tokens, as saving and
# growth: Llama-3 Hindi 44.4%, +2.3%; Qwen2 Hindi 41.3%, 0.0%; Qwen2 Thai 35.3%, -1.7%.
THRESHOLD = 0.10

# A change that lowers the number of pre-tokens of a text by less has no effect worth measuring.
# Ukrainian on Qwen2: 0.7%; Hindi, with the letter-aware change: 0.
MIN_FEWER_UNITS = 0.005


@dataclass(frozen=True)
class RewriteOption:
    """A changed pre-tokenizer that applies to a tokenizer.

    Attributes:
        rewrite: the change.
        family: the tokenizer with the changed pre-tokenizer.
        trained: `family` without the tokens whose rows were never trained.
        reachable: the ids of these tokens, which only the changed pre-tokenizer produces.
        llama_cpp: the name of the pre-tokenizer in llama.cpp, `None` if it has none.
    """

    rewrite: Rewrite
    family: Family
    trained: Family
    reachable: frozenset[int]
    llama_cpp: str | None


@dataclass(frozen=True)
class OptionScore:
    """Saving and growth of an option, as shares of the tokens of the sample."""

    saving: float
    growth: float

    @property
    def net(self) -> float:
        """The saving minus the growth; a negative growth is part of the saving already."""
        return self.saving - max(self.growth, 0.0)


@dataclass(frozen=True)
class PretokenizerDecision:
    """The tokenizer to learn tokens with, and what was decided about its pre-tokenizer."""

    family: Family
    change: PretokenizerChange


@dataclass(frozen=True)
class LearningSample:
    """The text on which options are scored, and how tokens are learned from it."""

    texts: Sequence[str]
    selection: Selection
    size: int


def find_options(family: Family, where: Path) -> list[RewriteOption]:
    """Return the changed pre-tokenizers that apply to a tokenizer."""
    options = []
    for rewrite in REWRITES:
        data = rewrite.rewrite(family.data)
        if data is None:
            continue
        changed = family_of(data, where).reuse_model_of(family)
        reachable = newly_reachable(family, changed)
        trained = family_of(changed.without_tokens(reachable), where) if reachable else changed
        options.append(
            RewriteOption(rewrite, changed, trained, reachable, find_llama_cpp_name(data))
        )
    return options


def keep_effective(
    family: Family, options: Sequence[RewriteOption], texts: Sequence[str]
) -> list[RewriteOption]:
    """Return the options that split a text into fewer pre-tokens than all options before them.

    The last one splits it into the fewest.
    """
    effective = []
    fewest = family.units(texts).total()
    for option in options:
        units = option.family.units(texts).total()
        if units < (1 - MIN_FEWER_UNITS) * fewest:
            effective.append(option)
            fewest = units
    return effective


def choose_pretokenizer(
    family: Family,
    mode: str,
    *,
    texts: Iterable[str],
    base_texts: Iterable[str],
    selection: Selection,
    size: int,
    where: Path,
) -> PretokenizerDecision:
    """Decide whether to change the pre-tokenizer.

    `mode` is "keep", "repair" (change if an option applies) or "auto" (see the module docstring).
    `texts` is a sample of the target text of about `SAMPLE_BYTES`.
    """
    if mode == "keep":
        return keep_pretokenizer(family, "the recipe says so")
    options = find_options(family, where)
    if not options:
        return keep_pretokenizer(
            family,
            "no expression that is known here cuts words at marks, apostrophes or joiners",
        )
    sample = LearningSample(list(texts), selection, size)
    # Without an effect on this text, the first option is scored to say that it saves nothing.
    options = keep_effective(family, options, sample.texts) or options[:1]
    if mode == "repair":
        return change_pretokenizer(family, options[-1], "the recipe says so")
    scores = [score_option(family, option, sample) for option in options]
    # `max` returns the first of equals, so the order of REWRITES decides ties.
    best = max(range(len(options)), key=lambda index: scores[index].net)
    return _decide(family, options[best], scores[best], base_texts)


def _decide(
    family: Family, option: RewriteOption, score: OptionScore, base_texts: Iterable[str]
) -> PretokenizerDecision:
    """Apply the rule of `auto` to the best option."""
    grows = score.growth > 0
    if score.net <= THRESHOLD:
        cost = f", but the base's own tokens for it grow by {score.growth:.1%}" if grows else ""
        reason = (
            f"a change would save {score.saving:.1%} of the target's tokens{cost}; a net saving of "
            f"more than {THRESHOLD:.0%} is required"
        )
        return keep_pretokenizer(family, reason, score)
    documents, changed = _count_changed_documents(family, option.family, base_texts)
    if changed:
        reason = f"a change would re-cut {changed} of {documents} base-language documents"
        return keep_pretokenizer(family, reason, score)
    reason = f"saves {score.saving:.1%} of the target's tokens"
    if grows:
        reason += (
            f"; the base's own tokens for the target grow by {score.growth:.1%} before any is added"
        )
    if documents:
        reason += f"; the change alone moves no id in {documents} base-language documents"
    else:
        reason += "; no base text was given"
    return change_pretokenizer(family, option, reason, score)


def score_option(family: Family, option: RewriteOption, sample: LearningSample) -> OptionScore:
    """Compare an option with the base's own pre-tokenizer, before and after tokens are added."""
    before, after = _count_tokens(family, sample)
    changed_before, changed_after = _count_tokens(option.trained, sample)
    saving = 1 - changed_after / after if after else 0.0
    growth = changed_before / before - 1 if before else 0.0
    return OptionScore(saving, growth)


def keep_pretokenizer(
    family: Family, reason: str, score: OptionScore | None = None
) -> PretokenizerDecision:
    """Keep the pre-tokenizer as it is."""
    expressions = tuple(split_patterns(family.data))
    change = PretokenizerChange(
        reason, before=expressions, after=expressions, llama_cpp=find_llama_cpp_name(family.data)
    )
    return PretokenizerDecision(family, _with_score(change, score))


def change_pretokenizer(
    family: Family, option: RewriteOption, reason: str, score: OptionScore | None = None
) -> PretokenizerDecision:
    """Apply an option, and measure which scripts it affects."""
    change = PretokenizerChange(
        reason,
        option.rewrite.name,
        option.rewrite.effect,
        tuple(split_patterns(family.data)),
        tuple(split_patterns(option.family.data)),
        find_changed_scripts(family, option.family),
        len(option.reachable),
        option.llama_cpp,
    )
    return PretokenizerDecision(option.family, _with_score(change, score))


def _with_score(change: PretokenizerChange, score: OptionScore | None) -> PretokenizerChange:
    return replace(change, saving=score.saving, growth=score.growth) if score else change


def _count_changed_documents(
    before: Family, after: Family, texts: Iterable[str]
) -> tuple[int, int]:
    """Count all documents, and those whose ids a changed pre-tokenizer changes."""
    documents = changed = 0
    for text in texts:
        documents += 1
        changed += before.encode([text]) != after.encode([text])
    return documents, changed


def _count_tokens(family: Family, sample: LearningSample) -> tuple[int, int]:
    """Learn tokens on the sample; return the number of its tokens before and after."""
    counts = family.units(sample.texts)
    selected = sample.selection.select(SelectionRequest(family, counts, sample.size))
    if selected.saved:
        # The learner's own count spares building an extended tokenizer, which takes half a second
        # for 150,000 tokens. The two counts differ by 1 of 114,911 tokens (Llama-3, Hindi).
        return selected.tokens_before, selected.tokens_before - sum(selected.saved)
    units = list(counts)
    totals = []
    for backend in (family.model_only, build_model_only(extend_family(family, selected))):
        encodings = backend.encode_batch_fast(units, add_special_tokens=False)
        total = 0
        for unit, encoding in zip(units, encodings, strict=True):
            total += counts[unit] * len(encoding.ids)
        totals.append(total)
    return totals[0], totals[1]
