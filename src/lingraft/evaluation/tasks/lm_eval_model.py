"""A model folder as a model of lm-eval: `HFLM` with tokenization that is safe for every family.

A prompt begins with what the tokenizer itself puts before a text (BOS, or nothing); what it puts
after a text is left out, because an EOS would end the context. A prompt that is too long loses its
beginning but not this prefix. A token that contains the end of the context and the start of the
answer is scored with the answer, so that every byte of the answer is scored. `incidents` counts
what was cut or joined.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from lm_eval.models.huggingface import HFLM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from transformers import AutoTokenizer

from lingraft.checkpoint import load_model
from lingraft.errors import ModelError, TokenizerError
from lingraft.progress import Advance, progress
from lingraft.tokenizer import open_tokenizer
from lingraft.tokenizer.separators import start_of_document

BATCH_SIZE = {"cpu": 8}
BATCH_SIZE_ON_ACCELERATOR = 32
PROBE = "a"
"""A text with which to find what a tokenizer puts before and after a text."""


class FolderLM(HFLM):  # type: ignore[misc]  # lm-eval is untyped
    """A model folder on a device; raises `ModelError` or `TokenizerError` if unreadable."""

    def __init__(
        self, folder: Path, *, device: str = "cpu", dtype: str = "auto", too_long: str = "cut"
    ) -> None:
        self.folder = folder
        self.too_long = too_long
        self.incidents: Counter[str] = Counter()
        self._advance: Advance = _ignore_progress
        model = load_model(folder, device, dtype)
        try:
            tokenizer = AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
        except (OSError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())[:200]
            msg = f"{folder}: the tokenizer cannot be loaded by transformers ({reason})"
            raise TokenizerError(msg) from error
        _name_roles(tokenizer, model.config.get_text_config())
        self.prefix = _prefix_of(tokenizer, folder)
        self.start = start_of_document(open_tokenizer(folder))
        size = BATCH_SIZE.get(torch.device(device).type, BATCH_SIZE_ON_ACCELERATOR)
        super().__init__(pretrained=model, tokenizer=tokenizer, backend="causal", batch_size=size)
        self.has_eos = tokenizer.eos_token_id is not None

    def tok_encode(
        self,
        string: str,
        add_special_tokens: bool | None = None,
        left_truncate_len: int | None = None,
        **_kwargs: Any,
    ) -> list[int]:
        """Return a text's ids, after the tokenizer's prefix unless `add_special_tokens` is false.

        A special token that is spelled in a prompt is text, as it is in training text.
        """
        ids: list[int] = self.tokenizer.encode(
            string, add_special_tokens=False, split_special_tokens=True
        )
        has_prefix = ids[: len(self.prefix)] == self.prefix
        if add_special_tokens is not False and not has_prefix:
            ids = [*self.prefix, *ids]
        return self._cut(ids, left_truncate_len) if left_truncate_len else ids

    def _cut(self, ids: list[int], room: int) -> list[int]:
        """Cut ids at the start, after the prefix, so that `room` are left."""
        if len(ids) <= room:
            return ids
        if self.too_long == "refuse":
            msg = (
                f"{self.folder}: a prompt of {len(ids):,} tokens does not fit into the {room:,} "
                f"that the model's context of {self.max_length:,} leaves for it; lower "
                "evaluation.tasks.num_fewshot, or set too_long: cut"
            )
            raise ModelError(msg)
        incident = f"prompts cut at their beginning, to the model's context of {self.max_length:,}"
        self.incidents[incident] += 1
        has_prefix = ids[: len(self.prefix)] == self.prefix
        kept = len(self.prefix) if has_prefix and room > len(self.prefix) else 0
        return [*ids[:kept], *ids[len(ids) - room + kept :]]

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """Return the ids of a context and its continuation, which gets the white space between."""
        stripped = context.rstrip()
        continuation = context[len(stripped) :] + continuation
        if stripped:
            before, whole = self.tok_encode(stripped), self.tok_encode(stripped + continuation)
        else:
            before = [self.prefix_token_id]
            whole = [*before, *self.tok_encode(continuation, add_special_tokens=False)]
        shared = next(
            (i for i, (a, b) in enumerate(zip(before, whole, strict=False)) if a != b),
            min(len(before), len(whole)),
        )
        if shared < len(before):
            self.incidents["answers whose first token holds the end of the context"] += 1
        if shared == 0:  # the first token of the answer needs a context
            whole, shared = [self.prefix_token_id, *whole], 1
        answer = whole[shared:]
        if not answer:
            msg = (
                f"{self.folder}: the tokenizer gives no token for the answer {continuation!r}, "
                "so it cannot be ranked; leave the task out"
            )
            raise ModelError(msg)
        if len(answer) > self.max_length:
            msg = (
                f"{self.folder}: an answer of {len(answer):,} tokens is longer than the model's "
                f"context of {self.max_length:,}; leave the task out, or use a model with a longer "
                "context"
            )
            raise ModelError(msg)
        return whole[:shared], answer

    @property
    def prefix_token_id(self) -> int:
        """The id before a text without context: what begins a packed document (BOS or EOS)."""
        if self.start is not None:
            return self.start
        msg = (
            f"{self.folder}: neither a BOS nor an EOS token, so the first token has no context; "
            "name one in tokenizer_config.json"
        )
        raise ModelError(msg)

    def tok_batch_encode(
        self,
        strings: Sequence[str],
        padding_side: str = "left",
        left_truncate_len: int | None = None,
        truncation: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return ids and attention mask of prompts [batch, tokens], padded on the left."""
        del truncation
        prompts = [
            self.tok_encode(string, left_truncate_len=left_truncate_len) for string in strings
        ]
        width = max(map(len, prompts))
        if padding_side != "left":
            msg = (
                "prompts are padded on the left, so that generation continues from their last token"
            )
            raise ValueError(msg)
        padding = int(self.tokenizer.pad_token_id)
        ids, mask = [], []
        for prompt in prompts:
            missing = width - len(prompt)
            ids.append([padding] * missing + prompt)
            mask.append([0] * missing + [1] * len(prompt))
        return torch.tensor(ids), torch.tensor(mask)

    def generate_until(self, requests: list[Any], disable_tqdm: bool = True) -> list[str]:
        """Write an answer to each request, greedily unless its task says otherwise."""
        del disable_tqdm
        if not self.has_eos:
            msg = (
                f"{self.folder}: no EOS token, so the end of an answer cannot be detected; name "
                "one in tokenizer_config.json (eos_token), or choose tasks that rank answers"
            )
            raise ModelError(msg)
        for request in requests:
            self._fit_answer(request.args[1])
            for stop in request.args[1].get("until") or ():
                ids = self.tokenizer.encode(stop, add_special_tokens=False)
                if stop not in self.tokenizer.decode(ids):
                    incident = f"answers that cannot end with {stop!r}, which the tokenizer has no "
                    self.incidents[incident + "token for"] += 1
        with self._shown("writing answers", requests, len(requests)):
            result: list[str] = super().generate_until(requests, disable_tqdm=True)
        return result

    def _fit_answer(self, kwargs: dict[str, Any]) -> None:
        """Limit an answer to half of the context, so that the other half is left for the prompt."""
        half = self.max_length // 2
        if kwargs.get("max_gen_toks", self.max_gen_toks) > half:
            kwargs["max_gen_toks"] = half
            self.incidents[f"answers limited to {half} tokens, half of the context"] += 1

    def _model_generate(
        self, context: torch.Tensor, max_length: int, stop: list[str], **kwargs: Any
    ) -> torch.Tensor:
        configured = self.model.generation_config.eos_token_id or []  # one id or several
        eos = {int(self.tokenizer.eos_token_id)}
        eos.update([configured] if isinstance(configured, int) else configured)
        with torch.inference_mode():
            written: torch.Tensor = super()._model_generate(
                context, max_length=max_length, stop=stop, eos_token_id=sorted(eos), **kwargs
            )
        for ids in written[:, context.shape[1] :].tolist():
            text = self.tokenizer.decode(ids)
            if not eos.intersection(ids) and not any(term in text for term in stop):
                self.incidents["answers that reached the limit of tokens"] += 1
        self._advance(len(context))
        return written

    def loglikelihood(
        self, requests: list[Any], disable_tqdm: bool = True
    ) -> list[tuple[float, bool]]:
        """Return the log-probability of each answer, and whether greedy decoding would write it.

        All answers to a document have the same context, cut to what the longest answer leaves.
        """
        del disable_tqdm
        encoded = [self._encode_pair(*request.args[:2]) for request in requests]
        longest: Counter[tuple[Any, ...]] = Counter()
        for request, (_, answer) in zip(requests, encoded, strict=True):
            document = (request.task_name, request.doc_id)
            longest[document] = max(longest[document], len(answer))
        pairs = []
        for request, (context, answer) in zip(requests, encoded, strict=True):
            # + 1: the last token of an answer is predicted, but never read.
            room = self.max_length + 1 - longest[request.task_name, request.doc_id]
            pairs.append((request.args, self._cut(context, room), answer))
        with self._shown("ranking answers", requests, len(requests)), torch.inference_mode():
            result: list[tuple[float, bool]] = self._loglikelihood_tokens(pairs, disable_tqdm=True)
        return result

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = True) -> list[float]:
        """Return the log-probability of whole texts; every token is scored once, after BOS or EOS.

        (lm-eval's own adds the tokenizer's BOS after that one and scores it like text.)
        """
        del disable_tqdm
        windows: list[tuple[None, list[int], list[int]]] = []
        counts: list[int] = []
        for request in requests:
            ids = self.tok_encode(request.args[0], add_special_tokens=False)
            parts = get_rolling_token_windows(ids, self.prefix_token_id, self.max_length, 1)
            windows += [(None, *make_disjoint_window(part)) for part in parts]
            counts.append(len(windows) - sum(counts))
        with self._shown("scoring texts", requests, len(windows)), torch.inference_mode():
            scored = self._loglikelihood_tokens(windows, disable_tqdm=True)
        nats = iter([window_nats for window_nats, _ in scored])
        return [sum(itertools.islice(nats, count)) for count in counts]

    def _model_call(self, inps: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        logits: torch.Tensor = super()._model_call(inps, **kwargs).float()
        self._advance(len(inps))
        return logits

    @contextlib.contextmanager
    def _shown(self, title: str, requests: Sequence[Any], total: int) -> Iterator[None]:
        with progress(f"{requests[0].task_name}: {title}", total, unit="requests") as advance:
            self._advance = advance
            yield
        self._advance = _ignore_progress

    def get_model_info(self) -> dict[str, Any]:
        """Return facts on the model; lm-eval's own version would ask the Hub."""
        return {
            "model_num_parameters": self.model.num_parameters(),
            "model_dtype": str(self.model.dtype),
        }


def _ignore_progress(_amount: float, _note: str = "", /) -> None:
    """Do nothing: the callback while no progress bar is shown."""


def _name_roles(tokenizer: Any, config: Any) -> None:
    """Set BOS and EOS from the model's config if the tokenizer has none."""
    for role in ("bos", "eos"):
        named = getattr(config, f"{role}_token_id", None)
        number = named[0] if isinstance(named, list) and named else named
        is_missing = getattr(tokenizer, f"{role}_token_id") is None
        if is_missing and isinstance(number, int) and number < len(tokenizer):
            setattr(tokenizer, f"{role}_token", tokenizer.convert_ids_to_tokens(number))


def _prefix_of(tokenizer: Any, folder: Path) -> list[int]:
    """Return the ids that the tokenizer puts before a text."""
    bare = tokenizer.encode(PROBE, add_special_tokens=False)
    whole = tokenizer.encode(PROBE)
    for begin in range(len(whole) - len(bare) + 1):
        if whole[begin : begin + len(bare)] == bare:
            return list(whole[:begin])
    msg = (
        f"{folder}: the ids of {PROBE!r} with special tokens, {whole}, do not contain those "
        f"without, {bare}; check the post-processor of the tokenizer"
    )
    raise TokenizerError(msg)
