"""A model folder as lm-eval sees it: `HFLM` with the tokenizer's edges made safe for every family.

What stands before a prompt is what the tokenizer itself puts there (BOS, or nothing), never what it puts after (an
EOS at the end of a context would close it). A prompt that is too long loses its beginning but not its prefix, and is
counted. A token that would join the end of the context to the answer is scored with the answer, so that every byte of
the answer is scored. Whatever was cut or joined stands in `incidents`.
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

from lingraft.checkpoint import load_model
from lingraft.errors import ModelError, TokenizerError
from lingraft.progress import Advance, progress
from lingraft.tokenizer import open_tokenizer
from lingraft.tokenizer.separators import start_of_document

BATCH = {"cpu": 8}
BATCH_ON_ACCELERATOR = 32
PROBE = "a"


class FolderLM(HFLM):  # type: ignore[misc]  # lm-eval is untyped
    """A model folder on a device; raises `ModelError` where it cannot begin a text."""

    def __init__(
        self, folder: Path, *, device: str = "cpu", dtype: str = "auto", too_long: str = "cut"
    ) -> None:
        from transformers import AutoTokenizer

        self.folder = folder
        self.too_long = too_long
        self.incidents: Counter[str] = Counter()
        self._advance: Advance = _unseen
        model = load_model(folder, device, dtype)
        try:
            tokenizer = AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
        except (OSError, ValueError, KeyError) as error:
            msg = f"{folder}: the tokenizer cannot be loaded by transformers ({' '.join(str(error).split())[:200]})"
            raise TokenizerError(msg) from error
        _name_roles(tokenizer, model.config.get_text_config())
        self.before = _leading(tokenizer, folder)
        self.start = start_of_document(open_tokenizer(folder))
        size = BATCH.get(torch.device(device).type, BATCH_ON_ACCELERATOR)
        super().__init__(pretrained=model, tokenizer=tokenizer, backend="causal", batch_size=size)
        self.has_eos = tokenizer.eos_token_id is not None

    def tok_encode(
        self,
        string: str,
        add_special_tokens: bool | None = None,
        left_truncate_len: int | None = None,
        **_kwargs: Any,
    ) -> list[int]:
        """Return the ids of a text, behind the tokenizer's own prefix unless `add_special_tokens` is false.

        Prompts are text: a special token that one spells is text, as in the text that the model was trained on.
        """
        ids: list[int] = self.tokenizer.encode(
            string, add_special_tokens=False, split_special_tokens=True
        )
        if (
            add_special_tokens is not False
            and self.before
            and ids[: len(self.before)] != self.before
        ):
            ids = [*self.before, *ids]
        return self._cut(ids, left_truncate_len) if left_truncate_len else ids

    def _cut(self, ids: list[int], room: int) -> list[int]:
        """Take away what is too much, behind the prefix."""
        if len(ids) <= room:
            return ids
        if self.too_long == "refuse":
            msg = (
                f"{self.folder}: a prompt of {len(ids):,} tokens does not fit into the {room:,} that the model's "
                f"context of {self.max_length:,} leaves for it; lower "
                f"evaluation.tasks.num_fewshot, or set too_long: cut"
            )
            raise ModelError(msg)
        self.incidents[
            f"prompts cut at their beginning, to the model's context of {self.max_length:,}"
        ] += 1
        kept = (
            len(self.before)
            if ids[: len(self.before)] == self.before and room > len(self.before)
            else 0
        )
        return [*ids[:kept], *ids[len(ids) - room + kept :]]

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """Return the ids of a context and of what follows it; white space between them belongs to what follows."""
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
        if (
            shared == 0
        ):  # nothing is left before the answer: a token of context is made of the prefix
            whole, shared = [self.prefix_token_id, *whole], 1
        answer = whole[shared:]
        if not answer:
            msg = f"{self.folder}: the tokenizer gives no token for the answer {continuation!r}; it cannot be ranked"
            raise ModelError(msg)
        if len(answer) > self.max_length:
            msg = (
                f"{self.folder}: an answer of {len(answer):,} tokens is longer than the model's context of "
                f"{self.max_length:,}; leave the task out, or take a model with a longer context"
            )
            raise ModelError(msg)
        return whole[:shared], answer

    @property
    def prefix_token_id(self) -> int:
        """What stands before a text without context: what begins a document in packed text (BOS, or else EOS)."""
        if self.start is not None:
            return self.start
        msg = (
            f"{self.folder}: neither a BOS nor an EOS token, so nothing can stand before the first token; name one "
            f"in tokenizer_config.json"
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
        rows = [self.tok_encode(string, left_truncate_len=left_truncate_len) for string in strings]
        width = max(map(len, rows))
        if padding_side != "left":
            msg = "prompts are padded on the left, where generation does not go on from the padding"
            raise ValueError(msg)
        padding = int(self.tokenizer.pad_token_id)
        ids = torch.tensor([[padding] * (width - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        return ids, mask

    def generate_until(self, requests: list[Any], disable_tqdm: bool = True) -> list[str]:
        """Write an answer to each request, greedily or as its task says."""
        del disable_tqdm
        if not self.has_eos:
            msg = (
                f"{self.folder}: no EOS token, so what it writes has no end that can be seen; name one in "
                f"tokenizer_config.json (eos_token), or choose tasks that rank answers"
            )
            raise ModelError(msg)
        for request in requests:
            self._fit_answer(request.args[1])
            for stop in request.args[1].get("until") or ():
                if stop not in self.tokenizer.decode(
                    self.tokenizer.encode(stop, add_special_tokens=False)
                ):
                    self.incidents[
                        f"answers that cannot end with {stop!r}, which the tokenizer has no token for"
                    ] += 1
        with self._shown("writing answers", requests, len(requests)):
            result: list[str] = super().generate_until(requests, disable_tqdm=True)
        return result

    def _fit_answer(self, kwargs: dict[str, Any]) -> None:
        """Leave half of a short context to the prompt."""
        wanted = kwargs.get("max_gen_toks", self.max_gen_toks)
        if wanted > self.max_length // 2:
            kwargs["max_gen_toks"] = self.max_length // 2
            self.incidents[
                f"answers limited to {self.max_length // 2} tokens, half of the context"
            ] += 1

    def _model_generate(
        self, context: torch.Tensor, max_length: int, stop: list[str], **kwargs: Any
    ) -> torch.Tensor:
        eos = {int(self.tokenizer.eos_token_id), *_ids(self.model.generation_config.eos_token_id)}
        with torch.inference_mode():
            written: torch.Tensor = super()._model_generate(
                context, max_length=max_length, stop=stop, eos_token_id=sorted(eos), **kwargs
            )
        for row in written[:, context.shape[1] :].tolist():
            if not eos & set(row) and not any(term in self.tokenizer.decode(row) for term in stop):
                self.incidents["answers that reached the limit of tokens"] += 1
        self._advance(len(context))
        return written

    def loglikelihood(
        self, requests: list[Any], disable_tqdm: bool = True
    ) -> list[tuple[float, bool]]:
        """Return the log-probability of each answer after its context, and whether it is the likeliest one.

        All answers to a document see the same context, cut to what the longest of them leaves.
        """
        del disable_tqdm
        encoded = [self._encode_pair(*request.args[:2]) for request in requests]
        longest: Counter[tuple[Any, ...]] = Counter()
        for request, (_, answer) in zip(requests, encoded, strict=True):
            of = (request.task_name, request.doc_id)
            longest[of] = max(longest[of], len(answer))
        pairs = [
            (
                request.args,
                self._cut(
                    context, self.max_length + 1 - longest[request.task_name, request.doc_id]
                ),
                answer,
            )
            for request, (context, answer) in zip(requests, encoded, strict=True)
        ]
        with self._shown("ranking answers", requests, len(requests)), torch.inference_mode():
            result: list[tuple[float, bool]] = self._loglikelihood_tokens(pairs, disable_tqdm=True)
        return result

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = True) -> list[float]:
        """Return the log-probability of whole texts, every token scored once, the first one behind BOS or EOS.

        (lm-eval's own puts the tokenizer's BOS behind that one and scores it as if it stood in the text.)
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
            nats = iter(
                [nats for nats, _ in self._loglikelihood_tokens(windows, disable_tqdm=True)]
            )
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
        self._advance = _unseen

    def get_model_info(self) -> dict[str, Any]:
        """Return what can be said of the model without asking a hub."""
        return {
            "model_num_parameters": self.model.num_parameters(),
            "model_dtype": str(self.model.dtype),
        }


def _unseen(_amount: float, _note: str = "", /) -> None:
    return


def _name_roles(tokenizer: Any, config: Any) -> None:
    """Take BOS and EOS from the model's config where the tokenizer names none."""
    for role in ("bos", "eos"):
        named = getattr(config, f"{role}_token_id", None)
        number = named[0] if isinstance(named, list) and named else named
        if (
            getattr(tokenizer, f"{role}_token_id") is None
            and isinstance(number, int)
            and number < len(tokenizer)
        ):
            setattr(tokenizer, f"{role}_token", tokenizer.convert_ids_to_tokens(number))


def _leading(tokenizer: Any, folder: Path) -> list[int]:
    """Return what the tokenizer puts before a text."""
    bare = tokenizer.encode(PROBE, add_special_tokens=False)
    whole = tokenizer.encode(PROBE)
    for begin in range(len(whole) - len(bare) + 1):
        if whole[begin : begin + len(bare)] == bare:
            return list(whole[:begin])
    msg = f"{folder}: with special tokens the tokenizer reads {PROBE!r} as {whole}, without them as {bare}"
    raise TokenizerError(msg)


def _ids(value: int | list[int] | None) -> set[int]:
    return set() if value is None else {value} if isinstance(value, int) else set(value)
