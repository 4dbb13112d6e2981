"""The results of a probe: bits per byte before and after training, and paired differences."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from statistics import fmean
from typing import Any

from rich.table import Table

from lingraft.errors import RecipeError
from lingraft.formatting import signed, with_interval
from lingraft.measurement import Measurement, select
from lingraft.studies.axis_ranking import AxisRanking, ranking
from lingraft.studies.config import ComparedSettings
from lingraft.studies.measured_fields import differences
from lingraft.studies.statistics import Difference
from lingraft.studies.study_table import AXIS, Row

INIT = "init"
SUBJECTS = ("spliced", "adapted")


@dataclass(frozen=True)
class ProbeScore:
    """The scores of a trial; `tokens` is how many tokens of text its init trained the rows on."""

    init: str
    seed: int
    rows: tuple[Measurement, ...]
    tokens: int = 0

    def values(self, language: str, subject: str) -> list[float]:
        """Return the bits per byte of a model on a language."""
        return [row.value for row in select(self.rows, language=language, subject=subject)]

    def table_rows(self, targets: Collection[str]) -> Iterator[Row]:
        """Yield the scores as rows of a study's table."""
        for row in self.rows:
            role = "target" if row.language in targets else "replay"
            yield {f"{AXIS}{INIT}": self.init, "seed": self.seed, "role": role, **asdict(row)}


@dataclass(frozen=True)
class ProbeOutcome:
    """The scores of all trials, before training and after `steps` steps.

    `targets` are the target languages, `replay` is the language of replay text, if any.
    """

    steps: int
    targets: tuple[str, ...]
    replay: str | None
    scored: tuple[ProbeScore, ...]

    @property
    def languages(self) -> tuple[str, ...]:
        """Every language that was measured, the targets first."""
        return (*self.targets, *([self.replay] if self.replay else []))

    @property
    def inits(self) -> list[str]:
        """The labels of the inits, in the order given."""
        return list(dict.fromkeys(score.init for score in self.scored))

    def values(self, init: str, language: str, subject: str) -> list[float]:
        """Return the bits per byte of an init, a value for each seed."""
        values: list[float] = []
        for score in self.scored:
            if score.init == init:
                values += score.values(language, subject)
        return values

    @cached_property
    def _rows(self) -> list[Row]:
        """The scores as rows of a study's table, so that its statistics apply."""
        rows: list[Row] = []
        for score in self.scored:
            rows += score.table_rows(self.targets)
        return rows

    def ranking(self, language: str) -> AxisRanking:
        """Return the inits by their mean after training, and the pairs that intervals separate."""
        return ranking(self._rows, [INIT], INIT, ComparedSettings(language=language))[0]

    def difference(self, first: str, second: str, language: str) -> Difference:
        """Return `second` minus `first` after training, paired by seed.

        Raises `RecipeError` if the two were not compared: no seed has scores of both.
        """
        for difference in differences(self._rows, [INIT], ComparedSettings(language=language)):
            if (difference.first, difference.second) == (first, second):
                return difference
            # Each pair is compared once, in the order given.
            if (difference.first, difference.second) == (second, first):
                return replace(difference, first=first, second=second, value=-difference.value)
        msg = (
            f"probe: {first} and {second} were not compared on {language}; the inits are "
            f"{', '.join(self.inits)}"
        )
        raise RecipeError(msg)

    def differences(self, language: str) -> list[Difference]:
        """Return the paired difference of every init from the one with the lowest mean."""
        best, *others = map(str, self.ranking(language).order)
        return [self.difference(best, other, language) for other in others]

    def sentences(self) -> Iterator[str]:
        """Yield the results in sentences."""
        for language in self.languages:
            yield self.ranking(language).sentence
        tokens_of_init: dict[str, int] = {}
        for score in self.scored:
            if score.tokens:
                tokens_of_init[score.init] = score.tokens
        for init, tokens in tokens_of_init.items():
            yield (
                f"{init}: its rows were learned from {tokens:,} tokens before, which the other "
                "inits did not see"
            )

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {
            "steps": self.steps,
            "seeds": sorted({score.seed for score in self.scored}),
            "said": list(self.sentences()),
            "languages": {language: self._language(language) for language in self.languages},
        }

    def _language(self, language: str) -> dict[str, Any]:
        order = self.ranking(language)
        inits = {}
        for init in self.inits:
            inits[init] = {
                "step 0": self.values(init, language, "spliced"),
                f"step {self.steps}": self.values(init, language, "adapted"),
            }
        return {
            "order": list(order.order),
            "carried": [list(pair) for pair in order.carried],
            "inits": inits,
            "differences": list(map(_difference_record, self.differences(language))),
        }

    def table(self) -> Table:
        """Return the results as a table: a line for each language and init, best mean first."""
        title = "bits per byte, mean over seeds (lowest to highest)"
        table = Table(title=title, title_justify="left", pad_edge=False, box=None)
        change = "more than the first (95% interval)"
        for heading in ("language", INIT, "step 0", f"step {self.steps}", change):
            table.add_column(heading, justify="left" if heading in {"language", INIT} else "right")
        for language in self.languages:
            ranked = map(str, self.ranking(language).order)
            changes = ["", *map(format_difference, self.differences(language))]
            for init, change_from_best in zip(ranked, changes, strict=True):
                before = format_values(self.values(init, language, "spliced"))
                after = format_values(self.values(init, language, "adapted"))
                table.add_row(language, init, before, after, change_from_best)
        return table


def _difference_record(difference: Difference) -> dict[str, Any]:
    return {
        "first": difference.first,
        "second": difference.second,
        "difference": difference.value,
        "interval": difference.interval(),
        "seeds": difference.n,
        "over": difference.over,
    }


def format_values(values: Sequence[float]) -> str:
    """Return the mean with the lowest and the highest value.

    >>> format_values([1.25, 1.5, 1.75])
    '1.50 (1.25 to 1.75)'
    """
    return with_interval(fmean(values), min(values), max(values))


def format_difference(difference: Difference) -> str:
    """Return a difference with its interval and the unit of resampling."""
    interval = difference.interval()
    if interval is None:
        return f"{signed(difference.value)} (one seed: no interval)"
    return f"{signed(difference.value, *interval)} over {difference.over}"
