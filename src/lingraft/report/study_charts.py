"""The charts of a study: each axis, fertility, cost and forgetting.

A point is a group, which is a choice on all axes; its value is the mean over seeds. In the chart of
an axis a point is a value of that axis, averaged over the other axes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from lingraft.formatting import number, signed, with_interval
from lingraft.report.charts import (
    BLUE,
    COLOURS,
    GREY,
    Chart,
    difference_dots,
    interval_dots,
    line_labels,
    palette,
    styled,
)
from lingraft.report.speed_charts import DIFFERENCE, speed_charts
from lingraft.report.study_curves import curve_chart
from lingraft.report.study_files import (
    ADDED,
    BASE_CHANGE,
    BITS,
    COST,
    FERTILITY,
    AxisMean,
    Group,
    StudyFiles,
    ValueKey,
    short,
)

OVERLAP = "The differences below are paired by seed, so they can be clear where bars overlap."
CROSSING = "Runs of the same seed are compared. A bar that crosses the line shows no difference."
MOST_CHOICES = 16
"""A chart with a line for each choice would be too long beyond."""


def study_charts(study: StudyFiles) -> list[Chart]:
    """Return every chart that the study has numbers for."""
    candidates = [axis_chart(study, axis) for axis in study.axes]
    candidates += [
        *speed_charts(study),
        *size_charts(study),
        curve_chart(study),
        frontier_chart(study),
        forgetting_chart(study),
        learned_chart(study),
        kept_chart(study),
    ]
    return list(filter(None, candidates))


def axis_chart(study: StudyFiles, axis: str) -> Chart | None:
    """Return bits per byte in the target language by axis value, averaged over the other axes."""
    means = study.means([axis], BITS)
    if len(means) < 2 or not all(math.isfinite(mean.value) for mean in means):
        return None
    labels = line_labels(mean.label for mean in means)
    points, descriptions = [], []
    for mean in means:
        low, high = mean.interval or (None, None)
        point = {"label": labels[mean.label], "value": mean.value, "low": low, "high": high}
        points.append({**point, "shown": number(mean.value)})
        descriptions.append(f"{mean.label} {with_interval(mean.value, low, high)}")
    return Chart(
        f"axis-{study.axes.index(axis)}",
        f"Bits per byte by {short(axis)}",
        f"Target language, adapted model; lower is better. "
        f"{_explain_bars(means, averaged=len(study.axes) > 1)} The "
        "answer above says which differences the intervals support.",
        f"Bits per byte by {axis}: {'; '.join(descriptions)}.",
        interval_dots(points, "bits per byte", labels=list(labels.values())),
    )


def _explain_bars(means: Sequence[AxisMean], *, averaged: bool, advice: str = OVERLAP) -> str:
    """Return what dots and bars are, where numbers may have been averaged over other axes."""
    after = " after averaging over the other axes" if averaged else ""
    fewest, most = min(mean.seeds for mean in means), max(mean.seeds for mean in means)
    seeds = f"{fewest} seeds" if fewest == most else f"{fewest} to {most} seeds"
    if most == 1:
        return f"Dot: the value{after}, with one seed, so there are no bars."
    if not any(mean.interval for mean in means):
        return f"Dot: the mean over {seeds}{after}; the seed changes nothing, so it has no bar."
    bar = f"Bar: its 95% interval over seeds, not over axes. {advice}"
    return f"Dot: the mean over {seeds}{after}. {bar}"


def size_charts(study: StudyFiles) -> Iterator[Chart]:
    """Yield bits per byte and fertility against the number of tokens added."""
    # The size is the horizontal axis; a line joins the groups that are equal on all other axes.
    others = [axis for axis in study.axes if axis != "vocabulary.size"]
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
        points = _points(study.groups, ADDED, key, others)
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
        )


def frontier_chart(study: StudyFiles) -> Chart | None:
    """Return bits per byte against training cost, with the Pareto frontier marked."""
    import altair as alt

    points = _points(study.groups, COST, BITS, study.axes)
    if len(points) < 2:
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
    base = alt.Chart(alt.Data(values=points)).encode(
        x=alt.X(
            "x:Q",
            title=f"training compute ({unit})",
            scale=alt.Scale(zero=False),
            axis=alt.Axis(tickCount=5),
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
        y_title="change in bits per byte, base language",
        caption="Left: more learned. Low: less forgotten. Dot: the mean over seeds. Bar: minimum "
        "to maximum over seeds.",
        label=f"The base language changes by {number(least['y'])} to {number(most['y'])} "
        f"bits per byte; the smallest change is that of {least['name']}.",
    )


def learned_chart(study: StudyFiles) -> Chart | None:
    """Return bits per byte in the target language by choice, compared with the first one.

    With one axis and curves, the chart of speed and result shows the same.
    """
    if len(study.choice_axes) < 2 and study.text_needed:
        return None
    means = study.means(study.choice_axes, BITS, compared=True)
    title = f"Target language compared with {means[0].label}" if means else ""
    return _choices_chart(study, "learned", means, title, CROSSING)


def kept_chart(study: StudyFiles) -> Chart | None:
    """Return the change of the base language by training, by choice."""
    means = study.means(study.choice_axes, BASE_CHANGE)
    title = "Base language after training, compared with before"
    return _choices_chart(study, "kept", means, title, OVERLAP)


def _choices_chart(
    study: StudyFiles, name: str, means: Sequence[AxisMean], title: str, advice: str
) -> Chart | None:
    finite = [mean for mean in means if math.isfinite(mean.value)]
    if not 2 <= len(finite) <= MOST_CHOICES:
        return None
    averaged = len(study.axes) > len(study.choice_axes)
    labels = line_labels(mean.label for mean in finite)
    points, descriptions = [], []
    for mean in finite:
        low, high = mean.interval or (None, None)
        point = {"label": labels[mean.label], "value": mean.value, "low": low, "high": high}
        points.append({**point, "shown": f"{mean.value:+.3f}"})
        descriptions.append(f"{mean.label} {signed(mean.value, low, high)}")
    return Chart(
        name,
        title,
        "Difference in bits per byte; left is better. "
        f"{_explain_bars(finite, averaged=averaged, advice=advice)}",
        f"{title}: {'; '.join(descriptions)}.",
        difference_dots(points, DIFFERENCE, labels.values()),
    )


def _points(
    groups: Sequence[Group], x_key: ValueKey, y_key: ValueKey, axes: Sequence[str]
) -> list[dict[str, Any]]:
    """Return a point for each group that has both numbers; `kind` is its value on `axes`."""
    points: list[dict[str, Any]] = []
    for group in groups:
        x, y = group.get(x_key), group.get(y_key)
        if x and y and math.isfinite(x.value) and math.isfinite(y.value):
            labels = [str(group.labels[axis]) for axis in axes if axis in group.labels]
            kind = ", ".join(labels)
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
