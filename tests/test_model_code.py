"""Code of a model: it runs only if a recipe permits it for a pinned revision."""

from __future__ import annotations

import json
import os
import runpy
import shutil
from pathlib import Path

import pytest
from pydantic import ValidationError

from lingraft import model_code
from lingraft.bases import parse_model
from lingraft.errors import ModelError, RecipeError
from lingraft.recipe import Runtime
from lingraft.trainers.engines import ENGINES
from lingraft.trainers.receive_model import Origin, check_folder
from lingraft.trainers.write_folder import hand_over
from tests.commands import lingraft
from tests.short_adapt import GENERATION, short_recipe
from tests.test_bases import loads, materialised

CONFIGURATION = """
import os
from pathlib import Path
from transformers import LlamaConfig

if "SHOW_THAT_CODE_RAN" in os.environ:
    Path(os.environ["SHOW_THAT_CODE_RAN"]).touch()


class OwnConfig(LlamaConfig):
    model_type = "own"
"""
MODELLING = """
from transformers import LlamaForCausalLM
from .configuration_own import OwnConfig


class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig
"""
AUTO_MAP = {
    "AutoConfig": "configuration_own.OwnConfig",
    "AutoModelForCausalLM": "modeling_own.OwnForCausalLM",
}


def bring_code(folder: Path, **changed: object) -> Path:
    """Make a model that transformers cannot load without the code in its folder."""
    config = json.loads((folder / "config.json").read_text())
    own = {
        **config,
        "model_type": "own",
        "architectures": ["OwnForCausalLM"],
        "auto_map": AUTO_MAP,
        **changed,
    }
    (folder / "config.json").write_text(json.dumps(own))
    (folder / "configuration_own.py").write_text(CONFIGURATION)
    (folder / "modeling_own.py").write_text(MODELLING)
    return folder


@pytest.fixture
def own(tiny_model, tmp_path) -> Path:
    return bring_code(Path(shutil.copytree(tiny_model, tmp_path / "own")))


@pytest.fixture(autouse=True)
def nothing_permitted(monkeypatch):
    """Permissions of a test end with the test."""
    monkeypatch.setattr(model_code, "_permitted", set())


def test_a_hand_over_runs_the_code_that_the_recipe_permits(own, tmp_path):
    """Trainers get the option, train.py trains and saves, and a check of the result knows it."""
    permitted = {"folder": {"path": str(own), "trust_remote_code": True}}
    given = short_recipe(own, tmp_path / "text", f"model={json.dumps(permitted)}")
    runtime = Runtime(runs=tmp_path / "runs", store=tmp_path / "store", device="cpu")
    folder = tmp_path / "handed"
    written = hand_over(given, runtime, ENGINES["hf"], folder)
    for name, file, line in (
        ("axolotl", "axolotl.yaml", "trust_remote_code: true\n"),
        ("llama-factory", "llama_factory.yaml", "trust_remote_code: true\n"),
        ("megatron", "convert.py", 'from_hf_pretrained("model", trust_remote_code=True)'),
    ):
        assert line in ENGINES[name].configure(written, folder).files[file]
    with pytest.raises(RecipeError, match="takes a model's class from transformers; use --to hf"):
        ENGINES["torchtitan"].configure(written, folder)
    runpy.run_path(str(folder / "train.py"))
    model_code._permitted.clear()
    origin = Origin.find(folder)
    checked = check_folder(folder / "trained", origin, Runtime(tmp_path / "elsewhere"))
    checked.check()
    assert checked.weights.changed


def recipe(tmp_path: Path, model: object, hindi: Path) -> Path:
    """Write the recipe of a short run in two phases."""
    quick = {
        "bootstrap": {"resamples": 20},
        "heldout_bytes": 2000,
        "generation": GENERATION,
    }
    content = {
        "name": "run",
        "model": model,
        "target": {"language": "hi", "corpus": str(hindi)},
        "vocabulary": {"size": 20},
        "evaluation": quick,
        "training": {
            "phases": [{"strategy": "rows", "budget": {"steps": 2}}, {"budget": {"steps": 2}}]
        },
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps(content))
    return path


def test_code_that_no_recipe_permits_never_runs(own, hindi_file, tmp_path):
    """A model that needs its own code is refused in one line before any of the code runs."""
    seen = {**os.environ, "SHOW_THAT_CODE_RAN": str(tmp_path / "ran")}
    path = recipe(tmp_path, str(own), hindi_file)
    done = lingraft("adapt", path, cwd=tmp_path, environment=seen)
    assert done.returncode == 2
    assert "has its own code" in done.stderr
    assert "code: true" in done.stderr
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "runs" / "run").exists()


def test_a_permitted_model_is_adapted_with_its_code(own, hindi_file, hub_commands, tmp_path):
    """A run from a pinned commit on the Hub yields a model that loads with the same code.

    It is evaluated where no Hub answers.
    """
    place = tmp_path / "hub" / "models" / "me" / "own"
    place.parent.mkdir(parents=True)
    shutil.copytree(own, place)
    seen = {
        "home": tmp_path / "home",  # with the cache where transformers copies the code that it runs
        "cwd": tmp_path,
        "variables": {"SHOW_THAT_CODE_RAN": str(tmp_path / "ran")},
    }
    with hub_commands.serve(tmp_path / "hub") as hub:
        pinned = {"id": "me/own", "revision": hub.commit("models", "me/own")}
        path = recipe(tmp_path, {"hub": {**pinned, "trust_remote_code": True}}, hindi_file)
        done = hub_commands.ask("-m", "lingraft", "adapt", path, **seen)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "ran").exists()
    finished = tmp_path / "runs" / "run" / "model"
    assert (finished / "modeling_own.py").read_text() == MODELLING
    assert json.loads((finished / "config.json").read_text())["auto_map"] == AUTO_MAP
    assert "trust_remote_code=True" in (finished / "README.md").read_text()
    command = ["evaluate", finished, "--recipe", path, "--output", "out"]
    evaluated = hub_commands.ask("-m", "lingraft", *command, **seen)
    assert evaluated.returncode == 0, evaluated.stderr
    with pytest.raises(ModelError, match="has its own code"):
        parse_model(str(finished)).identity()


def test_one_changed_byte_of_code_is_other_code(own):
    """A permission holds for these files only: another or a changed file is refused."""
    model_code.permit(own)
    assert model_code.checked_trust_option(own) == {"trust_remote_code": True}
    with (own / "modeling_own.py").open("a") as file:
        file.write("\n")
    with pytest.raises(ModelError, match="has its own code"):
        model_code.checked_trust_option(own)


def test_code_of_a_branch_is_refused():
    """Code on the Hub runs for a commit only, because the code of a branch can change."""
    with pytest.raises(ValidationError, match="pinned revision only, got 'main'"):
        parse_model({"hub": {"id": "me/own", "trust_remote_code": True}})
    pinned = parse_model({"hub": {"id": "me/own", "revision": "a" * 40, "trust_remote_code": True}})
    assert pinned.chosen()["hub"]["trust_remote_code"]


def test_code_of_another_repository_is_refused(own):
    """A configuration with code in another repository is refused: no revision pins it."""
    bring_code(
        own,
        auto_map={
            "AutoConfig": "configuration_own.OwnConfig",
            "AutoModelForCausalLM": "else/where--modeling_own.OwnForCausalLM",
        },
    )
    with pytest.raises(ModelError, match="is in another repository"):
        parse_model({"folder": {"path": str(own), "trust_remote_code": True}}).identity()


def test_permission_for_code_that_is_not_there(tiny_model):
    """Permitting code of a model that has none is an error: no setting is ignored."""
    with pytest.raises(ModelError, match="has no code"):
        parse_model({"folder": {"path": str(tiny_model), "trust_remote_code": True}}).identity()


def test_a_model_that_transformers_knows_does_without_its_code(tiny_model, tmp_path):
    """Code that is not needed is left out: the folder loads with transformers' architecture."""
    folder = bring_code(
        Path(shutil.copytree(tiny_model, tmp_path / "known")),
        model_type="llama",
        architectures=["LlamaForCausalLM"],
    )
    base = parse_model(str(folder))
    base.identity()
    made = materialised(base, tmp_path)
    assert not list(made.glob("*.py"))
    assert "auto_map" not in json.loads((made / "config.json").read_text())
    assert loads(made) == loads(tiny_model)
