"""Samples of a model's greedy writing, many prompts at a time: for reading, for repetition, for the use of new tokens.

Nothing is timed here (see `generation`), so that samples can be kept with a model's scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lingraft.families import ModelTokenizer
from lingraft.intrinsic.bits import context_of, start_id


@dataclass(frozen=True)
class Sample:
    """A prompt, the text that a model wrote after it, and the ids of that text."""

    prompt: str
    text: str
    ids: tuple[int, ...]


def write_samples(model: Any, tokenizer: ModelTokenizer, prompts: Sequence[str], size: int) -> list[Sample]:
    """Let a model go on from each prompt until it wrote `size` bytes, or its context is full.

    Tokens without bytes (special ones, rows beyond the vocabulary) are barred, as where speed is measured.
    """
    context, surfaces = context_of(model), tokenizer.vocabulary.surfaces
    sizes = [len(surface or b"") for surface in surfaces]
    rows = model.get_output_embeddings().weight.shape[0]
    barred = [i for i in range(rows) if i >= len(sizes) or not sizes[i]]
    start = start_id(tokenizer)
    inputs = [[start, *ids][-max(1, context // 2):] for ids in tokenizer.ids(prompts)]
    written = _generate(model, inputs, [*sizes, *[0] * (rows - len(sizes))], barred, size=size, context=context)
    return [Sample(prompt, tokenizer.text(ids), tuple(ids)) for prompt, ids in zip(prompts, written, strict=True)]


def _generate(model: Any, inputs: Sequence[Sequence[int]], sizes: Sequence[int], barred: Sequence[int], *,
              size: int, context: int) -> list[list[int]]:
    import torch
    from transformers import GenerationConfig, StoppingCriteriaList

    width = max(map(len, inputs))
    padded = torch.tensor([[ids[0]] * (width - len(ids)) + list(ids) for ids in inputs], device=model.device)
    mask = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in inputs], device=model.device)
    bytes_of = torch.tensor(sizes, device=model.device)

    def enough(ids: torch.Tensor, _scores: Any, **_: Any) -> torch.Tensor:
        return bytes_of[ids[:, width:]].sum(dim=1) >= size

    chosen = GenerationConfig(do_sample=False, max_new_tokens=max(1, min(size, context - width)),
                              suppress_tokens=list(barred) or None, pad_token_id=inputs[0][0], eos_token_id=None,
                              bos_token_id=None)
    with torch.inference_mode():
        output = model.generate(padded, attention_mask=mask, generation_config=chosen,
                                stopping_criteria=StoppingCriteriaList([enough]))
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
