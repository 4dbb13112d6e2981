"""What lingraft estimates beforehand against what a run on a GPU measured, as a Markdown table.

    python -m benchmarks.gpu.estimates gpu-results

`advise` and `docs/scale.md` estimate speed and memory of training from the card's data sheet;
`plan` estimates tokens and seconds of a run; `advise` weighs a vocabulary by the FLOPs of a step.
Piece a, b and d measure these. Where a piece is missing, or the card is not in the table of data
sheets, its rows are missing.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.gpu.results import MACHINE, read_results
from benchmarks.gpu.shapes import ADDED, SHAPES, SOURCE_ROWS
from lingraft.advice.costs import Gpus, cost_of
from lingraft.pipeline.model_shape import Shape
from lingraft.vocabulary import ServingCost

HEADING = (
    "| estimated by | what | case | estimated | measured | estimated / measured |\n"
    "|---|---|---|---|---|---|"
)
Row = tuple[str, str, str, float, float]


def table(folder: Path) -> str:
    """Return the table of a folder of results."""
    found = read_results(folder)
    machine = json.loads((folder / MACHINE).read_text(encoding="utf-8"))
    rows = [
        *training(found.get("a"), machine.get("kind")),
        *plans(found.get("b")),
        *decoding(found.get("d")),
    ]
    lines = [
        f"| {source} | {what} | {case} | {estimated:,.4g} | {measured:,.4g} | "
        f"{estimated / measured:.2f} |"
        for source, what, case, estimated, measured in rows
    ]
    return "\n".join([f"Measured on: {machine['card']}.", "", HEADING, *lines])


def training(piece: dict[str, Any] | None, kind: str | None) -> Iterator[Row]:
    """Yield tokens a second and peak memory of each case of piece a that trained."""
    for row in (piece or {"rows": []})["rows"]:
        if "error" in row or kind is None:
            continue
        shape = _shape(row["shape"], row["parameters"])
        cost = cost_of(
            shape,
            10**9,
            Gpus(kind, row["devices"]),
            trained=row["trained"],
            micro_tokens=row["tokens"] // row["devices"],
            optimizer=row["optimizer"],
        )
        way = row["way"]
        recomputes = SHAPES[row["shape"]].recompute
        if row["strategy"] == "full":
            yield (
                "advise",
                "training, tokens/s",
                way,
                1e9 / ((cost.hours or 0) * 3600),
                row["speed"],
            )
        yield (
            "advise",
            "peak memory, GB",
            way,
            (cost.memory_recomputed if recomputes else cost.memory_per_device) / 1e9,
            row["peak_gb"],
        )


def plans(piece: dict[str, Any] | None) -> Iterator[Row]:
    """Yield tokens and seconds of training by arm, the mean over seeds."""
    rows = [row for row in (piece or {"rows": []})["rows"] if "error" not in row]
    for arm in dict.fromkeys(row["arm"] for row in rows):
        own = [row for row in rows if row["arm"] == arm]
        for what, planned, measured in (
            ("tokens of training", "planned tokens", "tokens"),
            ("seconds of training", "planned seconds", "seconds"),
        ):
            both = [(row[planned], row[measured]) for row in own if row[planned] and row[measured]]
            if both:
                yield (
                    "plan",
                    what,
                    arm,
                    fmean(one for one, _ in both),
                    fmean(other for _, other in both),
                )


def decoding(piece: dict[str, Any] | None) -> Iterator[Row]:
    """Yield how many times a step takes with a larger vocabulary, by FLOPs and by the clock."""
    rows = [row for row in (piece or {"rows": []})["rows"] if "error" not in row]
    for row in rows:
        smallest = min(one["rows"] for one in rows if one["shape"] == row["shape"])
        if row["rows"] == smallest:
            continue
        serving = ServingCost(2.0 * _body(row["shape"]), 2.0 * SHAPES[row["shape"]].width, smallest)
        estimated = serving.per_token(row["rows"] - smallest) / serving.per_token(0)
        case = f"{row['shape']}, batch {row['batch']}, {row['rows']:,} rows, {row['mode']}"
        yield (
            "advise",
            "step of decoding, times that of the smallest vocabulary",
            case,
            estimated,
            row["tax"],
        )


def _shape(name: str, parameters: int) -> Shape:
    return Shape(
        parameters, SOURCE_ROWS + ADDED, SHAPES[name].width, SHAPES[name].layers, tied=False
    )


def _body(name: str) -> int:
    """Return the parameters of a shape that are no embedding."""
    shape = SHAPES[name]
    head = shape.width // shape.heads
    attention = shape.width * head * (2 * shape.heads + 2 * shape.key_value_heads)
    return shape.layers * (attention + 3 * shape.width * shape.feed_forward)


if __name__ == "__main__":
    print(table(Path(sys.argv[1] if len(sys.argv) > 1 else "gpu-results")))
