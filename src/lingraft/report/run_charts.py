"""The charts of a run, and two of them: fertility, and tokens against vocabulary size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from lingraft.display_text import language_name
from lingraft.formatting import number, percent
from lingraft.measurement import MetricChange, find_fertility
from lingraft.measurement_text import confidence_levels
from lingraft.pipeline.run_files import RunFiles
from lingraft.report.chart_labels import label_axis, wrapped
from lingraft.report.charts import BLUE, GREY, Chart, coloured_by, styled
from lingraft.report.context_charts import document_gain_chart, in_context_chart, position_chart
from lingraft.report.engine_chart import engine_chart
from lingraft.report.training_chart import training_chart


def charts(run: RunFiles, table: Sequence[MetricChange]) -> list[Chart]:
    """Return every chart that the run has numbers for."""
    candidates = (
        fertility_chart(run, table),
        vocabulary_chart(run),
        training_chart(run),
        engine_chart(run),
        in_context_chart(run),
        document_gain_chart(run),
        position_chart(table),
    )
    return list(filter(None, candidates))


def fertility_chart(run: RunFiles, table: Sequence[MetricChange]) -> Chart | None:
    """Return bars of tokens per word, syllable or character, source and adapted, by language."""
    bars, descriptions, metric = _fertility_bars(run, table)
    if not bars:
        return None
    height = 58 * len({bar["language"] for bar in bars})
    explained = f"Bar: {metric} of held-out text; shorter is better."
    if level := confidence_levels(bar["confidence"] for bar in bars):
        explained += f" Thin line: its {level} interval over documents."
    return Chart(
        "fertility",
        metric.capitalize(),
        explained,
        f"Bar chart of {metric}: " + "; ".join(descriptions),
        styled(_declare_fertility(bars, metric), height),
    )


def _fertility_bars(
    run: RunFiles, table: Sequence[MetricChange]
) -> tuple[list[dict[str, Any]], list[str], str]:
    """Return the data of the bars, a description of each language's bars, and their metric.

    If texts are counted in several units, the metric is "tokens per unit", and each bar names its
    unit.
    """
    bars: list[dict[str, Any]] = []
    descriptions = []
    found = [find_fertility(table, language) for language in run.languages]
    metrics = {entry.metric for entry in found if entry}
    for language, entry in zip(run.languages, found, strict=True):
        before, after = (entry.before, entry.last) if entry else (None, None)
        if before is None or after is None or not math.isfinite(after.value):
            continue
        name = language_name(language)
        if entry and len(metrics) > 1:
            name += entry.metric.replace("tokens per", ", per")
        descriptions.append(f"{name} {number(before.value)} before, {number(after.value)} after")
        for measurement in (before, after):
            bar = {
                "language": wrapped(name),
                "model": measurement.subject,
                "value": measurement.value,
                "low": measurement.low,
                "high": measurement.high,
                "confidence": measurement.confidence,
                "shown": number(measurement.value),
            }
            bars.append(bar)
    return bars, descriptions, metrics.pop() if len(metrics) == 1 else "tokens per unit"


def _declare_fertility(data: list[dict[str, Any]], metric: str) -> Any:
    """Declare the bars, their intervals and their values."""
    import altair as alt

    subjects = list(dict.fromkeys(bar["model"] for bar in data))
    widest, has_intervals = 0.0, False
    for bar in data:
        widest = max(widest, bar["value"], bar["high"] or 0)
        has_intervals = has_intervals or bar["high"] is not None
    base = alt.Chart(alt.Data(values=data)).encode(
        y=alt.Y("language:N", title=None, sort=None, axis=label_axis()),
        yOffset=alt.YOffset("model:N", sort=subjects),
    )
    across = alt.X(
        "value:Q",
        title=metric,
        scale=alt.Scale(domain=[0, widest * 1.18], nice=False),  # room for the number at the end
        axis=alt.Axis(tickCount=5),
    )
    colour = coloured_by("model", subjects, [GREY, BLUE])
    bars = base.mark_bar(cornerRadiusEnd=2).encode(x=across, color=colour)
    marks = [
        bars,
        base.mark_text(align="left", dx=4)
        .encode(x=alt.X("edge:Q"), text="shown:N")
        .transform_calculate(edge="max(datum.value, datum.high || 0)"),
    ]
    if has_intervals:
        intervals = base.mark_rule(strokeWidth=1.5).encode(x="low:Q", x2="high:Q")
        marks.insert(1, intervals.transform_filter("isValid(datum.high)"))
    return alt.layer(*marks)


def vocabulary_chart(run: RunFiles) -> Chart | None:
    """Return the tokens of the training text against the number of added tokens."""
    import altair as alt

    if run.curve is None or len(run.curve["added"]) < 2:
        return None
    added, tokens = run.curve["added"], run.curve["tokens"]
    chosen = len(run.splice.new) if run.splice else added[-1]
    points = []
    for size_added, count in zip(added, tokens, strict=True):
        share_left = count / tokens[0]
        points.append({"added": size_added, "share": share_left})
    line = (
        alt.Chart(alt.Data(values=points))
        .mark_line(strokeWidth=2, color=BLUE)
        .encode(
            x=alt.X("added:Q", title="tokens added", axis=alt.Axis(tickCount=6)),
            y=alt.Y(
                "share:Q",
                title="tokens of the text, before = 100%",
                scale=alt.Scale(domain=[0, 1]),
                axis=alt.Axis(format="%", tickCount=5),
            ),
        )
    )
    rule = (
        alt.Chart(alt.Data(values=[{"added": chosen}]))
        .mark_rule(color=GREY, strokeDash=[3, 3])
        .encode(x="added:Q")
    )
    share = percent(points[-1]["share"])
    description = f"{number(added[-1])} added tokens reduce the text to {share} of its tokens"
    return Chart(
        "vocabulary",
        "Tokens against vocabulary size",
        "Text that the tokens were learned from. Dashed line: the number of added tokens.",
        f"Line chart: {description}; {number(chosen)} were added.",
        styled(alt.layer(line, rule), 180),
    )
