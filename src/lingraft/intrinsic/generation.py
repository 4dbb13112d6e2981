"""Generation speed: seconds until so many bytes are written, for models compared side by side.

Greedy decoding with a cache. Tokens that add no bytes (special ones, rows beyond the vocabulary) are barred, so that
every model writes the same amount of text. Models take turns, round after round, and the best round of each counts: a
shared machine slows some of them down, nothing speeds one up. Where the context is full, the second half of it is
read again, and that time counts as decoding.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lingraft.families import ModelTokenizer
from lingraft.intrinsic.bits import context_of, start_id
from lingraft.intrinsic.settings import GenerationSettings
from lingraft.measurement import Measurement

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class GenerationSpeed:
    """What one model wrote after all prompts, and the seconds of reading (prefill) and writing (decode)."""

    bytes: int
    characters: int
    tokens: int
    new_tokens: int
    prompt_bytes: int
    prompt_tokens: int
    prefill_seconds: float
    decode_seconds: float
    texts: tuple[str, ...]

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

    @property
    def new_share(self) -> float:
        """Share of the written tokens that are new."""
        return self.new_tokens / max(1, self.tokens)


def speed_rows(speed: GenerationSpeed, subject: str, language: str, prompts: int,
               settings: GenerationSettings) -> list[Measurement]:
    """Return the rows of one model's speed; reading a prompt (prefill) and writing (decode) stand apart."""
    note = f"greedy, batch of one, {settings.bytes} bytes a prompt, best of {settings.repeats}"
    values = (("generation speed", speed.bytes_per_second, "bytes/s"),
              ("generation speed in characters", speed.characters_per_second, "characters/s"),
              ("prefill speed", speed.prompt_bytes_per_second, "bytes/s"),
              ("time to write 1,000 bytes", 1000 / max(speed.bytes_per_second, 1e-9), "s"))
    return [Measurement(metric, subject, value, unit, language, split="generated", n=prompts, per="prompt", note=note)
            for metric, value, unit in values]


def generation_speed(
    models: Mapping[str, tuple[Any, ModelTokenizer]], prompts: Sequence[str], *, size: int = 256, repeats: int = 2,
    new_ids: Mapping[str, frozenset[int]] | None = None,
) -> dict[str, GenerationSpeed]:
    """Let each model write `size` bytes after each prompt, in turns; return the best of `repeats` rounds of each.

    `new_ids` names, for each model, the ids that count as new. One short warm-up goes before.
    """
    writers = {name: _Writer.of(model, tokenizer, (new_ids or {}).get(name, frozenset()))
               for name, (model, tokenizer) in models.items()}
    for writer in writers.values():
        writer.write(prompts[0], min(size, 16))
    best: dict[str, GenerationSpeed] = {}
    for _ in range(repeats):
        rounds: dict[str, list[GenerationSpeed]] = {name: [] for name in writers}
        for prompt in prompts:
            for name, writer in writers.items():
                rounds[name].append(writer.write(prompt, size))
        for name, parts in rounds.items():
            total = _sum(parts)
            best[name] = _faster(best[name], total) if name in best else total
    return best


@dataclass(frozen=True)
class _Writer:
    model: Any
    tokenizer: ModelTokenizer
    bytes_of: tuple[int, ...]
    barred: Tensor
    new: frozenset[int]
    context: int

    @classmethod
    def of(cls, model: Any, tokenizer: ModelTokenizer, new: frozenset[int]) -> _Writer:
        import torch

        surfaces = tokenizer.vocabulary.surfaces
        sizes = tuple(len(surface or b"") for surface in surfaces)
        rows = model.get_output_embeddings().weight.shape[0]
        barred = torch.tensor([i >= len(sizes) or sizes[i] == 0 for i in range(rows)], device=model.device)
        return cls(model, tokenizer, sizes, barred, new, context_of(model))

    def write(self, prompt: str, size: int) -> GenerationSpeed:
        """Write at least `size` bytes after the prompt."""
        import torch

        ids = [start_id(self.tokenizer), *self.tokenizer.ids([prompt])[0]][-self.context:]
        with torch.inference_mode():
            begin = time.perf_counter()
            token, cache = self._step(ids, None)
            prefilled = time.perf_counter()
            sequence, held, missing = [*ids, token], len(ids), size - self.bytes_of[token]
            while missing > 0:
                unread = [token]
                if held >= self.context:
                    unread, cache, held = sequence[-max(1, self.context // 2):], None, 0
                token, cache = self._step(unread, cache)
                sequence.append(token)
                held += len(unread)
                missing -= self.bytes_of[token]
            ended = time.perf_counter()
        written = sequence[len(ids):]
        text = self.tokenizer.text(written)
        return GenerationSpeed(size - missing, len(text), len(written), sum(i in self.new for i in written),
                               len(prompt.encode()), len(ids) - 1, prefilled - begin, ended - prefilled, (text,))

    def _step(self, ids: Sequence[int], cache: Any) -> tuple[int, Any]:
        import torch

        output = self.model(input_ids=torch.tensor([ids], device=self.model.device), past_key_values=cache,
                            use_cache=True)
        logits = output.logits[0, -1].masked_fill(self.barred, float("-inf"))
        return int(logits.argmax()), output.past_key_values


def _sum(parts: Sequence[GenerationSpeed]) -> GenerationSpeed:
    numbers = ("bytes", "characters", "tokens", "new_tokens", "prompt_bytes", "prompt_tokens", "prefill_seconds",
               "decode_seconds")
    return GenerationSpeed(**{name: sum(getattr(part, name) for part in parts) for name in numbers},
                           texts=tuple(text for part in parts for text in part.texts))


def _faster(first: GenerationSpeed, second: GenerationSpeed) -> GenerationSpeed:
    return replace(first, prefill_seconds=min(first.prefill_seconds, second.prefill_seconds),
                   decode_seconds=min(first.decode_seconds, second.decode_seconds))
