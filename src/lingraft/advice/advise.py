"""`lingraft advise`: tokens to add, base, training cost and expected loss, before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich.table import Table

from lingraft import formatting
from lingraft.advice.choose import (
    BaseRanking,
    BaseScore,
    SizeAdvice,
    advise_size,
    interval_of,
    probe,
    rank_bases,
    score_base,
)
from lingraft.advice.costs import Cost, Gpus, Shape, cost_of, serving_gain
from lingraft.advice.diagnosis import LanguageFinding, diagnose
from lingraft.advice.measures import SAMPLE_BYTES, TextSample, read_sample
from lingraft.bases import BuildContext, parse_model
from lingraft.corpus import first_documents, parse_language
from lingraft.errors import RecipeError
from lingraft.forecast.loss_forecast import Forecast
from lingraft.forecast.predict_fertility import FertilityCurve
from lingraft.pipeline.stage_node import versioned_stage
from lingraft.recipe import Given, Runtime
from lingraft.store import Draft, Store
from lingraft.tokenizer import ModelTokenizer, open_tokenizer
from lingraft.training import Budget, Execution

HELDOUT_BYTES = 20_000
Interval = tuple[float, float, float]


@dataclass(frozen=True)
class AdviceRequest:
    """The request: text in the language, the GPUs, and the budgets.

    `budget` is the target text of the real run in bytes, `probe` that of a probe (0: none).
    """

    language: str
    text: Sequence[str]
    base_language: str = "en"
    base_text: Sequence[str] = ()
    gpus: Gpus | None = None
    budget: int | None = None
    probe: int = 0
    replay: float = 0.2
    sample_bytes: int = SAMPLE_BYTES


@dataclass(frozen=True)
class BaseAdvice:
    """The advice on one base. `None`: no weights, too little text, or not requested."""

    name: str
    headline: str
    reasons: tuple[str, ...]
    now: Interval
    size: SizeAdvice | None
    shape: Shape | None
    target_bits: Interval | None
    base_bits: Interval | None
    end: Forecast | None
    budget: int
    cost: Cost | None
    gain: float | None


@dataclass(frozen=True)
class Advice:
    """The advice on every base, and their ranking where there are several."""

    bases: tuple[BaseAdvice, ...]
    ranking: BaseRanking | None
    language: str


def request_of(
    language: str | None,
    text: Sequence[str] | None,
    base_language: str | None,
    base_text: Sequence[str] | None,
    *,
    gpus: str | None,
    budget: str | None,
    probe: str | None,
) -> AdviceRequest:
    """Return the request of the command line; raises `RecipeError` for wrong options."""
    missing = " and ".join(
        option for option, value in (("--language", language), ("--text", text)) if not value
    )
    if missing or not language or not text:
        msg = f"{missing} must be given: lingraft advise MODEL --language hi --text hindi.jsonl.gz"
        raise RecipeError(msg)
    return AdviceRequest(
        parse_language(language),
        tuple(text),
        parse_language(base_language or "en"),
        tuple(base_text or ()),
        gpus=Gpus.parse(gpus) if gpus else None,
        budget=_bytes("--budget", budget) if budget else None,
        probe=_bytes("--probe", probe) if probe else 0,
    )


def _bytes(option: str, text: str) -> int:
    """Read a size; raises `RecipeError` where the text is no size.

    >>> _bytes("--budget", "1.5 MB")
    1500000
    """
    try:
        size = Budget.model_validate(text).bytes
    except ValidationError:
        size = None
    if size is None:
        msg = f"{option} {text!r}: expected a size of text, like '200 MB'"
        raise RecipeError(msg)
    return size


def advise(models: Sequence[str], request: AdviceRequest, runtime: Runtime | None = None) -> Advice:
    """Return the advice on each base; raises a `LingraftError` where a model or text is missing."""
    if not request.text or not models:
        msg = (
            "advice needs a model and text in the language: "
            "lingraft advise MODEL --language hi --text FILE"
        )
        raise RecipeError(msg)
    runtime = runtime or Runtime()
    sample = read_sample(request.language, request.text, request.sample_bytes)
    base = (
        read_sample(request.base_language, request.base_text, request.sample_bytes)
        if request.base_text
        else None
    )
    bases, scores = [], []
    for model in models:
        advised, score = _advise(model, request, runtime, sample, base)
        bases.append(advised)
        scores.append(score)
    can_rank = len(scores) > 1 and any(score.now for score in scores)
    ranking = rank_bases(scores) if can_rank else None
    return Advice(tuple(bases), ranking, request.language)


def _advise(
    model: str,
    request: AdviceRequest,
    runtime: Runtime,
    sample: TextSample,
    base: TextSample | None,
) -> tuple[BaseAdvice, BaseScore]:
    folder = _folder(model, runtime)
    name = Path(model.partition("@")[0]).name or model
    has_weights = _has_weights(folder)
    tokenizer = open_tokenizer(folder)
    finding = diagnose({name: tokenizer}, [sample]).tokenizers[0].findings[0]
    shape = Shape.of(folder) if has_weights else None
    curve = _curve(finding)
    size = (
        advise_size(curve, finding.measures.tokens_per_byte, shape.serving if shape else None)
        if curve
        else None
    )
    budget = request.budget or sample.given_bytes
    end = None
    if request.probe and size and has_weights:
        given = Given(
            model, request.language, request.text, request.base_language, request.base_text
        )
        end = probe(given, size.size, request.probe, budget, runtime)
    device = runtime.resolved_device() if has_weights else ""
    target = score_base(folder, _first(sample), device) if has_weights else None
    others = score_base(folder, _first(base), device) if has_weights and base else None
    now = finding.measures.tokens_per_byte
    cost = gain = None
    if shape and size:
        tokens = _training_tokens(request, budget, size, tokenizer, base)
        cost = cost_of(shape.extended(size.size), tokens, request.gpus)
        gain = serving_gain(shape, now, size.tokens[0], size.size)
    recommended = finding.recommendation
    answer = BaseAdvice(
        name,
        recommended.action,
        recommended.reasons,
        (now, now, now),
        size,
        shape,
        target_bits=interval_of(target) if target else None,
        base_bits=interval_of(others) if others else None,
        end=end,
        budget=budget,
        cost=cost,
        gain=gain,
    )
    return answer, BaseScore(name, target, end)


def _folder(model: str, runtime: Runtime) -> Path:
    """Return the folder or file of a model; one of a hub is fetched into the store."""
    path = Path(model).expanduser()
    if path.exists():
        return path
    chosen, store = parse_model(model), Store(runtime.store)
    stage = versioned_stage("advised model", chosen.identity())

    def fetch(draft: Draft) -> None:
        chosen.materialise(BuildContext(draft, store.scratch_dir(stage), Execution()))

    return store.build(stage, fetch) / "model"


def _has_weights(folder: Path) -> bool:
    return (
        folder.is_dir()
        and (folder / "config.json").is_file()
        and any(folder.glob("*.safetensors*"))
    )


def _curve(finding: LanguageFinding) -> FertilityCurve | None:
    """Return the curve with the pre-tokenizer that `auto` would choose."""
    after = finding.after()
    if after is None:
        return None
    return finding.repaired if after[1] else finding.keep


def _first(sample: TextSample) -> list[str]:
    """Return the documents that are scored: the first ones, which are a random sample."""
    return list(first_documents(sample.documents, HELDOUT_BYTES))


def _training_tokens(
    request: AdviceRequest,
    budget: int,
    size: SizeAdvice,
    tokenizer: ModelTokenizer,
    base: TextSample | None,
) -> int:
    """Return the tokens of the real run: those of the target and the replayed ones."""
    target = budget * size.tokens[0]
    if base is None:
        return round(target)
    replayed = budget * request.replay / (1 - request.replay)
    texts = _first(base)
    per_byte = sum(map(len, tokenizer.encode(texts))) / sum(len(text.encode()) for text in texts)
    return round(target + replayed * per_byte)


def advice_json(advice: Advice) -> dict[str, Any]:
    """Return plain JSON."""
    bases = []
    for base in advice.bases:
        cost = (
            {
                **asdict(base.cost),
                "hours": base.cost.hours,
                "gpu_hours": base.cost.gpu_hours,
                "fits": base.cost.fits,
            }
            if base.cost
            else None
        )
        bases.append({**asdict(base), "cost": cost})
    return {
        "language": advice.language,
        "bases": bases,
        "ranking": asdict(advice.ranking) if advice.ranking else None,
    }


def advice_tables(advice: Advice) -> list[Table]:
    """Return tables for the terminal: a line for each question, a column for each base."""
    table = Table(
        pad_edge=False, box=None, title=f"adapting to {advice.language}", title_justify="left"
    )
    table.add_column("question")
    for base in advice.bases:
        table.add_column(base.name)
    lines = [_lines(base) for base in advice.bases]
    for question in lines[0]:
        table.add_row(question, *(line[question] for line in lines))
    if advice.ranking is None:
        return [table]
    ranking = Table(pad_edge=False, box=None, show_header=False)
    ranking.add_column()
    ranking.add_row(f"by {advice.ranking.measure}: {', '.join(advice.ranking.order)}")
    pairs = "; ".join(f"{better} better than {worse}" for better, worse in advice.ranking.carried)
    ranking.add_row(f"shown by the intervals: {pairs or 'no difference'}")
    return [table, ranking]


def _lines(base: BaseAdvice) -> dict[str, str]:
    size, cost = base.size, base.cost
    return {
        "recommendation": base.headline,
        "tokens to add": f"{size.size:,} "
        f"({size.least:,} to {size.most:,} are equally good; rule: {size.rule})"
        if size
        else "unknown",
        "tokens per byte, now and after": formatting.number(base.now[0])
        + (f" -> {formatting.with_interval(*size.tokens)}" if size else ""),
        "a byte is cheaper to serve by": f"{formatting.factor(base.gain)} "
        f"(each token costs {formatting.factor(size.tax)})"
        if base.gain and size
        else "unknown",
        "bits per byte now": formatting.with_interval(*base.target_bits)
        if base.target_bits
        else "unknown: no weights",
        "bits per byte, base language": formatting.with_interval(*base.base_bits)
        if base.base_bits
        else "not requested",
        f"after {formatting.size(base.budget)}": formatting.with_interval(
            base.end.value, base.end.low, base.end.high
        )
        if base.end
        else "not probed",
        "training": f"{cost.tokens:,} tokens, {formatting.flops(cost.flops)} FLOPs"
        if cost
        else "unknown",
        "GPU-hours": f"{formatting.number(cost.gpu_hours)} on {cost.gpus.count} {cost.gpus.kind}, "
        f"{formatting.number(cost.hours)} h"
        if cost and cost.gpus and cost.gpu_hours is not None and cost.hours is not None
        else "give --gpus",
        "memory per device": f"{formatting.size(cost.memory_per_device)}{_fit(cost)}"
        if cost
        else "unknown",
        "disk": formatting.size(cost.disk) if cost else "unknown",
    }


def _fit(cost: Cost) -> str:
    return "" if cost.fits is None else ", fits" if cost.fits else ", does NOT fit"
