"""What models learn from their context: gains of probes and documents, and the alarm of a loss."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, LlamaConfig

import lingraft
from lingraft.errors import RecipeError
from lingraft.evaluation import BootstrapSettings, EvaluationSettings, ScoredModel, compare
from lingraft.evaluation.byte_positions import (
    EDGES,
    IN_CONTEXT_GAINS,
    SPANS,
    NatsByByte,
    PositionBits,
    measure_positions,
    position_metric,
    position_notes,
)
from lingraft.evaluation.config import InContextSettings
from lingraft.evaluation.in_context_probes import (
    COPYING,
    KNOWN,
    MAPPING,
    InContextMeasure,
    InContextProbes,
    probe_words,
)
from lingraft.evaluation.lost_ability import lost_abilities, lost_since
from lingraft.evaluation.score_model import HeldoutMeasure, score_model
from lingraft.evaluation.words_kept_whole import TokenPlaces
from lingraft.formatting import number
from lingraft.measurement import (
    CHANGE,
    HIGHER_IS_BETTER,
    LOWER_IS_BETTER,
    Measurement,
    metric_changes,
    select,
)
from lingraft.pipeline.evaluation_stages import CURVE_SETTINGS, check_parallel, curve_settings
from lingraft.pipeline.stage_warnings import ScoredText, other_curve_warning
from lingraft.recipe import Evaluation
from lingraft.store import Manifest
from lingraft.tokenizer import ModelTokenizer, open_tokenizer
from tests.conftest import HINDI
from tests.models import write_tokenizer

# Letters that no merge of the base joins, and every beginning, so that each word is one token.
SURFACES = [
    " " + "".join(letters)
    for length in (1, 2, 3)
    for letters in itertools.product("jqxz", repeat=length)
]
WORDS = [surface[1:] for surface in SURFACES if len(surface) == 4]
BOOTSTRAP = BootstrapSettings(resamples=50)
GAIN, LONG_GAIN = IN_CONTEXT_GAINS
SETTINGS = EvaluationSettings(
    bootstrap=BOOTSTRAP,
    generation=None,
    in_context=InContextSettings(copied_words=8, mapped_pairs=3, texts=20),
)
LONG = [" ".join([*WORDS[start:], *WORDS[:start]] * 4) + "." for start in range(22)]
"""More than 20 documents of 1,024 bytes, whose words come again after 256 bytes."""


class InductionModel(torch.nn.Module):
    """Predicts the token after the longest earlier match of the last tokens, else all equally.

    The logit of that token is `boost`, all others are 0: the bits of every token are known.
    """

    name_or_path = "induction"
    device = torch.device("cpu")

    def __init__(self, vocabulary: int, boost: float) -> None:
        super().__init__()
        self.boost, self.vocabulary = boost, vocabulary
        self.config = LlamaConfig(vocab_size=vocabulary, max_position_embeddings=512)
        self.rows = torch.nn.Embedding(vocabulary, 1)

    def get_input_embeddings(self) -> torch.nn.Embedding:
        return self.rows

    def get_output_embeddings(self) -> None:
        return None

    def forward(self, input_ids: torch.Tensor, **_: Any) -> Any:
        batch, length = input_ids.shape
        logits = torch.zeros(batch, length, self.vocabulary)
        matched = torch.zeros(batch, length + 1, dtype=torch.long)
        for place in range(length):
            # matched[:, j + 1]: how many tokens up to `place` and up to j < `place` are equal.
            equal = input_ids[:, :place] == input_ids[:, place : place + 1]
            lengths = torch.where(equal, matched[:, :place] + 1, 0)
            matched = torch.nn.functional.pad(lengths, (1, length - place))
            for row in range(batch):
                longest = int(lengths[row].max()) if place else 0
                if longest:
                    last = int((lengths[row] == longest).nonzero()[-1])
                    logits[row, place, input_ids[row, last + 1]] = self.boost
        return SimpleNamespace(logits=logits)


class CountedModel(InductionModel):
    """Counts the tokens that it reads."""

    read = 0

    def forward(self, input_ids: torch.Tensor, **_: Any) -> Any:
        self.read += input_ids.numel()
        return super().forward(input_ids)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> ModelTokenizer:
    folder = tmp_path_factory.mktemp("in-context")
    write_tokenizer(folder, SURFACES)
    return open_tokenizer(folder)


def scored(tokenizer: ModelTokenizer, boost: float, texts: dict[str, list[str]]) -> ScoredModel:
    model = InductionModel(tokenizer.size, boost)
    return ScoredModel(model, tokenizer, score_model(model, tokenizer, texts, SETTINGS))


def test_the_words_of_probes_are_whole_tokens_of_the_base(tokenizer: ModelTokenizer) -> None:
    """Every word of the vocabulary that the tokenizer writes as one token is a word of probes."""
    words = probe_words(tokenizer)
    assert {*WORDS} <= {*words}
    assert all(len(ids) == 1 for ids in tokenizer.encode([f" {word}" for word in words]))


def test_a_vocabulary_with_few_words_has_no_probes(tokenizer: ModelTokenizer) -> None:
    """Twice as many words as one text needs are the least; `null` turns probes off."""
    words = len(probe_words(tokenizer))
    enough = InContextSettings(copied_words=words // 2)
    assert InContextProbes.of(tokenizer, enough).texts
    assert not InContextProbes.of(tokenizer, InContextSettings(copied_words=words // 2 + 1)).texts
    assert not InContextProbes.of(tokenizer, None).texts


def test_the_gain_is_what_a_model_saves_by_copying(tokenizer: ModelTokenizer) -> None:
    """Of a model that copies, both gains are known; one that does not use its context has 0."""
    probes = InContextProbes.of(tokenizer, SETTINGS.in_context)
    boost, size = 6.0, tokenizer.size
    scores = probes.score(InductionModel(size, boost), tokenizer)
    new = math.log2(size)
    known = math.log2(math.exp(boost) + size - 1) - boost / math.log(2)
    words = SETTINGS.in_context.copied_words - 2 if SETTINGS.in_context else 0
    np.testing.assert_allclose(scores[COPYING].saved, words * (new - known), rtol=1e-5)
    sizes = [sum(end - begin for begin, end in text.known) for text in probes.texts[COPYING]]
    assert scores[COPYING].bytes.tolist() == sizes
    # In new lines the model expects the `y` of the line before, which costs more than no guess.
    assert np.all(scores[MAPPING].saved > 3 * (new - known))
    unread = probes.score(InductionModel(size, 0.0), tokenizer)
    np.testing.assert_allclose([one.saved for one in unread.values()], 0, atol=1e-4)


def test_a_model_that_lost_its_ability_raises_the_alarm(tokenizer: ModelTokenizer) -> None:
    """Copying less than before is named with numbers; the same ability is no alarm."""
    texts = {"hi": list(HINDI)}
    models = {"source": 6.0, "spliced": 0.5, "adapted": 0.5}
    lost = {name: scored(tokenizer, boost, texts) for name, boost in models.items()}
    rows = compare(lost, texts, SETTINGS).measurements
    before, after = (
        select(rows, metric=KNOWN[COPYING], subject=name)[0] for name in ("source", "adapted")
    )
    copying, mapping = lost_abilities(rows)
    assert copying.startswith(
        "in-context learning: the bits per byte of copied words of the adapted model rose from "
        f"{number(before.value)} to "
    )
    assert "replay text in the base language" in copying
    assert "the bits per byte of mapped words of the adapted model" in mapping
    assert after.n == 20
    assert after.per == "text"
    kept = dict.fromkeys(models, lost["source"])
    assert lost_abilities(compare(kept, texts, SETTINGS).measurements) == []


def test_the_library_warns_of_a_lost_ability_as_the_command_does(
    tokenizer: ModelTokenizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The warnings of `lingraft.evaluate` name what the second model lost."""
    write_tokenizer(tmp_path, SURFACES)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    models = {}
    for name, boost in {"before": 6.0, "after": 0.5}.items():
        model = InductionModel(tokenizer.size, boost)
        model.config = LlamaConfig(vocab_size=tokenizer.size, max_position_embeddings=512)
        models[name] = (model, loaded)
    settings = SETTINGS.model_dump(mode="json", include={"bootstrap", "in_context"})
    report = lingraft.evaluate(models, {"hi": list(HINDI)}, settings=settings)
    lost = lost_abilities(report.rows)
    assert len(lost) == 2
    assert {*lost} < {*report.warnings}
    assert lost[0] in capsys.readouterr().err


def test_a_loss_is_no_alarm_where_there_was_nothing_to_lose(tokenizer: ModelTokenizer) -> None:
    """A base that cannot copy has no ability that training could take."""
    texts = {"hi": list(HINDI)}
    models = {"source": scored(tokenizer, 0.0, texts), "adapted": scored(tokenizer, -3.0, texts)}
    rows = compare(models, texts, SETTINGS).measurements
    (change,) = select(rows, metric=COPYING + CHANGE)
    assert change.high is not None
    assert change.high < 0
    assert lost_abilities(rows) == []


def document_rows(language: str, *, bits_change: float, gain_change: float) -> list[Measurement]:
    """Return measurements of documents before and after training."""
    values = {"bits per byte": (1.5, bits_change), GAIN: (0.2, gain_change)}
    rows = []
    for metric, (value, change) in values.items():
        bounds = {"low": value - 0.01, "high": value + 0.01, "n": 40}
        changed = {"low": change - 0.01, "high": change + 0.01, "n": 40}
        rows += [
            Measurement(metric, "source", value, "bits/byte", language, **bounds),
            Measurement(metric, "adapted", value + change, "bits/byte", language, **bounds),
            Measurement(metric + CHANGE, "adapted", change, "bits/byte", language, **changed),
        ]
    return rows


def test_documents_raise_the_alarm_in_a_language_that_was_not_learned() -> None:
    """In a learned language, a smaller gain is no loss: the beginning is predicted better, too."""
    learned = document_rows("hi", bits_change=-0.3, gain_change=-0.1)
    base = document_rows("en", bits_change=0.0, gain_change=-0.1)
    (warning,) = lost_abilities([*learned, *base])
    assert f"the {GAIN} in en of the adapted model fell from 0.200 to 0.100" in warning
    assert "although bits per byte improved in hi (-0.300)" in warning
    small = document_rows("en", bits_change=0.0, gain_change=-0.015)
    assert lost_abilities([*learned, *small]) == []


def probe_rows(gain_change: float, known_change: float) -> list[Measurement]:
    """Return measurements of a probe before and after training."""
    rows = []
    for metric, before, change in (
        (MAPPING, 2.39, gain_change),
        (KNOWN[MAPPING], 0.104, known_change),
    ):
        for name, subject, value in (
            (metric, "source", before),
            (metric, "adapted", before + change),
            (metric + CHANGE, "adapted", change),
        ):
            bounds = {"low": value - 0.01, "high": value + 0.01, "n": 24}
            rows.append(Measurement(name, subject, value, "bits/byte", **bounds))
    return rows


def test_the_alarm_follows_the_words_that_are_known() -> None:
    """Costlier known words are a loss with most of the gain left; better new words are none."""
    (warning,) = lost_abilities(probe_rows(-0.23, 0.193))
    assert "bits per byte of mapped words of the adapted model rose from 0.104 to 0.297" in warning
    (risen,) = lost_abilities(probe_rows(0.1, 0.193))
    assert risen.count("rose") == 1
    assert lost_abilities(probe_rows(-0.3, -0.02)) == []
    assert lost_abilities(probe_rows(-0.05, 0.05)) == []


def test_a_point_of_training_with_costlier_known_words_is_a_loss() -> None:
    """In training, too, the gain alone does not decide."""
    first = {"gain": 2.0, "low": 1.9, "high": 2.1, "known": 0.1, "known_low": 0.09}
    before = {MAPPING: {**first, "known_high": 0.11}}
    risen = {**first, "known": 0.3, "known_low": 0.25, "known_high": 0.35}
    assert list(lost_since(before, {MAPPING: risen})) == [MAPPING]
    easier = {"gain": 1.5, "low": 1.4, "high": 1.6, "known": 0.05, "known_low": 0.04}
    assert list(lost_since(before, {MAPPING: {**easier, "known_high": 0.06}})) == []


def test_too_few_words_for_probes_are_noted(tokenizer: ModelTokenizer) -> None:
    """Probes that are not measured are never silently missing."""
    texts = {"hi": list(HINDI)}
    models = {"source": scored(tokenizer, 1.0, texts)}
    words = len(probe_words(tokenizer))
    few = SETTINGS.model_copy(update={"in_context": InContextSettings(copied_words=words)})
    note = compare(models, texts, few).notes["in-context probes"]
    assert f"has {words} words that are one token, and {2 * words} are needed" in note
    assert "in-context probes" not in compare(models, texts, SETTINGS).notes


def test_an_added_space_and_a_stripped_end_do_not_cancel() -> None:
    """Tokens of the same size that spell another text have no known places."""
    places = TokenPlaces([b" a", b"b"])
    assert places.ends([0, 1], "ab\n") is None
    ends = places.ends([0, 1], "ab")
    assert ends is not None
    assert ends.tolist() == [1, 2]


def test_documents_that_the_tokenizer_changes_are_named(tokenizer: ModelTokenizer) -> None:
    """Long documents without known positions are not called short."""
    (scores,) = position_scores(tokenizer, 0.0, LONG[:3])
    read = {"base": tokenizer}, {"base": scores}, [text + "\n" for text in LONG[:3]]
    rows = list(measure_positions(*read, "en", BOOTSTRAP))
    notes = position_notes(*read, rows)
    expected = "the tokenizer of base changes 3 of 3 documents"
    assert notes["in-context gain"] == f"not measured: {expected}"
    assert expected in notes["bits per byte by position"]
    assert "fewer than two" not in "".join(notes.values())


@pytest.mark.parametrize("metric", IN_CONTEXT_GAINS)
def test_the_gain_in_documents_is_not_called_better_or_worse(metric: str) -> None:
    """A model that learned a language gains less there without a loss."""
    rows = [
        Measurement(metric, "source", 0.4, "bits/byte", low=0.39, high=0.41, n=40),
        Measurement(metric, "adapted", 0.1, "bits/byte", low=0.09, high=0.11, n=40),
    ]
    assert metric_changes(rows)[0].verdict == ""
    assert metric not in HIGHER_IS_BETTER | LOWER_IS_BETTER


@pytest.mark.parametrize(
    ("low", "gain", "lost"), [(1.9, 1.9, False), (1.5, 1.8, False), (1.5, 1.5, True)]
)
def test_an_alarm_in_training_needs_separate_intervals(low: float, gain: float, lost: bool) -> None:
    """A gain is lost if its interval is below that of step 0, and a tenth of it is gone."""
    before = {COPYING: {"gain": 2.0, "low": low + 0.3, "high": 2.2}}
    now = {COPYING: {"gain": gain, "low": gain - 0.1, "high": gain + 0.1}}
    assert list(lost_since(before, now)) == ([COPYING] if lost else [])
    assert list(lost_since({COPYING: {"gain": 0.1, "low": 0.0, "high": 0.2}}, now)) == []


def test_training_measures_what_the_table_measures(tokenizer: ModelTokenizer) -> None:
    """A point of the curve is the gain in the final table, with the same interval."""
    texts = {"hi": list(HINDI)}
    source = scored(tokenizer, 4.0, texts)
    probes = InContextProbes.of(tokenizer, SETTINGS.in_context)
    points = InContextMeasure(tokenizer, probes, SETTINGS)(source.model)
    rows = compare({"source": source}, texts, SETTINGS).measurements
    for metric, point in points.items():
        (row,), (known,) = (select(rows, metric=name) for name in (metric, KNOWN[metric]))
        assert point == {
            "gain": row.value,
            "low": row.low,
            "high": row.high,
            "known": known.value,
            "known_low": known.low,
            "known_high": known.high,
        }


def test_the_gain_of_documents_in_training_is_that_of_the_table(
    tokenizer: ModelTokenizer, tmp_path: Path
) -> None:
    """Both leave out what the base's tokenizer changes; the curve scores each document once."""
    write_tokenizer(tmp_path, SURFACES)
    file = tmp_path / "tokenizer.json"
    changed = {**json.loads(file.read_text(encoding="utf-8")), "normalizer": {"type": "NFC"}}
    file.write_text(json.dumps(changed), encoding="utf-8")
    texts = {"en": [*LONG[:4], LONG[0] + " e\u0301", "short"], "hi": list(HINDI)}
    adapted = CountedModel(tokenizer.size, 6.0)
    models = {
        "source": scored(open_tokenizer(tmp_path), 6.0, texts),
        "adapted": ScoredModel(
            adapted, tokenizer, score_model(adapted, tokenizer, texts, SETTINGS)
        ),
    }
    measure = HeldoutMeasure(tokenizer, texts, SETTINGS, models["source"].tokenizer)
    read, adapted.read = adapted.read, 0
    point = measure(adapted)
    assert adapted.read == read
    rows = compare(models, texts, SETTINGS).measurements
    (row,) = select(rows, metric=GAIN, subject="adapted")
    (bits,) = select(rows, metric="bits per byte", subject="adapted", language="en")
    assert row.n == 4
    assert point.gains == {
        f"{GAIN} in en": {
            "gain": row.value,
            "low": row.low,
            "high": row.high,
            "n": row.n,
            "bits_per_byte": bits.value,
        }
    }
    assert HeldoutMeasure(tokenizer, texts, SETTINGS)(adapted).gains == {}


def test_an_alarm_of_documents_in_training_follows_the_rule_of_the_table() -> None:
    """Without a loss, a gain falls in a learned language; a few documents claim nothing."""
    name = f"{GAIN} in en"
    first = {"gain": 0.2, "low": 0.19, "high": 0.21, "n": 40, "bits_per_byte": 1.0}
    lost = {**first, "gain": 0.1, "low": 0.09, "high": 0.11}
    assert list(lost_since({name: first}, {name: lost})) == [name]
    assert list(lost_since({name: first}, {name: {**lost, "bits_per_byte": 0.9}})) == []
    assert list(lost_since({name: first}, {name: {**lost, "n": 19}})) == []
    assert list(lost_since({}, {name: lost})) == []


@given(st.lists(st.tuples(st.integers(1, 6), st.floats(0, 9)), min_size=1, max_size=30), st.data())
def test_nats_of_bytes_are_those_of_their_tokens(
    tokens: list[tuple[int, float]], data: st.DataObject
) -> None:
    """Each byte has an equal part of its token's nats."""
    per_byte: list[float] = []
    for size, nats in tokens:
        per_byte += [nats / size] * size
    begin = data.draw(st.integers(0, len(per_byte)))
    end = data.draw(st.integers(begin, len(per_byte)))
    ends = np.cumsum([size for size, _ in tokens])
    read = NatsByByte(ends, np.array([nats for _, nats in tokens]))
    assert read.between([(begin, end)]) == pytest.approx(sum(per_byte[begin:end]), abs=1e-9)


def test_nats_of_tokens_without_bytes_are_kept() -> None:
    """SentencePiece begins with a token that has no byte of the text: it counts with the next."""
    read = NatsByByte(np.array([0, 2, 2, 3]), np.array([1.0, 2.0, 4.0, 8.0]))
    assert read.until([0, 2, 3]).tolist() == [0, 7, 15]


def position_scores(tokenizer: ModelTokenizer, boost: float, texts: list[str]) -> Iterator[Any]:
    yield scored(tokenizer, boost, {"en": texts}).scored.scores["en"]


def test_spans_of_positions_sum_to_the_bits_of_a_document(tokenizer: ModelTokenizer) -> None:
    """A document counts in the spans that it fills, and these hold all of its bits."""
    texts = [LONG[0][:256], LONG[0][:255], "", "é" * 64]
    (scores,) = position_scores(tokenizer, 3.0, texts)
    found = PositionBits.of(scores, texts, TokenPlaces.of(tokenizer))
    filled = [[size <= len(text.encode()) for size in EDGES[1:]] for text in texts]
    assert found.filled.tolist() == filled
    np.testing.assert_allclose(found.bits.sum(axis=1)[[0, 3]], scores.bits[[0, 3]], rtol=1e-6)
    assert not found.bits[~found.filled].any()


def test_the_in_context_gain_of_documents(tokenizer: ModelTokenizer) -> None:
    """A model that copies predicts the end of repetitive documents better; others have no gain."""
    found = {}
    for subject, boost in {"source": 6.0, "adapted": 0.0}.items():
        (found[subject],) = position_scores(tokenizer, boost, LONG)
    tokenizers = dict.fromkeys(found, tokenizer)
    rows = list(measure_positions(tokenizers, found, LONG, "en", BOOTSTRAP))
    source, adapted = select(rows, metric=GAIN)
    assert select(rows, metric=LONG_GAIN) == []
    assert (source.n, source.note) == (22, "bytes 128 to 256 minus bytes 512 to 1,024")
    early, late = (
        select(rows, metric=position_metric(span), subject="source")[0].value
        for span in ((128, 256), (512, 1024))
    )
    assert source.value == pytest.approx(early - late)
    assert source.value > 0.5
    assert abs(adapted.value) < 0.5
    # Later spans are not in the first window, or no document fills them.
    assert {
        row.metric
        for row in rows
        if row.metric.startswith("bits per byte at") and CHANGE not in row.metric
    } == {position_metric(span) for span in SPANS[:5]}


def test_parallel_text_without_a_language_to_compare_is_refused() -> None:
    """A premium is over English: a parallel file is never left unused because only it is there."""
    settings = Evaluation(parallel_file="flores.jsonl")
    with pytest.raises(RecipeError, match=r"flores\.jsonl is compared with English, and only"):
        check_parallel(settings, ["en"])
    check_parallel(settings, ["hi", "en"])
    check_parallel(Evaluation(), ["en"])


def test_short_documents_are_said_to_be_too_short(tokenizer: ModelTokenizer) -> None:
    """Without two documents of 1,024 bytes there is no in-context gain, and a note says why."""
    texts = {"hi": list(HINDI)}
    result = compare({"source": scored(tokenizer, 1.0, texts)}, texts, SETTINGS)
    assert select(result.measurements, metric=GAIN) == []
    assert "fewer than two documents have 1,024 bytes" in result.notes["hi"]["in-context gain"]
    note = result.notes["hi"]["bits per byte by position"]
    # The four sentences have 66 to 117 bytes, and few tokens of the tokenizer are Hindi.
    assert note.startswith("measured up to byte 64: fewer than two documents are longer")


def test_a_stored_curve_with_other_probes_is_warned_of(tmp_path: Path) -> None:
    """The table has the probes of the recipe, the curve those that it was measured with."""
    before = Evaluation()
    now = before.model_copy(update={"in_context": None})
    notes = {CURVE_SETTINGS: curve_settings(before)}
    Manifest("training", "0", {}, {}, notes, seconds=0.0, created="").write(tmp_path)
    assert other_curve_warning(tmp_path, ScoredText(curve_settings(before))) == ""
    warning = other_curve_warning(tmp_path, ScoredText(curve_settings(now)))
    assert "evaluation.in_context {texts: 24, copied_words: 24, " in warning
    assert "(now null); the table is not comparable" in warning
