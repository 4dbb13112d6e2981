"""README.md of a hand-over folder: what is in it, how training starts, how the model comes back."""

from __future__ import annotations

from collections.abc import Iterator

from lingraft.formatting import counted
from lingraft.trainers.engine import EngineFiles
from lingraft.trainers.manifest import DataRecord, Handover, PhaseRecord, PlanRecord


def readme(handover: Handover, engine: EngineFiles) -> str:
    """Return the text of README.md."""
    return "\n".join(_lines(handover, engine)) + "\n"


def _lines(handover: Handover, engine: EngineFiles) -> Iterator[str]:
    model, plan = handover.model, handover.plan
    yield f"# {handover.origin.name}, handed over to {handover.engine}\n"
    yield (
        f"Written by lingraft {handover.lingraft}. `handover.json` has the same facts for "
        "programs, and the SHA-256 of every file.\n"
    )
    yield "## Contents\n"
    yield (
        f"- `model/`: the extended model ({model.architecture}), {model.tokens:,} tokens in "
        f"{model.rows:,} rows ({model.padding_rows} of padding, to a multiple of "
        f"{model.row_multiple}), {'tied' if model.tied else 'untied'} embeddings. It is "
        "not trained yet."
    )
    for record in handover.data:
        yield f"- `{record.path}`: {_describe_data(record, len(plan.phases))}"
    yield "- `learning_rates.csv`: the learning rates of each step"
    yield "- `splice.json`, `certificate.json`: where each row comes from, and what was checked\n"
    yield "## Plan\n"
    for number, phase in enumerate(plan.phases):
        name = f"Phase {number + 1}: " if len(plan.phases) > 1 else ""
        yield f"{name}{_describe_phase(phase, plan)}\n"
    yield from (f"{line}\n" for line in _after_phases(plan))
    yield "## What the trainer must keep\n"
    yield from (f"- {line}" for line in _rules(handover))
    yield ""
    if engine.limits:
        yield "## What this engine does differently\n"
        yield from (f"- {line}" for line in engine.limits)
        yield ""
    if engine.launch:
        yield "## Start training\n"
        yield "From this folder:\n"
        yield "```bash"
        yield from engine.launch
        yield "```\n"
    yield "## Take the model back\n"
    yield "```bash"
    yield f"lingraft receive {engine.trained} --run ."
    yield "```\n"
    yield (
        "This compares the trained model with what was handed over, measures it, and writes a run "
        "with its report."
    )


def _describe_data(record: DataRecord, phases: int) -> str:
    """Return in words what a data set holds."""
    use = "held-out text" if record.use == "heldout" else "training text"
    amounts = []
    for number, noun in (
        (record.documents, "document"),
        (record.sequences, "sequence"),
        (record.tokens, "id"),
    ):
        if number is not None:
            amounts.append(counted(number, noun))
    mixed = {"target": "", "replay": " (replay)", "mixture": " with replay"}[record.text]
    phase = f" of phase {record.phase + 1}" if record.phase is not None and phases > 1 else ""
    columns = f"; columns {', '.join(record.columns)}" if record.columns else ""
    return f"{use}{phase} in {record.language}{mixed}: {', '.join(amounts)}{columns}"


def _describe_phase(phase: PhaseRecord, plan: PlanRecord) -> str:
    """Return a phase of training in words."""
    rates = phase.learning_rates
    (schedule,) = phase.schedule
    length = "up to " * (plan.layout == "documents") + f"{plan.sequence_length:,}"
    clipped = "not clipped"
    if phase.max_grad_norm is not None:
        clipped = f"clipped to {phase.max_grad_norm:g}"
    averaged = ""
    if phase.average_steps:
        averaged = f"; the result is the average over the last {phase.average_steps} steps"
    return (
        f"{phase.trains}. {counted(phase.steps, 'step')} of {phase.sequences_per_step} sequences "
        f"of {length} predicted tokens; {phase.optimizer} with betas {phase.betas}, weight "
        f"decay {phase.weight_decay:g}, gradients {clipped}; peak rates "
        f"{rates.body:g} (body) and {rates.added_rows:g} (added rows), {schedule} with "
        f"{counted(phase.warmup_steps, 'step')} of warm-up{averaged}"
    )


def _after_phases(plan: PlanRecord) -> Iterator[str]:
    """Yield what the plan does besides its phases."""
    if plan.document_attention_mask:
        yield "lingraft's loop keeps attention within documents."
    if plan.merge_back:
        shares = ", ".join(f"{share:g}" for share in plan.merge_back)
        yield (
            f"`lingraft receive` then mixes in a share of the weights before training: {shares}."
        )
    if plan.chat_vector is not None:
        yield f"`lingraft receive` then adds the chat vector, with the weight {plan.chat_vector:g}."


def _rules(handover: Handover) -> Iterator[str]:
    """Yield what a trainer's defaults often break."""
    model = handover.model
    yield (
        f"The {model.rows:,} rows: do not resize the embeddings to the {model.tokens:,} tokens, "
        "and add no tokens."
    )
    yield "The files of the tokenizer: let the trainer read ids where it can."
    if handover.training_data("sequences"):
        yield (
            "The order of the rows, and the rows as they are: no shuffling, no second packing. "
            "Padding on the right, with the label -100."
        )
    if model.special_ids.get("pad") in model.end_ids or "pad" not in model.special_ids:
        pad = "PAD is an id that ends text" if "pad" in model.special_ids else "There is no PAD"
        yield f"{pad}: labels are ignored by their place, never by the id of PAD."
    if handover.training_data("text"):
        yield "The meaning of documents: a special token that a document spells is text."
