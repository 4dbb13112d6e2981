"""One model writing: the likeliest token each time, each as soon as it is there, and the seconds that the model took.

Only the model's own steps are timed, so that neither the page nor the network counts: reading the prompt (prefill)
apart from writing (decode). The first written token falls out of reading the prompt; decode counts those after it.
"""

from __future__ import annotations

import codecs
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lingraft.evaluation.bits_per_byte import context_of, start_id
from lingraft.evaluation.generation import read_on
from lingraft.formatting import direction, plain
from lingraft.tokenizer import ModelTokenizer, open_tokenizer

Event = dict[str, Any]


@dataclass(frozen=True)
class Piece:
    """A token as the page shows it: bytes that are no whole character are written in hexadecimal."""

    id: int
    shown: str
    is_bytes: bool
    is_added: bool


@dataclass
class GenerationClock:
    """The seconds of the model's steps, and what they read and wrote."""

    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    prompt_tokens: int = 0
    prompt_bytes: int = 0
    tokens: int = 0
    bytes: int = 0
    decoded_tokens: int = 0
    decoded_bytes: int = 0

    def speeds(self) -> dict[str, float | None]:
        """Return tokens and bytes a second, reading and writing apart; `None` where nothing was timed."""
        return {
            "prefill_tokens": _rate(self.prompt_tokens, self.prefill_seconds),
            "prefill_bytes": _rate(self.prompt_bytes, self.prefill_seconds),
            "decode_tokens": _rate(self.decoded_tokens, self.decode_seconds),
            "decode_bytes": _rate(self.decoded_bytes, self.decode_seconds),
        }


def _rate(count: int, seconds: float) -> float | None:
    return count / seconds if count and seconds > 0 else None


@dataclass(frozen=True)
class TextGenerator:
    """A loaded model with its tokenizer; `added` are the ids that its source did not have."""

    model: Any
    tokenizer: ModelTokenizer
    added: frozenset[int] = frozenset()

    def write(self, prompt: str, size: int) -> Iterator[Event]:
        """Go on from a prompt until `size` bytes are written, the text ends, or the context is full.

        Yields one `prompt` event with its pieces, a `token` event for each token written, and an `end` event with the
        reason and the figures.
        """
        context = context_of(self.model)
        ids = self.tokenizer.encode([prompt])[0]
        read = [start_id(self.tokenizer), *ids][-max(1, context // 2) :]
        heard = ids[-len(read) :] if len(read) <= len(ids) else ids
        clock = GenerationClock(
            prompt_tokens=len(read), prompt_bytes=sum(len(self._surface(i)) for i in heard)
        )
        yield {
            "kind": "prompt",
            "pieces": [asdict(self.piece(i)) for i in ids],
            "left_out": len(ids) - len(heard),
            "bytes": len(prompt.encode()),
            "direction": direction(prompt),
        }
        whole, why = [prompt], "full"
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for token in self._steps(read, context, clock):
            if token is None:
                why = "ended"
                break
            text = decoder.decode(self._surface(token))
            whole.append(text)
            yield {"kind": "token", "piece": asdict(self.piece(token)), "text": plain(text)}
            if clock.bytes >= size:
                why = "enough"
                break
        yield {
            "kind": "end",
            "why": why,
            "direction": direction("".join(whole)),
            "text": plain(decoder.decode(b"", final=True)),
            **asdict(clock),
            "speeds": clock.speeds(),
        }

    def _steps(
        self, read: Sequence[int], context: int, clock: GenerationClock
    ) -> Iterator[int | None]:
        """Yield the likeliest token each time, `None` for the end of the text; stop where the context is full."""
        import torch

        unread, cache, held = list(read), None, 0
        while held + len(unread) <= context:
            with (
                torch.inference_mode()
            ):  # not around the yield: it would hold for whoever runs in between
                first, begin = cache is None, time.perf_counter()
                logits, cache = read_on(
                    self.model, torch.tensor([unread], device=self.model.device), cache
                )
                token = int((logits[0, -1].float() + self._bar).argmax())
                seconds = time.perf_counter() - begin
            held += len(unread)
            ended = token == self.tokenizer.eos_id
            self._count(clock, token, seconds, first=first)
            if ended:
                yield None
                return
            yield token
            unread = [token]

    def _count(self, clock: GenerationClock, token: int, seconds: float, *, first: bool) -> None:
        size = len(
            self._surface(token)
        )  # the end of the text has none, and took its time all the same
        clock.tokens, clock.bytes = clock.tokens + 1, clock.bytes + size
        if first:
            clock.prefill_seconds = seconds
            return
        clock.decode_seconds += seconds
        clock.decoded_tokens, clock.decoded_bytes = (
            clock.decoded_tokens + 1,
            clock.decoded_bytes + size,
        )

    @cached_property
    def _bar(self) -> Any:
        """What is added to the logits so that only text or its end is written: no row without bytes."""
        import torch

        rows = self.model.get_output_embeddings().weight.shape[0]
        bar = torch.zeros(rows, device=self.model.device)
        bar[
            [i for i in range(rows) if not self._surface(i) and i != self.tokenizer.eos_id]
        ] = -torch.inf
        return bar

    def _surface(self, token: int) -> bytes:
        surfaces = self.tokenizer.vocabulary.surfaces
        return (surfaces[token] or b"") if token < len(surfaces) else b""

    def piece(self, token: int) -> Piece:
        """Return a token for the page."""
        surface = self._surface(token)
        special = self.tokenizer.vocabulary.special.get(token)
        try:
            text = special if special is not None else surface.decode("utf-8")
        except UnicodeDecodeError:
            return Piece(
                token, surface.hex(" ").upper(), is_bytes=True, is_added=token in self.added
            )
        shown = plain(text.replace(" ", "␣").replace("\n", "⏎").replace("\t", "⇥")) or "∅"
        return Piece(token, shown, is_bytes=False, is_added=token in self.added)


def open_generators(
    folders: Mapping[str, Path], added: frozenset[int], device: str, dtype: str
) -> dict[str, TextGenerator]:
    """Load the model of each side and let it write a little, so that the first answer is timed like the others.

    `added` are ids of the side `adapted`. Raises `LingraftError` where a folder cannot be loaded.
    """
    from lingraft.checkpoint.load_model import load_model

    writers = {
        side: TextGenerator(
            load_model(folder, device, dtype),
            open_tokenizer(folder),
            added if side == "adapted" else frozenset(),
        )
        for side, folder in folders.items()
    }
    for writer in writers.values():
        list(writer.write("a", 8))
    return writers
