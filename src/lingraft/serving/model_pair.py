"""The two models of a run: the adapted one in its folder, the source where the store keeps it or the user says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lingraft.errors import ModelError
from lingraft.export.hub_upload import model_folder
from lingraft.report.run_files import RunFiles, read_run
from lingraft.tokenizer import open_tokenizer

PROMPTS = 6


@dataclass(frozen=True)
class ModelPair:
    """A run's source and adapted model folders, which ids were added, and prompts to begin with."""

    name: str
    language: str
    source_name: str
    source: Path
    adapted: Path
    added: frozenset[int]
    prompts: Sequence[str]

    @property
    def folders(self) -> Mapping[str, Path]:
        """The model folder of each side, in the order of the page."""
        return {"source": self.source, "adapted": self.adapted}


def find_pair(run: Path, store: Path, source: Path | None = None) -> ModelPair:
    """Return the models of a finished run; `source` names the source's folder where the store does not hold it.

    Raises `StoreError` where there is no finished run, `ModelError` where it has no model, where its source is not
    found, or where the folder that is named holds another model than the run came from.
    """
    files = read_run(run)
    adapted = run / "model"
    if not (adapted / "config.json").is_file():
        msg = f"{run}: this run has no model (no model/config.json), so there is nothing to answer; `lingraft adapt` it"
        raise ModelError(msg)
    found = model_folder(source) if source else _in_store(files.record, run, store)
    _check_source(files, found)
    added = frozenset(token.id for token in files.splice.added) if files.splice else frozenset()
    return ModelPair(
        str(files.record["name"]),
        files.target,
        str(files.record["source"]),
        found,
        adapted,
        added,
        _prompts(files),
    )


def _in_store(record: Mapping[str, Any], run: Path, store: Path) -> Path:
    key = next(
        (stage["key"] for stage in record.get("stages", ()) if stage.get("name") == "source"), None
    )
    folder = store / "answers" / f"source-{key}" / "model"
    if not (folder / "config.json").is_file():
        msg = (
            f"{run}: its source model ({record['source']}) is not in the store {store}; name that with --store, "
            f"or the folder of the model with --source"
        )
        raise ModelError(msg)
    return folder


def _check_source(files: RunFiles, source: Path) -> None:
    """The splice knows how many ids its source had: another number is another tokenizer."""
    size = open_tokenizer(source).size
    if files.splice is not None and size != files.splice.source_size:
        msg = (
            f"{source}: has {size:,} token ids, while {files.folder} came from a model with "
            f"{files.splice.source_size:,}; name the model that the run started from"
        )
        raise ModelError(msg)


def _prompts(files: RunFiles) -> list[str]:
    """The prompts that the report shows, those in the target's language first."""
    rows = sorted(files.generated or (), key=lambda row: row["language"] != files.target)
    return list(dict.fromkeys(row["prompt"] for row in rows))[:PROMPTS]
