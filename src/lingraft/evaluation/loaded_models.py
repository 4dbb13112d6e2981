"""The measures that need the models themselves, not only their scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lingraft.evaluation.added_token_choice import PREFERRED, count_preferred, first_pieces
from lingraft.evaluation.bits_per_byte import choose_context
from lingraft.evaluation.config import EvaluationSettings, GenerationSettings
from lingraft.evaluation.generated_text import read_generated
from lingraft.evaluation.generation import generation_speed, measure_speed
from lingraft.evaluation.in_context_probes import InContextProbes, measure_probes
from lingraft.evaluation.score_model import choose_passages
from lingraft.evaluation.scored_model import ScoredModel
from lingraft.measurement import Measurement


def measure_loaded(
    models: Mapping[str, ScoredModel],
    loaded: Mapping[str, Any],
    added: Mapping[str, frozenset[int]],
    settings: EvaluationSettings,
    *,
    execution: tuple[str, str],
) -> Iterator[Measurement]:
    """Yield what compares models by the first one's vocabulary.

    That is how often each model prefers added tokens to their pieces, how likely generated texts
    are to the first model, and the probes of in-context learning. `loaded` are all models; if it is
    empty, one at a time is loaded, with the device and the dtype of `execution`.
    """
    first, source = next((name, model.tokenizer) for name, model in models.items())
    probes = InContextProbes.of(source, settings.in_context)
    gains = {}
    for subject, model in models.items():
        pieces = first_pieces(source, model.tokenizer, added[subject])
        reads_samples = subject == first and settings.generation is not None
        if not (pieces or probes.texts or reads_samples):
            continue
        network = loaded[subject] if loaded else model.load(*execution)
        context = choose_context(network, settings.context)
        for language, score in model.scored.scores.items() if pieces else ():
            chances = count_preferred(network, model.tokenizer, score.documents(), pieces, context)
            yield from chances.measure(PREFERRED, language, subject, settings.bootstrap)
        for language in model.scored.samples if reads_samples else ():
            yield from _read_samples(network, models, language, settings, context)
        gains[subject] = probes.score(network, model.tokenizer, context)
        del network
    if probes.texts:
        yield from measure_probes(gains, settings.bootstrap)


def _read_samples(
    first: Any,
    models: Mapping[str, ScoredModel],
    language: str,
    settings: EvaluationSettings,
    context: int,
) -> Iterator[Measurement]:
    """Yield how likely the samples of all models are to the first one, which is loaded."""
    samples = {}
    for subject, model in models.items():
        samples[subject] = model.tokenizer, model.scored.samples[language]
    yield from read_generated(first, samples, language, settings.bootstrap, context=context)


def measure_speeds(
    models: Mapping[str, ScoredModel],
    loaded: Mapping[str, Any],
    texts: Mapping[str, Sequence[str]],
    settings: GenerationSettings,
) -> dict[str, list[Measurement]]:
    """Time the loaded models in each language; one of very short documents has no measurements."""
    pairs = {subject: (loaded[subject], model.tokenizer) for subject, model in models.items()}
    measured: dict[str, list[Measurement]] = {}
    for language, documents in texts.items():
        measured[language] = []
        passages = choose_passages(
            documents, settings.timed_prompts, settings.prompt_bytes, settings.timed_bytes
        )
        if not passages:
            continue
        speeds = generation_speed(pairs, passages, repeats=settings.timed_repeats)
        for subject, speed in speeds.items():
            measured[language] += measure_speed(speed, subject, language, len(passages), settings)
    return measured
