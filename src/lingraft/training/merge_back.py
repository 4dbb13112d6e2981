"""Mix the weights from before training into the trained ones (`merge_back`), against forgetting.

It is a stage of its own after training, so that other shares need no other training. Weights that
are saved in bfloat16 are rounded stochastically. Training often moves them by one step of bfloat16:
rounded to the nearest number, a share below one half of such a step would change none of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lingraft.checkpoint.load_model import load_for_training
from lingraft.errors import RecipeError
from lingraft.store import seed_of
from lingraft.strategies.model_parts import embedding_parameters
from lingraft.training.job import Heldout
from lingraft.training.optimizer import round_stochastically
from lingraft.training.prepare_model import measured_copy
from lingraft.training.save_model import save_final_model
from lingraft.training.train_log import scoring


@dataclass(frozen=True)
class MergeSettings:
    """How weights from before training are mixed into the trained ones.

    Of several `shares`, the one with the lowest bits per byte is used, averaged over the languages
    that `heldout` measures. The rows of the tokens `added` stay as trained, because before training
    they were only an initialisation.
    """

    shares: tuple[float, ...]
    added: tuple[int, ...] = ()
    heldout: Heldout | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise `RecipeError` if there are several shares and no held-out text."""
        if len(self.shares) > 1 and self.heldout is None:
            msg = (
                "training.merge_back has several shares, but there is no held-out text to choose "
                "one by; set a single share"
            )
            raise RecipeError(msg)


def merge_models(
    trained: Path, before: Path, output: Path, settings: MergeSettings, device: str = "cpu"
) -> dict[str, Any]:
    """Mix the weights of the model folder `before` into those of `trained`; write the result.

    The weights keep the data types of `trained`. Two models in float32 are in main memory at once,
    with several shares three. Several shares are measured on `device`. Returns the notes of
    `merge_back`.
    """
    model, types = load_for_training(trained)
    start, _ = load_for_training(before)
    if measure := settings.heldout:

        def heldout(merged: Any) -> Mapping[str, float]:
            on_device = measured_copy(merged, types, device)
            with scoring(on_device):
                return measure(on_device)

        settings = replace(settings, heldout=heldout)
    notes = merge_back(model, dict(start.named_parameters()), settings, types)
    save_final_model(model, types, trained, output)
    return notes


def merge_back(
    model: Any,
    before: Mapping[str, Tensor],
    settings: MergeSettings,
    types: Mapping[str, torch.dtype],
) -> dict[str, Any]:
    """Mix weights from before training into the model, against forgetting; return the notes.

    merged = (1 - share) * trained + share * before, for every weight of the base. `types` are the
    data types in which the model is saved. The notes are the `share` and the results of all that
    were `tried`.
    """
    trained = {name: parameter.detach() for name, parameter in model.named_parameters()}
    if len(settings.shares) > 1:  # each is mixed into the trained weights, not into the one before
        trained = {name: tensor.clone() for name, tensor in trained.items()}
    tried: dict[float, Mapping[str, float]] = {}
    if settings.heldout and len(settings.shares) > 1:
        for share in settings.shares:
            set_merged(model, trained, before, settings, share, types=types)
            tried[share] = dict(settings.heldout(model))
    best = min(tried, key=lambda share: sum(tried[share].values()), default=settings.shares[0])
    set_merged(model, trained, before, settings, best, types=types)
    trials = [{"share": share, "heldout": values} for share, values in tried.items()]
    return {"share": best, "tried": trials}


@torch.no_grad()
def set_merged(
    model: Any,
    trained: Mapping[str, Tensor],
    before: Mapping[str, Tensor],
    settings: MergeSettings,
    share: float,
    *,
    types: Mapping[str, torch.dtype],
) -> None:
    """Set weights to (1 - share) * trained + share * before, and added rows to trained."""
    generator = torch.Generator()
    generator.manual_seed(seed_of(["merge back", settings.seed, share]))
    rows = torch.tensor(sorted(settings.added), dtype=torch.long)
    embeddings = set(embedding_parameters(model))
    for name, parameter in model.named_parameters():
        merged = torch.lerp(trained[name].float(), before[name].float(), share)
        if types.get(name) is torch.bfloat16:
            merged = round_stochastically(merged, generator).float()
        if name in embeddings:
            merged[rows] = trained[name][rows].float()
        parameter.copy_(merged)
