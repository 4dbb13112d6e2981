"""Predictions kept with a run, and beside them what came out.

What is foretold uses only what was there before: tokens per byte from the base tokenizer, a sample of the train text
and the held-out text that is counted on, without the tokens that were learned; bits per byte at the end, and the time,
from the first part of the training log. The file prediction.json lies in the run folder; `checked` lays the run's
measurements beside it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any

from lingraft.advice.sizing import tokens_per_byte
from lingraft.corpus import Corpus
from lingraft.diagnosis.extrapolation import SIZES
from lingraft.diagnosis.measures import measure
from lingraft.diagnosis.prediction import predict
from lingraft.errors import LingraftError
from lingraft.families import family_of, open_tokenizer
from lingraft.measurement import read_measurements, select
from lingraft.pipeline.run_folder import read_record
from lingraft.pretokenizer import repaired
from lingraft.store import Store
from lingraft.training.forecast import predict_end
from lingraft.training.outlook import FALLEN, heldout_points, points_of, weighed_bytes

PREDICTION = "prediction.json"
FIRST_PART = 0.2
SAMPLE_BYTES = 8_000_000
"""Of train text that tokens per byte are foretold from: seconds, beside a run's minutes or days."""
LEAST_WIDTH = 0.01
"""Of the value, on each side of tokens per byte: a curve from 8 MB of 12 missed by up to 0.7% (english-8m, Hindi)."""
TIME = "training time"


@dataclass(frozen=True)
class Predicted:
    """A number that was foretold, with its 95% interval, and what it was foretold from."""

    metric: str
    language: str
    unit: str
    value: float
    low: float
    high: float
    known: str


@dataclass(frozen=True)
class Checked:
    """A prediction beside the measured number; `error` is predicted / measured - 1."""

    prediction: Predicted
    measured: float

    @property
    def error(self) -> float:
        """The relative error."""
        return self.prediction.value / self.measured - 1

    @property
    def within(self) -> bool:
        """Whether the measured number lies in the interval."""
        return self.prediction.low <= self.measured <= self.prediction.high

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON: the prediction's fields, measured, error, within."""
        return {**asdict(self.prediction), "measured": self.measured, "error": self.error, "within": self.within}


def predictions(folder: Path) -> list[Predicted]:
    """Return the predictions that are kept with a run; none where there is no prediction.json."""
    path = folder / PREDICTION
    if not path.is_file():
        return []
    return [Predicted(**row) for row in json.loads(path.read_text(encoding="utf-8"))["rows"]]


def checked(folder: Path) -> list[Checked]:
    """Return each kept prediction whose number the run has measured."""
    measured = _measured(folder)
    return [Checked(one, measured[one.metric, one.language]) for one in predictions(folder)
            if measured.get((one.metric, one.language))]


def keep_predictions(folder: Path, store: Path | None = None, *, part: float = FIRST_PART) -> list[Predicted]:
    """Write prediction.json into a finished run (or the draft of one) and return its rows.

    `store` is where the run's stages lie: without it, tokens per byte are not foretold. What cannot be foretold, and
    why, is under `not predicted`.
    """
    rows, reasons = [], {}
    for title, make in (("tokens per byte", partial(_tokens, folder, store)),
                        ("bits per byte", partial(_end, folder, part)), (TIME, partial(_time, folder, part))):
        try:
            rows += list(make())
        except LingraftError as error:
            reasons[title] = str(error)
    content = {"format": 1, "part": part, "rows": [asdict(row) for row in rows], "not predicted": reasons}
    (folder / PREDICTION).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return rows


def report_with_predictions(folder: Path, *, store: Path, write_report: Any) -> None:
    """Keep the predictions, then write the report: a `write_report` for `pipeline.run` that travels to workers."""
    keep_predictions(folder, store)
    write_report(folder)


def _tokens(folder: Path, store: Path | None) -> Iterator[Predicted]:
    """Foretell the tokens per byte of the target's held-out text from the base tokenizer and the train text."""
    from lingraft.intrinsic.scoring import heldout_documents  # with torch, which a report does without

    record = read_record(folder)
    stages = {stage["name"]: stage for stage in reversed(record["stages"])}  # of several corpora the first target's
    added = stages["vocabulary"]["notes"].get("added", 0)
    if store is None or not added or len(record["recipe"].get("also") or ()):
        return
    texts, source = _answer(store, stages["corpus"]), _answer(store, stages["source"])
    if not (texts / "manifest.json").is_file() or not (source / "manifest.json").is_file():
        return
    tokenizer, corpus = open_tokenizer(source / "model"), Corpus.open(texts)
    documents = list(_first_bytes(corpus.documents("train"), SAMPLE_BYTES))
    fixed = repaired(tokenizer.family.data) if stages["vocabulary"]["notes"].get("pre-tokenizer repaired") else None
    change = family_of(fixed, tokenizer.folder) if fixed else None
    counted = heldout_documents(corpus, int(record["recipe"]["evaluation"]["heldout_bytes"]))
    curves = predict(tokenizer.family, change, documents, corpus.counts("train").bytes, wanted=counted,
                     sizes=[*(size for size in SIZES if size < added), added])
    if curves is None:
        return
    now = measure(tokenizer, counted).tokens_per_byte
    value, low, high = tokens_per_byte(now, curves[-1]).at(added)
    low, high = min(low, value * (1 - LEAST_WIDTH)), max(high, value * (1 + LEAST_WIDTH))
    yield Predicted("tokens per byte", record["language"], "tokens/byte", value, low, high,
                    f"the base tokenizer, {sum(len(text.encode()) for text in documents):,} bytes of train text and "
                    f"the held-out text")


def _answer(store: Path, stage: Mapping[str, Any]) -> Path:
    return Store(store).outputs / f"{stage['name']}-{stage['key']}"


def _first_bytes(texts: Iterator[str], limit: int) -> Iterator[str]:
    size = 0
    for text in texts:
        yield text
        size += len(text.encode())
        if size >= limit:
            return


def _end(folder: Path, part: float) -> Iterator[Predicted]:
    """Foretell the target's bits per byte after training from the first part of its log."""
    rows = _log(folder)
    steps = [row for row in rows if "bits_per_byte" in row]
    if not steps or steps[-1]["phase"] != 0:
        return  # nothing was trained, or in several phases, whose curves do not go on from each other
    language, total = read_record(folder)["language"], steps[-1]["steps"]
    seen = [row for row in rows if row["step"] <= part * total]
    planned, known = points_of(steps), points_of(seen)
    forecast = predict_end(known, planned[-1].bytes, heldout=heldout_points(seen, language),
                           annealed=planned[-1].factor < FALLEN, ahead=weighed_bytes(planned[max(len(known) - 1, 0):]))
    scale = _evaluated(folder, rows, language)
    yield Predicted("bits per byte", language, "bits/byte", forecast.value * scale, forecast.low * scale,
                    forecast.high * scale, f"the first {part:.0%} of the training log")


def _evaluated(folder: Path, rows: Sequence[Mapping[str, Any]], language: str) -> float:
    """Return the evaluation over the held-out curve for the model before training, which both have measured."""
    path = folder / "measurements.parquet"
    if not path.is_file() or not rows[0].get("heldout", {}).get(language):
        return 1.0
    spliced = select(read_measurements(path), metric="bits per byte", subject="spliced", language=language)
    return spliced[0].value / float(rows[0]["heldout"][language]) if spliced else 1.0


def _time(folder: Path, part: float) -> Iterator[Predicted]:
    """Foretell the seconds of training from those of its first part."""
    steps = [row for row in _log(folder) if "seconds" in row]
    seen = list(takewhile(lambda row: row["step"] <= part * steps[-1]["steps"], steps))
    if len(seen) < 2:
        return
    each = (seen[-1]["seconds"] - seen[0]["seconds"]) / (seen[-1]["step"] - seen[0]["step"])
    value = seen[0]["seconds"] + each * (steps[-1]["steps"] - seen[0]["step"])
    yield Predicted(TIME, "", "seconds", value, 0.8 * value, 1.5 * value, f"the first {part:.0%} of the training log")


def _log(folder: Path) -> list[dict[str, Any]]:
    path = folder / "training.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


def _measured(folder: Path) -> dict[tuple[str, str], float]:
    rows = select(read_measurements(folder / "measurements.parquet"), subject="adapted")
    found = {(row.metric, row.language): row.value for row in rows}
    steps = [row for row in _log(folder) if "seconds" in row]
    return {**found, **({(TIME, ""): steps[-1]["seconds"]} if steps else {})}
