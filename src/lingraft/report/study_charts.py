"""The charts of a study: each axis, fertility, training curves, cost and forgetting."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from lingraft.formatting import join_words, language_name, number, size
from lingraft.report.charts import BLUE, COLOURS, GREY, Chart, styled
from lingraft.report.study_files import (
    ADDED,
    BASE_CHANGE,
    BITS,
    COST,
    FERTILITY,
    Group,
    Spread,
    StudyFiles,
    ValueKey,
    short,
)

MAX_COLOURED_CURVES = len(COLOURS)
"""Curves with a colour and a name. If there are more, only the best and the worst have one."""


def study_charts(study: StudyFiles) -> list[Chart]:
    """Return every chart that the study has numbers for."""
    candidates = [axis_chart(study, axis) for axis in study.axes]
    candidates += [
        size_chart(study),
        curve_chart(study),
        frontier_chart(study),
        forgetting_chart(study),
    ]
    return [chart for chart in candidates if chart]


def axis_chart(study: StudyFiles, axis: str) -> Chart | None:
    """Return bits per byte in the target language by axis value, averaged over the other axes."""
    import altair as alt

    points = _axis_points(study, axis)
    if len(points) < 2 or not all(math.isfinite(point["value"]) for point in points):
        return None
    labels = [point["label"] for point in points]
    base = alt.Chart(alt.Data(values=points)).encode(
        y=alt.Y(
            "label:N", title=None, sort=labels, axis=alt.Axis(labelFontWeight="bold", ticks=False)
        )
    )
    span = base.mark_rule(strokeWidth=2, color=GREY).encode(
        x=alt.X(
            "low:Q", title="bits per byte", scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=5)
        ),
        x2="high:Q",
    )
    dots = base.mark_circle(size=90, color=BLUE, opacity=1).encode(x="value:Q")
    text = base.mark_text(dy=-11).encode(x="value:Q", text="shown:N")
    values = "; ".join(f"{point['label']} {point['shown']}" for point in points)
    return Chart(
        f"axis-{study.axes.index(axis)}",
        f"Bits per byte by {short(axis)}",
        "Target language, adapted model; lower is better. The dot is the mean over seeds and the "
        "other axes, the line is their range. The answer above says which differences the "
        "intervals support.",
        f"Bits per byte by {axis}: {values}.",
        styled(alt.layer(span, dots, text), 44 * len(points) + 20),
    )


def _axis_points(study: StudyFiles, axis: str) -> list[dict[str, Any]]:
    spreads: dict[str, list[Spread]] = {}
    for group in study.groups:
        bits = group.get(BITS)
        if axis in group.labels and bits:
            spreads.setdefault(str(group.labels[axis]), []).append(bits)
    points = []
    for label, values in spreads.items():
        mean = sum(spread.value for spread in values) / len(values)
        point = {
            "label": label,
            "value": mean,
            "low": min(spread.low for spread in values),
            "high": max(spread.high for spread in values),
            "shown": number(mean),
        }
        points.append(point)
    return points


def size_chart(study: StudyFiles) -> Chart | None:
    """Return fertility against the number of tokens added."""
    others = [axis for axis in study.axes if axis != "vocabulary.size"]
    points = _points(study.groups, ADDED, FERTILITY, others)
    if len({point["x"] for point in points}) < 2:
        return None
    worst = max(points, key=lambda point: point["y"])
    best = min(points, key=lambda point: point["y"])
    return _scatter(
        "fertility",
        "Fertility against vocabulary size",
        points,
        x_title="tokens added",
        y_title="tokens per word",
        caption="Target language; lower is better. Cells with the same vocabulary share a point.",
        label=f"From {number(worst['y'])} tokens per word to {number(best['y'])} with "
        f"{number(best['x'])} tokens added.",
        connect=True,
    )


def frontier_chart(study: StudyFiles) -> Chart | None:
    """Return bits per byte against training cost, with the Pareto frontier marked."""
    import altair as alt

    points = _points(study.groups, COST, BITS, study.axes)
    if len(points) < 2:
        return None
    names = frontier([(point["x"], point["y"], point["name"]) for point in points])
    costs = [point["x"] for point in points]
    middle = (min(costs) + max(costs)) / 2
    for point in points:
        point["best"] = point["name"] in names
        # A left-aligned name at the right edge would be cut off.
        point["align"] = "right" if point["x"] > middle else "left"
    base = alt.Chart(alt.Data(values=points)).encode(
        x=alt.X(
            "x:Q",
            title="training FLOPs",
            scale=alt.Scale(zero=False),
            axis=alt.Axis(format="~s", tickCount=5),
        ),
        y=alt.Y("y:Q", title="bits per byte", scale=alt.Scale(zero=False)),
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
        "Lower left is better. Blue: the Pareto frontier, where no other choice is both cheaper to "
        "train and better (means over seeds, without intervals).",
        f"Scatter plot of bits per byte against training FLOPs. Frontier: {'; '.join(names)}.",
        styled(alt.layer(*layers), 230),
    )


def frontier(points: Sequence[tuple[float, float, str]]) -> list[str]:
    """Return the names of the points on the Pareto frontier (lower is better), the cheapest first.

    >>> frontier([(1, 5, "a"), (2, 3, "b"), (3, 4, "c")])
    ['a', 'b']
    """
    names: list[str] = []
    lowest = math.inf
    for _, value, name in sorted(points):
        if value < lowest:
            names.append(name)
            lowest = value
    return names


def forgetting_chart(study: StudyFiles) -> Chart | None:
    """Return the change in the base language against bits per byte in the target language."""
    points = _points(study.groups, BITS, BASE_CHANGE, study.axes)
    if len(points) < 2:
        return None
    least = min(points, key=lambda point: point["y"])
    most = max(points, key=lambda point: point["y"])
    return _scatter(
        "forgetting",
        "Forgetting against bits per byte",
        points,
        x_title="bits per byte, target language",
        y_title="change in the base language",
        caption="Left: more learned. Low: less forgotten. Both axes are bits per byte.",
        label=f"The base language changes by {number(least['y'])} to {number(most['y'])} "
        f"bits per byte; the smallest change is that of {least['name']}.",
    )


def curve_chart(study: StudyFiles) -> Chart | None:
    """Return held-out bits per byte in the target language against training text, by group."""
    points = _curve_points(study)
    if not points:
        return None
    names = list(dict.fromkeys(point["name"] for point in points))
    last = {point["name"]: point["value"] for point in points}
    ranked = sorted(last, key=last.__getitem__)
    best, worst = ranked[0], ranked[-1]
    few = len(names) <= MAX_COLOURED_CURVES
    tags = [row["language"] for row in study.curves if row["role"] == "target"]
    languages = join_words([language_name(tag) for tag in dict.fromkeys(tags)])
    named = "" if few else " Named: the best and the worst at the end."
    longest = size(max(point["seen"] for point in points) * 1e6)
    return Chart(
        "course",
        "Training curves",
        f"Held-out {languages}; lower is better; means over seeds.{named}",
        f"Line chart of {len(names)} training curves up to {longest}; lowest at the end: {best}, "
        f"{number(last[best])}; highest: {worst}, {number(last[worst])}.",
        styled(_declare_curves(points, names if few else [best, worst], others=not few), 240),
    )


def _curve_points(study: StudyFiles) -> list[dict[str, Any]]:
    """Return the mean over the cells of a group at each point of its training."""
    names = {}
    for group in study.groups:
        for cell in group.cells:
            names[cell] = group.name
    scores: dict[tuple[str, int], list[float]] = {}
    for row in study.curves:
        if row["role"] == "target" and row["cell"] in names and math.isfinite(row["bits_per_byte"]):
            point = names[row["cell"]], int(row["bytes"])
            scores.setdefault(point, []).append(row["bits_per_byte"])
    return [
        {"name": name, "seen": seen / 1e6, "value": sum(values) / len(values)}
        for (name, seen), values in sorted(scores.items(), key=lambda item: item[0][1])
    ]


def _declare_curves(points: list[dict[str, Any]], domain: list[str], *, others: bool) -> Any:
    """Declare the curves: those in `domain` with colour and name, the others thin and grey."""
    import altair as alt

    base = alt.Chart(alt.Data(values=points)).encode(
        x=alt.X("seen:Q", title="training text (MB)", axis=alt.Axis(tickCount=6)),
        y=alt.Y("value:Q", title="bits per byte", scale=alt.Scale(zero=False)),
        detail="name:N",
    )
    colour = alt.Color(
        "name:N",
        title=None,
        scale=alt.Scale(domain=domain, range=_range(len(domain))),
        legend=alt.Legend(orient="bottom", columns=1, labelLimit=300),
    )
    curves = base.mark_line(strokeWidth=1.5).encode(color=colour)
    coloured = curves.transform_filter(alt.FieldOneOfPredicate("name", domain))
    if not others:
        return coloured
    return alt.layer(base.mark_line(strokeWidth=0.7, color=GREY, opacity=0.5), coloured)


def _range(count: int) -> list[str]:
    return [COLOURS[position % len(COLOURS)] for position in range(count)]


def _points(
    groups: Sequence[Group], x_key: ValueKey, y_key: ValueKey, axes: Sequence[str]
) -> list[dict[str, Any]]:
    """Return a point for each group that has both numbers; `kind` is its value on `axes`."""
    points: list[dict[str, Any]] = []
    for group in groups:
        x, y = group.get(x_key), group.get(y_key)
        if x and y and math.isfinite(x.value) and math.isfinite(y.value):
            kind = ", ".join(str(group.labels[axis]) for axis in axes if axis in group.labels)
            value = {"x": x.value, "y": y.value, "low": y.low, "high": y.high}
            points.append({**value, "name": group.name, "kind": kind})
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
) -> Chart:
    """Return a scatter plot with ranges; `connect` joins the points of each kind by a line."""
    import altair as alt

    kinds = list(dict.fromkeys(point["kind"] for point in points))
    base = alt.Chart(alt.Data(values=list(points))).encode(
        x=alt.X("x:Q", title=x_title, scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=5)),
        y=alt.Y("y:Q", title=y_title, scale=alt.Scale(zero=False)),
    )
    coloured = 1 < len(kinds) <= len(COLOURS)
    colour = (
        alt.Color(
            "kind:N",
            title=None,
            legend=alt.Legend(orient="bottom", columns=1, labelLimit=300),
            scale=alt.Scale(domain=kinds, range=_range(len(kinds))),
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
