"""Advice on real files: bases compared, and predictions kept with a run and checked."""

from __future__ import annotations

import json
import shutil
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

import lingraft
from lingraft.advice import (
    AdviceRequest,
    Gpus,
    advice_json,
    advice_tables,
    advise,
    check_predictions,
    read_predictions,
)
from lingraft.advice.advise import _scored_documents
from lingraft.advice.base_ranking import BaseScore, rank_bases
from lingraft.advice.choose import ProbedEnd, probe
from lingraft.advice.text_sample import TextSample
from lingraft.cli import app
from lingraft.corpus import Corpus
from lingraft.errors import CorpusError, ModelError, RecipeError
from lingraft.evaluation import DocumentScores
from lingraft.evaluation.byte_positions import IN_CONTEXT_GAINS
from lingraft.evaluation.in_context_probes import COPYING
from lingraft.forecast.heldout_tokens import text_bytes
from lingraft.forecast.loss_forecast import Forecast
from lingraft.forecast.prediction import Prediction
from lingraft.forecast.run_predictions import predict_training, with_training
from lingraft.forecast.training_curve import ProgressForecast, read_log
from lingraft.forecast.training_time import MeasuringTime, predict_time
from lingraft.miniature import stories
from lingraft.pipeline import Run, build_graph, run
from lingraft.pipeline.build_stage import build_node
from lingraft.progress import discard_line
from lingraft.recipe import Runtime, chosen_recipe, parse_recipe
from lingraft.recipe.overrides import override
from lingraft.recipe.tree import Tree
from lingraft.store import Store
from tests.tiny_recipes import quick_evaluation, quick_training, report, text_of, tiny_recipe

GAIN = next(iter(IN_CONTEXT_GAINS))


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_model):
    """Return a run on the miniature, with enough steps to predict its end."""
    folder = tmp_path_factory.mktemp("advice")
    here = Runtime(folder / "runs", folder / "store", "cpu")
    values = tiny_recipe(
        tiny_model,
        target=text_of("tr", {"miniature": {"stories": 400}}, 0.2),
        vocabulary={"size": 300, "method": {"continued": {"max_token_bytes": 5}}},
        training=quick_training(40, heldout_points=20),
        evaluation=quick_evaluation(25_000),
    )
    return run(parse_recipe(Tree(values)), here, write_report=report)


def test_a_device_that_is_not_here_is_refused_before_text_is_read(tiny_model, tmp_path):
    """The text does not exist, but the device is what the error names."""
    request = AdviceRequest("hi", [str(tmp_path / "gone.txt")], probe=1000)
    with pytest.raises(RecipeError, match="--device cuda:99: this machine has"):
        advise([str(tiny_model)], request, Runtime(tmp_path, tmp_path / "store", "cuda:99"))
    with pytest.raises(CorpusError, match=r"gone\.txt: no such file"):
        advise([str(tiny_model)], request, Runtime(tmp_path, tmp_path / "store", "cpu"))


def test_a_run_holds_its_predictions_and_checks_them(finished):
    """prediction.json holds each prediction and its basis, compared with the measured numbers."""
    made = finished
    names = [stage["name"] for stage in made.record["stages"]]
    assert names.index("prediction") < names.index("training")
    assert "prediction.json" in made.record["files"]
    assert len(read_predictions(made.folder)) == 3
    rows = {
        (row.prediction.metric, row.prediction.language): row
        for row in check_predictions(made.folder)
    }
    assert set(rows) == {("tokens per byte", "tr"), ("bits per byte", "tr"), ("training time", "")}
    for row in rows.values():
        assert row.prediction.low <= row.prediction.value <= row.prediction.high
        assert row.prediction.known
        assert row.as_json()["error"] == pytest.approx(row.prediction.value / row.measured - 1)
    measured = {
        (row.metric, row.language): row.value
        for row in made.measurements
        if row.subject == "adapted"
    }
    assert rows["tokens per byte", "tr"].measured == measured["tokens per byte", "tr"]
    assert abs(rows["tokens per byte", "tr"].error) < 0.005
    assert rows["tokens per byte", "tr"].within
    assert rows["bits per byte", "tr"].measured == measured["bits per byte", "tr"]


def test_a_prediction_is_stored_before_the_steps_it_speaks_of(finished):
    """A quarter of the steps are in the log before the prediction of its end, and no later one."""
    rows = read_log(finished.folder / "training.jsonl")
    place = [index for index, row in enumerate(rows) if "predicted" in row]
    assert len(place) == 1
    assert max(row["step"] for row in rows[: place[0]]) == 10
    assert {row["step"] for row in rows[place[0] + 1 :]} == set(range(11, 41))
    stored = {row.metric: row for row in read_predictions(finished.folder)}
    for predicted in rows[place[0]]["predicted"]:
        assert stored[predicted["metric"]] == Prediction(**predicted)


def test_the_curve_ends_at_the_numbers_of_the_final_table(finished):
    """Curve and table score the same documents in the same windows, before and after training."""
    curve = [row for row in read_log(finished.folder / "training.jsonl") if "heldout" in row]
    bits = {row.subject: row for row in finished.measurements if row.metric == "bits per byte"}
    assert curve[0]["heldout"]["tr"] == pytest.approx(bits["spliced"].value, rel=1e-6)
    assert curve[-1]["heldout"]["tr"] == pytest.approx(bits["adapted"].value, rel=1e-6)


def test_the_gains_of_the_curve_are_those_of_the_table(tiny_model, tmp_path):
    """The words are the base's also where the vocabulary takes ids from them."""
    long = [" ".join(stories("tr", count=8, seed=seed)) for seed in range(30)]
    lines = [json.dumps({"text": text}, ensure_ascii=False) for text in long]
    (tmp_path / "tr.jsonl").write_text("\n".join(lines), encoding="utf-8")
    probes = {"copied_words": 3, "mapped_pairs": 2}
    values = tiny_recipe(
        tiny_model,
        target=text_of("tr", tmp_path / "tr.jsonl", 0.2),
        vocabulary={"method": "prune", "size": 30, "pretokenizer": "keep"},
        training={"budget": "2 steps", "heldout_points": 2},
        evaluation=quick_evaluation(10_000, in_context=probes),
    )
    here = Runtime(tmp_path / "runs", tmp_path / "store", "cpu")
    finished = run(parse_recipe(Tree(values)), here, write_report=report)
    curve = [row for row in read_log(finished.folder / "training.jsonl") if "in_context" in row]
    for metric, name in ((COPYING, COPYING), (GAIN, f"{GAIN} in tr")):
        gains = {row.subject: row for row in finished.measurements if row.metric == metric}
        ends = [point["in_context"][name]["gain"] for point in (curve[0], curve[-1])]
        table = [gains["spliced"].value, gains["adapted"].value]
        assert ends == pytest.approx(table, rel=1e-5)


def test_a_missing_prediction_has_its_reason(finished, tmp_path):
    """A folder without prediction.json has no predictions.

    A part with too few points is named as the reason.
    """
    assert read_predictions(tmp_path) == []
    records = read_log(finished.folder / "training.jsonl")[:4]
    progress = ProgressForecast(lambda *_: 1.0, 40)
    none = MeasuringTime()
    reasons = predict_training(progress, records, 40, none)["not predicted"]
    assert "needs 5" in reasons["bits per byte"]
    bare = [{key: row[key] for key in row if key != "heldout"} for row in records]
    reasons = predict_training(progress, bare, 40, none)["not predicted"]
    assert "raise training.heldout_points" in reasons["bits per byte"]
    reasons = predict_training(None, records, 40, none)["not predicted"]
    assert "several phases or branches" in reasons["bits per byte"]


def test_each_target_language_has_a_prediction_of_its_own(finished):
    """A language with the same curve and twice the bits ends at twice the value; replay at none."""
    records = []
    for row in read_log(finished.folder / "training.jsonl"):
        if row["step"] > 10 or "predicted" in row:
            continue
        bits = row.get("heldout", {}).get("tr")
        curve = {"heldout": {"tr": bits, "hi": 2 * bits, "en": 3 * bits}} if bits else {}
        records.append(row | curve)
    forecast = ProgressForecast(lambda *_: 1.0, 40, targets=2)
    predicted = predict_training(forecast, records, 40, MeasuringTime())["predicted"]
    tr, hi = (row for row in predicted if row["metric"] == "bits per byte")
    assert (tr["language"], hi["language"]) == ("tr", "hi")
    for bound in ("value", "low", "high"):
        assert hi[bound] == pytest.approx(2 * tr[bound], rel=1e-6)


def test_a_target_is_predicted_from_its_own_text(finished):
    """Text of another target between its steps changes nothing; neither do the values of it."""
    alone, among_others, read = [], [], 0
    for row in read_log(finished.folder / "training.jsonl"):
        if row["step"] > 20 or "predicted" in row:
            continue
        if "target_bytes" not in row:
            alone.append(row)
            among_others.append(row)
            continue
        of_step = row["step"] % 2 * 700
        read += of_step
        if of_step:
            targets = {"tr": {"bytes": 700, "bits_per_byte": row["target_bits_per_byte"]}}
        else:
            targets = {"hi": {"bytes": 700, "bits_per_byte": 9.0}}
        among_others.append(row | {"targets": targets})
        alone.append(row | {"target_bytes": read})
        if not of_step:
            del alone[-1]["target_bits_per_byte"]
    forecast = ProgressForecast(lambda *_: 1.0, 40)
    of_both = [forecast.predict_end(records, 20, "tr") for records in (alone, among_others)]
    assert of_both[0] == of_both[1]


def test_a_target_that_was_hardly_read_leaves_the_others_predicted(finished):
    """The reason names the language, and its end is not that of all languages together."""
    records = []
    for row in read_log(finished.folder / "training.jsonl"):
        if row["step"] > 10 or "predicted" in row:
            continue
        both = {}
        if bits := row.get("heldout", {}).get("tr"):
            both["heldout"] = {"tr": bits, "hi": bits}
        if "target_bytes" in row:
            step = {"bytes": 700, "bits_per_byte": row["target_bits_per_byte"]}
            both["targets"] = {"tr": step}
        records.append(row | both)
    forecast = ProgressForecast(lambda *_: 1.0, 40, targets=2)
    found = predict_training(forecast, records, 40, MeasuringTime())
    ends = [row["language"] for row in found["predicted"] if row["metric"] == "bits per byte"]
    assert ends == ["tr"]
    assert found["not predicted"]["bits per byte"].startswith("hi: 0 points of bits per byte")


def test_the_end_of_training_is_no_prediction_of_a_model_that_is_changed_after_it(finished):
    """Only the time is predicted of a run whose weights are mixed after training."""
    content = {"rows": [], "not predicted": {}}
    log = read_log(finished.folder / "training.jsonl")
    metrics = [row["metric"] for row in with_training(content, log)["rows"]]
    assert metrics == ["bits per byte", "training time"]
    changed = with_training(content, log, "weights are mixed")
    assert [row["metric"] for row in changed["rows"]] == ["training time"]
    assert changed["not predicted"] == {"bits per byte": "weights are mixed"}


def test_the_predicted_time_counts_the_points_of_the_curve_that_are_left():
    """Steps of 2 s after a start of 10 s, and points of 7 s after steps 5 and 10 of 20: 62 s."""
    records = [{"step": 0, "heldout": {"tr": 2.0}}]
    for step in range(1, 11):
        records.append({"step": step, "seconds": 10.0 + 2 * (step - 1) + 7 * (step > 5)})
        if step in {5, 10}:
            records.append({"step": step, "heldout": {"tr": 1.9}})
    (early,) = predict_time(records[:7], 20, MeasuringTime(7.0, 2))
    (late,) = predict_time(records, 20, MeasuringTime(7.0, 1))
    assert [early.value, late.value] == pytest.approx([10 + 2 * 19 + 7 * 2] * 2)
    assert (late.low, late.high) == pytest.approx((0.8 * late.value, 1.5 * late.value))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        # The fertility curve is that of continued merges: appended ones can need more tokens.
        (
            "vocabulary.method=append",
            "known for vocabulary.method: continued only, not for append",
        ),
        ("vocabulary.size=0", "no tokens are added, so they are those of the source"),
        (
            "target=[{language: tr, corpus: miniature}, {language: hi, corpus: miniature}]",
            "known for one target language only, not for several",
        ),
    ],
)
def test_tokens_that_are_not_predicted_have_the_reason(tiny_model, tmp_path, change, reason):
    """Without a prediction, prediction.json says why."""
    runtime, store = Runtime(store=tmp_path / "store", device="cpu"), Store(tmp_path / "store")
    values = Tree(
        {
            "name": "tokens",
            "model": str(tiny_model),
            "target": {"language": "tr", "corpus": {"miniature": {"stories": 200}}},
            "vocabulary": {"size": 20, "pretokenizer": "keep"},
            "training": {"budget": "1 steps"},
        }
    )
    recipe = parse_recipe(override(values, [change]))
    graph = build_graph(recipe)
    if "size" in change:
        for node in (graph.source, *graph.targets, graph.source_check, graph.vocabulary):
            build_node(node, recipe, runtime, store, discard_line)
    build_node(graph.prediction, recipe, runtime, store, discard_line)
    content = json.loads(
        (store.folder(graph.prediction.stage) / "prediction.json").read_text(encoding="utf-8")
    )
    assert content["rows"] == []
    assert content["not predicted"] == {"tokens per byte": reason}


def test_python_and_the_command_line_make_the_same_run(tiny_model, tmp_path):
    """The same recipe from Python and the command line gives the same key and prediction.json."""
    recipe = tmp_path / "small.yaml"
    recipe.write_text(
        json.dumps(
            tiny_recipe(
                tiny_model,
                seed=3,
                target=text_of("tr", {"miniature": {"stories": 200}}, 0.2),
                training={"budget": "20 steps", "batch_tokens": 64},
                evaluation=quick_evaluation(1_000),
            )
        ),
        encoding="utf-8",
    )
    store = tmp_path / "store"
    from_python = lingraft.adapt(recipe, runs=tmp_path / "python", store=store, device="cpu")
    options = [
        "adapt",
        str(recipe),
        "--runs",
        str(tmp_path / "cli"),
        "--store",
        str(store),
        "--device",
        "cpu",
    ]
    assert CliRunner().invoke(app, options, catch_exceptions=False).exit_code == 0
    from_cli = Run(tmp_path / "cli" / "tiny")
    assert from_cli.record["key"] == from_python.record["key"]
    held = [(one.folder / "prediction.json").read_bytes() for one in (from_python, from_cli)]
    assert held[0] == held[1]
    assert json.loads(held[0])["rows"]
    assert all(one.report.is_file() for one in (from_python, from_cli))


def test_two_bases_are_advised_on(tiny_model, tmp_path, hindi_file, english_file):
    """Each base gets its answers, as a table and as JSON; a base is not better than its copy.

    Bases whose last folder has the same name are both there. Text in another script than its
    language's is a warning.
    """
    copies = [tmp_path / one / "model" for one in ("a", "b")]
    for copy in copies:
        shutil.copytree(tiny_model, copy)
    request = AdviceRequest(
        "hi", (str(hindi_file),), "ta", (str(english_file),), Gpus.parse("H100:8"), budget=10**6
    )
    found = advise(list(map(str, copies)), request, Runtime(tmp_path / "runs", device="cpu"))
    assert [base.name for base in found.bases] == ["a/model", "b/model"]
    first = found.bases[0]
    assert first.target_bits[0] > first.base_bits[0] * 0.5
    assert first.shape.rows == 320
    assert found.ranking.carried == ()
    assert json.loads(json.dumps(advice_json(found)))["bases"][0]["budget"] == 10**6
    assert any("text in ta: letters of another script" in line for line in found.warnings)
    assert len(advice_tables(found)) == 2


@pytest.mark.parametrize(
    ("file", "settings", "message"),
    [
        ("config.json", {"quant_method": "gptq"}, r"quantised \(gptq\).*unquantised weights only"),
        ("config.json", {"load_in_4bit": True}, r"quantised \(bitsandbytes\)"),
        ("adapter_config.json", {}, "holds a model .* and an adapter"),
    ],
    ids=["gptq", "bitsandbytes", "adapter"],
)
def test_a_base_that_cannot_be_adapted_is_refused_before_any_is_scored(
    tiny_model, hindi_file, file, settings, message
):
    """A local folder gets the message that a model of the Hub gets, with the way out."""
    folder = hindi_file.parent / "model"
    shutil.copytree(tiny_model, folder)
    written = json.loads((folder / "config.json").read_text())
    (folder / file).write_text(json.dumps({**written, "quantization_config": settings}))
    request = AdviceRequest("hi", (str(hindi_file),), budget=10**6)
    with pytest.raises(ModelError, match=message):
        advise([str(tiny_model), str(folder)], request, Runtime(folder.parent, device="cpu"))


def test_an_adapter_is_no_tokenizer_alone(tiny_model, tmp_path, hindi_file):
    """An adapter saved with its tokenizer is refused with the command that merges it."""
    shutil.copy(tiny_model / "tokenizer.json", tmp_path)
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "owner/name"}')
    request = AdviceRequest("hi", (str(hindi_file),))
    with pytest.raises(ModelError, match="an adapter of owner/name, not a model; merge it first"):
        advise([str(tmp_path)], request)


def test_one_base_with_weights_is_not_ranked(tiny_model, tmp_path, hindi_file):
    """Next to a tokenizer alone there is nothing to compare it with."""
    alone = tmp_path / "tokenizer.json"
    shutil.copy(tiny_model / "tokenizer.json", alone)
    request = AdviceRequest("hi", (str(hindi_file),), budget=10**6)
    here = Runtime(tmp_path / "runs", device="cpu")
    found = advise([str(tiny_model), str(alone)], request, here)
    assert [base.target_bits is None for base in found.bases] == [False, True]
    assert found.ranking is None
    assert len(advice_tables(found)) == 1


@pytest.mark.parametrize(("documents", "shown"), [(19, 0), (20, 1)])
def test_few_documents_make_no_base_better(documents, shown):
    """With fewer than 20, the order is by the means, and no pair is called better."""
    size = np.full(documents, 1000.0)
    scores = [
        BaseScore(name, DocumentScores(size * nats, size, size, 64, 32, size, size), None)
        for name, nats in (("worse", 2.0), ("better", 1.0))
    ]
    ranked = rank_bases(scores)
    assert ranked.order == ("better", "worse")
    assert len(ranked.carried) == shown
    assert ranked.few_documents == (None if shown else documents)


def probed_bases(documents):
    """Return three bases with ends that are predicted for so many held-out documents."""
    scores = []
    for name, value in (("late", 1.5), ("near", 1.0), ("best", 0.95)):
        end = ProbedEnd(Forecast(value, value - 0.1, value + 0.1), documents)
        scores.append(BaseScore(name, None, end))
    return scores


def test_few_held_out_documents_make_no_probed_base_better():
    """With fewer than 20, the order of predicted ends stays, and no pair is called better."""
    ranked = rank_bases(probed_bases(19))
    assert ranked.order == ("best", "near", "late")
    assert ranked.carried == ()
    assert ranked.few_documents == 19


@pytest.mark.parametrize(("part", "share"), [("all", 1), ("reported", 2)])
def test_a_probe_counts_the_held_out_documents_that_its_end_is_for(
    tiny_model, tmp_path, monkeypatch, part, share
):
    """They are those of the curve and the final table; a probe without added tokens works, too."""
    settings = [f"evaluation.heldout_part={part}"]
    monkeypatch.setattr(
        "lingraft.advice.choose.chosen_recipe",
        lambda path, given, changes: chosen_recipe(path, given, [*changes, *settings]),
    )
    text = tmp_path / "en.jsonl"
    lines = [json.dumps({"text": f"the cat {n} sat on the mat " * 9}) for n in range(300)]
    text.write_text("\n".join(lines), encoding="utf-8")
    here = Runtime(tmp_path / "runs", tmp_path / "store", "cpu")
    given = AdviceRequest("en", (str(text),)).given(str(tiny_model))
    end = probe(given, 0, 1_500, 10**6, here)
    (corpus,) = (tmp_path / "store" / "answers").glob("corpus-*")
    assert end.documents == Corpus.open(corpus).counts("heldout").documents // share > 1
    assert end.forecast.low < end.forecast.value < end.forecast.high


@pytest.mark.parametrize(("size", "documents", "total"), [(100, 200, 20_000), (9_000, 20, 80_000)])
def test_a_base_is_scored_on_enough_documents(size, documents, total):
    """Long documents are cut, so that there are as many as a comparison needs."""
    texts = tuple(f"{number:03}" + "न" * ((size - 3) // 3) for number in range(300))
    scored = _scored_documents(TextSample("hi", texts, 1, 1))
    assert len(scored) == pytest.approx(documents, abs=4)
    assert text_bytes(scored) == pytest.approx(total, rel=0.01)
    assert all(text.startswith(part) for text, part in zip(texts, scored, strict=False))


def test_a_probe_far_from_the_end_is_warned_of(tiny_model, hindi_file, tmp_path, monkeypatch):
    """Predicted ends were checked up to 20 times the text of the probe."""
    end = ProbedEnd(Forecast(1.0, 0.9, 1.1), 20)
    # `lingraft.advice.advise` is the function of the package.
    monkeypatch.setattr(sys.modules["lingraft.advice.advise"], "probe", lambda *_: end)
    here = Runtime(tmp_path / "runs", tmp_path / "store", "cpu")
    found = []
    for times in (20, 21):
        request = AdviceRequest("hi", (str(hindi_file),), probe=10**6, budget=times * 10**6)
        warnings = advise([str(tiny_model)], request, here).warnings
        found.append(any("checked up to 20 times" in line for line in warnings))
    assert found == [False, True]


def test_a_probe_of_too_few_steps_says_so_before_it_trains(
    tiny_model, hindi_file, english_file, tmp_path
):
    """The message says what to give."""
    here = Runtime(tmp_path / "runs", tmp_path / "store", "cpu")
    text = (str(hindi_file),)
    given = AdviceRequest("hi", text, base_text=(str(english_file),)).given(str(tiny_model))
    with pytest.raises(RecipeError, match=r"--probe 10 bytes: 1 step of training.*such as --probe"):
        probe(given, 20, 10, 10**6, here)
    assert not list((tmp_path / "store" / "answers").glob("training-*"))


def test_bases_are_ranked_by_their_predicted_end():
    """A lower end is better only where the intervals do not meet."""
    ranked = rank_bases(probed_bases(20))
    assert ranked.order == ("best", "near", "late")
    assert set(ranked.carried) == {("best", "late"), ("near", "late")}


def test_advice_needs_text(tiny_model):
    """Without text there is nothing to say."""
    with pytest.raises(RecipeError, match="text in the language"):
        advise([str(tiny_model)], AdviceRequest("hi", ()))
