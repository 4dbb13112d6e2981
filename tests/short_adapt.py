"""A run of a few steps on a small random model, through the same functions as `lingraft adapt`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lingraft.pipeline import Run, run
from lingraft.recipe import Recipe, Runtime, parse_recipe
from lingraft.recipe.overrides import override
from lingraft.recipe.tree import Tree
from tests.conftest import ENGLISH, HINDI
from tests.tiny_recipes import quick_evaluation, quick_training, text_of, tiny_recipe

GENERATION = {
    "timed_bytes": 8,
    "timed_prompts": 1,
    "timed_repeats": 1,
    "samples": 2,
    "sample_bytes": 16,
}
"""Little text to time and to show, because each token takes a step of its own."""


def write_texts(root: Path) -> None:
    """Write some text in both languages."""
    root.mkdir(parents=True, exist_ok=True)
    for name, sentences in (("hi", HINDI), ("en", ENGLISH)):
        rows = [{"text": f"{sentences[i % 4]} {i} {sentences[(i + 1) % 4]}"} for i in range(60)]
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
        (root / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")


def short_adapt(source: Path, root: Path, *overrides: str, report: Any = None) -> Run:
    """Adapt a model folder in a few steps; return the finished run."""
    recipe = short_recipe(source, root, *overrides)
    runtime = Runtime(runs=root / "runs", store=root / "store", device="cpu")
    return run(recipe, runtime, write_report=report or _no_report, log=lambda *_: None)


def short_recipe(source: Path, root: Path, *overrides: str) -> Recipe:
    """Return the recipe of such a run, and write its texts."""
    write_texts(root)
    values = tiny_recipe(
        source,
        name="short",
        target=text_of("hi", root / "hi.jsonl"),
        replay=text_of("en", root / "en.jsonl"),
        training=quick_training(4),
        evaluation=quick_evaluation(400, generation=GENERATION),
    )
    return parse_recipe(override(Tree(values), overrides))


def _no_report(folder: Path) -> None:
    (folder / "report.html").write_text("", encoding="utf-8")
