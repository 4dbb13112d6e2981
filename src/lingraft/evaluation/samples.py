"""Degenerate repetition: how much of a written text says again what it said.

The measure is seq-rep-4 (Welleck et al. 2020, arXiv 1908.04319): 1 - distinct 4-grams / all 4-grams of a continuation.
There the units are tokens; here they are words, and characters in scripts without spaces, so that models with
different vocabularies can be compared. A text of fewer than four units has no 4-gram and no say.

Samples of a model's greedy writing, many prompts at a time: for reading, for repetition, for the use of new tokens.

Nothing is timed here (see `generation`), so that samples can be kept with a model's scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lingraft.evaluation.bits_per_byte import context_of, start_id
from lingraft.evaluation.bootstrap import ratio_row
from lingraft.evaluation.config import BootstrapSettings
from lingraft.evaluation.words import words_of
from lingraft.measurement import Measurement
from lingraft.tokenizer import ModelTokenizer

LENGTH = 4


def repeated(units: Sequence[str]) -> tuple[int, int]:
    """Return how many 4-grams repeat an earlier one, and how many there are.

    >>> repeated("a b c d a b c d".split()), repeated("a b c".split())
    ((1, 5), (0, 0))
    """
    grams = [tuple(units[begin : begin + LENGTH]) for begin in range(len(units) - LENGTH + 1)]
    return len(grams) - len(set(grams)), len(grams)


def repetition(
    texts: Sequence[str],
    language: str,
    subject: str,
    bootstrap: BootstrapSettings,
    *,
    unspaced: bool = False,
) -> list[Measurement]:
    """Measure the share of repeated 4-grams, with an interval over texts."""
    counts = [repeated([*text] if unspaced else words_of(text)) for text in texts]
    row = ratio_row(
        "repetition",
        "share",
        [again for again, _ in counts],
        [total for _, total in counts],
        subject=subject,
        language=language,
        bootstrap=bootstrap,
        per="sample",
        split="generated",
        note=f"repeated 4-grams of {'characters' if unspaced else 'words'}, greedy",
    )
    return [row] if row else []


@dataclass(frozen=True)
class GeneratedSample:
    """A prompt, the text that a model wrote after it, and the ids of that text."""

    prompt: str
    text: str
    ids: tuple[int, ...]


def write_samples(
    model: Any, tokenizer: ModelTokenizer, prompts: Sequence[str], size: int
) -> list[GeneratedSample]:
    """Let a model go on from each prompt until it wrote `size` bytes, or its context is full.

    Tokens without bytes (special ones, rows beyond the vocabulary) are barred, as where speed is measured.
    """
    context, surfaces = context_of(model), tokenizer.vocabulary.surfaces
    sizes = [len(surface or b"") for surface in surfaces]
    rows = model.get_output_embeddings().weight.shape[0]
    barred = [i for i in range(rows) if i >= len(sizes) or not sizes[i]]
    start = start_id(tokenizer)
    inputs = [[start, *ids][-max(1, context // 2) :] for ids in tokenizer.encode(prompts)]
    written = _generate(
        model, inputs, [*sizes, *[0] * (rows - len(sizes))], barred, size=size, context=context
    )
    return [
        GeneratedSample(prompt, tokenizer.decode(ids), tuple(ids))
        for prompt, ids in zip(prompts, written, strict=True)
    ]


def _generate(
    model: Any,
    inputs: Sequence[Sequence[int]],
    sizes: Sequence[int],
    barred: Sequence[int],
    *,
    size: int,
    context: int,
) -> list[list[int]]:
    import torch
    from transformers import GenerationConfig, StoppingCriteriaList

    width = max(map(len, inputs))
    padded = torch.tensor(
        [[ids[0]] * (width - len(ids)) + list(ids) for ids in inputs], device=model.device
    )
    mask = torch.tensor(
        [[0] * (width - len(ids)) + [1] * len(ids) for ids in inputs], device=model.device
    )
    bytes_of = torch.tensor(sizes, device=model.device)

    def enough(ids: torch.Tensor, _scores: Any, **_: Any) -> torch.Tensor:
        return bytes_of[ids[:, width:]].sum(dim=1) >= size

    chosen = GenerationConfig(
        do_sample=False,
        max_new_tokens=max(1, min(size, context - width)),
        suppress_tokens=list(barred) or None,
        pad_token_id=inputs[0][0],
        eos_token_id=None,
        bos_token_id=None,
    )
    with torch.inference_mode():
        output = model.generate(
            padded,
            attention_mask=mask,
            generation_config=chosen,
            stopping_criteria=StoppingCriteriaList([enough]),
        )
    return [_until(row, sizes, size) for row in output[:, width:].tolist()]


def _until(ids: Sequence[int], sizes: Sequence[int], size: int) -> list[int]:
    """Return the ids up to the one that reaches the size; what pads a finished row is left out."""
    kept: list[int] = []
    for token_id in ids:
        if size <= 0:
            break
        kept.append(token_id)
        size -= sizes[token_id]
    return kept
