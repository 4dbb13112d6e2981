"""Keep the columns of the body that base-language text needs most, for the strategy `shielded`.

Columns are frozen as in source-shielded updates (Yamaguchi et al. 2025, arXiv 2512.04844) and
scored as in Wanda (Sun et al. 2023, arXiv 2306.11695), by the sum of |weight| times the L2 norm of
the input feature. `input_norms` measures the features of every layer on base-language text,
`frozen_masks` chooses the columns, and `ColumnShield` keeps them bit-identical. Their gradients are
set to 0 before clipping, in every step of a phase. Adam's moments begin at 0 in each phase, so
those of frozen columns stay 0, and so do their updates. Weight decay leaves these columns out.

The choice is stored in the folder of the run, because a resumed run must freeze the same columns
even where the measurement is not exactly reproducible.

Shape suffixes: T tokens, F input features, M a shape that broadcasts to that of the parameter.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers.pytorch_utils import Conv1D

from lingraft.errors import ModelError, RecipeError
from lingraft.packing.blocks import Blocks
from lingraft.store import atomic_file
from lingraft.strategies.model_parts import embedding_parameters
from lingraft.strategies.shielded import Shielded
from lingraft.training.distributed import shard_of
from lingraft.training.optimizer import round_stochastically
from lingraft.training.phase_steps import TrainingText

SHIELD = "shield-{}.safetensors"
"""The file with the choice of a phase; `{}` is the number of the phase."""


def calibration_sequences(blocks: Blocks, count: int) -> Iterator[Tensor]:
    """Yield the ids of `count` sequences, evenly spaced in the text; of all if there are fewer.

    They are the inputs of training: the last id of a sequence is predicted only, and a model with
    learned positions may have no position for it.
    """
    count = min(count, len(blocks))
    for index in range(count):
        yield torch.from_numpy(blocks.sequence(index * len(blocks) // count)[:-1])


@torch.no_grad()
def input_norms(
    model: Any, modules: Mapping[str, nn.Module], sequences: Iterable[Tensor], *, autocast: bool
) -> dict[str, Tensor]:
    """Return the L2 norm of each input feature of the modules, over all tokens: name -> [F].

    Raises `ModelError` if a module receives no token.
    """
    device, training = model.device, model.training
    sum_type = torch.float32 if device.type == "mps" else torch.float64
    sums: dict[str, Tensor] = {}

    def hook(name: str) -> Any:
        def add(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            squares_F = inputs[0].flatten(0, -2).to(sum_type).square().sum(0)
            sums[name] = sums[name] + squares_F if name in sums else squares_F

        return add

    hooks = [module.register_forward_pre_hook(hook(name)) for name, module in modules.items()]
    # Without dropout.
    model.eval()
    try:
        for ids_T in sequences:
            with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
                model.base_model(input_ids=ids_T.to(device).unsqueeze(0), use_cache=False)
    finally:
        for registered in hooks:
            registered.remove()
        model.train(training)
    for name in modules:
        if name not in sums:
            msg = (
                f"training.strategy is shielded, but no calibration sequence was routed to {name} "
                f"(a rarely used expert?); raise training.strategy.shielded.calibration_sequences, "
                f"or set training.strategy: differential"
            )
            raise ModelError(msg)
    return {name: squares_F.sqrt() for name, squares_F in sums.items()}


@torch.no_grad()
def importance(parameter: Tensor, module: nn.Module, norms_F: Tensor) -> Tensor:
    """Return the importance of each column of a matrix, or of each weight of a vector.

    The columns of a matrix are those of its input features: [F]. A bias is the weight of an input
    that is always 1. A normalisation multiplies feature by feature. Its scale multiplies the
    normalised input, but `norms_F` is of the input before, so its score is an approximation: it
    counts tokens with a large input more.
    """
    size = parameter.detach().abs().to(norms_F)
    if parameter.ndim == 1:
        is_scale = parameter is getattr(module, "weight", None) and len(parameter) == len(norms_F)
        return scale(module, parameter.detach()).abs().to(norms_F) * norms_F if is_scale else size
    return size.sum(1 if isinstance(module, Conv1D) else 0) * norms_F


def scale(module: nn.Module, weight_F: Tensor) -> Tensor:
    """Return what a normalisation multiplies by: its weight, or 1 + weight as in Gemma, [F]."""
    # Normalised, inputs of 1 and -1 stay as they are. The difference leaves out a bias.
    signs_F = torch.ones_like(weight_F)
    signs_F[1::2] = -1
    try:
        output_F = (module(signs_F) - module(-signs_F)) / 2
    except (TypeError, ValueError, RuntimeError):
        # It takes other inputs than a plain normalisation.
        return weight_F
    # Exact but for a small epsilon, so that a tolerance of 0.01 tells the two apart.
    shifted_F = 1 + weight_F
    scaled_F = (output_F * signs_F).to(shifted_F)
    is_shifted = torch.allclose(scaled_F, shifted_F, rtol=0.01, atol=0.01)
    return shifted_F if is_shifted else weight_F


def frozen_masks(
    model: Any, names: Iterable[str], share: float, sequences: Iterable[Tensor], *, autocast: bool
) -> dict[str, Tensor]:
    """Return name -> what is frozen of the named parameters of the body.

    A mask has the number of dimensions of its parameter: [1, F] for a linear layer. Embeddings, the
    head and position embeddings have none. Raises `RecipeError` if another parameter has no columns
    of input features, such as fused experts.
    """
    owners = shielded_parameters(model, names)
    modules = {name.rpartition(".")[0]: module for name, (module, _) in owners.items()}
    norms = input_norms(model, modules, sequences, autocast=autocast)
    masks = {}
    for name, (module, parameter) in owners.items():
        scores = importance(parameter, module, norms[name.rpartition(".")[0]])
        # Stable, so that equal scores give the same choice everywhere.
        order = torch.argsort(scores, descending=True, stable=True)
        mask = torch.zeros(len(scores), dtype=torch.bool)
        mask[order[: round(share * len(scores))].cpu()] = True
        if parameter.ndim > 1:
            mask = mask.unsqueeze(1 if isinstance(module, Conv1D) else 0)
        masks[name] = mask
    return masks


def shielded_parameters(
    model: Any, names: Iterable[str]
) -> dict[str, tuple[nn.Module, nn.Parameter]]:
    """Return name -> module and parameter of the named ones that a mask is chosen for.

    Raises `RecipeError` as `frozen_masks` does; the model may be on the meta device.
    """
    names = set(names) - set(embedding_parameters(model))
    owners: dict[str, tuple[nn.Module, nn.Parameter]] = {}
    for module_name, module in model.named_modules():
        for own, parameter in module.named_parameters(recurse=False):
            name = f"{module_name}.{own}"
            if name in names and not isinstance(module, nn.Embedding):
                _check_columns(name, module, parameter)
                owners[name] = module, parameter
    return owners


def _check_columns(name: str, module: nn.Module, parameter: Tensor) -> None:
    if parameter.ndim > 1 and not isinstance(module, nn.Linear | Conv1D):
        msg = (
            f"training.strategy is shielded, which freezes columns of linear layers, but {name} "
            f"belongs to a {type(module).__name__}; set training.strategy: differential"
        )
        raise RecipeError(msg)


def base_language_text(text: TrainingText) -> Blocks:
    """Return the text that importance is measured on; raise `RecipeError` if there is none."""
    if text.replay is None:
        msg = (
            "training.strategy is shielded, which measures columns on base-language text, but "
            "there is no replay text; name some under replay (its share can be 0)"
        )
        raise RecipeError(msg)
    return text.replay.blocks


def choose_frozen(
    model: Any,
    names: Iterable[str],
    strategy: Shielded,
    replay: Blocks,
    *,
    path: Path,
    fingerprint: str,
    autocast: bool,
) -> None:
    """Choose what is frozen and store it in `path`, unless this run has stored it before."""
    if path.is_file() and _fingerprint(path) == fingerprint:
        return
    sequences = calibration_sequences(replay, strategy.calibration_sequences)
    masks = frozen_masks(model, names, strategy.frozen_share, sequences, autocast=autocast)
    write_frozen(masks, path, fingerprint)


def write_frozen(masks: Mapping[str, Tensor], path: Path, fingerprint: str) -> None:
    """Store masks as the choice of the run with this fingerprint."""
    with atomic_file(path) as draft:
        save_file(dict(masks), draft, {"fingerprint": fingerprint})


def read_frozen(path: Path) -> dict[str, Tensor]:
    """Return the stored masks by the names of their parameters."""
    with safe_open(path, "pt") as stored:
        return {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - no mapping


def _fingerprint(path: Path) -> str:
    with safe_open(path, "pt") as stored:
        return str((stored.metadata() or {}).get("fingerprint", ""))


class ColumnShield:
    """Keeps what is frozen of some parameters; parameters without a mask train as usual."""

    def __init__(self, parameters: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> None:
        self._masks: dict[Tensor, Tensor] = {}
        for name, mask_M in masks.items():
            self._masks[parameters[name]] = _shard(mask_M, parameters[name])

    def mask_gradients(self) -> None:
        """Set the gradients of what is frozen to 0."""
        for parameter, mask_M in self._masks.items():
            if parameter.grad is not None:
                _local(parameter.grad).masked_fill_(mask_M, 0)

    @torch.no_grad()
    def decay(self, parameters: Sequence[Tensor], amount: float) -> None:
        """Multiply parameters by 1 - amount, except for what is frozen (AdamW's weight decay)."""
        for parameter in parameters if amount else ():
            mask_M = self._masks.get(parameter)
            keep = 1.0 - amount
            local = _local(parameter)
            factor = keep if mask_M is None else torch.where(mask_M, 1.0, keep).to(local.device)
            if local.dtype is torch.bfloat16:
                # There, 1 - amount would be 1. Rounding leaves what is frozen as it is.
                local.copy_(round_stochastically(local.float() * factor))
            else:
                local.mul_(factor)


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _shard(mask_M: Tensor, parameter: Tensor) -> Tensor:
    """Return the part of a mask that belongs to this process's shard of a parameter."""
    if isinstance(parameter, DTensor) and (mask_M.ndim == 1 or mask_M.shape[1] == 1):
        mesh = parameter.device_mesh
        mask_M = shard_of(mask_M, mesh.get_local_rank(), mesh.size())
    return mask_M.to(_local(parameter).device)
