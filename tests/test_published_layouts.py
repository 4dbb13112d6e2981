"""Checkpoints as published: other names, flat configurations, more tensors and files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lingraft.checkpoint.safetensors_files import INDEX, SINGLE, Checkpoint
from tests.architecture_sweep import extend_folder, load, problems
from tests.published_layouts import LAYOUTS, publish
from tests.short_adapt import short_adapt


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_published_layout_is_extended_under_its_own_names(name: str, tmp_path: Path) -> None:
    """Source and result load, base ids give the same logits, and names are the published ones."""
    source = publish(LAYOUTS[name], tmp_path / "source")
    _, account = load(source)
    assert not account["missing_keys"], f"the fixture is no {name}"
    found = extend_folder(source, tmp_path)
    wrong = [problem for problem in problems(found) if not problem.startswith("unexpected_keys")]
    assert wrong == []
    assert not list(found.result.glob("consolidated*"))


@pytest.mark.parametrize(
    "name", ["Qwen2.5-VL", "DeepSeek-V3 with a layer of multi-token prediction"]
)
def test_a_trained_model_keeps_names_and_untrained_tensors(name: str, tmp_path: Path) -> None:
    """After training, the files have the published names and the layers that were not loaded."""
    source = publish(LAYOUTS[name], tmp_path / "source")
    finished = short_adapt(source, tmp_path, "training.budget=2 steps")
    before, after = Checkpoint.open(source), Checkpoint.open(finished.model_path)
    assert before.tensors.keys() == after.tensors.keys()
    rows = after.tensors[
        next(one for one in after.tensors if one.endswith("embed_tokens.weight"))
    ].shape[0]
    for one, place in before.tensors.items():
        if place.shape[0] == 320 and "embed_tokens" in one:
            assert after.tensors[one].shape[0] == rows
    account = load(finished.model_path)[1]
    assert not account["missing_keys"]
    # transformers would read this file and not the index.
    assert not {INDEX, SINGLE} <= {path.name for path in finished.model_path.iterdir()}
    assert not account["mismatched_keys"]
    config = json.loads((finished.model_path / "config.json").read_text())
    assert ("text_config" in config) == (
        "text_config" in json.loads((source / "config.json").read_text())
    )
