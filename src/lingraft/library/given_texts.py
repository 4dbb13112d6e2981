"""Texts as users have them, built into a corpus as the pipeline builds it from a file.

The corpus is cleaned and split by the rules of a recipe, so that the same text gives the same
tokens in Python as on the command line.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeAlias

from lingraft.corpus import Corpus, CorpusSettings, build_corpus
from lingraft.errors import CorpusError
from lingraft.store import WARNINGS, Draft

Texts: TypeAlias = Iterable[str | None] | os.PathLike[str] | CorpusSettings
"""Documents (any iterable of `str`; `None` is an empty document), a file, or a corpus's settings"""

UNKNOWN_LANGUAGE = "und"
"""The BCP-47 tag of text whose language is not stated."""


def build_corpora(
    texts: Texts | Mapping[str, Texts],
    folder: Path,
    *,
    warn: Callable[[str], None],
    name: str = "texts",
    language: str | None = None,
) -> list[Corpus]:
    """Build one corpus for each language of `texts`; `name` is the argument that errors name.

    Raises `CorpusError` if there is no text or an item is not a string, and `RecipeError` for an
    unknown language.
    """
    if not isinstance(texts, Mapping):
        texts = {language or UNKNOWN_LANGUAGE: texts}
    elif language is not None or not texts:
        msg = f"{name}: a mapping names the languages itself; leave out `language`"
        raise CorpusError(msg if texts else f"{name}: empty; give at least one language with text")
    corpora = []
    for number, (tag, documents) in enumerate(texts.items()):
        corpora.append(_build(documents, tag, folder / f"{name}-{number}", name, warn))
    return corpora


def _build(
    texts: Texts, language: str, folder: Path, name: str, warn: Callable[[str], None]
) -> Corpus:
    folder.mkdir(parents=True)
    draft = Draft(folder, is_first=False)  # `warn` receives its warnings
    file = folder / "texts.jsonl"
    try:
        build_corpus(_settings(texts, file, name), language, draft)
    except CorpusError as error:
        # The user knows the argument, not the file that it was written to.
        error.args = (str(error).replace(str(file), name),)
        raise
    file.unlink(missing_ok=True)
    for warning in draft.notes.get(WARNINGS, ()):
        warn(warning)
    return Corpus.open(folder)


def _settings(texts: Texts, file: Path, name: str) -> CorpusSettings:
    """Return the settings of a corpus of the texts, which are written to `file`."""
    if isinstance(texts, CorpusSettings):
        return texts
    if isinstance(texts, os.PathLike):
        return CorpusSettings.model_validate({"sources": [os.fspath(texts)]})
    if isinstance(texts, str | bytes):
        msg = (
            f"{name}: one string, but an iterable of documents is needed; give [text], or "
            "pathlib.Path(...) for a file"
        )
        raise CorpusError(msg)
    # A file, because the text may be a stream that is larger than memory and is read twice.
    with file.open("w", encoding="utf-8") as stream:
        for number, text in enumerate(texts):
            if not (text is None or isinstance(text, str)):
                raise CorpusError(_not_text(text, number, name))
            stream.write(json.dumps({"text": text}) + "\n")
    return CorpusSettings.model_validate({"sources": [str(file)]})


def _not_text(item: object, number: int, name: str) -> str:
    kind = type(item).__name__
    if isinstance(item, Mapping):
        fields = ", ".join(map(str, item))
        return (
            f"{name}: item {number} is a record ({kind}) with the fields {fields}; give the texts, "
            "such as the column dataset['text']"
        )
    return f"{name}: item {number} is of type {kind}; expected str"
