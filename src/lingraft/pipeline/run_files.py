"""Reads the files of a run folder for its report.

run.json and measurements.parquet are required. The other files belong to stages that a recipe may
leave out (no training, no added tokens). If one is missing, the page says so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lingraft.errors import StoreError
from lingraft.measurement import Measurement, read_measurements
from lingraft.pipeline.run_folder import read_run_record
from lingraft.pretokenizer.change import PRETOKENIZER, PretokenizerChange
from lingraft.recipe.old_names import current_log
from lingraft.splice import Splice


@dataclass(frozen=True)
class RunFiles:
    """The content of a run folder; `None` means that a file is missing."""

    folder: Path
    record: Mapping[str, Any]
    measurements: Sequence[Measurement]
    training: Sequence[Mapping[str, Any]] | None
    splice: Splice | None
    claims: Sequence[Mapping[str, Any]] | None
    samples: Sequence[Mapping[str, Any]] | None
    recipe: str | None
    curve: Mapping[str, Sequence[int]] | None = None
    generated: Sequence[Mapping[str, str]] | None = None
    pretokenizer: PretokenizerChange | None = None

    @property
    def target(self) -> str:
        """The language that the model was adapted to."""
        return str(self.record["language"])

    @property
    def targets(self) -> list[str]:
        """Every language that the model was adapted to: a recipe may have extra targets."""
        languages = {self.target: None}  # a set that keeps the order of the recipe
        for text in (self.record.get("recipe") or {}).get("extra_targets") or ():
            languages[str(text["language"])] = None
        return list(languages)

    @property
    def base(self) -> str | None:
        """The base language of the model, if the recipe has replay text."""
        language = self.record.get("replay_language")
        return None if language is None else str(language)

    @property
    def languages(self) -> list[str]:
        """Every measured language, the targets first."""
        tags = dict.fromkeys([*self.targets, self.base or ""])
        for row in self.measurements:
            tags[row.language] = None
        tags.pop("", None)  # measurements of the model itself have no language
        return list(tags)


def read_run(folder: Path) -> RunFiles:
    """Read a run folder; raises `StoreError` if it is not a finished run or a file is damaged."""
    record = read_run_record(folder)
    for field in ("name", "source", "language"):
        if field not in record:
            msg = f"{folder / 'run.json'}: no field `{field}`; run `lingraft adapt` again"
            raise StoreError(msg)
    trained = any(stage.get("name") == "training" for stage in record.get("stages", ()))
    log = folder / "training.jsonl"
    if trained and not log.is_file():
        msg = f"{log}: missing, and the run has trained; run `lingraft adapt` again"
        raise StoreError(msg)
    certificate = read_json(folder / "certificate.json")
    splice = read_json(folder / "splice.json")
    try:
        return RunFiles(
            folder,
            record,
            _measurements(folder),
            _lines(log),
            None if splice is None else Splice.from_json(splice),
            None if certificate is None else certificate["claims"],
            read_json(folder / "samples.json"),
            _text(folder / "recipe.yaml"),
            read_json(folder / "curve.json"),
            read_json(folder / "generated.json"),
            read_pretokenizer(folder),
        )
    except (KeyError, TypeError, ValueError) as error:
        msg = (
            f"{folder}: splice.json, certificate.json or pretokenizer.json is damaged ({error!r}); "
            "run the recipe again"
        )
        raise StoreError(msg) from error


def read_pretokenizer(folder: Path) -> PretokenizerChange | None:
    """Return what happened to the pre-tokenizer, `None` without pretokenizer.json."""
    value = read_json(folder / PRETOKENIZER)
    return None if value is None else PretokenizerChange.from_json(value)


def _measurements(folder: Path) -> list[Measurement]:
    path = folder / "measurements.parquet"
    if not path.is_file():
        msg = f"{path}: missing; a report needs measurements: run `lingraft adapt` again"
        raise StoreError(msg)
    try:
        return read_measurements(path)
    except (OSError, ValueError, TypeError) as error:  # the errors of pyarrow derive from these
        reason = str(error).splitlines()[0]
        msg = f"{path}: not a table of measurements ({reason}); run `lingraft adapt` again"
        raise StoreError(msg) from error


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8") if path.is_file() else None
    except UnicodeDecodeError as error:
        msg = f"{path}: not UTF-8 (byte {error.start}); run the recipe again"
        raise StoreError(msg) from error


def read_json(path: Path) -> Any:
    """Return the content of a JSON file of a run, None if there is none.

    Raises `StoreError` with file and line if it is damaged.
    """
    text = _text(path)
    return None if text is None else _parse(text, path)


def _lines(path: Path) -> Sequence[Mapping[str, Any]] | None:
    text = _text(path)
    if text is None:
        return None
    records = []
    # Not splitlines(): it also splits at characters that JSON allows inside a string, like U+2028.
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            records.append(_parse(line, path, number))
    return current_log(records)


def _parse(text: str, path: Path, line: int = 1) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        msg = f"{path}, line {line}: not JSON ({error}); run the recipe again"
        raise StoreError(msg) from error
