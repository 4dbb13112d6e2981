"""The charts of a run: fertility, tokens against vocabulary size, and the training curve."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lingraft.display_text import language_name
from lingraft.formatting import join_words, number, percent, size
from lingraft.measurement import MetricChange, find_fertility
from lingraft.pipeline.run_files import RunFiles
from lingraft.report.charts import (
    BLUE,
    GREY,
    Chart,
    coloured_by,
    dashed_by,
    label_axis,
    styled,
    text_unit,
    wrapped,
)
from lingraft.report.context_charts import document_gain_chart, in_context_chart, position_chart
from lingraft.report.engine_chart import engine_chart

DASHES = {"held-out text": [4, 3], "training text": [1, 0]}
# Points of a smoothed and of a raw training curve; more cannot be distinguished at this width.
MAX_POINTS, MAX_RAW_POINTS = 120, 400
# A point of the smoothed curve is the mean of this share of the steps, and of at least 5 steps.
SMOOTHED_SHARE, MIN_REACH = 0.05, 2


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
    height = 58 * len(_distinct(bars, "language"))
    return Chart(
        "fertility",
        metric.capitalize(),
        f"Bar: {metric} of held-out text; shorter is better. Thin line: its 95% interval "
        "over documents.",
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
                "shown": number(measurement.value),
            }
            bars.append(bar)
    return bars, descriptions, metrics.pop() if len(metrics) == 1 else "tokens per unit"


def _distinct(points: Sequence[Mapping[str, Any]], field: str) -> list[str]:
    """Return the distinct values of a field, in the order of the points."""
    return list(dict.fromkeys(point[field] for point in points))


def _declare_fertility(data: list[dict[str, Any]], metric: str) -> Any:
    """Declare the bars, their intervals and their values."""
    import altair as alt

    subjects = _distinct(data, "model")
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


def training_chart(run: RunFiles) -> Chart | None:
    """Return bits per byte on training and held-out text against bytes of training text."""
    points = []
    longest = 0
    for point in (*_training_points(run), *_heldout_points(run)):
        if math.isfinite(point["value"]):
            points.append(point)
            longest = max(longest, point["bytes"])
    if not points:
        return None
    unit, bytes_per_unit = text_unit(longest)
    for point in points:
        point["seen"] = point["bytes"] / bytes_per_unit
    return Chart(
        "training",
        "Training curve",
        _explain_training(points),
        "Line chart of bits per byte against bytes of training text. " + _describe_curves(points),
        styled(_declare_training(points, unit), 230),
    )


def _explain_training(points: Sequence[Mapping[str, Any]]) -> str:
    """Return what the lines of the training chart are, those that it has."""
    kinds = _distinct(points, "kind")
    parts = ["Lower is better."]
    if "training text" in kinds:
        mean = f"each point the mean of {percent(SMOOTHED_SHARE)} of the steps, at least 5"
        parts.append(f"Solid line: training text, {mean}; faint line: single steps.")
    if "held-out text" in kinds:
        parts.append("Dots: held-out text.")
    return " ".join(parts)


def _declare_training(points: list[dict[str, Any]], unit: str) -> Any:
    """Declare smoothed and single steps of training, and dots where held-out text was scored."""
    import altair as alt

    languages = _distinct(points, "language")
    base = alt.Chart(alt.Data(values=points)).encode(
        x=alt.X(
            "seen:Q",
            title=f"training text read ({unit})",
            axis=alt.Axis(tickCount=6),
            scale=alt.Scale(zero=True),
        ),
        y=alt.Y("value:Q", title="bits per byte", scale=alt.Scale(zero=False)),
        color=coloured_by("language", languages),
    )
    kinds = _distinct(points, "kind")
    dash = dashed_by("kind", {name: dash for name, dash in DASHES.items() if name in kinds})
    raw = base.mark_line(strokeWidth=1, opacity=0.35).transform_filter("datum.kind == 'step'")
    lines = base.mark_line(strokeWidth=2).encode(strokeDash=dash)
    dots = base.mark_circle(size=55, opacity=1).transform_filter("datum.kind == 'held-out text'")
    return alt.layer(raw, lines.transform_filter("datum.kind != 'step'"), dots)


def _training_points(run: RunFiles) -> Iterator[dict[str, Any]]:
    target = join_words(list(map(language_name, run.targets)))
    fields = [
        ("target_bits_per_byte", target),
        ("replay_bits_per_byte", language_name(run.base or "replay")),
    ]
    steps = []
    is_split = False
    for step in run.training or ():
        if "heldout" not in step and "bytes" in step:
            steps.append(step)
            is_split = is_split or "target_bits_per_byte" in step
    # Without replay the log has one value for all text.
    if not is_split:
        fields = [("bits_per_byte", target)]
    for field, language in fields:
        logged = [step for step in steps if step.get(field) is not None]
        values = [step[field] for step in logged]
        curves = (
            ("step", values, MAX_RAW_POINTS),
            ("training text", smoothed(values), MAX_POINTS),
        )
        for kind, curve, most in curves:
            # Rounded up, so that there are at most so many points. The last step is always shown.
            stride = -(-len(curve) // most) or 1
            for place in range((len(curve) - 1) % stride, len(curve), stride):
                seen = logged[place]["bytes"]
                yield {"language": language, "kind": kind, "bytes": seen, "value": curve[place]}


def smoothed(values: Sequence[float]) -> list[float]:
    """Return the moving average over `SMOOTHED_SHARE` of the values, centred on each of them.

    Near both ends the window is smaller, so that the curve starts and ends at measured values.

    >>> smoothed([4.0, 2.0, 0.0, 8.0, 1.0, 3.0])
    [4.0, 2.0, 3.0, 2.8, 4.0, 3.0]
    """
    half = max(MIN_REACH, int(len(values) * SMOOTHED_SHARE / 2))
    means = []
    for place in range(len(values)):
        reach = min(half, place, len(values) - 1 - place)
        window = values[place - reach : place + reach + 1]
        means.append(sum(window) / len(window))
    return means


def _heldout_points(run: RunFiles) -> Iterator[dict[str, Any]]:
    for record in run.training or ():
        scores: Mapping[str, float] = record.get("heldout") or {}
        for language, value in scores.items():
            yield {
                "language": language_name(language),
                "kind": "held-out text",
                "bytes": record["bytes"],
                "value": value,
            }


def _describe_curves(points: Sequence[Mapping[str, Any]]) -> str:
    """Return the first and last value of each held-out curve, in words."""
    curves: dict[str, list[Mapping[str, Any]]] = {}
    for point in points:
        if point["kind"] == "held-out text":
            curves.setdefault(point["language"], []).append(point)
    descriptions = []
    for language, curve in curves.items():
        first, last = number(curve[0]["value"]), number(curve[-1]["value"])
        descriptions.append(f"{language} from {first} to {last} after {size(curve[-1]['bytes'])}")
    if not descriptions:
        return "No held-out text was scored during training."
    return f"Held-out: {join_words(descriptions)}."
