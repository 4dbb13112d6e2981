"""The training curve of another engine: the log of transformers' Trainer as training.jsonl.

TRL, Axolotl and LLaMA-Factory write the same file. It holds the loss per token, so that a chart can
show it. Bits per byte cannot be computed from it: it does not say how many bytes were read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lingraft.errors import ModelError
from lingraft.training.train_log import LOG

FIELDS = {
    "loss": "loss",
    "eval_loss": "heldout_loss",
    "learning_rate": "learning_rate",
    "learning_rate_added_rows": "learning_rate_added_rows",
    "grad_norm": "gradient_norm",
    "epoch": "epoch",
}
"""Names in the log of the Trainer -> names in training.jsonl."""


def write_engine_log(state: Path | None, folder: Path) -> None:
    """Write training.jsonl into a folder; nothing without a log, or if nothing was logged."""
    records = list(read_engine_log(state)) if state else []
    if records:
        lines = [json.dumps(record) + "\n" for record in records]
        (folder / LOG).write_text("".join(lines), encoding="utf-8")


def read_engine_log(state: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a trainer_state.json that hold a loss."""
    try:
        history = json.loads(state.read_text(encoding="utf-8"))["log_history"]
        for entry in history:
            record = _record(entry)
            if "loss" in record or "heldout_loss" in record:
                yield record
    except (OSError, ValueError, KeyError, TypeError) as error:
        msg = f"{state}: not the log of a Trainer ({error}); remove it to receive without a curve"
        raise ModelError(msg) from error


def _record(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the numbers of an entry under our names."""
    record: dict[str, Any] = {"step": int(entry["step"])}
    for name, ours in FIELDS.items():
        value = entry.get(name)
        if isinstance(value, int | float) and math.isfinite(value):
            record[ours] = value
    return record
