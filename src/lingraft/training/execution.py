"""How training is carried out: what the machine offers, and what changes no answer beyond rounding."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from lingraft.errors import RecipeError


@dataclass(frozen=True)
class Execution:
    """Device, precision ("auto", "float32", "bfloat16"), tokens of one forward pass, and how often to save.

    `loss` "chunked" computes the logits of some tokens at a time, "plain" all at once: more memory, the same numbers.
    `recompute` keeps no activations inside of a layer and computes them again for the gradient: slower, less memory.
    `sharded` shares the model among the processes of a launcher such as torchrun; without it, several are refused.
    `trackers` (tensorboard, wandb, trackio) get the log too, in the folder `tracking`, under `tracking_name`.
    `checkpoint_steps` saves every so many steps, `checkpoint_seconds` after so much time, whichever is first.
    """

    device: str = "cpu"
    precision: str = "auto"
    tokens_at_once: int = 16384
    loss: str = "chunked"
    recompute: bool = False
    sharded: bool = False
    trackers: tuple[str, ...] = ()
    tracking: Path = Path("runs") / "tracking"
    tracking_name: str = "training"
    checkpoint_seconds: float = 300.0
    checkpoint_steps: int | None = None

    def for_this_process(self) -> Execution:
        """Return it with this process's own device where a launcher started one for each."""
        local = os.environ.get("LOCAL_RANK")
        return replace(self, device=f"cuda:{local}") if self.sharded and local and self.device == "cuda" else self

    def computes_in_bfloat16(self) -> bool:
        """Say whether to compute in bfloat16; raises `RecipeError` where it is asked of a device without it."""
        import torch

        kind = self.device.split(":")[0]
        able = torch.cuda.is_bf16_supported(including_emulation=False) if kind == "cuda" else (
            kind == "cpu" and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()))  # noqa: SLF001 - no public question
        if self.precision == "bfloat16" and not able:
            msg = (f"--precision bfloat16: {kind} computes it by emulation here, about ten times slower than float32; "
                   f"use --precision auto")
            raise RecipeError(msg)
        return self.precision == "bfloat16" or (self.precision == "auto" and kind == "cuda" and able)
