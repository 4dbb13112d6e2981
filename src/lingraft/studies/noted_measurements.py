"""Notes of stages that are measurements of a run, such as training time or tokens added."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lingraft.measurement import Measurement

STAGE_SECONDS = "seconds to build"
STAGE_NOTES = (  # stage, note, metric, subject, unit
    ("vocabulary", "added", "tokens added", "spliced", "tokens"),
    ("source", "parameters", "parameters", "source", "parameters"),
    ("embeddings", "parameters", "parameters", "spliced", "parameters"),
    ("embeddings", "multiplied_before", "parameters per token", "source", "parameters"),
    ("embeddings", "multiplied", "parameters per token", "spliced", "parameters"),
    ("embeddings", STAGE_SECONDS, "initialisation time", "spliced", "seconds"),
    ("training", "tokens", "training tokens", "adapted", "tokens"),
    ("training", "target_bytes", "training bytes of target text", "adapted", "bytes"),
    ("training", "bytes", "training bytes", "adapted", "bytes"),
    ("training", "seconds", "training time", "adapted", "seconds"),
)


def noted_measurements(record: Mapping[str, Any]) -> Iterator[Measurement]:
    """Yield the measurements in the record of a run."""
    notes: dict[str, dict[str, Any]] = {}
    for stage in record["stages"]:
        # The instruct model of a chat vector is a later stage that is also called source.
        notes.setdefault(stage["name"], {**stage["notes"], STAGE_SECONDS: stage["seconds"]})
    for name, key, metric, subject, unit in STAGE_NOTES:
        if key in notes.get(name, {}):
            yield Measurement(metric, subject, float(notes[name][key]), unit, split="", per="run")
