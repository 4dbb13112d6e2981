"""The sections of the card that describe the run: data, method, measurements, limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lingraft.embeddings import INITS
from lingraft.formatting import change, measured, percent
from lingraft.measurement import SUBJECTS, Measurement, metric_changes
from lingraft.model_card.markdown import bullets, escape_markdown, markdown_table, texts
from lingraft.vocabulary import SELECTIONS

NOT_STATED = "not stated"


def data_section(record: Mapping[str, Any]) -> str:
    """Return a table of the texts, and the licences of model and result."""
    recipe = record["recipe"]
    licences = recipe.get("licences") or {}
    replay = recipe.get("replay")
    rows = []
    for text in texts(recipe):
        counts = _counts(record, text["language"])
        role = "replay" if text is replay else "target"
        sources = ", ".join(escape_markdown(source_name(source)) for source in text["corpus"])
        rows.append(
            [
                text["language"],
                role,
                sources,
                f"{counts['documents']:,}" if counts else "",
                f"{counts['bytes']:,}" if counts else "",
                escape_markdown(licences.get(role) or NOT_STATED),
            ]
        )
    return (
        markdown_table(("language", "role", "sources", "documents", "bytes", "licence"), rows)
        + f"\n\nLicence of the base model: {escape_markdown(licences.get('model') or NOT_STATED)}. "
        f"Licence of this model: {escape_markdown(licences.get('result') or NOT_STATED)}."
    )


def source_name(source: Mapping[str, Any]) -> str:
    """Return how a source is named in public: a hub data set in full, of a file on disk only its name.

    >>> source_name({"path": "/home/me/texts/hi.jsonl.gz"}), source_name({"hub": "wiki/x", "revision": "1a2b"})
    ('hi.jsonl.gz', 'wiki/x@1a2b')
    """
    if source.get("hub"):
        parts = [str(source["hub"]), f"({source['config']})" if source.get("config") else ""]
        return " ".join(filter(None, parts)) + (
            f"@{source['revision']}" if source.get("revision") else ""
        )
    return (
        Path(str(source["path"])).name
        if source.get("path")
        else "lingraft's miniature corpus (generated text)"
    )


def _counts(record: Mapping[str, Any], language: str) -> Mapping[str, int] | None:
    found = (
        stage["notes"]["train"]
        for stage in record["stages"]
        if stage["title"] == f"text in {language}" and "train" in stage["notes"]
    )
    return next(found, None)


def method_section(record: Mapping[str, Any]) -> str:
    """Return what was done in one list, in the order of the run."""
    notes = {stage["name"]: stage["notes"] for stage in record["stages"]}
    return bullets(
        [
            *_vocabulary(record, notes),
            *_embeddings(record, notes),
            *_training(notes),
            f"**Seed:** {record['recipe']['seed']}. Versions: "
            + ", ".join(f"{name} {number}" for name, number in record["versions"].items())
            + ".",
        ]
    )


def _vocabulary(record: Mapping[str, Any], notes: Mapping[str, Any]) -> Iterator[str]:
    found, settings = notes.get("vocabulary", {}), record["method"]["vocabulary"]
    name = next(iter(settings["method"]))
    yield (
        f"**Vocabulary:** {found.get('family', 'tokenizer')}; {_cited(SELECTIONS, name)}: "
        f"{found.get('added', 0):,} tokens added, {found.get('dropped', 0):,} dropped."
    )
    if "pre-tokenizer" in found:
        yield f"**Pre-tokenizer:** {escape_markdown(str(found['pre-tokenizer']).removeprefix('pre-tokenizer '))}."


def _embeddings(record: Mapping[str, Any], notes: Mapping[str, Any]) -> Iterator[str]:
    found, chosen = notes.get("embeddings", {}), record["method"]["embeddings"]
    inits = found.get("inits", {})
    for role in inits or ():
        counts = inits[role].get("origins", {})
        origins = ", ".join(
            f"{count:,} {escape_markdown(origin)}" for origin, count in counts.items()
        )
        yield f"**New rows, {role}:** {_cited(INITS, next(iter(chosen[role])))}: {origins or 'none'}."


def _training(notes: Mapping[str, Any]) -> Iterator[str]:
    found = notes.get("training")
    if not found:
        yield "**Training:** none."
        return
    yield (
        f"**Training:** {found['tokens']:,} tokens ({found['bytes']:,} bytes of text, "
        f"{percent(found['replay_share'])} of it replayed) in {found['steps']:,} steps; "
        f"{found['parameters']:,} parameters; {found['precision']} on {found['device']}."
    )
    if "trunk_steps" in found:
        yield f"**Beginning:** its first {found['trunk_steps']:,} steps are a shorter run's."
    for phase in found["phases"]:
        rates = ", ".join(
            f"{name} {value:g}"
            for name, value in phase["learning_rates"].items()
            if isinstance(value, int | float)
        )
        strategy, schedule = (next(iter(phase[key])) for key in ("strategy", "schedule"))
        yield (
            f"**Phase:** strategy `{strategy}`{_reference(phase.get('reference'))}, {phase['steps']:,} steps, "
            f"learning rates {rates}, schedule `{schedule}`."
        )


def _cited(registry: Any, name: str) -> str:
    known = name in registry.names()
    return f"method `{name}`{_reference(getattr(registry[name], 'reference', '') if known else '')}"


def _reference(text: str | None) -> str:
    return f" ({escape_markdown(text)})" if text else ""


def measurement_table(rows: Sequence[Measurement]) -> str:
    """Return a line for each metric and language, and an explanation of the columns."""
    lines = []
    for one in metric_changes(rows):
        if any(subject in one.rows for subject in SUBJECTS):
            cells = [measured(one.rows.get(subject)) for subject in SUBJECTS]
            lines.append(
                [
                    escape_markdown(one.metric),
                    one.language,
                    escape_markdown(one.unit),
                    *cells,
                    change(one.before, one.last, one.difference),
                ]
            )
    return (
        markdown_table(("metric", "language", "unit", *SUBJECTS, "change from the source"), lines)
        + "\n\n`source` is the base, `spliced` the base with the new tokens before any training, "
        "`adapted` this model. " + _legend(rows)
    )


def _legend(rows: Sequence[Measurement]) -> str:
    levels = dict.fromkeys(row.confidence for row in rows if row.confidence is not None)
    if not levels:
        return "No intervals were measured."
    shown = " and ".join(percent(level) for level in levels)
    return (
        f"In brackets: the {shown} interval over held-out documents; of a change, that of the paired "
        "difference. Bits per byte, and tokens, are better when lower; speeds when higher, on the "
        "machine that measured."
    )


def limits_section(record: Mapping[str, Any]) -> str:
    """Return the limits of what was measured, and the warnings of the run."""
    return bullets(_limits(record))


def _limits(record: Mapping[str, Any]) -> Iterator[str]:
    recipe = record["recipe"]
    yield "One run with one seed: the intervals are over held-out documents, not over trainings."
    measured = ", ".join(dict.fromkeys(text["language"] for text in texts(recipe)))
    yield f"Measured in {measured} only; what became of other languages that the base knows was not looked at."
    notes: Mapping[str, Any] = next(
        (stage["notes"] for stage in record["stages"] if stage["name"] == "vocabulary"), {}
    )
    if touched := notes.get("scripts cut otherwise"):
        yield (
            "The pre-tokenizer was changed, so the base's text in these scripts is cut otherwise than in its "
            f"pretraining (tokens of two sample sentences, before any token was added): {escape_markdown(touched)}."
        )
    if any(not text.get("heldout") for text in texts(recipe)):
        yield (
            "Held-out text was set apart from the same sources as the training text; on text of another kind the "
            "numbers will be other ones."
        )
    if not recipe.get("replay"):
        yield "No text of the base's own language was replayed or measured: what the model forgot is not known."
    kind = next(iter(recipe["model"]))
    if recipe["model"][kind].get("trust_remote_code"):
        yield "The base brings code of its own, which whoever loads the model runs: read the *.py files first."
    if kind in {"random", "pretrain"}:
        yield "The base is no published model: it was made here, small, to show or test the method."
    yield _kind_of_model(record)
    yield (
        "Nobody has checked what it says for truth, harm or bias, and it has those of its base and of the texts "
        "above."
    )
    yield from (escape_markdown(warning) + "." for warning in record.get("warnings", ()))


def is_chat(record: Mapping[str, Any]) -> bool:
    """Say whether the result is a chat model: its source is one, or a chat vector was added."""
    kind = record.get("source_kind") or {}
    return bool(kind.get("chat") or record["recipe"].get("chat_vector"))


def _kind_of_model(record: Mapping[str, Any]) -> str:
    kind = record.get("source_kind") or {}
    if record["recipe"].get("chat_vector"):
        return (
            "A chat model: what an instruct model learned beyond the base was added to the adapted base (a chat "
            "vector). How well it follows instructions was not measured."
        )
    if kind.get("chat"):
        text = (
            "with chat text among it"
            if kind.get("chat_text")
            else "without chat text, so that it may chat worse"
        )
        return (
            f"A chat model: the source is one, its chat template and turn marks are kept, and it was trained "
            f"directly, {text}. How well it follows instructions was not measured."
        )
    return "A base language model, not tuned to follow instructions by this run."
