"""Experiment trackers: TensorBoard, Weights & Biases, Trackio.

A tracker gets the numbers that are written to training.jsonl. Nothing is read from trackers. Each
needs the extra of the same name.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lingraft.errors import MissingExtraError, RecipeError, did_you_mean

Values = Mapping[str, float]


class Tracker(ABC):
    """Records numbers by step."""

    @abstractmethod
    def write(self, step: int, values: Values) -> None:
        """Record the values of a step."""

    @abstractmethod
    def close(self) -> None:
        """Write buffered values and close."""


class TensorBoard(Tracker):
    """TensorBoard event files; when a run resumes, values after the last checkpoint are purged."""

    def __init__(self, folder: Path, name: str, step: int) -> None:
        module = _module("torch.utils.tensorboard", "tensorboard")
        self.writer = module.SummaryWriter(
            str(folder / "tensorboard" / name), purge_step=step + 1 if step else None
        )

    def write(self, step: int, values: Values) -> None:
        """Record the values of a step."""
        for key, value in values.items():
            self.writer.add_scalar(key, value, step)

    def close(self) -> None:
        """Write buffered values and close."""
        self.writer.close()


class Wandb(Tracker):
    """A run of the W&B project `lingraft`; when training resumes, it starts a new W&B run."""

    module = "wandb"

    def __init__(self, folder: Path, name: str, step: int) -> None:  # noqa: ARG002 - see above
        self.client = _module(self.module, self.module)
        self.client.init(project="lingraft", name=name, **self._settings(folder))

    def _settings(self, folder: Path) -> dict[str, Any]:
        folder.mkdir(parents=True, exist_ok=True)
        return {"dir": str(folder)}

    def write(self, step: int, values: Values) -> None:
        """Record the values of a step."""
        self.client.log(dict(values), step=step)

    def close(self) -> None:
        """Write buffered values and close."""
        self.client.finish()


class Trackio(Wandb):
    """Trackio, whose functions are those of wandb; it stores its files in TRACKIO_DIR."""

    module = "trackio"

    def _settings(self, folder: Path) -> dict[str, Any]:  # noqa: ARG002 - it has its own folder
        return {}


TRACKERS: dict[str, type[TensorBoard | Wandb]] = {
    "tensorboard": TensorBoard,
    "wandb": Wandb,
    "trackio": Trackio,
}
"""Trackers by name."""


def check_installed(names: Iterable[str]) -> None:
    """Raise `MissingExtraError` if the package of a tracker, which has its name, is missing."""
    for name in names:
        if find_spec(name) is None:
            raise MissingExtraError(name, extra=name)


def _module(name: str, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise MissingExtraError(extra, extra=extra) from error


@contextmanager
def tracking(
    names: Sequence[str], folder: Path, name: str, step: int
) -> Iterator[Sequence[Tracker]]:
    """Open the named trackers for a run that has done `step` steps.

    Raises `RecipeError` for an unknown name.
    """
    for tracker in names:
        if tracker not in TRACKERS:
            msg = f"there is no tracker called {tracker!r}; {did_you_mean(tracker, TRACKERS)}"
            raise RecipeError(msg)
    with ExitStack() as stack:
        trackers = []
        for tracker in names:
            trackers.append(TRACKERS[tracker](folder, name, step))
            stack.callback(trackers[-1].close)
        yield trackers


def numbers_of(record: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a log record; those of a language get a name each.

    >>> numbers_of({"step": 3, "bits_per_byte": 1.5, "heldout": {"hi": 1.25}})
    {'bits_per_byte': 1.5, 'heldout/hi': 1.25}
    """
    numbers = {
        key: value
        for key, value in record.items()
        if isinstance(value, int | float) and key not in {"step", "steps"}
    }
    for language, step in record.get("targets", {}).items():
        numbers[f"bits_per_byte/{language}"] = step["bits_per_byte"]
    for language, value in record.get("heldout", {}).items():
        numbers[f"heldout/{language}"] = value
    for probe, point in record.get("in_context", {}).items():
        numbers[f"in_context/{probe}"] = point["gain"]
    return numbers
