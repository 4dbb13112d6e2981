"""One of several training processes, started by a test with the environment variables of torchrun.

Arguments: model folder, folder with the packed texts hi and en, output folder, plan as JSON, and
the step after which the second process gets SIGTERM (0: none). A run that reaches its end writes a
line of JSON for each data type of gathered weights, `traffic_of`, one of what this process hashed
and broadcast, and the error of a run with another seed in the same folder.
"""

from __future__ import annotations

import gc
import json
import os
import pickle
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from torch.distributed.fsdp import FSDPModule
from torch.utils._python_dispatch import TorchDispatchMode

from lingraft.errors import Interrupted, LingraftError, TrainingError
from lingraft.packing.blocks import Blocks
from lingraft.packing.mixture import Mixture
from lingraft.strategies.base import Rates
from lingraft.strategies.weight_strategies import Full
from lingraft.training import Execution, TrainingPlan, checkpointing, loss
from lingraft.training.config import Phase
from lingraft.training.distributed import ProcessGroup, full_tensor, init_process_group, reshard
from lingraft.training.phase_steps import PhaseSteps, TrainingText
from lingraft.training.prepare_model import load_sharded
from lingraft.training.train_step import Stepper
from tests.training_cases import ADDED, heldout, plan_of, run


class Traffic(TorchDispatchMode):
    """Counts the bytes that this process gathers from others, and its gradient reductions."""

    def __init__(self) -> None:
        super().__init__()
        self.gathered, self.reductions, self.reduced = 0, 0, set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if "allgather_base" in str(func):
            self.gathered += args[0].nbytes
        if "reduce_scatter_base" in str(func):
            self.reductions += 1
            self.reduced.add(str(args[1].dtype))
        return func(*args, **(kwargs or {}))


def gradients_of(folder: Path, text: Blocks, world: ProcessGroup, dtype: torch.dtype) -> Any:
    """Return the model, its gradients of a step of six sequences, and the traffic.

    Each of two processes computes three micro-batches.
    """
    opened = load_sharded(folder, "cpu")
    if world.size == 1:
        opened.materialize()
    groups = Full().prepare(opened.model, ADDED)
    groups = world.shard_model(opened.model, groups, opened.materialize, dtype)
    sharded, autocast = world.size > 1, dtype == torch.bfloat16
    stepper = Stepper(
        opened.model,
        groups,
        Rates(1e-3, 1e-3),
        phase=Phase(max_grad_norm=1e9),
        steps=1,
        execution=Execution(sharded=sharded, tokens_at_once=text.summary.block),
        text=text,
        world=world,
        loss=loss.make_loss(opened.model, "chunked", autocast=autocast, sharded=sharded),
    )
    reshard(opened.model)
    with Traffic() as traffic:
        stepper.forward_backward(Mixture.of([(text, 1.0)]).batch(0, 6))
    gradients = {name: full_tensor(one.grad) for name, one in stepper.parameters.items()}
    return opened.model, gradients, traffic


def traffic_of(folder: Path, text: Blocks, world: ProcessGroup, dtype: torch.dtype) -> Any:
    """Return the traffic of a step, and how far its gradients are from those of one process."""
    model, gradients, traffic = gradients_of(folder, text, world, dtype)
    alone = gradients_of(folder, text, ProcessGroup(), dtype)[1]
    difference = sum(float((gradients[name] - alone[name]).norm() ** 2) for name in alone)
    length = sum(float(gradient.norm() ** 2) for gradient in alone.values())
    return {
        "gathered": traffic.gathered,
        "reductions": traffic.reductions,
        "reduced": sorted(traffic.reduced),
        "modules": sum(isinstance(module, FSDPModule) for module in model.modules()),
        "types": sorted({str(gradient.dtype) for gradient in gradients.values()}),
        "difference": (difference / length) ** 0.5,
    }


def other_shards(model: Any) -> int:
    """Return how many sharded modules are in memory that are not of this model."""
    gc.collect()
    alive = {id(each) for each in gc.get_objects() if isinstance(each, FSDPModule)}
    return len(alive - {id(module) for module in model.modules()})


def error_of_another_run(
    model: Path, text: TrainingText, plan: TrainingPlan, folder: Path, rank: int
) -> str:
    """Return the error of a run with another seed, whose checkpoints only rank 0 can see."""
    try:
        run(
            model,
            text,
            plan,
            folder if rank == 0 else folder / "empty",
            execution=Execution(sharded=True),
            seed=1,
        )
    except TrainingError as error:
        return str(error)
    return ""


if __name__ == "__main__":
    model, texts, folder, plan, stop = sys.argv[1:]
    batch = PhaseSteps.batch

    def stopping(leg: PhaseSteps, step: int):
        if os.environ["RANK"] == "1" and step + 1 == int(stop):
            os.kill(os.getpid(), signal.SIGTERM)
        return batch(leg, step)

    PhaseSteps.batch = stopping
    text = TrainingText.of(Blocks.open(Path(texts) / "hi"), Blocks.open(Path(texts) / "en"), 0.2)
    # At each measurement: sharded modules in memory that are not of the measured model.
    others: list[int] = []

    def measured(model: Any, *rest: Any) -> Any:
        others.append(other_shards(model))
        return heldout(model, *rest)

    # The files that this process hashes, and the bytes of the objects that it broadcasts.
    hashed, broadcast = [], [0]
    file_digest, broadcast_objects = (
        checkpointing.file_digest,
        torch.distributed.broadcast_object_list,
    )

    def hashing(path: Path) -> str:
        hashed.append(path)
        return file_digest(path)

    def broadcasting(object_list: list[Any], **of_torch: Any) -> None:
        # torch's own broadcasts name their group.
        broadcast.append(0 if of_torch else len(pickle.dumps(object_list)))
        broadcast_objects(object_list, **of_torch)

    checkpointing.file_digest = hashing
    torch.distributed.broadcast_object_list = broadcasting
    loss.LOGITS_AT_ONCE = {"cpu": 320 * 7}  # several pieces, the last one shorter
    try:
        # The processes stay together after the run.
        with init_process_group(sharded=True, device="cpu") as world:
            phases = plan_of(**json.loads(plan))
            notes = run(
                Path(model),
                text,
                phases,
                Path(folder),
                execution=Execution(sharded=True),
                heldout=measured,
            )
            for dtype in (torch.float32, torch.bfloat16):
                found = traffic_of(Path(model), text.target, world, dtype)
                sys.stdout.write(json.dumps(found) + "\n")
            refused = error_of_another_run(Path(model), text, phases, Path(folder), world.rank)
            sys.stdout.write(json.dumps([len(hashed), max(broadcast), refused]) + "\n")
        sys.stdout.write(
            f"{notes['loss']}, opened {notes['opened']}, measured {len(others)} times, "
            f"next to {max(others)} other shards"
        )
    except (LingraftError, Interrupted) as error:
        sys.stdout.write(str(error))
        sys.exit(error.exit_code)
