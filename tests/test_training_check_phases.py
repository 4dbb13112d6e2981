"""What a later phase or the end of a training refuses is refused before the first step."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from lingraft.checkpoint import load_model
from lingraft.errors import MissingExtraError, RecipeError
from lingraft.pipeline.source_summary import source_statement
from lingraft.recipe import Recipe
from lingraft.strategies import STRATEGIES, Layers, Lora, Strategy
from lingraft.training.check_phases import on_meta
from lingraft.training.phase_steps import TrainingText
from tests.conftest import HINDI, make_tiny_model
from tests.training_cases import ADDED, other_model, packed, plan_of, run

FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "layers": ({"strategy": {"layers": {"layers_per_end": 9}}}, "the model has 2 layers"),
    "targets": ({"strategy": {"lora": {"target_modules": ["q_prj"]}}}, "q_prj not in this Llama"),
    "columns": ({"strategy": "shielded"}, "there is no replay text"),
    "divergence": ({"replay_kl": 1}, "no text is replayed"),
    "package": ({"optimizer": "adamw8bit"}, r"lingraft\[bits\]"),
    "4 bits": ({"strategy": {"lora": {"base_precision": "nf4"}}}, r"lingraft\[bits\]"),
}


@pytest.fixture(scope="module")
def text(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainingText:
    return TrainingText.of(packed(tiny_model, tmp_path_factory.mktemp("text"), HINDI))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_a_later_phase_is_found_before_the_first_step(
    fault: str,
    tiny_model: Path,
    text: TrainingText,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Settings that do not fit the model or the text, and packages that are missing."""
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    settings, message = FAULTS[fault]
    size = {"budget": "2 steps", "batch_tokens": 128}
    plan = plan_of(phases=[{"strategy": "rows", **size}, {**settings, **size}])
    with pytest.raises((RecipeError, MissingExtraError), match=message):
        run(tiny_model, text, plan, tmp_path)
    assert not (tmp_path / "work" / "training.jsonl").exists()


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("name", STRATEGIES.names())
def test_a_strategy_prepares_a_model_without_weights_alike(
    name: str, tied: bool, tmp_path: Path
) -> None:
    """The same parameters train, with the same shapes, and the model itself does not change."""
    make_tiny_model(tmp_path, tied=tied)
    strategy: Strategy = Layers(layers_per_end=1) if name == "layers" else STRATEGIES.parse(name)
    _is_prepared_alike(strategy, load_model(tmp_path))


@pytest.mark.parametrize("kind", ["gpt2", "gemma2", "mixtral"])
def test_other_architectures_are_prepared_without_weights(kind: str) -> None:
    """Transposed layers, and experts that are one parameter."""
    _is_prepared_alike(Lora(rank=2), other_model(kind))


def _is_prepared_alike(strategy: Strategy, model: Any) -> None:
    shapes, before = [], {name: id(one) for name, one in model.named_parameters()}
    rows = len(model.get_input_embeddings().weight)
    added = [one for one in (60, *ADDED) if one < rows]
    for prepared in (on_meta(model), model):
        if prepared is model:
            assert before == {name: id(one) for name, one in model.named_parameters()}
        found = {}
        for group in strategy.prepare(prepared, added):
            for name, parameter in group.parameters.items():
                found[name] = group.role, tuple(parameter.shape)
        shapes.append(found)
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("fault", ["layers", "targets"])
def test_a_plan_refuses_what_does_not_fit_the_model(
    fault: str, tiny_model: Path, tmp_path: Path
) -> None:
    """The configuration is enough for that; a model with code of its own is not built."""
    folder = tmp_path / "model"
    folder.mkdir()
    for file in tiny_model.iterdir():
        if file.suffix == ".json":
            (folder / file.name).write_bytes(file.read_bytes())
    settings, message = FAULTS[fault]
    recipe = {
        "name": "x",
        "model": str(folder),
        "target": {"language": "hi", "corpus": "text.txt"},
        "training": settings,
    }
    with pytest.raises(RecipeError, match=message):
        source_statement(Recipe.model_validate(recipe), folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "own"}))
    assert source_statement(Recipe.model_validate(recipe), folder).lines
