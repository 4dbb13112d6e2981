"""What a training run says of itself: the record of a step, the speed, the notes of the stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lingraft.packing.mixture import Batch
from lingraft.training.config import Phase
from lingraft.training.job import Job
from lingraft.training.optimizer import execution_with
from lingraft.training.phase_outline import outline_phase
from lingraft.training.phase_steps import PhaseSteps, TrainingSteps, TrainingText
from lingraft.training.state import RunState
from lingraft.training.train_step import StepResult


def step_record(
    batch: Batch, result: StepResult, state: RunState, targets: Sequence[str]
) -> dict[str, Any]:
    """Return the log record of a step; `targets` are the names of the target texts.

    The bits per byte of target and replay text are left out if the step has no such text. With
    several targets, `targets` has the bytes and the bits per byte of each that the step has.
    """
    done, replayed = state.done, batch.bytes - batch.target_bytes
    count = batch.target_count
    of_targets, of_replay = result.text_bits[:count], result.text_bits[count:]
    record: dict[str, Any] = {
        "tokens": done.tokens,
        "bytes": done.bytes,
        "target_bytes": done.target_bytes,
        "bits_per_byte": sum(result.text_bits) / max(batch.bytes, 1),
        "gradient_norm": result.gradient_norm,
        "seconds": round(state.seconds, 3),
    }
    if batch.target_bytes:
        record["target_bits_per_byte"] = sum(of_targets) / batch.target_bytes
    if replayed:
        record["replay_bits_per_byte"] = sum(of_replay) / replayed
    if count > 1:
        record["targets"] = {
            name: {"bytes": size, "bits_per_byte": bits / size}
            for name, size, bits in zip(targets, batch.text_bytes, of_targets, strict=False)
            if size
        }
    if result.replay_kl is not None:
        record["replay_kl"] = result.replay_kl
    return record


def speed_note(
    state: RunState, bits_per_byte: float, seconds: float, mfu: float | None = None
) -> str:
    """Return the text next to the progress bar; `seconds` is the time since the process began.

    >>> from lingraft.training.state import Totals
    >>> state = RunState(done=Totals(step=1, tokens=4096, bytes=12000))
    >>> speed_note(state, 1.23456, seconds=2.0)
    '1.235 bits/byte, 2,048 tokens/s, 6,000 bytes/s'
    """
    seconds = max(seconds, 1e-9)
    tokens = (state.done.tokens - state.begun.tokens) / seconds
    size = (state.done.bytes - state.begun.bytes) / seconds
    share = "" if mfu is None else f", MFU {mfu:.0%}"
    return f"{bits_per_byte:.3f} bits/byte, {tokens:,.0f} tokens/s, {size:,.0f} bytes/s{share}"


def run_notes(
    job: Job, planned: TrainingSteps, state: RunState, kind: str, parameters: int
) -> dict[str, Any]:
    """Return the notes of a finished run, for the manifest of the stage.

    `kind` is the model type, `parameters` the size of the model.
    """
    done, text, epochs = state.done, job.text, planned.epochs(job.text)
    bfloat16 = any(
        execution_with(phase.optimizer, job.execution).computes_in_bfloat16()
        for phase in job.plan.phases
    )
    precision = "tf32" if job.execution.allows_tf32() else "float32"
    replayed = done.bytes - done.target_bytes
    notes = {
        "parameters": parameters,
        "steps": done.step,
        "tokens": done.tokens,
        "bytes": done.bytes,
        "target_bytes": done.target_bytes,
        "replayed_bytes": replayed,
        "replay_share": round(replayed / max(done.bytes, 1), 4),
        "target_documents": done.target_documents,
        "epochs": epochs,
        "seconds": round(state.seconds, 1),
        "device": job.execution.device,
        "precision": "bfloat16" if bfloat16 else precision,
        "phases": [
            _phase_notes(text, phase, steps, kind, parameters)
            for phase, steps in zip(job.plan.phases, planned.phases, strict=True)
        ],
    }
    # Keys such as `rows` and `trunk_steps` are stored in manifests, so their names stay.
    if state.prefix_steps:
        notes["trunk_steps"] = state.prefix_steps
    if planned.warnings:
        notes["warnings"] = list(planned.warnings)
    return notes


def _phase_notes(
    text: TrainingText, phase: Phase, steps: PhaseSteps, kind: str, parameters: int
) -> dict[str, Any]:
    outline = outline_phase(phase, steps, kind, parameters)
    mixture = steps.mixture
    return {
        **({} if phase.optimizer == "adamw" else {"optimizer": phase.optimizer}),
        "strategy": phase.strategy.chosen(),
        "reference": phase.strategy.reference,
        "steps": steps.steps,
        "rows": steps.sequences,
        "rows_of_a_step": steps.sequences_per_step,
        "replay_share": mixture.replay.share if mixture.replay else 0.0,
        "average_steps": round(phase.average_share * phase.steps_of_schedule(steps.steps)),
        "epochs": steps.epochs(text),
        "schedule": phase.schedule.chosen(),
        **outline.notes(),
    }
