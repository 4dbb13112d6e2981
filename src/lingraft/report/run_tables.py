"""The tables of a run's report: stages, dropped documents, rows, generated texts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from lingraft.corpus.health_table import HealthTable, health_table
from lingraft.display_text import direction, language_name
from lingraft.evaluation.byte_positions import IN_CONTEXT_GAINS, position_spans
from lingraft.evaluation.in_context_probes import KNOWN
from lingraft.formatting import duration, flatten, join_words, number, size
from lingraft.measurement import MIN_DOCUMENTS, TASKS, MetricChange
from lingraft.model_card.markdown import stage_notes
from lingraft.packing.reading_plan import epochs_line
from lingraft.pipeline.received import FINDINGS
from lingraft.pipeline.run_files import RunFiles
from lingraft.report.note_words import note_name, note_rows
from lingraft.splice import AddedToken
from lingraft.text_units import FERTILITY_METRICS
from lingraft.training.phase_outline import outline_lines, outline_of_notes

HEADLINE = frozenset(
    {
        *FERTILITY_METRICS,
        "bits per byte",
        "documents tokenised identically",
        "generation speed",
        "premium over English",
        "Gini of premiums",
        "under-trained added tokens",
        "added tokens preferred to their pieces",
    }
)
VERDICTS = {
    "": "",
    "better": "▲ better",
    "worse": "▼ worse",
    "same": "= same",
    "unclear": "≈ within the intervals",
    "few": f"fewer than {MIN_DOCUMENTS}: too few",
    "no interval": "no interval",
}
MAX_FREQUENT_TOKENS = 60
DROPPED, HEALTH, CHANGED = "dropped", "health", "changed"
"""Notes of the stages that read text, which have tables of their own."""


def split_context(table: Sequence[MetricChange]) -> tuple[list[MetricChange], list[MetricChange]]:
    """Return what models gain from their context, then bits per byte by position."""
    spans = position_spans()
    metrics = {*IN_CONTEXT_GAINS, *KNOWN, *KNOWN.values()}
    gains = [entry for entry in table if entry.metric in metrics]
    return gains, [entry for entry in table if entry.metric in spans]


def nothing_to_lose(gains: Sequence[MetricChange]) -> str:
    """Return a sentence on the gains that the source does not have; "" if it has all."""
    missing = []
    for entry in gains:
        before = entry.before
        is_gain = entry.metric not in KNOWN.values()
        if is_gain and before is not None and before.low is not None and before.low <= 0:
            language = f" in {language_name(entry.language)}" if entry.language else ""
            missing.append(f"no {entry.metric}{language}")
    if not missing:
        return ""
    found = join_words(missing)
    return f"The source has {found} above 0 by its interval: a loss cannot be measured."


def split_headline(table: Sequence[MetricChange]) -> tuple[list[MetricChange], list[MetricChange]]:
    """Return the headline metrics and task scores, and all others but those of `split_context`.

    If a run has none of them (no text was scored, for example), all entries are headlines.
    """
    headline: list[MetricChange] = []
    others: list[MetricChange] = []
    gains, positions = split_context(table)
    for entry in (entry for entry in table if entry not in [*gains, *positions]):
        is_task = any(row.split == TASKS for row in entry.rows.values())
        (headline if is_task or entry.metric in HEADLINE else others).append(entry)
    return (headline, others) if headline else (others, [])


@dataclass(frozen=True)
class StageRow:
    """A stage: whether it was computed or cached, and its notes as name and value."""

    title: str
    key: str
    how: str
    time: str
    notes: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class DropRow:
    """Documents of one corpus that were dropped for one reason."""

    corpus: str
    reason: str
    documents: str
    bytes: str


def stage_rows(record: Mapping[str, Any]) -> list[StageRow]:
    """Return the stages in the order in which they ran."""
    rows = []
    for stage in record.get("stages", ()):
        notes = dict(stage.get("notes") or {})
        if _is_drop_count(notes.get(DROPPED)):
            del notes[DROPPED]  # shown in a table of its own
        if stage.get("name") == "received":
            notes.pop(FINDINGS, None)  # as well
        notes.pop(HEALTH, None)
        notes.pop(CHANGED, None)
        how = "cached" if stage.get("cached") else "computed"
        time = duration(stage.get("seconds") or 0.0)
        rows.append(StageRow(_title(stage), str(stage.get("key", "")), how, time, note_rows(notes)))
    return rows


def drop_rows(record: Mapping[str, Any]) -> list[DropRow]:
    """Return the documents that were read and not used, by corpus and reason."""
    rows = []
    for stage in record.get("stages", ()):
        counts: Any = (stage.get("notes") or {}).get(DROPPED)
        if not _is_drop_count(counts):
            continue
        for reason, count in counts.items():
            documents, total = number(count["documents"]), size(count["bytes"])
            rows.append(DropRow(_title(stage), str(reason), documents, total))
    return rows


def received_findings(record: Mapping[str, Any]) -> list[Mapping[str, Any]] | None:
    """Return the faults of a checkpoint that another engine trained; `None` for other runs."""
    if not record.get("received"):
        return None
    found: list[Mapping[str, Any]] = []
    for stage in record.get("stages", ()):
        if stage.get("name") == "received":
            found += (stage.get("notes") or {}).get(FINDINGS, [])
    return found


@dataclass(frozen=True)
class ChangeRow:
    """Documents of one corpus that a repair of `cleaning` changed."""

    corpus: str
    repair: str
    documents: str
    changes: str


def epochs_sentence(record: Mapping[str, Any]) -> str:
    """Return how often training read each text; "" without training, and for earlier versions."""
    epochs = stage_notes(record, "training").get("epochs") or {}
    if not epochs:
        return ""
    named = {language_name(language): number for language, number in epochs.items()}
    return f"{epochs_line(named).replace('training reads', 'Training read')}."


def training_lines(record: Mapping[str, Any]) -> list[str]:
    """Return steps, batch, warm-up and rates of each phase; none for earlier versions."""
    phases = stage_notes(record, "training").get("phases") or ()
    outlines = [outline for outline in map(outline_of_notes, phases) if outline]
    return [f"{line[:1].upper()}{line[1:]}." for line in outline_lines(outlines)]


def health_tables(record: Mapping[str, Any]) -> list[HealthTable]:
    """Return what each corpus contains besides text in its language."""
    tables = []
    for stage in record.get("stages", ()):
        health = (stage.get("notes") or {}).get(HEALTH)
        if isinstance(health, dict):
            tables.append(health_table(health))
    return tables


def change_rows(record: Mapping[str, Any]) -> list[ChangeRow]:
    """Return the changes of the text that the recipe asked for, by corpus and repair."""
    rows = []
    for stage in record.get("stages", ()):
        counts = (stage.get("notes") or {}).get(CHANGED)
        for repair, count in counts.items() if isinstance(counts, dict) else ():
            documents, changes = number(count["documents"]), number(count["changes"])
            rows.append(ChangeRow(_title(stage), repair, documents, changes))
    return rows


def _title(stage: Mapping[str, Any]) -> str:
    return str(stage.get("title") or stage.get("name", ""))


def _is_drop_count(value: Any) -> bool:
    # The vocabulary stage has a note of the same name: the number of dropped tokens.
    if not isinstance(value, dict):
        return False
    for count in value.values():
        if not isinstance(count, dict) or not {"documents", "bytes"} <= count.keys():
            return False
    return True


def most_frequent(added: Sequence[AddedToken]) -> list[AddedToken]:
    """Return the most frequent added tokens that are valid UTF-8 of two characters or more."""
    # By id where counts are equal, so that the page is the same each time.
    ranked = sorted(added, key=lambda token: (-token.count, token.id))
    return list(islice((token for token in ranked if _is_long(token.surface)), MAX_FREQUENT_TOKENS))


def _is_long(surface: bytes) -> bool:
    try:
        return len(surface.decode("utf-8").strip()) > 1
    except UnicodeDecodeError:
        return False


def row_notes(run: RunFiles) -> list[tuple[str, str]]:
    """Return how the rows of added tokens were initialised: the method, and counts by origin."""
    inits: Mapping[str, Any] = {}
    for stage in run.record.get("stages", ()):
        if stage.get("name") == "embeddings":
            inits = (stage.get("notes") or {}).get("inits", {})
    rows = []
    for side, init in inits.items():
        method = init.get("method")
        name = next(iter(method), "") if isinstance(method, dict) else str(method or "")
        counts = init.get("origins", {}).items()
        origins = ", ".join(f"{number(count)} {origin}" for origin, count in counts)
        rows.append((f"{side} rows", f"{name}: {origins}"))
    return rows


def provenance(run: RunFiles) -> Iterator[tuple[str, str]]:
    """Yield the provenance of the run: dates, device, key, versions, seeds."""
    record = run.record
    for name in ("started", "finished", "device", "key"):
        if record.get(name):
            yield name, str(record[name])
    for name, version in record.get("versions", {}).items():
        yield f"{name} version", str(version)
    for name, value in flatten(record.get("recipe", {})):
        if name == "seed" or name.endswith(".seed"):
            yield note_name(name.split(".")), value


@dataclass(frozen=True)
class GeneratedTexts:
    """A prompt from held-out text, and the continuation of each model, by subject."""

    language: str
    prompt: str
    direction: str
    texts: Sequence[tuple[str, str]]


def generated_texts(entries: Iterable[Mapping[str, str]]) -> list[GeneratedTexts]:
    """Return the prompts of generated.json in their order, each with all its continuations.

    >>> entries = [{"subject": "source", "language": "hi", "prompt": "a", "text": "b"},
    ...            {"subject": "adapted", "language": "hi", "prompt": "a", "text": "c"}]
    >>> generated_texts(entries)[0].texts
    [('source', 'b'), ('adapted', 'c')]
    """
    texts: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for entry in entries:
        continuations = texts.setdefault((entry["language"], entry["prompt"]), [])
        continuations.append((entry["subject"], entry["text"]))
    return [
        GeneratedTexts(language, prompt, direction(prompt), continuations)
        for (language, prompt), continuations in texts.items()
    ]
