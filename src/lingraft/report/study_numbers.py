"""The numbers of each cell of a study that its report shows, by metric, model and language.

To what the table has, `numbers_of_cells` adds what training and use cost.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import TypeVar

from lingraft.studies.study_table import Row
from lingraft.text_units import FERTILITY_METRICS

T = TypeVar("T")
ValueKey = tuple[str, str, str]
"""The key of a number: metric, subject, and role of the language ("" for the model itself)."""

UNIT_UNKNOWN = "tokens per unit"
"""The name of fertility in a study of texts that are counted in different units."""
FERTILITY: ValueKey = ("fertility", "adapted", "target")
BITS: ValueKey = ("bits per byte", "adapted", "target")
BITS_BEFORE: ValueKey = ("bits per byte", "source", "target")
BASE_CHANGE: ValueKey = ("bits per byte change", "adapted", "replay")
ADDED: ValueKey = ("tokens added", "spliced", "")
COST: ValueKey = ("training cost", "adapted", "")
PARAMETERS, MULTIPLIED = "parameters", "parameters per token"
"""Metrics: all parameters of a model, and those that a token is multiplied with."""
TOKENS: ValueKey = ("training tokens", "adapted", "")
SERVING: ValueKey = ("serving cost", "adapted", "target")


def value_of(values: Mapping[ValueKey, T], key: ValueKey) -> T | None:
    """Return a number; a model that was not trained has the number of the spliced model."""
    metric, subject, role = key
    value = values.get(key)
    if value is None and subject == "adapted":
        return values.get((metric, "spliced", role))
    return value


def fertility_metric(rows: Sequence[Row]) -> str:
    """Return the metric of `FERTILITY`; `UNIT_UNKNOWN` where texts are counted in several units."""
    found = {row["metric"] for row in rows if row["role"] == "target"}
    metrics = [metric for metric in FERTILITY_METRICS if metric in found]
    return metrics[0] if len(metrics) == 1 else UNIT_UNKNOWN


def numbers_of_cells(rows: Sequence[Row]) -> dict[str, dict[ValueKey, float]]:
    """Return the numbers of each cell."""
    metric_of_fertility = fertility_metric(rows)
    values: dict[str, dict[ValueKey, list[float]]] = {}
    for row in rows:
        is_fertility = row["metric"] in FERTILITY_METRICS
        # Fertility is one number of the study, in whatever unit the text is counted.
        metric = FERTILITY[0] if is_fertility else row["metric"]
        key = (metric, row["subject"], row["role"] or "")
        found = values.setdefault(row["cell"], {}).setdefault(key, [])
        # Tokens per word of one language and per character of another have no mean.
        if not (is_fertility and found and metric_of_fertility == UNIT_UNKNOWN):
            found.append(row["value"])
    # The mean of several target languages, as in the curves.
    numbers = {
        cell: {key: fmean(found) for key, found in of_cell.items()}
        for cell, of_cell in values.items()
    }
    metric = counted_by(numbers.values())
    for of_cell in numbers.values():
        parameters = of_cell.get((metric, "spliced", ""))
        if parameters is not None and TOKENS in of_cell:
            # FLOPs per parameter and token: 2 forward, 4 backward (Kaplan et al. 2020).
            of_cell[COST] = 6 * parameters * of_cell[TOKENS]
        serving = _serving_cost(of_cell, metric)
        if serving is not None:
            of_cell[SERVING] = serving
    return numbers


def counted_by(cells: Iterable[Mapping[ValueKey, float]]) -> str:
    """Return the metric of the parameters that cost FLOPs: `MULTIPLIED`, if each cell has it.

    Runs of earlier code did not store it, and costs are compared between cells.
    """
    sized = [cell for cell in cells if (PARAMETERS, "spliced", "") in cell]
    has_all = all((MULTIPLIED, "spliced", "") in cell for cell in sized)
    return MULTIPLIED if has_all else PARAMETERS


def _serving_cost(of_cell: Mapping[ValueKey, float], metric: str = PARAMETERS) -> float | None:
    """Return the inference FLOPs per byte of target text, divided by those of the base.

    That is tokens per byte x FLOPs per token, to read text as well as to generate it: 2 for each
    parameter (forward pass, Kaplan et al. 2020, arXiv 2001.08361) of `metric`, the larger head
    included. At batch size 1 the time to generate goes with the weights that a token reads, and so
    with the same number. As in `COST`, `PARAMETERS` of runs of earlier code are slightly too many:
    an input embedding that is only looked up counts too, and all experts of a mixture. Attention to
    earlier tokens is left out: it costs less where text has fewer tokens.

    >>> before = {("tokens per byte", "source", "target"): 0.8, ("parameters", "source", ""): 8e6}
    >>> after = {("tokens per byte", "adapted", "target"): 0.2, ("parameters", "spliced", ""): 1e7}
    >>> _serving_cost(before | after), _serving_cost(after)
    (0.3125, None)
    """
    costs = []
    for subject, model in (("adapted", "spliced"), ("source", "source")):
        tokens = value_of(of_cell, ("tokens per byte", subject, "target"))
        parameters = of_cell.get((metric, model, ""))
        if tokens is None or parameters is None:
            return None
        costs.append(2 * parameters * tokens)
    return costs[0] / costs[1]
