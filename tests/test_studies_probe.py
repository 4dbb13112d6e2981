"""The probe: trials differ in init and seed only, share stages, and rank only by intervals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from lingraft.cli import app
from lingraft.errors import RecipeError
from lingraft.measurement import Measurement
from lingraft.pipeline import build_graph
from lingraft.recipe import Recipe, Runtime, parse_recipe
from lingraft.recipe.tree import Tree
from lingraft.store import Store
from lingraft.studies import Probe, ProbeOutcome, inits_of, run_probe, trials_of
from lingraft.studies.probe import scoring_node
from lingraft.studies.probe_outcome import ProbeScore


@pytest.fixture
def recipe(tiny_model: Path, hindi_file: Path, english_file: Path) -> Recipe:
    values = {
        "name": "probed",
        "model": str(tiny_model),
        "target": {"language": "hi", "corpus": str(hindi_file), "heldout_share": 0.1},
        "replay": {"language": "en", "corpus": str(english_file), "heldout_share": 0.1},
        "vocabulary": {"size": 20},
        "training": {
            "budget": "1 epoch",
            "batch_tokens": 64,
            "branch_and_merge": {},
            "merge_back": [0.1],
        },
        "evaluation": {"heldout_bytes": 400, "bootstrap": {"resamples": 20}},
    }
    return parse_recipe(Tree(values))


def test_trials_differ_in_init_and_seed_alone(recipe: Recipe) -> None:
    """Text, vocabulary and packing are shared by all trials; rows, training and scores are not."""
    trials = trials_of(recipe, Probe(inits_of("mean,calibrated"), steps=7, seeds=2))
    assert [(trial.init, trial.seed) for trial in trials] == [
        ("mean", 0),
        ("calibrated", 0),
        ("mean", 1),
        ("calibrated", 1),
    ]
    graphs = [build_graph(trial.recipe) for trial in trials]
    assert len({tuple(node.stage.key for node in graph.targets) for graph in graphs}) == 1
    for shared in ("source", "replay", "vocabulary"):
        assert len({getattr(graph, shared).stage.key for graph in graphs}) == 1
    assert len({graph.packing["target"].stage.key for graph in graphs}) == 1
    assert build_graph(recipe).packing["target"].stage.key == graphs[0].packing["target"].stage.key
    for own in ("embeddings", "training"):
        assert len({getattr(graph, own).stage.key for graph in graphs}) == 4
    for trial in trials:
        (phase,) = trial.recipe.training.phases
        assert (phase.budget.steps, phase.batch_tokens, trial.recipe.training.merge_back) == (
            7,
            64,
            (),
        )
        assert phase.branch_and_merge is None


def test_a_probe_of_a_run_that_chooses_scores_what_is_not_reported(recipe: Recipe) -> None:
    """The half of the held-out documents that the run reports decides on no initialisation."""
    training = recipe.training.model_copy(update={"merge_back": (0.1, 0.5)})
    chooses = recipe.model_copy(update={"training": training})
    probe = Probe(inits_of("mean,random"), steps=7, seeds=1)
    assert {trial.recipe.evaluation.heldout_part for trial in trials_of(recipe, probe)} == {"all"}
    trials = trials_of(chooses, probe)
    assert {trial.recipe.evaluation.heldout_part for trial in trials} == {"chosen on"}


def test_a_probe_is_made_once_and_keeps_no_models(recipe: Recipe, tmp_path: Path) -> None:
    """Every init has scores before and after per seed and language; a second run is cached."""
    runtime, told = Runtime(tmp_path / "runs", tmp_path / "store", "cpu"), []
    asked = Probe(
        inits_of("mean,random,{learned: {max_text_share: 1, max_tokens: 500, block_size: 32}}"),
        steps=3,
        seeds=2,
    )
    found = run_probe(recipe, asked, runtime, log=told.append)
    for language in ("hi", "en"):
        for init in found.inits:
            before, after = (
                found.values(init, language, subject) for subject in ("spliced", "adapted")
            )
            assert len(before) == len(after) == 2
            assert all(value > 0 for value in (*before, *after))
    assert len({*found.values("random", "hi", "adapted")}) == 2
    kinds = [folder.name.split("-")[0] for folder in (tmp_path / "store" / "answers").iterdir()]
    assert (kinds.count("probe"), kinds.count("training"), kinds.count("embeddings")) == (
        6,
        0,
        0,
    )
    assert kinds.count("packing") == 2
    assert sum("vocabulary" in line for line in told) == 1
    again: list[str] = []
    assert run_probe(recipe, asked, runtime, log=again.append) == found
    assert len(again) == 6
    assert any(
        "tokens before, which the other inits did not see" in sentence
        for sentence in found.sentences()
    )
    json.dumps(found.as_json())


def test_a_device_that_is_not_here_is_refused_before_anything_is_built(
    recipe: Recipe, tmp_path: Path
) -> None:
    """Text is not read and tokens are not learned for trainings that cannot start."""
    runtime = Runtime(tmp_path / "runs", tmp_path / "store", "cuda:99")
    with pytest.raises(RecipeError, match="--device cuda:99: this machine has"):
        run_probe(recipe, Probe(inits_of("mean,random"), 2, 1), runtime)
    assert not runtime.store.exists()


def test_a_probe_that_failed_goes_on(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was scored before a failure is not scored again."""
    from lingraft.studies import probe as probe_module

    runtime, asked = (
        Runtime(tmp_path / "runs", tmp_path / "store", "cpu"),
        Probe(inits_of("mean,random"), 2, 1),
    )
    real, seen = probe_module._scores, []

    def fails(trial, *rest):
        seen.append(trial.init)
        if trial.init == "random":
            raise RecipeError("no")
        return real(trial, *rest)

    monkeypatch.setattr(probe_module, "_scores", fails)
    with pytest.raises(RecipeError):
        run_probe(recipe, asked, runtime)
    monkeypatch.undo()
    trials = trials_of(recipe, asked)
    nodes = [probe_module.scoring_node(build_graph(trial.recipe), trial.recipe) for trial in trials]
    assert [node.is_cached(Store(runtime.store)) for node in nodes] == [True, False]
    assert run_probe(recipe, asked, runtime).inits == ["mean", "random"]


def outcome(documents: int = 100, **values: list[float]) -> ProbeOutcome:
    """Make up an outcome: init -> bits per byte after the steps, a value for each seed."""
    scored = [
        ProbeScore(
            init,
            seed,
            tuple(
                Measurement("bits per byte", subject, value, "bits/byte", "hi", n=documents)
                for subject in ("spliced", "adapted")
            ),
        )
        for init, numbers in values.items()
        for seed, value in enumerate(numbers)
    ]
    return ProbeOutcome(50, ("hi",), None, tuple(scored))


def test_an_order_is_claimed_where_paired_intervals_carry_it() -> None:
    """Differences are paired by seed: what moves all inits alike takes nothing from a claim."""
    found = outcome(mean=[1.0, 2.0, 3.0], random=[1.5, 2.51, 3.49])
    (difference,) = found.differences("hi")
    assert (difference.first, difference.second) == ("mean", "random")
    assert difference.value == pytest.approx(0.5)
    low, high = difference.interval()
    assert 0 < low < 0.5 < high
    assert high - 0.5 == pytest.approx(
        4.303 * 0.01 / 3**0.5, rel=1e-3
    )  # Student's t, two degrees of freedom
    assert found.ranking("hi").best == "mean"
    assert "mean is better than every other" in next(found.sentences())


def test_few_documents_carry_no_order() -> None:
    """However far apart the seeds are, 3 documents say too little, as in a study."""
    found = outcome(3, mean=[1.0, 2.0, 3.0], random=[1.5, 2.51, 3.49])
    assert found.ranking("hi").few == "3 held-out documents"
    assert not any("is better than" in sentence for sentence in found.sentences())


def test_trials_are_scored_as_the_recipe_trains(recipe: Recipe) -> None:
    """Documents are separated as in training, and nothing but held-out text is measured."""
    trial = trials_of(recipe, Probe(inits_of("mean,random"), steps=2, seeds=1))[0]
    assert trial.recipe.evaluation.in_context is None
    packing = recipe.training.packing.model_copy(update={"separator": "eos"})
    training = trial.recipe.training.model_copy(update={"packing": packing})
    other = trial.recipe.model_copy(update={"training": training})
    graph = build_graph(trial.recipe)
    keys = {scoring_node(graph, each).stage.key for each in (trial.recipe, other)}
    assert len(keys) == 2


def test_no_order_is_claimed_where_they_do_not() -> None:
    """Differences that change sign between seeds, or of one seed, decide nothing.

    The table shows it.
    """
    for found in (
        outcome(mean=[1.0, 1.2, 0.9], random=[1.1, 1.1, 1.0]),
        outcome(mean=[1.0], random=[9.0]),
    ):
        assert found.ranking("hi").best is None
        assert next(found.sentences()).endswith("the intervals separate no values of init")
    console = Console(width=160)
    with console.capture() as printed:
        console.print(found.table())
    assert "one seed: no interval" in printed.get()


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("mean", "two or more"),
        ("mean,mean", "two or more"),
        ("mean,maen", "did you mean 'mean'"),
        ("mean,{", "write mean,calibrated"),
        ("mean,{mean: {weights: x}}", "weights"),
    ],
)
def test_inits_that_cannot_be_compared_are_told(written: str, told: str) -> None:
    """One line about what was written, and what there is."""
    with pytest.raises(RecipeError, match=told) as raised:
        inits_of(written)
    assert "\n" not in str(raised.value)


def test_a_probe_of_nothing_is_refused() -> None:
    """At least one step and one seed."""
    with pytest.raises(RecipeError, match="--steps 0"):
        Probe(inits_of("mean,random"), steps=0)


def test_the_command_prints_json(
    recipe: Recipe, tiny_model: Path, hindi_file: Path, tmp_path: Path
) -> None:
    """`lingraft probe` without a recipe: model, language and text are enough."""
    from typer.testing import CliRunner

    options = [
        "probe",
        "--model",
        str(tiny_model),
        "--language",
        "hi",
        "--text",
        str(hindi_file),
        "--inits",
        "mean,random",
        "--steps",
        "2",
        "--seeds",
        "1",
        "--store",
        str(tmp_path / "store"),
        "--device",
        "cpu",
        "--json",
        "-o",
        "vocabulary.size=10",
        "-o",
        "evaluation.heldout_bytes=300",
        "-o",
        "training.batch_tokens=64",
    ]
    done = CliRunner().invoke(app, options)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["steps"] == 2
    assert set(found["languages"]["hi"]["inits"]) == {"mean", "random"}
    assert not (tmp_path / "runs").exists()
