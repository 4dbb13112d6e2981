"""The results of runs as tables for people, and a run's summary as JSON."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table

from lingraft.formatting import counted, join_words, number
from lingraft.measurement import SUBJECTS, MetricChange, metric_changes
from lingraft.measurement_text import change, confidence_levels, value_of
from lingraft.model_card.markdown import heldout_text
from lingraft.pipeline.finished_run import Run
from lingraft.pipeline.run_files import read_json
from lingraft.pipeline.run_folder import read_record
from lingraft.pretokenizer.change import PRETOKENIZER
from lingraft.store import WARNINGS
from lingraft.text_units import FERTILITY_METRICS
from lingraft.vocabulary.premium_balance import PREMIUMS

IDENTICAL = "documents tokenised identically"
SHOWN = (*FERTILITY_METRICS, "bits per byte", "generation speed", IDENTICAL)
"""The metrics in the final table of a run; the report and measurements.csv have all metrics."""


def before_after(run: Run) -> Table:
    """Return the final table of a run: for each metric and language its values and the change."""
    record = run.record
    changes = metric_changes(run.measurements)
    scored = {entry.language: None for entry in changes if entry.metric == "bits per byte"}
    languages = {record["language"]: None} | scored
    languages.pop(record["replay_language"], None)
    title = f"{record['name']}: {join_words([*languages])} added to {record['source']}"
    table = Table(title=title, title_justify="left", pad_edge=False, box=None)
    for heading in ("metric", "language", *SUBJECTS, "change"):
        table.add_column(heading, justify="right" if heading in {*SUBJECTS, "change"} else "left")
    for metric in changes:
        # Target text is cut into other tokens on purpose: only base text must stay as it was.
        if metric.metric == IDENTICAL and metric.language != record["replay_language"]:
            continue
        if metric.metric in SHOWN:
            values = []
            for subject in SUBJECTS:
                row = metric.rows.get(subject)
                values.append(value_of(row) if row else "")
            difference = change(metric.before, metric.last, metric.difference)
            table.add_row(_label(metric), metric.language, *values, difference)
    return table


def measured_on(run: Run) -> str:
    """Return in one line how much text a run was measured on, and what is in brackets."""
    record, rows = run.record, run.measurements
    texts = [f"{language}: {amount}" for language, amount in heldout_text(record).items()]
    if not texts:  # a run of an earlier version
        counts = {row.language: row.n for row in rows if row.metric == "bits per byte"}
        texts = [f"{language}: {counted(n, 'document')}" for language, n in counts.items()]
    parts = [f"held-out text: {', '.join(texts)}"]
    if prompts := {row.n for row in rows if row.metric == "generation speed"}:
        parts.append(f"speed: {counted(max(prompts), 'prompt')} on this machine")
    if level := confidence_levels(row.confidence for row in rows):
        parts.append(f"in brackets: {level} intervals over documents")
    return "; ".join(parts)


def _label(metric: MetricChange) -> str:
    """Return the metric with its unit, unless the name or the values show it."""
    if " per " in metric.metric or metric.unit == "share":
        return metric.metric
    return f"{metric.metric} ({metric.unit})"


def warning_lines(folder: Path) -> list[str]:
    """Return the warnings of a finished run or extension, one line each."""
    return [f"warning: {warning}" for warning in read_record(folder).get(WARNINGS, ())]


def pretokenizer_line(folder: Path) -> str:
    """Return in one line what happened to the pre-tokenizer; "" without pretokenizer.json."""
    content = read_json(folder / PRETOKENIZER)
    return "" if content is None else str(content["summary"])


def premiums_line(folder: Path) -> str:
    """Return the Gini coefficient of the premiums in one line; "" if they were not balanced."""
    content = read_json(folder / PREMIUMS)
    if content is None:
        return ""
    change, languages = content["gini"], content["languages"]
    tags = ", ".join(language["language"] for language in languages)
    return (
        f"premiums of {tags}: Gini coefficient {change['before']:.3f} before, "
        f"{change['after']:.3f} after, on {content['measured_on']}"
    )


def claims_table(certificate: Path) -> Table:
    """Return the claims of a certificate as a table: claim, exceptions, whether it holds."""
    table = Table(title="certificate", title_justify="left", pad_edge=False, box=None)
    for heading in ("claim", "exceptions", "holds"):
        table.add_column(heading, justify="right" if heading == "exceptions" else "left")
    for claim in read_json(certificate)["claims"]:
        exceptions = f"{number(claim['value'])} of {number(claim['of'])} {claim['unit']}"
        table.add_row(claim["name"], exceptions, _verdict(claim))
    return table


def _verdict(claim: dict[str, Any]) -> str:
    """Return whether a claim holds.

    Certificates of earlier versions say that a claim about nothing (0 of 0) holds.
    """
    if not claim["of"]:
        return "not checked"
    if claim["holds"]:
        return "yes"
    return "no" if claim["fatal"] else "for information"


def summary(run: Run) -> dict[str, Any]:
    """Return the results of a finished run as plain JSON, for programs."""
    record = run.record
    return {
        "run": str(run.folder),
        "model": str(run.model_path),
        "report": str(run.report),
        "pretokenizer": read_json(run.folder / PRETOKENIZER),
        "premiums": read_json(run.folder / PREMIUMS),
        "stages": record["stages"],
        "warnings": record["warnings"],
        "measurements": [asdict(row) for row in run.measurements],
    }
