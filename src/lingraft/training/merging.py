"""Merging back: a share of the weights from before training, against forgetting.

merged = (1 - share) * trained + share * before, for every weight that the base brought. Added rows stay as trained:
before training they were only an initialisation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lingraft.errors import RecipeError
from lingraft.strategies.base import embedding_parameters


def merge_back(model: Any, before: Mapping[str, Tensor], added: Sequence[int], shares: Sequence[float],
               heldout: Callable[[Any], Mapping[str, float]] | None) -> dict[str, Any]:
    """Leave the model merged with the best of the shares; return what was tried.

    Best is the lowest mean of the held-out bits per byte over the languages. Raises `RecipeError` where there is a
    choice and nothing to choose by.
    """
    if len(shares) > 1 and heldout is None:
        msg = "training.merge_back names several shares, but there is no held-out text to choose by; name one"
        raise RecipeError(msg)
    trained = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    tried: dict[float, Mapping[str, float]] = {}
    for share in shares if heldout and len(shares) > 1 else ():
        put_merged(model, trained, before, added, share)
        tried[share] = dict(heldout(model)) if heldout else {}
    best = min(tried, key=lambda share: sum(tried[share].values()), default=shares[0])
    put_merged(model, trained, before, added, best)
    return {"share": best, "tried": [{"share": share, "heldout": values} for share, values in tried.items()]}


@torch.no_grad()
def put_merged(model: Any, trained: Mapping[str, Tensor], before: Mapping[str, Tensor], added: Sequence[int],
               share: float) -> None:
    """Set the weights of a model to (1 - share) * trained + share * before, added rows to trained."""
    rows = torch.tensor(sorted(added), dtype=torch.long)
    embeddings = set(embedding_parameters(model))
    for name, parameter in model.named_parameters():
        parameter.copy_(torch.lerp(trained[name], before[name].to(parameter), share))
        if name in embeddings:
            parameter[rows] = trained[name][rows]
