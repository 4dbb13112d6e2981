"""Merge the weights of the branches of an iteration (`branches`), and the files that this needs.

While an iteration trains, the folder of the run holds the model that it starts with and the end of
each branch but the last one, which is in memory. Tensors are merged one at a time, so that memory
holds one model, and the branches of one tensor in float64.

Weights in bfloat16 are rounded stochastically. Branches often differ by one step of bfloat16, so
that their mean is halfway between two numbers. Slerp is slightly larger than the mean, and rounding
to the nearest number would round most of these weights away from 0.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from lingraft.store import atomic_file, seed_of
from lingraft.training.branches import Branch, BranchAndMerge, MergeMethod
from lingraft.training.optimizer import round_stochastically


def end_branch(
    model: Any,
    settings: BranchAndMerge,
    branch: Branch,
    scratch_dir: Path,
    phase: int,
    *,
    seed: int,
) -> None:
    """Save the end of a branch of a phase, or merge all branches of its iteration into `model`.

    `model` has the weights at the end of the branch; after the last branch of the iteration, it is
    the merged one.
    """
    files = branch_files(scratch_dir, phase, branch)
    if branch.number + 1 < settings.branches:
        save_branch(model, files[-1])
        return
    # Of the seed and the place alone, so that a run that resumes before a merge rounds the same.
    generator = torch.Generator()
    generator.manual_seed(seed_of(["merge", seed, phase, branch.iteration]))
    merge_branches(model, files[:-1], settings.merge, generator)
    remove_earlier_iterations(scratch_dir, phase, branch.iteration)


def branch_files(scratch_dir: Path, phase: int, branch: Branch) -> list[Path]:
    """Return the files of the ends of the branches of an iteration, up to this branch."""
    start = f"phase-{phase}-iteration-{branch.iteration}-branch"
    return [scratch_dir / f"{start}-{number}.safetensors" for number in range(branch.number + 1)]


def save_branch(model: Any, path: Path) -> None:
    """Save all parameters by name, so that `merge_branches` can read one at a time."""
    tensors = {
        name: parameter.detach().cpu().contiguous() for name, parameter in model.named_parameters()
    }
    with atomic_file(path) as draft:
        save_file(tensors, draft)


@torch.no_grad()
def merge_branches(
    model: Any, others: Sequence[Path], method: MergeMethod, generator: torch.Generator
) -> None:
    """Replace the weights of the last branch, `model`, by those of all branches merged.

    `others` are the files of the other branches. `generator` draws how weights in bfloat16 are
    rounded; equal weights are exact and stay.
    """
    with ExitStack() as stack:
        files = [stack.enter_context(safe_open(path, "pt")) for path in others]
        for name, parameter in model.named_parameters():
            tensors = [file.get_tensor(name).double() for file in files]
            tensors.append(parameter.detach().cpu().double())
            merged = merge_tensors(tensors, method)
            if parameter.dtype is torch.bfloat16:
                merged = round_stochastically(merged.float(), generator)
            parameter.copy_(merged)


def merge_tensors(tensors: Sequence[Tensor], method: MergeMethod) -> Tensor:
    """Return the merge of the same tensor in all branches.

    Weights that are equal in all branches stay as they are: no branch has trained them, or a
    strategy freezes them. Slerp would change their size.
    """
    merged = slerp(*tensors) if method == "slerp" else sum(tensors[1:], tensors[0]) / len(tensors)
    is_equal = torch.ones_like(merged, dtype=torch.bool)
    for other in tensors[1:]:
        is_equal &= tensors[0] == other
    return torch.where(is_equal, tensors[0], merged)


def slerp(one: Tensor, other: Tensor) -> Tensor:
    """Return the middle of the arc between two tensors (Shoemake 1985), each taken as a vector.

    With the angle w between them, it is (one + other) * sin(w / 2) / sin(w), and sin(w) is 2
    sin(w / 2) cos(w / 2). Opposite vectors, and 0, have no such arc: there it is the mean.

    >>> slerp(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]))
    tensor([0.7071, 0.7071])
    """
    sizes = one.norm() * other.norm()
    cosine = (one * other).sum() / sizes if sizes else torch.tensor(1.0)
    cosine_of_half = ((1 + cosine.clamp(-1, 1)) / 2).sqrt()
    # An angle of 180 degrees, but for rounding.
    if cosine_of_half < 1e-6:
        return (one + other) / 2
    return (one + other) / (2 * cosine_of_half)


def remove_earlier_iterations(scratch_dir: Path, phase: int, iteration: int) -> None:
    """Remove the files of the iterations before this one.

    Call it when all branches of the iteration are trained. The two checkpoints that are kept are
    then of this iteration, so that no run resumes in an earlier one.
    """
    for path in scratch_dir.glob(f"phase-{phase}-iteration-*"):
        if int(path.name.removesuffix(".safetensors").split("-")[3]) >= iteration:
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
