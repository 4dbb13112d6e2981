"""Scoring texts with one model: everything that can be kept, whatever the model is compared with later."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lingraft.checkpoint import load_model
from lingraft.corpus import Corpus
from lingraft.errors import CorpusError
from lingraft.evaluation.bits_per_byte import context_of, nats_of, start_id, stride_of
from lingraft.evaluation.config import EvaluationSettings
from lingraft.evaluation.generation import Passage
from lingraft.evaluation.samples import GeneratedSample, write_samples
from lingraft.evaluation.text_scores import TextScores, scores_of
from lingraft.tokenizer import ModelTokenizer, open_tokenizer


@dataclass(frozen=True)
class FolderScores:
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
) -> FolderScores:
    """Score the documents of each language with a model folder; raises `ModelError` where it is no model.

    `separator` names what stands between documents: a text is read behind the token that begins one in packed text.
    """
    tokenizer = replace(open_tokenizer(folder), separator=separator)
    model = load_model(folder, device, dtype)
    scores = {
        language: score_text(model, tokenizer, documents, settings)
        for language, documents in texts.items()
    }
    writing, samples = settings.generation, {}
    if writing is not None:
        samples = {
            language: write_samples(
                model,
                tokenizer,
                prompts_of(documents, writing.samples, writing.prompt_bytes),
                writing.sample_bytes,
            )
            for language, documents in texts.items()
        }
    return FolderScores(scores, samples)


def score_text(
    model: Any, tokenizer: ModelTokenizer, documents: Sequence[str], settings: EvaluationSettings
) -> TextScores:
    """Score the documents of one language: every byte once."""
    ids = tokenizer.encode(documents)
    context = context_of(model, settings.context)
    stride = stride_of(context, settings.stride)
    nats, notes = nats_of(model, start_id(tokenizer), ids, context=context, stride=stride)
    return scores_of(documents, ids, nats, context=context, stride=stride, notes=notes)


def heldout_documents(corpus: Corpus, limit: int) -> list[str]:
    """Return held-out documents from the start up to the limit of bytes; the last one is cut there.

    Raises `CorpusError` where there are none.
    """
    documents = list(_heldout(corpus, limit))
    if not documents:
        msg = (
            f"{corpus.folder}: no held-out text in {corpus.language} to evaluate on; raise heldout_share or name "
            f"heldout"
        )
        raise CorpusError(msg)
    return documents


def _heldout(corpus: Corpus, limit: int) -> Iterator[str]:
    left = limit
    for text in corpus.documents("heldout"):
        part = beginning(text, left)
        if not part:
            return
        yield part
        left -= len(part.encode())


def prompts_of(documents: Sequence[str], count: int, size: int) -> list[str]:
    """Return the beginnings of the first documents as prompts."""
    return [whole_words(text, size) for text in documents[:count]]


def passages_of(documents: Sequence[str], count: int, prompt: int, size: int) -> list[Passage]:
    """Return the first documents that can be parted: so many bytes of prompt, at most half, and `size` bytes more."""
    found: list[Passage] = []
    for text in documents:
        begins = whole_words(text, min(prompt, len(text.encode()) // 2))
        if begins:
            found.append(Passage(begins, beginning(text[len(begins) :], size)))
        if len(found) == count:
            break
    return found


def whole_words(text: str, size: int) -> str:
    """Return the first bytes of a text, cut before a space where one stands in their second half.

    >>> whole_words("one two three", 10), whole_words("onetwothree", 4)
    ('one two', 'onet')
    """
    begins = beginning(text, size)
    if len(begins) == len(text):
        return begins
    words = begins if text[len(begins)].isspace() else (begins.rsplit(maxsplit=1) or [""])[0]
    return words.rstrip() if 2 * len(words) >= len(begins) else begins


def beginning(text: str, size: int) -> str:
    """Return the first bytes of a text, cut at a character."""
    return text.encode()[:size].decode(errors="ignore")
