"""Scores of a model and the measures from them: agreement with lm-eval, memory, repetition."""

from __future__ import annotations

import importlib
import resource
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lingraft.checkpoint import load_model
from lingraft.corpus.readers import read_parallel
from lingraft.errors import CorpusError, StoreError
from lingraft.evaluation import (
    BootstrapSettings,
    EvaluationSettings,
    GenerationSettings,
    TextScores,
    bits_per_byte,
    count_sentences,
    evaluate,
    forgetting,
    score_text,
)
from lingraft.evaluation.added_token_use import (
    AddedTokenUse,
    find_undertrained,
    measure_exposure,
    measure_rotation,
    measure_use,
)
from lingraft.evaluation.fertility import premium
from lingraft.evaluation.samples import repetition, write_samples
from lingraft.measurement import Measurement, metric_changes, select
from lingraft.text_units import TextUnit
from lingraft.tokenizer import ModelTokenizer, open_tokenizer
from lingraft.tokenizer.premiums import gini
from tests.conftest import ENGLISH, HINDI
from tests.models import ARCHITECTURES, MemoryCorpus, extended_tokenizer

# The package exports a function of the same name, so the module is imported by its full name.
bits_module = importlib.import_module("lingraft.evaluation.bits_per_byte")
BOOTSTRAP = BootstrapSettings(resamples=50)
SETTINGS = EvaluationSettings(bootstrap=BOOTSTRAP, generation=None)
DOCUMENTS = [*ENGLISH, *HINDI, "", " ".join(HINDI)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ARCHITECTURES["llama"].build(tmp_path_factory.mktemp("scores") / "model")


@pytest.fixture(scope="module")
def pair(folder: Path) -> tuple[Any, ModelTokenizer]:
    return load_model(folder), open_tokenizer(folder)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("batch", [1, 4])
def test_bits_per_byte_agrees_with_lm_eval(
    batch: int, folder: Path, pair: tuple[Any, ModelTokenizer]
) -> None:
    """With a stride of the whole context, lm-eval's rolling log-likelihood is equal."""
    from lm_eval.models.huggingface import HFLM
    from transformers import AutoTokenizer

    texts = [text for text in DOCUMENTS if text]
    lm = HFLM(
        pretrained=pair[0],
        tokenizer=AutoTokenizer.from_pretrained(folder),
        backend="causal",
        batch_size=batch,
    )
    rolling = lm.loglikelihood_rolling(
        [SimpleNamespace(args=(text,)) for text in texts], disable_tqdm=True
    )
    ours = bits_per_byte(*pair, texts, context=64, stride=64)
    np.testing.assert_allclose(ours.nats, [-value for value in rolling], rtol=1e-6)
    assert ours.tokens.max() > 64


def test_a_document_of_a_megabyte_is_read_in_pieces(
    pair: tuple[Any, ModelTokenizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call reads at most a batch of tokens, logits have a limit, memory stays small."""
    model, tokenizer = pair
    monkeypatch.setattr("lingraft.evaluation.window_scorer.LOGITS_AT_ONCE", 320 * 100)
    seen, made = [], []
    hooks = [
        model.model.register_forward_pre_hook(
            lambda _m, _a, kwargs: seen.append(kwargs["input_ids"].numel()), with_kwargs=True
        ),
        model.lm_head.register_forward_hook(lambda _m, _a, logits: made.append(logits.numel())),
    ]
    text = (" ".join(ENGLISH) + " ") * 5600
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    scores = bits_per_byte(model, tokenizer, [text], context=64, stride=64)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    for hook in hooks:
        hook.remove()
    assert scores.bytes[0] > 1_000_000
    assert sum(seen) >= scores.tokens[0]
    assert max(seen) <= bits_module.BATCH_TOKENS["cpu"]
    assert max(made) <= 320 * 100
    assert grown < 300


def test_scores_are_the_same_after_writing(
    pair: tuple[Any, ModelTokenizer], tmp_path: Path
) -> None:
    """A file of scores reads back bit for bit and holds no pickle; another file is an error."""
    scores = score_text(*pair, DOCUMENTS, SETTINGS)
    scores.write(tmp_path / "scores.npz")
    again = TextScores.read(tmp_path / "scores.npz")
    for name, value in vars(scores).items():
        assert np.array_equal(value, getattr(again, name)), name
    assert [part.tolist() for part in again.documents()] == pair[1].encode(DOCUMENTS)
    assert again.bits_per_byte == scores.bits_per_byte


@pytest.mark.parametrize("kept", [0, 2, 10, 0.5, 0.98])
def test_scores_that_were_cut_are_named(
    pair: tuple[Any, ModelTokenizer], tmp_path: Path, kept: float
) -> None:
    """A file of which a part is missing is an error with its path, wherever it ends."""
    path = tmp_path / "broken.npz"
    score_text(*pair, DOCUMENTS, SETTINGS).write(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(kept if kept > 1 else kept * len(data))])
    with pytest.raises(StoreError, match=r"broken\.npz: not a file of scores"):
        TextScores.read(path)


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two! Three?", 3),
        ("वह गया। वह आया।", 2),
        ("a line\nanother", 2),
        ("他来了。她走了。", 2),
        ("3.14 is pi", 1),
        ("“Stop.” He left.", 2),
        ("", 0),
        ("... !", 0),
        ("هل جاء؟ نعم.", 2),
    ],
)
def test_sentences_end_in_every_script(text: str, sentences: int) -> None:
    """Full stops of several scripts end a sentence, and so does a line; a decimal point not."""
    assert count_sentences(text) == sentences


def test_the_premium_is_over_english(pair: tuple[Any, ModelTokenizer], tmp_path: Path) -> None:
    """Sentences without a translation are left out, and a missing column is an error."""
    file = tmp_path / "parallel.jsonl"
    lines = [f'{{"en": "{one}", "hi": "{two}"}}\n' for one, two in zip(ENGLISH, HINDI, strict=True)]
    file.write_text("".join([*lines, '{"en": "alone", "hi": ""}\n']), encoding="utf-8")
    row = premium(pair[1], read_parallel(str(file), ["hi"]), "source", BOOTSTRAP)[0]
    counts = [sum(map(len, pair[1].encode(texts))) for texts in (HINDI, ENGLISH)]
    assert row.value == counts[0] / counts[1]
    assert (row.n, row.per, row.language, row.split) == (4, "sentence", "hi", "parallel")
    with pytest.raises(CorpusError, match="no column tr; the columns are en, hi"):
        read_parallel(str(file), ["tr"])


def test_the_gini_coefficient_is_measured_with_and_without_english(
    pair: tuple[Any, ModelTokenizer],
) -> None:
    """It is that of the premiums, its interval contains it, and a single language has none."""
    columns = {"en": ENGLISH, "hi": HINDI, "same": ENGLISH}
    *rows, without, with_english = premium(pair[1], columns, "source", BOOTSTRAP)
    premiums = [row.value for row in rows]
    assert premiums[1] == 1
    assert (without.metric, without.value) == ("Gini of premiums", gini(premiums))
    assert (with_english.language, with_english.value) == ("", gini([*premiums, 1.0]))
    assert without.note == "over hi, same"
    for row in (without, with_english):
        assert row.low is not None
        assert row.high is not None
        assert row.low <= row.value <= row.high
    assert len(premium(pair[1], {"en": ENGLISH, "hi": HINDI}, "source", BOOTSTRAP)) == 1


def test_the_normalised_sequence_length_of_a_tokenizer_to_itself_is_one(folder: Path) -> None:
    """The note names the reference tokenizer, which the user chooses."""
    chosen = SETTINGS.model_copy(update={"reference_tokenizer": str(folder)})
    row = select(
        evaluate({"source": folder}, {"hi": MemoryCorpus()}, chosen).measurements,
        metric="normalised sequence length",
    )[0]
    assert (row.value, row.low, row.high) == (1, 1, 1)
    assert row.note.endswith("model")


def test_repetition_counts_repeated_word_4_grams() -> None:
    """A loop repeats, a story does not, and a script without spaces is counted by characters."""
    loop, story = "the red apple and " * 10, "a small bird sings in the tall green tree by day"
    assert repetition([loop], "en", "a", BOOTSTRAP)[0].value == pytest.approx(33 / 37)
    assert repetition([story], "en", "a", BOOTSTRAP)[0].value == 0
    assert repetition(["two words"], "en", "a", BOOTSTRAP) == []
    assert repetition(["กกกกกกกก"], "th", "a", BOOTSTRAP, unit=TextUnit.CHARACTER)[
        0
    ].value == pytest.approx(4 / 5)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_samples_are_written_alike_alone_and_together(name: str, tmp_path: Path) -> None:
    """For every architecture, a sample does not depend on the other prompts of its batch."""
    folder = ARCHITECTURES[name].build(tmp_path)
    model, tokenizer = load_model(folder), open_tokenizer(folder)
    prompts = ["The old", "She reads a long letter"]
    together = write_samples(model, tokenizer, prompts, 12)
    assert [write_samples(model, tokenizer, [prompt], 12)[0] for prompt in prompts] == together
    assert all(
        12 <= sum(len(tokenizer.vocabulary.surfaces[i]) for i in sample.ids) < 24
        for sample in together
    )
    assert all(sample.text == tokenizer.decode(sample.ids) for sample in together)


def test_settings_of_generation_do_not_change_samples(tmp_path: Path) -> None:
    """Samples are greedy, whatever generation_config.json asks for, and the model keeps its own."""
    folder = ARCHITECTURES["llama"].build(tmp_path)
    model, tokenizer = load_model(folder), open_tokenizer(folder)
    greedy = write_samples(model, tokenizer, ["The old"], 40)
    model.generation_config.repetition_penalty = 50.0
    model.generation_config.no_repeat_ngram_size = 1
    assert write_samples(model, tokenizer, ["The old"], 40) == greedy
    assert model.generation_config.repetition_penalty == 50.0


def test_the_use_of_added_tokens_is_counted(folder: Path, tmp_path: Path) -> None:
    """The used share of added tokens, and the added share of tokens, are those of the text."""
    model = load_model(ARCHITECTURES["llama"].build_with(322, tmp_path))
    splice = extended_tokenizer(folder, tmp_path, ("zq", "xj"))
    tokenizer = open_tokenizer(tmp_path)
    scores = score_text(model, tokenizer, ["zq", "a", "zq zq"], SETTINGS)
    in_use, frequent, share = measure_use(
        scores, [token.id for token in splice.added], "hi", "spliced", BOOTSTRAP
    )
    assert (in_use.value, in_use.n, frequent.value) == (0.5, 2, 0)
    assert share.value == 3 / scores.tokens.sum()


def test_rows_that_barely_turn_are_under_trained(folder: Path, tmp_path: Path) -> None:
    """A row that only decayed did not rotate; a row that was moved did."""
    after = ARCHITECTURES["llama"].build(tmp_path)
    weights = load_file(after / "model.safetensors")
    table = weights["model.embed_tokens.weight"]
    table[10] *= 0.9
    table[11:14] += torch.randn(3, table.shape[1]) * 0.01
    before = load_file(folder / "model.safetensors")["model.embed_tokens.weight"]
    rotations = measure_rotation(before, table, np.array([10, 11, 12, 13]))
    assert find_undertrained(rotations).tolist() == [True, False, False, False]
    assert rotations[0] < 1e-6
    assert rotations[1:].min() > 1e-2
    rows = measure_exposure(
        AddedTokenUse(np.arange(4), np.array([0, 9, 10, 100]), rotations), "hi", "adapted"
    )
    assert [row.value for row in rows] == [9.5, 0.5, 0.25]
    assert "1 none" in rows[0].note


def test_forgetting_pairs_before_and_after() -> None:
    """Forgetting compares bits per byte and task scores, with the paired change if there is one."""
    rows = [
        Measurement(metric, subject, value, unit, "en", split)
        for metric, subject, value, unit, split in (
            ("bits per byte", "source", 1.5, "bits/byte", ""),
            ("bits per byte", "adapted", 1.6, "bits/byte", ""),
            ("bits per byte change", "adapted", 0.1, "bits/byte", ""),
            ("tokens per word", "adapted", 2, "tokens/word", ""),
            ("xcopa accuracy", "source", 0.7, "share", "test"),
            ("xcopa accuracy", "adapted", 0.6, "share", "test"),
            ("xcopa accuracy", "other", 0.6, "share", "test"),
        )
    ]
    found = forgetting([*rows, Measurement("bits per byte", "adapted", 1, "bits/byte", "hi")], "en")
    assert [(one.metric, one.subject) for one in found] == [
        ("bits per byte", "adapted"),
        ("xcopa accuracy", "adapted"),
        ("xcopa accuracy", "other"),
    ]
    assert found[0].change is not None
    assert found[1].change is None
    assert found[1].difference == pytest.approx(-0.1)


def test_a_task_score_that_rises_is_called_better() -> None:
    """The paired interval decides between better and worse; seen documents are neither."""
    rows = [
        Measurement("xcopa accuracy", "source", 0.5, "share", "ta", "test"),
        Measurement("xcopa accuracy", "adapted", 0.7, "share", "ta", "test"),
        Measurement(
            "xcopa accuracy change", "adapted", 0.2, "share", "ta", "test", low=0.1, high=0.3
        ),
        Measurement("xcopa documents seen in training", "source", 0, "documents", "ta", "test"),
        Measurement("xcopa documents seen in training", "adapted", 4, "documents", "ta", "test"),
    ]
    rows = [replace(row, n=200) for row in rows]
    assert [one.verdict for one in metric_changes(rows)] == ["better", ""]


def test_samples_carry_repetition_and_new_tokens(folder: Path) -> None:
    """Repetition and the share of new tokens have intervals over samples."""
    chosen = EvaluationSettings(
        bootstrap=BOOTSTRAP,
        generation=GenerationSettings(
            timed_bytes=8, timed_prompts=1, timed_repeats=1, samples=3, sample_bytes=40
        ),
    )
    rows = evaluate({"source": folder}, {"hi": MemoryCorpus()}, chosen).measurements
    new = select(rows, metric="new tokens generated")[0]
    assert (new.value, new.n, new.per) == (0, 3, "sample")
    by_bytes, seconds = (
        select(rows, metric=m)[0].value for m in ("generation speed", "time to write 1,000 bytes")
    )
    assert by_bytes * seconds == pytest.approx(1000)
