"""Runs: what is done, what is not done twice, what is left behind, and what a run folder holds."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from itertools import count

import pytest
import torch
from safetensors.torch import load_file

from lingraft import formatting
from lingraft.corpus import Corpus
from lingraft.errors import LingraftError, RecipeError, StoreError
from lingraft.evaluation.score_model import HeldoutMeasure
from lingraft.evaluation.tasks import auto_tasks
from lingraft.measurement import read_measurements
from lingraft.pipeline import (
    Run,
    before_after,
    build_graph,
    describe_run,
    load_run,
    plan,
    plan_table,
    run,
    summary,
    unused_settings,
)
from lingraft.pipeline.model_shape import Shape, model_of
from lingraft.pipeline.plan_table import PlanRow
from lingraft.pipeline.run_folder import new_run_folder, write_record
from lingraft.pipeline.stage_node import StageNode, versioned_stage
from lingraft.pipeline.training_builders import curve_digest
from lingraft.recipe import Recipe, Runtime, load_recipe, parse_recipe
from lingraft.recipe.old_names import names_of_0_1
from lingraft.recipe.overrides import override
from lingraft.recipe.tree import Tree
from lingraft.splice import Splice
from lingraft.store import Manifest, Store, file_digest
from lingraft.strategies import Lora
from lingraft.studies.noted_measurements import noted_measurements
from lingraft.tokenizer import open_tokenizer
from lingraft.training.execution import Execution
from lingraft.training.launch import Launch
from tests.short_adapt import GENERATION
from tests.tiny_recipes import quick_evaluation, quick_training, report, text_of, tiny_recipe

MEASURED = ["scoring", "scoring", "scoring", "evaluation"]
EXTENDED = ["source-check", "vocabulary", "embeddings", "result-check"]
STAGES = [
    "source",
    "corpus",
    "corpus",
    *EXTENDED,
    "prediction",
    "packing",
    "packing",
    "training",
    "result-check",
    *MEASURED,
]
TRAINED = ["training", "result-check", "scoring", "evaluation"]
SPLICED = [
    "embeddings",
    "result-check",
    "training",
    "result-check",
    "scoring",
    "scoring",
    "evaluation",
]


@pytest.fixture
def recipe_values(tiny_model, hindi_file, english_file) -> dict:
    return tiny_recipe(
        tiny_model,
        name="tiny-{language}",
        target=text_of("hi", hindi_file),
        replay=text_of("en", english_file),
        training=quick_training(6),
        evaluation=quick_evaluation(1000, generation=GENERATION),
    )


def read(values: dict, *overrides: str) -> Recipe:
    return parse_recipe(override(Tree(values), overrides))


def carry_out(recipe: Recipe, runtime: Runtime) -> tuple[Run, list[str]]:
    """Run a recipe; return the run and the names of the stages that were made."""
    finished = run(recipe, runtime, write_report=report)
    return finished, [stage["name"] for stage in finished.record["stages"] if not stage["cached"]]


def test_a_run_leaves_everything_and_a_second_one_does_nothing(recipe_values, here):
    """The run folder is complete and its model loads; the same recipe again changes nothing."""
    recipe = read(recipe_values)
    finished, made = carry_out(recipe, here)
    assert made == STAGES
    names = {path.name for path in finished.folder.iterdir()}
    assert names == {
        "run.json",
        "recipe.yaml",
        "model",
        "measurements.parquet",
        "measurements.csv",
        "training.jsonl",
        "splice.json",
        "certificate.json",
        "samples.json",
        "curve.json",
        "pretokenizer.json",
        "generated.json",
        "added_tokens.parquet",
        "prediction.json",
        "report.html",
    }
    check_record(finished)
    check_model(finished)
    check_reading(finished, recipe)
    before = {path: path.stat().st_mtime_ns for path in finished.folder.rglob("*")}
    lines: list[str] = []
    run(recipe, here, write_report=report, log=lines.append)
    assert len(lines) == 1
    assert "nothing to do" in lines[0]
    assert {path: path.stat().st_mtime_ns for path in finished.folder.rglob("*")} == before
    assert load_recipe(finished.folder / "recipe.yaml") == recipe


def check_record(finished: Run) -> None:
    record = finished.record
    assert (record["name"], record["language"], record["replay_language"]) == (
        "tiny-hi",
        "hi",
        "en",
    )
    assert [stage["name"] for stage in record["stages"]] == STAGES
    assert set(record["versions"]) == {"lingraft", "python", "torch", "transformers", "tokenizers"}
    subjects = {
        (row.subject, row.language)
        for row in finished.measurements
        if row.metric == "bits per byte"
    }
    assert subjects == {
        (s, language) for s in ("source", "spliced", "adapted") for language in ("hi", "en")
    }
    table = before_after(finished)
    assert (
        table.row_count == 7
    )  # tokens per word, bits per byte and speed in two languages; English cut as before
    json.dumps(summary(finished))


def check_model(finished: Run) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    text = "एक छोटी चिड़िया sings"
    ids = AutoTokenizer.from_pretrained(finished.model_path)(text, add_special_tokens=False)[
        "input_ids"
    ]
    assert ids == open_tokenizer(finished.model_path).encode([text])[0]
    assert max(ids) >= 320
    model = AutoModelForCausalLM.from_pretrained(finished.model_path)
    assert model.get_input_embeddings().weight.shape[0] >= 340
    assert not (finished.model_path / "manifest.json").exists()


def check_reading(finished: Run, recipe: Recipe) -> None:
    """`load_run` gives what the files say, also where they have the names of 0.1."""
    loaded = load_run(finished.folder)
    assert loaded == finished
    assert loaded.recipe == recipe
    frame = loaded.measurements.to_pandas()
    assert len(frame) == len(read_measurements(finished.folder / "measurements.parquet"))
    assert "compared with source" in str(loaded.measurements)
    assert "Hindi" in loaded.summary
    certificate = json.loads((finished.folder / "certificate.json").read_text(encoding="utf-8"))
    assert [claim.as_json["holds"] for claim in loaded.certificate.claims] == [
        claim["holds"] for claim in certificate["claims"]
    ]
    assert {entry.language for entry in loaded.prediction} >= {"hi"}
    assert list(loaded.warnings) == finished.record["warnings"]
    assert loaded.notes["vocabulary"]["added"] > 0
    model, tokenizer = loaded.load()
    assert not model.training
    assert len(tokenizer) <= model.get_input_embeddings().weight.shape[0]
    path = finished.folder / "run.json"
    now = path.read_text(encoding="utf-8")
    path.write_text(json.dumps(names_of_0_1(json.loads(now))), encoding="utf-8")
    assert loaded.recipe == recipe
    path.write_text(now, encoding="utf-8")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such folder"),
        ("", "not a finished run"),
        ('{"format": 1, "made by": "lingraft extend"}', "made by `lingraft extend`, not a run"),
    ],
)
def test_a_folder_that_is_no_run_is_one_line(tmp_path, content, message):
    """A missing, unfinished or other folder is refused by `load_run` with what to do."""
    folder = tmp_path / "run"
    if content is not None:
        folder.mkdir()
        (folder / "run.json").write_text(content, encoding="utf-8")
    with pytest.raises(StoreError, match=message) as raised:
        load_run(folder)
    assert "\n" not in str(raised.value)


CHANGED = {
    "training.learning_rates=1e-3": TRAINED,
    "training.budget=7 steps": TRAINED,
    "embeddings.input=random": SPLICED,
    "replay.share=0.3": TRAINED,
    # Not the training, although its held-out curve scores the same text.
    "evaluation.heldout_bytes=500": ["prediction", *MEASURED],
    "evaluation.bootstrap.resamples=30": ["evaluation"],
    "evaluation.generation.timed_repeats=3": ["evaluation"],
    "training.packing.block_size=32": ["packing", "packing", *TRAINED],
    "vocabulary.size=10": [
        "vocabulary",
        "embeddings",
        "result-check",
        "prediction",
        "packing",
        "packing",
        "training",
        "result-check",
        "scoring",
        "scoring",
        "evaluation",
    ],
    "target.heldout_share=0.2": [
        "corpus",
        *EXTENDED,
        "prediction",
        "packing",
        "packing",
        "training",
        "result-check",
        *MEASURED,
    ],
    "seed=1": SPLICED,
    "name=other": [],
}


@pytest.mark.parametrize("change", CHANGED)
def test_a_changed_setting_redoes_what_depends_on_it(recipe_values, here, change):
    """The keys that change with a setting are exactly those of the stages that depend on it."""
    del here
    before, after = (build_graph(read(recipe_values, *overrides)) for overrides in ([], [change]))
    changed = [
        new.stage.name
        for old, new in zip(before, after, strict=True)
        if old.stage.key != new.stage.key
    ]
    assert changed == CHANGED[change]


def test_a_prefix_belongs_to_one_held_out_curve(recipe_values):
    """Runs that measure other documents, or measure them otherwise, share no first steps.

    A run that chooses among shares of `merge_back` reports on half of the held-out documents.
    """
    same = (
        "training.budget=12 steps",
        "training.merge_back=[0.1]",
        "evaluation.bootstrap.resamples=50",
    )
    other = ("training.merge_back=[0.1, 0.5]", "evaluation.heldout_bytes=500")
    own = curve_digest(read(recipe_values))
    assert {curve_digest(read(recipe_values, change)) for change in same} == {own}
    assert own not in {curve_digest(read(recipe_values, change)) for change in other}


def test_a_stopped_training_does_not_mix_two_evaluations(recipe_values, here, monkeypatch):
    """If the evaluation changes while a run is stopped, its curve begins there, with a warning."""
    recipe_values["training"]["heldout_points"] = 6
    measure, calls = HeldoutMeasure.__call__, count()

    def failing(self, model):
        if next(calls) == 4:
            raise ArithmeticError
        return measure(self, model)

    monkeypatch.setattr(HeldoutMeasure, "__call__", failing)
    saving = replace(here, checkpoint_seconds=1e-9)
    with pytest.raises(ArithmeticError):
        carry_out(read(recipe_values), saving)
    finished, _ = carry_out(read(recipe_values, "evaluation.heldout_bytes=500"), saving)
    log = map(json.loads, (finished.folder / "training.jsonl").read_text().splitlines())
    assert [record["step"] for record in log if "heldout" in record] == [3, 4, 5, 6]
    assert [
        line for line in finished.record["warnings"] if "held-out curve begins at step 3" in line
    ]


def test_only_what_changed_is_made_again(recipe_values, here):
    """A second run with another rate trains and scores again; all else is cached."""
    first, _ = carry_out(read(recipe_values), here)
    weights = file_digest(first.model_path / "model.safetensors")
    second, made = carry_out(read(recipe_values, "training.learning_rates=1e-2"), here)
    assert made == TRAINED
    assert second.folder == first.folder
    assert file_digest(second.model_path / "model.safetensors") != weights
    third, made = carry_out(read(recipe_values), here)
    assert made == []
    assert file_digest(third.model_path / "model.safetensors") == weights


def test_other_shares_of_earlier_weights_do_not_train_again(recipe_values, here):
    """They are mixed into the stored model, with added rows as trained."""
    trained, _ = carry_out(read(recipe_values), here)
    recipe = read(recipe_values, "training.merge_back=[0.25]")
    merged, made = carry_out(recipe, here)
    assert made[0] == "merge-back"
    assert "training" not in made
    graph = build_graph(recipe)
    folders = [Store(here.store).folder(node.stage) for node in (graph.embeddings, graph.training)]
    before, after = (load_file(folder / "model" / "model.safetensors") for folder in folders)
    added = [token.id for token in Splice.read(merged.folder).added]
    for name, weights in load_file(merged.model_path / "model.safetensors").items():
        expected = after[name].lerp(before[name], 0.25)
        if "embed_tokens" in name or "lm_head" in name:
            expected[added] = after[name][added]
        assert torch.equal(weights, expected), name
    chosen, made = carry_out(read(recipe_values, "training.merge_back=[0.0, 1.0]"), here)
    assert "merge-back" in made
    assert "training" not in made
    notes = chosen.notes["merged model"]
    tried = {one["share"]: sum(one["heldout"].values()) for one in notes["tried"]}
    assert set(tried) == {0.0, 1.0}
    assert notes["share"] == min(tried, key=tried.get)
    whole = file_digest(chosen.model_path / "model.safetensors")
    assert (whole == file_digest(trained.model_path / "model.safetensors")) == (not notes["share"])


def test_another_evaluation_does_not_train_again(recipe_values, here):
    """With other scoring settings only the scores are made again, and the old curve is named."""
    carry_out(read(recipe_values, "evaluation.context=32"), here)
    finished, made = carry_out(read(recipe_values, "evaluation.context=16"), here)
    assert "training" not in made
    assert made[-1] == "evaluation"
    (line,) = [line for line in finished.record["warnings"] if "curve" in line]
    assert "evaluation.context 32 (now 16)" in line
    again, _ = carry_out(read(recipe_values, "evaluation.context=32"), here)
    assert not [line for line in again.record["warnings"] if "curve" in line]
    half = ("evaluation.context=32", "evaluation.heldout_part=reported")
    finished, made = carry_out(read(recipe_values, *half), here)
    assert "training" not in made
    (line,) = [line for line in finished.record["warnings"] if "curve" in line]
    assert "evaluation.heldout_part all (now reported)" in line


def test_the_plan_names_every_stage_and_what_is_cached(recipe_values, here):
    """Before a run, the plan has every stage with its size; after it, all is cached, exactly."""
    recipe = read(recipe_values)
    rows = plan(recipe, here)
    assert [row.cached for row in rows] == [False] * len(STAGES)
    by_title = {row.title: row for row in rows}
    assert by_title["source model"].amounts == {"tokens": 320, "parameters": 39_072}
    assert by_title["vocabulary"].amounts["tokens"] == 20
    assert by_title["embeddings"].amounts["rows"] == 384
    assert by_title["training"].flops is not None
    assert all(row.seconds for row in rows)
    carry_out(recipe, here)
    rows = plan(recipe, here)
    assert all(row.cached and row.seconds == 0 for row in rows)
    assert plan_table(rows).row_count == len(rows)
    json.dumps([row.as_json() for row in rows])


def test_a_run_notes_what_a_token_costs(recipe_values, here):
    """A study compares it: an input embedding that is not the head is looked up."""
    finished, _ = carry_out(read(recipe_values), here)
    values = {(one.metric, one.subject): one.value for one in noted_measurements(finished.record)}
    for subject, rows in (("source", 320), ("spliced", 384)):
        parameters = values["parameters", subject]
        assert values["parameters per token", subject] == parameters - rows * 32


def test_a_plan_for_another_machine_leaves_the_times_of_its_device_open(recipe_values, here):
    """A device that this machine lacks cannot be measured here: its times are unknown."""
    rows = plan(read(recipe_values), replace(here, device="cuda:99"))
    assert rows[0].seconds is not None
    assert all(row.seconds is None for row in rows if row.flops is not None)


def test_the_plan_counts_in_the_data_type_and_on_the_devices_of_the_training(
    recipe_values, here, monkeypatch
):
    """A GPU trains in bfloat16 unless told otherwise, and several processes share the training."""
    speeds = {"bfloat16": 1e15, "float32": 1e14}

    def speed(_device, dtype="float32", **_):
        return speeds[dtype]

    def computes_in_bfloat16(execution):
        return execution.precision == "auto"

    # As on a machine with a GPU.
    monkeypatch.setattr("lingraft.recipe.runtime.check_available", lambda _: None)
    monkeypatch.setattr(Execution, "computes_in_bfloat16", computes_in_bfloat16)
    monkeypatch.setattr(Execution, "allows_tf32", lambda _: False)
    monkeypatch.setattr("lingraft.pipeline.planner.flops_per_second", speed)
    monkeypatch.setattr("lingraft.pipeline.planner.writing_seconds", lambda *_: 0.0)
    monkeypatch.setattr("lingraft.pipeline.planned_memory.available_memory", lambda _: 80e9)

    def seconds(**runtime):
        rows = plan(read(recipe_values), replace(here, device="cuda", **runtime))
        return {row.title: row.seconds for row in rows if row.flops}

    half, whole = seconds(), seconds(precision="float32")
    shared = seconds(launch=Launch(0, 8))
    assert whole["training"] == pytest.approx(10 * half["training"])
    assert shared["training"] == pytest.approx(half["training"] / 8)
    # The model is stored, and so scored, in float32.
    assert whole["scoring source"] == half["scoring source"] == shared["scoring source"]


@pytest.mark.parametrize(
    ("strategy", "trained"), [("full", 1), ("layers", 1), ("embeddings", 0), ("rows", 0)]
)
def test_the_plan_counts_no_gradients_of_frozen_weights(
    recipe_values, here, monkeypatch, strategy, trained
):
    """A frozen weight takes 4 FLOPs a token instead of 6, and 4 bytes instead of 16."""
    monkeypatch.setattr("lingraft.training.optimizer_memory.NOTED_MEMORY", 0)

    def training(*overrides):
        rows = {row.title: row for row in plan(read(recipe_values, *overrides), here)}
        return rows["training"]

    chosen = {"layers": {"layers_per_end": 1}}  # both layers of the model
    settings = json.dumps({strategy: chosen.get(strategy, {})})
    measured = "training.heldout_points=0"
    row, all_of_it = (training(measured, f"training.strategy={one}") for one in (settings, "full"))
    tokens, body = row.amounts["tokens"], 39_072 - 2 * 320 * 32
    assert all_of_it.flops - row.flops == 2 * tokens * body * (1 - trained)
    frozen = body * (1 - trained)
    if strategy == "rows":
        frozen += 2 * (384 - 20) * 32
    size = 16 * 43_168 - 12 * frozen
    assert any(f"at most {formatting.size(size)} for weights" in line for line in row.notes)


def test_the_plan_counts_low_rank_matrices(recipe_values, here, monkeypatch):
    """Their numbers train like any others: 16 bytes each, and 6 FLOPs for a token."""
    monkeypatch.setattr("lingraft.training.optimizer_memory.NOTED_MEMORY", 0)

    def training(strategy):
        overrides = (f"training.strategy={json.dumps(strategy)}", "training.heldout_points=0")
        rows = {row.title: row for row in plan(read(recipe_values, *overrides), here)}
        return rows["training"]

    frozen, adapted = training({"rows": {}}), training({"lora": {"rank": 4}})
    model = model_of(read(recipe_values).model.config())
    (group,) = Lora(rank=4).prepare(model, [])
    matrices = sum(one.numel() for one in group.parameters.values())
    assert adapted.flops - frozen.flops == 6 * adapted.amounts["tokens"] * matrices
    size = 4 * 43_168 + 12 * 2 * 20 * 32 + 16 * matrices
    assert any(f"at most {formatting.size(size)} for weights" in line for line in adapted.notes)


def test_the_plan_recomputes_activations_where_the_training_does(recipe_values, here, monkeypatch):
    """Both estimate the same memory of a step, and say the same about it."""
    recipe = read(recipe_values)
    before = {row.title: row for row in plan(recipe, here)}["training"]
    for module in ("lingraft.pipeline.planned_memory", "lingraft.training.phase_setup"):
        # As on a GPU of 2 MB.
        monkeypatch.setattr(f"{module}.available_memory", lambda _: 2e6)
    planned = {row.title: row for row in plan(recipe, here)}["training"]
    (line,) = set(planned.notes) - set(before.notes)
    assert planned.seconds > before.seconds
    carry_out(recipe, here)
    training = Store(here.store).folder(build_graph(recipe).training.stage)
    assert Manifest.read(training).notes["recompute"] == line
    chosen = {row.title: row for row in plan(recipe, replace(here, recompute=False))}["training"]
    assert line not in chosen.notes


def test_the_plan_scores_no_more_text_than_is_held_out(recipe_values, here):
    """Of little text, the held-out part is less than `evaluation.heldout_bytes`."""

    def scored(*overrides):
        rows = {row.title: row for row in plan(read(recipe_values, *overrides), here)}
        return rows["scoring source"].amounts["bytes"]

    assert scored("evaluation.heldout_bytes=400") == 800
    much = "evaluation.heldout_bytes=10 MB"
    estimated = scored(much)
    carry_out(read(recipe_values), here)
    store = Store(here.store)
    graph = build_graph(read(recipe_values))
    held = 0
    for node in (*graph.targets, graph.replay):
        held += Corpus.open(store.folder(node.stage)).counts("heldout").bytes
    assert scored(much) == held == pytest.approx(estimated, rel=0.6)


def test_the_sum_of_a_plan_is_a_lower_bound_if_a_time_is_unknown():
    """A stage whose time is not known is not counted as none."""
    rows = [PlanRow("a", "key", cached=False, seconds=60.0)]
    assert plan_table(rows).columns[-1].footer == "1 min 0 s"
    rows.append(PlanRow("b", "key", cached=False, seconds=None))
    assert plan_table(rows).columns[-1].footer == "at least 1 min 0 s"


def test_the_plan_counts_the_tokens_that_models_write(recipe_values, here, monkeypatch):
    """Writing takes a step for each token, and the source has the most tokens of the new text."""
    monkeypatch.setattr("lingraft.pipeline.planner.writing_seconds", lambda *_: 1e6)

    def steps(*overrides):
        settings = {"generation": GENERATION, "in_context": None}
        written = [f"evaluation.{name}={json.dumps(value)}" for name, value in settings.items()]
        rows = plan(read(recipe_values, *written, *overrides), here)
        return {row.title: round(row.seconds / 1e6) for row in rows if row.seconds > 1e5}

    once = steps()
    assert set(once) == {"scoring source", "scoring spliced", "scoring adapted", "evaluation"}
    assert once["scoring source"] > once["scoring spliced"] == once["scoring adapted"] > 0
    twice = steps(
        f"evaluation.generation.sample_bytes={2 * GENERATION['sample_bytes']}",
        f"evaluation.generation.timed_repeats={2 * GENERATION['timed_repeats']}",
    )
    assert twice == {title: pytest.approx(2 * count, abs=1) for title, count in once.items()}
    assert not steps("evaluation.generation=null")


def test_the_plan_says_what_ways_against_forgetting_take(recipe_values, here, monkeypatch):
    """The model before training is in memory and reads replay text; branches take disk.

    Text that only serves to choose what is frozen is in no step.
    """
    monkeypatch.setattr("lingraft.training.optimizer_memory.NOTED_MEMORY", 0)

    def training(*overrides):
        rows = {row.title: row for row in plan(read(recipe_values, *overrides), here)}
        return rows["training"], "\n".join(rows["training"].notes)

    (plain, _), (compared, lines) = training(), training("training.replay_kl=1")
    # 30,880 weights are multiplied with a token, twice in a forward pass.
    replayed = (compared.flops - plain.flops) / 2 / 30_880
    assert replayed == pytest.approx(0.2 * plain.amounts["tokens"], rel=0.5)
    assert "(optimizer adamw), and 173 kB for the model before training (replay_kl)" in lines
    _, lines = training("training.branch_and_merge={}", "training.budget=200 steps")
    assert "200 steps of 128 tokens (as the recipe says), in 2 iterations of 2 branches" in lines
    assert "warm-up 5 steps of each branch (at least 5 steps)" in lines
    assert "up to 4 more models in float32 on the disk while it trains (691 kB)" in lines
    assert "few" not in lines
    _, lines = training("training.branch_and_merge={}", "training.budget=199 steps")
    assert "warning: training.branch_and_merge: a branch has 49 steps, which are few" in lines
    _, lines = training("training.branch_and_merge={}", "training.budget=300 tokens")
    assert "about 0 steps" not in lines
    refused = "branch_and_merge: 4 branches cannot share 3 steps; set fewer iterations"
    assert f"warning: the training will be refused: training.{refused}" in lines
    _, lines = training("training.strategy=shielded", "replay.share=0")
    assert re.search(r"training reads hi for [0-9.]+ epochs, en in no step", lines)


def test_the_plan_of_documents_counts_the_text_that_is_left_of_them(recipe_values, here):
    """Documents are cut at the length of a sequence; a byte has as many tokens as before."""
    carry_out(read(recipe_values), here)  # so that the number of documents is known

    def bytes_per_token(*overrides):
        rows = plan(read(recipe_values, "training.budget=600 bytes", *overrides), here)
        return 600 / next(row for row in rows if row.title == "training").amounts["tokens"]

    cut = "training.packing={layout: documents, block_size: 8}"
    whole = "training.packing={layout: documents, block_size: 64}"
    assert bytes_per_token(cut) == pytest.approx(bytes_per_token(whole), rel=0.2)


def test_the_plan_counts_the_documents_of_a_limit(recipe_values, here):
    """Before a text is read, its first documents say how large a number of them is."""
    limited = read(recipe_values, "target.limit.documents=10")
    before = {row.title: row for row in plan(limited, here)}["text in hi"].amounts["bytes"]
    carry_out(limited, here)
    after = {row.title: row for row in plan(limited, here)}["text in hi"].amounts["bytes"]
    assert before == pytest.approx(after, rel=0.3)


@pytest.mark.parametrize("method", ["prune", "replace"])
def test_the_plan_of_removed_tokens(recipe_values, here, method):
    """Removed tokens are not added, so that pruning leaves text as long as the base reads it."""
    recipe = read(recipe_values, f"vocabulary={{method: {method}, size: 10}}")
    planned = {row.title: row for row in plan(recipe, here)}
    finished, _ = carry_out(recipe, here)
    stages = {stage["name"]: stage["notes"] for stage in finished.record["stages"]}
    added = stages["vocabulary"]["added"]
    assert planned["vocabulary"].amounts["tokens"] == added == {"prune": 0, "replace": 10}[method]
    assert planned["embeddings"].amounts["rows"] == stages["embeddings"]["rows"]
    assert planned["embeddings"].amounts["parameters"] == stages["embeddings"]["parameters"]
    rate = {"prune": 1.6, "replace": 6.5}[method]
    text = planned["text in hi"].amounts["bytes"]
    assert planned["packing hi"].amounts["tokens"] == round(text / rate)
    done = {"prune": "removed", "replace": "replaced"}[method]
    assert f"10 tokens {done}" in describe_run(recipe)


@pytest.mark.parametrize(
    ("settings", "matrices"),
    [
        ({"model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 2}, 1),
        ({"model_type": "llama", "hidden_size": 32, "num_attention_heads": 2}, 2),
    ],
)
def test_the_plan_ties_embeddings_where_the_type_of_a_model_does(settings, matrices):
    """The configuration need not say it; transformers builds the model."""
    before = Shape.of_config({"vocab_size": 320, **settings})
    after = Shape.of_config({"vocab_size": 384, **settings})
    assert after.parameters - before.parameters == matrices * 64 * 32
    assert before.resized(320, 20) == after


def test_the_plan_removes_no_more_tokens_than_there_are(recipe_values, here):
    """A number that is too large is a warning of the run; the plan has no negative sizes."""
    recipe = read(recipe_values, "vocabulary={method: prune, size: 100000}")
    rows = plan(recipe, here)
    assert all(amount >= 0 for row in rows for amount in row.amounts.values())
    assert all(row.seconds >= 0 for row in rows)
    finished, _ = carry_out(recipe, here)
    assert any("of 100,000 tokens were removed" in line for line in finished.record["warnings"])


def test_the_plan_counts_the_tokens_of_what_was_packed(recipe_values, here):
    """Where documents are cut, a byte budget buys tokens of packed text.

    Replayed text has its own rate.
    """
    cut = ["training.packing={pack: documents, block: 8}", "training.budget=600 bytes"]
    carry_out(read(recipe_values, *cut, "seed=0"), here)
    again = read(recipe_values, *cut, "seed=1")  # other rows and training, the same packed text
    planned = {row.title: row for row in plan(again, here)}["training"].amounts["tokens"]
    finished, _ = carry_out(again, here)
    trained = next(stage for stage in finished.record["stages"] if stage["name"] == "training")[
        "notes"
    ]["tokens"]
    assert abs(planned - trained) <= 128  # a step, by which training passes its budget


@pytest.mark.parametrize(
    ("setting", "warning"),
    [
        ("target.weight=2", "target.weight: 2 has no effect with one target language"),
        ("vocabulary.temperature=3", "vocabulary.temperature: 3 has no effect with one target"),
        ("vocabulary.balance=premium", "vocabulary.balance: premium has no effect with one"),
        (
            "replay.weight=2",
            "replay.weight: 2 has no effect; remove it (replay.share says how much",
        ),
        ("evaluation.tasks.limit=5", "evaluation.tasks.limit has no effect without tasks"),
    ],
)
def test_a_setting_without_effect_is_not_ignored_silently(recipe_values, setting, warning):
    """A run and a plan say which settings have no effect in a recipe."""
    (found,) = unused_settings(read(recipe_values, setting))
    assert found.startswith(warning)
    assert unused_settings(read(recipe_values)) == []


def test_the_plan_counts_the_steps_over_text_that_is_packed(recipe_values, here):
    """They are those that the training then has, and so is the size of the model."""
    carry_out(read(recipe_values, "training.budget=600 bytes"), here)
    longer = read(recipe_values, "training.budget=2 epochs")
    rows = {row.title: row for row in plan(longer, here)}
    lines = "\n".join(rows["training"].notes)
    finished, _ = carry_out(longer, here)
    stages = {stage["name"]: stage for stage in finished.record["stages"]}
    trained = stages["training"]["notes"]
    assert f"training: {trained['steps']} steps of" in lines
    assert "about" not in lines
    assert rows["embeddings"].amounts["parameters"] == trained["parameters"]
    assert rows["embeddings"].amounts["rows"] == stages["embeddings"]["notes"]["rows"] == 384


def test_the_plan_estimates_the_tokens_of_a_text_by_its_tokenizer(recipe_values, here):
    """Text in the base language, and any without added tokens, has the tokens of the base.

    A number of steps that follows from them is about right; one that is set is exact.
    """
    budget = "training.budget=1 epoch"

    def of(*overrides):
        rows = {row.title: row for row in plan(read(recipe_values, *overrides), here)}
        return rows, "\n".join(rows["training"].notes)

    rows, lines = of(budget)
    target, replay = rows["packing hi"].amounts["tokens"], rows["packing en"].amounts["tokens"]
    assert target == round(rows["text in hi"].amounts["bytes"] / 6.5)
    assert replay == round(rows["text in en"].amounts["bytes"] / 4)
    assert re.search(r"training: about \d+ steps? of", lines)
    for nothing in ("vocabulary.size=0", "vocabulary.method=none"):
        rows, _ = of(budget, nothing)
        assert rows["packing hi"].amounts["tokens"] > 4 * target
        assert rows["vocabulary"].amounts["tokens"] == 0
    assert "training: 6 steps of" in of()[1]


def test_without_replay_and_without_training(recipe_values, here):
    """Without replay text and phases, the spliced model is the result.

    English is not measured, and a warning says so.
    """
    del recipe_values["replay"]
    finished, made = carry_out(read(recipe_values, "training={phases: []}"), here)
    assert made == ["source", "corpus", *EXTENDED, "prediction", "scoring", "scoring", "evaluation"]
    assert {row.subject for row in finished.measurements} == {"source", "spliced"}
    assert {row.language for row in finished.measurements} == {"hi"}
    assert "no replay text" in finished.record["warnings"][0]
    assert not (finished.folder / "training.jsonl").exists()


def test_continued_pretraining_alone(recipe_values, here):
    """Size 0 keeps the tokenizer: the baseline that extension is compared with."""
    finished, _ = carry_out(read(recipe_values, "vocabulary.size=0"), here)
    rows = [
        row
        for row in finished.measurements
        if (row.metric, row.language) == ("tokens per word", "hi")
    ]
    assert len({row.value for row in rows}) == 1


def test_a_failing_stage_leaves_no_run_and_keeps_what_was_done(recipe_values, here, monkeypatch):
    """An error in a late stage leaves no run folder and no draft.

    The finished stages stay for the next run.
    """
    from lingraft.pipeline import training_builders

    def fails(_work: object) -> None:
        msg = "no"
        raise LingraftError(msg)

    monkeypatch.setattr(training_builders, "make_training", fails)
    with pytest.raises(LingraftError):
        carry_out(read(recipe_values), here)
    assert list(here.runs.iterdir()) == []
    monkeypatch.undo()
    _, made = carry_out(read(recipe_values), here)
    assert made == ["training", "result-check", *MEASURED]


def test_a_full_disk_told_by_rust_is_a_store_error(recipe_values, here, monkeypatch):
    """If a library in Rust reports a full disk in words only, the user gets the store's error."""
    from lingraft.pipeline import stage_builders

    def fails(_work: object) -> None:
        msg = "Error while serializing: I/O error: No space left on device (os error 28)"
        raise RuntimeError(msg)

    monkeypatch.setattr(stage_builders, "make_embeddings", fails)
    with pytest.raises(StoreError, match="no space left on the disk"):
        carry_out(read(recipe_values), here)


def test_a_folder_that_is_no_run_is_never_touched(recipe_values, here):
    """A folder of the run's name with other things in it is refused before anything is computed."""
    (here.runs / "tiny-hi").mkdir(parents=True)
    (here.runs / "tiny-hi" / "thesis.tex").write_text("years of work")
    with pytest.raises(
        StoreError, match="exists and is not a run of lingraft; choose another name with --name"
    ):
        carry_out(read(recipe_values), here)
    assert (here.runs / "tiny-hi" / "thesis.tex").read_text() == "years of work"
    assert not (here.store / "answers").exists()


@pytest.mark.parametrize("record", ['{"lr": 1}', "[1]", '{"recipe": {}}', "", '{"made by": 1}'])
def test_the_run_json_of_another_program_makes_no_run(tmp_path, record):
    """Many programs write a run.json: a folder with one is replaced only if lingraft wrote it."""
    (tmp_path / "run.json").write_text(record, encoding="utf-8")
    with (
        pytest.raises(StoreError, match=r"choose another name with --name, or move it away$") as no,
        new_run_folder(tmp_path),
    ):
        pass
    assert "\n" not in str(no.value)
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
    assert (tmp_path / "run.json").read_text(encoding="utf-8") == record


@pytest.mark.parametrize("name", ["model.gguf", "model/notes.md", "charts/mine.pdf"])
def test_a_file_that_a_user_put_into_a_run_is_not_lost(tmp_path, name):
    """A run folder with other files than those of its record, pages and card is not replaced."""
    target, own = tmp_path / "demo", ("model/a.bin", "model/README.md", "charts/a.png")
    for key in "12":
        with new_run_folder(target) as draft:
            for file in own:
                (draft / file).parent.mkdir(exist_ok=True)
                (draft / file).touch()
            files = {"model/a.bin": (0, file_digest(draft / "model/a.bin"))}
            write_record(draft, {"key": key, "recipe": {}, "stages": [], "files": files})
        (target / ".DS_Store").touch()
    (target / name).write_text("years of work", encoding="utf-8")
    with (
        pytest.raises(StoreError, match=f"demo: holds {name}, .*; choose another name .*--name"),
        new_run_folder(target),
    ):
        pass
    assert (target / name).read_text(encoding="utf-8") == "years of work"


def test_a_run_folder_outlives_its_store(recipe_values, here):
    """Removing the store takes nothing away from a finished run, nor makes it be done again."""
    finished, _ = carry_out(read(recipe_values), here)
    shutil.rmtree(here.store)
    check_model(finished)
    carry_out(read(recipe_values), here)
    assert not here.store.exists()


def test_a_model_that_changes_before_it_is_read_is_not_stored(recipe_values, here, tmp_path):
    """A stage is stored under the hash of the files that it has read, or not at all."""
    folder = tmp_path / "model"
    shutil.copytree(recipe_values["model"], folder)
    recipe = read({**recipe_values, "model": str(folder)})
    source = build_graph(recipe).source
    (folder / "generation_config.json").write_text('{"eos_token_id": 0}', encoding="utf-8")
    with pytest.raises(
        StoreError, match=r"^source model: a file that it reads changed after its hash"
    ):
        source.build(Store(here.store), recipe, here)
    assert not Store(here.store).has(source.stage)
    changed = build_graph(recipe).source
    assert changed.stage.key != source.stage.key
    changed.build(Store(here.store), recipe, here)


def test_every_stage_that_reads_files_of_the_user_hashes_them_again(recipe_values, tmp_path):
    """Text has a listing of its own, in which each file is checked."""
    documents = tmp_path / "questions.jsonl"
    documents.write_text('{"premise": "a"}\n', encoding="utf-8")
    tasks = {"names": ["xcopa-hi"], "data": {"xcopa": str(documents)}}
    evaluation = {**recipe_values.get("evaluation", {}), "tasks": tasks}
    graph = build_graph(read({**recipe_values, "evaluation": evaluation}))
    again = {node.stage.name: node for node in graph if node.read_again}
    assert set(again) == {"source", "vocabulary", "embeddings", "tasks", "evaluation"}

    def read_again(node: StageNode) -> object:
        return versioned_stage(node.stage.name, node.read_again()).settings

    assert all(read_again(node) == node.stage.settings for node in again.values())
    documents.write_text('{"premise": "b"}\n', encoding="utf-8")
    assert read_again(again["tasks"]) != again["tasks"].stage.settings


def test_a_recipe_without_extras_needs_none(recipe_values, tmp_path):
    """A recipe on local text runs without the packages of extras, charts and hub data sets."""
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe_values), encoding="utf-8")
    code = (
        "import sys\n"
        "for name in ('altair', 'bitsandbytes', 'datasets', 'gensim', 'gguf', 'lingua',\n"
        "             'lm_eval', 'peft', 'ray', 'sacrebleu', 'vl_convert'):\n"
        "    sys.modules[name] = None\n"
        "from lingraft.cli import main\n"
        "sys.argv = ['lingraft', 'adapt', 'recipe.yaml']\n"
        "main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "tiny-hi" / "report.html").is_file()


SENTIMENTS = [{"INDIC REVIEW": f"फ़िल्म {i} अच्छी थी", "LABEL": "Positive"} for i in range(4)]


def without_lm_eval(monkeypatch):
    """Let lm-eval not be installed: it has no module and no version."""

    def version(package):
        raise PackageNotFoundError(package)

    monkeypatch.setitem(sys.modules, "lm_eval", None)
    # The package exports a function of the same name as this module.
    monkeypatch.setattr(sys.modules["lingraft.evaluation.tasks.check_tasks"], "version", version)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("names", ["auto", "sentiment-hi"])
def test_a_finished_run_keeps_its_tasks_without_lm_eval(
    recipe_values, here, tmp_path, monkeypatch, names
):
    """Scores that cannot be measured here stay in the run that has them, and a line says so."""
    monkeypatch.setattr(auto_tasks, "data_set_problem", lambda _data, _revision: "offline")
    rows = "".join(json.dumps(row) + "\n" for row in SENTIMENTS)
    (tmp_path / "rows.jsonl").write_text(rows, encoding="utf-8")
    local = {"sentiment": str(tmp_path / "rows.jsonl")}
    tasks = {"names": names, "limit": 2, "num_fewshot": 0, "data": local}
    recipe_values["training"] = {"phases": []}
    recipe_values["evaluation"] |= {"tasks": tasks, "generation": None}
    recipe = read(recipe_values)
    finished, _ = carry_out(recipe, here)
    record = finished.record
    assert {row.metric for row in finished.measurements.rows} >= {"sentiment accuracy"}
    lines = []
    with monkeypatch.context() as patch:
        without_lm_eval(patch)
        assert run(recipe, here, write_report=report, log=lines.append).record == record
        assert (
            "nothing to do; it keeps its task scores, which cannot be measured here (lm-eval is not"
            in (lines[-1])
        )
        # Another text makes another run, which has no tasks and says why.
        if names == "auto":
            shorter = read(recipe_values, "evaluation.heldout_bytes=900")
            run(shorter, here, write_report=report, log=lines.append)
            assert "tasks in hi (auto): none, because lm-eval is not installed" in "".join(lines)
            metrics = {row.metric for row in finished.measurements.rows}
            assert not metrics & {"sentiment accuracy"}
    # With lm-eval, the recipe of that run measures them.
    if names == "auto":
        measured, made = carry_out(shorter, here)
        assert made == ["evaluation"]
        assert {row.metric for row in measured.measurements.rows} >= {"sentiment accuracy"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("evaluation.context=1024", "evaluation.context is 1024, but the model's context is 64"),
        ("training.packing.block_size=1024", "block_size is 1024, but the model's context is 64"),
    ],
)
def test_more_than_the_models_context_is_refused_before_training(
    recipe_values, here, change, message
):
    """The plan refuses it, and a run before it learns tokens, also without a held-out curve."""
    recipe = read(recipe_values, change, "training.heldout_points=0")
    with pytest.raises(RecipeError, match=message):
        plan(recipe, here)
    with pytest.raises(RecipeError, match=message):
        carry_out(recipe, here)
    assert not list((here.store / "answers").glob("vocabulary-*"))
