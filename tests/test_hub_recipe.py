"""The recipes whose model and text come from the Hub, each carried out as it is.

The real libraries of the Hub fetch stand-ins of the same layout from the loopback interface. The
tests change budgets and sizes only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lingraft.checkpoint.safetensors_files import Checkpoint
from lingraft.recipe import load_recipe
from lingraft.tokenizer import open_tokenizer
from tests.command_server import HubCommands
from tests.hub_server import HubServer
from tests.hub_stand_ins import DATA_SETS, MODELS, write_data_set, write_model

RECIPES = Path(__file__).resolve().parent.parent / "recipes"
OF_THE_HUB = sorted(path for path in RECIPES.glob("*.yaml") if "{hub: " in path.read_text("utf-8"))
TOKEN = "hf_a_token_that_nobody_may_see"
SMALL = [
    "vocabulary.size=20",
    "training.budget=2 steps",
    "training.batch_tokens=64",
    "training.heldout_points=0",
    "training.packing.block_size=32",
    "target.heldout_share=0.1",
    "replay.heldout_share=0.1",
    "evaluation={heldout_bytes: 200, bootstrap: {resamples: 20}, generation: null}",
]
PLAN_AND_ADAPT = """
import sys
from lingraft.cli import main
arguments = sys.argv[1:]
for command in (["plan"], ["adapt", "--json"]):
    sys.argv[1:] = [*command, *arguments]
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise
"""

PLAN_WITH_EMPTY_CACHE = """
from huggingface_hub import constants
from lingraft.cli import main
constants.HF_HUB_CACHE = "empty"
main()
"""


@pytest.fixture(scope="module")
def hub(hub_commands: HubCommands, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    """Serve a stand-in of every model and data set, at the commits that the recipes name."""
    root = tmp_path_factory.mktemp("hub")
    commits = {}
    for path in OF_THE_HUB:
        recipe = load_recipe(path)
        commits[recipe.model.id] = recipe.model.revision
        for text in (recipe.target, recipe.replay):
            commits.update({source.hub: source.revision for source in text.sources})
    for name in MODELS:
        write_model(name, root / "models" / name)
    for name in DATA_SETS:
        write_data_set(name, root / "datasets" / name)
    gated = {name for name, model in MODELS.items() if model.gated}
    with hub_commands.serve(root, gated=gated, token=TOKEN, commits=commits) as server:
        yield server


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.mark.parametrize("path", OF_THE_HUB, ids=lambda path: path.stem)
def test_a_recipe_of_the_hub_is_carried_out(
    path: Path, hub: HubServer, hub_commands: HubCommands, home: Path, tmp_path: Path
) -> None:
    """The plan names what is fetched; the run uses the named commits and records them.

    The result has the layout of the published model, and a token that it needs is in no output.
    """
    recipe = load_recipe(path)
    asked = len(hub.requests)
    small = [*SMALL, "training.strategy.lora.rank=4"] if recipe_trains_lora(path) else SMALL
    options = [part for setting in small for part in ("-o", setting)]
    variables = {"HF_TOKEN": TOKEN} if MODELS[recipe.model.id].gated else {}
    command = ["-c", PLAN_AND_ADAPT, path, "--device", "cpu", *options]
    done = hub_commands.ask(*command, home=home, cwd=tmp_path, variables=variables)
    assert done.returncode == 0, done.stderr
    plan, _, outcome = done.stdout.partition("\n{")
    requests = hub.requests[asked:]
    commits = {recipe.model.id: recipe.model.revision}
    for text in (recipe.target, recipe.replay):
        (source,) = text.sources
        commits[source.hub] = source.revision
        assert f"{source.hub}, {source.config}, {source.revision}" in plan
        assert re.search(rf"health of the first [\d,]+ documents of hf:{source.hub}/", plan)
    assert f"download: {recipe.model.id}@{recipe.model.revision}, " in plan
    run = tmp_path / json.loads("{" + outcome)["run"]
    assert run.name == recipe.run_name
    record = (run / "run.json").read_text(encoding="utf-8")
    for repository, commit in commits.items():
        assert any(repository in line and commit in line for line in requests)
        assert commit in record
    assert not any("/main" in line or "original/" in line for line in requests)
    assert not any(line.endswith((".bin", ".pth")) for line in requests)
    assert f"base_model: {recipe.model.id}" in (run / "model/README.md").read_text("utf-8")
    assert TOKEN not in done.stdout + done.stderr + record
    check_layout(hub.root / "models" / recipe.model.id, run / "model")


def recipe_trains_lora(path: Path) -> bool:
    return load_recipe(path).training.phases[0].strategy.name == "lora"


def check_layout(source: Path, result: Path) -> None:
    """The class, the data type, the names of tensors and what is tied are those of the source."""
    configs = [
        json.loads((folder / "config.json").read_text("utf-8")) for folder in (source, result)
    ]
    assert configs[0]["architectures"] == configs[1]["architectures"]
    before, after = Checkpoint.open(source), Checkpoint.open(result)
    assert before.tensors.keys() == after.tensors.keys()
    assert {tensor.dtype for tensor in before.tensors.values()} == {
        tensor.dtype for tensor in after.tensors.values()
    }
    assert open_tokenizer(result).size == open_tokenizer(source).size + 20
    for name in MODELS[f"{source.parent.name}/{source.name}"].files:
        if name.endswith(".json") and "/" not in name:
            assert (result / name).read_bytes() == (source / name).read_bytes()


def test_a_gated_model_without_a_token_is_named(
    hub: HubServer, hub_commands: HubCommands, home: Path, tmp_path: Path
) -> None:
    """The plan of a recipe on a gated model says in one line where to accept its conditions."""
    path = RECIPES / "llama-3.2-1b.yaml"
    command = ["-c", PLAN_WITH_EMPTY_CACHE, "plan", path]
    done = hub_commands.ask(*command, home=home, cwd=tmp_path)
    assert done.returncode == 2
    assert f"meta-llama/Llama-3.2-1B: access is restricted; accept the conditions on {hub.url}" in (
        done.stderr
    )
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("path", OF_THE_HUB, ids=lambda path: path.stem)
def test_the_language_of_a_recipe_is_an_option(path: Path) -> None:
    """Another language changes the configuration of the data set and the name of the run."""
    recipe, other = load_recipe(path), load_recipe(path, ["target.language=te"])
    assert recipe.target.sources[0].config in {"hin_Deva", "20231101.hi"}
    assert other.target.sources[0].config in {"tel_Telu", "20231101.te"}
    assert other.run_name == recipe.run_name.removesuffix("hi") + "te"
    assert other.target.sources[0].revision == recipe.target.sources[0].revision


@pytest.mark.parametrize("path", OF_THE_HUB, ids=lambda path: path.stem)
def test_a_recipe_of_the_hub_says_what_it_needs(path: Path) -> None:
    """Its comment has hardware and cost; model and texts are pinned and have their licences."""
    text = path.read_text(encoding="utf-8")
    comment = text.partition("\nname:")[0]
    assert "# Hardware: " in comment
    assert "# Cost: " in comment
    values: dict[str, Any] = yaml.safe_load(text)
    assert set(values["licences"]) == {"model", "target", "replay"}
    recipe = load_recipe(path)
    for revision in (recipe.model.revision, *(s.revision for s in recipe.target.sources)):
        assert len(revision) == 40
