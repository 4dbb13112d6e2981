"""Piece d: milliseconds of a decoding step against the rows of the head and the batch.

bfloat16, a static cache of which all positions are attended to, greedy. A step of a small batch is
shorter than the time to start its kernels one by one, so that each case is timed twice: as
transformers runs it (eager), and as one CUDA graph, which is how a server runs it. Words a second
follow from the tokens a word that were measured with real tokenizers of these sizes.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import nn
from transformers import StaticCache

from benchmarks.gpu.results import Column, Results
from benchmarks.gpu.shapes import SHAPES

TITLE = "Decoding against vocabulary and batch"
COLUMNS = (
    Column("shape", "shape"),
    Column("batch", "batch"),
    Column("rows", "rows", ",d"),
    Column("mode", "mode"),
    Column("ms a step", "ms", ".3f"),
    Column("times the smallest vocabulary", "tax", ".3f"),
    Column("tokens/s", "speed", ",.0f"),
    Column("tokens a word", "tokens_per_word", ".3f"),
    Column("words/s", "words", ",.0f"),
    Column("failed", "error"),
)
ROWS = (32_000, 42_000, 152_000, 182_000)
BATCHES = (1, 32, 8, 128)
CONTEXT = 512
STEPS, REPEATS = 10, 5


@dataclass(frozen=True)
class Decoder:
    """A model with a cache that is full but for the steps to come.

    `step` decodes one token for each row.
    """

    model: Any
    cache: Any
    ids: torch.Tensor
    mask: torch.Tensor
    position: torch.Tensor

    @classmethod
    def of(cls, model: Any, batch: int, context: int, device: str) -> Decoder:
        """Return a decoder with room for all steps that are timed."""
        length = context + STEPS * (REPEATS + 2) + 8
        cache = StaticCache(config=model.config, max_cache_len=length)
        mask = torch.ones(batch, 1, 1, length, dtype=torch.bool, device=device)
        position = torch.full((batch, 1), context, device=device)
        return cls(
            model, cache, torch.ones(batch, 1, dtype=torch.long, device=device), mask, position
        )

    @torch.no_grad()
    def step(self) -> None:
        """Decode one token greedily and keep it as the next input."""
        logits = self.model(
            input_ids=self.ids,
            attention_mask=self.mask,
            position_ids=self.position,
            past_key_values=self.cache,
            use_cache=True,
        ).logits
        self.ids.copy_(logits[:, -1].argmax(-1, keepdim=True))


def run(results: Results, device: str, words: dict[str, Any], *, smoke: bool) -> None:
    """Time every case until the time is over.

    The vocabularies of a batch are timed one right after the other.
    """
    shapes, batches = (("tiny",), (1, 2)) if smoke else (("1B", "7B"), BATCHES)
    rows = (320, 420) if smoke else ROWS
    context = 16 if smoke else CONTEXT
    for shape in shapes:
        model = SHAPES[shape].model(rows[0], context + 256, device, torch.bfloat16).eval()
        for batch in batches:
            smallest: dict[str, float] = {}
            for size in rows:
                if results.left() < 5:
                    results.end("stopped: the time was over")
                    return
                set_vocabulary(model, size)
                about = {"shape": shape, "batch": batch, "rows": size}
                for timed in times_of(model, batch, context, device):
                    results.add({**about, **timed, **derived(timed, batch, size, words, smallest)})
        del model
        free(device)
    results.end("complete")


def times_of(model: Any, batch: int, context: int, device: str) -> list[dict[str, Any]]:
    """Return milliseconds a step in each mode, or why there are none."""
    found: list[dict[str, Any]] = []
    modes = ("eager", "graph") if device == "cuda" else ("eager",)
    for mode in modes:
        try:
            decoder = Decoder.of(model, batch, context, device)
            step = captured(decoder) if mode == "graph" else decoder.step
            found.append({"mode": mode, "ms": milliseconds(step, device)})
        except Exception as error:  # noqa: BLE001 - the next batch may fit
            found.append(
                {
                    "mode": mode,
                    "error": f"{type(error).__name__}: {' '.join(str(error).split())[:120]}",
                }
            )
        decoder = None  # type: ignore[assignment]
        free(device)
    return found


def derived(
    timed: dict[str, Any], batch: int, rows: int, words: dict[str, Any], smallest: dict[str, float]
) -> dict[str, Any]:
    """Return what follows from the time of a step.

    `smallest` keeps that of the first vocabulary, by mode.
    """
    if "ms" not in timed:
        return {}
    speed = 1000 * batch / timed["ms"]
    found = {"speed": speed, "tax": timed["ms"] / smallest.setdefault(timed["mode"], timed["ms"])}
    if str(rows) in words:
        per_word = words[str(rows)]["tokens per word"]
        found |= {"tokens_per_word": per_word, "words": speed / per_word}
    return found


def set_vocabulary(model: Any, rows: int) -> None:
    """Give a model embeddings and a head of so many rows, with random weights."""
    old = model.get_input_embeddings().weight
    settings = {"device": old.device, "dtype": old.dtype}
    model.set_input_embeddings(nn.Embedding(rows, old.shape[1], **settings))
    model.set_output_embeddings(nn.Linear(old.shape[1], rows, bias=False, **settings))
    model.config.vocab_size = rows


def captured(decoder: Decoder) -> Callable[[], None]:
    """Return a step as one CUDA graph: warmed up on a stream of its own, then captured."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            decoder.step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        decoder.step()

    def replay() -> None:
        graph.replay()

    return replay


def milliseconds(step: Callable[[], None], device: str) -> float:
    """Return the median over groups of steps, after a group that is not counted."""
    groups = []
    for _ in range(REPEATS + 1):
        _wait(device)
        started = time.perf_counter()
        for _ in range(STEPS):
            step()
        _wait(device)
        groups.append(1000 * (time.perf_counter() - started) / STEPS)
    return median(groups[1:])


def free(device: str) -> None:
    """Give memory back."""
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
