"""Check a model folder against what vLLM requires, without vLLM.

vLLM builds its matrices from config.json and then loads each tensor into them. Its requirements:
- `vocab_size` is exactly the number of rows (its loader asserts this).
- A tied head is not stored as a matrix of its own.
- Every *.safetensors file next to config.json is loaded, unless an index lists the files.
- AutoTokenizer gives the ids that the model was trained with.

What vLLM adapts itself is a note and not a fault: it pads the rows to a multiple of 64, converts
float32, and needs a chat template for chat requests only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lingraft.checkpoint.loadable import check_config_fits
from lingraft.checkpoint.model_folder import ModelFolder
from lingraft.checkpoint.safetensors_files import INDEX, SINGLE, Checkpoint
from lingraft.errors import LingraftError, one_line
from lingraft.model_code import CodeNotPermittedError
from lingraft.tokenizer.edge_cases import edge_case_texts
from lingraft.tokenizer.loaded_settings import load_auto_tokenizer

MULTIPLE = 64
"""vLLM pads its embedding to a multiple of this (DEFAULT_VOCAB_PADDING_SIZE)."""

_DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "float64": "F64"}

Verdict = Literal["yes", "note", "no"]


@dataclass(frozen=True)
class LayoutCheck:
    """The result of a check: what was checked, what was found, and what to do.

    `holds` is "no" if vLLM would refuse the folder or compute something else, and "note" if vLLM
    works but the user should know.
    """

    what: str
    found: str
    holds: Verdict = "yes"
    advice: str = ""


def check_vllm_layout(folder: Path) -> list[LayoutCheck]:
    """Run every check on a model folder.

    A file that cannot be read is reported as a fault of the check that needs it; nothing is raised.
    """
    opened = ModelFolder(folder)
    results: list[LayoutCheck] = []
    for what, check in CHECKS.items():
        try:
            results += [LayoutCheck(what, *result) for result in check(opened)]
        except CodeNotPermittedError:
            advice = "`lingraft adapt` checks the result, where the recipe permits the code"
            results.append(LayoutCheck(what, "needs the model's own code", "note", advice))
        except LingraftError as error:
            advice = "the folder is incomplete: build or download it again"
            results.append(LayoutCheck(what, str(error), "no", advice))
    return results


def vllm_faults(folder: Path) -> list[str]:
    """Return a line for each fault: vLLM would refuse the folder, or compute something else."""
    faults = [check for check in check_vllm_layout(folder) if check.holds == "no"]
    return [f"vLLM: {fault.what}: {fault.found}; {fault.advice}" for fault in faults]


# What a check yields: what was found, the verdict, and what to do.
Result = tuple[str, Verdict, str]


def _ok(found: str) -> Result:
    return found, "yes", ""


def _note(found: str, advice: str) -> Result:
    return found, "note", advice


def _fault(found: str, advice: str) -> Result:
    return found, "no", advice


def _check_architecture(folder: ModelFolder) -> Iterator[Result]:
    if auto_map := folder.config.get("auto_map"):
        code = ", ".join(auto_map)
        yield _fault(f"code of its own ({code})", "vLLM runs it only with --trust-remote-code")
    architectures: Any = folder.config.get("architectures")
    if _is_list_of(str, architectures):
        yield _ok(architectures[0])
    else:
        advice = "vLLM chooses the model's class by it: save_pretrained writes it"
        yield _fault("config.json names none in a list", advice)


def _is_list_of(kind: type, value: Any) -> bool:
    """Return whether a value of a JSON file is a list with at least one entry, all of this type."""
    return isinstance(value, list) and bool(value) and all(type(item) is kind for item in value)


def _check_rows(folder: ModelFolder) -> Iterator[Result]:
    # Published configurations leave out what is the default of their type, as Gemma 3 does.
    names, size = folder.names, folder.names.vocabulary
    bias = (names.output_bias,) if names.output_bias else ()
    for name in (*names.input, *names.output, *bias):
        rows = folder.checkpoint.tensors[name].shape[0]
        if rows == size:
            yield _ok(f"{rows:,} in {name}, equal to vocab_size")
        else:
            advice = "vLLM's loader needs exactly vocab_size rows"
            yield _fault(f"{rows:,} in {name}, vocab_size {size}", advice)
    if names.rows % MULTIPLE:
        advice = "vLLM pads with rows that are never sampled"
        yield _note(f"{names.rows:,}, not a multiple of {MULTIPLE}", advice)


def _check_head(folder: ModelFolder) -> Iterator[Result]:
    names = folder.names
    copies = [name for name in names.input if name.endswith("lm_head.weight")]
    if copies:
        advice = "equal to the input's rows; some versions of vLLM do not skip it"
        yield _note(f"tied, with a copy in {copies[0]}", advice)
    elif names.tied:
        yield _ok("tied, one matrix")
    else:
        yield _ok(f"two matrices, the head is {names.output[0]}")


def _check_ids(folder: ModelFolder) -> Iterator[Result]:
    rows, size = folder.names.rows, folder.tokenizer.size
    if size > rows:
        yield _fault(f"{size:,} ids, {rows:,} rows", "copy the model's own tokenizer into it")
    else:
        yield _ok(f"{size:,} ids in {rows:,} rows")


def _check_tokenizer(folder: ModelFolder) -> Iterator[Result]:
    if not (folder.path / "tokenizer.json").is_file():
        yield _fault("no tokenizer.json", "`lingraft adapt` writes one")
        return
    try:
        loaded = load_auto_tokenizer(folder.path)
    except Exception as error:  # noqa: BLE001 - any exception here would stop vLLM's start as well
        yield _fault(f"AutoTokenizer: {one_line(error)[:120]}", "look at tokenizer_config.json")
        return
    texts = list(filter(None, edge_case_texts()))
    ids = folder.tokenizer.encode_markup(texts)
    transformers_ids = loaded(texts, add_special_tokens=False, verbose=False)["input_ids"]
    different = sum(a != b for a, b in zip(ids, transformers_ids, strict=True))
    kind = type(loaded).__name__
    if not different:
        yield _ok(f"{kind} gives the same ids for {len(texts)} edge-case texts")
        return
    found = f"{kind} gives other ids for {different} of {len(texts)} edge-case texts"
    if folder.tokenizer.config.get("auto_map"):
        advice = "vllm serve --trust-remote-code uses the class of the folder, with the same ids"
        yield _note(found, advice)
    else:
        advice = (
            "name PreTrainedTokenizerFast in tokenizer_config.json, or a class in the folder, "
            "as `lingraft adapt` does"
        )
        yield _fault(found, advice)


def _check_template(folder: ModelFolder) -> Iterator[Result]:
    in_config = folder.tokenizer.config.get("chat_template")
    if in_config or (folder.path / "chat_template.jinja").is_file():
        yield _ok("present")
    else:
        advice = "/v1/completions works; /v1/chat/completions needs --chat-template"
        yield _note("none", advice)


def _check_dtype(folder: ModelFolder) -> Iterator[Result]:
    config = folder.config
    # transformers 5 writes `dtype`, transformers 4 `torch_dtype`.
    dtype = folder.text_config.get("dtype") or config.get("dtype") or config.get("torch_dtype")
    named = str(dtype)
    stored = sorted({place.dtype for place in folder.checkpoint.tensors.values()})
    if _DTYPES.get(named) not in stored:
        advice = "vLLM converts to the dtype of config.json: set it to the dtype of the files"
        yield _fault(f"{', '.join(stored)}, while config.json says {named}", advice)
    elif named in {"float32", "float64"}:
        advice = "--dtype auto serves it in 16 bits; --dtype float32 gives the results of lingraft"
        yield _note(named, advice)
    else:
        yield _ok(", ".join(stored))


def _check_end_ids(folder: ModelFolder) -> Iterator[Result]:
    size, own = folder.tokenizer.size, folder.tokenizer.eos_id
    configs = {
        "config.json": folder.text_config,
        "generation_config.json": folder.generation_config,
    }
    ids: dict[str, list[int]] = {}
    beyond: list[str] = []
    for name, config in configs.items():
        value = config.get("eos_token_id")
        if value is None:
            continue
        listed = value if isinstance(value, list) else [value]
        if not _is_list_of(int, listed):
            yield _fault(f"{json.dumps(value)} in {name}", "set an id, or a list of ids")
            return
        ids[name] = listed
        beyond += [f"{end_id} in {name}" for end_id in ids[name] if not 0 <= end_id < size]
    if beyond:
        advice = "generation would never end: set the id of the end token"
        yield _fault(f"{', '.join(beyond)}, with {size:,} ids", advice)
    elif own is None and not ids:
        yield _note("none", "generation ends at max_tokens only")
    elif ids and own is not None and all(own not in values for values in ids.values()):
        yield _note(f"{ids}, the tokenizer's own is {own}", "vLLM stops at either")
    else:
        yield _ok(str(own if own is not None else ids))


def _check_weights(folder: ModelFolder) -> Iterator[Result]:
    if "quantization_config" in folder.config:
        yield _note("quantised", "its tensors are not compared with config.json")
        return
    check_config_fits(folder.checkpoint)
    yield _ok("as config.json says")


def _check_files(folder: ModelFolder) -> Iterator[Result]:
    checkpoint = folder.checkpoint
    used = {path.name for path in checkpoint.files}
    if checkpoint.index is not None:
        yield _check_index(checkpoint, checkpoint.index["weight_map"])
        return
    # With model.safetensors and no index, transformers ignores other files, but vLLM does not.
    extra = sorted({path.name for path in folder.path.glob("*.safetensors")} - used)
    if extra and (folder.path / INDEX).exists():
        advice = f"transformers loads {SINGLE}, vLLM what {INDEX} names: remove one of them"
        yield _fault(f"{SINGLE} and the shards of another save", advice)
    elif extra:
        advice = f"without {INDEX}, vLLM loads every *.safetensors: remove it"
        yield _fault(f"{', '.join(extra)} next to the weights", advice)
    else:
        yield _ok(f"one file, {len(checkpoint.tensors)} tensors")


def _check_index(checkpoint: Checkpoint, weight_map: Mapping[str, str]) -> Result:
    """Compare the index with the tensors of the files."""
    misplaced: list[str] = []
    for name, file in weight_map.items():
        place = checkpoint.tensors.get(name)
        if place is None or place.file.name != file:
            misplaced.append(name)
    missing = sorted(checkpoint.tensors.keys() - weight_map.keys())
    if not misplaced and not missing:
        files, tensors = len(checkpoint.files), len(weight_map)
        return _ok(f"{files} files, {tensors} tensors, as {INDEX} says")
    example = (misplaced + missing)[0]
    found = f"{len(misplaced)} tensors not where {INDEX} says, {len(missing)} not in it ({example})"
    return _fault(found, "save the model again")


CHECKS: Mapping[str, Callable[[ModelFolder], Iterator[Result]]] = {
    "architecture": _check_architecture,
    "rows": _check_rows,
    "head": _check_head,
    "ids": _check_ids,
    "tokenizer": _check_tokenizer,
    "chat template": _check_template,
    "data type": _check_dtype,
    "end of text": _check_end_ids,
    "weights": _check_weights,
    "files": _check_files,
}
"""The checks, in the order of the output."""
