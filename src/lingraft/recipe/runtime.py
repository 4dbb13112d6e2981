"""Where and how a recipe runs: folders, device, precision, processes. Keys depend on none of it."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from lingraft.errors import RecipeError, did_you_mean
from lingraft.store import expanded
from lingraft.training.launch import Launch, check_device
from lingraft.training.trackers import TRACKERS, check_installed
from lingraft.workers import HERE, Workers

DEVICES = ("auto", "cpu", "cuda", "mps")
NAMES_OF_DEVICES = "auto, cpu, cuda, cuda:1 or mps"
COMPILE = ("auto", "true", "false")
PRECISIONS = ("auto", "float32", "bfloat16", "tf32")


@dataclass(frozen=True)
class Runtime:
    """Where a run computes and where its files are.

    `runs` is the folder of the run folders. `store` is the folder of stage outputs, by default
    LINGRAFT_STORE or else `runs/.store`. `launch` describes the process group if a launcher started
    several processes. `trackers` receive training metrics, stored in `runs/tracking`. `recompute`
    computes activations again in the backward pass, which saves memory and costs time; None does so
    on a GPU that has no room for them (`training.step_memory`). `compile`
    says whether training compiles the layers ("auto", "true" or "false"). Training saves its
    progress every `checkpoint_seconds`. `workers` are the processes that count words and
    tokenise text.
    """

    runs: Path = Path("runs")
    store: Path = Path()
    device: str = "auto"
    precision: str = "auto"
    launch: Launch | None = None
    trackers: tuple[str, ...] = ()
    recompute: bool | None = None
    checkpoint_seconds: float = 300.0
    workers: Workers = HERE
    compile: str = "auto"

    def __post_init__(self) -> None:
        if self.store == Path():
            # The dataclass is frozen: its own fields can only be set this way.
            object.__setattr__(
                self, "store", Path(os.environ.get("LINGRAFT_STORE") or self.runs / ".store")
            )
        # As in every other path of a recipe or an argument, `~` is the home folder.
        object.__setattr__(self, "runs", expanded(self.runs))
        object.__setattr__(self, "store", expanded(self.store))
        for option, folder in (("--runs", self.runs), ("--store", self.store)):
            if folder.exists() and not folder.is_dir():
                msg = f"{option} {folder}: is a file, where a folder is expected; use another path"
                raise RecipeError(msg)
        # A device may name a number, too: cuda:1.
        _check_known("device", self.device.split(":")[0], DEVICES)
        _check_known("precision", self.precision, PRECISIONS)
        _check_known("compile", self.compile, COMPILE)
        for tracker in self.trackers:
            _check_known("trackers", tracker, TRACKERS)
        check_installed(self.trackers)  # here, because training may start hours later
        if self.launch:
            check_device(self.device, self.launch.size)
        if not self.checkpoint_seconds > 0:
            msg = f"--checkpoint-seconds {self.checkpoint_seconds:g}: expected a number above 0"
            raise RecipeError(msg)

    def resolved_device(self) -> str:
        """Return the device to compute on: with `auto`, the fastest that torch finds."""
        if self.device != "auto":
            return self.device
        return fastest_device()

    def available_device(self) -> str:
        """Return the device to compute on; raises `RecipeError` if torch does not find it here.

        `resolved_device` also returns devices of other machines, for which plans are made.
        """
        if self.device not in {"auto", "cpu"}:
            check_available(self.device)
        return self.resolved_device()


def fastest_device() -> str:
    """Return the fastest device that torch finds on this machine."""
    # Imported here, because reading a recipe and its runtime must not take seconds.
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def check_available(name: str, option: str = "--device") -> None:
    """Raise `RecipeError` for a device that torch does not find on this machine.

    `option` is what named it. Kinds of devices that recipes cannot name are left to torch.
    """
    import torch

    try:
        device = torch.device(name)
    except RuntimeError as error:
        msg = f"{option} {name}: no name of a device; give {NAMES_OF_DEVICES}"
        raise RecipeError(msg) from error
    if device.type not in DEVICES:
        return
    found = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": torch.backends.mps.is_available()}
    kind, count = device.type, int(found[device.type])
    # torch keeps an index in 8 bits: for it, cuda:256 is cuda:0.
    if int(name.partition(":")[2] or 0) < count:
        return
    problem = f"has no {kind} device that torch can use"
    if count:
        last = f" to {kind}:{count - 1}" if count > 1 else ""
        problem = f"has {kind}:0{last} only"
    msg = f"{option} {name}: this machine {problem}; give one that it has, or auto"
    raise RecipeError(msg)


def _check_known(option: str, value: str, known: Collection[str]) -> None:
    if value not in known:
        msg = f"--{option} {value!r} is not known; {did_you_mean(value, known)}"
        raise RecipeError(msg)
