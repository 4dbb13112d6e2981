"""Advice on real files: bases compared, and predictions kept with a run and checked."""

from __future__ import annotations

import json

import pytest

from lingraft.advice import Gpus, Wanted, advise, advised_table, as_json, checked, keep_predictions, predictions
from lingraft.advice.bases import Standing, rank
from lingraft.errors import RecipeError
from lingraft.pipeline import run
from lingraft.recipe import Runtime, parse_recipe
from lingraft.recipe.reading import Tree
from lingraft.training.forecast import Forecast


def report(folder) -> None:
    (folder / "report.html").write_text("<html>", encoding="utf-8")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_model):
    """Return a run on the miniature, with enough steps to foretell its end, and where its stages lie."""
    folder = tmp_path_factory.mktemp("advice")
    here = Runtime(folder / "runs", folder / "store", "cpu")
    text = {"corpus": {"miniature": {"stories": 400}}, "heldout_share": 0.2}
    recipe = parse_recipe(Tree({
        "name": "r", "model": str(tiny_model), "target": {"language": "tr", **text}, "vocabulary": {"size": 300},
        "training": {"budget": "40 steps", "batch_tokens": 128, "heldout_points": 20},
        "evaluation": {"heldout_bytes": 25_000, "bootstrap": {"resamples": 20}, "generation": None}}))
    return run(recipe, here, write_report=report), here


def test_predictions_are_kept_and_checked(finished):
    """prediction.json holds what was foretold and from what; beside it stands what was measured."""
    made, here = finished
    kept = keep_predictions(made.folder, here.store)
    assert predictions(made.folder) == kept
    rows = {(row.prediction.metric, row.prediction.language): row for row in checked(made.folder)}
    assert set(rows) == {("tokens per byte", "tr"), ("bits per byte", "tr"), ("training time", "")}
    for row in rows.values():
        assert row.prediction.low <= row.prediction.value <= row.prediction.high
        assert row.prediction.known
        assert row.as_json()["error"] == pytest.approx(row.prediction.value / row.measured - 1)
    measured = {(row.metric, row.language): row.value for row in made.measurements() if row.subject == "adapted"}
    assert rows["tokens per byte", "tr"].measured == measured["tokens per byte", "tr"]
    assert abs(rows["tokens per byte", "tr"].error) < 0.005
    assert rows["tokens per byte", "tr"].within
    assert rows["bits per byte", "tr"].measured == measured["bits per byte", "tr"]


def test_what_is_foretold_looks_at_no_later_step(finished, tmp_path):
    """With the later steps of the log spoiled, the prediction of the end is the same to the last digit."""
    made, _ = finished
    draft = tmp_path / "run"
    draft.mkdir()
    for name in ("run.json", "measurements.parquet"):
        (draft / name).write_bytes((made.folder / name).read_bytes())
    rows = [json.loads(line) for line in (made.folder / "training.jsonl").read_text(encoding="utf-8").splitlines()]
    for row in rows:
        if row["step"] > 8:
            row.update({key: 7.0 for key in ("bits_per_byte", "target_bits_per_byte") if key in row})
            row.update({"heldout": {"tr": 7.0}} if "heldout" in row else {})
    (draft / "training.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    honest, spoiled = (next(row for row in keep_predictions(folder) if row.metric == "bits per byte")
                       for folder in (made.folder, draft))
    assert honest == spoiled


def test_a_run_without_predictions_has_none(tmp_path, finished):
    """No file, no rows; and what cannot be foretold is said with its reason."""
    made, _ = finished
    assert predictions(tmp_path) == []
    keep_predictions(made.folder, part=0.01)
    content = json.loads((made.folder / "prediction.json").read_text(encoding="utf-8"))
    assert "needs 5" in content["not predicted"]["bits per byte"]


def test_two_bases_are_advised_on(tiny_model, tmp_path, hindi_file, english_file):
    """Each base gets its answers, as a table and as plain JSON; the same base twice is not better than itself."""
    wanted = Wanted("hi", (str(hindi_file),), "en", (str(english_file),), Gpus.parse("H100:8"), budget=10**6)
    found = advise([str(tiny_model), str(tiny_model)], wanted, Runtime(tmp_path / "runs", device="cpu"))
    first = found.bases[0]
    assert first.target_bits[0] > first.base_bits[0] * 0.5
    assert first.shape.rows == 320
    assert found.ranking.carried == ()
    assert json.loads(json.dumps(as_json(found)))["bases"][0]["budget"] == 10**6
    assert len(advised_table(found)) == 2


def test_bases_are_ranked_by_what_is_foretold_where_intervals_part():
    """A lower end is better only where the intervals do not meet."""
    standings = [Standing(name, None, Forecast(value, value - 0.1, value + 0.1))
                 for name, value in (("late", 1.5), ("near", 1.0), ("best", 0.95))]
    ranked = rank(standings)
    assert ranked.order == ("best", "near", "late")
    assert set(ranked.carried) == {("best", "late"), ("near", "late")}


def test_advice_needs_text(tiny_model):
    """Without text there is nothing to say."""
    with pytest.raises(RecipeError, match="text in the language"):
        advise([str(tiny_model)], Wanted("hi", ()))
