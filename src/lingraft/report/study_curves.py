"""The training curves of a study: held-out bits per byte against training text, by group."""

from __future__ import annotations

import math
from collections.abc import Mapping
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lingraft.display_text import language_name
from lingraft.formatting import join_words, number, size
from lingraft.report.charts import COLOURS, GREY, Chart, open_scale, palette, styled, text_unit
from lingraft.report.study_files import StudyFiles

# Curves with a colour and a name. If there are more, only the best and the worst have one.
MAX_COLOURED_CURVES = len(COLOURS)


def curve_chart(study: StudyFiles) -> Chart | None:
    """Return the chart of the target language, or `None` if no held-out text was scored."""
    points = _curve_points(study)
    if not points:
        return None
    # The points are in the order of training, so the last one of a name is its end.
    last = {point["name"]: point["value"] for point in points}
    names = list(last)
    # The curve of a run that diverged stops where it still had numbers, which is no end.
    diverged = set()
    for group in study.groups:
        if study.diverged.intersection(group.cells):
            diverged.add(group.name(study.choice_axes))
    ended = [name for name in names if name not in diverged]
    ranked = sorted(ended or names, key=last.__getitem__)
    best, worst = ranked[0], ranked[-1]
    few = len(names) <= MAX_COLOURED_CURVES
    languages: dict[str, None] = {}  # a set in the order of the curves
    for row in study.curves:
        if row["role"] == "target":
            languages[language_name(row["language"])] = None
    named = "" if few else " Named: the best and the worst at the end."
    longest = max(point["bytes"] for point in points)
    unit, bytes_per_unit = text_unit(longest)
    for point in points:
        point["seen"] = point["bytes"] / bytes_per_unit
    declared = _declare_curves(points, unit, names if few else [best, worst], others=not few)
    return Chart(
        "course",
        "Training curves",
        f"Held-out {join_words(list(languages))}; lower is better; means over seeds.{named}"
        f"{_diverged_note(study)}",
        f"Line chart of {len(names)} training curves up to {size(longest)}; lowest at the end: "
        f"{best}, {number(last[best])}; highest: {worst}, {number(last[worst])}.",
        styled(declared, 240),
    )


def _diverged_note(study: StudyFiles) -> str:
    note = study.diverged_note(study.choice_axes)
    return note.replace("Diverged, and left out:", "Diverged, so that the curve stops:")


def _curve_points(study: StudyFiles) -> list[dict[str, Any]]:
    """Return the mean over the cells of a group at each point of its training."""
    names, axes = {}, study.choice_axes
    for group in study.groups:
        for cell in group.cells:
            names[cell] = group.name(axes)
    runs: dict[str, dict[tuple[str, str], dict[int, tuple[int, float]]]] = {}
    for row in study.curves:
        if row["role"] == "target" and row["cell"] in names:
            of_name = runs.setdefault(names[row["cell"]], {})
            run = of_name.setdefault((row["cell"], row["language"]), {})
            # Of two points at one step, the last one counts: the first was before merging back.
            run[row["step"]] = row["bytes"], row["bits_per_byte"]
    points = []
    for name, of_name in runs.items():
        # At the shares of the training where the run with the fewest points has one: with another
        # seed, a training may have another number of steps, and one that continued a shorter
        # training has the points of that one, too.
        fewest = min(of_name.values(), key=len)
        shares = np.array(sorted(fewest)) / max(*fewest, 1)
        curves = [_at_shares(run, shares) for run in of_name.values()]
        for seen, value in np.mean(curves, axis=0):
            if math.isfinite(value):
                points.append({"name": name, "bytes": float(seen), "value": float(value)})
    return sorted(points, key=itemgetter("bytes"))


def _at_shares(
    run: Mapping[int, tuple[int, float]], shares: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return bytes and bits per byte after these shares of the steps, on lines between points."""
    steps = np.array(sorted(run), dtype=float)
    values = np.array([run[step] for step in sorted(run)], dtype=float)
    places = shares * steps[-1]
    return np.stack([np.interp(places, steps, column) for column in values.T], axis=1)


def _declare_curves(
    points: list[dict[str, Any]], unit: str, domain: list[str], *, others: bool
) -> Any:
    """Declare the curves: those in `domain` with colour and name, the others thin and grey."""
    import altair as alt

    scale = open_scale(point["value"] for point in points)
    base = alt.Chart(alt.Data(values=points)).encode(
        x=alt.X("seen:Q", title=f"training text read ({unit})", axis=alt.Axis(tickCount=6)),
        y=alt.Y("value:Q", title="bits per byte", scale=scale),
        detail="name:N",
    )
    colour = alt.Color(
        "name:N",
        title=None,
        scale=alt.Scale(domain=domain, range=palette(len(domain))),
        legend=alt.Legend(orient="bottom", columns=1),
    )
    curves = base.mark_line(strokeWidth=1.5).encode(color=colour)
    coloured = curves.transform_filter(alt.FieldOneOfPredicate("name", domain))
    if not others:
        return coloured
    return alt.layer(base.mark_line(strokeWidth=0.7, color=GREY, opacity=0.5), coloured)
