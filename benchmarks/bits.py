"""Bits per byte: lingraft's scorer and lm-eval's loglikelihood_rolling on the same model and text.

    python benchmarks/bits.py [--language hi] [--unit lines] [--bytes 60000] [--rounds 3]
                              [--batches 1 8 32]

Both score every token of every document once, the first token after BOS, in windows of the model's
full context that do not overlap (lm-eval's default stride). The log-likelihoods must agree. lm-eval
runs at its default batch size of 1 and at larger ones; its best result counts. The scorers run
alternately, and the best round of each counts, in wall-clock seconds and in processor seconds. The
last line is a lower bound for every scorer: the time of the matrix products of the model's weights
with the tokens, at the rate that one large matrix product reaches on this machine.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import io
import json
import logging
import random
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from lingraft.checkpoint import load_model
from lingraft.evaluation import bits_per_byte
from lingraft.tokenizer import ModelTokenizer, open_tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--assets", type=Path, default=Path("../shared/assets"))
    parser.add_argument("--model", type=Path, default=None)
    parser.add_argument("--language", default="hi")
    parser.add_argument(
        "--unit",
        choices=("documents", "lines"),
        default="documents",
        help="what is scored by itself",
    )
    parser.add_argument("--bytes", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8, 32])
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    folder = arguments.model or arguments.assets / "models" / "english-8m"
    documents = heldout(
        arguments.assets / "text" / f"{arguments.language}.heldout.jsonl.gz",
        arguments.bytes,
        arguments.unit,
    )
    model, tokenizer = load_model(folder, arguments.device), open_tokenizer(folder)
    size = sum(len(text.encode()) for text in documents)
    tokens = sum(map(len, tokenizer.encode(documents)))
    print(
        f"{folder.name}, {arguments.language}: "
        f"{len(documents)} {arguments.unit}, {size:,} bytes, {tokens:,} tokens; "
        f"{torch.get_num_threads()} threads, {arguments.device}"
    )
    compare(model, tokenizer, documents, arguments.batches, arguments.rounds)
    bound(model, tokens + len(documents))


def heldout(path: Path, limit: int, unit: str) -> list[str]:
    """Return a random sample of documents with a fixed seed, cut after a number of bytes."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for line in file]
    if unit == "lines":
        texts = [line for text in texts for line in text.split("\n") if line.strip()]
    random.Random(0).shuffle(texts)
    chosen: list[str] = []
    for text in texts:
        if limit <= 0:
            break
        chosen.append(text.encode()[:limit].decode(errors="ignore"))
        limit -= len(text.encode())
    return chosen


def compare(
    model: Any, tokenizer: ModelTokenizer, documents: list[str], batches: list[int], rounds: int
) -> None:
    """Time everything in turns and print a line for each."""
    context = model.config.max_position_embeddings
    ways = {
        "lingraft": lambda: (
            bits_per_byte(model, tokenizer, documents, context=context, stride=context).nats
        )
    }
    for size in batches:
        ways[f"lm-eval, batches of {size}"] = rolling(model, tokenizer, documents, size)
    best: dict[str, list[float]] = {}
    found = {}
    for _ in range(rounds):
        for name, score in ways.items():
            wall, processor = time.perf_counter(), time.process_time()
            found[name] = score()
            taken = [time.perf_counter() - wall, time.process_time() - processor]
            best[name] = [min(pair) for pair in zip(taken, best.get(name, taken), strict=True)]
    ours = best["lingraft"]
    for name, (wall, processor) in best.items():
        apart = float(np.abs(found[name] / found["lingraft"] - 1).max())
        print(
            f"{name:<24} {wall:8.2f} s {processor:8.2f} processor s   "
            f"x {wall / ours[0]:.2f} (processor x {processor / ours[1]:.2f})   "
            f"largest relative difference of a document {apart:.1e}"
        )
    fastest = min(
        (times for name, times in best.items() if name != "lingraft"), key=lambda times: times[0]
    )
    print(f"lingraft is {fastest[0] / ours[0]:.2f} times as fast as the fastest of them")


def bound(model: Any, tokens: int) -> None:
    """Print the time of the weights' products with the tokens at the best rate of a product."""
    weights = sum(
        module.weight.numel() for module in model.modules() if isinstance(module, torch.nn.Linear)
    )
    size = 2048
    one, other = (torch.rand(size, size, device=model.device, dtype=model.dtype) for _ in range(2))
    rate = 0.0
    for _ in range(5):
        started = time.perf_counter()
        (one @ other)[0, 0].item()
        rate = max(rate, 2 * size**3 / (time.perf_counter() - started))
    print(
        f"products of {weights:,} weights with {tokens:,} tokens: "
        f"{2 * weights * tokens / rate:.2f} s at {rate / 1e9:.0f} GFLOP/s"
    )


def rolling(model: Any, tokenizer: ModelTokenizer, documents: list[str], size: int) -> Any:
    """Return what scores the documents with lm-eval, in batches of so many windows."""
    from lm_eval.models.huggingface import HFLM
    from transformers import AutoTokenizer

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    fast = AutoTokenizer.from_pretrained(tokenizer.folder)
    lm = HFLM(
        pretrained=model, tokenizer=fast, backend="causal", batch_size=size, add_bos_token=False
    )
    requests = [SimpleNamespace(args=(text,)) for text in documents]

    def score() -> Any:
        with contextlib.redirect_stderr(io.StringIO()):
            return -np.array(lm.loglikelihood_rolling(requests, disable_tqdm=True))

    return score


if __name__ == "__main__":
    main()
