"""Generation speed: the seconds that each model takes to write the same text.

Every model writes the real continuation of each prompt token by token, with a cache. In each step
it computes the most likely next token as in greedy decoding, but then reads the token of the text.
Texts that models choose themselves would differ in length, language and quality, so their times
could not be compared. An extended vocabulary saves time because it needs fewer tokens for the same
text.

Models take turns in several rounds, and the best round of each counts, because other load on the
machine can only slow a model down. When the context is full, the second half of it is read again,
and that time counts as decoding.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from lingraft.errors import ModelError
from lingraft.evaluation.bits_per_byte import choose_context, start_id
from lingraft.evaluation.config import GenerationSettings
from lingraft.measurement import Measurement
from lingraft.tokenizer import ModelTokenizer


@dataclass(frozen=True)
class GenerationSpeed:
    """The sizes of all prompts and continuations, and the seconds of prefill and decoding.

    `bytes`, `characters` and `tokens` are those of the continuations. Prefill is the reading of the
    prompts.
    """

    bytes: int
    characters: int
    tokens: int
    prompt_bytes: int
    prompt_tokens: int
    prefill_seconds: float
    decode_seconds: float

    @property
    def bytes_per_second(self) -> float:
        """Bytes written per second of decoding."""
        return self.bytes / max(self.decode_seconds, 1e-9)

    @property
    def characters_per_second(self) -> float:
        """Characters (code points) written per second of decoding."""
        return self.characters / max(self.decode_seconds, 1e-9)

    @property
    def prompt_bytes_per_second(self) -> float:
        """Bytes of the prompts read per second."""
        return self.prompt_bytes / max(self.prefill_seconds, 1e-9)


def measure_speed(
    speed: GenerationSpeed, subject: str, language: str, prompts: int, settings: GenerationSettings
) -> list[Measurement]:
    """Return the measurements of one model's speed, with prefill and decoding separate."""
    note = (
        f"real text, batch of one, {settings.timed_bytes} bytes a prompt, "
        f"best of {settings.timed_repeats}"
    )
    values = (
        ("generation speed", speed.bytes_per_second, "bytes/s"),
        ("generation speed in characters", speed.characters_per_second, "characters/s"),
        ("prefill speed", speed.prompt_bytes_per_second, "bytes/s"),
        ("time to write 1,000 bytes", 1000 / max(speed.bytes_per_second, 1e-9), "s"),
    )
    measurements = []
    for metric, value, unit in values:
        measurements.append(
            Measurement(
                metric,
                subject,
                value,
                unit,
                language,
                split="generated",
                n=prompts,
                per="prompt",
                note=note,
            )
        )
    return measurements


@dataclass(frozen=True)
class Passage:
    """The beginning of a document, and the text that follows it in the document."""

    prompt: str
    continuation: str


def generation_speed(
    models: Mapping[str, tuple[Any, ModelTokenizer]],
    passages: Sequence[Passage],
    *,
    repeats: int = 2,
) -> dict[str, GenerationSpeed]:
    """Time each model writing the continuation of every passage; return the best round of each.

    The models take turns in `repeats` rounds, after one short warm-up.
    """
    writers = {}
    for name, (model, tokenizer) in models.items():
        writers[name] = _TimedWriter(model, tokenizer, choose_context(model))
    # The first call of a model is slower: memory is allocated, kernels are chosen.
    for writer in writers.values():
        writer.write(Passage(passages[0].prompt, passages[0].continuation[:16]))
    best: dict[str, GenerationSpeed] = {}
    for _ in range(repeats):
        rounds: dict[str, list[GenerationSpeed]] = {}
        # The models take turns after every passage, so that load on the machine affects all.
        for passage in passages:
            for name, writer in writers.items():
                rounds.setdefault(name, []).append(writer.write(passage))
        for name, parts in rounds.items():
            total = _sum(parts)
            best[name] = _faster(best[name], total) if name in best else total
    return best


@dataclass(frozen=True)
class _TimedWriter:
    """A model that writes given text token by token and measures the time."""

    model: Any
    tokenizer: ModelTokenizer
    context: int

    def write(self, passage: Passage) -> GenerationSpeed:
        """Read the prompt and write its continuation.

        Tokens that contain the end of the prompt count as written.
        """
        import torch

        whole, prompt = self.tokenizer.encode(
            [passage.prompt + passage.continuation, passage.prompt]
        )
        # The tokens of the whole text are the prompt's up to position `shared`. The next one may
        # contain the end of the prompt and the start of the continuation.
        shared = next(
            (i for i, (a, b) in enumerate(zip(whole, prompt, strict=False)) if a != b), len(prompt)
        )
        ids, following = [start_id(self.tokenizer), *whole[:shared]], whole[shared:]
        read = ids[-self.context :]
        with torch.inference_mode():
            begin = time.perf_counter()
            cache = self._step(read, None)
            prefilled = time.perf_counter()
            sequence, held = list(ids), len(read)
            # The last token is predicted from the tokens before it, and never read.
            for token in following[:-1]:
                sequence.append(token)
                unread = [token]
                # A cache cannot be shortened in every architecture, so it is built again.
                if held >= self.context:
                    unread, cache, held = sequence[-max(1, self.context // 2) :], None, 0
                cache = self._step(unread, cache)
                held += len(unread)
            ended = time.perf_counter()
        return GenerationSpeed(
            len(passage.continuation.encode()),
            len(passage.continuation),
            len(following),
            len(passage.prompt.encode()),
            shared,
            prefilled - begin,
            ended - prefilled,
        )

    def _step(self, ids: Sequence[int], cache: Any) -> Any:
        """Read tokens, compute the most likely next one, and return the cache."""
        import torch

        logits, cache = read_with_cache(
            self.model, torch.tensor([ids], device=self.model.device), cache
        )
        logits[0, -1].argmax().item()  # waits for the device, as greedy decoding does
        return cache


CACHES = ("past_key_values", "cache_params", "state")
"""Names of the cache argument: attention models, Mamba, RWKV."""


def read_with_cache(model: Any, ids: Any, cache: Any) -> tuple[Any, Any]:
    """Read ids after those in the cache; return the logits of the last one and the cache.

    A model that cannot leave the others out returns the logits of every id.

    Raises `ModelError` for a model without a cache.
    """
    parameters = inspect.signature(model.forward).parameters
    names = [name for name in CACHES if name in parameters]
    if not names:
        msg = (
            f"{type(model).__name__}: takes none of {', '.join(CACHES)}, so it cannot write token "
            "by token; leave generation out (evaluation.generation: null)"
        )
        raise ModelError(msg)
    # Logits of a prompt of 65,536 tokens are 17 GB for the vocabulary of Llama 3.
    settings = {"logits_to_keep": 1} if "logits_to_keep" in parameters else {}
    output = model(input_ids=ids, use_cache=True, **{names[0]: cache}, **settings)
    return output.logits, getattr(output, names[0])


def _sum(parts: Sequence[GenerationSpeed]) -> GenerationSpeed:
    """Return the totals over all passages of a round."""
    totals: dict[str, Any] = {}
    for field in fields(GenerationSpeed):
        totals[field.name] = sum(getattr(part, field.name) for part in parts)
    return GenerationSpeed(**totals)


def _faster(first: GenerationSpeed, second: GenerationSpeed) -> GenerationSpeed:
    """Return the shorter times of two rounds, prefill and decoding separately."""
    return replace(
        first,
        prefill_seconds=min(first.prefill_seconds, second.prefill_seconds),
        decode_seconds=min(first.decode_seconds, second.decode_seconds),
    )
