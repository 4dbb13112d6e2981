"""How tensors of transformers become those of llama.cpp: their names, parts and layouts.

Most tensors are stored as they are. llama.cpp applies RoPE of Llama-like models to pairs of
neighbouring dimensions and transformers to the two halves, so queries and keys are reordered. The
matrices of all experts of a layer are one tensor. Gemma's norms multiply by one plus the weight in
transformers, and by the weight in llama.cpp.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PretrainedConfig

Layout = Callable[[str, "Tensor", "PretrainedConfig"], "Tensor"]

_EXPERT = re.compile(r"\.(?:mlp|block_sparse_moe)\.experts\.(\d+)\.(\w+)\.")
_FUSED_EXPERTS = re.compile(r"(\.mlp\.experts\.)(gate_up_proj|down_proj)$")
_MIXTRAL = {"w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"}


@dataclass(frozen=True)
class TensorSource:
    """The tensors of a checkpoint that make up one tensor of a GGUF file.

    Several are stacked. `half` is the half of a tensor's outputs that is used, `None` for all.
    """

    names: tuple[str, ...]
    half: int | None = None

    def read(self, tensor: Callable[[str], Tensor], layout: Layout, config: Any) -> Tensor:
        """Return the tensor in llama.cpp's layout; `tensor` returns that of a name."""
        import torch

        parts = [layout(name, tensor(name), config) for name in self.names]
        whole = torch.stack(parts) if len(parts) > 1 else parts[0]
        return whole if self.half is None else whole.chunk(2, dim=-2)[self.half]


def tensor_sources(names: Iterable[str]) -> dict[str, TensorSource]:
    """Return the sources of each tensor, by its name before llama.cpp's names are looked up.

    >>> sources = tensor_sources(["a.mlp.experts.1.w1.weight", "a.mlp.experts.0.w1.weight"])
    >>> sources["a.mlp.experts.gate_proj.weight"].names
    ('a.mlp.experts.0.w1.weight', 'a.mlp.experts.1.w1.weight')
    """
    experts: dict[str, dict[int, str]] = {}
    sources: dict[str, TensorSource] = {}
    for name in names:
        if found := _EXPERT.search(name):
            matrix = _MIXTRAL.get(found[2], found[2])
            stacked = f"{name[: found.start()]}.mlp.experts.{matrix}.{name[found.end() :]}"
            experts.setdefault(stacked, {})[int(found[1])] = name
        else:
            sources.update(_whole_or_halves(name))
    for stacked, numbered in experts.items():
        sources[stacked] = TensorSource(tuple(numbered[i] for i in sorted(numbered)))
    return sources


def _whole_or_halves(name: str) -> Iterator[tuple[str, TensorSource]]:
    found = _FUSED_EXPERTS.search(name)
    if found is None:
        yield name, TensorSource((name,))
    elif found[2] == "down_proj":
        yield f"{name}.weight", TensorSource((name,))
    else:
        for half, matrix in enumerate(("gate_proj", "up_proj")):
            alias = f"{name[: found.start()]}{found[1]}{matrix}.weight"
            yield alias, TensorSource((name,), half)


def unchanged(_name: str, tensor: Tensor, _config: PretrainedConfig) -> Tensor:
    """Return the tensor as it is."""
    return tensor


def llama_layout(name: str, tensor: Tensor, config: PretrainedConfig) -> Tensor:
    """Order the outputs of queries and keys for RoPE on neighbouring dimensions."""
    heads = config.num_attention_heads
    if ".q_proj." in name:
        return _interleave_halves(tensor, heads)
    if ".k_proj." in name:
        return _interleave_halves(tensor, getattr(config, "num_key_value_heads", None) or heads)
    return tensor


def _interleave_halves(tensor: Tensor, heads: int) -> Tensor:
    """Order the outputs of each head as 0, n/2, 1, n/2 + 1, ..."""
    width = tensor.shape[0] // heads
    return tensor.reshape(heads, 2, width // 2, -1).transpose(1, 2).reshape(tensor.shape)


def one_added_to_norms(name: str, tensor: Tensor, _config: PretrainedConfig) -> Tensor:
    """Add one to the weights of norms, which transformers adds while computing."""
    return tensor + 1 if name.endswith("norm.weight") else tensor


def shared_expert_layout(name: str, tensor: Tensor, _config: PretrainedConfig) -> Tensor:
    """Store the gate of the shared expert, a matrix with one output, as a vector."""
    return tensor.squeeze(0) if name.endswith("shared_expert_gate.weight") else tensor


def gpt2_layout(name: str, tensor: Tensor, _config: PretrainedConfig) -> Tensor:
    """Transpose linear layers: GPT-2's Conv1D stores inputs x outputs."""
    linear_layers = (".c_attn.weight", ".c_proj.weight", ".c_fc.weight")
    return tensor.T if name.endswith(linear_layers) else tensor


def neox_layout(name: str, tensor: Tensor, config: PretrainedConfig) -> Tensor:
    """Order queries, keys and values one after the other; transformers stores them by head."""
    if ".query_key_value." not in name:
        return tensor
    heads = config.num_attention_heads
    by_head = tensor.reshape(heads, 3, tensor.shape[0] // heads // 3, -1)
    return by_head.transpose(0, 1).reshape(tensor.shape)
