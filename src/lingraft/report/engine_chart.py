"""The chart of the loss that another engine logged while it trained the model of a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from lingraft.formatting import number
from lingraft.pipeline.run_files import RunFiles
from lingraft.report.charts import BLUE, GREY, Chart, coloured_by, open_scale, styled

KINDS = {"loss": "training text", "heldout_loss": "held-out text of the engine"}


def engine_chart(run: RunFiles) -> Chart | None:
    """Return the loss against the steps; `None` if lingraft trained, or nothing was logged."""
    points = list(_points(run))
    if not points or "received" not in run.record:
        return None
    return Chart(
        "loss",
        "Loss of the engine",
        "Nats per token as the engine logged them; lower is better. They cannot be compared with "
        "bits per byte.",
        f"Line chart of the loss against steps: {'; '.join(_describe(points))}.",
        styled(_declare(points), 200),
    )


def _points(run: RunFiles) -> Iterator[dict[str, Any]]:
    for field, kind in KINDS.items():
        for record in run.training or ():
            if field in record:
                yield {"step": record["step"], "value": record[field], "kind": kind}


def _describe(points: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield the first and the last loss of each kind of text, in words."""
    for kind in dict.fromkeys(point["kind"] for point in points):
        line = [point for point in points if point["kind"] == kind]
        ends = [
            f"{number(point['value'])} at step {point['step']}" for point in (line[0], line[-1])
        ]
        yield f"{kind} {', '.join(ends)}"


def _declare(points: list[dict[str, Any]]) -> Any:
    """Declare a line for each kind of text."""
    import altair as alt

    kinds = list(dict.fromkeys(point["kind"] for point in points))
    scale = open_scale(point["value"] for point in points)
    return (
        alt.Chart(alt.Data(values=points))
        .mark_line(strokeWidth=2, point=True)
        .encode(
            x=alt.X("step:Q", title="step", axis=alt.Axis(tickCount=6)),
            y=alt.Y("value:Q", title="loss (nats per token)", scale=scale),
            color=coloured_by("kind", kinds, [BLUE, GREY]),
        )
    )
