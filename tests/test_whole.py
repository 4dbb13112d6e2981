"""The whole pipeline: the demo's recipe and real bases with small budgets, up to the report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import lingraft
from lingraft.pipeline import Run
from lingraft.tokenizer import open_tokenizer

ROOT = Path(__file__).resolve().parent.parent
TEXT = "किताबें पढ़ना मुझे अच्छा लगता है।  தமிழ் வாக்கியம் ஒன்று, güzel bir gün, جملة عربية 42"


def adapt(recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: dict) -> Run:
    monkeypatch.chdir(ROOT)  # where the recipes' paths begin
    return lingraft.adapt(ROOT / recipe, overrides=overrides, runs=tmp_path / "runs", device="cpu")


def value(run: Run, metric: str, subject: str, language: str) -> float:
    (row,) = [
        row
        for row in run.measurements
        if (row.metric, row.subject, row.language) == (metric, subject, language)
    ]
    return row.value


def check_whole(run: Run) -> None:
    """The certificate holds, the report is one file, and the model loads with the run's ids."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    claims = json.loads((run.folder / "certificate.json").read_text(encoding="utf-8"))["claims"]
    assert claims
    assert [claim["name"] for claim in claims if claim["fatal"] and not claim["holds"]] == []
    assert run.report.read_text(encoding="utf-8").lstrip().lower().startswith("<!doctype html")
    tokenizer = AutoTokenizer.from_pretrained(run.model_path)
    assert (
        tokenizer(TEXT, add_special_tokens=False)["input_ids"]
        == open_tokenizer(run.model_path).encode([TEXT])[0]
    )
    model = AutoModelForCausalLM.from_pretrained(run.model_path)
    ids = tokenizer("Once upon a time", return_tensors="pt")
    assert (
        model.generate(**ids, max_new_tokens=4, do_sample=False).shape[1]
        > ids["input_ids"].shape[1]
    )


SMALL_DEMO = {
    "model.pretrain.training.budget": "80 steps",
    "model.pretrain.training.batch_tokens": 1024,
    "model.pretrain.vocabulary_size": 500,
    "model.pretrain.corpus.sources": {"miniature": {"stories": 300}},
    "replay.corpus": {"miniature": {"stories": 300}},
    "target.corpus": {"miniature": {"stories": 300}},
    "vocabulary.size": 150,
    "training.budget": "60 steps",
    "training.batch_tokens": 512,
    "evaluation.heldout_bytes": 3000,
    "evaluation.generation.timed_repeats": 1,
    "evaluation.generation.samples": 1,
}


def little_text(some_text: Callable[..., Path], language: str) -> dict[str, str]:
    """Return the overrides that put a few of the documents of the real texts in place of all."""
    overrides = {}
    for role, tag, size in (("target", language, 400_000), ("replay", "en", 150_000)):
        overrides[f"{role}.corpus"] = str(some_text(tag, size))
        overrides[f"{role}.heldout_bytes"] = "8kB"
    return overrides


@pytest.mark.parametrize("language", ["hi", pytest.param("ta", marks=pytest.mark.long)])
def test_the_demo(tmp_path, monkeypatch, language):
    """A base trained on English learns another miniature language.

    It needs fewer tokens and fewer bits per byte.
    """
    run = adapt(
        "recipes/demo.yaml", tmp_path, monkeypatch, {**SMALL_DEMO, "target.language": language}
    )
    assert run.folder.name == f"demo-{language}"
    check_whole(run)
    before, after = (
        value(run, "tokens per word", subject, language) for subject in ("source", "adapted")
    )
    assert before / after > 3
    before, after = (
        value(run, "bits per byte", subject, language) for subject in ("source", "adapted")
    )
    assert after < 0.8 * before


def test_a_really_pretrained_model_learns_hindi(some_text, tmp_path, monkeypatch):
    """English-8m with a little Hindi: a sixth of the tokens, fewer bits per byte, same English."""
    run = adapt(
        "benchmarks/recipes/english-8m-hindi.yaml",
        tmp_path,
        monkeypatch,
        {
            **little_text(some_text, "hi"),
            "vocabulary.size": 1000,
            "training.budget": "14 steps",
            "training.batch_tokens": 1024,
            "training.heldout_points": 1,
            "evaluation.heldout_bytes": 4000,
            "evaluation.generation": None,
        },
    )
    check_whole(run)
    fertility = [
        value(run, "tokens per word", subject, "hi") for subject in ("source", "spliced", "adapted")
    ]
    assert fertility[0] / fertility[1] > 4
    assert fertility[1] == fertility[2]
    assert value(run, "bits per byte", "adapted", "hi") < value(
        run, "bits per byte", "source", "hi"
    )
    assert value(run, "documents tokenised identically", "adapted", "en") > 0.95


REAL = [
    pytest.param("llama2-hindi", "hi", 1.8, marks=pytest.mark.long),
    pytest.param("gpt2-arabic", "ar", 1.5, marks=pytest.mark.long),
    pytest.param("llama2-turkish", "tr", 1.3, marks=pytest.mark.long),
    pytest.param("pythia-hindi", "hi", 1.5, marks=pytest.mark.long),
    pytest.param("qwen2-tamil", "ta", 2.0, marks=pytest.mark.long),
]


@pytest.mark.parametrize(("recipe", "language", "saving"), REAL)
def test_real_tokenizers(  # noqa: PLR0917 - pytest fills them in by name
    some_text, tmp_path, monkeypatch, recipe, language, saving
):
    """Real tokenizers with a random body: fewer tokens, a valid certificate, a loadable model."""
    run = adapt(
        f"benchmarks/recipes/{recipe}.yaml",
        tmp_path,
        monkeypatch,
        {
            **little_text(some_text, language),
            "vocabulary.size": 500,
            "training.budget": "1 steps",
            "training.batch_tokens": 128,
            "training.heldout_points": 0,
            "evaluation.heldout_bytes": 3000,
            "evaluation.generation": None,
        },
    )
    check_whole(run)
    assert run.record["language"] == language
    before, after = (
        value(run, "tokens per word", subject, language) for subject in ("source", "adapted")
    )
    assert before / after > saving
