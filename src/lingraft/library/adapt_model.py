"""`lingraft.adapt`: a run of a recipe from Python, as `lingraft adapt` makes it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lingraft import pipeline
from lingraft.pipeline import Run
from lingraft.progress import LogLine, say, send_lines_to
from lingraft.recipe import Given, Runtime, assignment, chosen_recipe
from lingraft.report import write_report
from lingraft.workers import Workers


def adapt(
    recipe: str | os.PathLike[str] | None = None,
    *,
    model: str | None = None,
    language: str | None = None,
    text: str | Sequence[str] = (),
    base_language: str | None = None,
    base_text: str | Sequence[str] = (),
    overrides: Mapping[str, Any] | None = None,
    store: str | os.PathLike[str] | None = None,
    runs: str | os.PathLike[str] = "runs",
    device: str = "auto",
    precision: str = "auto",
    workers: int = 1,
    trackers: Sequence[str] = (),
    recompute: bool = False,
    log: LogLine | None = None,
) -> Run:
    """Run a recipe file, or adapt `model` to `language` on `text` with default settings.

    Stages that are cached in the store are not computed again, a finished run is returned at once,
    and a stopped run continues from its last checkpoint.

    Args:
        recipe: a recipe file. The other arguments change it; without it, `model` and `language`
            are needed.
        model: the source model: a model folder, or owner/name@revision on the Hub.
        language: the target language: a BCP-47 tag (hi, pt-BR), or domain:NAME.
        text: text in the target language: files, globs, data sets of the Hub, or a preset of them
            such as fineweb-2. Without text, fineweb-2 in this language is read, no more of it than
            the run needs.
        base_language: the language of `base_text` (default: en).
        base_text: text in a language that the model knows. It is mixed into training, so that the
            model does not forget the language, and is measured before and after. If no text is
            named at all, a preset in this language is read.
        overrides: other settings by their dotted path: `{"vocabulary.size": 3000}`.
        store: where finished stages are cached (default: LINGRAFT_STORE, or `runs/.store`).
        runs: the folder of all run folders.
        device: auto, cpu, cuda, cuda:1 or mps.
        precision: auto, float32 or bfloat16; auto uses bfloat16 where the device supports it.
        workers: how many processes count words and tokenise text.
        trackers: where training metrics are sent in addition: tensorboard, wandb, trackio.
        recompute: compute activations again in the backward pass: less memory, slower.
        log: receives each line of progress and each warning. By default, they go to standard error,
            with bars on a terminal. `log=lambda line: None` silences the run.

    Returns:
        The finished run, with its model, measurements and report.

    Raises:
        LingraftError: with one line that says what is wrong and what to do.
    """
    given = Given(model, language, _as_list(text), base_language, _as_list(base_text))
    changes = [assignment(setting, value) for setting, value in (overrides or {}).items()]
    with send_lines_to(log):
        chosen = chosen_recipe(Path(recipe) if recipe is not None else None, given, changes)
        runtime = Runtime(
            Path(runs),
            Path(store or ""),
            device,
            precision,
            trackers=tuple(trackers),
            recompute=recompute,
            workers=Workers(workers),
        )
        return pipeline.run(chosen, runtime, write_report=write_report, log=say)


def _as_list(value: str | Sequence[str]) -> list[str]:
    return [value] if isinstance(value, str) else list(value)
