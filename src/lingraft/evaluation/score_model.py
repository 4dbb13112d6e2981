"""Scoring texts with one model, independent of any comparison, so that results can be cached."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lingraft.checkpoint import load_model
from lingraft.corpus import Corpus
from lingraft.errors import CorpusError
from lingraft.evaluation.bits_per_byte import bits_per_byte
from lingraft.evaluation.byte_positions import PositionBits, measure_gains
from lingraft.evaluation.config import EvaluationSettings, HeldoutPart
from lingraft.evaluation.generation import Passage
from lingraft.evaluation.samples import GeneratedSample, write_samples
from lingraft.evaluation.text_scores import DocumentScores, TextScores
from lingraft.evaluation.words_kept_whole import TokenPlaces, reads_unchanged
from lingraft.measurement import Measurement
from lingraft.tokenizer import ModelTokenizer, open_tokenizer


@dataclass(frozen=True)
class ModelScores:
    """The scores and samples of one model, by language."""

    scores: Mapping[str, TextScores]
    samples: Mapping[str, Sequence[GeneratedSample]]


def score_folder(
    folder: Path,
    texts: Mapping[str, Sequence[str]],
    settings: EvaluationSettings,
    *,
    device: str = "cpu",
    dtype: str = "auto",
    separator: str = "auto",
) -> ModelScores:
    """Score the documents of each language; raises `ModelError` if the folder is not a model.

    `separator` is the setting of packing for the tokens between documents. It determines the token
    after which a text is read: the one that begins a document in packed text.
    """
    tokenizer = replace(open_tokenizer(folder), separator=separator)
    return score_model(load_model(folder, device, dtype), tokenizer, texts, settings)


def score_model(
    model: Any,
    tokenizer: ModelTokenizer,
    texts: Mapping[str, Sequence[str]],
    settings: EvaluationSettings,
) -> ModelScores:
    """Score the documents of each language with a model in evaluation mode, and let it write."""
    generation = settings.generation
    scores, samples = {}, {}
    for language, documents in texts.items():
        scores[language] = score_text(model, tokenizer, documents, settings)
        if generation is not None:
            prompts = choose_prompts(documents, generation.samples, generation.prompt_bytes)
            samples[language] = write_samples(model, tokenizer, prompts, generation.sample_bytes)
    return ModelScores(scores, samples)


def score_text(
    model: Any, tokenizer: ModelTokenizer, documents: Sequence[str], settings: EvaluationSettings
) -> TextScores:
    """Score the documents of one language.

    Raises `ModelError` if the text has a token for which the model has no embedding row.
    """
    scores = bits_per_byte(
        model, tokenizer, documents, context=settings.context, stride=settings.stride
    )
    return TextScores.of(scores, documents)


def heldout_documents(corpus: Corpus, limit: int, part: HeldoutPart = "all") -> list[str]:
    """Return the first `limit` bytes of held-out documents; the last document is cut there.

    Raises `CorpusError` if there are none, or if there is only one and it would be split in halves.
    """
    documents = list(cut_documents(corpus.documents("heldout"), limit))
    if not documents:
        msg = (
            f"{corpus.folder}: no held-out text in {corpus.language} to evaluate on; "
            "raise heldout_share, or name a held-out source (heldout)"
        )
        raise CorpusError(msg)
    if part == "all":
        return documents
    if len(documents) < 2:
        msg = (
            f"{corpus.folder}: one held-out document in {corpus.language}, but only one half is "
            "scored (evaluation.heldout_part, or a training.merge_back of several shares); give "
            "more held-out text, or raise evaluation.heldout_bytes"
        )
        raise CorpusError(msg)
    return documents[0 if part == "chosen on" else 1 :: 2]


class HeldoutBits(dict[str, float]):
    """Bits per byte by language, and the in-context `gains` of the same scores.

    Each gain has its interval (`low`, `high`), the number of documents (`n`) and the
    `bits_per_byte` of its language.
    """

    def __init__(self) -> None:
        super().__init__()
        self.gains: dict[str, dict[str, float]] = {}


@dataclass(frozen=True)
class HeldoutMeasure:
    """Measures a model during training exactly as the final table does.

    `documents` are the scored documents by language. `settings` has the context and the stride.
    The gain is measured in documents that the tokenizer of the `source` does not change either,
    because the table compares the models on these; it is not measured without a source.
    """

    tokenizer: ModelTokenizer
    documents: Mapping[str, Sequence[str]]
    settings: EvaluationSettings
    source: ModelTokenizer | None = None

    def __call__(self, model: Any) -> HeldoutBits:
        """Score the documents of each language."""
        context, stride = self.settings.context, self.settings.stride
        found = HeldoutBits()
        for language, texts in self.documents.items():
            scored = bits_per_byte(model, self.tokenizer, texts, context=context, stride=stride)
            found[language] = scored.bits_per_byte
            for row in self._gains(scored, language) if self.source else ():
                if row.low is not None and row.high is not None:
                    found.gains[f"{row.metric} in {language}"] = {
                        "gain": row.value,
                        "low": row.low,
                        "high": row.high,
                        "n": row.n,
                        "bits_per_byte": found[language],
                    }
        return found

    def _gains(self, scored: DocumentScores, language: str) -> Iterator[Measurement]:
        bits = PositionBits.of(scored, self.documents[language], self._places)
        read_N = self._read_by_source[language]
        found = {"": bits.restricted(read_N[:, np.newaxis])}
        return measure_gains(found, language, self.settings.bootstrap)

    @cached_property
    def _places(self) -> TokenPlaces:
        return TokenPlaces.of(self.tokenizer)

    @cached_property
    def _read_by_source(self) -> dict[str, npt.NDArray[np.bool_]]:
        source = self.source or self.tokenizer
        return {name: reads_unchanged(source, texts) for name, texts in self.documents.items()}


def cut_documents(documents: Iterable[str], limit: int) -> Iterator[str]:
    """Yield the first `limit` bytes of documents; the last document is cut there."""
    left = limit
    for text in documents:
        part = first_bytes(text, left)
        if not part:
            return
        yield part
        left -= len(part.encode())


def choose_prompts(documents: Sequence[str], count: int, size: int) -> list[str]:
    """Return the beginnings of the first `count` documents as prompts."""
    return [first_words(text, size) for text in documents[:count]]


def choose_passages(documents: Sequence[str], count: int, prompt: int, size: int) -> list[Passage]:
    """Return up to `count` prompts with continuations, from the first long enough documents.

    A prompt has at most `prompt` bytes and at most half of the document. A continuation has at most
    `size` bytes.
    """
    passages: list[Passage] = []
    for text in documents:
        # At most half of a document, so that something is left to write.
        begin = first_words(text, min(prompt, len(text.encode()) // 2))
        if begin:
            passages.append(Passage(begin, first_bytes(text[len(begin) :], size)))
        if len(passages) == count:
            break
    return passages


def first_words(text: str, size: int) -> str:
    """Return at most the first `size` bytes of a text, cut at their last space.

    The cut is at a character instead if the last space is in the first half of these bytes.

    >>> first_words("one two three", 10), first_words("onetwothree", 4)
    ('one two', 'onet')
    """
    begin = first_bytes(text, size)
    if len(begin) == len(text):
        return begin
    words = begin if text[len(begin)].isspace() else (begin.rsplit(maxsplit=1) or [""])[0]
    # In text without spaces, the last space may be far away.
    return words.rstrip() if 2 * len(words) >= len(begin) else begin


def first_bytes(text: str, size: int) -> str:
    """Return at most the first `size` bytes of a text, without a partial character at the end."""
    return text.encode()[:size].decode(errors="ignore")
