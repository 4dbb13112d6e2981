"""PEFT adapters: base and adapter compute what the merged model of the run computes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml

from lingraft.checkpoint import resize_embeddings
from lingraft.checkpoint.model_class import auto_class
from lingraft.embeddings import INITS
from lingraft.errors import ModelError, StoreError, TokenizerError
from lingraft.export import export_peft
from lingraft.export.peft import check_shared_layers
from lingraft.export.trained_delta import TrainedDelta
from lingraft.tokenizer import open_tokenizer
from lingraft.training import Execution, TrainingPlan
from lingraft.training.phase_steps import TrainingText
from lingraft.training.train import train
from tests.architecture_sweep import build, random_model
from tests.conftest import ENGLISH, HINDI
from tests.models import ARCHITECTURES, extended_tokenizer
from tests.short_adapt import GENERATION
from tests.tiny_configs import tiny_config
from tests.tiny_recipes import quick_evaluation, report, text_of, tiny_recipe
from tests.training_cases import Killed, packed

peft = pytest.importorskip("peft")
pytestmark = [  # PEFT's own: an attribute of transformers 5, and ties that hold, as is tested here
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),
    pytest.mark.filterwarnings(
        "ignore:Model has .tie_word_embeddings=True. and a tied layer:UserWarning"
    ),
]

RATES = {"body": 1e-2, "added_rows": 1e-2}
LORA = {"strategy": {"lora": {"rank": 4, "alpha": 7}}, "budget": "4 steps", "learning_rates": RATES}
ROWS = {"strategy": "rows", "budget": "3 steps", "learning_rates": RATES}
EMBEDDINGS = {"strategy": "embeddings", "budget": "3 steps", "learning_rates": RATES}
FEW = {
    "strategy": {"lora": {"rank": 2, "target_modules": ["q_proj"], "rows": "frozen"}},
    "budget": "3 steps",
    "learning_rates": RATES,
}
WITHOUT_BIAS = sorted(set(ARCHITECTURES) - {"gpt-j", "phi"})


def run_of(kind: str, phases: list[dict[str, Any]], folder: Path, **settings: Any) -> Path:
    """Extend a small model, train it in these phases, and write a finished run of it."""
    base, run = ARCHITECTURES[kind].build(folder / "base"), folder / "run"
    splice = extended_tokenizer(base, folder / "tokenizer")
    mean = INITS.parse("mean")
    notes = {
        "embeddings": resize_embeddings(
            base,
            folder / "tokenizer",
            splice,
            input_init=mean,
            output_init=mean,
            output=folder / "grafted",
        )
    }
    plan = TrainingPlan.model_validate(
        {"phases": [{"batch_tokens": 64, **one} for one in phases], "heldout_points": 0, **settings}
    )
    if phases:
        text = TrainingText.of(packed(folder / "grafted", folder / "packed", (*HINDI, *ENGLISH)))
        notes["training"] = train(
            folder / "grafted",
            text,
            plan,
            output=run,
            scratch_dir=folder / "work",
            added=[token.id for token in splice.added],
            execution=Execution(device="cpu"),
        )
        for file in (folder / "tokenizer").iterdir():
            shutil.copy(file, run / "model")
    else:
        shutil.copytree(folder / "grafted", run / "model")
    (run / "splice.json").write_text(splice.dumps(), encoding="utf-8")
    recipe = {
        "model": {"folder": {"path": str(base)}},
        "target": {"language": "hi", "corpus": []},
        "training": plan.model_dump(mode="json"),
        "chat_vector": None,
    }
    record = {
        "name": "small",
        "language": "hi",
        "recipe": recipe,
        "stages": [{"name": name, "notes": found} for name, found in notes.items()],
    }
    (run / "run.json").write_text(json.dumps(record), encoding="utf-8")
    return run


def changed(run: Path, **values: Any) -> None:
    """Change the recipe of a run."""
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "recipe": {**record["recipe"], **values}}))


def loaded(folder: Path, adapter: Path, rows: int) -> Any:
    """Load an adapter as its README says."""
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(folder / "base")
    base.resize_token_embeddings(rows, mean_resizing=False)
    return peft.PeftModel.from_pretrained(base, adapter).eval()


@torch.no_grad()
def check_equal(folder: Path, adapter: Path, rows: int) -> None:
    """Compare the logits of the run with those of base and adapter, separate and merged."""
    from transformers import AutoModelForCausalLM

    ids = torch.arange(rows)[: rows // 8 * 8].view(8, -1)
    ids = torch.cat([ids, ids.flip(0)], dim=1)[:, :60]
    wanted = AutoModelForCausalLM.from_pretrained(folder / "run" / "model").eval()(ids).logits
    model = loaded(folder, adapter, rows)
    torch.testing.assert_close(model(ids).logits, wanted, rtol=1e-4, atol=2e-5)
    merged = model.merge_and_unload()
    torch.testing.assert_close(merged(ids).logits, wanted, rtol=1e-4, atol=2e-5)
    source = AutoModelForCausalLM.from_pretrained(folder / "base").eval()(ids.clamp(max=319)).logits
    assert (source[:, :, :320] - wanted[:, :, :320]).abs().max() > 1e-3


@pytest.mark.parametrize("kind", WITHOUT_BIAS)
def test_base_and_adapter_compute_what_the_run_does(kind, tmp_path):
    """Logits equal those of the merged model, tied or untied, with or without padding rows."""
    run = run_of(kind, [LORA], tmp_path)
    done = export_peft(run, tmp_path / "adapter")
    check_equal(tmp_path, done.path, done.rows)
    assert (done.rank, done.base) == (4, str(tmp_path / "base"))
    assert done.rows_stored < done.rows / 2
    tokenizer = open_tokenizer(done.path)
    assert tokenizer.encode(HINDI) == open_tokenizer(run / "model").encode(HINDI)


PER_LAYER = {"gemma3n_text": {"vocab_size_per_layer_input": 280}, "gemma4_text": {}}


@pytest.mark.parametrize(("kind", "plan"), [("gemma3n_text", LORA), ("gemma4_text", ROWS)])
def test_rows_of_embeddings_for_all_layers_are_exported(kind, plan, tmp_path, monkeypatch):
    """New ids have rows there too, and ids that the base's table lacks read what they read."""
    base = SimpleNamespace(build=lambda folder: build(kind, folder, **PER_LAYER[kind]))
    monkeypatch.setitem(ARCHITECTURES, kind, base)
    run_of(kind, [plan], tmp_path)
    done = export_peft(tmp_path / "run", tmp_path / "adapter")
    check_equal(tmp_path, done.path, done.rows)


def test_a_table_that_a_resized_base_lacks_rows_of_is_refused(tmp_path, monkeypatch):
    """DeepSeek-V4 routes by id: transformers does not extend its table of experts."""
    base = SimpleNamespace(build=lambda folder: build("deepseek_v4", folder))
    monkeypatch.setitem(ARCHITECTURES, "deepseek_v4", base)
    run = run_of("deepseek_v4", [], tmp_path)
    with pytest.raises(ModelError, match=r"tid2eid has a row for each id, .*whole model"):
        export_peft(run, tmp_path / "adapter")


PLANS = {
    "untrained": ([], {}),
    "rows": ([ROWS], {}),
    "embeddings": ([EMBEDDINGS], {}),
    "embeddings, lora": ([EMBEDDINGS, LORA], {}),
    "lora, rows, lora": ([LORA, ROWS, FEW], {}),
    "merged back": ([LORA], {"merge_back": [0.25]}),
}


@pytest.mark.parametrize("kind", ["llama", "llama-tied"])
@pytest.mark.parametrize("name", PLANS)
def test_every_plan_that_leaves_an_adapter(name, kind, tmp_path):
    """Added rows, all embeddings, several phases and merging back are exported."""
    phases, settings = PLANS[name]
    run_of(kind, phases, tmp_path, **settings)
    done = export_peft(tmp_path / "run", tmp_path / "adapter")
    check_equal(tmp_path, done.path, done.rows)
    assert (done.rows_stored == done.rows) == ("embeddings" in name)


REFUSED = {
    "full": (
        {"strategy": "full", "budget": "2 steps"},
        r"training\.phases\.1: the strategy full",
    ),
    "differential": (
        {"strategy": "differential", "budget": "2 steps"},
        "strategy differential.* trains full weights",
    ),
    "layers": (
        {"strategy": {"layers": {"layers_per_end": 1}}, "budget": "2 steps"},
        "strategy layers",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_changed_weights_are_no_adapter(name, tmp_path):
    """A phase that trained full weights is named, and no file is left."""
    phase, words = REFUSED[name]
    run = run_of("llama", [LORA, phase], tmp_path)
    with pytest.raises(ModelError, match=words):
        export_peft(run, tmp_path / "adapter")
    assert not list(tmp_path.glob("*adapter*"))


def test_what_else_is_no_adapter(tmp_path):
    """Chat vectors, renumbering, head biases, missing matrices and full folders are refused."""
    run, folder = run_of("llama", [LORA], tmp_path), tmp_path / "adapter"
    changed(run, chat_vector={"weight": 1.0})
    with pytest.raises(ModelError, match="a chat vector changed all weights"):
        export_peft(run, folder)
    changed(run, chat_vector=None)
    splice = (run / "splice.json").read_text()
    (run / "splice.json").write_text(splice.replace("[[0, 0, 320]]", "[[0, 1, 319], [319, 0, 1]]"))
    with pytest.raises(ModelError, match=r"renumbered \(id 0 was 1 in the base\)"):
        export_peft(run, folder)
    for damaged, said in (("{}", "damaged"), (None, "missing")):
        (run / "splice.json").unlink()
        if damaged:
            (run / "splice.json").write_text(damaged)
        with pytest.raises(StoreError, match=rf"splice.json: {said}"):
            export_peft(run, folder)
        (run / "splice.json").write_text(splice)
    (run / "model" / "tokenizer.json").rename(tmp_path / "tokenizer.json")
    with pytest.raises(TokenizerError, match=r"tokenizer\.json"):
        export_peft(run, folder)
    (tmp_path / "tokenizer.json").rename(run / "model" / "tokenizer.json")
    assert not folder.exists()
    (run / "low-rank-0.safetensors").unlink()
    with pytest.raises(ModelError, match="did not store the low-rank matrices"):
        export_peft(run, folder)
    folder.mkdir()
    # The output of a trainer of adapters is not replaced either.
    for name in ("mine.txt", "adapter_config.json"):
        (folder / name).write_text("mine")
        with pytest.raises(ModelError, match="is not an adapter of lingraft"):
            export_peft(run, folder)
    assert (folder / "mine.txt").read_text() == "mine"
    with pytest.raises(StoreError, match="not a finished run"):
        export_peft(run / "model", tmp_path / "other")
    with pytest.raises(ModelError, match="head has a bias for each id"):
        export_peft(run_of("phi", [], tmp_path / "phi"), tmp_path / "other")


def test_matrices_of_a_shared_weight_are_no_adapter(tmp_path):
    """PEFT would merge the matrices of Zamba's shared layers once for each use."""
    config = tiny_config("zamba")
    model = random_model(auto_class(config), config)
    name = next(name for name, _ in model.named_modules() if name.endswith("q_proj"))
    matrices = torch.zeros(1, 64), torch.zeros(64, 1)
    delta = TrainedDelta({name: matrices}, 320, (), torch.zeros(0, 32), None)
    with pytest.raises(ModelError, match=r"shares the weight of .*use the whole model"):
        check_shared_layers(delta, model, tmp_path)


def test_an_adapter_is_written_whole_and_again(tmp_path):
    """A second export replaces the first, byte by byte equal, and leaves no other file."""
    run = run_of("gpt2", [LORA], tmp_path)
    before = {
        path.name: path.read_bytes()
        for path in export_peft(run, tmp_path / "out" / "adapter").path.iterdir()
    }
    after = {
        path.name: path.read_bytes()
        for path in export_peft(run, tmp_path / "out" / "adapter").path.iterdir()
    }
    assert before == after
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["adapter"]
    assert {
        "adapter_config.json",
        "adapter_model.safetensors",
        "README.md",
        "tokenizer.json",
    } <= after.keys()
    told = after["README.md"].decode()
    assert f'from_pretrained("{tmp_path / "base"}")' in told
    assert "resize_token_embeddings(384, mean_resizing=False)" in told


@pytest.mark.parametrize(
    ("language", "found"), [("no", ["no"]), ("pt-BR", ["pt"]), ("domain:law", None)]
)
def test_the_hub_reads_the_language_of_an_adapter(language, found, tmp_path):
    """Norwegian is not read as False; a region or a domain is no language of the Hub."""
    run = run_of("llama", [LORA], tmp_path)
    changed(run, target={"language": language, "corpus": []})
    readme = (export_peft(run, tmp_path / "adapter").path / "README.md").read_text()
    head = yaml.safe_load(readme.split("---")[1])
    assert head.get("language") == found
    assert head["library_name"] == "peft"


def test_the_readme_of_an_adapter_loads_the_base_with_its_class(tmp_path):
    """PEFT finds the layers of a multimodal base in the whole model only."""
    run = run_of("llama", [ROWS], tmp_path)
    record = (run / "run.json").read_text(encoding="utf-8")
    for name in ("AutoModelForCausalLM", "AutoModelForImageTextToText"):
        told = record.replace("AutoModelForCausalLM", name)
        (run / "run.json").write_text(told, encoding="utf-8")
        readme = (export_peft(run, tmp_path / "adapter").path / "README.md").read_text()
        assert f"from transformers import {name}, AutoTokenizer" in readme
        assert f"base = {name}.from_pretrained(" in readme


def test_matrices_outlive_a_killed_process_and_a_trunk(tiny_model, tmp_path):
    """Matrices of a phase survive a kill in a later phase, and a shared prefix keeps them."""
    text = TrainingText.of(packed(tiny_model, tmp_path / "packed", HINDI))

    def trained(name: str, steps: int, stop: int | None = None) -> Path:
        def measure(_model: Any) -> dict[str, float]:
            seen.append(1)
            if stop is not None and len(seen) > stop:
                raise Killed
            return {"hi": 1.0}

        seen: list[int] = []
        last = {**ROWS, "budget": f"{steps} steps", "schedule": {"constant": {"warmup": 1}}}
        plan = TrainingPlan.model_validate(
            {
                "phases": [{"batch_tokens": 64, **one} for one in (LORA, last)],
                "heldout_points": 1000,
            }
        )
        train(
            tiny_model,
            text,
            plan,
            output=tmp_path / name / "output",
            scratch_dir=tmp_path / name / "work",
            added=(300, 311),
            execution=Execution(device="cpu", checkpoint_steps=1),
            heldout=measure,
            prefix_dir=tmp_path / ("trunks" if name != "alone" else "none"),
        )
        return tmp_path / name / "output" / "low-rank-0.safetensors"

    wanted = trained("alone", 6).read_bytes()
    with pytest.raises(Killed):
        trained("killed", 6, stop=7)
    assert trained("killed", 6).read_bytes() == wanted
    assert trained("longer", 8).read_bytes() == wanted
    assert (tmp_path / "trunks").is_dir()


def test_the_command_writes_what_a_run_kept(tiny_model, hindi_file, tmp_path):
    """A run with LoRA keeps its matrices, and the command exports the adapter."""
    from typer.testing import CliRunner

    from lingraft.cli import app
    from lingraft.errors import RecipeError
    from lingraft.pipeline import run
    from lingraft.recipe import Runtime, parse_recipe
    from lingraft.recipe.tree import Tree

    (tmp_path / "base").symlink_to(tiny_model)
    values = tiny_recipe(
        tmp_path / "base",
        name="run",
        target=text_of("hi", hindi_file),
        training={**LORA, "batch_tokens": 128, "heldout_points": 0},
        evaluation=quick_evaluation(500, generation=GENERATION),
    )
    done = run(
        parse_recipe(Tree(values)),
        Runtime(runs=tmp_path, store=tmp_path / "store", device="cpu"),
        write_report=report,
    )
    assert (done.folder / "low-rank-0.safetensors").is_file()
    asked = ["export", str(done.folder), "--peft", str(tmp_path / "adapter")]
    answer = CliRunner().invoke(app, [*asked, "--json"], catch_exceptions=False)
    check_equal(tmp_path, tmp_path / "adapter", json.loads(answer.stdout)["rows"])
    for wrong in (asked[:2], [*asked, "--gguf", "x.gguf"], [*asked, "--numbers", "f16"]):
        assert isinstance(CliRunner().invoke(app, wrong).exception, RecipeError)
