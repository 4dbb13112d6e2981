"""What is said of a run: a row of its log for each step, and the notes of the whole."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from lingraft.packing.mixture import Batch
from lingraft.training.job import Job
from lingraft.training.legs import Leg
from lingraft.training.plan import Phase
from lingraft.training.progress_state import RunState
from lingraft.training.steps import StepResult


def row_of(batch: Batch, result: StepResult, state: RunState) -> dict[str, Any]:
    """Return what the log says of a step; bits per byte of target and replay where the step had such text."""
    replayed = batch.bytes - batch.target_bytes
    row = {"tokens": state.done.tokens, "bytes": state.done.bytes, "target_bytes": state.done.target_bytes,
           "bits_per_byte": result.bits / max(batch.bytes, 1), "gradient_norm": result.gradient_norm,
           "seconds": round(state.seconds, 3)}
    if batch.target_bytes:
        row["target_bits_per_byte"] = (result.bits - result.replayed_bits) / batch.target_bytes
    if replayed:
        row["replay_bits_per_byte"] = result.replayed_bits / replayed
    return row


def speed_of(state: RunState, bits_per_byte: float, mfu: float | None = None) -> str:
    """Return what stands beside the progress bar.

    >>> from lingraft.training.progress_state import Done
    >>> speed_of(RunState(done=Done(step=1, tokens=4096, bytes=12000), started=time.monotonic() - 2), 1.23456)
    '1.235 bits/byte, 2,048 tokens/s, 6,000 bytes/s'
    """
    here = max(time.monotonic() - state.started, 1e-9)
    tokens, size = (f"{(now - before) / here:,.0f}" for now, before in (
        (state.done.tokens, state.begun.tokens), (state.done.bytes, state.begun.bytes)))
    used = "" if mfu is None else f", MFU {mfu:.0%}"
    return f"{bits_per_byte:.3f} bits/byte, {tokens} tokens/s, {size} bytes/s{used}"


def notes_of(job: Job, legs: Sequence[Leg], state: RunState, kind: str, parameters: int) -> dict[str, Any]:
    """Return the notes of a finished run."""
    done, replayed = state.done, state.done.bytes - state.done.target_bytes
    used = legs[-1].mixture.used(legs[-1].rows) if legs else None
    notes = {"parameters": parameters, "steps": done.step, "tokens": done.tokens, "bytes": done.bytes,
             "target_bytes": done.target_bytes, "replayed_bytes": replayed,
             "replay_share": round(replayed / max(done.bytes, 1), 4), "target_documents": done.target_documents,
             "target_epochs": round(used.target / len(job.text.target), 4) if used else 0.0,
             "seconds": round(state.seconds, 1), "device": job.execution.device,
             "precision": "bfloat16" if job.execution.computes_in_bfloat16() else "float32",
             "phases": [_phase_notes(phase, leg, kind, parameters)
                        for phase, leg in zip(job.plan.phases, legs, strict=True)]}
    if state.trunk:
        notes["trunk_steps"] = state.trunk
    if used and job.text.replay is not None:
        notes["replay_epochs"] = round(used.replay / len(job.text.replay), 4)
        if used.replay > len(job.text.replay):
            times = used.replay / len(job.text.replay)
            notes["warnings"] = [f"the replay text is read {times:.1f} times: training asks for more than there is"]
    return notes


def _phase_notes(phase: Phase, leg: Leg, kind: str, parameters: int) -> dict[str, Any]:
    rates = phase.rates.resolved(phase.strategy, kind, parameters)
    drawn = leg.mixture.used(leg.rows).target - leg.mixture.start.target
    return {"strategy": phase.strategy.chosen(), "reference": phase.strategy.reference, "steps": leg.steps,
            "rows": leg.rows, "rows_of_a_step": leg.rows_of_a_step, "replay_share": leg.mixture.share,
            "average_steps": round(phase.average * leg.steps), "epochs": round(drawn / len(leg.mixture.target), 4),
            "schedule": phase.schedule.chosen(),
            "rates": {"body": rates.body, "embeddings": rates.embeddings, "why": rates.why}}
