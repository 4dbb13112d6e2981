"""The charts of an axis that show speed and result: text needed, before and after training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from lingraft.formatting import counted, signed, signed_fixed
from lingraft.report.chart_labels import line_labels
from lingraft.report.charts import PADDING, Chart, difference_dots, interval_dots
from lingraft.report.study_files import StudyFiles
from lingraft.report.study_names import short
from lingraft.studies.text_needed import TextNeeded, describe

BEFORE, AFTER = "before training", "after training"
DIFFERENCE = "difference in bits per byte"


def speed_charts(study: StudyFiles) -> Iterator[Chart]:
    """Yield the charts of each axis whose values read the same text."""
    by_axis: dict[str, list[TextNeeded]] = {}
    for needed in study.text_needed:
        by_axis.setdefault(needed.axis, []).append(needed)
    for axis, compared in by_axis.items():
        place = study.axes.index(axis)
        note = study.diverged_note([axis])
        yield _result_chart(f"result-{place}", axis, compared, note)
        if any(needed.share is not None for needed in compared):
            yield _speed_chart(f"speed-{place}", axis, compared, note)


def _result_chart(name: str, axis: str, compared: Sequence[TextNeeded], note: str) -> Chart:
    """Return bits per byte compared with the first value, before and after training."""
    first = compared[0].first
    points: list[dict[str, Any]] = []
    descriptions = []
    ordered = sorted(compared, key=lambda needed: needed.end)
    labels = line_labels(needed.second for needed in ordered)
    for needed in ordered:
        label = labels[needed.second]
        low, high = needed.end_interval or (None, None)
        shown = signed_fixed(needed.end)
        points.append({"label": label, "kind": BEFORE, "value": needed.start, "shown": ""})
        points.append(
            {"label": label, "kind": AFTER, "value": needed.end, "low": low, "high": high}
            | {"shown": shown}
        )
        descriptions.append(
            f"{needed.second} {signed(needed.start)} before and "
            f"{signed(needed.end, low, high)} after, text needed {describe(needed)}"
        )
    column, right = {}, ""
    shares = {labels[needed.second]: needed.share for needed in ordered}
    if any(shares.values()):
        column = {label: f"{share:.0%}" if share else "–" for label, share in shares.items()}
        right = f" Right: the text needed for the result of {first}, in percent of its text"
        right += "." if all(shares.values()) else "; –: the curves never meet."
    return Chart(
        name,
        f"Before and after training by {short(axis)}",
        f"Bits per byte on held-out text of the target language, compared with {first}, which is "
        f"the dashed line; left of it is better. {_explain(compared)}{right}{note}",
        f"Bits per byte compared with {first}: {'; '.join(descriptions)}.",
        difference_dots(
            points,
            DIFFERENCE,
            labels.values(),
            kinds=(BEFORE, AFTER),
            column=column,
            column_title="text needed",
        ),
    )


def _explain(compared: Sequence[TextNeeded], mean: str = "mean") -> str:
    """Return what dots and bars are."""
    of = _counts([needed.seeds for needed in compared], "seed")
    languages = [needed.languages for needed in compared]
    if max(languages) > 1:
        of = f"{_counts(languages, 'language')} and {of}"
    if all(each.end_interval is None for each in compared):
        return f"Dot: the {mean} over {of}, without an interval."
    return (
        f"Dot: the {mean} over {of} of runs that differ in nothing else. Bar: its 95% interval "
        "over seeds, after averaging over the rest."
    )


def _counts(numbers: Sequence[int], noun: str) -> str:
    """Return how many there are of each value, which differs where cells failed.

    >>> _counts([3, 3], "seed"), _counts([3, 1], "seed")
    ('3 seeds', '1 to 3 seeds')
    """
    least, most = min(numbers), max(numbers)
    return counted(most, noun) if least == most else f"{least} to {counted(most, noun)}"


def _speed_chart(name: str, axis: str, compared: Sequence[TextNeeded], note: str) -> Chart:
    first = compared[0].first
    labels = line_labels([first, *(needed.second for needed in compared)])
    points: list[dict[str, Any]] = [{"label": labels[first], "value": 100.0, "shown": "100%"}]
    missing, descriptions = [], []
    for needed in compared:
        descriptions.append(f"{needed.second} {describe(needed)}")
        if needed.share is None:
            missing.append(f"{needed.second} ({describe(needed)})")
            continue
        shown = f"{needed.share:.0%}"
        point = {"label": labels[needed.second], "value": 100 * needed.share, "shown": shown}
        if needed.share_interval:
            point["low"], point["high"] = (100 * bound for bound in needed.share_interval)
        points.append(point)
    points.sort(key=lambda point: float(point["value"]))
    caption = (
        f"Text needed for the result of {first}, which is the dashed line; less is faster. "
        f"{_explain(compared, 'geometric mean')}"
    )
    if missing:
        caption += f" Left out, because the curves never meet: {', '.join(missing)}."
    caption += note
    return Chart(
        name,
        f"Text needed by {short(axis)}",
        caption,
        f"Text needed for the result of {first}: {'; '.join(descriptions)}.",
        interval_dots(
            points,
            "text needed (%)",
            labels=[point["label"] for point in points],
            padding=PADDING,
            line=100.0,
            logarithmic=True,
        ),
    )
