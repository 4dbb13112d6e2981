"""The tasks that come along: YAML files in lm-eval's format, each a family of tasks, one for every language.

A file holds one more key, `lingraft`, which says where the documents are (`hub`), how their columns are called in the
prompts (`fields`), by what name the data set knows each language (`codes`), and the prompt's own words in each
(`words`). `<<word>>` in any string stands for the word of the task's language, `<<code>>` for its code. A language
without a code is taken for a code of the data set itself: `belebele-swh_Latn` needs no edit of the file. Nothing here
imports lm-eval.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from lingraft.corpus.language import parse_language
from lingraft.errors import RecipeError

FOLDER = Path(__file__).parent
ENGLISH = "en"
PAPER = "paper"


@dataclass(frozen=True)
class Hub:
    """Where a data set is: an id, the configuration, and the split of each role.

    `join` names one configuration for each field, to be joined row by row on `key`; `where` keeps rows with a value.
    """

    id: str
    test: str
    shots: str | None = None
    config: str | None = None
    revision: str | None = None
    join: Mapping[str, str] = field(default_factory=dict)
    column: str = ""
    key: str = ""
    where: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """One task in one language: `config` is lm-eval's own, without its data."""

    name: str
    family: str
    language: str
    version: int
    reference: str
    hub: Hub
    fields: Mapping[str, tuple[str, ...]]
    checked: tuple[str, ...]
    labels: Mapping[str, int]
    columns: tuple[str, ...]
    prepare: str
    score: str
    paper: bool
    foreign_words: bool
    config: Mapping[str, Any]


@cache
def families() -> dict[str, dict[str, Any]]:
    """Return the content of every file, by family."""
    return {
        path.stem: yaml.safe_load(path.read_text(encoding="utf-8"))
        for path in sorted(FOLDER.glob("*.yaml"))
    }


def expand(names: Iterable[str]) -> list[str]:
    """Return the names with `paper-LANGUAGE` replaced by the paper's tasks that exist in the language.

    >>> expand(["paper-ta", "xnli_hi"])
    ['flores-ta', 'mlama-ta', 'sentiment-ta', 'xcopa-ta', 'xlsum-ta', 'xnli_hi']
    """
    result: list[str] = []
    for name in names:
        family, _, language = name.partition("-")
        if family != PAPER or not language:
            result.append(name)
            continue
        found = [
            f"{known}-{language}"
            for known, content in families().items()
            if content["lingraft"].get("paper") and language in content["lingraft"]["codes"]
        ]
        if not found:
            msg = f"none of the paper's tasks exists in {language!r}; name tasks one by one, with their data"
            raise RecipeError(msg)
        result.extend(found)
    return list(dict.fromkeys(result))


def known_names() -> list[str]:
    """Return the names in the languages that the files list; a data set's own codes stand in for any other."""
    codes = {family: content["lingraft"]["codes"] for family, content in families().items()}
    listed = [
        f"{family}-{language}" for family, languages in codes.items() for language in languages
    ]
    return listed + sorted(
        {f"{PAPER}-{language}" for languages in codes.values() for language in languages}
    )


def find(name: str) -> Task | None:
    """Return the task of this name; `None` where its family is not among the files."""
    family, _, language = name.partition("-")
    if not language or family not in families():
        return None
    content = families()[family]
    own = {**content["lingraft"], **content["lingraft"].get("for", {}).get(language, {})}
    words = own.get("words", {})
    tag = _tag(language)
    spoken = {
        **words.get(ENGLISH, {}),
        **words.get(tag, {}),
        "language": language,
        "code": own["codes"].get(language, language),
        "language name": english_name(tag),
    }
    own = _filled({key: value for key, value in own.items() if key != "words"}, spoken)
    config = _filled({key: value for key, value in content.items() if key != "lingraft"}, spoken)
    return Task(
        name=name,
        family=family,
        language=tag,
        version=own["version"],
        reference=own["reference"],
        hub=Hub(**own["hub"]),
        fields={key: tuple(value) for key, value in own["fields"].items()},
        checked=tuple(own["checked"]),
        labels={str(key): value for key, value in own.get("labels", {}).items()},
        columns=tuple(own.get("columns", ())),
        prepare=own.get("prepare", ""),
        score=own.get("score", "choice"),
        paper=own.get("paper", False),
        foreign_words=bool(words) and tag not in words,
        config=config,
    )


def _tag(code: str) -> str:
    """Return the language of a data set's code: hin_Deva is hi; a code that is no tag stands for itself."""
    try:
        tag = parse_language(code)
    except RecipeError:
        return code
    language, *rest = tag.split("-")
    return language if rest and "_" in code else tag


@cache
def english_name(tag: str) -> str:
    """Return what English calls a language, by the IANA registry; the tag itself where it is not there.

    >>> english_name("hi"), english_name("sw"), english_name("domain:law")
    ('Hindi', 'Swahili', 'domain:law')
    """
    from langcodes.registry_parser import parse_registry

    language = tag.partition("-")[0]
    for entry in parse_registry():
        if entry.get("Type") == "language" and entry.get("Subtag") == language:
            return re.sub(r"\s*\(.*\)", "", entry["Description"][0])
    return tag


def _filled(value: Any, words: Mapping[str, str]) -> Any:
    """Replace <<word>> in every string of a structure."""
    if isinstance(value, str):
        for word, meaning in words.items():
            value = value.replace(f"<<{word}>>", meaning)
        return value
    if isinstance(value, dict):
        return {key: _filled(item, words) for key, item in value.items()}
    return [_filled(item, words) for item in value] if isinstance(value, list) else value
