"""Takes the output of a stage from the store or builds it, and keeps what a run says of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from lingraft.formatting import duration
from lingraft.pipeline.stage_node import StageNode
from lingraft.pipeline.stage_warnings import ScoredText, StageWarnings, stage_warnings
from lingraft.progress import (
    LogLine,
    each_warning_once,
    quiet_import_notes,
    stage_progress,
    warn,
)
from lingraft.recipe import Recipe, Runtime
from lingraft.store import Manifest, Store


@dataclass(frozen=True)
class FinishedStage:
    """A stage whose output is stored; `cached` if it was stored before this run."""

    node: StageNode
    manifest: Manifest
    cached: bool
    warnings: StageWarnings = field(default_factory=StageWarnings)

    def record(self) -> dict[str, Any]:
        """Return what run.json says of the stage."""
        return {
            "name": self.node.stage.name,
            "title": self.node.title,
            "key": self.node.stage.key,
            "cached": self.cached,
            "seconds": self.manifest.seconds,
            "notes": self.manifest.notes,
        }


def build_node(
    node: StageNode,
    recipe: Recipe,
    runtime: Runtime,
    store: Store,
    log: LogLine,
    *,
    scored: ScoredText | None = None,
) -> FinishedStage:
    """Take the output of a stage from the store, or build it; log it and its warnings.

    `scored` is the held-out text that is scored later; `None` if nothing is measured. Raises
    `StoreError` if the disk is full.
    """
    cached = node.is_cached(store)
    # A stage that is built now prints its own warnings at once.
    with each_warning_once():
        with stage_progress():
            folder = node.build(store, recipe, runtime)
        manifest = Manifest.read(folder)
        log(f"{node.title:<24} {'from the store' if cached else duration(manifest.seconds)}")
        warnings = stage_warnings(node.stage.name, folder, scored)
        for warning in warnings.lines:
            warn(warning, log)
    return FinishedStage(node, manifest, cached, warnings)


def quiet_libraries() -> None:
    """Turn off the progress bars of transformers, which would break those of lingraft.

    Import notes are hidden, too: a worker process of a study does not run `cli.app.main`.
    """
    quiet_import_notes()
    from transformers.utils import logging

    logging.disable_progress_bar()


def warnings_of(done: Iterable[FinishedStage]) -> list[str]:
    """Return the warnings of these stages in their order, without repetitions."""
    warnings: dict[str, None] = {}
    for stage in done:
        warnings.update(dict.fromkeys(stage.warnings.lines))
    return list(warnings)


def wrong_scripts_of(done: Iterable[FinishedStage]) -> list[dict[str, Any]]:
    """Return the texts that are not in the script of their language, as plain JSON."""
    return [stage.warnings.wrong_script.as_json() for stage in done if stage.warnings.wrong_script]
