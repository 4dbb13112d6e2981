"""All intrinsic measures of several models on the same held-out text, computed from their scores.

The first model is the reference: the others are compared with it document by document. The models
themselves are loaded for `loaded_models` only: all at the same time if generation is timed, else
one after the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lingraft.corpus import Corpus
from lingraft.corpus.config import CorpusSettings
from lingraft.corpus.readers import read_parallel
from lingraft.display_text import text_in
from lingraft.evaluation.added_token_choice import WRITTEN, count_written
from lingraft.evaluation.added_token_use import measure_use
from lingraft.evaluation.bootstrap import measure_difference, measure_ratio
from lingraft.evaluation.byte_positions import measure_positions, position_notes
from lingraft.evaluation.config import EvaluationSettings
from lingraft.evaluation.fertility import fertility, fertility_changes, premium, sequence_length
from lingraft.evaluation.in_context_probes import NOTE, probe_note
from lingraft.evaluation.loaded_models import measure_loaded, measure_speeds
from lingraft.evaluation.samples import GeneratedSample, repetition
from lingraft.evaluation.score_model import heldout_documents, score_folder
from lingraft.evaluation.scored_model import ScoredModel, added_ids
from lingraft.evaluation.text_scores import TextScores
from lingraft.evaluation.token_distribution import measure_efficiency
from lingraft.evaluation.words_kept_whole import measure_words_kept
from lingraft.formatting import percent
from lingraft.measurement import Measurement
from lingraft.store import digest, expanded
from lingraft.tokenizer import ModelTokenizer, open_tokenizer
from lingraft.tokenizer.premiums import lost_text_warnings
from lingraft.tokenizer.unknown_tokens import LOST_SHARE, lost_share

TEXT_DIGEST = "sha256"
"""The note on a language that identifies the documents which were measured."""


@dataclass(frozen=True)
class EvaluationResult:
    """Measurements, samples (keys: subject, language, prompt, text), and notes for the manifest.

    `warnings` say which measurements cannot be compared.
    """

    measurements: list[Measurement] = field(default_factory=list)
    samples: list[dict[str, str]] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def evaluate(
    folders: Mapping[str, Path],
    corpora: Mapping[str, Corpus],
    settings: EvaluationSettings,
    device: str = "cpu",
    dtype: str = "auto",
    *,
    separator: str = "auto",
) -> EvaluationResult:
    """Measure every model on the held-out text of every language; the first is the reference.

    `folders` maps subjects to model folders, `separator` is what stands before each document, as in
    training. Raises `ModelError` for a folder that is not a model and `CorpusError` for a language
    without held-out text.
    """
    texts = {}
    for language, corpus in corpora.items():
        texts[language] = heldout_documents(corpus, settings.heldout_bytes, settings.heldout_part)
    models = {}
    for subject, folder in folders.items():
        scored = score_folder(
            folder, texts, settings, device=device, dtype=dtype, separator=separator
        )
        tokenizer = replace(open_tokenizer(folder), separator=separator)
        models[subject] = ScoredModel(folder, tokenizer, scored)
    return compare(models, texts, settings, device=device, dtype=dtype)


def compare(
    models: Mapping[str, ScoredModel],
    texts: Mapping[str, Sequence[str]],
    settings: EvaluationSettings,
    *,
    device: str = "cpu",
    dtype: str = "auto",
    repaired: Mapping[str, CorpusSettings] | None = None,
) -> EvaluationResult:
    """Compute all measures of scored models, and time them; the first is the reference.

    `repaired` are the settings of texts whose repairs parallel sentences get, by language.
    """
    result = EvaluationResult()
    added = added_ids(models)
    for language, documents in texts.items():
        _measure_language(models, added, language, documents, settings=settings, result=result)
    _measure_premiums(models, list(texts), settings, repaired, result)
    loaded: dict[str, Any] = {}
    if settings.generation is not None:
        # All models are in memory at once, because they take turns while they are timed.
        loaded = {subject: model.load(device, dtype) for subject, model in models.items()}
    result.measurements.extend(
        measure_loaded(models, loaded, added, settings, execution=(device, dtype))
    )
    tokenizers = {subject: model.tokenizer for subject, model in models.items()}
    note = probe_note(tokenizers, settings.in_context, result.measurements)
    if note:
        result.notes[NOTE] = note
    if settings.generation is not None:
        speeds = measure_speeds(models, loaded, texts, settings.generation)
        for language, measured in speeds.items():
            result.measurements.extend(measured)
            # Very short documents leave nothing to write after a prompt.
            if not measured:
                result.notes[language]["generation speed"] = (
                    "not measured: no document goes on after its prompt"
                )
    return result


def _measure_language(
    models: Mapping[str, ScoredModel],
    added: Mapping[str, frozenset[int]],
    language: str,
    documents: Sequence[str],
    *,
    settings: EvaluationSettings,
    result: EvaluationResult,
) -> None:
    """Add what the scores of a language say to `result`: measurements, samples and notes."""
    tokenizers = {subject: model.tokenizer for subject, model in models.items()}
    scores = {subject: model.scored.scores[language] for subject, model in models.items()}
    positions = list(measure_positions(tokenizers, scores, documents, language, settings.bootstrap))
    result.notes[language] = {
        "documents": len(documents),
        "bytes": len("".join(documents).encode()),
        TEXT_DIGEST: digest(list(documents)),
        "scoring": _scoring_notes(scores),
        **position_notes(tokenizers, scores, documents, positions),
    }
    result.warnings.extend(_lost_text(tokenizers, documents, language))
    result.measurements.extend(_measure_scores(scores, added, language, settings))
    result.measurements.extend(
        measure_words_kept(tokenizers, scores, documents, language, settings.bootstrap)
    )
    result.measurements.extend(positions)
    for subject, model in models.items():
        result.measurements.extend(
            _measure_samples(model, added[subject], language, subject, settings)
        )
        for sample in model.scored.samples.get(language, ()):
            where = {"subject": subject, "language": language}
            result.samples.append({**where, "prompt": sample.prompt, "text": sample.text})
    result.measurements.extend(_measure_sequence_lengths(scores, documents, language, settings))


def _lost_text(
    tokenizers: Mapping[str, ModelTokenizer], documents: Sequence[str], language: str
) -> Iterator[str]:
    """Yield a warning for each tokenizer that has no token for much of a text.

    One "<unk>" for a whole word is easy to predict: a model with random weights had 1.2 bits per
    byte on Hindi so, and 3.0 with a tokenizer that keeps the characters.
    """
    for subject, tokenizer in tokenizers.items():
        share = lost_share(tokenizer, documents)
        if share > LOST_SHARE:
            yield (
                f"{text_in(language)}: the tokenizer of {subject} loses {percent(share)} of "
                f"the characters, and {subject} does not predict them; compare its tokens and its "
                "bits per byte only with those of the same tokenizer"
            )


def _scoring_notes(scores: Mapping[str, TextScores]) -> dict[str, list[str]]:
    """Return the notes on scoring by subject, without subjects that have none."""
    notes = {}
    for subject, score in scores.items():
        if score.notes:
            notes[subject] = list(score.notes)
    return notes


def _measure_scores(
    scores: Mapping[str, TextScores],
    added: Mapping[str, frozenset[int]],
    language: str,
    settings: EvaluationSettings,
) -> Iterator[Measurement]:
    """Yield fertility, bits per byte, use of added tokens, and changes from the first model."""
    bootstrap = settings.bootstrap
    first, reference = next(iter(scores.items()))  # dictionaries keep the order of the models
    for subject, score in scores.items():
        yield from fertility(score, language, subject, bootstrap)
        yield from measure_ratio(
            "bits per byte",
            "bits/byte",
            score.bits,
            score.bytes,
            subject=subject,
            language=language,
            bootstrap=bootstrap,
            note=f"context {score.context}, stride {score.stride} tokens",
        )
        yield from measure_efficiency(score, language, subject)
        if subject == first:
            continue
        yield from fertility_changes(
            score, reference, language, subject, first, bootstrap=bootstrap
        )
        yield from measure_difference(
            "bits per byte",
            "bits/byte",
            (score.bits, score.bytes),
            (reference.bits, reference.bytes),
            subject=subject,
            first=first,
            language=language,
            bootstrap=bootstrap,
        )
        if added[subject]:
            yield from measure_use(score, sorted(added[subject]), language, subject, bootstrap)


def _measure_samples(
    model: ScoredModel,
    added: frozenset[int],
    language: str,
    subject: str,
    settings: EvaluationSettings,
) -> Iterator[Measurement]:
    """Yield repetition and the use of added tokens in the generated samples."""
    samples: Sequence[GeneratedSample] = model.scored.samples.get(language, ())
    if not samples:
        return
    texts, added_counts, lengths = [], [], []
    for sample in samples:
        texts.append(sample.text)
        added_counts.append(len([token_id for token_id in sample.ids if token_id in added]))
        lengths.append(len(sample.ids))
    yield from repetition(
        texts,
        language,
        subject,
        settings.bootstrap,
        unit=model.scored.scores[language].unit,
    )
    yield from measure_ratio(
        "new tokens generated",
        "share",
        added_counts,
        lengths,
        subject=subject,
        language=language,
        bootstrap=settings.bootstrap,
        per="sample",
        split="generated",
        note="greedy",
    )
    chances = count_written(samples, model.tokenizer, added)
    yield from chances.measure(
        WRITTEN, language, subject, settings.bootstrap, per="sample", split="generated"
    )


def _measure_sequence_lengths(
    scores: Mapping[str, TextScores],
    documents: Sequence[str],
    language: str,
    settings: EvaluationSettings,
) -> Iterator[Measurement]:
    """Yield the normalised sequence length of each model, if a reference tokenizer is named."""
    if settings.reference_tokenizer is None:
        return
    path = expanded(settings.reference_tokenizer)
    # Tokenized once: the reference is the same for every model.
    tokens = list(map(len, open_tokenizer(path).encode(documents)))
    name = (path.parent if path.is_file() else path).resolve().name
    for subject, score in scores.items():
        yield from sequence_length(
            score, tokens, name, language, subject, bootstrap=settings.bootstrap
        )


def _measure_premiums(
    models: Mapping[str, ScoredModel],
    languages: Sequence[str],
    settings: EvaluationSettings,
    repaired: Mapping[str, CorpusSettings] | None,
    result: EvaluationResult,
) -> None:
    """Add the token premium of each language over English, if parallel text is named."""
    # English has no premium over itself; its column is read in any case.
    others = [language for language in languages if language != "en"]
    if settings.parallel_file is None:
        return
    columns = read_parallel(settings.parallel_file, others, repaired=repaired)
    named = {f"the tokenizer of {subject}": model.tokenizer for subject, model in models.items()}
    result.warnings.extend(lost_text_warnings(named, columns))
    for subject, model in models.items():
        measured = premium(model.tokenizer, columns, subject, settings.bootstrap)
        result.measurements.extend(measured)
