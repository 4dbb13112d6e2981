"""Write a GGUF file atomically: metadata, tokenizer, then one tensor at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lingraft.bases.folder import read_config
from lingraft.checkpoint.safetensors_files import Checkpoint
from lingraft.errors import MissingExtraError, ModelError, RecipeError, did_you_mean
from lingraft.export.gguf_architectures import Architecture, architecture_of, rope_factors
from lingraft.export.gguf_tokenizer import GgufTokens, gguf_tokens
from lingraft.store import atomic_file
from lingraft.tokenizer import ModelTokenizer, open_tokenizer

if TYPE_CHECKING:
    import numpy as np

NUMBERS = {"auto": None, "f32": "F32", "f16": "F16", "bf16": "BF16", "q8_0": "Q8_0"}
"""How matrices are stored; `auto` keeps the type. Vectors are float32, as llama.cpp requires."""

_STORED = {"F32": "F32", "F16": "F16", "BF16": "BF16", "F64": "F32"}


@dataclass(frozen=True)
class Exported:
    """A GGUF file that was written; `notes` are for its users."""

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

    Raises `MissingExtraError` without the package `gguf`, and `ModelError` where llama.cpp would
    compute or tokenise differently: an unknown architecture, position scaling or pre-tokenizer.
    """
    if numbers not in NUMBERS:
        msg = f"--numbers {numbers!r}: {did_you_mean(numbers, NUMBERS)}"
        raise RecipeError(msg)
    try:
        from gguf import GGUFWriter
    except ImportError as error:
        raise MissingExtraError("gguf", extra="gguf") from error
    config, checkpoint, tokenizer = (
        read_config(model),
        Checkpoint.open(model),
        open_tokenizer(model),
    )
    architecture = architecture_of(config)
    found = gguf_tokens(tokenizer, _rows(config, checkpoint))
    names = _names(architecture, config, checkpoint)
    with atomic_file(path, option="--gguf") as draft:
        writer = GGUFWriter(str(draft), architecture.name)
        _write_metadata(writer, architecture, config, model)
        _write_tokens(writer, found, tokenizer)
        _write_tensors(
            writer, list(_tensors(architecture, config, checkpoint, names, NUMBERS[numbers]))
        )
        writer.close()
    return Exported(
        path,
        architecture.name,
        found.pre,
        len(found.tokens),
        len(names),
        path.stat().st_size,
        tuple(found.notes),
    )


def _rows(config: Mapping[str, Any], checkpoint: Checkpoint) -> int:
    endings = ("embed_tokens.weight", "wte.weight", "embed_in.weight")
    found = [place.shape[0] for name, place in checkpoint.tensors.items() if name.endswith(endings)]
    return found[0] if found else int(config["vocab_size"])


def _names(
    architecture: Architecture, config: Mapping[str, Any], checkpoint: Checkpoint
) -> dict[str, str]:
    """Return GGUF's name of each tensor.

    Raises `ModelError` for a tensor without one, which would be lost.
    """
    from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, get_tensor_name_map

    kind = next(arch for arch, name in MODEL_ARCH_NAMES.items() if name == architecture.name)
    layers = config.get("num_hidden_layers") or config["n_layer"]
    table = get_tensor_name_map(MODEL_ARCH(kind), layers)
    tied = bool(config.get("tie_word_embeddings", architecture.name == "gpt2"))
    names = {}
    for name in checkpoint.tensors:
        if name.endswith(architecture.skipped) or (tied and name == "lm_head.weight"):
            continue
        found = table.get_name(name, try_suffixes=(".weight", ".bias"))
        if found is None:
            msg = (
                f"{checkpoint.folder}: the tensor {name} has no name in GGUF for "
                f"{architecture.name} "
                "models"
            )
            raise ModelError(msg)
        names[name] = found
    return names


@dataclass(frozen=True)
class _Plan:
    """A tensor to write: its name, its GGUF type, its shape, and the function that reads it."""

    name: str
    kind: Any
    shape: tuple[int, ...]
    read: Any


def _tensors(
    architecture: Architecture,
    config: Mapping[str, Any],
    checkpoint: Checkpoint,
    names: Mapping[str, str],
    numbers: str | None,
) -> Iterator[_Plan]:
    import numpy as np
    from gguf import GGMLQuantizationType as Kind

    factors = rope_factors(config)
    if factors is not None:
        yield _Plan(
            "rope_freqs.weight", Kind.F32, (len(factors),), lambda: np.asarray(factors, np.float32)
        )
    for name, written in names.items():
        place = checkpoint.tensors[name]
        kind = Kind.F32 if len(place.shape) == 1 else Kind[numbers or _STORED[place.dtype]]
        if kind is Kind.Q8_0 and place.shape[-1] % 32:
            msg = (
                f"{name}: {place.shape[-1]} columns; q8_0 needs a multiple of 32: use --numbers f16"
            )
            raise ModelError(msg)

        def read(name: str = name, kind: Any = kind) -> np.ndarray[Any, Any]:
            from gguf.quants import quantize

            laid_out = architecture.tensor(name, checkpoint.tensor(name).float(), config)
            return quantize(laid_out.contiguous().numpy(), kind)  # type: ignore[no-any-return]

        transposed = architecture.tensor(name, _empty(place.shape), config).shape
        yield _Plan(written, kind, tuple(transposed), read)


def _empty(shape: tuple[int, ...]) -> Any:
    import torch

    return torch.empty(shape, device="meta")


def _write_tensors(writer: Any, plans: list[_Plan]) -> None:
    """Write the header of every tensor, then one tensor at a time to bound memory."""
    import numpy as np
    from gguf import GGML_QUANT_SIZES

    for plan in plans:
        block, size = GGML_QUANT_SIZES[plan.kind]
        count = int(np.prod(plan.shape)) // block * size
        writer.add_tensor_info(
            plan.name, plan.shape, np.dtype(np.float32), count, raw_dtype=plan.kind
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for plan in plans:
        writer.write_tensor_data(plan.read())


def _write_metadata(
    writer: Any, architecture: Architecture, config: Mapping[str, Any], model: Path
) -> None:
    name = model.parent.name if model.name == "model" else model.name
    writer.add_name(name)
    architecture.describe(writer, config)


def _write_tokens(writer: Any, found: GgufTokens, tokenizer: ModelTokenizer) -> None:
    writer.add_tokenizer_model(found.model)
    writer.add_tokenizer_pre(found.pre)
    writer.add_token_list(list(found.tokens))
    writer.add_token_types(list(found.types))
    if found.merges:
        writer.add_token_merges(list(found.merges))
    if found.scores:
        writer.add_token_scores(list(found.scores))
    writer.add_add_space_prefix(found.space_prefix)
    roles = {"bos": tokenizer.bos_id, "eos": tokenizer.eos_id, "pad": tokenizer.pad_id}
    for role, token_id in roles.items():
        if token_id is not None:
            getattr(writer, f"add_{role}_token_id")(token_id)
    around = tokenizer.backend.encode("a", add_special_tokens=True).ids
    writer.add_add_bos_token(bool(around) and around[0] == roles["bos"])
    writer.add_add_eos_token(bool(around) and around[-1] == roles["eos"])
    template = tokenizer.config.get("chat_template") or _template(tokenizer.folder)
    if isinstance(template, str):
        writer.add_chat_template(template)


def _template(folder: Path) -> str | None:
    path = folder / "chat_template.jinja"
    return path.read_text(encoding="utf-8") if path.is_file() else None
