"""Texts as users have them, built into a corpus as the pipeline builds it from a file.

The corpus is cleaned and split by the rules of a recipe, so that the same text gives the same
tokens in Python as on the command line.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from lingraft.corpus import Corpus, CorpusSettings, build_corpus
from lingraft.corpus.language import parse_language
from lingraft.corpus.readers import read_source, repair_parallel
from lingraft.display_text import UNKNOWN_LANGUAGE
from lingraft.errors import CorpusError, RecipeError
from lingraft.library.arguments import assignments
from lingraft.recipe.overrides import override
from lingraft.recipe.problems import parse_settings
from lingraft.recipe.tree import Tree
from lingraft.store import WARNINGS, Draft, is_valid_path, path_exists
from lingraft.tokenizer.premiums import REFERENCE

Texts: TypeAlias = Iterable[str | None] | os.PathLike[str] | CorpusSettings
"""Documents (any iterable of `str`; `None` is an empty document), a file, or a corpus's settings"""


def read_documents(texts: Any, name: str) -> Iterator[str]:
    """Yield the documents of an iterable or a file; a missing value (`None`, NaN) is an empty one.

    `name` is the argument that errors name. Raises `CorpusError` for anything else, and if there is
    no document, as in a generator that was read before.
    """
    if isinstance(texts, os.PathLike):
        yield from _documents_of_file(texts, name)
        return
    if isinstance(texts, str | bytes):
        msg = (
            f"{name}: one string, but an iterable of documents is needed; give [text], "
            "or the path of a file (pathlib.Path)"
        )
        raise CorpusError(msg)
    if isinstance(texts, Mapping) or not isinstance(texts, Iterable):
        msg = f"{name}: of type {type(texts).__name__}; give documents, such as a list of strings"
        raise CorpusError(msg)
    if hasattr(texts, "columns"):  # iterating over a data frame of pandas gives their names
        fields = ", ".join(map(str, texts.columns))
        msg = f"{name}: a table with the columns {fields}; give one of them, such as df['text']"
        raise CorpusError(msg)
    number = -1
    for number, text in enumerate(texts):
        if _is_missing(text):
            yield ""
            continue
        if not isinstance(text, str):
            raise CorpusError(_not_text(text, number, name))
        if number == 0 and _is_file(text):
            msg = (
                f"{name}: item 0, {text}, is the name of a file, not a document; give the texts of "
                "the file, or pathlib.Path of one file where a function takes it"
            )
            raise CorpusError(msg)
        try:
            text.encode()
        except UnicodeEncodeError as error:
            msg = (
                f"{name}: item {number} contains half of a surrogate pair, which is not text; "
                "remove or correct it"
            )
            raise CorpusError(msg) from error
        yield text
    if number < 0:
        msg = f"{name}: contains no document; give text (a generator can be read only once)"
        raise CorpusError(msg)


def _documents_of_file(path: os.PathLike[str], name: str) -> Iterator[str]:
    """Yield the documents of a file or a folder; raises `CorpusError` if there are none."""
    if not path_exists(Path(path)):
        msg = f"{name}: {os.fspath(path)} does not exist; give a file or a folder of text"
        raise CorpusError(msg)
    settings = parse_settings(Tree({"sources": [{"path": os.fspath(path)}]}), CorpusSettings)
    (source,) = settings.sources
    is_empty = True
    for text in read_source(source, UNKNOWN_LANGUAGE):
        is_empty = False
        yield text
    if is_empty:
        msg = f"{name}: {os.fspath(path)} contains no document; give a file with text"
        raise CorpusError(msg)


def only_corpus(corpora: Sequence[Corpus], name: str) -> Corpus:
    """Return the only corpus; raises `CorpusError` if there are several languages."""
    if len(corpora) != 1:
        msg = f"{name}: {len(corpora)} languages; give the texts of one"
        raise CorpusError(msg)
    return corpora[0]


def texts_by_tag(texts: Any, name: str) -> dict[str, Any]:
    """Return texts by canonical language tag.

    Raises `CorpusError` for anything but a mapping, and `RecipeError` for an unknown language.
    """
    if not isinstance(texts, Mapping) or not texts:
        msg = f"{name}: give the documents by language, such as {{'hi': [...]}}"
        raise CorpusError(msg)
    by_tag = {}
    for tag, documents in texts.items():
        if not isinstance(tag, str):
            msg = f"{name}: the key {tag!r} is no language; give a BCP-47 tag such as 'hi'"
            raise RecipeError(msg)
        by_tag[parse_language(tag)] = documents
    if len(by_tag) < len(texts):
        msg = f"{name}: two of the keys {', '.join(texts)} mean the same language; join their texts"
        raise RecipeError(msg)
    return by_tag


def read_sentences(
    parallel: Any, languages: Sequence[str], repaired: Mapping[str, CorpusSettings] | None = None
) -> dict[str, tuple[str, ...]]:
    """Return the sentences of these languages and of `REFERENCE`, and of others that are given.

    `repaired` has the settings of the text of each language, as in `read_parallel`. A sentence that
    is empty in one language is left out in all, as in a file. Raises `CorpusError` if some are
    missing, or if they are not parallel.
    """
    sentences = {}
    for tag, given in texts_by_tag(parallel, "parallel").items():
        sentences[tag] = list(read_documents(given, f"parallel: {tag}"))
    missing = [tag for tag in (*languages, REFERENCE) if tag not in sentences]
    if missing:
        msg = f"parallel: no sentences in {', '.join(missing)}; give those of every language"
        raise CorpusError(msg)
    lengths = {tag: len(given) for tag, given in sentences.items()}
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{tag} has {count:,}" for tag, count in lengths.items())
        msg = f"parallel: {counts} sentences; give the same sentences in the same order"
        raise CorpusError(msg)
    return repair_parallel(sentences, repaired, "parallel")


def given_texts(
    texts: Texts | Mapping[str, Texts],
    name: str = "texts",
    language: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> list[GivenTexts]:
    """Return the texts of each language of `texts`; `name` is the argument that errors name.

    `settings` are the argument `text_settings`, `None` if the caller has no such argument.

    Raises `CorpusError` if there is no text, and `RecipeError` for an unknown language.
    """
    if not isinstance(texts, Mapping):
        texts = {language or UNKNOWN_LANGUAGE: texts}
    elif language is not None:
        msg = f"{name}: a mapping names the languages itself; leave out `language`"
        raise CorpusError(msg)
    given = []
    for tag, documents in texts_by_tag(texts, name).items():
        place = name if len(texts) == 1 else f"{name}: {tag}"
        given.append(GivenTexts(place, documents, tag, settings))
    return given


def build_corpora(
    given: Sequence[GivenTexts], folder: Path, warn: Callable[[str], None], name: str = "texts"
) -> list[Corpus]:
    """Build one corpus for each language; raises `CorpusError` if an item is not a string."""
    return [texts.build(folder / f"{name}-{number}", warn) for number, texts in enumerate(given)]


@dataclass(frozen=True)
class GivenTexts:
    """Texts in one language that an argument gives, and the `text_settings` of the call."""

    name: str
    texts: Texts
    language: str
    settings: Mapping[str, Any] | None

    @property
    def corpus(self) -> CorpusSettings:
        """The settings of the text, of which the sources may be others."""
        return self.texts if isinstance(self.texts, CorpusSettings) else self._parse(["-"])

    def build(self, folder: Path, warn: Callable[[str], None]) -> Corpus:
        """Build the corpus; errors and warnings name the arguments of the caller."""
        folder.mkdir(parents=True)
        draft = Draft(folder, is_first=False)  # `warn` receives its warnings
        file = folder / "texts.jsonl"
        try:
            build_corpus(self._corpus_settings(file), self.language, draft)
        except CorpusError as error:
            # The user knows the argument, not the setting and the file that it was written to.
            message = re.sub("^sources:", f"{self.name}:", str(error)).replace(str(file), self.name)
            error.args = (self._with_arguments(message),)
            raise
        file.unlink(missing_ok=True)
        for warning in draft.notes.get(WARNINGS, ()):
            warn(self._with_arguments(warning))
        return Corpus.open(folder)

    def _corpus_settings(self, file: Path) -> CorpusSettings:
        """Return the settings of a corpus of the texts, which are written to `file`."""
        if isinstance(self.texts, CorpusSettings):
            if self.settings:
                msg = f"text_settings: {self.name} has settings itself; set them there"
                raise RecipeError(msg)
            return self.texts
        if isinstance(self.texts, os.PathLike):
            sources = [os.fspath(self.texts)]
        else:
            # A file, because the text may be a stream that is larger than memory and is read twice.
            with file.open("w", encoding="utf-8") as stream:
                for text in read_documents(self.texts, self.name):
                    stream.write(json.dumps({"text": text}) + "\n")
            sources = [str(file)]
        return self._parse(sources)

    def _parse(self, sources: list[str]) -> CorpusSettings:
        """Return the settings of a corpus with these sources and the `text_settings`."""
        changes = assignments(self.settings, "text_settings")
        if any(change.path == "sources" for change in changes):
            msg = f"text_settings: {self.name} has the text already; leave out sources"
            raise RecipeError(msg)
        tree = override(Tree({"sources": sources}), changes, CorpusSettings)
        return parse_settings(tree, CorpusSettings)

    def _with_arguments(self, message: str) -> str:
        """Name what a caller in Python sets where a message names a setting of a recipe."""
        return _SETTING.sub(self._argument, message)

    def _argument(self, setting: re.Match[str]) -> str:
        values = yaml.safe_load(setting[1])
        if self.settings is not None:
            return f"give text_settings={values!r}"
        (name, value), *_ = values.items()
        return f"give lingraft.corpus.CorpusSettings(sources=FILE, {name}={value!r})"


# A setting of a text in the messages of `health_checks`.
_SETTING = re.compile(
    r"\bset ((?:allow|cleaning|language_check|heldout_share): (?:\{[^}]*\}|\[[^]]*\]|\w+))"
)


def _is_missing(text: object) -> bool:
    """Return whether an item is a missing value of a column, as datasets and pandas have them."""
    is_nan = isinstance(text, float) and math.isnan(text)
    return text is None or is_nan or type(text).__name__ == "NAType"


def _is_file(text: str) -> bool:
    """Return whether a text names a file, which a list of documents was not meant to hold."""
    path = Path(text)
    return bool(path.suffix) and is_valid_path(path) and path.is_file()


def _not_text(item: object, number: int, name: str) -> str:
    kind = type(item).__name__
    if isinstance(item, Mapping):
        fields = ", ".join(map(str, item))
        return (
            f"{name}: item {number} is a record ({kind}) with the fields {fields}; give the texts, "
            "such as the column dataset['text']"
        )
    return f"{name}: item {number} is of type {kind}; expected str"
