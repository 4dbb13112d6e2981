"""torch.compile of the layers of a model, in the steps of training only.

Compiled code gives the same results except for rounding, so `compile` is no part of a recipe, a run
can resume with another value, and dropout is drawn as without it. The layers are compiled for the
forward and backward pass of a step and are as before outside of it: names of weights, checkpoints,
held-out scores and saved models know nothing of it. Layers of one class share their compiled code.

With `compile: auto`, a GPU decides by the clock: a training that would go on for long measures some
steps without and with compiled layers, and continues with the faster ones.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from statistics import median
from typing import Any

import torch

from lingraft.errors import RecipeError, TrainingError, one_line
from lingraft.progress import say
from lingraft.strategies.model_parts import layer_stacks
from lingraft.training.distributed import ProcessGroup
from lingraft.training.execution import Execution

BACKEND = "inductor"
STEPS = 5
"""Steps whose median time is compared."""
SKIPPED = 2
"""Steps before them that are not counted: the first ones allocate memory, or compile."""
WORTH_SECONDS = 1200.0
"""`auto` tries trainings that would take longer than this from here on.

The benchmarks of torchtitan report 16% more tokens per second for Llama 3.1 8B on 8 H100 (6,667
instead of 5,762 on each). That is 3 minutes of 20, and compiling the one layer that all share takes
one or two. Not measured by lingraft.
"""
MIN_GAIN = 0.02
"""The share of the passes of a step that compiled layers must save to be used."""


def compile_problem(device: str) -> str:
    """Return why torch.compile does not work on a device; "" where it does."""
    kind = device.partition(":")[0]
    if BACKEND != "inductor":
        return ""  # other backends of torch only trace
    if kind == "cuda":
        if find_spec("triton") is None:
            return "it needs the package triton"
        if torch.version.hip is None and torch.cuda.get_device_capability(device) < (7, 0):
            return "it needs a GPU of compute capability 7.0 or higher"
        return ""
    if kind == "cpu":
        compiler = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
        return "" if shutil.which(compiler) else f"on a CPU it needs the C++ compiler {compiler}"
    return f"it is not supported on {kind}"


class CompiledLayers:
    """The layers of a model, which `applied` replaces by compiled ones.

    Raises `RecipeError` if the model has no list of layers.
    """

    def __init__(self, model: Any) -> None:
        self.layers: list[Any] = []
        for stack in layer_stacks(model):
            self.layers += model.get_submodule(stack)
        # Code of an earlier phase, whose other weights trained, would count for torch's limit.
        torch.compiler.reset()
        # Without the option, compiled code would draw other dropout than the layers themselves.
        options: dict[str, Any] = {"fallback_random": True} if BACKEND == "inductor" else {}
        self.forwards = [
            torch.compile(layer.forward, backend=BACKEND, options=options or None)
            for layer in self.layers
        ]

    @contextmanager
    def applied(self, *, falls_back: bool = False) -> Iterator[None]:
        """Use the compiled layers in this block.

        A layer that cannot be compiled raises `TrainingError`. If the block `falls_back`, it is
        computed as it is, and torch logs a warning.
        """
        # The attribute hides the method of the class, and the hooks of FSDP stay outside.
        for layer, forward in zip(self.layers, self.forwards, strict=True):
            layer.forward = forward
        try:
            with torch._dynamo.config.patch(suppress_errors=falls_back):  # noqa: SLF001 - documented
                yield
        except torch._dynamo.exc.TorchDynamoException as error:  # noqa: SLF001 - the base class
            msg = f"torch.compile failed ({one_line(error)}); use --compile false"
            raise TrainingError(msg) from error
        finally:
            for layer in self.layers:
                del layer.forward


@dataclass
class CompileTrial:
    """Decides by the clock whether compiled layers are used; the steps of a phase ask it.

    `remaining` are the steps of the phase that are left, `problem` is the error that ended the
    use of compiled layers. It is `done` when the decision is made,
    and `uses` says how the next step is computed. Times are those of the forward and backward
    passes of a step, because its update is the same with and without compiled layers.
    """

    remaining: int
    uses: bool = False
    done: bool = False
    problem: str = ""
    seconds: dict[bool, list[float]] = field(default_factory=lambda: {False: [], True: []})

    def step(self, seconds: float) -> None:
        """Take the time of the passes of a step, computed as `uses` says; decide on the next step.

        >>> trial = CompileTrial(remaining=20_000)
        >>> for seconds in [9, 2, 2, 2, 2, 2, 2, 60, 1, 1, 1, 1, 1, 1]:
        ...     trial.step(seconds)
        >>> trial.uses, trial.done, trial.line
        (True, True, 'torch.compile: 1.00 s for the passes of a step instead of 2.00 s: used')
        """
        self.remaining -= 1
        taken = self.seconds[self.uses]
        taken.append(seconds)
        if self.done or len(taken) < SKIPPED + STEPS:
            return
        if not self.uses:
            self.uses = self.median(compiled=False) * self.remaining > WORTH_SECONDS
            self.done = not self.uses
            return
        self.done = True
        self.uses = self.median(compiled=True) < (1 - MIN_GAIN) * self.median(compiled=False)

    def median(self, *, compiled: bool) -> float:
        """Return the median seconds of the counted steps."""
        return median(self.seconds[compiled][SKIPPED : SKIPPED + STEPS])

    @property
    def line(self) -> str:
        """What was measured and decided, in one line; "" if nothing was compiled."""
        if self.problem:
            return f"torch.compile: failed ({self.problem}): not used"
        if not self.done or not self.seconds[True]:
            return ""
        return (
            f"torch.compile: {self.median(compiled=True):.2f} s for the passes of a step instead "
            f"of {self.median(compiled=False):.2f} s: {'used' if self.uses else 'not used'}"
        )


class StepCompiler:
    """Computes the steps of a phase with or without compiled layers, as `Execution.compile` says.

    `steps` are those that are left: fewer than the phase has if the run resumes in it.

    Raises `RecipeError` for `compile: true` where layers cannot be compiled.
    """

    def __init__(self, model: Any, execution: Execution, steps: int, world: ProcessGroup) -> None:
        self.world, self.device = world, execution.device
        self.trial: CompileTrial | None = None
        self.layers: CompiledLayers | None = None
        automatic = execution.compile == "auto"
        if execution.compile == "false" or (automatic and not self.device.startswith("cuda")):
            return
        problem = compile_problem(self.device)
        try:
            self.layers = None if problem else CompiledLayers(model)
        except RecipeError:
            problem = f"{type(model).__name__} has no list of layers"
        if problem and not automatic:
            msg = f"--compile true: {problem}; use --compile auto"
            raise RecipeError(msg)
        if automatic and self.layers:
            self.trial = CompileTrial(steps)

    @property
    def note(self) -> str:
        """What was compiled or measured, for the notes of the run; "" if nothing was."""
        if self.trial:
            return self.trial.line
        return "torch.compile: used" if self.layers else ""

    def falls_back(self, error: Exception) -> bool:
        """Return whether to compute a failed step again, without compiled layers from then on.

        `auto` does. Several processes cannot: the others may wait for the collectives of this step.
        """
        if not (self.trial and self.trial.uses) or self.world.size > 1:
            return False
        problem = f"{type(error).__name__}: {one_line(error)}"
        self.trial = CompileTrial(self.trial.remaining, done=True, problem=problem)
        self.layers = None
        say(self.trial.line)
        return True

    @contextmanager
    def step(self) -> Iterator[None]:
        """Compute the passes of a step in this block; `auto` measures, and decides on the next."""
        trial, began = self.trial, time.monotonic()
        if self.layers is None or (trial and not trial.uses):
            yield
        else:
            with self.layers.applied(falls_back=trial is not None):
                yield
        if trial is None or trial.done:
            return
        trial.step(time.monotonic() - began)
        # All processes follow the clock of the first one.
        trial.uses, trial.done = self.world.compute_once(lambda: (trial.uses, trial.done))
        if trial.line and self.world.is_first:
            say(trial.line)
