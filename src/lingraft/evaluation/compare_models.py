"""All intrinsic measures of several models on the same held-out text, made from their scores.

The first model is the reference: the others are compared with it document by document. Timing is the one thing that
needs the models themselves, side by side.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lingraft.checkpoint import load_model
from lingraft.corpus import Corpus
from lingraft.corpus.readers import read_parallel
from lingraft.evaluation.added_token_use import use_rows
from lingraft.evaluation.bootstrap import difference_row, ratio_row
from lingraft.evaluation.config import EvaluationSettings, GenerationSettings
from lingraft.evaluation.fertility import fertility, fertility_changes, premium, sequence_length
from lingraft.evaluation.generation import generation_speed, speed_rows
from lingraft.evaluation.samples import GeneratedSample, repetition
from lingraft.evaluation.score_model import (
    FolderScores,
    heldout_documents,
    passages_of,
    score_folder,
)
from lingraft.evaluation.text_scores import TextScores
from lingraft.measurement import Measurement
from lingraft.pretokenizer import newly_reachable
from lingraft.tokenizer import ModelTokenizer, open_tokenizer


@dataclass(frozen=True)
class EvaluationResult:
    """What was measured, what was written (`subject`, `language`, `prompt`, `text`), and notes for the manifest."""

    measurements: list[Measurement] = field(default_factory=list)
    samples: list[dict[str, str]] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ScoredModel:
    """A model that takes part: its folder, its tokenizer, and its scores."""

    folder: Path
    tokenizer: ModelTokenizer
    scored: FolderScores


def evaluate(
    models: Mapping[str, Path],
    corpora: Mapping[str, Corpus],
    settings: EvaluationSettings,
    device: str = "cpu",
    dtype: str = "auto",
) -> EvaluationResult:
    """Measure every model (subject -> folder) on the held-out text of every language; the first one is the reference.

    `device` and `dtype` (auto, float32, bfloat16...) are matters of execution. Raises `ModelError` for a folder that is
    no model and `CorpusError` for a language without held-out text.
    """
    texts = {
        language: heldout_documents(corpus, settings.heldout_bytes)
        for language, corpus in corpora.items()
    }
    entrants = {
        subject: ScoredModel(
            folder,
            open_tokenizer(folder),
            score_folder(folder, texts, settings, device=device, dtype=dtype),
        )
        for subject, folder in models.items()
    }
    return compare(entrants, texts, settings, device=device, dtype=dtype)


def compare(
    entrants: Mapping[str, ScoredModel],
    texts: Mapping[str, Sequence[str]],
    settings: EvaluationSettings,
    *,
    device: str = "cpu",
    dtype: str = "auto",
) -> EvaluationResult:
    """Measure models that are scored, and time them; the first one is the reference."""
    result = EvaluationResult()
    added = added_ids(entrants)
    for language, documents in texts.items():
        scores = {subject: entrant.scored.scores[language] for subject, entrant in entrants.items()}
        result.notes[language] = {
            "documents": len(documents),
            "bytes": sum(len(text.encode()) for text in documents),
            "scoring": {s: list(score.notes) for s, score in scores.items() if score.notes},
        }
        result.measurements.extend(score_rows(scores, added, language, settings))
        for subject, entrant in entrants.items():
            result.measurements.extend(
                _sample_rows(entrant.scored, added[subject], language, subject, settings)
            )
            result.samples.extend(
                {"subject": subject, "language": language, "prompt": one.prompt, "text": one.text}
                for one in entrant.scored.samples.get(language, ())
            )
        result.measurements.extend(_sequence_rows(scores, documents, language, settings))
    result.measurements.extend(_premium_rows(entrants, list(texts), settings))
    if settings.generation is not None:
        _time(entrants, texts, settings.generation, result, execution=(device, dtype))
    return result


def added_ids(entrants: Mapping[str, ScoredModel]) -> dict[str, frozenset[int]]:
    """Return, for each model, the ids of tokens that the first model lacks, or had and could not produce.

    Of the latter (`pretokenizer.reach`) only those count that the scored text uses: the others belong to other
    languages, and no training text was chosen for them.
    """
    first = next(iter(entrants.values())).tokenizer
    known = first.vocabulary.ids
    found = {}
    for subject, entrant in entrants.items():
        new = {i for surface, i in entrant.tokenizer.vocabulary.ids.items() if surface not in known}
        reached = _reached(first, entrant.tokenizer)
        used = (
            {i for score in entrant.scored.scores.values() for i in np.unique(score.ids).tolist()}
            if reached
            else ()
        )
        found[subject] = frozenset(new | reached.intersection(used))
    return found


def _reached(first: ModelTokenizer, other: ModelTokenizer) -> set[int]:
    """Return the ids of the other tokenizer for tokens that the first has and cannot produce."""
    surfaces, ids = first.vocabulary.surfaces, other.vocabulary.ids
    reachable = newly_reachable(first.family, other.family) if first is not other else frozenset()
    return {ids[surface] for i in reachable if (surface := surfaces[i]) in ids}


def score_rows(
    scores: Mapping[str, TextScores],
    added: Mapping[str, frozenset[int]],
    language: str,
    settings: EvaluationSettings,
) -> Iterator[Measurement]:
    """Yield the rows that follow from scores alone: fertility, bits per byte, use of added tokens, changes."""
    bootstrap, (first, reference) = settings.bootstrap, next(iter(scores.items()))
    for subject, score in scores.items():
        yield from fertility(score, language, subject, bootstrap)
        row = ratio_row(
            "bits per byte",
            "bits/byte",
            score.bits,
            score.bytes,
            subject=subject,
            language=language,
            bootstrap=bootstrap,
            note=f"context {score.context}, stride {score.stride} tokens",
        )
        yield from [row] if row else []
        if subject == first:
            continue
        yield from fertility_changes(
            score, reference, language, subject, first, bootstrap=bootstrap
        )
        change = difference_row(
            "bits per byte",
            "bits/byte",
            (score.bits, score.bytes),
            (reference.bits, reference.bytes),
            subject=subject,
            first=first,
            language=language,
            bootstrap=bootstrap,
        )
        yield from [change] if change else []
        if added[subject]:
            yield from use_rows(score, sorted(added[subject]), language, subject, bootstrap)


def _sample_rows(
    scored: FolderScores,
    added: frozenset[int],
    language: str,
    subject: str,
    settings: EvaluationSettings,
) -> Iterator[Measurement]:
    samples: Sequence[GeneratedSample] = scored.samples.get(language, ())
    if not samples:
        return
    yield from repetition(
        [sample.text for sample in samples],
        language,
        subject,
        settings.bootstrap,
        unspaced=scored.scores[language].unspaced,
    )
    row = ratio_row(
        "new tokens generated",
        "share",
        [sum(i in added for i in sample.ids) for sample in samples],
        [len(sample.ids) for sample in samples],
        subject=subject,
        language=language,
        bootstrap=settings.bootstrap,
        per="sample",
        split="generated",
        note="greedy",
    )
    yield from [row] if row else []


def _sequence_rows(
    scores: Mapping[str, TextScores],
    documents: Sequence[str],
    language: str,
    settings: EvaluationSettings,
) -> Iterator[Measurement]:
    if settings.reference_tokenizer is None:
        return
    path = Path(settings.reference_tokenizer).expanduser()
    tokens = [len(ids) for ids in open_tokenizer(path).encode(documents)]
    name = (path.parent if path.is_file() else path).resolve().name
    for subject, score in scores.items():
        yield from sequence_length(
            score, tokens, name, language, subject, bootstrap=settings.bootstrap
        )


def _premium_rows(
    entrants: Mapping[str, ScoredModel], languages: Sequence[str], settings: EvaluationSettings
) -> Iterator[Measurement]:
    others = [language for language in languages if language != "en"]
    if settings.parallel_file is None or not others:
        return
    columns = read_parallel(settings.parallel_file, others)
    for subject, entrant in entrants.items():
        yield from premium(entrant.tokenizer, columns, subject, settings.bootstrap)


def _time(
    entrants: Mapping[str, ScoredModel],
    texts: Mapping[str, Sequence[str]],
    settings: GenerationSettings,
    result: EvaluationResult,
    *,
    execution: tuple[str, str],
) -> None:
    models = {
        subject: (load_model(entrant.folder, *execution), entrant.tokenizer)
        for subject, entrant in entrants.items()
    }
    for language, documents in texts.items():
        passages = passages_of(
            documents, settings.timed_prompts, settings.prompt_bytes, settings.timed_bytes
        )
        if not passages:
            result.notes[language]["generation speed"] = (
                "not measured: no document goes on after its prompt"
            )
            continue
        for subject, speed in generation_speed(
            models, passages, repeats=settings.timed_repeats
        ).items():
            result.measurements.extend(
                speed_rows(speed, subject, language, len(passages), settings)
            )
