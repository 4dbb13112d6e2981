"""Whether to change the pre-tokenizer: by what that saves on a sample, what it costs there, and the base's own text.

Two numbers are measured on the target's text, both without the base tokens that only the changed pre-tokenizer
produces (`pretokenizer.reach`). Their rows were never trained, so they are as new as learned tokens, and counting them
as the base's would credit the change with tokens that nobody asked for. The *saving* compares both pre-tokenizers with
the same number of added tokens. The *growth* compares them before any token is added: where it is above 0, what the
base knows of the language is cut into more tokens than it was trained on. `auto` changes the pre-tokenizer where
saving less growth is above `THRESHOLD`, and no base-language document changes.
"""

from __future__ import annotations

from collections import Counter
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

SAMPLE_BYTES = 2_000_000
THRESHOLD = 0.10
"""Change the pre-tokenizer where saving less growth is above this share of the target's tokens."""


@dataclass(frozen=True)
class Option:
    """A changed pre-tokenizer: the family to learn with, and the same without tokens that nothing trained."""

    rewrite: Rewrite
    family: Family
    trained: Family
    reachable: frozenset[int]
    llama_cpp: str | None


@dataclass(frozen=True)
class Weighed:
    """What an option saves and costs on a sample of the target's text, as shares of its tokens."""

    saving: float
    growth: float

    @property
    def net(self) -> float:
        """The saving, less what the base's own tokens grow by; that they shrink is part of the saving already."""
        return self.saving - max(self.growth, 0.0)


@dataclass(frozen=True)
class Decision:
    """The family to learn with, and what became of the pre-tokenizer."""

    family: Family
    change: PretokenizerChange


@dataclass(frozen=True)
class Sampled:
    """The text that options are weighed on, and how tokens are learned from it."""

    texts: Sequence[str]
    selection: Selection
    size: int


def options(family: Family, where: Path) -> list[Option]:
    """Return the changed pre-tokenizers that apply to a tokenizer."""
    found = []
    for rewrite in REWRITES:
        data = rewrite.rewrite(family.data)
        if data is None:
            continue
        changed = family_of(data, where).reuse_model_of(family)
        reachable = newly_reachable(family, changed)
        trained = family_of(changed.without_tokens(reachable), where) if reachable else changed
        found.append(Option(rewrite, changed, trained, reachable, find_llama_cpp_name(data)))
    return found


def choose_pretokenizer(
    family: Family,
    mode: str,
    *,
    texts: Iterable[str],
    base_texts: Iterable[str],
    selection: Selection,
    size: int,
    where: Path,
) -> Decision:
    """Follow `mode`: keep, repair, or auto (see the top of this module).

    `texts` is a sample of the target's text, about `SAMPLE_BYTES`.
    """
    if mode == "keep":
        return kept(family, "the recipe says so")
    found = options(family, where)
    if not found:
        return kept(family, "no expression that is known here cuts words at combining marks")
    if mode == "repair":
        return changed_to(family, found[0], "the recipe says so")
    sampled = Sampled(list(texts), selection, size)
    ranked = [(option, weigh(family, option, sampled)) for option in found]
    best, weighed = max(ranked, key=lambda one: one[1].net)  # the first of equals
    if weighed.net <= THRESHOLD:
        cost = (
            f", less the {weighed.growth:.1%} by which the base's own tokens for it grow"
            if weighed.growth > 0
            else ""
        )
        why = f"a change would save {weighed.saving:.1%} of the target's tokens{cost}, no more than {THRESHOLD:.0%}"
        return kept(family, why, weighed)
    documents, changed = _documents_changed(family, best.family, base_texts)
    if changed:
        return kept(
            family,
            f"a change would re-cut {changed} of {documents} base-language documents",
            weighed,
        )
    proof = (
        f"all {documents} base-language documents keep their ids"
        if documents
        else "no base text was given"
    )
    grown = (
        f"; the base's own tokens for the target grow by {weighed.growth:.1%} before any is added"
        if weighed.growth > 0
        else ""
    )
    return changed_to(
        family, best, f"saves {weighed.saving:.1%} of the target's tokens{grown}; {proof}", weighed
    )


def weigh(family: Family, option: Option, sampled: Sampled) -> Weighed:
    """Compare an option with the base's own pre-tokenizer, before and after tokens are added."""
    before, after = _learned(family, sampled)
    changed_before, changed_after = _learned(option.trained, sampled)
    return Weighed(
        1 - changed_after / after if after else 0.0, changed_before / before - 1 if before else 0.0
    )


def kept(family: Family, why: str, weighed: Weighed | None = None) -> Decision:
    """Leave the pre-tokenizer as it is."""
    expressions = tuple(split_patterns(family.data))
    change = PretokenizerChange(
        why, before=expressions, after=expressions, llama_cpp=find_llama_cpp_name(family.data)
    )
    return Decision(family, _measured(change, weighed))


def changed_to(
    family: Family, option: Option, why: str, weighed: Weighed | None = None
) -> Decision:
    """Take an option, and measure which scripts it touches."""
    change = PretokenizerChange(
        why,
        option.rewrite.name,
        option.rewrite.effect,
        tuple(split_patterns(family.data)),
        tuple(split_patterns(option.family.data)),
        find_changed_scripts(family, option.family),
        len(option.reachable),
        option.llama_cpp,
    )
    return Decision(option.family, _measured(change, weighed))


def _measured(change: PretokenizerChange, weighed: Weighed | None) -> PretokenizerChange:
    return replace(change, saving=weighed.saving, growth=weighed.growth) if weighed else change


def _documents_changed(before: Family, after: Family, texts: Iterable[str]) -> tuple[int, int]:
    """Count documents, and those that a changed pre-tokenizer gives other ids."""
    documents = changed = 0
    for text in texts:
        documents += 1
        changed += before.encode([text]) != after.encode([text])
    return documents, changed


def _learned(family: Family, sampled: Sampled) -> tuple[int, int]:
    """Learn tokens on the sample; return how many tokens it takes before and after."""
    counts = family.units(sampled.texts)
    selected = sampled.selection.select(SelectionRequest(family, counts, sampled.size))
    if selected.saved:  # the learner's own account; by the built tokenizer, 1 token of 114,911 more (Llama-3, Hindi)
        return selected.tokens_before, selected.tokens_before - sum(selected.saved)
    data = (
        family.with_units(selected.surfaces)
        if selected.whole_units
        else family.with_tokens(selected.surfaces)
    )
    units = list(counts)
    totals = []
    for backend in (family.model_only, build_model_only(data)):
        encodings = backend.encode_batch_fast(units, add_special_tokens=False)
        totals.append(_weighted(units, counts, [len(encoding.ids) for encoding in encodings]))
    return totals[0], totals[1]


def _weighted(units: Sequence[str], counts: Counter[str], lengths: Sequence[int]) -> int:
    return sum(counts[unit] * length for unit, length in zip(units, lengths, strict=True))
