"""A finished run: the adapted model, and what was measured, certified and predicted."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lingraft.certificate import Certificate
from lingraft.checkpoint import load_model
from lingraft.checkpoint.load_model import dtype_name
from lingraft.errors import StoreError
from lingraft.forecast.prediction import Prediction, read_predictions
from lingraft.measurement import metric_changes, read_measurements
from lingraft.measurement_table import MeasurementTable
from lingraft.pipeline.run_files import read_run
from lingraft.pipeline.run_folder import read_record, read_run_record
from lingraft.pipeline.run_summary import answer, headline
from lingraft.recipe import Recipe, parse_recipe
from lingraft.recipe.runtime import check_available, fastest_device
from lingraft.recipe.tree import Tree
from lingraft.store import WARNINGS, expanded
from lingraft.tokenizer.loaded_settings import load_auto_tokenizer


@dataclass(frozen=True)
class Run:
    """A finished run in its folder; every property reads the files of the folder.

    The folder `model_path` loads with `AutoModelForCausalLM.from_pretrained` and
    `AutoTokenizer.from_pretrained`, without lingraft. Properties raise `StoreError` if a file is
    missing or damaged.
    """

    folder: Path

    @property
    def model_path(self) -> Path:
        """The folder of the adapted model."""
        return self.folder / "model"

    @property
    def report(self) -> Path:
        """The report, one HTML file."""
        return self.folder / "report.html"

    @property
    def record(self) -> dict[str, Any]:
        """The content of run.json: recipe, stages, versions, device, times."""
        return read_record(self.folder)

    @property
    def recipe(self) -> Recipe:
        """The recipe with every setting; old names of settings have their new names."""
        return parse_recipe(Tree(self.record["recipe"]))

    @property
    def measurements(self) -> MeasurementTable:
        """Every number that was measured, for the models "source", "spliced" and "adapted"."""
        return MeasurementTable(tuple(read_measurements(self.folder / "measurements.parquet")))

    @property
    def summary(self) -> str:
        """What improved and what got worse, one sentence a line, as at the top of the report."""
        return "\n".join(answer(read_run(self.folder), metric_changes(self.measurements.rows)))

    @property
    def headline(self) -> tuple[str, ...]:
        """The first sentences of the summary: tokens and bits per byte, before and after."""
        return tuple(headline(read_run(self.folder), metric_changes(self.measurements.rows)))

    @property
    def certificate(self) -> Certificate:
        """The certified claims about the tokenizer and the model."""
        return Certificate.read(self.folder / "certificate.json")

    @property
    def prediction(self) -> tuple[Prediction, ...]:
        """What was predicted before it was measured; empty for a run without prediction.json."""
        return tuple(read_predictions(self.folder))

    @property
    def warnings(self) -> tuple[str, ...]:
        """The warnings of the run, in the order of its stages."""
        return tuple(self.record.get(WARNINGS, ()))

    @property
    def received(self) -> dict[str, Any] | None:
        """Where the model came from if another engine trained it, `None` if lingraft did."""
        received: dict[str, Any] | None = self.record.get("received")
        return received

    @property
    def notes(self) -> dict[str, dict[str, Any]]:
        """What each stage noted about its output, by the title of the stage."""
        return {stage["title"]: stage["notes"] for stage in self.record["stages"]}

    def load(self, device: str = "cpu", dtype: str = "auto") -> tuple[Any, Any]:
        """Return the adapted model, in evaluation mode, and its transformers tokenizer.

        `dtype` is the name of a torch data type, "stored" for that of the files, or "auto": the
        stored one on a GPU, float32 elsewhere. Raises `RecipeError` for a device that this machine
        lacks.
        """
        name, place = dtype_name(dtype), str(device)
        if place == "auto":
            place = fastest_device()
        check_available(place, "device")
        tokenizer = load_auto_tokenizer(self.model_path)
        return load_model(self.model_path, place, name), tokenizer


def load_run(path: str | Path) -> Run:
    """Return the finished run in a folder, such as `runs/demo-hi`.

    Raises `StoreError` with one line if the folder is not a finished run. Runs of lingraft 0.1 are
    read, too.

    >>> load_run("nowhere")
    Traceback (most recent call last):
    ...
    lingraft.errors.StoreError: nowhere: no such folder; `lingraft adapt` creates a run
    """
    if not isinstance(path, str | os.PathLike):
        msg = f"{type(path).__name__}: no path; give the folder of a run, such as runs/demo-hi"
        raise StoreError(msg)
    folder = expanded(path)
    if folder.is_file():
        msg = f"{folder}: a file; give the folder of a run, which `lingraft adapt` creates"
        raise StoreError(msg)
    if not folder.is_dir():
        msg = f"{folder}: no such folder; `lingraft adapt` creates a run"
        raise StoreError(msg)
    read_run_record(folder)
    return Run(folder)
