"""Rough estimates of the cost of a stage before it has run.

Training takes 6 FLOPs for each token and each parameter that it is multiplied with, scoring takes 2
(`model_shape.Shape`). To get seconds, FLOPs are divided by the
measured speed of a matrix product on this machine, in the data type that they are computed in,
times the share of it that models reach. A model
that writes reads for every token the weights that it multiplies, so the speed of memory decides.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from functools import cache
from itertools import islice
from statistics import fmean

from lingraft.corpus import CorpusSettings, Source
from lingraft.corpus.readers import read_documents
from lingraft.corpus.remote_files import size_of
from lingraft.corpus.source import Limit
from lingraft.corpus.text_files import find_files
from lingraft.errors import LingraftError
from lingraft.file_kinds import COMPRESSIONS
from lingraft.recipe.text_needs import BYTES_PER_DOCUMENT
from lingraft.tf32 import tf32_products

COMPRESSION = 4.0
"""Bytes of text per byte of a compressed file: 3.6 (English) to 6.2 (Tamil) in news text."""

BYTES_PER_TOKEN = {"before": 1.6, "after": 6.5, "base": 4.0}
"""In a language that the tokenizer was not trained on, before and after tokens are added, and in
that of the base."""

LEARNING_SECONDS_PER_BYTE = 1.2e-6
READING_SECONDS_PER_BYTE = 0.5e-6
STORY_BYTES = 300
"""Bytes of a story of the built-in miniature corpus."""
FIRST_DOCUMENTS = 100
"""Documents that are read where a limit counts documents."""
MEAN_DOCUMENT_BYTES = BYTES_PER_DOCUMENT / 2
"""The mean of web text, for documents that are not on this machine."""

LAYER_SECONDS = 1e-3
"""Time of a layer that reads one token, in addition to that of reading its weights.

Measured on one busy CPU core: 0.3 ms in stories260K, 1.7 ms in english-8m.
"""

EFFICIENCY = 0.45
"""Share of the speed of a large matrix product that small models reach in training and scoring."""


def text_bytes(settings: CorpusSettings, language: str) -> int | None:
    """Return an estimate of the bytes of text of a corpus, `None` if nothing is known about it."""
    bounds = _limits(settings.limit, settings.sources[0], language)
    total: int | None = 0
    for source in settings.sources:
        size = _source_bytes(source, language)
        total = None if total is None or size is None else total + size
    if total is not None:
        bounds.append(total)
    return min(bounds, default=None)


def _source_bytes(source: Source, language: str) -> int | None:
    bounds = _limits(source.limit, source, language)
    if source.miniature is not None:
        bounds.append(source.miniature.stories * STORY_BYTES)
    elif source.path is not None:
        total = 0.0
        try:
            for file in find_files(source.path):
                total += size_of(file) * (COMPRESSION if file.suffix in COMPRESSIONS else 1)
        except LingraftError:  # the stage that reads the text says what is wrong
            return min(bounds, default=None)
        bounds.append(round(total))
    return min(bounds, default=None)


def _limits(limit: Limit | None, source: Source, language: str) -> list[int]:
    """Return the bounds of a limit in bytes; documents are as large as the first of a source."""
    bounds: list[int] = []
    if limit and limit.bytes:
        bounds.append(limit.bytes)
    if limit and limit.documents:
        bounds.append(round(limit.documents * _document_bytes(source, language)))
    return bounds


def _document_bytes(source: Source, language: str) -> float:
    """Return the mean size of the first documents, or a usual one if they are not here."""
    if source.hub is not None or "://" in (source.path or ""):
        return MEAN_DOCUMENT_BYTES
    try:
        with closing(read_documents(source, language)) as documents:
            first = list(islice(documents, FIRST_DOCUMENTS))
    except LingraftError:  # as above
        return MEAN_DOCUMENT_BYTES
    sizes = [len(document.text.encode()) for document in first if document.passes]
    return fmean(sizes) if sizes else MEAN_DOCUMENT_BYTES


@cache
def flops_per_second(device: str, dtype: str = "float32", *, tf32: bool = False) -> float:
    """Measure the matrix product of this machine in a data type of torch.

    A GPU is about 10 times faster in bfloat16 than in float32.
    """
    import torch

    size = 512 if device == "cpu" else 4096
    left = torch.rand(size, size, device=device, dtype=getattr(torch, dtype))
    with tf32_products(allowed=tf32):
        return 2 * size**3 / _fastest(lambda: float((left @ left)[0, 0]))


def writing_seconds(layers: int, weight_bytes: int, device: str) -> float:
    """Return the time in which a model of so many layers and bytes writes a token."""
    return layers * LAYER_SECONDS + weight_bytes / _bytes_per_second(device)


@cache
def _bytes_per_second(device: str) -> float:
    """Measure how fast this machine reads a matrix that few caches hold, times a vector."""
    import torch

    size = 8192 if device == "cpu" else 16384
    matrix, vector = torch.rand(size, size, device=device), torch.rand(size, device=device)
    return 4 * size**2 / _fastest(lambda: float((matrix @ vector)[0]))


def _fastest(compute: Callable[[], object]) -> float:
    """Return the fastest of half a second: other processes slow down single computations.

    `compute` reads a number of its result, as an accelerator computes asynchronously.
    """
    compute()  # the first is slower: memory is allocated, kernels are chosen
    begin, fastest = time.perf_counter(), float("inf")
    while time.perf_counter() - begin < 0.5:
        started = time.perf_counter()
        compute()
        fastest = min(fastest, time.perf_counter() - started)
    return fastest
