"""What the model was trained on: each text, how much of it, and its licence where the recipe states one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lingraft.card.front_matter import texts
from lingraft.card.markdown import plain, table

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
        rows.append([text["language"], role, ", ".join(plain(source_name(source)) for source in text["corpus"]),
                     f"{counts['documents']:,}" if counts else "", f"{counts['bytes']:,}" if counts else "",
                     plain(licences.get(role) or NOT_STATED)])
    return (table(("language", "role", "sources", "documents", "bytes", "licence"), rows)
            + f"\n\nLicence of the base model: {plain(licences.get('model') or NOT_STATED)}. "
            f"Licence of this model: {plain(licences.get('result') or NOT_STATED)}.")


def source_name(source: Mapping[str, Any]) -> str:
    """Return how a source is named in public: a hub data set in full, of a file on disk only its name.

    >>> source_name({"path": "/home/me/texts/hi.jsonl.gz"}), source_name({"hub": "wiki/x", "revision": "1a2b"})
    ('hi.jsonl.gz', 'wiki/x@1a2b')
    """
    if source.get("hub"):
        parts = [str(source["hub"]), f"({source['config']})" if source.get("config") else ""]
        return " ".join(filter(None, parts)) + (f"@{source['revision']}" if source.get("revision") else "")
    return Path(str(source["path"])).name if source.get("path") else "lingraft's miniature corpus (generated text)"


def _counts(record: Mapping[str, Any], language: str) -> Mapping[str, int] | None:
    found = (stage["notes"]["train"] for stage in record["stages"]
             if stage["title"] == f"text in {language}" and "train" in stage["notes"])
    return next(found, None)
