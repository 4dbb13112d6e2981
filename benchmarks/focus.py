r"""Compare FOCUS with deepfocus 1.0.1 (PyPI) on the same static vectors: equal weights, and speed.

    pip install --target ../peers --no-deps deepfocus==1.0.1 entmax fastdist numba llvmlite \
        fasttext-wheel print-on-steroids
    PYTHONPATH=../peers python benchmarks/focus.py [--tokens 10000] [--anchors 20000] [--width 2048]

Install deepfocus in a separate folder: its fasttext builds against an older numpy, and only its
import is needed here. The vectors are random clusters, so that their cosines have a spread like
that of trained vectors. Rounds alternate between the two; the best round of each counts. The call
of deepfocus, `focus_additional_token_initialization`, does the same step: cosine similarities,
sparsemax over anchors, convex mixture of source rows.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import time
from types import SimpleNamespace

import torch

from lingraft.embeddings.sparsemax import mix_rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=10_000)
    parser.add_argument("--anchors", type=int, default=20_000)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn((200, 300), generator=generator)
    added, anchors = (
        centres[torch.randint(200, (count,), generator=generator)]
        + 1.5 * torch.randn((count, 300), generator=generator)
        for count in (arguments.tokens, arguments.anchors)
    )
    matrix = torch.randn((arguments.anchors, arguments.width), generator=generator) * 0.02
    theirs = peer(added, anchors, matrix)
    ours = lambda: mix_rows(added, anchors, matrix, range(len(anchors)))  # noqa: E731
    seconds: dict[str, float] = {}
    rows = {}
    for _ in range(arguments.rounds):
        for name, work in (("lingraft", ours), ("deepfocus", theirs)):
            begin = time.perf_counter()
            rows[name] = work()
            seconds[name] = min(seconds.get(name, float("inf")), time.perf_counter() - begin)
            print(f"{name}: {seconds[name]:.2f} s", flush=True)
    cosine = torch.cosine_similarity(rows["lingraft"], rows["deepfocus"]).min()
    print(
        f"{arguments.tokens} tokens, {arguments.anchors} anchors, {arguments.width} wide, "
        f"{torch.get_num_threads()} threads: "
        f"{seconds['deepfocus'] / seconds['lingraft']:.1f} times the speed "
        f"(at least 5 are wanted); lowest cosine {cosine:.6f} (over 0.999)"
    )


def peer(added, anchors, matrix):
    from deepfocus.focus import focus_additional_token_initialization

    overlapping = {
        str(i): SimpleNamespace(auxiliary_embedding=vector, source_embedding=row)
        for i, (vector, row) in enumerate(zip(anchors.numpy(), matrix, strict=True))
    }
    new = {
        str(i): SimpleNamespace(auxiliary_embedding=vector, target=SimpleNamespace(id=i))
        for i, vector in enumerate(added.numpy())
    }

    def work():
        target = torch.zeros((len(added), matrix.shape[1]))
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            return focus_additional_token_initialization(overlapping, new, target, device="cpu")

    return work


if __name__ == "__main__":
    main()
