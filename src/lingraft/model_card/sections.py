"""The sections of the card that describe the run: data, method and limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from operator import itemgetter
from pathlib import Path
from typing import Any

from lingraft.corpus.presets import preset_of
from lingraft.embeddings import INITS
from lingraft.formatting import counted, percent
from lingraft.model_card.markdown import (
    bullets,
    escape_markdown,
    markdown_table,
    stage_notes,
    texts,
)
from lingraft.vocabulary import SELECTIONS

NOT_STATED = "not stated"


def data_section(record: Mapping[str, Any]) -> str:
    """Return a table of the texts, and the licences of model and result."""
    recipe = record["recipe"]
    licences = recipe.get("licences") or {}
    replay = recipe.get("replay")
    rows = []
    for text in texts(recipe):
        notes = _text_notes(record, text["language"])
        counts = notes.get("train")
        role = "replay" if text is replay else "target"
        names = [source_name(source, notes.get("commits")) for source in text["corpus"]]
        sources = ", ".join(map(escape_markdown, names))
        documents = f"{counts['documents']:,}" if counts else ""
        size = f"{counts['bytes']:,}" if counts else ""
        licence = escape_markdown(licences.get(role) or _known_licences(text) or NOT_STATED)
        rows.append([text["language"], role, sources, documents, size, licence])
    table = markdown_table(("language", "role", "sources", "documents", "bytes", "licence"), rows)
    return (
        f"{table}\n\n"
        f"Licence of the base model: {escape_markdown(licences.get('model') or NOT_STATED)}. "
        f"Licence of this model: {escape_markdown(licences.get('result') or NOT_STATED)}."
    )


def source_name(source: Mapping[str, Any], commits: Mapping[str, str] | None = None) -> str:
    """Return the public name of a source: the id of a Hub dataset, or the name of a file.

    `commits` are the commits that were read, by data set and revision. The folder of a local file
    is left out, because it can contain the name of a user.

    >>> source_name({"path": "/home/me/texts/hi.jsonl.gz"})
    'hi.jsonl.gz'
    >>> source_name({"hub": "wiki/x", "revision": "v2"}, {"wiki/x@v2": "1a2b"})
    'wiki/x@1a2b'
    """
    if source.get("hub"):
        config = f" ({source['config']})" if source.get("config") else ""
        revision = source.get("revision")
        asked = f"{source['hub']}@{revision or 'main'}"
        commit = (commits or {}).get(asked, revision)
        return f"{source['hub']}{config}{f'@{commit}' if commit else ''}"
    if source.get("path"):
        return Path(str(source["path"])).name
    return "lingraft's miniature corpus (generated text)"


def _known_licences(text: Mapping[str, Any]) -> str | None:
    """Return the licences of a text whose sources are all presets, `None` for other text."""
    licences: dict[str, None] = {}
    for source in text["corpus"]:
        known = preset_of(source.get("hub"))
        if known is None:
            return None
        licences[known.licence] = None
    return ", ".join(licences)


def _text_notes(record: Mapping[str, Any], language: str) -> Mapping[str, Any]:
    """Return what is recorded of the training text in a language, nothing if it is unknown."""
    for stage in record["stages"]:
        if stage["title"] == f"text in {language}" and "train" in stage["notes"]:
            notes: Mapping[str, Any] = stage["notes"]
            return notes
    return {}


def method_section(record: Mapping[str, Any]) -> str:
    """Return the steps of the method as a list, in the order of the run."""
    versions = ", ".join(f"{name} {number}" for name, number in record["versions"].items())
    return bullets(
        [
            *_vocabulary_lines(record),
            *_embedding_lines(record),
            *_trained_elsewhere(record),
            *_training_lines(record),
            f"**Seed:** {record['recipe']['seed']}. Versions: {versions}.",
        ]
    )


def _vocabulary_lines(record: Mapping[str, Any]) -> Iterator[str]:
    notes = stage_notes(record, "vocabulary")
    name = next(iter(record["method"]["vocabulary"]["method"]))
    yield (
        f"**Vocabulary:** {notes.get('family', 'tokenizer')}; {_cite_method(SELECTIONS, name)}: "
        f"{notes.get('added', 0):,} tokens added, {notes.get('dropped', 0):,} dropped."
    )
    if "pre-tokenizer" in notes:
        description = str(notes["pre-tokenizer"]).removeprefix("pre-tokenizer ")
        yield f"**Pre-tokenizer:** {escape_markdown(description)}."


def _embedding_lines(record: Mapping[str, Any]) -> Iterator[str]:
    methods = record["method"]["embeddings"]
    for side, init in stage_notes(record, "embeddings").get("inits", {}).items():
        origins = []
        for origin, count in init.get("origins", {}).items():
            name = escape_markdown(origin)
            origins.append(f"{count:,} {name}")
        method = _cite_method(INITS, next(iter(methods[side])))
        yield f"**Added rows, {side}:** {method}: {', '.join(origins) or 'none'}."


def _trained_elsewhere(record: Mapping[str, Any]) -> Iterator[str]:
    if statement := received_statement(record):
        yield f"**Training:** {escape_markdown(statement)}"


def _training_lines(record: Mapping[str, Any]) -> Iterator[str]:
    notes = stage_notes(record, "training")
    if not notes:
        if not record.get("received"):
            yield "**Training:** none."
        return
    yield (
        f"**Training:** {notes['tokens']:,} tokens ({notes['bytes']:,} bytes of text, "
        f"{percent(notes['replay_share'])} of it replay) in {notes['steps']:,} steps; "
        f"{notes['parameters']:,} parameters; {notes['precision']} on {notes['device']}."
    )
    if epochs := notes.get("epochs"):
        read = [f"{language} {number:.3g}" for language, number in epochs.items()]
        yield f"**Epochs of each text:** {', '.join(read)}."
    if "trunk_steps" in notes:
        yield f"**Shared prefix:** {notes['trunk_steps']:,} steps of a shorter run."
    for phase in notes["phases"]:
        # A table of rates (`paper`) and unset rates are not numbers, and are left out.
        rates = []
        for name, value in phase["learning_rates"].items():
            if isinstance(value, int | float):
                rates.append(f"{name} {value:g}")
        branches = f" in {phase['branches']}" if "branches" in phase else ""
        strategy, schedule = next(iter(phase["strategy"])), next(iter(phase["schedule"]))
        yield (
            f"**Phase:** strategy `{strategy}`{_cite(phase.get('reference'))}, "
            f"{phase['steps']:,} steps{branches}, learning rates {', '.join(rates)}, "
            f"schedule `{schedule}`."
        )


def _cite_method(registry: Any, name: str) -> str:
    # A method of a plugin is known only where the plugin is installed.
    known = name in registry.names()
    return f"method `{name}`{_cite(getattr(registry[name], 'reference', '') if known else '')}"


def _cite(reference: str | None) -> str:
    return f" ({escape_markdown(reference)})" if reference else ""


def limits_section(record: Mapping[str, Any]) -> str:
    """Return the limits of the measurements, and the warnings of the run."""
    return bullets(_limits(record))


def _limits(record: Mapping[str, Any]) -> Iterator[str]:
    recipe = record["recipe"]
    yield "One run with one seed: the intervals are over held-out documents, not over seeds."
    languages = ", ".join(dict.fromkeys(map(itemgetter("language"), texts(recipe))))
    yield f"Measured languages: {languages}. Changes in other languages of the base are not known."
    if scripts := stage_notes(record, "vocabulary").get("scripts cut otherwise"):
        yield (
            "The pre-tokenizer was changed, so text in these scripts is tokenised differently than "
            "in the pretraining of the base (tokens of two sample sentences, before any token was "
            f"added): {escape_markdown(scripts)}."
        )
    if any(not text.get("heldout") for text in texts(recipe)):
        yield (
            "The held-out text is from the same sources as the training text; measurements on "
            "other text will differ."
        )
    if not recipe.get("replay"):
        yield (
            "No text in the base language was replayed or measured: how much the model forgot is "
            "not known."
        )
    kind = next(iter(recipe["model"]))
    if recipe["model"][kind].get("trust_remote_code"):
        yield "The model has its own code, which loading it runs: read the *.py files first."
    if kind in {"random", "pretrain"}:
        yield "The base is not a published model: it is a small one for demonstrations and tests."
    base = "A base language model, not tuned to follow instructions by this run."
    yield chat_statement(record) or base
    yield (
        "The generated text was not checked for truth, harm or bias. The model has the biases of "
        "its base and of the texts above."
    )
    for warning in record.get("warnings", ()):
        yield f"{escape_markdown(warning)}."


def is_chat(record: Mapping[str, Any]) -> bool:
    """Return whether the result is a chat model: its source is one, or a chat vector was added."""
    kind = record.get("source_kind") or {}
    return bool(kind.get("chat") or record["recipe"].get("chat_vector"))


def chat_statement(record: Mapping[str, Any]) -> str:
    """Return what training did to a chat model and whether that was measured, "" for a base model.

    A chat model is instruction-tuned: its chat template ends an answer with a token of its own.
    """
    kind = record.get("source_kind") or {}
    recipe = record["recipe"]
    measured = _instructions_measured(recipe)
    if recipe.get("chat_vector"):
        return (
            "A chat model: the difference of an instruct model from the base (a chat vector) was "
            f"added to the adapted base. {measured}"
        )
    if not kind.get("chat"):
        return ""
    source = "The source is an instruction-tuned chat model, whose chat template is kept"
    if record.get("received"):
        return f"{source}; another engine trained it. {measured}"
    if not stage_notes(record, "training"):
        return f"{source}; nothing was trained. {measured}"
    if kind.get("chat_text"):
        return f"{source}; it was trained with chat text. {measured}"
    return (
        f"{source}; training on plain text alone can weaken how it follows instructions. {measured}"
    )


def received_statement(record: Mapping[str, Any]) -> str:
    """Return by what the model was trained, "" if lingraft trained it.

    >>> received = {"folder": "runs/trained", "digest": "1a2b", "files": 3, "engine": "trl"}
    >>> received_statement({"received": received, "stages": []})
    'It was trained by trl, not by lingraft, and received from trained (3 files, digest 1a2b).'
    """
    received = record.get("received")
    if not received:
        return ""
    engine = received.get("engine") or "another engine"
    repaired = 0
    for finding in stage_notes(record, "received").get("findings", ()):
        repaired += finding["outcome"] == "repaired"
    faults = f"; {counted(repaired, 'fault')} of its files repaired" if repaired else ""
    return (
        f"It was trained by {engine}, not by lingraft, and received from "
        f"{Path(received['folder']).name} "
        f"({received['files']} files, digest {received['digest']}{faults})."
    )


def _instructions_measured(recipe: Mapping[str, Any]) -> str:
    """Return whether a task measured how well the model follows instructions."""
    tasks = (recipe.get("evaluation") or {}).get("tasks") or {}
    named = [task for task in tasks.get("names") or () if "ifeval" in task]
    if named:
        prompts = "were plain text, without the chat template"
        if tasks.get("apply_chat_template"):
            prompts = "were conversations in its chat template"
        return (
            f"How well it follows instructions was measured by {', '.join(named)}, whose prompts "
            f"{prompts}."
        )
    return "How well it follows instructions was not measured."
