"""What vLLM asks of a model folder, checked without vLLM.

vLLM builds its matrices from config.json and then loads each tensor into its place: `vocab_size` has to be the number
of rows to the row (its loader asserts it), a tied head is none of its own, every *.safetensors file beside config.json
counts unless an index says otherwise, and text is cut by whatever AutoTokenizer gives. What it fills up itself (rows to
a multiple of 64), converts (float32) or needs for some requests only (a chat template) is told, and no fault.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from lingraft.checkpoint.find_embeddings import embedding_names
from lingraft.checkpoint.safetensors_files import INDEX, Checkpoint
from lingraft.errors import LingraftError, ModelError
from lingraft.tokenizer import ModelTokenizer, open_tokenizer
from lingraft.tokenizer.edge_cases import edge_case_texts

MULTIPLE = 64
"""Rows that vLLM's embedding is filled up to a multiple of (DEFAULT_VOCAB_PADDING_SIZE)."""

_TYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "float64": "F64"}


@dataclass(frozen=True)
class LayoutCheck:
    """What was looked at and found; `no` where vLLM would refuse the folder or compute otherwise."""

    what: str
    found: str
    holds: Literal["yes", "note", "no"] = "yes"
    advice: str = ""


@dataclass(frozen=True)
class _Folder:
    """A model folder, each part read once."""

    path: Path

    @cached_property
    def config(self) -> Mapping[str, Any]:
        return self._json("config.json")

    @property
    def text(self) -> Mapping[str, Any]:
        return self.config.get("text_config") or self.config

    @cached_property
    def generation(self) -> Mapping[str, Any]:
        return (
            self._json("generation_config.json")
            if (self.path / "generation_config.json").is_file()
            else {}
        )

    @cached_property
    def checkpoint(self) -> Checkpoint:
        return Checkpoint.open(self.path)

    @cached_property
    def tokenizer(self) -> ModelTokenizer:
        return open_tokenizer(self.path)

    def _json(self, name: str) -> Mapping[str, Any]:
        try:
            content = json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            msg = f"{self.path / name}: cannot be read as JSON ({error})"
            raise ModelError(msg) from error
        return content if isinstance(content, dict) else {}


def vllm_layout(folder: Path) -> list[LayoutCheck]:
    """Look at everything that vLLM asks of a model folder; what cannot be read is told, not raised."""
    opened, looked = _Folder(folder), []
    for what, check in CHECKS.items():
        try:
            looked += [LayoutCheck(what, *found) for found in check(opened)]
        except LingraftError as error:
            looked.append(
                LayoutCheck(
                    what, str(error), "no", "the folder is not whole: make or fetch it again"
                )
            )
    return looked


def vllm_faults(folder: Path) -> list[str]:
    """Return a line for each thing for which vLLM would refuse a model folder, or compute otherwise than here."""
    return [
        f"vLLM: {one.what}: {one.found}; {one.advice}"
        for one in vllm_layout(folder)
        if one.holds == "no"
    ]


Found = Iterator[tuple[Any, ...]]


def _architecture(folder: _Folder) -> Found:
    named = folder.config.get("architectures") or []
    if "auto_map" in folder.config:
        yield (
            f"code of its own ({', '.join(folder.config['auto_map'])})",
            "no",
            "it would run only when trusted",
        )
    if not named or not isinstance(named[0], str):
        yield (
            "config.json names none",
            "no",
            "vLLM chooses the model's class by it: save_pretrained writes it",
        )
    else:
        yield (named[0],)


def _rows(folder: _Folder) -> Found:
    names, size = embedding_names(folder.checkpoint), folder.text.get("vocab_size")
    for name in (*names.input, *names.output, *([names.output_bias] if names.output_bias else [])):
        rows = folder.checkpoint.tensors[name].shape[0]
        if rows == size:
            yield (f"{rows:,} in {name}, as vocab_size says",)
        else:
            yield (
                f"{rows:,} in {name}, vocab_size {size}",
                "no",
                "its loader wants exactly vocab_size rows",
            )
    if names.rows % MULTIPLE:
        yield (
            f"{names.rows:,}, no multiple of {MULTIPLE}",
            "note",
            "vLLM fills up with rows that are never sampled",
        )


def _tied(folder: _Folder) -> Found:
    names = embedding_names(folder.checkpoint)
    spare = [name for name in names.input if name.endswith("lm_head.weight")]
    if spare:
        yield (
            f"tied, with a copy in {spare[0]}",
            "note",
            "equal to the input's rows; not every vLLM skips it",
        )
    else:
        yield (
            "tied, one matrix" if names.tied else f"two matrices, the head is {names.output[0]}",
        )


def _ids(folder: _Folder) -> Found:
    rows, size = embedding_names(folder.checkpoint).rows, folder.tokenizer.size
    if size > rows:
        yield (
            f"{size:,} ids, {rows:,} rows",
            "no",
            "put the tokenizer there that belongs to the model",
        )
    else:
        yield (f"{size:,} ids in {rows:,} rows",)


def _tokenizer(folder: _Folder) -> Found:
    if not (folder.path / "tokenizer.json").is_file():
        yield "no tokenizer.json", "no", "`lingraft adapt` writes one"
        return
    from transformers import AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()
    try:
        loaded = AutoTokenizer.from_pretrained(str(folder.path), trust_remote_code=False)
    except Exception as error:  # noqa: BLE001 - of whatever kind, by it vLLM would not start
        yield (
            f"AutoTokenizer: {' '.join(str(error).split())[:120]}",
            "no",
            "look at tokenizer_config.json",
        )
        return
    texts = [text for text in edge_case_texts() if text]
    theirs = [loaded(text, add_special_tokens=False)["input_ids"] for text in texts]
    different = sum(
        mine != other
        for mine, other in zip(folder.tokenizer.encode_markup(texts), theirs, strict=True)
    )
    kind = type(loaded).__name__
    if not different:
        yield (f"{kind} cuts {len(texts)} awkward texts alike",)
    elif folder.tokenizer.config.get("auto_map"):
        yield (
            f"{kind} cuts {different} of {len(texts)} awkward texts otherwise",
            "note",
            "vllm serve --trust-remote-code takes the class of the folder, which cuts as here",
        )
    else:
        yield (
            f"{kind} cuts {different} of {len(texts)} awkward texts otherwise",
            "no",
            "name PreTrainedTokenizerFast in tokenizer_config.json, or a class of the folder's own as adapt does",
        )


def _template(folder: _Folder) -> Found:
    there = (
        folder.tokenizer.config.get("chat_template")
        or (folder.path / "chat_template.jinja").is_file()
    )
    if there:
        yield ("there",)
    else:
        yield "none", "note", "/v1/completions works; /v1/chat/completions needs --chat-template"


def _numbers(folder: _Folder) -> Found:
    named = str(
        folder.text.get("dtype") or folder.config.get("dtype") or folder.config.get("torch_dtype")
    )
    stored = sorted({place.dtype for place in folder.checkpoint.tensors.values()})
    if _TYPES.get(named) not in stored:
        yield (
            f"{', '.join(stored)}, while config.json says {named}",
            "no",
            "vLLM converts to what config.json says: name the type there that the files have",
        )
    elif named in {"float32", "float64"}:
        yield named, "note", "--dtype auto serves it in 16 bits; --dtype float32 computes as here"
    else:
        yield (", ".join(stored),)


def _ends(folder: _Folder) -> Found:
    size = folder.tokenizer.size
    ends = {
        name: part.get("eos_token_id")
        for name, part in (
            ("config.json", folder.text),
            ("generation_config.json", folder.generation),
        )
    }
    ids = {
        name: value if isinstance(value, list) else [value]
        for name, value in ends.items()
        if value is not None
    }
    beyond = [
        f"{one} in {name}" for name, values in ids.items() for one in values if not 0 <= one < size
    ]
    own = folder.tokenizer.eos_id
    if beyond:
        yield (
            f"{', '.join(beyond)}, with {size:,} ids",
            "no",
            "generation would never end: name the id of the end",
        )
    elif own is None and not ids:
        yield "none", "note", "an answer ends at max_tokens only"
    elif ids and own is not None and all(own not in values for values in ids.values()):
        yield f"{ids}, the tokenizer's own is {own}", "note", "vLLM stops at either"
    else:
        yield (str(own if own is not None else ids),)


def _files(folder: _Folder) -> Found:
    found = {path.name for path in folder.path.glob("*.safetensors")}
    checkpoint, used = folder.checkpoint, {path.name for path in folder.checkpoint.files}
    if checkpoint.index is None:
        if found != used:
            yield (
                f"{', '.join(sorted(found - used))} beside the weights",
                "no",
                f"without {INDEX}, vLLM loads every *.safetensors: take it away",
            )
        else:
            yield (f"one file, {len(checkpoint.tensors)} tensors",)
        return
    index = checkpoint.index["weight_map"]
    wrong = [
        name
        for name, file in index.items()
        if name not in checkpoint.tensors or checkpoint.tensors[name].file.name != file
    ]
    lost = sorted(checkpoint.tensors.keys() - index.keys())
    if wrong or lost:
        yield (
            f"{len(wrong)} tensors not where {INDEX} says, {len(lost)} not in it ({(wrong + lost)[0]})",
            "no",
            "save the model again",
        )
    else:
        yield (f"{len(used)} files, {len(index)} tensors, as {INDEX} says",)


CHECKS: Mapping[str, Callable[[_Folder], Found]] = {
    "architecture": _architecture,
    "rows": _rows,
    "head": _tied,
    "ids": _ids,
    "tokenizer": _tokenizer,
    "chat template": _template,
    "numbers": _numbers,
    "end of text": _ends,
    "files": _files,
}
"""What is looked at, in the order of the answer."""
