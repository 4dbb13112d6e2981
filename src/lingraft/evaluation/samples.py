"""Samples: texts that a model generates greedily, and the share of repeated text in them.

Samples are shown in reports, and repetition and the use of new tokens are measured in them. They
are not timed (see `generation`), so they can be cached with the scores of a model. Repetition is
seq-rep-4 (Welleck et al. 2020, arXiv 1908.04319): 1 - distinct 4-grams / all 4-grams of a
continuation. In the paper, the units are tokens. Here they are those of the text (`text_units`):
words, or syllables or characters in scripts without spaces, so that models with different
vocabularies can be compared. A text of fewer than four units has no 4-gram and does not count.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from lingraft.evaluation.bits_per_byte import choose_context, start_id
from lingraft.evaluation.bootstrap import measure_ratio
from lingraft.evaluation.config import BootstrapSettings
from lingraft.measurement import Measurement
from lingraft.text_units import TextUnit
from lingraft.tokenizer import ModelTokenizer

GRAM_LENGTH = 4


def count_repeated(units: Sequence[str]) -> tuple[int, int]:
    """Return how many 4-grams repeat an earlier one, and how many there are.

    >>> count_repeated("a b c d a b c d".split()), count_repeated("a b c".split())
    ((1, 5), (0, 0))
    """
    begins = range(len(units) - GRAM_LENGTH + 1)  # empty for fewer than four units
    grams = [tuple(units[begin : begin + GRAM_LENGTH]) for begin in begins]
    return len(grams) - len(set(grams)), len(grams)


def repetition(
    texts: Sequence[str],
    language: str,
    subject: str,
    bootstrap: BootstrapSettings,
    *,
    unit: TextUnit = TextUnit.WORD,
) -> list[Measurement]:
    """Measure the share of repeated 4-grams, with an interval over texts."""
    repeated, totals = [], []
    for text in texts:
        repeated_count, total = count_repeated(unit.split_text(text))
        repeated.append(repeated_count)
        totals.append(total)
    return measure_ratio(
        "repetition",
        "share",
        repeated,
        totals,
        subject=subject,
        language=language,
        bootstrap=bootstrap,
        per="sample",
        split="generated",
        note=f"repeated 4-grams of {unit}s, greedy",
    )


@dataclass(frozen=True)
class GeneratedSample:
    """A prompt, the text that a model wrote after it, and the ids of that text."""

    prompt: str
    text: str
    ids: tuple[int, ...]


def write_samples(
    model: Any, tokenizer: ModelTokenizer, prompts: Sequence[str], size: int
) -> list[GeneratedSample]:
    """Let a model continue each prompt until it has written `size` bytes or its context is full.

    Tokens without bytes (special tokens, padding of the vocabulary) are suppressed: a model that
    writes only those would never reach the size.
    """
    context = choose_context(model)
    rows = model.get_output_embeddings().weight.shape[0]
    sizes = [len(surface or b"") for surface in tokenizer.vocabulary.surfaces[:rows]]
    sizes += [0] * (rows - len(sizes))  # the matrix may have more rows than the tokenizer ids
    start = start_id(tokenizer)
    # At most half of the context for the prompt, so that the other half is left to write.
    room = max(1, context // 2)
    inputs = [[start, *ids][-room:] for ids in tokenizer.encode(prompts)]
    written = _generate(model, inputs, sizes, size=size, context=context)
    samples = []
    for prompt, ids in zip(prompts, written, strict=True):
        samples.append(GeneratedSample(prompt, tokenizer.decode(ids), tuple(ids)))
    return samples


def _generate(
    model: Any,
    inputs: Sequence[Sequence[int]],
    sizes: Sequence[int],
    *,
    size: int,
    context: int,
) -> list[list[int]]:
    """Return the ids that a model writes greedily after each input; `sizes` are bytes by id."""
    import torch
    from transformers import GenerationConfig, StoppingCriteriaList

    width = max(map(len, inputs))
    padded, mask = [], []
    for ids in inputs:
        # On the left: generation continues from the last position of every input.
        padding = width - len(ids)
        padded.append([ids[0]] * padding + list(ids))
        mask.append([0] * padding + [1] * len(ids))
    bytes_of = torch.tensor(sizes, device=model.device)
    suppressed = [token_id for token_id, token_size in enumerate(sizes) if not token_size]

    def is_enough(ids: torch.Tensor, _scores: Any, **_: Any) -> torch.Tensor:
        return bytes_of[ids[:, width:]].sum(dim=1) >= size

    config = GenerationConfig(
        do_sample=False,
        max_new_tokens=max(1, min(size, context - width)),  # a token has at least one byte
        suppress_tokens=suppressed or None,
        pad_token_id=inputs[0][0],
        eos_token_id=None,  # a sample ends by its size only
        bos_token_id=None,
    )
    with torch.inference_mode(), _replaced_generation_config(model, config):
        output = model.generate(
            torch.tensor(padded, device=model.device),
            attention_mask=torch.tensor(mask, device=model.device),
            generation_config=config,
            stopping_criteria=StoppingCriteriaList([is_enough]),
        )
    # `generate` goes on until all texts are long enough.
    return [_cut_at_size(ids, sizes, size) for ids in output[:, width:].tolist()]


@contextmanager
def _replaced_generation_config(model: Any, config: Any) -> Iterator[None]:
    """Give a model this generation config while the block runs.

    transformers takes what a given config leaves out from the model's own generation_config.json.
    A repetition penalty there (1.1 in some Qwen models) would hide the repetition that is measured.
    """
    own = model.generation_config
    model.generation_config = config
    try:
        yield
    finally:
        model.generation_config = own


def _cut_at_size(ids: Sequence[int], sizes: Sequence[int], size: int) -> list[int]:
    """Return the first ids whose bytes reach `size`, without the ids after them."""
    kept: list[int] = []
    for token_id in ids:
        if size <= 0:
            break
        kept.append(token_id)
        size -= sizes[token_id]
    return kept
