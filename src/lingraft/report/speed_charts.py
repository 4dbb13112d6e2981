"""The chart of an axis that shows speed and result: text needed, and the end of training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lingraft.formatting import signed
from lingraft.report.charts import BLUE, GREY, Chart, label_axis, styled, wrapped
from lingraft.report.study_files import StudyFiles, short
from lingraft.studies.text_needed import describe


def speed_charts(study: StudyFiles) -> list[Chart]:
    """Return a chart for each axis whose values read the same text; none of an older study."""
    by_axis: dict[str, list[Mapping[str, Any]]] = {}
    for row in study.record.get("text_needed", ()):
        by_axis.setdefault(row["axis"], []).append(row)
    charts = []
    for axis, rows in by_axis.items():
        if any(row["share"] is not None for row in rows):
            charts.append(_speed_chart(f"speed-{study.axes.index(axis)}", axis, rows))
    return charts


def _speed_chart(name: str, axis: str, rows: Sequence[Mapping[str, Any]]) -> Chart:
    import altair as alt

    first = rows[0]["first"]
    points: list[dict[str, Any]] = [{"label": wrapped(first), "x": 100.0, "shown": "100%"}]
    missing, descriptions = [], []
    for row in rows:
        end = signed(row["end"], *(row["end_interval"] or (None, None)))
        descriptions.append(f"{row['second']}: {describe(row)}, {end} bits per byte at the end")
        if row["share"] is None:
            missing.append(f"{row['second']} ({describe(row)})")
            continue
        shown = f"{row['share']:.0%}, then {row['end']:+.3f}"
        point = {"label": wrapped(row["second"]), "x": 100 * row["share"], "shown": shown}
        if row["share_interval"]:
            point["low"], point["high"] = (100 * bound for bound in row["share_interval"])
        points.append(point)
    points.sort(key=lambda point: float(point["x"]))
    labels = [point["label"] for point in points]
    base = alt.Chart(alt.Data(values=points)).encode(
        y=alt.Y("label:N", title=None, sort=labels, axis=label_axis())
    )
    across = alt.X(
        "x:Q",
        title="text needed (%)",
        # Room for the numbers of the first and the last dot.
        scale=alt.Scale(zero=False, padding=60),
        axis=alt.Axis(tickCount=5),
    )
    bars = base.mark_rule(strokeWidth=2, color=GREY).encode(x="low:Q", x2="high:Q")
    layers = [
        bars.transform_filter("isValid(datum.high)"),
        base.mark_circle(size=90, color=BLUE, opacity=1).encode(x=across),
        base.mark_text(dy=-11).encode(x=across, text="shown:N"),
    ]
    caption = (
        f"Text needed to be as low as {first} at its end; less is faster. Then: bits per byte at "
        "the end, compared with it; lower is better. Means over seeds, after averaging over the "
        "other axes. Bar: the 95% interval over seeds."
    )
    if missing:
        caption += f" Left out, because some runs never were as low: {', '.join(missing)}."
    return Chart(
        name,
        f"Speed and result by {short(axis)}",
        caption,
        f"Text needed, and bits per byte at the end. {'; '.join(descriptions)}.",
        styled(alt.layer(*layers), 48 * len(points) + 20),
    )
