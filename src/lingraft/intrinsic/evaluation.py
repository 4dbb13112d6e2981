"""All intrinsic measures of several models on the same held-out text.

The first model is the reference: the others are compared with it document by document.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lingraft.checkpoint import load_model
from lingraft.corpus import Corpus
from lingraft.errors import CorpusError
from lingraft.families import ModelTokenizer, open_tokenizer
from lingraft.intrinsic.bits import DocumentScores, bits_per_byte
from lingraft.intrinsic.fertility import fertility, share_identical
from lingraft.intrinsic.generation import GenerationSpeed, generation_speed
from lingraft.intrinsic.intervals import difference_interval
from lingraft.intrinsic.rows import ratio_row
from lingraft.intrinsic.settings import BootstrapSettings, EvaluationSettings, GenerationSettings
from lingraft.measurement import Measurement


@dataclass(frozen=True)
class Evaluation:
    """What was measured, what was written (`subject`, `language`, `prompt`, `text`), and notes for the manifest."""

    measurements: list[Measurement] = field(default_factory=list)
    samples: list[dict[str, str]] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Entrant:
    subject: str
    model: Any
    tokenizer: ModelTokenizer


def evaluate(models: Mapping[str, Path], corpora: Mapping[str, Corpus], settings: EvaluationSettings,
             device: str = "cpu", dtype: str = "auto") -> Evaluation:
    """Measure every model (subject -> folder) on the held-out text of every language; the first one is the reference.

    `device` and `dtype` (auto, float32, bfloat16...) are matters of execution. Raises `ModelError` for a folder that is
    no model and `CorpusError` for a language without held-out text.
    """
    entrants = [_Entrant(subject, load_model(folder, device, dtype), open_tokenizer(folder))
                for subject, folder in models.items()]
    result = Evaluation()
    for language, corpus in corpora.items():
        documents = list(_heldout(corpus, settings.heldout_bytes))
        if not documents:
            msg = f"{corpus.folder}: no held-out text in {language} to evaluate on; raise heldout_share or name heldout"
            raise CorpusError(msg)
        result.notes[language] = {"documents": len(documents), "bytes": sum(len(text.encode()) for text in documents)}
        _tokenizers(entrants, documents, language, settings, result)
        _prediction(entrants, documents, language, settings, result)
        if settings.generation is not None:
            _writing(entrants, documents, language, settings.generation, result)
    return result


def _heldout(corpus: Corpus, limit: int) -> Iterator[str]:
    """Yield held-out documents from the start up to the limit of bytes; the last one is cut there."""
    left = limit
    for text in corpus.documents("heldout"):
        part = _beginning(text, left)
        if not part:
            return
        yield part
        left -= len(part.encode())


def _tokenizers(entrants: Sequence[_Entrant], documents: Sequence[str], language: str, settings: EvaluationSettings,
                result: Evaluation) -> None:
    reference = entrants[0].tokenizer
    for entrant in entrants:
        result.measurements.extend(fertility(entrant.tokenizer, documents, language, entrant.subject,
                                             bootstrap=settings.bootstrap))
        if entrant is not entrants[0]:
            result.measurements.extend(share_identical(entrant.tokenizer, reference, documents, language,
                                                       entrant.subject, bootstrap=settings.bootstrap))


def _prediction(entrants: Sequence[_Entrant], documents: Sequence[str], language: str, settings: EvaluationSettings,
                result: Evaluation) -> None:
    scores = {entrant.subject: bits_per_byte(entrant.model, entrant.tokenizer, documents, context=settings.context,
                                             stride=settings.stride) for entrant in entrants}
    first = entrants[0].subject
    for subject, score in scores.items():
        row = ratio_row("bits per byte", "bits/byte", score.bits, score.bytes, subject=subject, language=language,
                        bootstrap=settings.bootstrap, note=f"context {score.context}, stride {score.stride} tokens")
        result.measurements.extend([row] if row else [])
        if subject != first:
            result.measurements.append(_change(subject, score, first, scores[first], language=language,
                                               bootstrap=settings.bootstrap))
    result.notes[language]["scoring"] = {subject: list(score.notes) for subject, score in scores.items() if score.notes}


def _change(subject: str, score: DocumentScores, first: str, reference: DocumentScores, *, language: str,
            bootstrap: BootstrapSettings) -> Measurement:
    """Return the paired difference of bits per byte to the reference."""
    interval = difference_interval((score.bits, score.bytes), (reference.bits, reference.bytes), bootstrap)
    low, high = interval or (None, None)
    return Measurement("bits per byte change", subject, score.bits_per_byte - reference.bits_per_byte, "bits/byte",
                       language, n=len(score.bits), low=low, high=high,
                       confidence=bootstrap.confidence if interval else None,
                       note=f"minus {first}, paired over documents")


def _writing(entrants: Sequence[_Entrant], documents: Sequence[str], language: str, settings: GenerationSettings,
             result: Evaluation) -> None:
    prompts = [_beginning(text, settings.prompt_bytes) for text in documents[:settings.prompts]]
    known = set(entrants[0].tokenizer.vocabulary.ids)
    new = {e.subject: frozenset(i for surface, i in e.tokenizer.vocabulary.ids.items() if surface not in known)
           for e in entrants}
    speeds = generation_speed({e.subject: (e.model, e.tokenizer) for e in entrants}, prompts, size=settings.bytes,
                              repeats=settings.repeats, new_ids=new)
    for subject, speed in speeds.items():
        result.measurements.extend(_speed_rows(speed, subject, language, len(prompts), settings))
        result.samples.extend({"subject": subject, "language": language, "prompt": prompt, "text": text}
                              for prompt, text in zip(prompts, speed.texts, strict=True))


def _speed_rows(speed: GenerationSpeed, subject: str, language: str, prompts: int,
                settings: GenerationSettings) -> list[Measurement]:
    note = f"greedy, batch of one, {settings.bytes} bytes a prompt, best of {settings.repeats}"
    ratios = (("generation speed", speed.bytes_per_second, "bytes/s"),
              ("prefill speed", speed.prompt_bytes_per_second, "bytes/s"),
              ("new tokens generated", speed.new_share, "share"))
    return [Measurement(metric, subject, value, unit, language, n=prompts, per="prompt", note=note)
            for metric, value, unit in ratios]


def _beginning(text: str, size: int) -> str:
    """Return the first bytes of a text, cut at a character."""
    return text.encode()[:size].decode(errors="ignore")
