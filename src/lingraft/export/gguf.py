"""Write a model as a GGUF file for llama.cpp.

Metadata and tokenizer are written first, then one tensor at a time, so that memory stays far below
the size of the model. The write is atomic. The package `gguf` is an optional extra, so it is
imported in the functions that use it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lingraft.bases.folder import read_config
from lingraft.checkpoint.safetensors_files import Checkpoint
from lingraft.errors import MissingExtraError, ModelError, RecipeError, did_you_mean
from lingraft.export.gguf_architectures import Architecture, architecture_of, rope_factors
from lingraft.export.gguf_tokenizer import GgufTokens, gguf_tokens
from lingraft.store import atomic_file
from lingraft.tokenizer import ModelTokenizer, open_tokenizer

if TYPE_CHECKING:
    from gguf import GGUFWriter

NUMBERS = {"auto": None, "f32": "F32", "f16": "F16", "bf16": "BF16", "q8_0": "Q8_0"}
"""Number types of matrices; `auto` keeps the type. Vectors are float32, as llama.cpp requires."""

_GGUF_TYPES = {"F32": "F32", "F16": "F16", "BF16": "BF16", "F64": "F32"}
"""safetensors dtype -> GGUF type."""


@dataclass(frozen=True)
class Exported:
    """The written GGUF file; `notes` are hints for the user of the file."""

    path: Path
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
    config = read_config(model)
    checkpoint, tokenizer = Checkpoint.open(model), open_tokenizer(model)
    # Everything that can be refused is refused before the first byte is written.
    architecture = architecture_of(config)
    tokens = gguf_tokens(tokenizer, _embedding_rows(config, checkpoint))
    names = _tensor_names(architecture, config, checkpoint)
    with atomic_file(path, option="--gguf") as draft:
        writer = GGUFWriter(str(draft), architecture.name)
        # The model folder of a run is called `model`, so the name of the run is used.
        writer.add_name(model.parent.name if model.name == "model" else model.name)
        architecture.describe(writer, config)
        _write_tokens(writer, tokens, tokenizer)
        plans = _plan_tensors(architecture, config, checkpoint, names, NUMBERS[numbers])
        _write_tensors(writer, list(plans))
        writer.close()
    return Exported(
        path,
        architecture.name,
        tokens.pre,
        len(tokens.tokens),
        len(names),
        path.stat().st_size,
        tuple(tokens.notes),
    )


def _embedding_rows(config: Mapping[str, Any], checkpoint: Checkpoint) -> int:
    # The matrix can have more rows than config.json's vocab_size states, and GGUF needs a token for
    # each. These are the names of Llama-like models, GPT-2 and GPT-NeoX.
    endings = ("embed_tokens.weight", "wte.weight", "embed_in.weight")
    for name, place in checkpoint.tensors.items():
        if name.endswith(endings):
            return place.shape[0]
    return int(config["vocab_size"])


def _tensor_names(
    architecture: Architecture, config: Mapping[str, Any], checkpoint: Checkpoint
) -> dict[str, str]:
    """Return the GGUF name of each tensor.

    Raises `ModelError` for a tensor without a GGUF name, which would be missing in the file.
    """
    from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, get_tensor_name_map

    kind = next(arch for arch, name in MODEL_ARCH_NAMES.items() if name == architecture.name)
    layers = config.get("num_hidden_layers") or config["n_layer"]
    table = get_tensor_name_map(MODEL_ARCH(kind), layers)
    # A config.json may leave the setting out: of these architectures, only GPT-2 then ties.
    tied = bool(config.get("tie_word_embeddings", architecture.name == "gpt2"))
    names = {}
    for name in checkpoint.tensors:
        # llama.cpp uses the input matrix for a tied head, so a stored copy is not written.
        if name.endswith(architecture.skipped) or (tied and name == "lm_head.weight"):
            continue
        gguf_name = table.get_name(name, try_suffixes=(".weight", ".bias"))
        if gguf_name is None:
            msg = (
                f"{checkpoint.folder}: GGUF has no name for the tensor {name} of "
                f"{architecture.name} models; use llama.cpp's own converter"
            )
            raise ModelError(msg)
        names[name] = gguf_name
    return names


@dataclass(frozen=True)
class _TensorPlan:
    """A tensor to write: its GGUF name, type and shape, and the function that reads it."""

    name: str
    kind: Any
    shape: tuple[int, ...]
    read: Callable[[], np.ndarray[Any, Any]]


def _plan_tensors(
    architecture: Architecture,
    config: Mapping[str, Any],
    checkpoint: Checkpoint,
    names: Mapping[str, str],
    numbers: str | None,
) -> Iterator[_TensorPlan]:
    from gguf import GGMLQuantizationType as Kind
    from gguf.quants import quantize

    factors = rope_factors(config)
    if factors is not None:
        values = np.asarray(factors, np.float32)
        yield _TensorPlan("rope_freqs.weight", Kind.F32, values.shape, lambda: values)
    for name, gguf_name in names.items():
        place = checkpoint.tensors[name]
        # llama.cpp reads norms and biases as float32.
        kind = Kind.F32 if len(place.shape) == 1 else Kind[numbers or _GGUF_TYPES[place.dtype]]
        if kind is Kind.Q8_0 and place.shape[-1] % 32:
            columns = place.shape[-1]
            msg = f"{name}: {columns} columns; q8_0 needs a multiple of 32: use --numbers f16"
            raise ModelError(msg)

        # The defaults bind the values of this iteration; a closure would read those of the last.
        def read(name: str = name, kind: Any = kind) -> np.ndarray[Any, Any]:
            laid_out = architecture.tensor(name, checkpoint.tensor(name).float(), config)
            return quantize(laid_out.contiguous().numpy(), kind)  # type: ignore[no-any-return]

        # A meta tensor gives the shape in GGUF's layout without reading the weights.
        meta = torch.empty(place.shape, device="meta")
        yield _TensorPlan(
            gguf_name, kind, tuple(architecture.tensor(name, meta, config).shape), read
        )


def _write_tensors(writer: GGUFWriter, plans: list[_TensorPlan]) -> None:
    """Write the headers of all tensors, then one tensor at a time to bound the memory."""
    from gguf import GGML_QUANT_SIZES

    # The headers state the offset of each tensor, so all sizes are needed before the first weight.
    for plan in plans:
        block_values, block_bytes = GGML_QUANT_SIZES[plan.kind]
        size = int(np.prod(plan.shape)) // block_values * block_bytes
        # `raw_dtype` decides the type; gguf only looks at the numpy type to detect packed bytes.
        writer.add_tensor_info(
            plan.name, plan.shape, np.dtype(np.float32), size, raw_dtype=plan.kind
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for plan in plans:
        writer.write_tensor_data(plan.read())


def _write_tokens(writer: GGUFWriter, tokens: GgufTokens, tokenizer: ModelTokenizer) -> None:
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
    # The post-processor decides whether a text gets BOS and EOS. No setting states it, so a text is
    # encoded to find out.
    ids = tokenizer.backend.encode("a", add_special_tokens=True).ids
    writer.add_add_bos_token(bool(ids) and ids[0] == roles["bos"])
    writer.add_add_eos_token(bool(ids) and ids[-1] == roles["eos"])
    template = tokenizer.config.get("chat_template")
    template_file = tokenizer.folder / "chat_template.jinja"
    if not template and template_file.is_file():
        template = template_file.read_text(encoding="utf-8")
    if isinstance(template, str):
        writer.add_chat_template(template)
