"""A model folder as a model of lm-eval: `HFLM` with tokenization that is correct for every family.

A prompt begins with the ids that the tokenizer itself puts before a text (BOS, or none), its
*prefix*. The ids that it puts after a text are left out, because an EOS would end the context. A
prompt that is too long is cut after the prefix. A token that contains the end of the context and
the start of the answer is scored with the answer, so that every byte of the answer is scored.
With `chat`, a prompt is a conversation that the model's chat template renders, special tokens
included; nothing is put before it. `incidents` counts the prompts and answers that were cut or
joined.
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
from lm_eval.models.utils import normalize_gen_kwargs
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from lingraft.checkpoint import load_model
from lingraft.errors import ModelError, TokenizerError, one_line
from lingraft.evaluation.tasks.chat_prompts import open_chats, render_prompt
from lingraft.evaluation.tasks.special_ids import prompt_prefix, set_bos_and_eos
from lingraft.progress import Advance, no_progress, progress
from lingraft.tokenizer import open_tokenizer
from lingraft.tokenizer.loaded_settings import load_auto_tokenizer
from lingraft.tokenizer.separators import start_of_document

BATCH_SIZE = {"cpu": 8}
BATCH_SIZE_ON_ACCELERATOR = 32


class FolderLM(HFLM):  # type: ignore[misc]  # lm-eval is untyped
    """A model folder on a device, with the interface of lm-eval.

    Raises `ModelError` or `TokenizerError` if the folder is unreadable. `too_long` is `cut` or
    `refuse`, for prompts that do not fit into the context. `chat` says whether prompts are rendered
    with the chat template, which the model must have. A `model` in memory is used instead of
    the weights in the folder.
    """

    def __init__(
        self,
        folder: Path,
        *,
        device: str = "cpu",
        dtype: str = "auto",
        too_long: str = "cut",
        chat: bool = False,
        model: Any = None,
    ) -> None:
        self.folder = folder
        self.too_long = too_long
        self.incidents: Counter[str] = Counter()
        self._advance: Advance = no_progress
        own_tokenizer = open_tokenizer(folder)
        self.chats = open_chats(folder, own_tokenizer) if chat else None
        if model is None:
            model = load_model(folder, device, dtype)
        try:
            tokenizer = load_auto_tokenizer(folder)
        except (OSError, ValueError, KeyError) as error:
            msg = f"{folder}: the tokenizer cannot be loaded by transformers ({one_line(error)})"
            raise TokenizerError(msg) from error
        set_bos_and_eos(tokenizer, model.config.get_text_config())
        self.prefix = prompt_prefix(tokenizer, folder)
        self.start = start_of_document(own_tokenizer)
        size = BATCH_SIZE.get(model.device.type, BATCH_SIZE_ON_ACCELERATOR)
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

        A special token that is spelled in a prompt is text, as it is in training text. A rendered
        conversation has the ids of the template, and no prefix.
        """
        if self.chats is not None and add_special_tokens is not False:
            chat = self.chats.encode_rendered(string)
            return self._cut(chat, left_truncate_len) if left_truncate_len else chat
        ids: list[int] = self.tokenizer.encode(
            string, add_special_tokens=False, split_special_tokens=True
        )
        has_prefix = ids[: len(self.prefix)] == self.prefix
        if add_special_tokens is not False and not has_prefix:
            ids = [*self.prefix, *ids]
        return self._cut(ids, left_truncate_len) if left_truncate_len else ids

    def _cut(self, ids: list[int], room: int) -> list[int]:
        """Cut ids after the prefix, so that at most `room` are left.

        Raises `ModelError` instead if `too_long` is `refuse`.
        """
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
        """Return the ids of a context and its continuation.

        White space at the end of the context goes to the continuation: tokenizers join it with the
        word after it. That of a chat template stays in the context, as in front of each answer.
        """
        stripped = context.rstrip() if self.chats is None else context
        continuation = context[len(stripped) :] + continuation
        if self.chats is not None and context:
            continuation = self.chats.protect(continuation)
        if stripped:
            before, whole = self.tok_encode(stripped), self.tok_encode(stripped + continuation)
        else:
            before = [self.prefix_token_id]
            whole = [*before, *self.tok_encode(continuation, add_special_tokens=False)]
        # The first ids that both have are the context.
        shared = 0
        while shared < min(len(before), len(whole)) and before[shared] == whole[shared]:
            shared += 1
        if shared < len(before):
            self.incidents["answers whose first token holds the end of the context"] += 1
        # The model needs an id to predict the first token of the answer from.
        if shared == 0:
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

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """Return a conversation as a prompt; raises `TokenizerError` if the template refuses it."""
        if self.chats is None:
            msg = "prompts are conversations only with `chat`"
            raise ValueError(msg)
        return render_prompt(
            self.chats, self.folder, chat_history, add_generation_prompt=add_generation_prompt
        )

    @property
    def prefix_token_id(self) -> int:
        """The id before a text without context: the token that begins a packed document."""
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
            for stop in self._fit_answer(request.args[1]):
                ids = self.tokenizer.encode(stop, add_special_tokens=False)
                if stop not in self.tokenizer.decode(ids):
                    incident = f"answers that cannot end with {stop!r}, which the tokenizer has no "
                    self.incidents[incident + "token for"] += 1
        with self._show_progress("writing answers", requests, len(requests)):
            result: list[str] = super().generate_until(requests, disable_tqdm=True)
        return result

    def _fit_answer(self, kwargs: dict[str, Any]) -> list[str]:
        """Limit an answer to half of the context, so that the other half is left for the prompt.

        Returns the texts that end the answer.
        """
        # Tasks write the limit under one of four names, and one text that ends an answer or a list.
        read = normalize_gen_kwargs(kwargs, self.max_gen_toks)
        half = self.max_length // 2
        if read["max_gen_toks"] > half:
            kwargs["max_gen_toks"] = half  # lm-eval prefers this name over the others
            self.incidents[f"answers limited to {half} tokens, half of the context"] += 1
        return list(read["until"])

    def _model_generate(
        self, context: torch.Tensor, max_length: int, stop: list[str], **kwargs: Any
    ) -> torch.Tensor:
        configured = self.model.generation_config.eos_token_id or []  # one id or several
        eos = {int(self.tokenizer.eos_token_id)}
        eos.update([configured] if isinstance(configured, int) else configured)
        if self.chats is not None:
            ends = self.chats.template.turn_tokens.ends
            eos.update(self.tokenizer.convert_tokens_to_ids(sorted(ends)))
        with torch.inference_mode():
            written: torch.Tensor = super()._model_generate(
                context, max_length=max_length, stop=stop, eos_token_id=sorted(eos), **kwargs
            )
        # An answer that neither ends with EOS nor contains a stop text was cut by the limit.
        for ids in written[:, context.shape[1] :].tolist():
            text = self.tokenizer.decode(ids)
            has_stop = any(term in text for term in stop)
            if not has_stop and not eos.intersection(ids):
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
        with (
            self._show_progress("ranking answers", requests, len(requests)),
            torch.inference_mode(),
        ):
            result: list[tuple[float, bool]] = self._loglikelihood_tokens(pairs, disable_tqdm=True)
        return result

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = True) -> list[float]:
        """Return the log-probability of whole texts; every token is scored once, after BOS or EOS.

        lm-eval's own method adds the tokenizer's BOS after this token and scores it like text.
        """
        del disable_tqdm
        windows: list[tuple[None, list[int], list[int]]] = []
        counts: list[int] = []
        for request in requests:
            ids = self.tok_encode(request.args[0], add_special_tokens=False)
            parts = get_rolling_token_windows(ids, self.prefix_token_id, self.max_length, 1)
            own_windows = [(None, *make_disjoint_window(part)) for part in parts]
            windows += own_windows
            counts.append(len(own_windows))
        with self._show_progress("scoring texts", requests, len(windows)), torch.inference_mode():
            scored = self._loglikelihood_tokens(windows, disable_tqdm=True)
        totals: list[float] = []
        windows_left = iter(scored)
        for count in counts:
            own = itertools.islice(windows_left, count)
            totals.append(sum(log_probability for log_probability, _ in own))
        return totals

    def _model_call(self, inps: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        logits: torch.Tensor = super()._model_call(inps, **kwargs).float()
        self._advance(len(inps))
        return logits

    @contextlib.contextmanager
    def _show_progress(self, title: str, requests: Sequence[Any], total: int) -> Iterator[None]:
        with progress(f"{requests[0].task_name}: {title}", total, unit="requests") as advance:
            self._advance = advance
            yield
        self._advance = no_progress

    def get_model_info(self) -> dict[str, Any]:
        """Return size and dtype of the model; lm-eval's own method would send a request."""
        return {
            "model_num_parameters": self.model.num_parameters(),
            "model_dtype": str(self.model.dtype),
        }
