"""Tables of what each arm of study-forgetting gains and keeps of English.

An arm is a share of replay with a way of training. The first one is what the others are compared
with, by language and seed. Intervals are Student's t over seeds, after averaging over languages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import fmean

from benchmarks.paired import ENGLISH, ENGLISH_BEFORE, Pair, difference, shown, values_of
from lingraft.display_text import language_name
from lingraft.formatting import percent
from lingraft.report.study_files import StudyFiles
from lingraft.report.study_numbers import BITS, BITS_BEFORE, TOKENS
from lingraft.studies.statistics import Difference

REPLAY, TRAINING = "replay.share", "training"
NAMES = {
    "differential": "",
    "shielded": "half frozen",
    "KL 1": "held to the base",
    "branch and merge": "branches merged",
}
"""What else than replay holds English, by value of the axis."""

Numbers = Mapping[Pair, float]


class Arm:
    """The runs that differ in language and seed only, and their numbers."""

    def __init__(self, study: StudyFiles, replay: str, training: str) -> None:
        def numbers(key: tuple[str, str, str]) -> Numbers:
            # Without the share of replay, the language is left.
            found = values_of(study, TRAINING, key).get(training, {})
            return {(o[1:], seed): value for (o, seed), value in found.items() if o[0] == replay}

        keys = (BITS_BEFORE, BITS, ENGLISH_BEFORE, ENGLISH, TOKENS)
        self.before, self.bits, self.english_before, self.english, self.tokens = map(numbers, keys)
        self.replay, self.training = replay, training
        self.gain = {pair: self.before[pair] - bits for pair, bits in self.bits.items()}

    @property
    def name(self) -> str:
        """The share of replay, and what else holds English."""
        share = percent(float(self.replay)) if float(self.replay) else "no"
        return ", ".join(filter(None, (f"{share} replay", NAMES.get(self.training, self.training))))


def arms_of(study: StudyFiles) -> list[Arm]:
    """Return the arms in the order of the cells."""
    labels = (cell["labels"] for cell in study.record["cells"] if cell["status"] == "done")
    arms = dict.fromkeys((str(each[REPLAY]), str(each[TRAINING])) for each in labels)
    return [Arm(study, *arm) for arm in arms]


def forgetting_tables(study: StudyFiles) -> Iterator[str]:
    """Yield the tables: each has a line for an arm, and a column for a language and for all."""
    first, *others = arms_of(study)
    arms = [first, *others]
    places = list(dict.fromkeys(place for place, _ in first.bits))
    groups = [{pair for pair in first.bits if pair[0] == place} for place in places]
    heads = [language_name(place[0]) for place in places]
    if len(groups) > 1:
        groups, heads = [*groups, set(first.bits)], [*heads, "all"]

    def table(title: str, arms: Sequence[Arm], show: Callable[[Arm, set[Pair]], str]) -> str:
        lines = [f"| {title} | {' | '.join(heads)} |", f"|---|{'---|' * len(heads)}"]
        for arm in arms:
            cells = " | ".join(show(arm, pairs) for pairs in groups)
            lines.append(f"| {arm.name} | {cells} |")
        return "\n".join(lines)

    yield table("gain in bits per byte", [first], lambda arm, pairs: mean(arm.gain, pairs, ".3f"))
    yield table(
        f"bits per byte, more than with {first.name}",
        others,
        lambda arm, pairs: shown(difference(of(first.bits, pairs), arm.bits)),
    )
    yield table(
        f"gain, compared with {first.name}",
        others,
        lambda arm, pairs: in_percent(changes(of(first.gain, pairs), arm.gain), signed=False),
    )
    if len(places) > 1:
        lines = [f"| mean gain of all languages, compared with {first.name} | all |", "|---|---|"]
        for arm in others:
            found = changes(over_languages(first.gain), over_languages(arm.gain))
            lines.append(f"| {arm.name} | {in_percent(found, signed=False)} |")
        yield "\n".join(lines)
    yield table(
        "English, bits per byte more than before",
        arms,
        lambda arm, pairs: shown(difference(of(arm.english_before, pairs), arm.english)),
    )
    yield table(
        f"English, bits per byte more than with {first.name}",
        others,
        lambda arm, pairs: shown(difference(of(first.english, pairs), arm.english)),
    )
    yield table(
        "English, change",
        arms,
        lambda arm, pairs: in_percent(changes(of(arm.english_before, pairs), arm.english)),
    )
    yield table("training tokens", arms, lambda arm, pairs: mean(arm.tokens, pairs, ",.0f"))


def of(numbers: Numbers, pairs: set[Pair]) -> Numbers:
    """Return the numbers of these pairs."""
    return {pair: value for pair, value in numbers.items() if pair in pairs}


def mean(numbers: Numbers, pairs: set[Pair], form: str) -> str:
    """Format the mean over pairs."""
    found = of(numbers, pairs).values()
    return format(fmean(found), form) if found else "–"


def over_languages(numbers: Numbers) -> Numbers:
    """Return the mean over languages by seed, of the seeds that have every language."""
    places = {place for place, _ in numbers}
    by_seed: dict[int, list[float]] = {}
    for (_, seed), value in numbers.items():
        by_seed.setdefault(seed, []).append(value)
    whole = {seed: values for seed, values in by_seed.items() if len(values) == len(places)}
    return {(("all",), seed): fmean(values) for seed, values in whole.items()}


def changes(first: Numbers, second: Numbers) -> Difference | None:
    """Return how much larger `second` is, as a share of `first`."""
    ratios = {pair: second[pair] / value for pair, value in first.items() if pair in second}
    return difference(dict.fromkeys(ratios, 1.0), ratios)


def in_percent(found: Difference | None, *, signed: bool = True) -> str:
    """Format a change, or the ratio that it stands for, with its interval."""
    if found is None:
        return "–"
    form, plus = ("+.1%", 0.0) if signed else (".1%", 1.0)
    value, *interval = (
        format(each + plus, form) for each in (found.value, *(found.interval() or ()))
    )
    return f"{value} ({' to '.join(interval)})" if interval else value
