"""Write a model as a GGUF file for llama.cpp.

Metadata and tokenizer are written first, then one tensor at a time, so that memory stays far below
the size of the model. The write is atomic. The package `gguf` is an optional extra, so it is
imported in the functions that use it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lingraft.bases.folder import read_config
from lingraft.checkpoint.gguf_architectures import (
    UnknownArchitectureError,
    architecture_of,
    complete_config,
)
from lingraft.checkpoint.gguf_settings import describe
from lingraft.checkpoint.loadable import check_config_fits
from lingraft.checkpoint.safetensors_files import Checkpoint
from lingraft.errors import MissingExtraError, ModelError, RecipeError, did_you_mean
from lingraft.export.gguf_converter import converter_advice
from lingraft.export.gguf_tensors import TensorPlan, named_sources, plan_tensors, write_tensors
from lingraft.export.gguf_tokenizer import (
    UNKNOWN,
    GgufTokens,
    added_token_notes,
    adds_bos,
    adds_eos,
    gguf_tokens,
    reads_as_phi_3,
)
from lingraft.export.ollama import (
    MODELFILE_START,
    llama_server,
    modelfile,
    modelfile_path,
    ollama_create,
    read_generation_config,
)
from lingraft.store import atomic_file, write_files
from lingraft.tokenizer import ModelTokenizer, open_tokenizer
from lingraft.tokenizer.chat_template import chat_template_of

if TYPE_CHECKING:
    from gguf import GGUFWriter
    from transformers import PretrainedConfig

NUMBERS = ("auto", "f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0")
"""Number types of matrices; `auto` keeps the type. Vectors are float32, as llama.cpp requires."""

GGUF_MAGIC = b"GGUF"
"""The first bytes of every GGUF file."""

MAX_CONTEXT = 8192
"""The largest context that the written commands ask for: the whole one can take much memory."""


@dataclass(frozen=True)
class Exported:
    """The written GGUF file and Modelfile, and the commands that serve them: llama.cpp and Ollama.

    `notes` are hints for the user of the file.
    """

    path: Path
    modelfile: Path
    serve: str
    ollama: str
    architecture: str
    pretokenizer: str
    tokens: int
    tensors: int
    bytes: int
    notes: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.architecture}, {self.tokens:,} tokens ({self.pretokenizer})"


def export_gguf(model: Path, path: Path, *, numbers: str = "auto") -> Exported:
    """Write a model folder as one GGUF file for llama.cpp.

    Raises `MissingExtraError` without the package `gguf`, and `ModelError` if llama.cpp would
    compute or tokenise differently: an unknown architecture, position scaling or pre-tokenizer.
    """
    if numbers not in NUMBERS:
        msg = f"--numbers {numbers!r}: {did_you_mean(numbers, NUMBERS)}"
        raise RecipeError(msg)
    try:
        from gguf import GGUFWriter
    except ImportError as error:
        raise MissingExtraError("gguf", extra="gguf") from error
    written = _check_target(path)
    checkpoint, tokenizer = Checkpoint.open(model), open_tokenizer(model)
    # Everything that can be refused is refused before the first byte is written.
    try:
        config = complete_config(read_config(model))
        architecture = architecture_of(config)
        sources = named_sources(architecture, config, checkpoint)
    except UnknownArchitectureError as error:
        msg = f"{error}; {converter_advice(model, path)}"
        raise ModelError(msg) from error
    check_config_fits(checkpoint)
    tokens = gguf_tokens(tokenizer, _embedding_rows(config, checkpoint))
    plans = list(plan_tensors(architecture, config, checkpoint, sources, numbers))
    ends = _end_tokens(model, tokenizer)
    with (
        atomic_file(path, option="--gguf") as draft,
        closing(GGUFWriter(str(draft), architecture.name)) as writer,
    ):
        writer.add_name(_name(model, tokenizer))
        length, notes = describe(writer, config, architecture)
        _write_types(writer, plans, numbers)
        _write_tokens(writer, tokens, tokenizer, ends)
        write_tensors(writer, plans)
    context = min(length, MAX_CONTEXT)
    write_files({written: modelfile(path, tokenizer, context, list(ends))})
    return Exported(
        path=path,
        modelfile=written,
        serve=llama_server(path, context),
        ollama=ollama_create(path),
        architecture=architecture.name,
        pretokenizer=tokens.pre,
        tokens=len(tokens.tokens),
        tensors=len(plans),
        bytes=path.stat().st_size,
        notes=(*tokens.notes, *added_token_notes(tokenizer), *notes),
    )


def _check_target(path: Path) -> Path:
    """Return the path of the Modelfile.

    Raises `RecipeError` if a path cannot be a file, or is a file that no former export wrote.
    """
    written = modelfile_path(path)
    if path.suffix == ".Modelfile":
        msg = f"--gguf {path}: this is the name of an Ollama Modelfile; use FILE.gguf"
        raise RecipeError(msg)
    for file in (path, written):
        if file.is_dir():
            msg = f"--gguf {path}: {file} is a folder; choose another file name"
            raise RecipeError(msg)
    # A former export is replaced. Anything else, such as the weights of the model, is kept.
    for file, start, kind in (
        (path, GGUF_MAGIC, "GGUF file"),
        (written, MODELFILE_START.encode(), "Modelfile of lingraft"),
    ):
        if not _is_replaceable(file, start):
            msg = f"--gguf {path}: {file} exists and is no {kind}; choose another file name"
            raise RecipeError(msg)
    return written


def _is_replaceable(path: Path, start: bytes) -> bool:
    """Whether there is no file at a path, an empty one, or one that begins with `start`."""
    # A pipe would never end; it is refused where the file is created.
    if not path.is_file():
        return True
    try:
        with path.open("rb") as file:
            first = file.read(len(start))
    except OSError:
        return False
    return first in {b"", start}


def _end_tokens(model: Path, tokenizer: ModelTokenizer) -> dict[str, int]:
    """Return the tokens that end an answer and their ids, the end of a chat turn first."""
    family = tokenizer.family
    pieces = {token_id: piece for piece, token_id in family.pieces.items()} | dict(family.special)
    chat = chat_template_of(tokenizer)
    contents = sorted(chat.turn_tokens.ends) if chat else []
    stated = read_generation_config(model).get("eos_token_id")
    stated_ids = stated if isinstance(stated, list) else [stated]
    for token_id in [*stated_ids, tokenizer.eos_id]:
        if token_id in pieces:
            contents.append(pieces[token_id])
    ids = {piece: token_id for token_id, piece in pieces.items()}
    return {content: ids[content] for content in contents if content in ids}


def _name(model: Path, tokenizer: ModelTokenizer) -> str:
    """Return the name of the model, as llama.cpp needs it.

    llama.cpp looks for "phi-3" in it: then special tokens swallow the space after them, as those of
    Phi-3 do.
    """
    # The model folder of a run is called `model`, so the name of the run is used.
    name = model.parent.name if model.name == "model" else model.name
    named = re.search(r"(?i)phi-?3", name)
    if not reads_as_phi_3(tokenizer):
        return re.sub(r"(?i)phi-?3", "Phi 3", name)
    return name if named else f"{name} Phi-3"


def _embedding_rows(config: PretrainedConfig, checkpoint: Checkpoint) -> int:
    # The matrix can have more rows than config.json's vocab_size states, and GGUF needs a token for
    # each. These are the names of Llama-like models, GPT-2 and GPT-NeoX.
    endings = ("embed_tokens.weight", "wte.weight", "embed_in.weight")
    for name, place in checkpoint.tensors.items():
        if name.endswith(endings):
            return place.shape[0]
    return int(config.vocab_size)


def _write_types(writer: GGUFWriter, plans: list[TensorPlan], numbers: str) -> None:
    """Write the number type as programs show it, e.g. "Q8_0"."""
    from gguf import GGML_QUANT_VERSION, LlamaFileType

    kind = numbers.upper()
    if numbers == "auto":
        largest = max(plans, key=lambda plan: float(np.prod(plan.shape)))
        kind = largest.kind.name
    names = {"F32": "ALL_F32"}
    writer.add_file_type(LlamaFileType[names.get(kind, f"MOSTLY_{kind}")])
    writer.add_quantization_version(GGML_QUANT_VERSION)


def _write_tokens(
    writer: GGUFWriter, tokens: GgufTokens, tokenizer: ModelTokenizer, ends: Mapping[str, int]
) -> None:
    writer.add_tokenizer_model(tokens.model)
    writer.add_tokenizer_pre(tokens.pre)
    writer.add_token_list(list(tokens.tokens))
    writer.add_token_types(list(tokens.types))
    if tokens.merges:
        writer.add_token_merges(list(tokens.merges))
    if tokens.scores:
        writer.add_token_scores(list(tokens.scores))
    writer.add_add_space_prefix(tokens.space_prefix)
    roles = {"bos": tokenizer.bos_id, "eos": tokenizer.eos_id, "pad": tokenizer.pad_id}
    for role, token_id in roles.items():
        if token_id is not None:
            getattr(writer, f"add_{role}_token_id")(token_id)
    if UNKNOWN in tokens.types:
        writer.add_unk_token_id(tokens.types.index(UNKNOWN))
    # llama.cpp stops at EOS and at this token, and at the turn marks that it knows by their text.
    turn_end = next((token_id for token_id in ends.values() if token_id != roles["eos"]), None)
    if turn_end is not None:
        writer.add_eot_token_id(turn_end)
    writer.add_add_bos_token(adds_bos(tokenizer))
    writer.add_add_eos_token(adds_eos(tokenizer))
    chat = chat_template_of(tokenizer)
    if chat is not None:
        writer.add_chat_template(chat.source)
