"""What models learn from their context: gains of probes and documents, and the alarm of a loss."""

from __future__ import annotations

import itertools
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

from lingraft.evaluation import BootstrapSettings, EvaluationSettings, ScoredModel, compare
from lingraft.evaluation.byte_positions import (
    EDGES,
    IN_CONTEXT_GAIN,
    SPANS,
    NatsByByte,
    PositionBits,
    measure_positions,
    position_metric,
)
from lingraft.evaluation.config import InContextSettings
from lingraft.evaluation.in_context_probes import (
    COPYING,
    MAPPING,
    InContextMeasure,
    InContextProbes,
    probe_words,
)
from lingraft.evaluation.lost_ability import lost_abilities, lost_since
from lingraft.evaluation.score_model import score_model
from lingraft.evaluation.words_kept_whole import TokenPlaces
from lingraft.measurement import CHANGE, Measurement, select
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
        text = SimpleNamespace(vocab_size=vocabulary, max_position_embeddings=512)
        self.config = SimpleNamespace(get_text_config=lambda: text)
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


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> ModelTokenizer:
    folder = tmp_path_factory.mktemp("in-context")
    write_tokenizer(folder, SURFACES)
    return open_tokenizer(folder)


def scored(tokenizer: ModelTokenizer, boost: float, texts: dict[str, list[str]]) -> ScoredModel:
    model = InductionModel(tokenizer.size, boost)
    return ScoredModel(model, tokenizer, score_model(model, tokenizer, texts, SETTINGS))


def test_the_words_of_probes_are_whole_tokens_of_the_base(
    tokenizer: ModelTokenizer, tmp_path: Path
) -> None:
    """A vocabulary and its extension give the same words if the added ids are named."""
    write_tokenizer(tmp_path, [*SURFACES, " v", " vj", " vjx"])
    extended = open_tokenizer(tmp_path)
    added = {extended.vocabulary.ids[surface] for surface in (b" v", b" vj", b" vjx")}
    words = probe_words(tokenizer)
    assert {*WORDS} <= {*words}
    assert all(len(ids) == 1 for ids in tokenizer.encode([f" {word}" for word in words]))
    assert "vjx" in probe_words(extended)
    assert probe_words(extended, frozenset(added)) == words


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
        select(rows, metric=COPYING, subject=name)[0] for name in ("source", "adapted")
    )
    copying, mapping = lost_abilities(rows)
    assert copying.startswith(
        "in-context learning: the copying gain of the adapted model fell from "
        f"{before.value:.2f} to "
    )
    assert "replay text in the base language" in copying
    assert "the mapping gain of the adapted model" in mapping
    assert after.n == 20
    assert after.per == "text"
    kept = dict.fromkeys(models, lost["source"])
    assert lost_abilities(compare(kept, texts, SETTINGS).measurements) == []


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
    values = {"bits per byte": (1.5, bits_change), IN_CONTEXT_GAIN: (0.2, gain_change)}
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
    assert "the in-context gain in en of the adapted model fell from 0.200 to 0.100" in warning
    assert "although bits per byte improved in hi (-0.300)" in warning
    small = document_rows("en", bits_change=0.0, gain_change=-0.015)
    assert lost_abilities([*learned, *small]) == []


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
        (row,) = select(rows, metric=metric)
        assert point == {"gain": row.value, "low": row.low, "high": row.high}


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
    found = PositionBits.of(scores, TokenPlaces.of(tokenizer))
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
    rows = list(measure_positions(tokenizers, found, "en", BOOTSTRAP))
    source, adapted = select(rows, metric=IN_CONTEXT_GAIN)
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
        row.metric for row in rows if "at bytes" in row.metric and CHANGE not in row.metric
    } == {position_metric(span) for span in SPANS[:5]}


def test_short_documents_are_said_to_be_too_short(tokenizer: ModelTokenizer) -> None:
    """Without two documents of 1,024 bytes there is no in-context gain, and a note says why."""
    texts = {"hi": list(HINDI)}
    result = compare({"source": scored(tokenizer, 1.0, texts)}, texts, SETTINGS)
    assert select(result.measurements, metric=IN_CONTEXT_GAIN) == []
    assert "fewer than two documents have 1,024 bytes" in result.notes["hi"][IN_CONTEXT_GAIN]
    note = result.notes["hi"]["bits per byte by position"]
    # The four sentences have 66 to 117 bytes, and few tokens of the tokenizer are Hindi.
    assert note.startswith("measured up to byte 64: fewer than two documents are longer")
