"""The charts of a study: what each axis does, fertility against vocabulary size, the courses, cost against gain."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from lingraft.formatting import joined, language_name, number, size
from lingraft.report.charts import BLUE, COLOURS, GREY, Chart, styled
from lingraft.report.study_files import (
    ADDED,
    BASE_CHANGE,
    BITS,
    COST,
    FERTILITY,
    Group,
    StudyFiles,
    Wanted,
    short,
)

LINES = len(COLOURS)
"""Courses that are told apart by colour and name; of more, each is drawn thin and grey but the best and the worst."""


def study_charts(study: StudyFiles) -> list[Chart]:
    """Return every chart that the study has numbers for."""
    made = [
        *(axis_chart(study, axis) for axis in study.axes),
        size_chart(study),
        course_chart(study),
        frontier_chart(study),
        forgetting_chart(study),
    ]
    return [chart for chart in made if chart]


def axis_chart(study: StudyFiles, axis: str) -> Chart | None:
    """Return bits per byte in the target language for each value of an axis, averaged over the other axes."""
    import altair as alt

    labels = list(
        dict.fromkeys(str(group.labels[axis]) for group in study.groups if axis in group.labels)
    )
    rows: list[dict[str, Any]] = []
    for label in labels:
        found = [
            value
            for group in study.groups
            if str(group.labels.get(axis)) == label and (value := group.get(BITS))
        ]
        if found:
            mean = sum(one.value for one in found) / len(found)
            rows.append(
                {
                    "label": label,
                    "value": mean,
                    "low": min(one.low for one in found),
                    "high": max(one.high for one in found),
                    "shown": number(mean),
                }
            )
    if len(rows) < 2 or not all(math.isfinite(row["value"]) for row in rows):
        return None
    base = alt.Chart(alt.Data(values=rows)).encode(
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
    told = "; ".join(f"{row['label']} {row['shown']}" for row in rows)
    return Chart(
        f"axis-{study.axes.index(axis)}",
        f"Bits per byte by {short(axis)}",
        "Target language, adapted model; lower is better. The dot is the mean over seeds and the other axes, "
        "the line reaches from the least to the greatest of them. What the intervals carry stands above.",
        f"Bits per byte by {axis}: {told}.",
        styled(alt.layer(span, dots, text), 44 * len(rows) + 20),
    )


def size_chart(study: StudyFiles) -> Chart | None:
    """Return fertility against the number of tokens added."""
    others = [axis for axis in study.axes if axis != "vocabulary.size"]
    rows = _pairs(study.groups, ADDED, FERTILITY, others)
    if len({row["x"] for row in rows}) < 2:
        return None
    best = min(rows, key=lambda row: row["y"])
    return _scatter(
        "fertility",
        "Fertility against vocabulary size",
        rows,
        across="tokens added",
        up="tokens per word",
        caption="Target language; lower is better. Cells that share a vocabulary lie on each other.",
        label=f"From {number(max(row['y'] for row in rows))} tokens per word to {number(best['y'])} with "
        f"{number(best['x'])} tokens added.",
        joined_by_line=True,
    )


def frontier_chart(study: StudyFiles) -> Chart | None:
    """Return bits per byte against the cost of training, the choices that no other one beats marked."""
    import altair as alt

    rows = _pairs(study.groups, COST, BITS, study.axes)
    if len(rows) < 2:
        return None
    names = frontier([(row["x"], row["y"], row["name"]) for row in rows])
    middle = (min(row["x"] for row in rows) + max(row["x"] for row in rows)) / 2
    for row in rows:
        row["best"] = row["name"] in names
        row["inwards"] = (
            "right" if row["x"] > middle else "left"
        )  # a name at the right edge would leave the chart
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X(
            "x:Q",
            title="FLOPs of training",
            scale=alt.Scale(zero=False),
            axis=alt.Axis(format="~s", tickCount=5),
        ),
        y=alt.Y("y:Q", title="bits per byte", scale=alt.Scale(zero=False)),
    )
    dots = base.mark_circle(size=70, opacity=0.9).encode(
        color=alt.condition("datum.best", alt.value(BLUE), alt.value(GREY))
    )
    line = base.mark_line(color=BLUE, strokeDash=[3, 3]).transform_filter("datum.best")
    texts = [
        base.mark_text(align=side, dx=7 if side == "left" else -7, dy=-8, limit=190)
        .encode(text="name:N")
        .transform_filter(f"datum.best && datum.inwards == '{side}'")
        for side in ("left", "right")
    ]
    return Chart(
        "frontier",
        "Cost against gain",
        "Lower and further left is better. Blue: no other choice is both "
        "cheaper to train and better (means over seeds, not a claim about each pair).",
        f"Scatter of bits per byte against training FLOPs. Unbeaten: {'; '.join(names)}.",
        styled(alt.layer(line, dots, *texts), 230),
    )


def frontier(points: Sequence[tuple[float, float, str]]) -> list[str]:
    """Return the names of the points that no other one beats in both numbers, the cheapest first.

    >>> frontier([(1, 5, "a"), (2, 3, "b"), (3, 4, "c")])
    ['a', 'b']
    """
    found: list[str] = []
    lowest = math.inf
    for _, value, name in sorted(points):
        if value < lowest:
            found.append(name)
            lowest = value
    return found


def forgetting_chart(study: StudyFiles) -> Chart | None:
    """Return what the base language lost against bits per byte in the target language."""
    rows = _pairs(study.groups, BITS, BASE_CHANGE, study.axes)
    if len(rows) < 2:
        return None
    least, most = (pick(rows, key=lambda row: row["y"]) for pick in (min, max))
    return _scatter(
        "forgetting",
        "Gain against forgetting",
        rows,
        across="bits per byte, target language",
        up="change in the base language",
        caption="Further left: more learned; lower: less forgotten. Bits per byte.",
        label=f"The base language changes by {number(least['y'])} to {number(most['y'])} "
        f"bits per byte; least with {least['name']}.",
    )


def course_chart(study: StudyFiles) -> Chart | None:
    """Return held-out bits per byte in the target language against the bytes seen, a line for each group."""
    import altair as alt

    names = {cell: group.name for group in study.groups for cell in group.cells}
    sums: dict[tuple[str, int], list[float]] = {}
    for row in study.curves:
        if row["role"] == "target" and row["cell"] in names and math.isfinite(row["bits_per_byte"]):
            sums.setdefault((names[row["cell"]], int(row["bytes"])), []).append(
                row["bits_per_byte"]
            )
    if not sums:
        return None
    rows: list[dict[str, Any]] = [
        {"name": name, "seen": seen / 1e6, "value": sum(values) / len(values)}
        for (name, seen), values in sorted(sums.items(), key=lambda item: item[0][1])
    ]
    shown = list(dict.fromkeys(row["name"] for row in rows))
    ends = {name: [row["value"] for row in rows if row["name"] == name][-1] for name in shown}
    ranked = sorted(ends, key=ends.__getitem__)
    few = len(shown) <= LINES
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("seen:Q", title="text seen (MB)", axis=alt.Axis(tickCount=6)),
        y=alt.Y("value:Q", title="bits per byte", scale=alt.Scale(zero=False)),
        detail="name:N",
    )
    domain = shown if few else [ranked[0], ranked[-1]]
    colour = alt.Color(
        "name:N",
        title=None,
        scale=alt.Scale(domain=domain, range=_range(len(domain))),
        legend=alt.Legend(orient="bottom", columns=1, labelLimit=300),
    )
    layers = [
        base.mark_line(strokeWidth=1.5)
        .encode(color=colour)
        .transform_filter(alt.FieldOneOfPredicate("name", domain))
    ]
    if not few:
        layers.insert(0, base.mark_line(strokeWidth=0.7, color=GREY, opacity=0.5))
    languages = joined(
        [
            language_name(tag)
            for tag in dict.fromkeys(
                row["language"] for row in study.curves if row["role"] == "target"
            )
        ]
    )
    named = "" if few else " Named: the best and the worst at the end."
    return Chart(
        "course",
        "Bits per byte against text seen",
        f"Held-out {languages}; lower is better; means over seeds.{named}",
        f"Line chart of {len(shown)} courses up to {size(max(row['seen'] for row in rows) * 1e6)}; lowest at "
        f"the end: {ranked[0]}, {number(ends[ranked[0]])}; highest: {ranked[-1]}, {number(ends[ranked[-1]])}.",
        styled(layers[0] if few else alt.layer(*layers), 240),
    )


def _range(count: int) -> list[str]:
    return [COLOURS[place % len(COLOURS)] for place in range(count)]


def _pairs(
    groups: Sequence[Group], across: Wanted, up: Wanted, axes: Sequence[str]
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for group in groups:
        x, y = group.get(across), group.get(up)
        if x and y and math.isfinite(x.value) and math.isfinite(y.value):
            kind = ", ".join(str(group.labels[axis]) for axis in axes if axis in group.labels)
            rows.append(
                {
                    "x": x.value,
                    "y": y.value,
                    "low": y.low,
                    "high": y.high,
                    "name": group.name,
                    "kind": kind,
                }
            )
    return rows


def _scatter(
    name: str,
    title: str,
    rows: Sequence[dict[str, Any]],
    *,
    across: str,
    up: str,
    caption: str,
    label: str,
    joined_by_line: bool = False,
) -> Chart:
    import altair as alt

    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    base = alt.Chart(alt.Data(values=list(rows))).encode(
        x=alt.X("x:Q", title=across, scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=5)),
        y=alt.Y("y:Q", title=up, scale=alt.Scale(zero=False)),
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
    if joined_by_line:
        layers.insert(0, base.mark_line(strokeWidth=1.5).encode(color=colour, detail="kind:N"))
    return Chart(name, title, caption, f"{title}. {label}", styled(alt.layer(*layers), 220))
