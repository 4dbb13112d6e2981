"""How likely generated texts are to the first model, as a measure of what a model writes.

Bits per byte and tasks say how well a model reads. A model can read well and write badly: a bad row
in the output head is seldom the right token of a given text, but it takes part in every choice. So
the first model, of a run the source, reads the samples that each model wrote. Right after added
rows are initialised, their text should be as likely to the source as the source's own.

Text that repeats itself is likely, too, so a lower value is not called better: read it with the
repetition of the same samples. After training, the source is no judge of a language that it did not
know.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import log
from typing import Any

import numpy as np

from lingraft.evaluation.added_token_choice import written_text
from lingraft.evaluation.bootstrap import Floats, measure_ratios
from lingraft.evaluation.byte_positions import read_texts
from lingraft.evaluation.config import BootstrapSettings
from lingraft.evaluation.samples import GeneratedSample
from lingraft.evaluation.words_kept_whole import TokenPlaces
from lingraft.measurement import Measurement
from lingraft.tokenizer import ModelTokenizer

GENERATED_BITS = "bits per byte of generated text"


def read_generated(
    model: Any,
    samples: Mapping[str, tuple[ModelTokenizer, Sequence[GeneratedSample]]],
    language: str,
    bootstrap: BootstrapSettings,
    *,
    context: int,
) -> Iterator[Measurement]:
    """Yield how likely the samples of each model are to the first one, and the changes.

    `model` is the first one. `samples` has the tokenizer and the samples of each model by subject,
    with the same prompts.
    """
    tokenizer, _ = next(iter(samples.values()))
    ratios = {}
    for subject, (writer, written) in samples.items():
        places = TokenPlaces.of(writer)
        texts = [(sample.prompt, written_text(sample, places)) for sample in written]
        ratios[subject] = _bits_of_ends(model, tokenizer, texts, context)
    yield from measure_ratios(
        GENERATED_BITS,
        "bits/byte",
        ratios,
        language=language,
        bootstrap=bootstrap,
        per="sample",
        split="generated",
        note=f"read by {next(iter(samples))}, greedy",
    )


def _bits_of_ends(
    model: Any, tokenizer: ModelTokenizer, texts: Sequence[tuple[str, str]], context: int
) -> tuple[Floats, Floats]:
    """Return the bits and the bytes of the second part of each text, read after the first part.

    Both are 0 for a text that the tokenizer's normalizer changes.
    """
    read_by_model = read_texts(model, tokenizer, [begin + end for begin, end in texts], context)
    bits, sizes = np.zeros(len(texts)), np.zeros(len(texts))
    for number, ((begin, end), read) in enumerate(zip(texts, read_by_model, strict=True)):
        first, last = len(begin.encode()), len((begin + end).encode())
        if read is not None and last > first:
            bits[number] = read.between([(first, last)]) / log(2)
            sizes[number] = last - first
    return bits, sizes
