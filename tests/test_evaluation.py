"""Intrinsic measures: every byte is scored once, and intervals cover the true value."""

from __future__ import annotations

import copy
import json
import math
import re
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lingraft.checkpoint import load_model
from lingraft.errors import CorpusError, ModelError
from lingraft.evaluation import (
    BootstrapSettings,
    EvaluationSettings,
    GenerationSettings,
    bits_per_byte,
    count_words,
    evaluate,
    fertility,
    generation_speed,
    score_text,
)
from lingraft.evaluation.bootstrap import ratio_interval
from lingraft.evaluation.fertility import fertility_changes
from lingraft.evaluation.generation import Passage
from lingraft.evaluation.score_model import choose_passages, heldout_documents
from lingraft.evaluation.window_scorer import split_into_windows
from lingraft.measurement import select
from lingraft.tokenizer import ModelTokenizer, open_tokenizer
from tests.conftest import ENGLISH, HINDI
from tests.models import ARCHITECTURES, Architecture, MemoryCorpus, extended_tokenizer

SETTINGS = EvaluationSettings(bootstrap=BootstrapSettings(resamples=50), generation=None)
DOCUMENTS = [*ENGLISH, "", "a", HINDI[0], " ".join(HINDI), " ".join(ENGLISH) * 2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a two-layer Llama with a context of 64."""
    return ARCHITECTURES["llama"].build(tmp_path_factory.mktemp("intrinsic") / "model")


@pytest.fixture(scope="module")
def pair(folder: Path) -> tuple[Any, ModelTokenizer]:
    """Return the loaded model with its tokenizer."""
    return load_model(folder), open_tokenizer(folder)


def slow_nats(model: Any, tokenizer: ModelTokenizer, text: str, context: int, stride: int) -> float:
    """Score one token at a time, each with the context of its sliding window."""
    sequence = [tokenizer.bos_id, *tokenizer.encode([text])[0]]
    nats = 0.0
    for position in range(1, len(sequence)):
        if position <= context:
            start = 0
        else:
            moves = math.ceil((position - context) / stride)
            start = max(0, min(context + moves * stride, len(sequence) - 1) - context)
        logits = model(torch.tensor([sequence[start:position]])).logits[0, -1].double()
        nats -= float(logits.log_softmax(dim=-1)[sequence[position]])
    return nats


@pytest.mark.parametrize(("context", "stride"), [(64, 32), (64, 64), (16, 5), (7, 1)])
def test_bits_per_byte_equals_a_slow_reference(
    context: int, stride: int, pair: tuple[Any, ModelTokenizer]
) -> None:
    """Scoring one token at a time gives the same nats per document, to one part in a million."""
    scores = bits_per_byte(*pair, DOCUMENTS, context=context, stride=stride, batch_tokens=100)
    with torch.inference_mode():
        expected = [slow_nats(*pair, text, context, stride) for text in DOCUMENTS]
    np.testing.assert_allclose(scores.nats, expected, rtol=1e-6, atol=1e-6)
    assert scores.bytes.tolist() == [len(text.encode()) for text in DOCUMENTS]
    assert scores.bits_per_byte == pytest.approx(
        sum(expected) / math.log(2) / scores.bytes.sum(), rel=1e-6
    )


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_bits_per_byte_is_the_models_own_loss(name: str, tmp_path: Path) -> None:
    """For every architecture, batching, padding and a separate head do not change the scores."""
    folder = ARCHITECTURES[name].build(tmp_path)
    model, tokenizer = load_model(folder), open_tokenizer(folder)
    scores = bits_per_byte(model, tokenizer, DOCUMENTS[:6], context=64)
    assert scores.notes == ()
    for text, nats in zip(DOCUMENTS[:6], scores.nats, strict=True):
        ids = torch.tensor([[tokenizer.bos_id, *tokenizer.encode([text])[0]]])
        with torch.inference_mode():
            logits = model(ids).logits[0, :-1].double()
        expected = -logits.log_softmax(dim=-1).gather(1, ids[0, 1:, None]).sum()
        assert nats == pytest.approx(float(expected), rel=1e-5, abs=1e-6)


def test_a_head_that_cannot_be_taken_apart_is_used_whole(folder: Path) -> None:
    """A model that changes its logits after the head is scored by its whole forward pass, noted."""
    model, tokenizer = load_model(folder), open_tokenizer(folder)
    expected = bits_per_byte(model, tokenizer, DOCUMENTS)
    apart = model.model.forward
    model.model.forward = lambda *args, **kwargs: (apart(*args, **kwargs)[0],)
    plain = model.forward
    model.forward = lambda input_ids, **_: type(
        "Output", (), {"logits": _logits(apart, model, input_ids)}
    )()
    scores = bits_per_byte(model, tokenizer, DOCUMENTS)
    model.forward = plain
    assert "could not be taken apart" in scores.notes[0]
    np.testing.assert_allclose(scores.nats, expected.nats, rtol=1e-5, atol=1e-6)


def _logits(body: Any, model: Any, input_ids: torch.Tensor) -> torch.Tensor:
    return model.lm_head(body(input_ids=input_ids, use_cache=False).last_hidden_state)


@pytest.mark.parametrize("tokens", [0, 1, 3, 4, 5, 9, 31])
@pytest.mark.parametrize(("context", "stride"), [(4, 4), (4, 2), (4, 1), (1, 1)])
def test_windows_score_every_token_once(tokens: int, context: int, stride: int) -> None:
    """Windows cover 1 to n without gaps, and none is longer than the context."""
    windows = list(split_into_windows(0, tokens, context, stride))
    assert [position for w in windows for position in range(w.first, w.end + 1)] == list(
        range(1, tokens + 1)
    )
    assert all(w.start < w.first <= w.end and w.length <= context for w in windows)


def test_a_context_longer_than_the_models_is_an_error(pair: tuple[Any, ModelTokenizer]) -> None:
    """The error names both numbers."""
    with pytest.raises(ModelError, match=r"65 tokens.*64"):
        bits_per_byte(*pair, ["a"], context=65)


def test_a_model_without_bos_and_eos_is_an_error(
    folder: Path, pair: tuple[Any, ModelTokenizer]
) -> None:
    """A model without BOS and EOS is an error."""
    bare = ModelTokenizer(folder, pair[1].family, {})
    with pytest.raises(ModelError, match="neither a BOS nor an EOS"):
        bits_per_byte(pair[0], bare, ["a"])


def test_a_token_without_an_embedding_row_is_an_error(pair: tuple[Any, ModelTokenizer]) -> None:
    """Every score of bits per byte refuses it; the token before the text needs a row, too."""
    model, tokenizer = copy.deepcopy(pair[0]), pair[1]
    model.resize_token_embeddings(tokenizer.bos_id, mean_resizing=False)
    for score in (bits_per_byte, partial(score_text, settings=SETTINGS)):
        with pytest.raises(ModelError, match=f"has {tokenizer.bos_id} embedding rows; add rows"):
            score(model, tokenizer, ["a cat"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The old farmer's apple, 3.5 kg!", 6),
        ("बूढ़े किसान ने अपनी बेटी को लाल सेब दिया।", 9),
        ("", 0),
        ("… — !", 0),
        ("கிராமத்தில் ஒரு விவசாயி", 3),
        ("çiftçi elmayı verdi", 3),
        ("أعطى الفلاح ابنته", 3),
    ],
)
def test_words_are_unicode_words(text: str, words: int) -> None:
    """Vowel signs stay within their word; punctuation is not a word."""
    assert count_words(text) == words


def test_fertility_counts_tokens(pair: tuple[Any, ModelTokenizer]) -> None:
    """Fertility is a ratio of sums, inside its interval."""
    tokenizer = pair[1]
    documents = [*ENGLISH, f"{ENGLISH[0]} {ENGLISH[1]}"]
    rows = fertility(score_text(*pair, documents, SETTINGS), "en", "source", SETTINGS.bootstrap)
    tokens = sum(len(ids) for ids in tokenizer.encode(documents))
    values = {row.metric: row.value for row in rows}
    assert values["tokens per word"] == tokens / sum(len(text.split()) for text in documents)
    assert values["tokens per byte"] == tokens / sum(len(text.encode()) for text in documents)
    assert values["tokens per sentence"] == tokens / (len(documents) + 1)
    assert values["tokens per document"] == tokens / len(documents)
    assert values["characters per token"] == sum(map(len, documents)) / tokens
    assert all(
        row.low <= row.value <= row.high
        for row in rows
        if row.low is not None and row.high is not None
    )
    assert not any(row.note for row in rows)
    thai = score_text(*pair, ["ชาวนาให้แอปเปิ้ลแก่ลูกสาว", "นกร้องเพลง"], SETTINGS)
    rows = fertility(thai, "th", "source", SETTINGS.bootstrap)
    (row,) = select(rows, metric="tokens per character")
    (inverse,) = select(rows, metric="characters per token")
    assert row.value == pytest.approx(1 / inverse.value)
    assert "no spaces" in row.note
    assert not select(rows, metric="tokens per word")


def test_identical_documents_are_counted(
    folder: Path, pair: tuple[Any, ModelTokenizer], tmp_path: Path
) -> None:
    """Documents with equal ids count as identical; the change in tokens per word is paired."""
    model = load_model(ARCHITECTURES["llama"].build_with(321, tmp_path))
    extended_tokenizer(folder, tmp_path, ("zq",))
    documents = ["red apple", "a", "b", "a zq"]
    one, two = (
        score_text(*pair, documents, SETTINGS),
        score_text(model, open_tokenizer(tmp_path), documents, SETTINGS),
    )
    change, same = fertility_changes(
        two, one, "en", "spliced", "source", bootstrap=SETTINGS.bootstrap
    )
    assert same.value == 0.75
    assert change.metric == "tokens per word change"
    assert change.value == pytest.approx((two.tokens.sum() - one.tokens.sum()) / one.units.sum())
    assert change.low is not None
    assert change.low <= change.value <= 0


def test_intervals_cover_what_they_should() -> None:
    """95% intervals of a ratio hold the true ratio in about 95 of 100 samples."""
    random = np.random.default_rng(0)
    settings, hits = BootstrapSettings(resamples=400), 0
    for _ in range(200):
        sizes = random.integers(20, 200, 80)
        low, high = ratio_interval(sizes * random.normal(2, 0.5, 80), sizes, settings) or (0, 0)
        hits += low <= 2 <= high
    assert 180 <= hits <= 199


def test_generation_times_the_same_text_for_every_model(pair: tuple[Any, ModelTokenizer]) -> None:
    """Each model writes the real continuation in its own tokens, also through a full context."""
    passages = [
        Passage("The old", " farmer gave the red apple to his daughter. " * 4),
        Passage("बूढ़े", " किसान ने"),
    ]
    speeds = generation_speed({"a": pair, "b": pair}, passages, repeats=1)
    ids = pair[1].encode([one.prompt + one.continuation for one in passages])
    prompts = pair[1].encode([one.prompt for one in passages])
    assert len(ids[0]) > 64  # the model's context
    for speed in speeds.values():
        assert speed.bytes == sum(len(one.continuation.encode()) for one in passages)
        assert speed.characters == sum(len(one.continuation) for one in passages)
        assert speed.prompt_bytes == len("The oldबूढ़े".encode())
        assert (speed.tokens, speed.prompt_tokens) == (
            sum(map(len, ids)) - sum(map(len, prompts)),
            sum(map(len, prompts)),
        )
        assert speed.decode_seconds > 0
        assert speed.bytes_per_second > 0


def test_passages_begin_with_whole_words_and_go_on_to_the_byte() -> None:
    """A prompt ends before a space if it can; prompt and continuation are text of the document."""
    documents = ["one two three four five", "short", "x", "nospacesinhere at all", "left out"]
    passages = choose_passages(documents, 3, 10, 6)
    assert passages == [
        Passage("one two", " three"),
        Passage("sh", "ort"),
        Passage("nospacesin", "here a"),
    ]


def test_evaluation_measures_every_model_on_the_same_bytes(folder: Path) -> None:
    """A model does not differ from itself; the limit of held-out text is kept and reported."""
    generation = GenerationSettings(timed_bytes=8, timed_prompts=1, timed_repeats=1)
    settings = EvaluationSettings(heldout_bytes=300, generation=generation)
    result = evaluate({"source": folder, "adapted": folder}, {"hi": MemoryCorpus()}, settings)
    assert result.notes["hi"]["bytes"] <= 300 < result.notes["hi"]["bytes"] + 3
    source, adapted = (
        select(result.measurements, metric="bits per byte", subject=s)[0]
        for s in ("source", "adapted")
    )
    assert source.value == adapted.value
    assert source.n == result.notes["hi"]["documents"] > 1
    change = select(result.measurements, metric="bits per byte change")[0]
    assert (change.value, change.low, change.high) == (0, 0, 0)
    assert select(result.measurements, metric="documents tokenised identically")[0].value == 1
    assert {row.metric for row in result.measurements} >= {
        "generation speed",
        "prefill speed",
        "new tokens generated",
    }
    assert result.samples[0].keys() == {"subject", "language", "prompt", "text"}


def test_every_measure_begins_documents_with_the_separator(folder: Path, tmp_path: Path) -> None:
    """`eos` gives what `auto` gives for the same tokenizer without BOS: scores and written text."""
    shutil.copytree(folder, tmp_path / "without")
    for name, key in (("tokenizer_config.json", "bos_token"), ("config.json", "bos_token_id")):
        values = json.loads((folder / name).read_text(encoding="utf-8"))
        (tmp_path / "without" / name).write_text(json.dumps({**values, key: None}))
    generation = GenerationSettings(
        prompt_bytes=16, sample_bytes=16, timed_bytes=8, timed_prompts=1, timed_repeats=1
    )
    settings = EvaluationSettings(heldout_bytes=300, generation=generation)

    def measured(model: Path, separator: str) -> dict[str, float]:
        models = {"source": model, "adapted": model}
        result = evaluate(models, {"hi": MemoryCorpus()}, settings, separator=separator)
        rows = [row for row in result.measurements if row.subject == "adapted"]
        timed = re.compile("speed|time")
        return {row.metric: row.value for row in rows if not timed.search(row.metric)}

    found = measured(folder, "eos")
    assert found == measured(tmp_path / "without", "auto")
    assert found != measured(folder, "auto")
    assert {"bits per byte", "bits per byte of generated text"} <= found.keys()


def test_a_language_without_held_out_text_is_an_error(folder: Path) -> None:
    """The error names the corpus and the setting."""
    with pytest.raises(CorpusError, match=r"no held-out text.*heldout_share"):
        evaluate({"source": folder}, {"hi": MemoryCorpus(texts=())}, EvaluationSettings())


def test_a_choice_and_its_report_share_no_document() -> None:
    """Halves of the held-out text are disjoint and complete; one document cannot be halved."""
    corpus = MemoryCorpus()
    every = heldout_documents(corpus, 10_000)
    chosen = heldout_documents(corpus, 10_000, "chosen on")
    reported = heldout_documents(corpus, 10_000, "reported")
    assert len(chosen) - len(reported) in {0, 1}
    assert set(chosen) | set(reported) == set(every)
    assert not set(chosen) & set(reported)
    with pytest.raises(CorpusError, match=r"one held-out document in hi.*only one half is scored"):
        heldout_documents(MemoryCorpus(texts=("एक",)), 10_000, "reported")


@pytest.mark.parametrize(
    ("config", "like", "settings"),
    [
        ("Gemma2Config", "gemma", {"final_logit_softcapping": 0.05}),
        ("GraniteConfig", "llama", {"logits_scaling": 8.0}),
        ("CohereConfig", "llama", {"logit_scale": 0.5}),
    ],
)
def test_a_head_whose_logits_are_capped_or_scaled_is_taken_apart(
    tmp_path: Path, config: str, like: str, settings: dict[str, float]
) -> None:
    """The separate head does what the model does to its logits: whole ones are not needed."""
    known = ARCHITECTURES[like]
    folder = Architecture(config, {**known.settings, **settings}, tied=known.tied).build(tmp_path)
    scores = bits_per_byte(load_model(folder), open_tokenizer(folder), DOCUMENTS[:2], context=64)
    assert scores.notes == ()
