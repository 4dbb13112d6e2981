"""Mix the weights from before training into the trained ones (`merge_back`), against forgetting.

Weights in bfloat16 are rounded stochastically. Training often moves them by one step of bfloat16:
rounded to the nearest number, a share below one half of such a step would change none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lingraft.errors import RecipeError
from lingraft.store import seed_of
from lingraft.strategies.model_parts import embedding_parameters
from lingraft.training.optimizer import round_stochastically


def shares_to_try(
    shares: Sequence[float], heldout: Callable[[Any], Mapping[str, float]] | None
) -> Sequence[float]:
    """Return the shares of `merge_back` that are measured: a single one needs no choice.

    Raises `RecipeError` if there are several and no held-out text.
    """
    if len(shares) == 1:
        return ()
    if heldout is None:
        msg = (
            "training.merge_back has several shares, but there is no held-out text to choose one "
            "by; set a single share"
        )
        raise RecipeError(msg)
    return shares


def merge_back(
    model: Any,
    before: Mapping[str, Tensor],
    added: Sequence[int],
    shares: Sequence[float],
    heldout: Callable[[Any], Mapping[str, float]] | None,
    *,
    seed: int = 0,
) -> dict[str, Any]:
    """Mix weights from before training into the model, against forgetting; return the notes.

    merged = (1 - share) * trained + share * before, for every weight of the base. Added rows stay
    as trained, because before training they were only an initialisation. Of several shares, the one
    with the lowest bits per byte by `heldout`, averaged over the languages, is used. The notes are
    the `share` and the results of all that were `tried`. Raises `RecipeError` if there are several
    shares and no held-out text.
    """
    to_try = shares_to_try(shares, heldout)
    trained = {name: parameter.detach() for name, parameter in model.named_parameters()}
    if to_try:
        # Each share starts from the trained weights, so they are kept until the best one is set.
        trained = {name: parameter.clone() for name, parameter in trained.items()}
    tried: dict[float, Mapping[str, float]] = {}
    for share in to_try:
        set_merged(model, trained, before, added, share, seed=seed)
        tried[share] = dict(heldout(model)) if heldout else {}
    best = min(tried, key=lambda share: sum(tried[share].values()), default=shares[0])
    set_merged(model, trained, before, added, best, seed=seed)
    trials = [{"share": share, "heldout": values} for share, values in tried.items()]
    return {"share": best, "tried": trials}


@torch.no_grad()
def set_merged(
    model: Any,
    trained: Mapping[str, Tensor],
    before: Mapping[str, Tensor],
    added: Sequence[int],
    share: float,
    *,
    seed: int = 0,
) -> None:
    """Set weights to (1 - share) * trained + share * before, and added rows to trained.

    `trained` may be the weights of the model themselves.
    """
    generator = torch.Generator()
    generator.manual_seed(seed_of(["merge back", seed, share]))
    rows = torch.tensor(sorted(added), dtype=torch.long)
    embeddings = set(embedding_parameters(model))
    for name, parameter in model.named_parameters():
        # A measurement of an earlier share may have moved the model to another device.
        end, start = trained[name].to(parameter), before[name].to(parameter)
        if parameter.dtype is torch.bfloat16:
            # On the CPU, where the generator gives the same numbers on every machine.
            merged = torch.lerp(end.to("cpu", torch.float32), start.to("cpu", torch.float32), share)
            merged = round_stochastically(merged, generator)
        else:
            merged = torch.lerp(end, start, share)
        if name in embeddings:
            merged[rows] = trained[name][rows].to(merged)
        parameter.copy_(merged)
