"""The notes of a stage in words: "steps, first phase" instead of `phases.0.steps`."""

from __future__ import annotations

from typing import Any

from lingraft.formatting import flatten

ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth")

BEFORE_UNIT = frozenset({"empty", "too short", "too long", "duplicate"})
"""Reasons to drop a document that stand before the word `documents`."""

LISTS = {
    "sources": "source",
    "corpus": "source",
    "heldout": "held-out source",
    "heldout_sources": "held-out source",
    "phases": "phase",
}
"""Lists in notes and settings -> the name of one entry."""

SPLITS = {"train": "for training", "heldout": "as held-out text"}

WORDS = {
    "above_max": "documents above the largest weight",
    "after": "token id after a document",
    "average_steps": "averaged checkpoints",
    "before": "token id before a document",
    "block": "tokens in a sequence",
    "chats": "conversations",
    "control": "ids of control tokens",
    "dropped_bytes": "bytes dropped",
    "dropped_tokens": "tokens dropped",
    "files_linked": "files linked instead of copied",
    "format": "format of the files",
    "from": "where the model is from",
    "inits": "initialisation",
    "kept": "tokens kept",
    "loads_with": "class that loads it",
    "null": "documents with a null, which counts as 1",
    "loss": "implementation of the loss",
    "rows": "rows or sequences",
    "rows_before": "rows of the source",
    "rows_of_a_step": "sequences in a step",
    "parameters_before": "parameters of the source",
    "seconds": "seconds of training",
    "sha256": "SHA-256 of the documents",
    "tied": "input and output share one matrix",
    "train": "training text",
    "heldout": "held-out text",
    "weighted": "documents with a weight",
    "why": "reason",
}
"""Keys whose words are not the key with spaces."""


def note_rows(notes: Any) -> list[tuple[str, str]]:
    """Return nested notes as pairs of a name in words and a text.

    >>> note_rows({"sources": [{"dropped": {"duplicate": {"documents": 3}}}], "loads_with": "X"})
    [('duplicate documents dropped, first source', '3'), ('class that loads it', 'X')]
    """
    return [(note_name(path.split(".")), text) for path, text in flatten(notes)]


def note_name(keys: list[str]) -> str:
    """Return the keys from the outermost to the innermost as words, the innermost first.

    >>> note_name(["phases", "0", "learning_rates", "added_rows"])
    'added rows, learning rates, first phase'
    >>> note_name(["sources", "1", "kept", "train", "bytes"])
    'bytes kept for training, second source'
    """
    words: list[str] = []
    rest = list(keys)
    while rest:
        key = rest.pop(0)
        if rest and rest[0].isdigit():
            words.append(_entry(key, int(rest.pop(0))))
        elif key == "dropped" and len(rest) == 2:
            reason, unit = rest
            counted = f"{reason} {unit}" if reason in BEFORE_UNIT else f"{unit} {reason}"
            words.append(f"{counted} dropped")
            break
        elif key == "kept" and len(rest) == 2:
            words.append(f"{rest[1]} kept {SPLITS.get(rest[0], rest[0])}")
            break
        elif key in {"read", "repeated"} and len(rest) == 1:
            words.append(f"{rest[0]} {key}")
            break
        else:
            words.append(WORDS.get(key, key.replace("_", " ")))
    return ", ".join(reversed(words))


def _entry(key: str, index: int) -> str:
    """Return the name of an entry of a list."""
    ordinal = ORDINALS[index] if index < len(ORDINALS) else f"number {index + 1},"
    return f"{ordinal} {LISTS.get(key, key.replace('_', ' ').removesuffix('s'))}"
