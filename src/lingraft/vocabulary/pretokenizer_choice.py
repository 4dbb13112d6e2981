"""Whether to change the pre-tokenizer: the saving on target text against the cost.

Two numbers are measured on a sample of the target text, as shares of its tokens:

- *saving*: how much shorter the text gets with the changed pre-tokenizer, with the same number of
  added tokens on both sides.
- *growth*: how much longer the text gets before any token is added. A growth above 0 means that the
  base cuts the language into more tokens than it was trained on.

Both leave out the base tokens that only the changed pre-tokenizer produces (see
`pretokenizer.reachable_tokens`). The rows of these tokens were never trained, so they are worth no
more than new tokens. `auto` changes the pre-tokenizer if saving - growth is above `THRESHOLD` and
no base-language document changes (see `unchanged_text`).

Of the options (see `pretokenizer_options`), `auto` prefers one with a name in llama.cpp that needs
at most `NAMED_TOLERANCE` more tokens than the best one, because llama.cpp loads the result.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lingraft.pretokenizer import find_changed_scripts, split_patterns
from lingraft.pretokenizer.change import ConsideredPretokenizer, PretokenizerChange
from lingraft.pretokenizer.llama_cpp_names import find_llama_cpp_name
from lingraft.tokenizer.base import Family
from lingraft.tokenizer.json_format import build_model_only
from lingraft.vocabulary.base import Selection, SelectionRequest
from lingraft.vocabulary.build_splice import extend_family
from lingraft.vocabulary.pretokenizer_options import (
    RewriteOption,
    find_named_options,
    find_options,
    find_requested_option,
    keep_effective,
)
from lingraft.vocabulary.unchanged_text import BaseText

SAMPLE_BYTES = 2_000_000

# Minimum of saving - growth. Measured with 2 MB of text and 2,000 added tokens, as saving and
# growth: Llama-3 Hindi 44.4%, +2.3%; Qwen2 Hindi 41.3%, 0.0%; Qwen2 Thai 35.3%, -1.7%.
THRESHOLD = 0.10

# Measured on Qwen2 (benchmarks/named_pretokenizers.py): qwen35 needs between 0.06% fewer tokens and
# as many as the unnamed rewrite in eight languages.
NAMED_TOLERANCE = 0.01


@dataclass(frozen=True)
class OptionScore:
    """Saving and growth of an option, as shares of the tokens of the sample."""

    saving: float
    growth: float

    @property
    def net(self) -> float:
        """The saving minus the growth; a negative growth is part of the saving already."""
        return self.saving - max(self.growth, 0.0)

    def excess(self, other: OptionScore) -> float:
        """Return the share by which this option needs more tokens than another one."""
        return (1 - self.saving) / (1 - other.saving) - 1 if other.saving < 1 else 0.0


@dataclass(frozen=True)
class ScoredOption:
    """An option with its score."""

    option: RewriteOption
    score: OptionScore

    @property
    def name(self) -> str:
        """The name of the rewrite."""
        return self.option.rewrite.name

    def is_named_within(self, best: OptionScore) -> bool:
        """Whether llama.cpp has a name, and the tokens are close to those of the best option."""
        return self.option.llama_cpp is not None and self.score.excess(best) <= NAMED_TOLERANCE


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


def choose_pretokenizer(
    family: Family,
    mode: str,
    *,
    texts: Iterable[str],
    base: BaseText,
    selection: Selection,
    size: int,
    where: Path,
) -> PretokenizerDecision:
    """Decide whether to change the pre-tokenizer.

    `mode` is "keep", "repair" (a rewrite, if one applies), "named" (a pre-tokenizer of llama.cpp
    that fits), the name of one, or "auto" (see the module docstring). `texts` is a sample of the
    target text of about `SAMPLE_BYTES`. Raises `RecipeError` if a named one does not fit.
    """
    if mode == "keep":
        return keep_pretokenizer(family, "the recipe says so")
    if mode not in {"auto", "repair"}:
        option = find_requested_option(family, mode, where)
        return change_pretokenizer(family, option, "the recipe says so")
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
    named = find_named_options(family, where)
    options += keep_effective(family, named.options, sample.texts)
    scored = [ScoredOption(option, score_option(family, option, sample)) for option in options]
    decision = _decide(family, scored, base)
    return replace(decision, change=replace(decision.change, unnamed=named.reason))


def _decide(family: Family, scored: list[ScoredOption], base: BaseText) -> PretokenizerDecision:
    """Apply the rule of `auto`: the first option in order of preference that changes no document.

    The order is: a name within `NAMED_TOLERANCE` of the best, then the largest net saving.
    """
    # Sorting keeps the order of equals, so the order of REWRITES decides ties.
    by_saving = sorted(scored, key=lambda entry: -entry.score.net)
    best = by_saving[0]
    candidates = [entry for entry in by_saving if entry.score.net > THRESHOLD]
    candidates.sort(key=lambda entry: not entry.is_named_within(best.score))
    recut, documents = _count_changed_documents(family, candidates, base.documents)
    chosen = next((entry for entry in candidates if not recut[entry.name]), None)
    if chosen is None:
        reason = _why_kept(best, recut.get(best.name), base.count(documents))
        decision = keep_pretokenizer(family, reason, best.score)
    else:
        reason = _why_changed(chosen, best, base.count(documents) if documents else "")
        decision = change_pretokenizer(family, chosen.option, reason, chosen.score)
    considered = [ConsideredPretokenizer("keep", 0.0, 0.0, 0, find_llama_cpp_name(family.data))]
    for entry in scored:
        score, name = entry.score, entry.option.llama_cpp
        changed = recut.get(entry.name)
        considered.append(
            ConsideredPretokenizer(entry.name, score.saving, score.growth, changed, name)
        )
    change = replace(decision.change, considered=tuple(considered), documents=documents)
    return replace(decision, change=change)


def _why_kept(best: ScoredOption, recut: int | None, documents: str) -> str:
    score = best.score
    if recut:
        return f"a change would re-cut {recut} of {documents}"
    cost = ""
    if score.growth > 0:
        cost = f", but the base's own tokens for it grow by {score.growth:.1%}"
    return (
        f"a change would save {score.saving:.1%} of the target's tokens{cost}; a net saving of "
        f"more than {THRESHOLD:.0%} is required"
    )


def _why_changed(chosen: ScoredOption, best: ScoredOption, documents: str) -> str:
    score = chosen.score
    parts = [f"saves {score.saving:.1%} of the target's tokens"]
    if chosen is not best and chosen.option.llama_cpp:
        excess = score.excess(best.score)
        parts.append(f"needs {excess:.2%} more tokens than {best.name}, which has no name")
    if score.growth > 0:
        parts.append(
            f"the base's own tokens for the target grow by {score.growth:.1%} before any is added"
        )
    if documents:
        parts.append(f"the change alone moves no id in {documents}")
    else:
        parts.append("there was no base-language text to compare")
    return "; ".join(parts)


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
    before: Family, candidates: Sequence[ScoredOption], texts: Iterable[str]
) -> tuple[dict[str, int], int]:
    """Count the documents whose ids change, by the name of the candidate, and all documents."""
    changed = {entry.name: 0 for entry in candidates}
    documents = 0
    # Without a candidate the documents are not needed, and to encode them takes time.
    for text in texts if candidates else ():
        documents += 1
        ids = before.encode([text])
        for entry in candidates:
            changed[entry.name] += ids != entry.option.family.encode([text])
    return changed, documents


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
