"""The settings of a run that takes seconds, and what takes the place of its report."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def tiny_recipe(model: object, **changes: Any) -> dict[str, Any]:
    """Return the settings of a short run without text; `changes` replace whole settings."""
    return {
        "name": "tiny",
        "model": str(model),
        "vocabulary": {"size": 20},
        "training": quick_training(3),
        "evaluation": quick_evaluation(800),
        **changes,
    }


def text_of(language: str, corpus: object, heldout_share: float = 0.1) -> dict[str, Any]:
    """Return the settings of a text: a file, or as a recipe names others."""
    place = str(corpus) if isinstance(corpus, Path) else corpus
    return {"language": language, "corpus": place, "heldout_share": heldout_share}


def quick_training(steps: int, **changes: Any) -> dict[str, Any]:
    """Return the settings of a training of a few steps."""
    return {"budget": f"{steps} steps", "batch_tokens": 128, "heldout_points": 1, **changes}


def quick_evaluation(heldout_bytes: int, **changes: Any) -> dict[str, Any]:
    """Return the settings of an evaluation on so many bytes."""
    quick = {"bootstrap": {"resamples": 20}, "generation": None}
    return {"heldout_bytes": heldout_bytes, **quick, **changes}


def report(folder: Path) -> None:
    """Stand in for the report, whose own tests are elsewhere; it sees the finished folder."""
    assert (folder / "run.json").is_file()
    (folder / "report.html").write_text("<html>", encoding="utf-8")
