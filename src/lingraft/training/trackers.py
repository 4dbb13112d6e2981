"""Where the numbers of a run can be watched from outside: TensorBoard, Weights & Biases, Trackio.

They get what training.jsonl gets; nothing is read back from them, and training.jsonl is always there. Each is an
extra of its own name.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from lingraft.errors import MissingExtraError, RecipeError, did_you_mean

Values = Mapping[str, float]


class Tracker(ABC):
    """Takes numbers by step."""

    @abstractmethod
    def write(self, step: int, values: Values) -> None:
        """Take the values of a step."""

    @abstractmethod
    def close(self) -> None:
        """Write out what is held back."""


class TensorBoard(Tracker):
    """Event files in a folder; what an interrupted run wrote after its last checkpoint is superseded on resume."""

    def __init__(self, folder: Path, name: str, step: int) -> None:
        module = _module("torch.utils.tensorboard", "tensorboard")
        self.writer = module.SummaryWriter(str(folder / "tensorboard" / name), purge_step=step + 1 if step else None)

    def write(self, step: int, values: Values) -> None:
        """Take the values of a step."""
        for key, value in values.items():
            self.writer.add_scalar(key, value, step)

    def close(self) -> None:
        """Write out what is held back."""
        self.writer.close()


class Wandb(Tracker):
    """A run of the project `lingraft`; Trackio has the same functions under another name."""

    module = "wandb"

    def __init__(self, folder: Path, name: str, step: int) -> None:  # noqa: ARG002 - a resumed run is a new one there
        self.client = _module(self.module, self.module)
        self.client.init(project="lingraft", name=name, **self._settings(folder))

    def _settings(self, folder: Path) -> dict[str, Any]:
        folder.mkdir(parents=True, exist_ok=True)
        return {"dir": str(folder)}

    def write(self, step: int, values: Values) -> None:
        """Take the values of a step."""
        self.client.log(dict(values), step=step)

    def close(self) -> None:
        """Write out what is held back."""
        self.client.finish()


class Trackio(Wandb):
    """Trackio, which keeps its files where TRACKIO_DIR says."""

    module = "trackio"

    def _settings(self, folder: Path) -> dict[str, Any]:  # noqa: ARG002 - it has a place of its own
        return {}


TRACKERS: dict[str, type[TensorBoard | Wandb]] = {"tensorboard": TensorBoard, "wandb": Wandb, "trackio": Trackio}
"""Trackers by name."""


def _module(name: str, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise MissingExtraError(extra, extra=extra) from error


@contextmanager
def tracking(names: Sequence[str], folder: Path, name: str, step: int) -> Iterator[Sequence[Tracker]]:
    """Open trackers by name for a run that has done `step` steps; raises `RecipeError` for an unknown name."""
    for one in names:
        if one not in TRACKERS:
            msg = f"there is no tracker called {one!r}; {did_you_mean(one, TRACKERS)}"
            raise RecipeError(msg)
    with ExitStack() as stack:
        trackers = []
        for one in names:
            trackers.append(TRACKERS[one](folder, name, step))
            stack.callback(trackers[-1].close)
        yield trackers


def numbers_of(row: Mapping[str, Any]) -> dict[str, float]:
    """Return what a row of the log holds for a chart, the held-out values by language.

    >>> numbers_of({"step": 3, "bits_per_byte": 1.5, "heldout": {"hi": 1.25}})
    {'bits_per_byte': 1.5, 'heldout/hi': 1.25}
    """
    flat = {key: value for key, value in row.items() if isinstance(value, int | float) and key not in {"step", "steps"}}
    return flat | {f"heldout/{language}": value for language, value in row.get("heldout", {}).items()}
