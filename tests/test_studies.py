"""Study files: what a study file says, which cells it defines, and in which order tasks run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lingraft.errors import RecipeError
from lingraft.pipeline import build_graph
from lingraft.pipeline.stage_builders import reported_part
from lingraft.recipe import Recipe, load_recipe
from lingraft.recipe.problems import STUDY_SETTINGS
from lingraft.recipe.yaml import dump
from lingraft.store import Store
from lingraft.studies import cells_of, read_study
from lingraft.studies.axes import axes_of
from lingraft.studies.compared_metrics import known_metrics
from lingraft.studies.config import Study
from lingraft.studies.study_folder import TABLE
from lingraft.studies.study_schedule import Outcome, build_schedule
from lingraft.studies.study_table import read_table

ROOT = Path(__file__).resolve().parent.parent
STUDIES = sorted(
    [*ROOT.glob("recipes/study-*.yaml"), *ROOT.glob("benchmarks/recipes/study-*.yaml")]
)


@pytest.fixture
def recipe_file(tmp_path, tiny_model, hindi_file, english_file) -> Path:
    path = tmp_path / "base.yaml"
    path.write_text(
        dump(
            {
                "name": "base",
                "model": str(tiny_model),
                "target": {"language": "hi", "corpus": str(hindi_file)},
                "replay": {"language": "en", "corpus": str(english_file)},
                "vocabulary": {"size": 20},
                "training": {"budget": "4 steps", "batch_tokens": 128},
            }
        ),
        encoding="utf-8",
    )
    return path


def study_file(base: Path, **values) -> Path:
    path = base.with_name("study.yaml")
    path.write_text(dump({"name": "trial", "recipe": base.name, **values}), encoding="utf-8")
    return path


GRID = {
    "vocabulary.size": [10, 20],
    "embeddings": ["mean", {"mean": {"weights": "characters"}}, "random"],
}
LABELLED = {"base": {1: {"vocabulary.size": 10}, 2: {"vocabulary.size": 20}}}


def cells(path: Path, *overrides: str):
    return cells_of(read_study(path, overrides), path.parent)


def test_a_grid_has_every_combination_with_every_seed(recipe_file):
    """Each cell's recipe has the cell's values and seed; cell names are distinct folder names."""
    found = cells(study_file(recipe_file, axes=GRID, seeds=[0, 3]))
    points = {
        (
            cell.recipe.vocabulary.size,
            cell.recipe.embeddings.input.model_dump_json(),
            cell.recipe.embeddings.input.name,
            cell.recipe.seed,
        )
        for cell in found
    }
    assert len(points) == len(found) == 2 * 3 * 2
    assert len({cell.name for cell in found}) == len(found)
    assert all(cell.recipe.run_name == cell.name for cell in found)
    assert {cell.labels["embeddings"] for cell in found} == {
        "mean",
        "mean(weights=characters)",
        "random",
    }


def test_a_study_and_a_recipe_are_told_apart(recipe_file):
    """A file of the other kind is one line that names the kind and the command."""
    with pytest.raises(RecipeError, match=r"^\S+: a recipe, not a study; .*adapt`") as one:
        read_study(recipe_file)
    path = study_file(recipe_file, axes=GRID)
    with pytest.raises(RecipeError, match=r"^\S+: a study, not a recipe; .*`lingraft study") as two:
        load_recipe(path)
    assert "\n" not in f"{one.value}{two.value}"


def test_names_do_not_depend_on_the_other_values(recipe_file):
    """A new value on an axis keeps the names of the earlier cells, so their runs are found."""
    before = {cell.name for cell in cells(study_file(recipe_file, axes=GRID))}
    after = {
        cell.name
        for cell in cells(study_file(recipe_file, axes={**GRID, "vocabulary.size": [5, 10, 20]}))
    }
    assert before < after


def test_settings_hold_in_every_cell_and_labels_stand_for_several(recipe_file):
    """Settings apply to every cell; a label sets several settings, in any part of the recipe."""
    axes = {
        "plan": {
            "short": {"training.budget": "2 steps", "replay.share": 0.5},
            "long": {"training.budget": "9 steps"},
        }
    }
    found = cells(
        study_file(recipe_file, axes=axes, settings={"vocabulary.size": 7, "target.language": "mr"})
    )
    assert [cell.labels for cell in found] == [{"plan": "short"}, {"plan": "long"}]
    assert [cell.recipe.training.phases[0].budget.steps for cell in found] == [2, 9]
    assert [cell.recipe.replay.portion for cell in found] == [0.5, 0.2]
    assert {(cell.recipe.vocabulary.size, cell.recipe.target.language) for cell in found} == {
        (7, "mr")
    }


def test_cells_one_by_one_skipped_and_drawn(recipe_file):
    """A list names cells; `skip` leaves some out; a random subset is repeatable.

    The subset is of the grid, each cell with every seed.
    """
    listed = [
        {"vocabulary.size": 10, "replay.share": 0.1},
        {"vocabulary.size": 20, "replay.share": 0.3},
    ]
    found = cells(study_file(recipe_file, cells=listed, seeds=[0, 1]))
    assert [
        (cell.labels["vocabulary.size"], cell.labels["replay.share"], cell.seed) for cell in found
    ] == [(10, 0.1, 0), (10, 0.1, 1), (20, 0.3, 0), (20, 0.3, 1)]
    kept = cells(
        study_file(
            recipe_file, axes=GRID, skip=[{"vocabulary.size": 10, "embeddings": ["mean", "random"]}]
        )
    )
    assert len(kept) == 4
    grid = {cell.name for cell in cells(study_file(recipe_file, axes=GRID, seeds=[0, 1]))}
    path = study_file(recipe_file, axes=GRID, seeds=[0, 1], sample_cells=2)
    drawn = [cell.name for cell in cells(path)]
    assert len(drawn) == 4
    assert set(drawn) < grid
    assert drawn == [cell.name for cell in cells(path)]
    assert any(
        [cell.name for cell in cells(path, f"sample_seed={draw}")] != drawn for draw in range(1, 5)
    )


def test_overrides_change_the_study_an_axis_or_every_cell(recipe_file):
    """Seeds and scale belong to the study, an axis's path to its values, all else to the recipe."""
    path = study_file(
        recipe_file, axes=GRID, scales={"tiny": {"axes": {"embeddings": None}, "seeds": [5]}}
    )
    assert {cell.seed for cell in cells(path, "seeds=[4,5]")} == {4, 5}
    assert {cell.recipe.vocabulary.size for cell in cells(path, "vocabulary.size=[3]")} == {3}
    assert {cell.recipe.vocabulary.size for cell in cells(path, "vocabulary.size=4")} == {4}
    assert {cell.recipe.replay.portion for cell in cells(path, "replay.share=0.4")} == {0.4}
    tiny = cells(path, "scale=tiny")
    assert [(dict(cell.labels), cell.seed) for cell in tiny] == [
        ({"vocabulary.size": size}, 5) for size in (10, 20)
    ]


def test_a_part_of_what_is_set_can_be_set_after_it(recipe_file):
    """An axis may change a part of what the settings set, which keep the rest."""
    found = cells(
        study_file(
            recipe_file,
            settings={"training": {"budget": "2 steps", "batch_tokens": 64}},
            axes={"training.budget": ["3 steps", "4 steps"]},
        )
    )
    assert [cell.recipe.training.phases[0].budget.steps for cell in found] == [3, 4]
    assert {cell.recipe.training.phases[0].batch_tokens for cell in found} == {64}


def test_names_that_look_like_numbers_are_names(recipe_file):
    """The values of an axis called 1 and 2 are chosen and skipped by these numbers."""
    path = study_file(recipe_file, axes=LABELLED)
    assert [cell.recipe.vocabulary.size for cell in cells(path, "base=2")] == [20]
    assert [cell.recipe.vocabulary.size for cell in cells(path, "study.skip=[{base: 1}]")] == [20]


def test_every_metric_that_was_measured_can_be_compared():
    """No name in the kept tables is refused as misspelt."""
    measured = set()
    for path in (ROOT / "benchmarks/measured").glob(f"*/{TABLE}"):
        measured |= {row["metric"].removesuffix(" change") for row in read_table(path)}
    assert len(measured) > 30
    assert measured <= known_metrics()


def test_a_label_that_another_one_shares_a_setting_with_is_skipped_alone(recipe_file):
    """`skip` names a label, not the settings behind it: two labels may set the same strategy."""
    full = {"vocabulary.method": "continued"}
    labels = {"continued": full, "with mean rows": {**full, "embeddings": "mean"}}
    path = study_file(
        recipe_file,
        axes={"kind": labels, "vocabulary.size": [10, 20]},
        skip=[{"kind": "continued", "vocabulary.size": 10}],
    )
    kept = [tuple(cell.labels.values()) for cell in cells(path)]
    assert kept == [("continued", 20), ("with mean rows", 10), ("with mean rows", 20)]


def test_an_override_applies_to_any_scale(recipe_file):
    """What a scale sets, too, is what the override says, in whatever order they are given."""
    scale = {"seeds": [5], "skip": [{"vocabulary.size": 10}], "sample_cells": 1}
    path = study_file(recipe_file, axes=GRID, scales={"tiny": scale})
    for overrides in (("seeds=[7]", "scale=tiny"), ("scale=tiny", "seeds=[7]")):
        assert {cell.seed for cell in cells(path, *overrides)} == {7}
    chosen = cells(path, "scale=tiny", "study.skip=[{vocabulary.size: 20}]")
    assert {cell.recipe.vocabulary.size for cell in chosen} == {10}
    assert len(cells(path, "study.scales.tiny.seeds=[8, 9]", "scale=tiny")) == 2


def test_skip_may_name_values_of_other_scales(recipe_file):
    """An entry of `skip` is for all scales: it may name what a scale or an override replaces."""
    tiny = {"vocabulary.size": [5], "embeddings": ["mean"]}
    twice, gone = {"embeddings": ["mean", "mean"]}, {"embeddings": None}
    scales = {"tiny": {"axes": tiny}, "odd": {"axes": 1}, "twice": {"axes": twice}}
    scales["gone"] = {"axes": gone}
    skip = [{"vocabulary.size": 10, "embeddings": "random"}, {"vocabulary.size": 5}]
    path = study_file(recipe_file, axes=GRID, scales=scales, skip=skip)
    assert len(cells(path)) == 5
    assert {cell.recipe.vocabulary.size for cell in cells(path, "vocabulary.size=20")} == {20}
    assert len(cells(path, "scale=tiny", "study.skip=[{vocabulary.size: 20}]")) == 1
    assert len(cells(path, "scale=gone")) == 2


@pytest.mark.parametrize(
    ("values", "overrides", "told"),
    [
        ({}, (), "a study has axes, or cells one by one"),
        ({"axes": {"seed": [0]}}, (), "seeds go under `seeds`"),
        ({"axes": {"vocabulary.size": []}}, (), "has no values"),
        ({"axes": {"vocabulary.size": [1, 1]}}, (), "two values called 1"),
        ({"axes": GRID, "seeds": [0, 0]}, (), "each once"),
        ({"axes": GRID, "name": "a/b"}, (), "name of a folder"),
        ({"axes": GRID, "skip": [{"replay": 1}]}, (), "skip: replay is no axis"),
        (
            {"axes": GRID, "skip": [{"embeddings": ["random", "meen"]}]},
            (),
            "study.yaml:13: skip: the axis embeddings has no value 'meen'; did you mean 'mean'",
        ),
        ({"axes": LABELLED, "skip": [{"base": 3}]}, (), "axis base has no value 3; known: 1, 2"),
        (
            {"axes": GRID, "skip": [{"vocabulary.size": [10, 20]}]},
            (),
            "`skip` leaves out every cell",
        ),
        ({"axes": {"vocabulary.siz": [1]}}, (), "did you mean vocabulary.size"),
        (
            {"axes": GRID, "compare": [{"language": "tr"}]},
            (),
            "study.yaml:13: compare: no cell measures 'tr'; known:",
        ),
        (
            {"axes": GRID, "compare": [{"language": "replay"}]},
            ("replay=null",),
            "compare: no cell measures 'replay'; known: hi, target",
        ),
        (
            {"axes": GRID, "compare": [{"metric": "bits per bite"}]},
            (),
            "study.yaml:13: compare: no metric is called 'bits per bite'; did you mean 'bits per",
        ),
        (
            {"axes": GRID, "compare": [{"metric": "bits per byte change", "subject": "source"}]},
            (),
            "bits per byte change is the change since the source; set subject: adapted",
        ),
        (
            {"axes": GRID, "compare": [{"metric": "training time"}]},
            (),
            "training time is measured once per run, without a language; set subject: adapted",
        ),
        ({"axes": GRID}, ("scale=smal",), "because the study has no scales"),
        (
            {"axes": GRID, "scales": {"small": {}}},
            ("scale=smal",),
            "no scale called 'smal'; did you mean 'small'",
        ),
        ({"axes": GRID}, ("training",), "path=value"),
        ({"axes": GRID, "axis": {}}, (), "did you mean axes"),
        ({"cells": [{"vocabulary.size": 1}, {"replay.share": 0.1}]}, (), "but not"),
        ({"cells": [{"vocabulary.size": 1}], "sample_cells": 1}, (), "select from the grid"),
        ({"cells": [{"seedless": 1}, {"seedless": 1}]}, (), "this cell is in the list twice"),
        (
            {"cells": [{"vocabulary.size": 1}, {"vocabulary.size": 2}]},
            ("vocabulary.size=5",),
            "would discard vocabulary.size, which is also set (-o vocabulary.size=5)",
        ),
        (
            {"axes": {"base": {"a": {"vocabulary.size": 1}}}, "settings": {"vocabulary.size": 2}},
            (),
            "vocabulary.size would discard vocabulary.size",
        ),
        (
            {"axes": {"base": {"a": {"vocabulary.size": 1}}, "vocabulary.size": [3, 4]}},
            (),
            "remove one of the two",
        ),
        (
            {
                "settings": {"training.batch_tokens": 64},
                "axes": {"training": [{"budget": "2 steps"}, {"budget": "3 steps"}]},
            },
            (),
            "training would discard training.batch_tokens",
        ),
        # The same setting, with and without what its path may leave out.
        (
            {"axes": {"training.budget": ["2 steps", "3 steps"]}},
            ("training.phases.0.budget=4 steps",),
            "training.budget would discard training.phases.0.budget",
        ),
        (
            {"axes": {"vocabulary.size": [3, 4], "vocabulary.size.0": [5]}},
            (),
            "vocabulary.size.0 would discard vocabulary.size",
        ),
        (
            {"axes": {"training.budget": ["1 MB", "1000 kB"]}},
            (),
            "the cells with training.budget 1 MB and with training.budget 1000 kB have the same",
        ),
        ({"axes": GRID, "seeds": True}, (), "seeds: true is not a number"),
        (
            {"axes": GRID, "compare": [{"subject": "adaptd"}]},
            (),
            'compare.0.subject: "adaptd" is not a value of this setting; give source, spliced or',
        ),
        ({"axes": GRID}, ("seed=3",), "-o seed=3: seed cannot be set in a study"),
        # A setting of the study in the place of one of the recipe.
        ({"axes": GRID}, ("skip=[]",), "-o skip=[]: skip: settings of a study are not part"),
        ({"axes": GRID}, ("skip=[]",), "-o study.skip=..."),
        ({"axes": GRID, "settings": {"seeds": [1]}}, (), "-o study.seeds=..."),
        ({"axes": {"scale": ["a", "b"]}}, (), "-o study.scale=..."),
        ({"axes": LABELLED}, ("base=[{vocabulary.size: 5}]",), "the axis base has no"),
        ({"axes": GRID, "recipe": "nowhere.yaml"}, (), "nowhere.yaml: cannot be read"),
    ],
)
def test_mistakes_are_told_in_one_line_before_anything_runs(recipe_file, values, overrides, told):
    """What is wrong, and where, in one line."""
    with pytest.raises(RecipeError) as caught:
        cells(study_file(recipe_file, **values), *overrides)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "axis", "values"),
    [
        ("training.heldout_points=2", "training.phases", [[{"budget": "2 steps"}], []]),
        ("training.heldout_points=2", "training.phases.0", [{"budget": "2 steps"}]),
        ("training.phases.0.budget=4 steps", "training.heldout_points", [1, 2]),
    ],
)
def test_settings_next_to_each_other_are_no_conflict(recipe_file, setting, axis, values):
    """The phases of a training are not all of its settings."""
    path = study_file(recipe_file, axes={axis: values})
    assert len(cells(path, setting)) == len(values)


def test_every_setting_of_a_study_is_told_from_those_of_a_recipe(recipe_file):
    """A recipe that is given a setting of a study says which command takes it."""
    assert set(STUDY_SETTINGS) == Study.model_fields.keys() - Recipe.model_fields.keys()
    for name in (*STUDY_SETTINGS, "study.seeds"):
        with pytest.raises(RecipeError, match="settings of a study are not part of a recipe"):
            load_recipe(recipe_file, [f"{name}=[3]"])


def test_a_mistake_of_the_whole_study_is_not_told_with_the_line_of_its_scale(recipe_file):
    """The line of the chosen scale is told for what the scale sets only."""
    path = study_file(recipe_file, axes=GRID, cells=[{}], scales={"tiny": {"seeds": [5]}})
    with pytest.raises(RecipeError, match=r"study\.yaml: a study has axes, or cells"):
        read_study(path, ["scale=tiny"])


def scheduled(path: Path, store: Path):
    found = cells(path)
    graphs = {cell.name: build_graph(cell.recipe) for cell in found}
    return graphs, build_schedule(graphs, {cell.name: cell.recipe for cell in found}, Store(store))


def test_what_cells_share_is_one_task_that_comes_first(recipe_file, tmp_path):
    """Tasks have distinct keys, start after what they build on, and cover every cell's stages."""
    graphs, schedule = scheduled(
        study_file(recipe_file, axes=GRID, seeds=[0, 1]), tmp_path / "store"
    )
    made: list[str] = []
    while task := schedule.take():
        graph = graphs.get(task.name)
        keys = (
            [task.key]
            if task.key
            else [step.stage.key for step in graph if step.stage.key not in made]
        )
        if task.key is None:
            assert {step.stage.key for step in graph} - set(keys) == task.needs
        made += keys
        schedule.finish(Outcome(task.name))
    assert schedule.finished
    assert len(made) == len(set(made))
    assert set(made) == {step.stage.key for graph in graphs.values() for step in graph}


def test_a_failed_shared_stage_fails_what_builds_on_it_and_nothing_else(recipe_file, tmp_path):
    """Cells of the failing vocabulary fail with its error; those of the other still run."""
    graphs, schedule = scheduled(study_file(recipe_file, axes=GRID), tmp_path / "store")
    broken = next(
        graph.vocabulary.stage.key for name, graph in graphs.items() if name.startswith("10-")
    )
    while task := schedule.take():
        schedule.finish(Outcome(task.name, "no room" if task.name == broken else ""))
    failed = {
        name for name, outcome in schedule.outcomes.items() if outcome.error and name in graphs
    }
    assert failed == {
        name for name, graph in graphs.items() if graph.vocabulary.stage.key == broken
    }
    assert {schedule.outcomes[name].error for name in failed} == {"no room"}


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_ready_studies_can_be_read_at_every_scale(path, monkeypatch):
    """Each scale of each ready study lays out at least two cells, and asks a question."""
    monkeypatch.chdir(ROOT)
    study = read_study(path)
    assert study.question.endswith("?")
    assert {"small", "full"} <= set(study.scales)
    for scale in study.scales:
        chosen = read_study(path, [f"scale={scale}"])
        assert len(cells_of(chosen, path.parent)) >= 2, scale
        assert axes_of(chosen)


def test_a_study_is_plain_json(recipe_file):
    """What a study says can be written down: its key is made of that."""
    study = read_study(study_file(recipe_file, axes=GRID))
    assert json.loads(json.dumps(study.model_dump(mode="json")))["axes"] == GRID


def test_a_longer_training_waits_for_the_shorter_one_that_it_goes_on_from(recipe_file, tmp_path):
    """With WSD, cells that differ only in training length run in sequence.

    With cosine, all start at once.
    """
    axes = {
        "training.schedule": ["wsd", "cosine"],
        "training.budget": ["40 steps", "20 steps", "30 steps"],
    }
    _, schedule = scheduled(study_file(recipe_file, axes=axes), tmp_path / "store")
    begun: list[str] = []
    while (task := schedule.take()) and task.key:
        schedule.finish(Outcome(task.name))
    begun = [task.name]
    while task := schedule.take():
        begun.append(task.name)
    assert sorted(name.rpartition("-s")[0] for name in begun) == [
        "cosine-20_steps",
        "cosine-30_steps",
        "cosine-40_steps",
        "wsd-20_steps",
    ]
    for length in ("20", "30", "40"):
        name = next(name for name in begun if name.startswith(f"wsd-{length}"))
        schedule.finish(
            Outcome(name, "it failed" if length == "20" else "")
        )  # what waits does not fail with it
        while task := schedule.take():
            begun.append(task.name)
    assert len(begun) == 6
    assert sum(bool(outcome.error) for outcome in schedule.outcomes.values()) == 1


def test_every_cell_reads_as_much_of_a_preset_as_the_largest_needs(recipe_file):
    """Cells with other budgets and vocabulary sizes have the same text, as large as any needs."""
    axes = {"training.budget": ["1 MB", "80 MB"], "vocabulary.size": [100, 30000]}
    settings = {"target.corpus": "fineweb-2", "replay.corpus": "fineweb-edu"}
    found = cells(study_file(recipe_file, axes=axes, settings=settings))
    assert len(found) == 4
    for role in ("target", "replay"):
        (sources,) = {getattr(cell.recipe, role).sources for cell in found}
        assert sources[0].limit.bytes == {"target": 88_000_000, "replay": 50_000_000}[role]


def test_every_cell_reports_on_the_same_documents(recipe_file):
    """If one cell chooses a share of `merge_back`, all report on the half that chooses nothing."""
    values = [[], [0.1], [0.1, 0.5]]
    for used, part in ((values, {"reported"}), (values[:2], {"all"})):
        found = cells(study_file(recipe_file, axes={"training.merge_back": used}))
        assert len(found) == len(used)
        assert {reported_part(cell.recipe) for cell in found} == part
