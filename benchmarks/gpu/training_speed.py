"""Piece a.

Tokens a second, MFU and peak memory of training 1B and 7B shapes with an extended vocabulary.

Weights in float32, computed in bfloat16 (autocast) as a run does, and fused AdamW; or weights in
bfloat16 with stochastic rounding and moments in 8 bits. Rows of 2,048 tokens drawn at random,
32,000 rows of vocabulary and 10,000 added. `compile` is torch.compile of each layer, which compiles
one layer for all. With `masks` a document begins every 512 tokens and attention stays inside of it,
by flex attention or by a dense mask.
"""

from __future__ import annotations

import gc
import json
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, Literal

import numpy as np
import torch

from benchmarks.gpu.results import Column, Results
from benchmarks.gpu.shapes import ADDED, SHAPES, SOURCE_ROWS
from lingraft.packing.blocks import SPANS, SUMMARY, TOKENS, Blocks, PackingSummary
from lingraft.packing.mixture import Batch
from lingraft.strategies import STRATEGIES
from lingraft.strategies.base import Rates
from lingraft.training import Execution, compiled_layers
from lingraft.training.compiled_layers import StepCompiler
from lingraft.training.config import Phase
from lingraft.training.distributed import ProcessGroup, reshard
from lingraft.training.document_attention import DocumentAttention
from lingraft.training.loss import make_loss
from lingraft.training.mfu import Utilisation
from lingraft.training.optimizer import (
    execution_with,
    set_weight_dtype,
    state_tensors,
    weight_dtype,
)
from lingraft.training.optimizer_memory import OptimizerName
from lingraft.training.prepare_model import recompute_activations
from lingraft.training.train_step import Stepper

TITLE = "Training speed and memory"
COLUMNS = (
    Column("shape", "shape"),
    Column("strategy", "strategy"),
    Column("optimizer", "optimizer"),
    Column("loss", "loss"),
    Column("compile", "compile"),
    Column("masks", "masks"),
    Column("attention", "attention"),
    Column("tokens a step", "tokens", ","),
    Column("s a step", "seconds", ".3f"),
    Column("tokens/s", "speed", ",.0f"),
    Column("MFU", "mfu", ".1%"),
    Column("peak GB", "peak_gb", ".1f"),
    Column("optimizer GB", "optimizer_gb", ".2f"),
    Column("first step, s", "first", ".1f"),
    Column("failed", "error"),
)
SEPARATOR = 2
DOCUMENT = 512
STEPS = 5
"""Of each case; the first one, which compiles and allocates, is not counted."""


@dataclass(frozen=True)
class Case:
    """A way to train a shape."""

    shape: str
    strategy: str = "full"
    optimizer: OptimizerName = "adamw"
    loss: str = "chunked"
    compile: bool = False
    masks: Literal["", "flex", "dense"] = ""
    tokens: int = 2048
    steps: int = STEPS

    @property
    def way(self) -> str:
        """The case in a few words."""
        words = [self.shape, self.strategy, self.optimizer, self.loss]
        if self.masks:
            words.append(f"{self.masks} masks")
        if self.compile:
            words.append("compiled")
        return ", ".join(words)


LOW: OptimizerName = "adamw8bit_bfloat16"
CASES = (
    Case("1B"),
    Case("7B", optimizer=LOW),
    Case("1B", compile=True),
    Case("1B", masks="flex"),
    Case("1B", masks="dense"),
    Case("7B", optimizer=LOW, compile=True),
    Case("7B", optimizer=LOW, masks="flex"),
    Case("1B", strategy="rows"),
    Case("1B", masks="flex", compile=True),
    Case("1B", loss="plain"),
    Case("1B", optimizer=LOW),
    Case("7B", strategy="rows"),
    Case("7B", optimizer=LOW, masks="flex", compile=True),
    Case("7B"),
)
"""By worth: the time may be over before the last ones. The last one needs 110 GB."""


def cases(*, smoke: bool) -> list[Case]:
    """Return the cases; a smoke run has each way once, at a tiny shape and with few steps."""
    if not smoke:
        return list(CASES)
    tiny = [replace(case, shape="tiny", tokens=64, steps=2) for case in CASES]
    # On a CPU, moments in 8 bits take 3 s a step for all rows: one case suffices, with few of them.
    low = Case("tiny", strategy="rows", optimizer=LOW, tokens=64, steps=2)
    return list(dict.fromkeys([*(case for case in tiny if case.optimizer != LOW), low]))


def run(results: Results, device: str, *, smoke: bool) -> None:
    """Measure case after case until the time is over."""
    planned = cases(smoke=smoke)
    slowest = 0.0
    for number, case in enumerate(planned):
        if results.left() < slowest:
            results.end(f"stopped after {number} of {len(planned)} cases: the time was over")
            return
        started = time.monotonic()
        results.add(measure_or_fail(case, device))
        slowest = max(slowest, time.monotonic() - started)
    results.end("complete")


def measure_or_fail(case: Case, device: str) -> dict[str, Any]:
    """Return the row of a case; where it fails, such as for want of memory, the row says so."""
    try:
        found = measure(case, device, ProcessGroup())
    except Exception as error:  # noqa: BLE001 - the next case may fit
        found = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"}
    torch._dynamo.reset()  # noqa: SLF001 - compiled code holds on to the model
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
    return {**asdict(case), "way": case.way, **found}


def measure(case: Case, device: str, world: ProcessGroup) -> dict[str, Any]:
    """Train some steps; return the median step and what memory it took at most."""
    shape, cuda = SHAPES[case.shape], device.startswith("cuda")
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    execution = Execution(
        device=device,
        loss=case.loss,
        tokens_at_once=case.tokens * shape.batch_rows,
        compile="true" if case.compile else "auto",
    )
    model = shape.model(SOURCE_ROWS + ADDED, case.tokens, device, torch.float32).train()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    stepper, utilisation = stepper_of(model, case, execution, world)
    attention = stepper.attention
    batch_tokens = case.tokens * shape.batch_rows * world.size
    times = []
    for step in range(case.steps):
        batch = batch_of(step, shape.batch_rows * world.size, case)
        started = time.perf_counter()
        stepper.forward_backward(batch)
        stepper.update(step, 1.0)
        if cuda:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    seconds = median(times[1:])
    optimizer = sum(
        tensor.nbytes for tensor in state_tensors(stepper.optimizer, stepper.parameters).values()
    )
    return {
        "parameters": parameters,
        "trained": sum(one.numel() for one in stepper.parameters.values()),
        "tokens": batch_tokens,
        "first": times[0],
        "seconds": seconds,
        "speed": batch_tokens / seconds,
        "mfu": utilisation.share(batch_tokens, seconds),
        "devices": world.size,
        "attention": attention.implementation if attention else "",
        "optimizer_gb": optimizer / 1e9,
        "peak_gb": torch.cuda.max_memory_allocated() / 1e9 if cuda else None,
    }


def stepper_of(
    model: Any, case: Case, execution: Execution, world: ProcessGroup
) -> tuple[Stepper, Utilisation]:
    """Return the optimizer step of a case, and what counts its FLOPs."""
    strategy = STRATEGIES.parse(case.strategy)
    if SHAPES[case.shape].recompute:
        recompute_activations(model)
    groups = strategy.prepare(model, range(SOURCE_ROWS, SOURCE_ROWS + ADDED))
    execution = execution_with(case.optimizer, execution)
    weights = weight_dtype(case.optimizer, execution.precision)
    set_weight_dtype(model, weights)
    utilisation = Utilisation.of(model, execution, world.size)
    bfloat16 = execution.computes_in_bfloat16()
    dtype = torch.bfloat16 if bfloat16 else torch.float32
    groups = world.shard_model(model, groups, lambda: None, dtype)
    loss = make_loss(model, case.loss, autocast=bfloat16, sharded=world.size > 1)
    reshard(model)
    if not execution.device.startswith("cuda"):
        compiled_layers.BACKEND = "eager"  # the smoke run needs no C++ compiler
    # Without compiled code, documents get a dense mask.
    by = replace(execution, compile="false") if case.masks == "dense" else execution
    attention = DocumentAttention.of(model, SEPARATOR, by) if case.masks else None
    with tempfile.TemporaryDirectory() as folder:
        text = no_text(Path(folder))
        stepper = Stepper(
            model,
            groups,
            Rates(1e-5, 1e-4),
            phase=Phase(strategy=strategy, optimizer=case.optimizer),
            steps=case.steps,
            execution=execution,
            text=text,
            world=world,
            loss=loss,
            attention=attention,
            compiler=StepCompiler(model, execution, case.steps, world),
        )
    return stepper, utilisation


def batch_of(step: int, rows: int, case: Case) -> Batch:
    """Return random rows; with masks, a separator opens a document every 512 tokens."""
    ids = np.random.default_rng(step).integers(3, SOURCE_ROWS + ADDED, (rows, case.tokens + 1))
    if case.masks:
        ids[:, :: min(DOCUMENT, case.tokens // 2)] = SEPARATOR
    size = rows * case.tokens
    return Batch(ids[:, :-1], ids[:, 1:], np.zeros(rows, dtype=int), size, (size,), 1, rows)


def no_text(folder: Path) -> Blocks:
    """Return packed text of a single row: a stepper asks it for its separators alone."""
    np.zeros(3, dtype=np.uint32).tofile(folder / TOKENS)
    np.array([0, 2, 2, 1], dtype=np.int64).tofile(folder / SPANS)
    summary = asdict(
        PackingSummary(
            block=2, rows=1, tokens=2, bytes=2, documents=1, before=None, after=SEPARATOR
        )
    )
    (folder / SUMMARY).write_text(json.dumps(summary), encoding="utf-8")
    return Blocks.open(folder)
