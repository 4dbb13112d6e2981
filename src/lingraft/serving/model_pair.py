"""Finds the two models of a run: the adapted one in the run folder, the source in the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lingraft.errors import ModelError
from lingraft.export.hub_upload import model_folder
from lingraft.pipeline.run_files import RunFiles, read_run
from lingraft.tokenizer import open_tokenizer

# Example prompts that the page offers.
PROMPTS = 6


@dataclass(frozen=True)
class ModelPair:
    """The source and adapted model folders of a run, the ids of its added tokens, and prompts."""

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
    """Return the models of a finished run; `source` is the source model if the store has no copy.

    Raises `StoreError` if there is no finished run. Raises `ModelError` if the run has no model, if
    its source is not found, or if `source` is not the model that the run started from.
    """
    files = read_run(run)
    adapted = run / "model"
    if not (adapted / "config.json").is_file():
        msg = f"{run}: this run has no model (no model/config.json); run `lingraft adapt` first"
        raise ModelError(msg)
    source_folder = model_folder(source) if source else _find_in_store(files.record, run, store)
    _check_source(files, source_folder)
    added = frozenset(token.id for token in files.splice.added) if files.splice else frozenset()
    return ModelPair(
        str(files.record["name"]),
        files.target,
        str(files.record["source"]),
        source_folder,
        adapted,
        added,
        _prompts(files),
    )


def _find_in_store(record: Mapping[str, Any], run: Path, store: Path) -> Path:
    # The instruct model of a chat vector is a later stage of this name.
    sources = [stage for stage in record.get("stages", ()) if stage.get("name") == "source"]
    key = sources[0].get("key") if sources else None
    folder = store / "answers" / f"source-{key}" / "model"
    if not (folder / "config.json").is_file():
        msg = (
            f"{run}: its source model ({record['source']}) is not in the store {store}; give the "
            "store with --store, or the model folder with --source"
        )
        raise ModelError(msg)
    return folder


def _check_source(files: RunFiles, source: Path) -> None:
    """Raise `ModelError` if the tokenizer of `source` has another size than in the splice."""
    # With another tokenizer, the ids of the splice and of the report would mean other tokens.
    size = open_tokenizer(source).size
    if files.splice is not None and size != files.splice.source_size:
        msg = (
            f"{source}: has {size:,} token ids, but {files.folder} started from a model with "
            f"{files.splice.source_size:,}; give the model that the run started from"
        )
        raise ModelError(msg)


def _prompts(files: RunFiles) -> list[str]:
    """Return the prompts of the report, those in the target language first."""
    samples = sorted(files.generated or (), key=lambda sample: sample["language"] != files.target)
    return list(dict.fromkeys(sample["prompt"] for sample in samples))[:PROMPTS]
