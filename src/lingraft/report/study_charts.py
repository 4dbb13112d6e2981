"""The charts of a study: each axis, speed, all choices, and those within one target language.

In the chart of an axis a point is a value of that axis, averaged over the other axes; in a chart of
choices it is a value of each axis, averaged over languages. All points are of the same languages.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from lingraft.formatting import number, signed, signed_fixed, with_interval
from lingraft.report.chart_labels import line_labels
from lingraft.report.charts import Chart, difference_dots, interval_dots
from lingraft.report.speed_charts import DIFFERENCE, speed_charts
from lingraft.report.study_files import AxisMean, StudyFiles
from lingraft.report.study_language_charts import language_charts
from lingraft.report.study_names import language_names, short
from lingraft.report.study_numbers import BASE_CHANGE, BITS
from lingraft.studies.statistics import joint_interval

OVERLAP = "The differences below are paired by seed, so they can be clear where bars overlap."
CROSSING = "Runs of the same seed are compared. A bar that crosses the line shows no difference."
UNDECIDED, DECIDED = "undecided", "decided"
TOGETHER = "Decided: it would not cross the line if all in the chart were tested together."
MOST_CHOICES = 16
"""A chart with a line for each choice would be too long beyond."""


def study_charts(study: StudyFiles) -> list[Chart]:
    """Return every chart that the study has numbers for."""
    candidates = [axis_chart(study, axis) for axis in study.choice_axes]
    candidates += [*speed_charts(study), learned_chart(study), kept_chart(study)]
    candidates += language_charts(study)
    return list(filter(None, candidates))


def axis_chart(study: StudyFiles, axis: str) -> Chart | None:
    """Return bits per byte in the target language by axis value, averaged over the other axes."""
    means = [mean for mean in study.means([axis], BITS) if math.isfinite(mean.value)]
    if len(means) < 2:
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
        f"{language_names(means[0].targets)}, {study.model_of(BITS)}; lower is better. "
        f"{means[0].where}{_explain_bars(means)} The answer above says which differences the "
        f"intervals support.{study.diverged_note([axis])}",
        f"Bits per byte by {axis}: {'; '.join(descriptions)}.",
        interval_dots(points, "bits per byte", labels=list(labels.values())),
    )


def _explain_bars(means: Sequence[AxisMean], advice: str = OVERLAP) -> str:
    """Return what dots and bars are, where numbers may have been averaged over other axes."""
    after = " after averaging over the other axes" if len(means[0].targets) > 1 else ""
    fewest, most = min(mean.seeds for mean in means), max(mean.seeds for mean in means)
    seeds = f"{fewest} seeds" if fewest == most else f"{fewest} to {most} seeds"
    if most == 1:
        return f"Dot: the value{after}, with one seed, so there are no bars."
    if not any(mean.interval for mean in means):
        return f"Dot: the mean over {seeds}{after}; the seed changes nothing, so it has no bar."
    bar = f"Bar: its 95% interval over seeds, not over axes. {advice}"
    return f"Dot: the mean over {seeds}{after}. {bar}"


def learned_chart(study: StudyFiles) -> Chart | None:
    """Return bits per byte in the target language by choice, compared with the first one.

    With one axis and curves, the chart of speed and result shows the same.
    """
    if len(study.choice_axes) < 2 and study.text_needed:
        return None
    if study.axes_on_different_text.intersection(study.choice_axes):
        return None
    means = study.means(study.choice_axes, BITS, compared=True)
    title = f"Target language compared with {means[0].label}" if means else ""
    # The first one itself is the line.
    note = study.diverged_note(study.choice_axes)
    return _choices_chart("learned", means[1:], title, CROSSING, note)


def kept_chart(study: StudyFiles) -> Chart | None:
    """Return the change of the base language, by choice."""
    means = study.means(study.choice_axes, BASE_CHANGE)
    title = "Base language compared with the base model"
    note = study.diverged_note(study.choice_axes)
    return _choices_chart("kept", means, title, OVERLAP, note)


def _choices_chart(
    name: str, means: Sequence[AxisMean], title: str, advice: str, note: str
) -> Chart | None:
    finite = [mean for mean in means if math.isfinite(mean.value)]
    if not 1 <= len(finite) <= MOST_CHOICES:
        return None
    labels = line_labels(mean.label for mean in finite)
    points, descriptions = [], []
    tests = sum(mean.interval is not None for mean in finite)
    for mean in finite:
        low, high = mean.interval or (None, None)
        kind = decided(mean.interval, seeds=mean.seeds, tests=tests)
        point = {"label": labels[mean.label], "value": mean.value, "low": low, "high": high}
        points.append({**point, "shown": signed_fixed(mean.value), "kind": kind})
        descriptions.append(f"{mean.label} {signed(mean.value, low, high)}")
    return Chart(
        name,
        title,
        f"Target language: {language_names(finite[0].targets)}. Difference in bits per byte; left "
        f"is better. {finite[0].where}{_explain_bars(finite, f'{advice} {TOGETHER}')}{note}",
        f"{title}: {'; '.join(descriptions)}.",
        difference_dots(
            points,
            DIFFERENCE,
            labels.values(),
            kinds=(UNDECIDED, DECIDED) if tests else (),
        ),
    )


def decided(interval: tuple[float, float] | None, *, seeds: int, tests: int) -> str:
    """Return whether a difference is decided if so many are tested together (Bonferroni)."""
    if interval is None:
        return UNDECIDED
    low, high = joint_interval(*interval, seeds=seeds, tests=tests)
    return UNDECIDED if low <= 0 <= high else DECIDED
