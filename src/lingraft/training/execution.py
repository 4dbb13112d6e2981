"""How training is executed. Nothing here changes the result beyond rounding."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from lingraft.errors import RecipeError


@dataclass(frozen=True)
class Execution:
    """Device, precision ("auto", "float32", "bfloat16"), tokens of a forward pass, checkpoints.

    `loss` is "chunked" (logits of a part of the tokens at a time) or "plain" (all at once: more
    memory, the same numbers). `recompute` turns on activation checkpointing: slower, less memory.
    `sharded` shards the model among the processes of a launcher such as torchrun; without it,
    several processes are refused. `trackers` (tensorboard, wandb, trackio) get the numbers of the
    log in the folder `tracking`, under `tracking_name`. A checkpoint is saved every
    `checkpoint_steps` steps or `checkpoint_seconds` seconds, whichever comes first.
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
        """Return it with this process's own GPU where a launcher started one process per GPU."""
        local = os.environ.get("LOCAL_RANK")
        if self.sharded and local and self.device == "cuda":
            return replace(self, device=f"cuda:{local}")
        return self

    def computes_in_bfloat16(self) -> bool:
        """Return whether to compute in bfloat16.

        Raises `RecipeError` where the recipe asks for it and the device would emulate it.
        """
        import torch

        kind = self.device.split(":")[0]
        if kind == "cuda":
            able = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            able = kind == "cpu" and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # noqa: SLF001 - no public function
        if self.precision == "bfloat16" and not able:
            msg = (
                f"--precision bfloat16: {kind} emulates it here, about ten times slower than "
                f"float32; use --precision auto"
            )
            raise RecipeError(msg)
        return self.precision == "bfloat16" or (
            self.precision == "auto" and kind == "cuda" and able
        )
