"""The charts of what models learn from their context: by position, and during training."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from lingraft.display_text import language_name
from lingraft.evaluation.byte_positions import EARLY, IN_CONTEXT_GAINS, position_spans
from lingraft.evaluation.in_context_probes import KNOWN
from lingraft.formatting import join_words, number, percent
from lingraft.measurement import MIN_DOCUMENTS, MetricChange
from lingraft.measurement_text import confidence_levels
from lingraft.model_card.markdown import stage_notes
from lingraft.pipeline.evaluation_stages import CURVE_LEVEL
from lingraft.pipeline.run_files import RunFiles
from lingraft.report.charts import Chart, coloured_by, dashed_by, open_scale, styled, text_unit

DASHES = {"before": [4, 3], "after": [1, 0]}
FEW = f"Hollow: fewer than {MIN_DOCUMENTS} documents are this long."


def position_chart(table: Sequence[MetricChange]) -> Chart | None:
    """Return bits per byte against the position in a document, before and after, by language."""
    points = list(_position_points(table))
    if len({point["from"] for point in points}) < 2:
        return None
    explained = "Lower is better. Dashed: before; solid: after."
    if level := confidence_levels(point["confidence"] for point in points):
        explained += f" Vertical lines: {level} intervals over documents."
    if any(point["few"] for point in points):
        explained += f" {FEW}"
    return Chart(
        "positions",
        "Bits per byte by position in the document",
        explained,
        f"Line chart of bits per byte by position: {join_words(list(_describe(points)))}.",
        styled(_declare_positions(points), 230),
    )


def _position_points(table: Sequence[MetricChange]) -> Iterator[dict[str, Any]]:
    spans = position_spans()
    for entry in table:
        span = spans.get(entry.metric)
        before, after = entry.before, entry.last
        if span is None or before is None or after is None:
            continue
        rows = {"before": before, "after": after} if after is not before else {"after": after}
        for model, row in rows.items():
            yield {
                "language": language_name(entry.language),
                "model": model,
                "from": span[0],
                # The middle of a span on an axis of powers of two.
                "position": math.sqrt(max(span[0], span[1] / 4) * span[1]),
                "value": row.value,
                "low": row.low,
                "high": row.high,
                "confidence": row.confidence,
                "few": row.n < MIN_DOCUMENTS,
            }


def _describe(points: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield for each language the first and the last value of each model, in words."""
    lines: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for point in points:
        lines.setdefault((point["language"], point["model"]), []).append(point)
    for (language, model), line in lines.items():
        yield (
            f"{language} {model} {number(line[0]['value'])} at the beginning, "
            f"{number(line[-1]['value'])} from byte {line[-1]['from']:,}"
        )


def _declare_positions(points: list[dict[str, Any]]) -> Any:
    import altair as alt

    languages = list(dict.fromkeys(point["language"] for point in points))
    ends = [point[name] for point in points for name in ("value", "low", "high")]
    scale = open_scale(ends)
    base = alt.Chart(alt.Data(values=points)).encode(
        x=alt.X(
            "position:Q",
            title="position in the document (bytes)",
            scale=alt.Scale(type="log", base=2, nice=False),
            axis=alt.Axis(tickCount=8, format=",d"),
        ),
        y=alt.Y("value:Q", title="bits per byte", scale=scale),
        color=coloured_by("language", languages),
    )
    models = {point["model"] for point in points}
    dash = dashed_by("model", {name: dash for name, dash in DASHES.items() if name in models})
    intervals = base.mark_rule(opacity=0.4).encode(y="low:Q", y2="high:Q")
    return alt.layer(
        intervals.transform_filter("isValid(datum.low)"),
        base.mark_line(strokeWidth=2).encode(strokeDash=dash),
        *_dots(base),
    )


def _dots(base: Any) -> list[Any]:
    """Return the points of a chart; they are hollow where `few` is true."""
    import altair as alt

    hollow = base.mark_point(size=45, opacity=1).encode(shape=alt.value("circle"))
    filled = base.mark_circle(size=45, opacity=1)
    return [hollow.transform_filter("datum.few"), filled.transform_filter("!datum.few")]


def in_context_chart(run: RunFiles) -> Chart | None:
    """Return the gains of the probes against bytes of training text."""
    points = [point for point in _gain_points(run) if point["probe"] in KNOWN]
    return _gain_chart(
        points,
        "in-context",
        "Learning from context during training",
        "Higher is better; 0 is a model that does not use its context. Vertical lines: "
        f"{_curve_level(run)}intervals over the texts of a probe.",
    )


def document_gain_chart(run: RunFiles) -> Chart | None:
    """Return the in-context gain of held-out documents against bytes of training text."""
    points = []
    for point in _gain_points(run):
        metric, _, language = point["probe"].rpartition(" in ")
        if metric in IN_CONTEXT_GAINS:
            begin, end = IN_CONTEXT_GAINS[metric]
            label = f"{language_name(language)}, bytes {begin:,} to {end:,}"
            points.append({**point, "probe": label})
    return _gain_chart(
        points,
        "in-context-documents",
        "In-context gain of documents during training",
        f"Bits per byte at bytes {EARLY[0]} to {EARLY[1]} of a document minus those at later "
        "bytes; 0 is a model that does not use its context. It also falls, without a loss, in a "
        f"language that is learned. Vertical lines: {_curve_level(run)}intervals over documents. "
        f"{FEW if any(point['few'] for point in points) else ''}".strip(),
    )


def _curve_level(run: RunFiles) -> str:
    """Return the level of the intervals of a held-out curve; "" if the training noted none."""
    level = stage_notes(run.record, "training").get(CURVE_LEVEL)
    return f"{percent(level)} " if level else ""


def _gain_points(run: RunFiles) -> Iterator[dict[str, Any]]:
    """Yield every gain of the held-out curve."""
    for record in run.training or ():
        for probe, gain in (record.get("in_context") or {}).items():
            yield {
                "probe": probe,
                "bytes": record["bytes"],
                "value": gain["gain"],
                "few": gain.get("n", MIN_DOCUMENTS) < MIN_DOCUMENTS,
                **gain,
            }


def _gain_chart(
    points: Sequence[dict[str, Any]], name: str, title: str, caption: str
) -> Chart | None:
    if len({point["bytes"] for point in points}) < 2:
        return None
    unit, bytes_per_unit = text_unit(max(point["bytes"] for point in points))
    points = [{**point, "seen": point["bytes"] / bytes_per_unit} for point in points]
    described = []
    for probe in dict.fromkeys(point["probe"] for point in points):
        line = [point["value"] for point in points if point["probe"] == probe]
        described.append(f"{probe} from {number(line[0])} to {number(line[-1])}")
    return Chart(
        name,
        title,
        caption,
        f"Line chart of gains in bits per byte during training: {join_words(described)}.",
        styled(_declare_gains(points, unit), 200),
    )


def _declare_gains(points: list[dict[str, Any]], unit: str) -> Any:
    import altair as alt

    probes = list(dict.fromkeys(point["probe"] for point in points))
    base = alt.Chart(alt.Data(values=points)).encode(
        x=alt.X("seen:Q", title=f"training text read ({unit})", axis=alt.Axis(tickCount=6)),
        y=alt.Y("value:Q", title="gain (bits per byte)", scale=alt.Scale(zero=True)),
        color=coloured_by("probe", probes),
    )
    return alt.layer(
        base.mark_rule(opacity=0.4).encode(y="low:Q", y2="high:Q"),
        base.mark_line(strokeWidth=2),
        *_dots(base),
    )
