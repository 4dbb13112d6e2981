"""Greedy generation with one model, streamed token by token and timed.

A model continues a text, or answers a conversation that its chat template renders. The answer ends
with the token that ends a turn.

Only the forward passes are timed, so the page and the network do not count. Prefill (the prompt)
and decode (the generated tokens) are timed separately. Prefill yields the first generated token,
so decode counts from the second one.
"""

from __future__ import annotations

import codecs
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lingraft.checkpoint.config_files import context_of
from lingraft.display_text import direction, plain
from lingraft.errors import ModelError, TokenizerError
from lingraft.evaluation.bits_per_byte import LONGEST_CONTEXT, start_id
from lingraft.evaluation.generation import read_with_cache
from lingraft.packing.chat_encoder import ChatEncoder
from lingraft.tokenizer import ModelTokenizer, open_tokenizer
from lingraft.tokenizer.chat_template import chat_template_of

NO_TEMPLATE = "the model has no chat template"

Event = dict[str, Any]
Message = Mapping[str, str]


@dataclass(frozen=True)
class Piece:
    """A token as the page shows it: as text, or as hexadecimal bytes if it is not valid UTF-8."""

    id: int
    shown: str
    is_bytes: bool
    is_added: bool


@dataclass(frozen=True)
class EncodedPrompt:
    """What a model reads: the token ids, and the ids that end its answer.

    `text` is the text that it continues. `shown` are the ids without a start token, `left_out` says
    how many of them do not fit the context.
    """

    text: str
    ids: Sequence[int]
    shown: Sequence[int]
    stops: frozenset[int]
    left_out: int = 0


@dataclass
class GenerationClock:
    """The seconds of the forward passes, and how many tokens and bytes they processed.

    `tokens` and `bytes` count all generated tokens, `decoded_tokens` and `decoded_bytes` all but
    the first one, which prefill yields.
    """

    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    prompt_tokens: int = 0
    prompt_bytes: int = 0
    tokens: int = 0
    bytes: int = 0
    decoded_tokens: int = 0
    decoded_bytes: int = 0

    def speeds(self) -> dict[str, float | None]:
        """Return tokens and bytes per second of prefill and decode; `None` if nothing was timed."""
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
    """A loaded model with its tokenizer; `added` is the ids of the added tokens."""

    model: Any
    tokenizer: ModelTokenizer
    added: frozenset[int] = frozenset()

    def read_text(self, text: str) -> EncodedPrompt:
        """Return a text to continue; of a long one, the end that fits half of the context."""
        ids = self.tokenizer.encode([text])[0]
        # Half of the context is for the prompt, so that a long one leaves room for an answer.
        most = max(1, self._context // 2)
        input_ids = [start_id(self.tokenizer), *ids][-most:]
        kept = ids[-len(input_ids) :] if len(input_ids) <= len(ids) else ids
        return EncodedPrompt(text, input_ids, ids, self._ends_of_text, len(ids) - len(kept))

    def read_chat(self, messages: Sequence[Message]) -> EncodedPrompt:
        """Return a conversation to answer, as the chat template renders it.

        Raises `TokenizerError` if there is no template or it refuses the conversation, and
        `ModelError` if the conversation does not fit the context.
        """
        if self._chat is None:
            raise TokenizerError(NO_TEMPLATE)
        ids, problem = self._chat.encode(messages, add_generation_prompt=True)
        if problem is not None:
            raise TokenizerError(problem)
        if len(ids) >= self._context:
            msg = (
                f"the conversation has {len(ids):,} tokens and the context of the model "
                f"{self._context:,}; start a new conversation"
            )
            raise ModelError(msg)
        return EncodedPrompt("", ids, ids, self._ends_of_turn)

    @cached_property
    def chat_problem(self) -> str | None:
        """Why the model cannot answer a message through its chat template; `None` if it can."""
        try:
            self.read_chat([{"role": "user", "content": "a"}])
        except (TokenizerError, ModelError) as error:
            return str(error)
        return None

    @cached_property
    def _context(self) -> int:
        """The context of the model, all of it: scores are computed in a shorter window."""
        config = self.model.config.get_text_config().to_dict()
        return context_of(config) or LONGEST_CONTEXT

    @cached_property
    def _chat(self) -> ChatEncoder | None:
        template = chat_template_of(self.tokenizer)
        return ChatEncoder(self.tokenizer, template) if template else None

    @cached_property
    def _ends_of_text(self) -> frozenset[int]:
        return frozenset() if self.tokenizer.eos_id is None else frozenset({self.tokenizer.eos_id})

    @cached_property
    def _ends_of_turn(self) -> frozenset[int]:
        """The ids that end an answer: those of the template and of generation_config.json."""
        named = getattr(self.model.generation_config, "eos_token_id", None)
        ends = set(named if isinstance(named, list) else () if named is None else (named,))
        if self._chat is not None:
            of_template = self._chat.template.turn_tokens.ends
            special = self.tokenizer.vocabulary.special
            ends |= {token for token, content in special.items() if content in of_template}
        return self._ends_of_text | ends

    def generate(self, prompt: EncodedPrompt, size: int) -> Iterator[Event]:
        """Continue a prompt for `size` bytes, or until the text ends or the context is full.

        Yields one `prompt` event with its tokens, a `token` event for each generated token, and an
        `end` event with the reason and the measurements.
        """
        kept = prompt.shown[prompt.left_out :]
        clock = GenerationClock(
            prompt_tokens=len(prompt.ids),
            prompt_bytes=sum(len(self._surface(token)) for token in kept),
        )
        yield self._prompt_event(prompt)
        text, why = prompt.text, "full"  # the loop ends by itself when the context is full
        # Incremental, because a token can end inside a character.
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for token in self._steps(prompt, clock):
            if token is None:
                why = "ended"
                break
            new = decoder.decode(self._surface(token))
            text += new
            yield {"kind": "token", "piece": asdict(self.piece(token)), "text": plain(new)}
            if clock.bytes >= size:
                why = "enough"
                break
        yield {
            "kind": "end",
            "why": why,
            "direction": direction(text),
            "text": plain(decoder.decode(b"", final=True)),
            **asdict(clock),
            "speeds": clock.speeds(),
        }

    def _prompt_event(self, prompt: EncodedPrompt) -> Event:
        return {
            "kind": "prompt",
            "pieces": [asdict(self.piece(token)) for token in prompt.shown],
            "left_out": prompt.left_out,
            "bytes": len(prompt.text.encode()) or sum(map(len, map(self._surface, prompt.shown))),
            "direction": direction(prompt.text),
        }

    def _steps(self, prompt: EncodedPrompt, clock: GenerationClock) -> Iterator[int | None]:
        """Yield the most likely token of each step, `None` at the end of the text.

        Stops when the context is full.
        """
        import torch

        mask = self._logit_mask.clone()
        # generation_config.json may name an end token that has no row: it is never written.
        mask[[stop for stop in prompt.stops if 0 <= stop < len(mask)]] = 0
        new_ids, cache, cached = list(prompt.ids), None, 0
        while cached + len(new_ids) <= self._context:
            # Not around the yield: inference mode would also hold for the caller between two steps.
            with torch.inference_mode():
                is_prefill, start = cache is None, time.perf_counter()
                logits, cache = read_with_cache(
                    self.model, torch.tensor([new_ids], device=self.model.device), cache
                )
                token = int((logits[0, -1].float() + mask).argmax())
                seconds = time.perf_counter() - start
            cached += len(new_ids)
            self._count(clock, token, seconds, is_prefill=is_prefill)
            if token in prompt.stops:
                yield None
                return
            yield token
            new_ids = [token]

    def _count(
        self, clock: GenerationClock, token: int, seconds: float, *, is_prefill: bool
    ) -> None:
        # The end-of-text token has no bytes, but its forward pass takes time like any other.
        size = len(self._surface(token))
        clock.tokens += 1
        clock.bytes += size
        if is_prefill:
            clock.prefill_seconds = seconds
            return
        clock.decode_seconds += seconds
        clock.decoded_tokens += 1
        clock.decoded_bytes += size

    @cached_property
    def _logit_mask(self) -> Any:
        """A mask to add to the logits: minus infinity for ids without bytes.

        These are the special tokens, and the rows without a token of a padded embedding.
        """
        import torch

        rows = self.model.get_output_embeddings().weight.shape[0]
        mask = torch.zeros(rows, device=self.model.device)
        silent = [i for i in range(rows) if not self._surface(i)]
        mask[silent] = -torch.inf
        return mask

    @cached_property
    def _text_tokens(self) -> Mapping[int, bytes]:
        """The added tokens that are text, such as <think> or a run of spaces, with their bytes."""
        family, surfaces = self.tokenizer.family, {}
        for token in family.special.keys() - family.control.keys():
            # Some decoders strip a space at the start of a text, so the second of two is taken.
            first = self.tokenizer.decode([token])
            surfaces[token] = self.tokenizer.decode([token, token])[len(first) :].encode()
        return surfaces

    def _surface(self, token: int) -> bytes:
        if token in self._text_tokens:
            return self._text_tokens[token]
        surfaces = self.tokenizer.vocabulary.surfaces
        return (surfaces[token] or b"") if token < len(surfaces) else b""

    def piece(self, token: int) -> Piece:
        """Return a token as the page shows it."""
        surface = self._surface(token)
        is_added = token in self.added
        special = self.tokenizer.vocabulary.special.get(token)
        try:
            text = special if special is not None else surface.decode("utf-8")
        except UnicodeDecodeError:
            return Piece(token, surface.hex(" ").upper(), is_bytes=True, is_added=is_added)
        shown = plain(text.replace(" ", "␣").replace("\n", "⏎").replace("\t", "⇥")) or "∅"
        return Piece(token, shown, is_bytes=False, is_added=is_added)


def open_generators(
    folders: Mapping[str, Path], added: frozenset[int], device: str, dtype: str
) -> dict[str, TextGenerator]:
    """Load the model of each side and generate a few tokens as a warm-up.

    `added` is the ids of added tokens of the side `adapted`. Raises `LingraftError` if a folder
    cannot be loaded.
    """
    from lingraft.checkpoint.load_model import load_model

    generators = {}
    for side, folder in folders.items():
        model, tokenizer = load_model(folder, device, dtype), open_tokenizer(folder)
        added_here = added if side == "adapted" else frozenset()
        generators[side] = TextGenerator(model, tokenizer, added_here)
        # A warm-up: the first forward pass of a model is slower, and would be timed as a prompt.
        list(generators[side].generate(generators[side].read_text("a"), 8))
    return generators
