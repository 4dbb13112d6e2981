"""The training curve of a run: bits per byte on training and held-out text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lingraft.display_text import language_name
from lingraft.formatting import join_words, number, percent, size
from lingraft.pipeline.run_files import RunFiles
from lingraft.report.charts import Chart, coloured_by, dashed_by, open_scale, styled, text_unit

DASHES = {"held-out text": [4, 3], "training text": [1, 0]}
# Points of a smoothed and of a raw training curve; more cannot be distinguished at this width.
MAX_POINTS, MAX_RAW_POINTS = 120, 400
# A point of the smoothed curve is the mean of this share of the steps, and of at least 5 steps.
SMOOTHED_SHARE, MIN_REACH = 0.05, 2


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
    kinds = list(dict.fromkeys(point["kind"] for point in points))
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

    languages = list(dict.fromkeys(point["language"] for point in points))
    scale = open_scale(point["value"] for point in points)
    base = alt.Chart(alt.Data(values=points)).encode(
        x=alt.X(
            "seen:Q",
            title=f"training text read ({unit})",
            axis=alt.Axis(tickCount=6),
            scale=alt.Scale(zero=True),
        ),
        y=alt.Y("value:Q", title="bits per byte", scale=scale),
        color=coloured_by("language", languages),
    )
    kinds = list(dict.fromkeys(point["kind"] for point in points))
    dash = dashed_by("kind", {name: dash for name, dash in DASHES.items() if name in kinds})
    raw = base.mark_line(strokeWidth=1, opacity=0.35).transform_filter("datum.kind == 'step'")
    lines = base.mark_line(strokeWidth=2).encode(strokeDash=dash)
    dots = base.mark_circle(size=55, opacity=1).transform_filter("datum.kind == 'held-out text'")
    return alt.layer(raw, lines.transform_filter("datum.kind != 'step'"), dots)


def _training_points(run: RunFiles) -> Iterator[dict[str, Any]]:
    for language, logged in _logged_steps(run).items():
        values = [value for _, value in logged]
        curves = (
            ("step", values, MAX_RAW_POINTS),
            ("training text", smoothed(values), MAX_POINTS),
        )
        for kind, curve, most in curves:
            # Rounded up, so that there are at most so many points. The last step is always shown.
            stride = -(-len(curve) // most) or 1
            for place in range((len(curve) - 1) % stride, len(curve), stride):
                seen, value = logged[place][0], curve[place]
                yield {"language": language, "kind": kind, "bytes": seen, "value": value}


def _logged_steps(run: RunFiles) -> dict[str, list[tuple[int, float]]]:
    """Return the steps with text of each language: the bytes read so far, and bits per byte."""
    all_targets = join_words(list(map(language_name, run.targets)))
    steps = [step for step in run.training or () if "heldout" not in step and "bytes" in step]
    # Without replay the log may have one value for all text.
    is_split = any("target_bits_per_byte" in step for step in steps)
    of_targets = "target_bits_per_byte" if is_split else "bits_per_byte"
    logged: dict[str, list[tuple[int, float]]] = {}
    for step in steps:
        values = {all_targets: step.get(of_targets)}
        if "targets" in step:
            values = {
                language_name(tag): own["bits_per_byte"] for tag, own in step["targets"].items()
            }
        values[language_name(run.base or "replay")] = step.get("replay_bits_per_byte")
        for language, value in values.items():
            if value is not None:
                logged.setdefault(language, []).append((step["bytes"], value))
    return logged


def smoothed(values: Sequence[float]) -> list[float]:
    """Return the moving average over `SMOOTHED_SHARE` of the values, centred on each of them.

    At both ends, half of the window is left: a single step would end the curve with a spike.

    >>> smoothed([4.0, 2.0, 0.0, 8.0, 1.0, 3.0])
    [2.0, 3.5, 3.0, 2.8, 3.0, 4.0]
    """
    half = max(MIN_REACH, int(len(values) * SMOOTHED_SHARE / 2))
    means = []
    for place in range(len(values)):
        window = values[max(0, place - half) : place + half + 1]
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
