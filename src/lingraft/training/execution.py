"""How training is executed: device, precision, memory, checkpoints and trackers.

These settings are options of the command line and no part of a recipe or of a stage's key, because
they change the result only by rounding.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from lingraft.errors import RecipeError

WHOLE_GRADIENTS = 0.25
"""The share of a GPU's memory that the unreduced gradients of a sharded step may take."""


@dataclass(frozen=True)
class Execution:
    """The execution of a training run.

    - `precision`: "float32", "bfloat16", "auto" (bfloat16 on a GPU that computes in it), or "tf32"
      (float32, with products of matrices in TF32 on NVIDIA GPUs).
    - `tokens_at_once`: the tokens of a forward pass; a step with more accumulates gradients.
    - `loss`: "chunked" computes the logits of a part of the tokens at a time, "plain" all at once
      (more memory, the same numbers).
    - `recompute`: activation checkpointing (slower, less memory); None: on a GPU that would else
      have no room for the activations, by estimate (`step_memory`).
    - `compile`: torch.compile of the layers: "true", "false", or "auto" (on a GPU, where steps of a
      long training are measured to be faster with it; `compiled_layers`).
    - `weights_in_bfloat16`: weights train in bfloat16, so all is computed in it; the optimizer of a
      phase decides (`optimizer.execution_with`).
    - `sharded`: shard the model among the processes of a launcher such as torchrun. Without it,
      several processes are refused.
    - `trackers`: tensorboard, wandb or trackio; they get the numbers of the log, in the folder
      `tracking`, under the name `tracking_name`.
    - `checkpoint_seconds`, `checkpoint_steps`: save a checkpoint after so much time or so many
      steps, whichever comes first.
    """

    device: str = "cpu"
    precision: str = "auto"
    tokens_at_once: int = 16384
    loss: str = "chunked"
    recompute: bool | None = None
    compile: str = "auto"
    weights_in_bfloat16: bool = False
    sharded: bool = False
    trackers: tuple[str, ...] = ()
    tracking: Path = Path("runs") / "tracking"
    tracking_name: str = "training"
    checkpoint_seconds: float = 300.0
    checkpoint_steps: int | None = None

    def for_this_process(self) -> Execution:
        """Return the execution for this process: with several GPUs, each process has its own."""
        local = os.environ.get("LOCAL_RANK")
        if self.sharded and local and self.device == "cuda":
            return replace(self, device=f"cuda:{local}")
        return self

    def computes_in_bfloat16(self) -> bool:
        """Return whether to compute in bfloat16.

        Raises `RecipeError` if bfloat16 is requested and the device would only emulate it.
        """
        if self.weights_in_bfloat16:
            return True
        # The settings of a run are read without torch.
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

    def allows_tf32(self) -> bool:
        """Return whether to multiply float32 matrices in TF32: only where it is asked for.

        Raises `RecipeError` if the device has no TF32.
        """
        if self.precision != "tf32":
            return False
        import torch

        kind = self.device.split(":")[0]
        if kind != "cuda" or not torch.cuda.is_tf32_supported():
            msg = (
                f"--precision tf32: this {kind} has no TF32, only NVIDIA GPUs from Ampere on and "
                f"some of AMD have it; use --precision auto"
            )
            raise RecipeError(msg)
        return True
