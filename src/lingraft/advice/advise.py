"""`lingraft advise`: how many tokens to add, which base to use, the cost, and the expected result.

For each base: diagnose its tokenizer on the text, take the size that the diagnosis recommends,
score the model on held-out text, and compute the cost of the real run. With a probe, the base is
first adapted on a little text, and the end of the real run is predicted from it. A base without
weights (a tokenizer alone) has the fertility and the size, and nothing that needs a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lingraft import formatting
from lingraft.advice.advice_request import AdviceRequest
from lingraft.advice.base_ranking import BaseRanking, BaseScore, rank_bases
from lingraft.advice.choose import (
    PredictedEnds,
    SizeAdvice,
    advise_size,
    interval_of,
    predict_ends,
    probe,
    score_base,
)
from lingraft.advice.costs import Cost, cost_of, serving_gain
from lingraft.advice.diagnosis import diagnose, health_of_samples, sample_notes
from lingraft.advice.text_sample import TextSample, read_sample
from lingraft.bases import BuildContext, parse_model
from lingraft.bases.weight_formats import check_weight_format
from lingraft.corpus import first_documents
from lingraft.errors import RecipeError
from lingraft.forecast.heldout_tokens import text_bytes
from lingraft.forecast.loss_forecast import Forecast
from lingraft.measurement import MIN_DOCUMENTS
from lingraft.pipeline.model_evaluation import shortest_names
from lingraft.pipeline.model_shape import Shape
from lingraft.pipeline.stage_node import versioned_stage
from lingraft.recipe import Runtime
from lingraft.store import Draft, Store, expanded
from lingraft.tokenizer import ModelTokenizer, open_tokenizer
from lingraft.training import Execution

# Bytes of text that a base is scored on. Every base reads the same documents, so that their
# differences are paired.
HELDOUT_BYTES = 20_000
CUT_BYTES = 4 * HELDOUT_BYTES // MIN_DOCUMENTS
"""Where 20 kB are fewer documents than intervals need, so many are read up to here.

Three documents of Hindi web text are 20 kB: no base could be called better than another.
"""
CHECKED_PROBE = 20
"""The largest budget, as a multiple of the probe, whose ends were compared with measured ones.

Probes on 0.05 MB and runs on 1 MB (benchmarks/results.md).
"""
Interval = tuple[float, float, float]
"""A value with the low and the high bound of its 95% interval."""


@dataclass(frozen=True)
class BaseAdvice:
    """The advice on one base.

    A field is `None` if it needs weights, a size or a setting that was not given.

    Attributes:
        name: the last part of the model's path or Hub id.
        headline: the recommended action, as in `Recommendation.action`.
        reasons: the reasons for it.
        warnings: what makes it uncertain, as in `Recommendation.warnings`.
        now: tokens per byte of target text without added tokens.
        size: how many tokens to add.
        unpredicted: the reason if there is no size.
        shape: the sizes of the model without added tokens.
        target_bits: bits per byte of the base on target text.
        base_bits: bits per byte of the base on base-language text.
        end: bits per byte predicted after `budget`.
        budget: bytes of target text in the real run.
        cost: the cost of the real run.
        gain: how many times cheaper serving a byte becomes.
    """

    name: str
    headline: str
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]
    now: Interval
    size: SizeAdvice | None
    unpredicted: str
    shape: Shape | None
    target_bits: Interval | None
    base_bits: Interval | None
    end: Forecast | None
    budget: int
    cost: Cost | None
    gain: float | None


@dataclass(frozen=True)
class Advice:
    """The advice on each base, their order if there are several, and warnings about the text.

    `ranking` is by what was measured; `None` unless two bases have weights. `predicted` is how far
    apart those bases end whose tokenizers lose no text; `None` for fewer than two of them, if any
    has no weights, and if all were probed.
    """

    bases: tuple[BaseAdvice, ...]
    ranking: BaseRanking | None
    predicted: PredictedEnds | None
    language: str
    warnings: tuple[str, ...] = ()


def advise(models: Sequence[str], request: AdviceRequest, runtime: Runtime | None = None) -> Advice:
    """Return the advice on each base; raises a `LingraftError` if a model or text is missing."""
    if not request.text or not models:
        msg = (
            "advice needs a model and text in the language: "
            "lingraft advise MODEL --language hi --text FILE"
        )
        raise RecipeError(msg)
    runtime = runtime or Runtime()
    if any(map(_is_scored, models)):
        runtime.available_device()
    given = request.given()
    target = read_sample(request.language, given.sources(), request.sample_bytes)
    base = None
    if base_sources := given.base_sources():
        base = read_sample(request.base_language, base_sources, request.sample_bytes)
    # After the text, because an error in it must not wait for the Hub.
    for model in models:
        _check_trainable(model)
    bases, scores = [], []
    for name, model in _names(models).items():
        advised, score = _advise_base(name, model, request, runtime, target=target, base=base)
        bases.append(advised)
        scores.append(score)
    can_rank = sum(score.now is not None for score in scores) > 1
    ranking = rank_bases(scores) if can_rank else None
    compared = [score for score in scores if not score.loses_text]
    bits = [(score.name, score.now.bits_per_byte) for score in compared if score.now]
    # A probe of each base says more than what other bases did.
    is_probed = all(score.end for score in scores)
    predicted = predict_ends(bits) if len(bits) == len(compared) > 1 and not is_probed else None
    samples = [target, *([base] if base else [])]
    warnings = sample_notes(samples, health_of_samples(samples))
    if target.cut_short and request.budget is None:
        read = formatting.size(target.given_bytes)
        warnings += (f"{target.language}: the budget is the {read} that were read; give --budget",)
    for base_advice in bases:
        warnings += tuple(f"{base_advice.name}: {line}" for line in base_advice.warnings)
    budget = request.budget or target.given_bytes
    if request.probe and budget > CHECKED_PROBE * request.probe:
        probed, after = formatting.size(request.probe), formatting.size(budget)
        further = (
            f"--probe {probed}: the end after {after} is {budget / request.probe:,.0f} times "
            f"further; predictions were checked up to {CHECKED_PROBE} times, so the interval may "
            "be too narrow; give a larger --probe"
        )
        warnings += (further,)
    return Advice(tuple(bases), ranking, predicted, request.language, warnings)


def _names(models: Sequence[str]) -> dict[str, str]:
    """Return the models by name: the last parts of their paths, and the commit where needed.

    Raises `RecipeError` if a model is named twice.

    >>> _names(["org/m@r1", "org/n@r1"]), list(_names(["org/m@r1", "org/m@r2"]))
    ({'m': 'org/m@r1', 'n': 'org/n@r1'}, ['m@r1', 'm@r2'])
    """
    plain = [model.partition("@")[0] for model in models]
    are_different = len({*plain}) == len(plain)
    return dict(zip(shortest_names(plain if are_different else models), models, strict=True))


def _advise_base(
    name: str,
    model: str,
    request: AdviceRequest,
    runtime: Runtime,
    *,
    target: TextSample,
    base: TextSample | None,
) -> tuple[BaseAdvice, BaseScore]:
    folder = _fetch_model(model, runtime)
    tokenizer = open_tokenizer(folder)
    diagnosed = diagnose({name: tokenizer}, [target], learned_from=request.learned_from)
    finding = diagnosed.tokenizers[0].findings[0]
    shape = Shape.of(folder) if _has_weights(folder) else None
    now = finding.measures.tokens_per_byte
    size = None
    if finding.curve:
        recommended = finding.recommendation.size
        size = advise_size(recommended, finding.curve, now, shape.serving if shape else None)
    budget = request.budget or target.given_bytes
    end = target_scores = base_bits = cost = gain = None
    if shape:
        if request.probe and size:
            end = probe(request.given(model), size.size, request.probe, budget, runtime)
        texts = [_scored_documents(sample) for sample in (target, base) if sample]
        target_scores, *base_scores = score_base(folder, texts, runtime.resolved_device())
        base_bits = interval_of(base_scores[0]) if base_scores else None
    if shape and size:
        tokens = _training_tokens(request, budget, size, tokenizer, base)
        extended = shape.resized(tokenizer.size, size.size)
        cost = cost_of(extended, tokens, request.gpus)
        gain = serving_gain(shape, now, size.tokens[0], size.size)
    advised = BaseAdvice(
        name,
        finding.recommendation.action,
        finding.recommendation.reasons,
        finding.recommendation.warnings,
        (now, now, now),  # counted on the whole sample: no interval
        size,
        finding.unpredicted,
        shape,
        target_bits=interval_of(target_scores) if target_scores else None,
        base_bits=base_bits,
        end=end.forecast if end else None,
        budget=budget,
        cost=cost,
        gain=gain,
    )
    return advised, BaseScore(name, target_scores, end, finding.measures.unknown)


def _check_trainable(model: str) -> None:
    """Raise `ModelError` for weights that cannot be adapted: quantised, pickled, an adapter.

    A tokenizer alone has none.
    """
    path = expanded(model)
    if path.exists():
        check_weight_format(path)
    if _is_scored(model):
        parse_model(model).check_trainable()


def _fetch_model(model: str, runtime: Runtime) -> Path:
    """Return the folder or file of a model; a Hub model is downloaded into the store."""
    path = expanded(model)
    if path.exists():
        return path
    chosen, store = parse_model(model), Store(runtime.store)
    stage = versioned_stage("advised model", chosen.identity())

    def fetch(draft: Draft) -> None:
        chosen.materialise(BuildContext(draft, store.scratch_dir(stage), Execution()))

    return store.build(stage, fetch) / "model"


def _is_scored(model: str) -> bool:
    """Say whether a model is loaded: it has weights, or is on the Hub, where all have some."""
    path = expanded(model)
    return _has_weights(path) if path.exists() else True


def _has_weights(folder: Path) -> bool:
    return (
        folder.is_dir()
        and (folder / "config.json").is_file()
        and any(folder.glob("*.safetensors*"))
    )


def _scored_documents(sample: TextSample) -> list[str]:
    """Return the documents to score: the first ones of the sample, which is in random order.

    They are whole if `HELDOUT_BYTES` of text are `MIN_DOCUMENTS` documents or more.
    """
    whole = list(first_documents(sample.documents, HELDOUT_BYTES))
    if len(whole) >= MIN_DOCUMENTS:
        return whole
    # A character that is cut is left out.
    return [
        text.encode()[:CUT_BYTES].decode(errors="ignore")
        for text in sample.documents[:MIN_DOCUMENTS]
    ]


def _training_tokens(
    request: AdviceRequest,
    budget: int,
    size: SizeAdvice,
    tokenizer: ModelTokenizer,
    base: TextSample | None,
) -> int:
    """Return the training tokens of the real run: target tokens and replayed tokens."""
    target_tokens = budget * size.tokens[0]
    if base is None:
        return round(target_tokens)
    # `replay` is a share of all text, and `budget` is the target text alone.
    replayed_bytes = budget * request.replay / (1 - request.replay)
    documents = _scored_documents(base)
    tokens = sum(map(len, tokenizer.encode(documents)))
    return round(target_tokens + replayed_bytes * (tokens / text_bytes(documents)))
