"""Markdown from values, and the YAML front matter that a hub reads."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

DOMAIN = "domain:"
_MARKUP = re.compile(r"([\\`*_\[\]<>|#&])")


def escape_markdown(text: object) -> str:
    r"""Return text on one line that no reader of Markdown or HTML takes for markup.

    >>> print(escape_markdown("a|b <script>\nc"))
    a\|b \<script\> c
    """
    return _MARKUP.sub(r"\\\1", " ".join(str(text).split()))


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; cells are Markdown already.

    >>> print(markdown_table(("a", "b"), [("1", "2")]))
    | a | b |
    |---|---|
    | 1 | 2 |
    """
    lines = [headings, *rows]
    written = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([written[0], "|" + "---|" * len(headings), *written[1:]])


def bullets(lines: Iterable[str]) -> str:
    """Return a list."""
    return "\n".join(f"- {line}" for line in lines)


def front_matter(record: Mapping[str, Any]) -> str:
    """Return the front matter; what the recipe does not state is left out, so that nothing is claimed.

    A hub wants language codes without region or script, and lists only data sets and base models of its own.
    """
    from huggingface_hub import ModelCardData  # slow to import, used here only

    recipe = record["recipe"]
    languages = dict.fromkeys(code for text in texts(recipe) if (code := _code(text["language"])))
    datasets = dict.fromkeys(
        source["hub"] for text in texts(recipe) for source in text["corpus"] if source.get("hub")
    )
    data = ModelCardData(
        language=[*languages] or None,
        license=(recipe.get("licences") or {}).get("result"),
        library_name="transformers",
        pipeline_tag=_pipeline(record),
        datasets=[*datasets] or None,
        base_model=(recipe["model"].get("hub") or {}).get("id"),
        tags=["lingraft", "vocabulary-extension", "continued-pretraining"],
    )
    return f"---\n{data.to_yaml()}\n---\n"


def _pipeline(record: Mapping[str, Any]) -> str:
    """Return the hub's name for what a model does."""
    notes: Mapping[str, Any] = next(
        (one["notes"] for one in record["stages"] if one["name"] == "embeddings"), {}
    )
    reads_images = notes.get("loads_with") == "AutoModelForImageTextToText"
    return "image-text-to-text" if reads_images else "text-generation"


def texts(recipe: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Return every text of a recipe: the targets', then the replayed one."""
    yield recipe["target"]
    yield from recipe.get("extra_targets") or ()
    if recipe.get("replay"):
        yield recipe["replay"]


def _code(tag: str) -> str | None:
    from langcodes import Language

    return None if tag.startswith(DOMAIN) else str(Language.get(tag).language)
