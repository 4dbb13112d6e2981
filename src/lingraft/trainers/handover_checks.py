"""What is checked of a hand-over: names of engines and data, the plan, the folder, the rows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from lingraft.bases.folder import read_config
from lingraft.checkpoint import Checkpoint
from lingraft.errors import RecipeError, StoreError, did_you_mean
from lingraft.pipeline.run_folder import RUN
from lingraft.recipe import Recipe
from lingraft.store import check_creatable
from lingraft.trainers.engine import Engine
from lingraft.trainers.engines import ENGINES
from lingraft.trainers.manifest import DataKind, ModelRecord, PlanRecord

# Tables of learned positions, as in GPT-2 and OPT.
_POSITION_TABLE = re.compile(r"\b(wpe|embed_positions|position_embeddings?)\.weight$")


def find_engine(name: str) -> Engine:
    """Return an engine by its name; raises `RecipeError` with the known names."""
    if not isinstance(name, str) or name not in ENGINES:
        msg = f"--to {name}: no such engine; {did_you_mean(str(name), ENGINES)}"
        raise RecipeError(msg)
    return ENGINES[name]


def find_data(names: Sequence[str]) -> list[DataKind]:
    """Return forms of training data by their names; raises `RecipeError` with the known ones."""
    known: dict[str, DataKind] = {kind: kind for kind in get_args(DataKind)}
    for name in names:
        if not isinstance(name, str) or name not in known:
            msg = f"--data {name}: no such form; {did_you_mean(str(name), known)}"
            raise RecipeError(msg)
    return [known[name] for name in names]


def check_plan(recipe: Recipe, engine: Engine) -> None:
    """Raise `RecipeError` if there is nothing to train, or the engine cannot train it."""
    if not recipe.training.phases:
        msg = (
            f"{recipe.run_name}: the recipe trains nothing (training.phases is empty); `lingraft "
            "extend` writes the extended model alone"
        )
        raise RecipeError(msg)
    if reason := engine.refusal(recipe.training):
        msg = f"--to {engine.name}: {reason}"
        raise RecipeError(msg)
    if engine.mixes_documents and recipe.training.requires_document_mask:
        msg = (
            f"--to {engine.name}: training.document_attention_mask is true, and "
            f"{engine.mixes_documents}; set it to auto or false, or use --to hf"
        )
        raise RecipeError(msg)
    if any(phase.optimizer == "adamw8bit_bfloat16" for phase in recipe.training.phases):
        msg = (
            f"--to {engine.name}: training.optimizer adamw8bit_bfloat16 cannot be handed over; "
            f"set adamw or adamw8bit"
        )
        raise RecipeError(msg)


def mask_limits(plan: PlanRecord, engine: Engine) -> tuple[str, ...]:
    """Return what an engine does otherwise where lingraft's loop keeps documents apart."""
    if not (plan.document_attention_mask and engine.mixes_documents):
        return ()
    return (f"attention is not kept within documents: {engine.mixes_documents}",)


def check_output(output: Path) -> None:
    """Raise `StoreError` if a hand-over cannot be, or should not be, at a path."""
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        kind = "is not empty" if output.is_dir() else "is a file"
        msg = f"{output}: {kind}; choose another folder with --output, or move it away"
        raise StoreError(msg)
    for parent in output.resolve().parents:
        if (parent / RUN).is_file():
            msg = (
                f"{output}: inside the run {parent.name}, which `lingraft adapt` replaces as a "
                "whole; choose a folder outside of it with --output"
            )
            raise StoreError(msg)
        if parent.exists() and not parent.is_dir():
            msg = f"{output}: {parent} is a file; choose another folder with --output"
            raise StoreError(msg)
    check_creatable(output, option="--output")


def check_row_length(model: ModelRecord, plan: PlanRecord, folder: Path) -> None:
    """Raise `RecipeError` if a row of `sequences` is longer than the positions of the model.

    Rotary positions have no end, unless they are scaled by the length of the input.
    """
    if model.context is None or plan.sequence_length < model.context:
        return
    tables = [name for name in Checkpoint.open(folder).tensors if _POSITION_TABLE.search(name)]
    config = read_config(folder)
    rope = {**(config.get("rope_scaling") or {}), **(config.get("rope_parameters") or {})}
    if tables or rope.get("rope_type", rope.get("type")) in {"dynamic", "longrope"}:
        msg = (
            f"training.packing.block_size is {plan.sequence_length}, the whole context of "
            f"{model.architecture}: models of transformers shift labels inside, so a row has one "
            f"id more; set training.packing.block_size: {plan.sequence_length - 1}"
        )
        raise RecipeError(msg)
