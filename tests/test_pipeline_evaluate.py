"""`lingraft evaluate` and its stages: nothing is scored twice, bad input is a one-line error."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lingraft.errors import CorpusError, LingraftError, ModelError, RecipeError, StoreError
from lingraft.evaluation import BootstrapSettings
from lingraft.evaluation.tasks.task_changes import task_changes
from lingraft.measurement import read_measurements, select
from lingraft.measurement_table import comparison_table
from lingraft.pipeline import (
    EvaluationRequest,
    build_graph,
    evaluate_models,
    evaluation_stages,
)
from lingraft.pipeline.model_evaluation import shortest_names
from lingraft.recipe import Runtime, parse_recipe
from lingraft.recipe.tree import Tree
from tests.commands import lingraft
from tests.conftest import make_tiny_model

QUICK = (
    "evaluation.bootstrap.resamples=20",
    "evaluation.heldout_bytes=2000",
    "evaluation.generation={bytes: 8, prompts: 1, repeats: 1, samples: 2, sample_bytes: 8}",
)


@pytest.fixture
def models(tmp_path: Path) -> list[str]:
    """Two models with one tokenizer: the second has other rows."""
    folders = []
    for name, tied in (("one", False), ("two", True)):
        folder = tmp_path / name
        folder.mkdir()
        make_tiny_model(folder, tied=tied)
        folders.append(str(folder))
    return folders


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that fills with a name for each time that a model is scored."""
    calls: list[str] = []
    plain = evaluation_stages.make_scoring

    def counted(*arguments: Any) -> None:
        calls.append("scored")
        plain(*arguments)

    monkeypatch.setattr(evaluation_stages, "make_scoring", counted)
    return calls


def test_two_evaluations_that_share_a_model_score_it_once(
    models, hindi_file, here, scored, tmp_path
):
    """A copied model or another order reuses the cached scores; another text does not."""
    asked = EvaluationRequest(models[:1], text={"hi": [str(hindi_file)]}, overrides=QUICK)
    evaluate_models(asked, here, tmp_path / "a")
    assert len(scored) == 1
    copy = shutil.copytree(models[0], tmp_path / "copy")
    evaluate_models(
        EvaluationRequest([models[1], str(copy)], text=asked.text, overrides=QUICK),
        here,
        tmp_path / "b",
    )
    assert len(scored) == 2
    evaluate_models(
        EvaluationRequest(
            models, text=asked.text, overrides=[*QUICK, "evaluation.bootstrap.seed=1"]
        ),
        here,
        tmp_path / "c",
    )
    assert len(scored) == 2
    evaluate_models(
        EvaluationRequest(models, text=asked.text, overrides=[*QUICK, "evaluation.stride=7"]),
        here,
        tmp_path / "d",
    )
    assert len(scored) == 4


def test_one_model_against_itself_changes_nothing(models, hindi_file, english_file, here, tmp_path):
    """Equal models have a change of exactly 0; the table has a column for each model."""
    copy = shutil.copytree(models[0], tmp_path / "copy")
    texts = {"hi": [str(hindi_file)], "en": [str(english_file)]}
    found = evaluate_models(
        EvaluationRequest([models[0], str(copy)], text=texts, overrides=QUICK),
        here,
        tmp_path / "out",
    )
    rows = read_measurements(tmp_path / "out" / "measurements.parquet")
    for metric in ("bits per byte change", "tokens per word change"):
        assert [
            (row.value, row.low, row.high, row.subject) for row in select(rows, metric=metric)
        ] == [(0, 0, 0, "copy")] * 2
    table = comparison_table(rows)
    assert [column.header for column in table.columns][3:] == ["one", "copy", "copy, change"]
    json.dumps(found)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "measurements.parquet",
        "measurements.csv",
        "generated.json",
        "run.json",
    }


def test_the_order_of_models_and_languages_is_part_of_an_evaluation(
    models, hindi_file, here, scored, tmp_path
):
    """In another order, the first model is the new reference; nothing is scored again for it."""
    texts = {"hi": [str(hindi_file)], "mr": [str(hindi_file)]}
    changed, languages = [], []
    for number, (order, tags) in enumerate(
        [(models, ("hi", "mr")), (models[::-1], ("hi", "mr")), (models, ("mr", "hi"))]
    ):
        text = {tag: texts[tag] for tag in tags}
        asked = EvaluationRequest(order, text=text, overrides=QUICK)
        evaluate_models(asked, here, tmp_path / str(number))
        rows = read_measurements(tmp_path / str(number) / "measurements.parquet")
        changed.append({row.subject for row in select(rows, metric="bits per byte change")})
        languages.append([row.language for row in select(rows, metric="bits per byte change")])
    assert changed == [{"two"}, {"one"}, {"two"}]
    assert languages == [["hi", "mr"], ["hi", "mr"], ["mr", "hi"]]
    assert len(scored) == 2


def test_the_order_of_a_run_is_not_in_its_key(models, hindi_file, english_file):
    """The models and texts of a run have one order, so its key is that of earlier versions."""
    values = {
        "name": "tiny",
        "model": models[0],
        "target": {"language": "hi", "corpus": str(hindi_file)},
        "replay": {"language": "mr", "corpus": str(english_file)},
    }
    graph = build_graph(parse_recipe(Tree(values)))
    assert {"models", "texts"}.isdisjoint(graph.evaluation.stage.settings)


@pytest.mark.parametrize(
    "found",
    [
        ('{"recipe": {}, "stages": []}', "was made by `lingraft adapt`"),
        ('{"made by": "lingraft extend"}', "was made by `lingraft extend`"),
        ("", "exists and is not a run of lingraft"),
    ],
)
def test_the_result_of_another_command_is_not_replaced(found, models, hindi_file, here, tmp_path):
    """A finished run or an extended model at --output stays; another evaluation is replaced."""
    run, (record, problem) = tmp_path / "runs" / "demo-hi", found
    run.mkdir(parents=True)
    (run / "run.json").write_text(record)
    asked = EvaluationRequest(models[:1], text={"hi": [str(hindi_file)]}, overrides=QUICK)
    with pytest.raises(StoreError, match=f"demo-hi: {problem}.*another folder with --output"):
        evaluate_models(asked, here, run)
    assert (run / "run.json").read_text() == record
    assert not (here.store / "answers").exists()
    (run / "run.json").write_text('{"made by": "lingraft evaluate"}')
    for _ in range(2):
        evaluate_models(asked, here, run)
    assert (run / "measurements.csv").is_file()
    (run / "notes.md").write_text("mine")
    with pytest.raises(StoreError, match=r"holds notes.md, .*another folder with --output"):
        evaluate_models(asked, here, run)


def test_the_text_is_taken_as_it_is(models, here, tmp_path):
    """No document is cleaned, dropped or reordered; the last one is cut at the limit."""
    file = tmp_path / "hi.txt"
    file.write_text("  क  ख \nb\nb\n\nlast one\n", encoding="utf-8")
    evaluate_models(
        EvaluationRequest(models[:1], text={"hi": [str(file)]}, overrides=QUICK),
        here,
        tmp_path / "out",
    )
    row = select(
        read_measurements(tmp_path / "out" / "measurements.parquet"), metric="tokens per byte"
    )[0]
    from lingraft.tokenizer import open_tokenizer

    texts = ["  क  ख ", "b", "b", "last one"]
    tokens = sum(map(len, open_tokenizer(Path(models[0])).encode(texts)))
    assert (row.n, row.value) == (4, tokens / sum(len(text.encode()) for text in texts))


def bad(what: str, models: list[str], text: str, tmp_path: Path) -> EvaluationRequest:
    folder = Path(models[0])
    if what == "without weights":
        (folder / "model.safetensors").unlink()
    if what == "without BOS and EOS":
        (folder / "tokenizer_config.json").write_text(
            '{"tokenizer_class": "PreTrainedTokenizerFast"}'
        )
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(
            json.dumps({**config, "bos_token_id": None, "eos_token_id": None})
        )
        (folder / "generation_config.json").unlink(missing_ok=True)
    overrides = [*QUICK, *(["evaluation.context=65"] if what == "context" else [])]
    places = {"hi": [str(tmp_path / "gone.txt") if what == "text" else text]}
    named = {
        "model": ["nowhere/at/all"],
        "twice": models[:1] * 2,
        "twice, spelled differently": [models[0], f"{tmp_path}/./one/"],
    }
    return EvaluationRequest(
        named.get(what, models),
        text=None if what == "no text" else places,
        overrides=overrides,
        parallel=str(tmp_path / "gone.jsonl") if what == "parallel" else None,
        reference=str(tmp_path / "none") if what == "reference" else None,
    )


BAD = {
    "without weights": (ModelError, "one: contains no weights"),
    "context": (ModelError, r"65 tokens.*64"),
    "without BOS and EOS": (ModelError, "neither a BOS nor an EOS"),
    "text": (CorpusError, "gone.txt: no such file"),
    "model": (ModelError, "nowhere/at/all: no such folder"),
    "twice": (RecipeError, "named twice"),
    "twice, spelled differently": (RecipeError, "named twice"),
    "no text": (CorpusError, "--text LANG=FILE"),
    "parallel": (CorpusError, "gone.jsonl: no such file"),
    "reference": (LingraftError, "none: there is no such file or folder"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_told_in_one_line(what, models, hindi_file, here, tmp_path):
    """The error names the problem, and no output is left."""
    kind, told = BAD[what]
    asked = bad(what, models, str(hindi_file), tmp_path)
    with pytest.raises(kind, match=told) as error:
        evaluate_models(asked, here, tmp_path / "out")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_device_that_is_not_here_is_refused_only_if_something_is_built(
    models, hindi_file, here, tmp_path
):
    """Nothing is built for a missing device, and it is no reason to refuse what is stored."""
    asked = EvaluationRequest(models[:1], text={"hi": [str(hindi_file)]}, overrides=QUICK)
    missing = replace(here, device="cuda:99")
    with pytest.raises(RecipeError, match="--device cuda:99: this machine has"):
        evaluate_models(asked, missing, tmp_path / "out")
    assert not here.store.exists()
    evaluate_models(asked, here, tmp_path / "out")
    outcome = evaluate_models(asked, missing, tmp_path / "again")
    assert all(stage["cached"] for stage in outcome["stages"])


def test_names_tell_models_apart():
    """A name is the shortest end of the path that is unique; a file has that of its folder."""
    assert list(shortest_names(["a/x/model", "b/x/model"])) == ["a/x/model", "b/x/model"]
    assert list(shortest_names(["tokenizer.json", "b/qwen"])) == ["tokenizer.json", "qwen"]
    files = ["a/tokenizer.json", "a/other.json"]
    assert list(shortest_names(files)) == files


def test_few_documents_in_another_script_are_warned_of(models, here, tmp_path):
    """An evaluation on two Hindi documents called Telugu warns of both, and stores the warnings."""
    text = tmp_path / "two.txt"
    text.write_text("\n".join(f"{word} " * 40 for word in ("नमस्ते", "दुनिया")), encoding="utf-8")
    asked = EvaluationRequest(models[:1], text={"te": [str(text)]}, overrides=QUICK)
    outcome = evaluate_models(asked, here, tmp_path / "out")
    script, few = outcome["warnings"]
    assert script.startswith("text in te: 100% of the letters are Devanagari, not Telugu")
    assert few.startswith("text in te: 2 documents (")
    assert "too few to judge (at least 20)" in few
    assert outcome["wrong_scripts"][0]["expected"] == "Telugu"


def test_the_command_prints_a_table_and_json(models, hindi_file, tmp_path):
    """The second call uses the cache for everything; the exit code of bad input is 2."""
    options = [
        "--text",
        f"hi={hindi_file}",
        "--device",
        "cpu",
        *(f"-o{setting}" for setting in QUICK),
    ]
    done = lingraft("evaluate", *models, *options, "--output", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "two, change" in done.stdout
    again = lingraft("evaluate", *models, *options, "--output", "out", "--json", cwd=tmp_path)
    assert all(stage["cached"] for stage in json.loads(again.stdout)["stages"])
    wrong = lingraft("evaluate", models[0], cwd=tmp_path)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith("error: evaluate: expected text from one place")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tasks_are_run_once_a_model_and_paired(models, hindi_file, here, tmp_path):
    """Task scores are in the table, their change is paired over documents, and they are cached.

    All intervals have the level of the settings, and the table says so.
    """
    data = tmp_path / "xcopa.jsonl"
    words = ("red", "tall tree", "the old", "a bird")
    rows = [
        {
            "premise": words[i % 4],
            "choice1": words[(i + 1) % 4],
            "choice2": words[(i + 2) % 4],
            "label": int(i > 1),
            "question": "cause" if i % 2 else "effect",
        }
        for i in range(6)
    ]
    data.write_text(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8"
    )
    asked = EvaluationRequest(
        models,
        text={"hi": [str(hindi_file)]},
        overrides=[
            *QUICK,
            "evaluation.bootstrap.confidence=0.8",
            f"evaluation.tasks={{names: [xcopa-ta], shots: 0, data: {{xcopa: {data}}}}}",
        ],
    )
    found = evaluate_models(asked, here, tmp_path / "out")
    measured = read_measurements(tmp_path / "out" / "measurements.parquet")
    before, after = select(measured, metric="xcopa accuracy")
    change = select(measured, metric="xcopa accuracy change")[0]
    assert (before.subject, after.subject, change.subject) == ("one", "two", "two")
    assert change.value == pytest.approx(after.value - before.value)
    assert change.n == 6
    assert change.low is not None
    assert change.low <= change.value <= change.high
    assert {row.confidence for row in measured if row.low is not None} == {0.8}
    assert comparison_table(measured).title == "compared with one; 80% intervals over documents"
    assert (tmp_path / "out" / "tasks" / "two" / "results.json").is_file()
    again = evaluate_models(asked, here, tmp_path / "again")
    assert found["stages"] != again["stages"]
    assert all(stage["cached"] for stage in again["stages"])
    samples = [tmp_path / "out" / "tasks" / name / "samples.jsonl" for name in ("one", "one")]
    same = task_changes([before], [before], *samples, BootstrapSettings())[0]
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_real_sentences_by_two_real_models(assets, tmp_path):
    """On real held-out sentences, the larger of two real models needs fewer bits per byte."""
    import gzip

    with gzip.open(assets / "text" / "en.heldout.jsonl.gz", "rt", encoding="utf-8") as file:
        lines = [line for line in file if 60 < len(line) < 400][:60]
    (tmp_path / "en.jsonl").write_text("".join(lines), encoding="utf-8")
    names = [str(assets / "models" / name) for name in ("english-8m", "stories260K-hf")]
    found = evaluate_models(
        EvaluationRequest(
            names,
            text={"en": [str(tmp_path / "en.jsonl")]},
            overrides=["evaluation.generation=null", "evaluation.bootstrap.resamples=100"],
        ),
        Runtime(tmp_path / "runs", tmp_path / "store", "cpu"),
        tmp_path / "out",
    )
    bits = {
        row["subject"]: row["value"]
        for row in found["measurements"]
        if row["metric"] == "bits per byte"
    }
    assert 1.2 < bits["english-8m"] < 2.2
    assert bits["english-8m"] < bits["stories260K-hf"]
