"""What the manifest says of the model, the plan and the recipe of a hand-over."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lingraft.bases.folder import read_config
from lingraft.checkpoint import Checkpoint, embedding_names
from lingraft.checkpoint.config_files import context_of
from lingraft.checkpoint.load_model import meta_model
from lingraft.checkpoint.model_class import read_model_config
from lingraft.checkpoint.resized_tensors import ROW_MULTIPLE
from lingraft.checkpoint.safetensors_files import torch_dtype
from lingraft.packing.blocks import Blocks
from lingraft.pipeline import Graph
from lingraft.recipe import Recipe, recipe_values
from lingraft.splice import Splice
from lingraft.store import digest
from lingraft.strategies import Strategy
from lingraft.tokenizer import ModelTokenizer, open_tokenizer
from lingraft.tokenizer.chat_template import chat_template_of
from lingraft.tokenizer.separators import Separators
from lingraft.trainers.manifest import (
    ModelRecord,
    OriginRecord,
    PhaseRecord,
    PlanRecord,
    RateRecord,
    SeparatorRecord,
)
from lingraft.training import Phase
from lingraft.training.optimizer import BETAS, EPSILON
from lingraft.training.phase_steps import CHUNK, PhaseSteps, TrainingText

PRECISION = "weights and optimizer state in float32; the model is saved in the dtype of the source"


def count_parameters(folder: Path) -> int:
    """Return the number of parameters as training counts them: a tied matrix once."""
    model = meta_model(read_model_config(folder), folder)
    return sum(parameter.numel() for parameter in model.parameters())


def count_trained(folder: Path, strategy: Strategy, added: Sequence[int]) -> dict[str, int]:
    """Return the number of parameters that a strategy trains, by role.

    It is empty for a strategy that needs weights to choose them, such as LoRA. Raises `RecipeError`
    where the strategy does not fit the model.
    """
    if strategy.full_load_reason:
        return {}
    model = meta_model(read_model_config(folder), folder)
    counts: dict[str, int] = {}
    for group in strategy.prepare(model, added):
        counts[group.role] = sum(parameter.numel() for parameter in group.parameters.values())
    return counts


def model_record(
    folder: Path, parameters: int, splice: Splice, separators: Separators, text: Blocks
) -> ModelRecord:
    """Describe the extended model in a folder; `text` is text that was packed for it."""
    checkpoint, tokenizer = Checkpoint.open(folder), open_tokenizer(folder)
    config = read_config(folder)
    names = embedding_names(checkpoint)
    before, after = separators.ids(tokenizer)
    return ModelRecord(
        folder="model",
        architecture=names.architecture,
        model_type=str(config["model_type"]),
        parameters=parameters,
        dtype=str(torch_dtype(checkpoint.tensors[names.input[0]].dtype)).removeprefix("torch."),
        context=context_of(config),
        source_tokens=splice.source_size,
        tokens=splice.target_size,
        rows=names.rows,
        row_multiple=ROW_MULTIPLE,
        tied=names.tied,
        added=_ranges(token.id for token in splice.added),
        special_ids=_special_ids(tokenizer),
        end_ids=_end_ids(folder, config),
        control_ids=text.non_text_ids,
        separators=SeparatorRecord(
            separators.before, before, separators.after, after, separators.why
        ),
        chat_template=chat_template_of(tokenizer) is not None,
        loads_with=names.loads_with,
    )


def _ranges(ids: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """Return ids as ranges [first, end).

    >>> _ranges([3, 4, 5, 9])
    ((3, 6), (9, 10))
    """
    ranges: list[tuple[int, int]] = []
    for token_id in sorted(ids):
        if ranges and ranges[-1][1] == token_id:
            ranges[-1] = (ranges[-1][0], token_id + 1)
        else:
            ranges.append((token_id, token_id + 1))
    return tuple(ranges)


def _special_ids(tokenizer: ModelTokenizer) -> dict[str, int]:
    ids = {"bos": tokenizer.bos_id, "eos": tokenizer.eos_id, "pad": tokenizer.pad_id}
    return {role: token_id for role, token_id in ids.items() if token_id is not None}


def _end_ids(folder: Path, config: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the ids that end generation; generation_config.json precedes config.json."""
    path = folder / "generation_config.json"
    named = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    ids = named.get("eos_token_id", config.get("eos_token_id"))
    if ids is None:
        return ()
    return tuple(ids) if isinstance(ids, list) else (ids,)


def plan_record(
    recipe: Recipe,
    steps: Sequence[PhaseSteps],
    text: TrainingText,
    model: ModelRecord,
    folder: Path,
    *,
    masked: bool,
) -> PlanRecord:
    """Describe the training of a recipe, for the extended model in a folder.

    `masked` says whether attention stays within documents.
    """
    plan, phases = recipe.training, []
    for phase, of_phase in zip(plan.phases, steps, strict=True):
        trained = count_trained(folder, phase.strategy, model.added_ids)
        phases.append(_phase_record(phase, of_phase, text, model, trained))
    return PlanRecord(
        seed=recipe.seed,
        sequence_length=text.target.summary.block,
        layout=plan.packing.layout,
        document_attention_mask=masked,
        precision=PRECISION,
        phases=tuple(phases),
        merge_back=plan.merge_back,
        chat_vector=recipe.chat_vector.weight if recipe.chat_vector else None,
    )


def _phase_record(
    phase: Phase,
    steps: PhaseSteps,
    text: TrainingText,
    model: ModelRecord,
    trained: Mapping[str, int],
) -> PhaseRecord:
    mixture, strategy = steps.mixture, phase.strategy
    length, per_step = steps.sequence_tokens, steps.sequences_per_step
    rates = phase.rates(model.model_type, model.parameters, length, per_step)
    counts = mixture.counts(steps.sequences)
    targets = sum(counts[: len(text.targets)])
    tokens, sizes = _amounts(steps, text)
    of_targets = [sizes[source.name] for source in text.targets]
    return PhaseRecord(
        strategy=strategy.chosen(),
        trains=_first_sentence(strategy),
        trained_parameters=trained,
        budget=phase.budget.amount,
        steps=steps.steps,
        sequences=steps.sequences,
        sequences_per_step=steps.sequences_per_step,
        replay_sequences=steps.sequences - targets,
        replay_share=mixture.replay.share if mixture.replay else 0.0,
        tokens=tokens,
        bytes=sum(sizes.values()),
        target_bytes=sum(of_targets),
        text_bytes=sizes,
        epochs=steps.epochs(text),
        learning_rates=RateRecord(rates.body, rates.added_rows, rates.why),
        schedule=phase.schedule.chosen(),
        warmup_steps=phase.schedule.rise(steps.steps),
        optimizer=phase.optimizer,
        betas=BETAS,
        epsilon=EPSILON,
        weight_decay=phase.weight_decay,
        max_grad_norm=phase.max_grad_norm,
        average_steps=round(phase.average_share * steps.steps),
    )


def _amounts(steps: PhaseSteps, text: TrainingText) -> tuple[int, dict[str, int]]:
    """Return the tokens of a phase, and the bytes of each text in it."""
    names = [source.name for source in text.sources]
    tokens, sizes = 0, dict.fromkeys(names, 0)
    for first in range(0, steps.sequences, CHUNK):
        measures = steps.mixture.measures(first, min(CHUNK, steps.sequences - first))
        tokens += int(measures[:, 1].sum())
        for index, name in enumerate(names):
            sizes[name] += int(measures[measures[:, 0] == index, 2].sum())
    return tokens, sizes


def _first_sentence(strategy: Strategy) -> str:
    return (type(strategy).__doc__ or strategy.name).partition("\n")[0].rstrip(".")


def origin_record(recipe: Recipe, graph: Graph) -> OriginRecord:
    """Describe the recipe, and the stages from which the folder is written."""
    values = recipe_values(recipe)
    nodes = {"vocabulary": graph.vocabulary, "embeddings": graph.embeddings}
    nodes |= {f"packing {role}": node for role, node in graph.packing.items()}
    nodes |= {"training": graph.training} if graph.training else {}
    keys = {role: node.stage.key for role, node in nodes.items()}
    return OriginRecord(recipe.run_name, values, digest(values), keys)
