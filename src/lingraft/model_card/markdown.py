"""Write Markdown for a model card, and read the record of a run (run.json) for it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import langcodes

from lingraft.corpus import is_domain
from lingraft.formatting import counted, size

_MARKUP = re.compile(r"([\\`*_\[\]<>|#&])")


def escape_markdown(text: object) -> str:
    r"""Return text on one line, with the characters of Markdown and HTML markup escaped.

    >>> print(escape_markdown("a|b <script>\nc"))
    a\|b \<script\> c
    """
    return _MARKUP.sub(r"\\\1", " ".join(str(text).split()))


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; the cells are Markdown, so text in them must be escaped already.

    >>> print(markdown_table(("a", "b"), [("1", "2")]))
    | a | b |
    |---|---|
    | 1 | 2 |
    """
    lines = [_table_line(headings), "|" + "---|" * len(headings), *map(_table_line, rows)]
    return "\n".join(lines)


def _table_line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def bullets(lines: Iterable[str]) -> str:
    """Return the lines as a Markdown list."""
    return "\n".join(f"- {line}" for line in lines)


def front_matter(record: Mapping[str, Any], library: str = "transformers") -> str:
    """Return the YAML front matter, which the Hub reads to list and filter models.

    `library` is the one that loads the model. Information that the recipe lacks is left out: the
    Hub would show a placeholder as a value.
    """
    from huggingface_hub import ModelCardData  # slow to import, used here only

    recipe = record["recipe"]
    languages: dict[str, None] = {}  # dicts as ordered sets
    datasets: dict[str, None] = {}
    for text in texts(recipe):
        # The Hub expects language codes without region or script, and ids of data sets on the Hub.
        if code := _language_code(text["language"]):
            languages[code] = None
        for source in text["corpus"]:
            if source.get("hub"):
                datasets[source["hub"]] = None
    data = ModelCardData(
        language=[*languages] or None,
        license=(recipe.get("licences") or {}).get("result"),
        library_name=library,
        pipeline_tag=_pipeline_tag(record),
        datasets=[*datasets] or None,
        # Only a base on the Hub has an id to which the Hub can link.
        base_model=(recipe["model"].get("hub") or {}).get("id"),
        tags=["lingraft", "vocabulary-extension", "continued-pretraining"],
    )
    return f"---\n{data.to_yaml()}\n---\n"


def _pipeline_tag(record: Mapping[str, Any]) -> str:
    """Return the Hub's name of the model's task."""
    reads_images = loading_class(record) == "AutoModelForImageTextToText"
    return "image-text-to-text" if reads_images else "text-generation"


def stage_notes(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return the notes of the first stage with a name; empty if the run has no such stage."""
    for stage in record["stages"]:
        if stage["name"] == name:
            notes: Mapping[str, Any] = stage["notes"]
            return notes
    return {}


def heldout_text(record: Mapping[str, Any]) -> dict[str, str]:
    """Return the documents and bytes of held-out text that were measured, by language.

    >>> stages = [{"name": "evaluation", "notes": {"hi": {"documents": 58, "bytes": 40_000}}}]
    >>> heldout_text({"stages": stages})
    {'hi': '58 documents (40 kB)'}
    """
    shown = {}
    for language, counts in stage_notes(record, "evaluation").items():
        if isinstance(counts, Mapping) and {"documents", "bytes"} <= counts.keys():
            documents = counted(counts["documents"], "document")
            shown[language] = f"{documents} ({size(counts['bytes'])})"
    return shown


def loading_class(record: Mapping[str, Any]) -> str:
    """Return the transformers class that loads the model."""
    return str(stage_notes(record, "embeddings").get("loads_with", "AutoModelForCausalLM"))


def texts(recipe: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield every text of a recipe: the targets, then the replay text."""
    yield recipe["target"]
    yield from recipe.get("extra_targets") or ()
    if recipe.get("replay"):
        yield recipe["replay"]


def _language_code(tag: str) -> str | None:
    # The language of `und`, text whose language is not stated, is None.
    return None if is_domain(tag) else langcodes.Language.get(tag).language
