"""How much of a GPU training uses, and what the loss in pieces saves: Llama shapes with an extended vocabulary.

    python benchmarks/training_gpu.py                        # 1B and 7B on one GPU of 140 GB, under ten minutes
    python benchmarks/training_gpu.py --shapes 1b            # 24 GB suffice
    python benchmarks/training_gpu.py --smoke --device cpu   # seconds: does it run at all

Random weights, float32 with bfloat16 computation as in a run, every weight trained by AdamW, rows of 2,048 tokens drawn
at random, 32,000 rows of vocabulary and 10,000 added. Each shape is trained with all logits at once and with the logits
of some tokens at a time, in turns; tokens a second and MFU of the best step, and the highest memory that torch had
allocated. `rows` is the strategy that trains the added rows alone: its optimiser's memory is printed beside.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from lingraft.packing.blocks import ROWS, SUMMARY, TOKENS, Blocks, Summary
from lingraft.packing.mixture import Batch
from lingraft.strategies import STRATEGIES
from lingraft.strategies.base import Rates
from lingraft.training import Execution
from lingraft.training.losses import loss_of
from lingraft.training.opening import recompute_activations
from lingraft.training.optimisers import state_of
from lingraft.training.plan import Phase
from lingraft.training.steps import Stepper
from lingraft.training.utilisation import Utilisation
from lingraft.training.world import World

SHAPES = {  # width, feed-forward width, layers, heads, key-value heads, rows of a step
    "tiny": (64, 172, 2, 4, 2, 2), "1b": (2048, 5632, 22, 32, 4, 16), "7b": (4096, 11008, 32, 32, 32, 4)}
RECOMPUTED = ("7b",)
"""Shapes whose activations are computed again: beside 112 GB of weights, gradients and moments there is no room."""
SOURCE_ROWS, ADDED = 32_000, 10_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=["1b", "7b"])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tokens", type=int, default=2048, help="of a row")
    parser.add_argument("--steps", type=int, default=6, help="of each way; the first one warms up")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--smoke", action="store_true")
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.shapes, arguments.tokens, arguments.steps, arguments.rounds = ["tiny"], 64, 2, 1
    device = torch.cuda.get_device_name() if arguments.device == "cuda" else platform.processor()
    print(f"{device}; torch {torch.__version__}; rows of {arguments.tokens} tokens; vocabulary "
          f"{SOURCE_ROWS + ADDED:,}\n\n| shape | strategy | loss | tokens/s | MFU | peak GB | optimiser GB |\n"
          f"|---|---|---|---|---|---|---|")
    for shape in arguments.shapes:
        ways = [("full", "plain"), ("full", "chunked"), ("rows", "chunked")]
        best: dict[tuple[str, str], dict[str, float]] = {}
        for _ in range(arguments.rounds):
            for way in ways:
                found = trained(shape, *way, arguments)
                if found["speed"] > best.get(way, {"speed": 0.0})["speed"]:
                    best[way] = found
        for (strategy, loss), one in best.items():
            print(f"| {shape} | {strategy} | {loss} | {one['speed']:,.0f} | {one['mfu']:.1%} | "
                  f"{one['peak'] / 1e9:.2f} | {one['state'] / 1e9:.3f} |", flush=True)


def trained(shape: str, strategy: str, loss: str, arguments: argparse.Namespace) -> dict[str, float]:
    """Train some steps; return the best tokens a second, MFU, peak memory, and the optimiser's memory in bytes."""
    cuda = arguments.device == "cuda"
    gc.collect()
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    execution = Execution(device=arguments.device, loss=loss, tokens_at_once=arguments.tokens * SHAPES[shape][-1])
    model = model_of(shape, arguments)
    chosen = STRATEGIES.parse(strategy)
    if shape in RECOMPUTED:
        recompute_activations(model)
    groups = chosen.prepare(model, range(SOURCE_ROWS, SOURCE_ROWS + ADDED))
    utilisation = Utilisation.of(model, execution, 1)
    with tempfile.TemporaryDirectory() as folder:
        stepper = Stepper(model, groups, Rates(1e-5, 1e-4), phase=Phase(strategy=chosen), steps=arguments.steps,
                          execution=execution, text=no_text(Path(folder)), world=World(),
                          loss=loss_of(model, loss, autocast=execution.computes_in_bfloat16()))
    speed = 0.0
    for step in range(arguments.steps):
        batch = batch_of(step, SHAPES[shape][-1], arguments.tokens)
        began = time.perf_counter()
        stepper.forward_backward(batch)
        stepper.update(step, 1.0)
        if cuda:
            torch.cuda.synchronize()
        if step:
            speed = max(speed, batch.tokens / (time.perf_counter() - began))
    state = sum(tensor.nbytes for tensor in state_of(stepper.optimiser, stepper.parameters).values())
    return {"speed": speed, "mfu": utilisation.share(round(speed), 1.0) or 0.0, "state": float(state),
            "peak": float(torch.cuda.max_memory_allocated()) if cuda else 0.0}


def model_of(shape: str, arguments: argparse.Namespace) -> Any:
    """Return a Llama of random weights on the device."""
    width, wide, layers, heads, groups, _ = SHAPES[shape]
    config = LlamaConfig(vocab_size=SOURCE_ROWS + ADDED, hidden_size=width, intermediate_size=wide,
                         num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=groups,
                         max_position_embeddings=arguments.tokens, use_cache=False)
    torch.manual_seed(0)
    with torch.device(arguments.device):
        return LlamaForCausalLM(config).train()


def no_text(folder: Path) -> Blocks:
    """Return packed text of a single row: a stepper asks it for its separators alone."""
    np.zeros(3, dtype=np.uint32).tofile(folder / TOKENS)
    np.array([0, 2, 2, 1], dtype=np.int64).tofile(folder / ROWS)
    summary = asdict(Summary(block=2, rows=1, tokens=2, bytes=2, documents=1, before=1, after=2))
    (folder / SUMMARY).write_text(json.dumps(summary), encoding="utf-8")
    return Blocks.open(folder)


def batch_of(step: int, rows: int, tokens: int) -> Batch:
    """Return random rows; no id is a separator."""
    ids = np.random.default_rng(step).integers(3, SOURCE_ROWS + ADDED, (rows, tokens + 1))
    return Batch(ids[:, :-1], ids[:, 1:], np.zeros(rows, dtype=bool), rows * tokens, rows * tokens, rows * tokens, rows)


if __name__ == "__main__":
    main()
