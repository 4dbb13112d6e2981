"""The tables of advice: a number that is missing has its true reason, and a budget its source."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

import lingraft.checkpoint
from lingraft.advice import Advice, AdviceRequest, Gpus, advice_tables, advise, parse_request
from lingraft.corpus.presets import DEFAULT_LIMIT
from lingraft.errors import ModelError
from lingraft.recipe import Runtime


def answers(advice: Advice) -> dict[str, str]:
    """Return the answers for the first base by question."""
    columns = advice_tables(advice)[0].columns[:2]
    return dict(zip(*(column.cells for column in columns), strict=True))


@pytest.fixture
def here(tmp_path):
    return Runtime(tmp_path / "runs", tmp_path / "store", "cpu")


@pytest.fixture
def short_file(tmp_path):
    """Return a file with too little text to predict from."""
    path = tmp_path / "short.txt"
    path.write_text("बूढ़े किसान ने अपनी बेटी को लाल सेब दिया।\n" * 3, encoding="utf-8")
    return path


def test_too_little_text_is_the_reason_where_there_are_weights(tiny_model, short_file, here):
    """What needs a size is not blamed on weights or --gpus, and nothing can be probed."""
    request = AdviceRequest("hi", [str(short_file)], gpus=Gpus.parse("H100"), probe=1_000)
    found = answers(advise([str(tiny_model)], request, here))
    reason = "unknown: too little text for a prediction"
    questions = [question for question, answer in found.items() if answer == reason]
    assert questions == [
        "tokens to add",
        "a byte is cheaper to serve by",
        "a byte is cheapest to serve with",
        "after 107 bytes",
        "training",
        "GPU-hours",
        "memory per device",
        "disk",
    ]
    assert found["bits per byte, base language"] == "not requested"


def test_no_weights_are_the_reason_where_there_are_none(
    tiny_model, tmp_path, hindi_file, english_file, here
):
    """Tokens to add need none. Base text was given, and GPUs were named."""
    folder = tmp_path / "bare"
    folder.mkdir()
    (folder / "tokenizer.json").write_bytes((tiny_model / "tokenizer.json").read_bytes())
    gpus = Gpus.parse("H100")
    request = AdviceRequest("hi", [str(hindi_file)], "en", [str(english_file)], gpus)
    advice = advise([str(folder), str(tiny_model)], request, here)
    known = {"recommendation", "tokens to add", "tokens per byte, now and after"}
    unknown = []
    for question, answer in answers(advice).items():
        assert (answer == "unknown: no weights") == (question not in known), question
        unknown.append(question)
    # Without a base that has weights, one line says it for all of these questions.
    alone = replace(advice, bases=advice.bases[:1])
    assert set(answers(alone)) == known
    (line,) = {table.caption for table in advice_tables(alone)}
    assert line == f"unknown: no weights for: {'; '.join(unknown[len(known) :])}"


def test_gpus_are_asked_for_where_only_they_are_missing(tiny_model, hindi_file, here):
    """With weights and enough text, --gpus gives the hours."""
    request = AdviceRequest("hi", [str(hindi_file)])
    found = answers(advise([str(tiny_model)], request, here))
    assert found["GPU-hours"] == "give --gpus"
    assert [answer for answer in found.values() if "unknown" in answer] == []


def test_each_base_is_loaded_once(tiny_model, hindi_file, english_file, here, monkeypatch):
    """The texts of both languages are scored with the same loaded model."""
    loaded = []
    load = lingraft.checkpoint.load_model
    monkeypatch.setattr(
        lingraft.checkpoint, "load_model", lambda *given: loaded.append(given) or load(*given)
    )
    request = AdviceRequest("hi", [str(hindi_file)], "en", [str(english_file)])
    (base,) = advise([str(tiny_model)], request, here).bases
    assert len(loaded) == 1
    assert base.base_bits is not None
    assert base.base_bits != base.target_bits


def test_a_tokenizer_with_more_ids_than_rows_is_refused_in_one_line(tmp_path, hindi_file, here):
    """The error names the ids and the rows."""
    from tests.conftest import make_tiny_model

    make_tiny_model(tmp_path)
    data = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    token = {**data["added_tokens"][0], "id": 320, "content": "किसान", "special": False}
    data["added_tokens"].append(token)
    (tmp_path / "tokenizer.json").write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(ModelError, match="the id 320, but the model has 320 embedding rows"):
        advise([str(tmp_path)], AdviceRequest("hi", [str(hindi_file)]), here)


def test_a_budget_of_text_that_was_not_read_to_its_end_is_warned_of(
    tiny_model, hindi_file, here, monkeypatch
):
    """The cost is for the part that was read, unless a budget is given."""
    monkeypatch.setattr("lingraft.advice.text_sample.READ_BYTES", 10_000)
    tokenizer, warning = str(tiny_model / "tokenizer.json"), "were read; give --budget"
    given = {"language": "hi", "text": [str(hindi_file)], "sample_bytes": 5_000}
    cut = advise([tokenizer], AdviceRequest(**given), here)
    assert cut.bases[0].budget < hindi_file.stat().st_size / 2
    assert any(warning in line for line in cut.warnings)
    planned = advise([tokenizer], AdviceRequest(**given, budget=10**6), here)
    assert planned.bases[0].budget == 10**6
    assert not any(warning in line for line in planned.warnings)


@pytest.mark.parametrize("text", [None, ["fineweb-2"], ["a.txt", "fineweb-2"]])
def test_a_preset_is_planned_with_the_text_that_a_run_would_read(text):
    """Only a sample of it is read for the advice, also where it is named."""
    request = parse_request("hi", text, None, None, gpus=None, budget=None, probe=None)
    assert request.budget == request.learned_from == DEFAULT_LIMIT
    request = parse_request("hi", ["a.txt"], None, None, gpus=None, budget=None, probe=None)
    assert request.budget is request.learned_from is None
