"""`lingraft advise`: every question that a run leaves open, answered for one base or several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from lingraft.advice.bases import BaseRanking, Standing, interval_of, probe, rank, score_base
from lingraft.advice.costs import Cost, Gpus, Shape, cost_of, serving_gain
from lingraft.advice.sizing import SizeAdvice, advise_size
from lingraft.bases import BuildContext, parse_model
from lingraft.corpus import first_documents
from lingraft.diagnosis import diagnose
from lingraft.diagnosis.diagnosis import Finding
from lingraft.diagnosis.sample import SAMPLE_BYTES, Sample, read_sample
from lingraft.errors import RecipeError
from lingraft.families import open_tokenizer
from lingraft.forecast.loss_forecast import Forecast
from lingraft.recipe import Given, Runtime
from lingraft.store import Draft, Store

HELDOUT_BYTES = 20_000
Interval = tuple[float, float, float]


@dataclass(frozen=True)
class Wanted:
    """What is asked: text in the language, what it would be trained on, on which GPUs, and how far to look.

    `budget` are the bytes of target text of the real run, `probe` those of a probe (0: none).
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
class Advised:
    """The answers for one base. `None`: there are no weights, too little text, or it was not asked for."""

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
    """The answers for every base, and the bases' ranking where there are several."""

    bases: tuple[Advised, ...]
    ranking: BaseRanking | None
    language: str


def advise(models: Sequence[str], wanted: Wanted, runtime: Runtime | None = None) -> Advice:
    """Answer for each base; raises a `LingraftError` where a model or the text is missing."""
    if not wanted.text or not models:
        msg = "advice needs a model and text in the language: lingraft advise MODEL --language hi --text FILE"
        raise RecipeError(msg)
    runtime = runtime or Runtime()
    sample = read_sample(wanted.language, wanted.text, wanted.sample_bytes)
    base = read_sample(wanted.base_language, wanted.base_text, wanted.sample_bytes) if wanted.base_text else None
    advised, standings = [], []
    for model in models:
        one, standing = _advise(model, wanted, runtime, sample, base)
        advised.append(one)
        standings.append(standing)
    ranked = rank(standings) if len(standings) > 1 and any(one.now for one in standings) else None
    return Advice(tuple(advised), ranked, wanted.language)


def _advise(model: str, wanted: Wanted, runtime: Runtime, sample: Sample,
            base: Sample | None) -> tuple[Advised, Standing]:
    folder = _folder(model, runtime)
    name = Path(model.partition("@")[0]).name or model
    weighted = _has_weights(folder)
    tokenizer = open_tokenizer(folder)
    finding = diagnose({name: tokenizer}, [sample]).tokenizers[0].findings[0]
    shape = Shape.of(folder) if weighted else None
    curve = _curve(finding)
    size = advise_size(curve, finding.measures.tokens_per_byte, shape.serving if shape else None) if curve else None
    budget = wanted.budget or sample.given_bytes
    end = None
    if wanted.probe and size and weighted:
        given = Given(model, wanted.language, wanted.text, wanted.base_language, wanted.base_text)
        end = probe(given, size.size, wanted.probe, budget, runtime)
    device = runtime.resolved_device() if weighted else ""
    target = score_base(folder, _first(sample), device) if weighted else None
    others = score_base(folder, _first(base), device) if weighted and base else None
    now = finding.measures.tokens_per_byte
    cost = gain = None
    if shape and size:
        tokens = _training_tokens(wanted, budget, size, tokenizer, base)
        cost = cost_of(shape.extended(size.size), tokens, wanted.gpus)
        gain = serving_gain(shape, now, size.tokens[0], size.size)
    answered = Advised(name, finding.advice.action, finding.advice.reasons, (now, now, now), size, shape,
                       interval_of(target) if target else None, interval_of(others) if others else None, end, budget,
                       cost, gain)
    return answered, Standing(name, target, end)


def _folder(model: str, runtime: Runtime) -> Path:
    """Return a folder or file of the model: of a hub's, an answer in the store as a run makes it."""
    path = Path(model).expanduser()
    if path.exists():
        return path
    from lingraft.pipeline.graph import VERSIONS
    from lingraft.store import Stage

    chosen, store = parse_model(model), Store(runtime.store)
    stage = Stage("advised model", VERSIONS["source"], chosen.identity())

    def fetch(draft: Draft) -> None:
        from lingraft.training import Execution

        chosen.materialise(BuildContext(draft, store.scratch_dir(stage), Execution()))

    return store.build(stage, fetch) / "model"


def _has_weights(folder: Path) -> bool:
    return folder.is_dir() and (folder / "config.json").is_file() and any(folder.glob("*.safetensors*"))


def _curve(finding: Finding) -> Any:
    """Return the curve with the pre-tokenizer that `auto` would choose."""
    after = finding.after()
    if after is None:
        return None
    return finding.repaired if after[1] else finding.keep


def _first(sample: Sample) -> list[str]:
    """Return the documents that are scored: the first ones, which are a random sample."""
    return list(first_documents(sample.documents, HELDOUT_BYTES))


def _training_tokens(wanted: Wanted, budget: int, size: SizeAdvice, tokenizer: Any, base: Sample | None) -> int:
    """Return the tokens of the real run: the target's bytes, and the replayed ones that come on top."""
    target = budget * size.tokens[0]
    if base is None:
        return round(target)
    replayed = budget * wanted.replay / (1 - wanted.replay)
    texts = _first(base)
    per_byte = sum(map(len, tokenizer.ids(texts))) / sum(len(text.encode()) for text in texts)
    return round(target + replayed * per_byte)


def as_json(advice: Advice) -> dict[str, Any]:
    """Return plain JSON."""
    bases = []
    for one in advice.bases:
        cost = {**asdict(one.cost), "hours": one.cost.hours, "gpu_hours": one.cost.gpu_hours,
                "fits": one.cost.fits} if one.cost else None
        bases.append({**asdict(one), "cost": cost})
    return {"language": advice.language, "bases": bases, "ranking": asdict(advice.ranking) if advice.ranking else None}


def advised_table(advice: Advice) -> list[Table]:
    """Return the answers for people: a line for each question, a column for each base."""
    table = Table(pad_edge=False, box=None, title=f"adapting to {advice.language}", title_justify="left")
    table.add_column("question")
    for one in advice.bases:
        table.add_column(one.name)
    lines = [_lines(one) for one in advice.bases]
    for question in lines[0]:
        table.add_row(question, *(line[question] for line in lines))
    if advice.ranking is None:
        return [table]
    said = Table(pad_edge=False, box=None, show_header=False)
    said.add_column()
    said.add_row(f"by {advice.ranking.measure}: {', '.join(advice.ranking.order)}")
    pairs = "; ".join(f"{better} better than {worse}" for better, worse in advice.ranking.carried)
    said.add_row(f"carried by the intervals: {pairs or 'no difference'}")
    return [table, said]


def _lines(one: Advised) -> dict[str, str]:
    size, cost = one.size, one.cost
    return {
        "what to do": one.headline,
        "how many tokens": f"{size.size:,} ({size.least:,} to {size.most:,} are as good; rule: {size.rule})"
        if size else "unknown",
        "tokens a byte, now and then": f"{one.now[0]:.3f} -> {_shown(size.tokens)}" if size else f"{one.now[0]:.3f}",
        "a byte is served cheaper by": f"{one.gain:.2f} times (a token costs {size.tax:.3f} times as much)"
        if one.gain and size else "unknown",
        "bits per byte now": _shown(one.target_bits) if one.target_bits else "unknown: no weights",
        "of the base language": _shown(one.base_bits) if one.base_bits else "not asked",
        f"after {one.budget / 1e6:,.1f} MB": _shown((one.end.value, one.end.low, one.end.high))
        if one.end else "not probed",
        "training": f"{cost.tokens:,} tokens, {cost.flops:.2g} FLOPs" if cost else "unknown",
        "GPU-hours": f"{cost.gpu_hours:.3g} on {cost.gpus.count} {cost.gpus.kind}, {cost.hours:.3g} h"
        if cost and cost.gpus and cost.gpu_hours is not None and cost.hours is not None else "name --gpus",
        "memory of each device": f"{cost.memory_per_device / 1e9:.1f} GB{_fit(cost)}" if cost else "unknown",
        "disk": f"{cost.disk / 1e9:.1f} GB" if cost else "unknown"}


def _fit(cost: Cost) -> str:
    return "" if cost.fits is None else ", fits" if cost.fits else ", does NOT fit"


def _shown(interval: Interval) -> str:
    value, low, high = interval
    return f"{value:.3f} ({low:.3f} to {high:.3f})"



