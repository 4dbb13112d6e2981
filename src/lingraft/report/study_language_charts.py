"""The charts of a study within one target language: size, fertility, curves, cost and forgetting.

Bits per byte and fertility depend on the script of a language, so that their values in two
languages do not compare. A study of several languages has these charts once for each. A point is a
group, which is a choice on all axes; its value is the mean over seeds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from lingraft.formatting import number, signed
from lingraft.report.charts import BLUE, COLOURS, GREY, Chart, open_scale, palette, styled
from lingraft.report.study_curves import curve_chart
from lingraft.report.study_files import SIZE, StudyFiles
from lingraft.report.study_names import language_names
from lingraft.report.study_numbers import ADDED, BASE_CHANGE, BITS, COST, FERTILITY, ValueKey


def language_charts(study: StudyFiles) -> Iterator[Chart]:
    """Yield the charts of each target language; if there are several, they have its name."""
    several = len(study.by_target) > 1
    for target, part in study.by_target.items():
        charts = [*size_charts(part), curve_chart(part), frontier_chart(part)]
        for chart in filter(None, [*charts, forgetting_chart(part)]):
            yield _named(chart, target) if several else chart


def _named(chart: Chart, target: str) -> Chart:
    # The name is also that of a file.
    name = f"{chart.name}-{re.sub(r'[^A-Za-z0-9._-]', '-', target)}"
    language = language_names([target])
    title, label = f"{chart.title}: {language}", f"{language}. {chart.label}"
    return replace(chart, name=name, title=title, label=label)


def size_charts(study: StudyFiles) -> Iterator[Chart]:
    """Yield bits per byte and fertility against the number of tokens added."""
    # The size is the horizontal axis; a line joins the groups that are equal on all other axes.
    others = [axis for axis in study.choice_axes if axis != SIZE]
    charts = (
        ("size", "Bits per byte", "bits per byte", BITS, ""),
        (
            "fertility",
            "Fertility",
            study.fertility_metric,
            FERTILITY,
            "Choices with the same vocabulary share a point. ",
        ),
    )
    for name, title, metric, key, note in charts:
        points = _points(study, ADDED, key, others)
        if len({point["x"] for point in points}) < 2:
            continue
        worst = max(points, key=lambda point: point["y"])
        best = min(points, key=lambda point: point["y"])
        yield _scatter(
            name,
            f"{title} against vocabulary size",
            points,
            x_title="tokens added",
            y_title=metric,
            caption=f"Target language; lower is better. {note}Bar: minimum to maximum over seeds.",
            label=f"From {number(worst['y'])} {metric} to {number(best['y'])} with "
            f"{number(best['x'])} tokens added.",
            connect=True,
            **_size_axis({point["x"] for point in points}),
        )


def _size_axis(sizes: Collection[float]) -> Mapping[str, Any]:
    """Return scale and labels of an axis on which small sizes have as much room as large ones.

    Sizes are chosen as 0, 500, 1,000, 3,000, ..., 30,000: on a linear axis most are at the left.
    """
    import altair as alt

    smallest = min(size for size in sizes if size > 0)
    if max(sizes) < 10 * smallest:
        return {}
    # Logarithmic above the smallest size, and linear below it, where 0 has a place.
    axis = alt.Axis(values=sorted(sizes), format=",.0f", labelOverlap="greedy", labelSeparation=6)
    return {"x_scale": alt.Scale(type="symlog", constant=smallest), "x_axis": axis}


def frontier_chart(study: StudyFiles) -> Chart | None:
    """Return bits per byte against training cost, with the Pareto frontier marked."""
    import altair as alt

    points = _points(study, COST, BITS)
    if len({point["x"] for point in points}) < 2:
        return None
    unit, flops_per_unit = _compute_unit(max(point["x"] for point in points))
    for point in points:
        point["x"] /= flops_per_unit
    choices = [(point["x"], point["y"], point["name"]) for point in points]
    names = frontier(choices)
    middle = (min(choices)[0] + max(choices)[0]) / 2
    for point in points:
        point["best"] = point["name"] in names
        # A left-aligned name at the right edge would be cut off.
        point["align"] = "right" if point["x"] > middle else "left"
    # The last one is drawn on top: two choices may be at one place.
    points.sort(key=lambda point: bool(point["best"]))
    y_scale = open_scale(point["y"] for point in points)
    base = alt.Chart(alt.Data(values=points)).encode(
        x=alt.X(
            "x:Q",
            title=f"training compute ({unit})",
            scale=alt.Scale(zero=False),
            axis=alt.Axis(tickCount=5),
        ),
        y=alt.Y("y:Q", title="bits per byte", scale=y_scale),
    )
    dots = base.mark_circle(size=70, opacity=0.9).encode(
        color=alt.condition("datum.best", alt.value(BLUE), alt.value(GREY))
    )
    line = base.mark_line(color=BLUE, strokeDash=[3, 3]).transform_filter("datum.best")
    layers = [line, dots]
    for align, dx in (("left", 7), ("right", -7)):
        text = base.mark_text(align=align, dx=dx, dy=-8, limit=190).encode(text="name:N")
        layers.append(text.transform_filter(f"datum.best && datum.align == '{align}'"))
    return Chart(
        "frontier",
        "Bits per byte against training cost",
        "Lower left is better. Compute is 6 x parameters x tokens. Blue: the Pareto frontier, "
        "where no other choice is both cheaper to train and better. Dot: the mean over seeds, "
        "without an interval.",
        f"Scatter plot of bits per byte against training FLOPs. Frontier: {'; '.join(names)}.",
        styled(alt.layer(*layers), 230),
    )


def _compute_unit(most: float) -> tuple[str, float]:
    """Return the unit of an axis of up to `most` floating-point operations.

    >>> _compute_unit(2.84e15), _compute_unit(1e9)
    (('PFLOP', 1000000000000000.0), ('GFLOP', 1000000000.0))
    """
    for prefix, count in (("E", 1e18), ("P", 1e15), ("T", 1e12)):
        if most >= count:
            return f"{prefix}FLOP", count
    return "GFLOP", 1e9


def frontier(points: Sequence[tuple[float, float, str]]) -> list[str]:
    """Return the names of the points on the Pareto frontier (lower is better), the cheapest first.

    >>> frontier([(1, 5, "a"), (2, 3, "b"), (3, 4, "c")])
    ['a', 'b']
    """
    names: list[str] = []
    lowest = math.inf
    # From the cheapest on, a point is on the frontier if it is better than all cheaper ones.
    for _, value, name in sorted(points):
        if value < lowest:
            names.append(name)
            lowest = value
    return names


def forgetting_chart(study: StudyFiles) -> Chart | None:
    """Return the change in the base language against bits per byte in the target language."""
    points = _points(study, BITS, BASE_CHANGE)
    if len(points) < 2:
        return None
    lowest = min(points, key=lambda point: point["y"])
    highest = max(points, key=lambda point: point["y"])
    return _scatter(
        "forgetting",
        "Forgetting against bits per byte",
        points,
        x_title="bits per byte, target language",
        y_title="change in bits per byte, base language",
        caption="Left: more learned. Low: less forgotten. Dot: the mean over seeds. Bar: minimum "
        "to maximum over seeds.",
        label=f"The change of the base language is between {signed(lowest['y'])} bits per byte "
        f"with {lowest['name']} and {signed(highest['y'])} with {highest['name']}.",
    )


def _points(
    study: StudyFiles, x_key: ValueKey, y_key: ValueKey, kind_axes: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """Return a point for each group that has both numbers.

    `kind` is its choice on `kind_axes`, or on all axes if they are not given, as its name is.
    """
    axes = study.choice_axes
    points: list[dict[str, Any]] = []
    for group in study.groups:
        x, y = group.get(x_key), group.get(y_key)
        if x and y and math.isfinite(x.value) and math.isfinite(y.value):
            value = {"x": x.value, "y": y.value, "low": y.low, "high": y.high}
            kind = group.name(axes if kind_axes is None else kind_axes)
            points.append({**value, "name": group.name(axes), "kind": kind})
    return points


def _scatter(
    name: str,
    title: str,
    points: Sequence[dict[str, Any]],
    *,
    x_title: str,
    y_title: str,
    caption: str,
    label: str,
    connect: bool = False,
    x_scale: Any = None,
    x_axis: Any = None,
) -> Chart:
    """Return a scatter plot with ranges; `connect` joins the points of each kind by a line."""
    import altair as alt

    x_scale = x_scale or open_scale(point["x"] for point in points)
    y_ends = [point[name] for point in points for name in ("y", "low", "high")]
    x_axis = x_axis or alt.Axis(tickCount=5)

    kinds = list(dict.fromkeys(point["kind"] for point in points))
    base = alt.Chart(alt.Data(values=list(points))).encode(
        x=alt.X("x:Q", title=x_title, scale=x_scale, axis=x_axis),
        y=alt.Y("y:Q", title=y_title, scale=open_scale(y_ends)),
    )
    # One kind needs no legend, and a legend cannot distinguish more kinds than there are colours.
    coloured = 1 < len(kinds) <= len(COLOURS)
    colour = (
        alt.Color(
            "kind:N",
            title=None,
            legend=alt.Legend(orient="bottom", columns=1),
            scale=alt.Scale(domain=kinds, range=palette(len(kinds))),
        )
        if coloured
        else alt.value(BLUE)
    )
    layers = [
        base.mark_rule(strokeWidth=1).encode(y="low:Q", y2="high:Q", color=colour),
        base.mark_circle(size=60, opacity=0.9).encode(color=colour),
    ]
    if connect:
        layers.insert(0, base.mark_line(strokeWidth=1.5).encode(color=colour, detail="kind:N"))
    return Chart(name, title, caption, f"{title}. {label}", styled(alt.layer(*layers), 220))
