"""What a probe found: bits per byte before and after its steps, paired differences, and what they carry."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Any

from rich.table import Table

from lingraft.formatting import signed, with_interval
from lingraft.measurement import Measurement
from lingraft.study.config import ComparedSettings
from lingraft.study.statistics import AxisRanking, Difference, differences, ranking
from lingraft.study.study_table import AXIS

INIT = "init"
SUBJECTS = ("spliced", "adapted")


@dataclass(frozen=True)
class ProbeScore:
    """The scores of one trial; `tokens` counts what its rows were learned from before, for inits that train."""

    init: str
    seed: int
    rows: tuple[Measurement, ...]
    tokens: int = 0


@dataclass(frozen=True)
class ProbeOutcome:
    """The scores of all trials, after `steps` of training."""

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
        """The inits, in the order given."""
        return list(dict.fromkeys(one.init for one in self.scored))

    def values(self, init: str, language: str, subject: str) -> list[float]:
        """Return the bits per byte of an init, a value for each seed."""
        return [
            row.value
            for one in self.scored
            if one.init == init
            for row in one.rows
            if (row.language, row.subject) == (language, subject)
        ]

    @cached_property
    def _rows(self) -> list[dict[str, Any]]:
        return [
            {
                f"{AXIS}{INIT}": one.init,
                "seed": one.seed,
                "role": "target" if row.language in self.targets else "replay",
                "metric": row.metric,
                "subject": row.subject,
                "language": row.language,
                "value": row.value,
                "low": row.low,
                "high": row.high,
            }
            for one in self.scored
            for row in one.rows
        ]

    def ranking(self, language: str) -> AxisRanking:
        """Return the order after the steps, and which pairs of it the intervals carry."""
        return ranking(self._rows, [INIT], INIT, ComparedSettings(language=language))[0]

    def difference(self, first: str, second: str, language: str) -> Difference:
        """Return `second` minus `first` after the steps, paired by seed."""
        pair = {first, second}
        found = next(
            one
            for one in differences(self._rows, [INIT], ComparedSettings(language=language))
            if {one.first, one.second} == pair
        )
        return found if found.first == first else _turned(found)

    def differences(self, language: str) -> list[Difference]:
        """Return the paired difference of every init to the one with the lowest mean after the steps."""
        best, *others = (str(label) for label in self.ranking(language).order)
        return [self.difference(best, other, language) for other in others]

    def sentences(self) -> Iterator[str]:
        """Yield what may be said."""
        for language in self.languages:
            yield self.ranking(language).sentence
        learned = {one.init: one.tokens for one in self.scored if one.tokens}
        for init, tokens in learned.items():
            yield f"{init}: its rows were learned from {tokens:,} tokens before, which the others did not see"

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {
            "steps": self.steps,
            "seeds": sorted({one.seed for one in self.scored}),
            "said": list(self.sentences()),
            "languages": {language: self._language(language) for language in self.languages},
        }

    def _language(self, language: str) -> dict[str, Any]:
        order = self.ranking(language)
        return {
            "order": list(order.order),
            "carried": [list(pair) for pair in order.carried],
            "inits": {
                init: {
                    "step 0": self.values(init, language, "spliced"),
                    f"step {self.steps}": self.values(init, language, "adapted"),
                }
                for init in self.inits
            },
            "differences": [
                {
                    "first": one.first,
                    "second": one.second,
                    "difference": one.value,
                    "interval": one.interval(),
                    "seeds": one.n,
                    "over": one.over,
                }
                for one in self.differences(language)
            ],
        }

    def table(self) -> Table:
        """Return a line for each language and init, the best mean first."""
        table = Table(
            title="bits per byte, mean over seeds (lowest to highest)",
            title_justify="left",
            pad_edge=False,
            box=None,
        )
        for heading in (
            "language",
            INIT,
            "step 0",
            f"step {self.steps}",
            "more than the first (95% interval)",
        ):
            table.add_column(heading, justify="left" if heading in {"language", INIT} else "right")
        for language in self.languages:
            behind = {one.second: one for one in self.differences(language)}
            for init in self.ranking(language).order:
                cells = [spread(self.values(str(init), language, subject)) for subject in SUBJECTS]
                table.add_row(
                    language, str(init), *cells, told(behind[init]) if init in behind else ""
                )
        return table


def _turned(one: Difference) -> Difference:
    """Return the same difference seen from the other side."""
    return Difference(
        one.axis,
        one.second,
        one.first,
        one.context,
        one.metric,
        one.subject,
        one.language,
        -one.value,
        one.n,
        one.spread,
        one.over,
    )


def spread(values: Sequence[float]) -> str:
    """Return a mean with the lowest and the highest value.

    >>> spread([1.25, 1.5, 1.75])
    '1.50 (1.25 to 1.75)'
    """
    return with_interval(fmean(values), min(values), max(values))


def told(one: Difference) -> str:
    """Return a difference with its interval, and what that is over."""
    interval = one.interval()
    if interval is None:
        return f"{signed(one.value)} (one seed: no interval)"
    return f"{signed(one.value, *interval)} over {one.over}"
