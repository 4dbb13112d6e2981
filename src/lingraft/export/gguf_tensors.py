"""The tensors of a GGUF file: their names, types and shapes, and how each is read and written."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lingraft.checkpoint.gguf_architectures import Architecture, UnknownArchitectureError
from lingraft.checkpoint.gguf_layouts import TensorSource, tensor_sources
from lingraft.checkpoint.gguf_rope import rope_tensors
from lingraft.checkpoint.safetensors_files import Checkpoint
from lingraft.errors import ModelError

if TYPE_CHECKING:
    from gguf import GGUFWriter
    from transformers import PretrainedConfig

_GGUF_TYPES = {"F32": "F32", "F16": "F16", "BF16": "BF16", "F64": "F32"}
"""safetensors dtype -> GGUF type."""

_BELOW_8_BITS = ("Q5_1", "Q5_0", "Q4_1", "Q4_0")


_COMPUTED = (".rotary_emb.inv_freq", ".attn.bias", ".masked_bias", ".attention.bias")
"""Endings of buffers in old checkpoints, which are no weights."""


def named_sources(
    architecture: Architecture, config: PretrainedConfig, checkpoint: Checkpoint
) -> dict[str, TensorSource]:
    """Return the source of each GGUF tensor.

    Raises `ModelError` for a tensor without a GGUF name, which would be missing in the file.
    """
    from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, get_tensor_name_map

    kind = next(arch for arch, name in MODEL_ARCH_NAMES.items() if name == architecture.name)
    table = get_tensor_name_map(MODEL_ARCH(kind), config.num_hidden_layers)
    named = {}
    for name, source in tensor_sources(checkpoint.tensors).items():
        # llama.cpp uses the input matrix for a tied head, so a stored copy is not written.
        tied_head = config.tie_word_embeddings and name == "lm_head.weight"
        if name.endswith(_COMPUTED) or (tied_head and not architecture.own_head):
            continue
        gguf_name = table.get_name(name, try_suffixes=(".weight", ".bias"))
        if gguf_name is None:
            msg = (
                f"{checkpoint.folder}: GGUF has no name for the tensor {name} of "
                f"{architecture.name} models"
            )
            raise UnknownArchitectureError(msg)
        named[gguf_name] = source
    if architecture.own_head:
        named.setdefault("output.weight", named["token_embd.weight"])
    return named


@dataclass(frozen=True)
class TensorPlan:
    """A tensor to write: its GGUF name, type and shape, and the function that reads it."""

    name: str
    kind: Any
    shape: tuple[int, ...]
    read: Callable[[], np.ndarray[Any, Any]]


def plan_tensors(
    architecture: Architecture,
    config: PretrainedConfig,
    checkpoint: Checkpoint,
    sources: Mapping[str, TensorSource],
    numbers: str,
) -> Iterator[TensorPlan]:
    """Yield what to write: first the tensors of RoPE, then the weights.

    `numbers` is the number type of matrices, or "auto". Raises `ModelError` for a shape without it.
    """
    from gguf import GGMLQuantizationType as Kind
    from gguf.quants import quantize

    for name, factors in rope_tensors(config):
        values = np.asarray(factors, np.float32)
        yield TensorPlan(name, Kind.F32, values.shape, values.copy)

    # A meta tensor gives the shape in GGUF's layout without reading the weights.
    def meta(name: str) -> torch.Tensor:
        return torch.empty(checkpoint.tensors[name].shape, device="meta")

    def weights(name: str) -> torch.Tensor:
        return checkpoint.tensor(name).float()

    for name, source in sources.items():
        shape = tuple(source.read(meta, architecture.layout, config).shape)
        stored = checkpoint.tensors[source.names[0]].dtype
        kind = Kind[_type_of(name, shape, stored, numbers)]

        # The defaults bind the values of this iteration; a closure would read those of the last.
        def read(source: TensorSource = source, kind: Any = kind) -> np.ndarray[Any, Any]:
            laid_out = source.read(weights, architecture.layout, config)
            return quantize(laid_out.contiguous().numpy(), kind)  # type: ignore[no-any-return]

        yield TensorPlan(name, kind, shape, read)


def _type_of(name: str, shape: tuple[int, ...], stored: str, numbers: str) -> str:
    """Return the GGUF type of a tensor; raises `ModelError` for a shape that has none."""
    # llama.cpp reads norms and biases as float32. A router decides between experts by small
    # differences, and is tiny.
    if len(shape) == 1 or "ffn_gate_inp" in name:
        return "F32"
    kind = _GGUF_TYPES[stored] if numbers == "auto" else numbers.upper()
    if kind.startswith("Q") and shape[-1] % 32:
        msg = f"{name}: {shape[-1]} columns; {numbers} needs a multiple of 32: use --numbers f16"
        raise ModelError(msg)
    # Embedding rows, which adaptation is about, lose more than other matrices; llama-quantize
    # keeps them in more bits too.
    if kind in _BELOW_8_BITS and name in {"token_embd.weight", "output.weight"}:
        return "Q8_0"
    return kind


def write_tensors(writer: GGUFWriter, plans: list[TensorPlan]) -> None:
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
        values = plan.read()
        try:
            writer.write_tensor_data(values)
        except OSError as error:
            if error.errno is not None:
                raise
            # numpy says how many values a full disk took, and has no number for the error.
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
