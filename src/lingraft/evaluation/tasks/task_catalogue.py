"""The included tasks: YAML files in lm-eval's format, one per family, each with many languages.

A file has one key that lm-eval does not know, `lingraft`. It holds the data set of the documents
(`hub`), the columns that fill the fields of the prompts (`fields`), the data set's code for each
language (`codes`), and the words of the prompt in each language (`words`). `<<word>>` in any string
is replaced by the word in the task's language, `<<code>>` by the code of the language. A language
that is not in `codes` is itself used as a code of the data set, so `belebele-swh_Latn` needs no
change of the file. This module does not import lm-eval.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import langcodes
import yaml
from langcodes.registry_parser import parse_registry

from lingraft.corpus.language import parse_language
from lingraft.errors import RecipeError

FOLDER = Path(__file__).parent
ENGLISH = "en"
PAPER = "paper"


@dataclass(frozen=True)
class Hub:
    """The location of a data set: its id, its configuration, and the split of each role.

    The roles are `test` (scored documents) and `shots` (few-shot examples). If each field has a
    configuration of its own, `join` names it: records are joined on the column `key`, and the value
    is in the column `column`. `where` keeps only the records with the given values.
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
    """One task in one language.

    `fields` maps each field of the prompts to the columns that may hold it. `checked` are the
    fields that are searched for in training text. `labels` maps the names of labels to numbers.
    `values` lists what a field may hold, of fields that choose the words of a prompt.
    `columns` names the columns of a local file without a header. `prepare` names the last step of
    reading, `score` the kind of score. `foreign_words` is true if the words of the prompt are
    English because the file has none in the language. `config` is the configuration for lm-eval,
    without the data.
    """

    name: str
    family: str
    language: str
    version: int
    reference: str
    hub: Hub
    fields: Mapping[str, tuple[str, ...]]
    checked: tuple[str, ...]
    labels: Mapping[str, int]
    values: Mapping[str, tuple[str, ...]]
    columns: tuple[str, ...]
    prepare: str
    score: str
    paper: bool
    foreign_words: bool
    config: Mapping[str, Any]


@cache
def families() -> dict[str, dict[str, Any]]:
    """Return the content of every file, by family."""
    contents = {}
    for path in sorted(FOLDER.glob("*.yaml")):
        contents[path.stem] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return contents


def expand_names(names: Iterable[str]) -> list[str]:
    """Replace `paper-LANGUAGE` by the tasks of the paper that exist in the language.

    >>> expand_names(["paper-ta", "xnli_hi"])
    ['flores-ta', 'mlama-ta', 'sentiment-ta', 'xcopa-ta', 'xlsum-ta', 'xnli_hi']
    """
    result: list[str] = []
    for name in names:
        family, _, language = name.partition("-")
        if family != PAPER or not language:
            result.append(name)
            continue
        paper_tasks = []
        for known, content in families().items():
            own = content["lingraft"]
            if own.get("paper") and language in own["codes"]:
                paper_tasks.append(f"{known}-{language}")
        if not paper_tasks:
            msg = (
                f"{name}: none of the paper's tasks exists in {language!r}; "
                "name tasks one by one, with their data"
            )
            raise RecipeError(msg)
        result.extend(paper_tasks)
    return list(dict.fromkeys(result))


def known_names() -> list[str]:
    """Return the names of the included tasks in every language of their files, and `paper-*`."""
    names = []
    paper_names = set()
    for family, content in families().items():
        for language in content["lingraft"]["codes"]:
            names.append(f"{family}-{language}")
            paper_names.add(f"{PAPER}-{language}")
    return names + sorted(paper_names)


def find_task(name: str) -> Task | None:
    """Return the task of this name; `None` if no file has its family."""
    family, _, language = name.partition("-")
    if not language or family not in families():
        return None
    content = families()[family]
    own = {**content["lingraft"], **content["lingraft"].get("for", {}).get(language, {})}
    words = own.get("words", {})
    tag = _language_tag(language)
    # English words first: a word that is missing in the language stays English.
    replacements = {
        **words.get(ENGLISH, {}),
        **words.get(tag, {}),
        "language": language,
        "code": own["codes"].get(language, language),
        "language name": english_name(tag),
    }
    own.pop("words", None)  # words are replacements, not strings to fill
    own = _fill(own, replacements)
    config = dict(content)
    del config["lingraft"]
    fields = {}
    for field_name, columns in own["fields"].items():
        fields[field_name] = tuple(columns)
    labels = own.get("labels", {})
    return Task(
        name=name,
        family=family,
        language=tag,
        version=own["version"],
        reference=own["reference"],
        hub=Hub(**own["hub"]),
        fields=fields,
        checked=tuple(own["checked"]),
        # YAML reads a label such as 1 as a number.
        labels={str(label): number for label, number in labels.items()},
        values={name: tuple(known) for name, known in own.get("values", {}).items()},
        columns=tuple(own.get("columns", ())),
        prepare=own.get("prepare", ""),
        score=own.get("score", "choice"),
        paper=own.get("paper", False),
        foreign_words=bool(words) and tag not in words,
        config=_fill(config, replacements),
    )


def _language_tag(code: str) -> str:
    """Return the language of a data set's code; a code that is no tag stays unchanged.

    >>> [_language_tag(code) for code in ("hin_Deva", "hin_Latn", "zho_Hans", "zho_Hant")]
    ['hi', 'hi-Latn', 'zh', 'zh-Hant']
    """
    try:
        tag = parse_language(code)
    except RecipeError:
        return code
    language = langcodes.Language.get(tag)
    if "_" not in code or not language.script:
        return tag
    # Codes of data sets name every script. Another one than the usual script stays: scores have
    # the names of their family and language, and tasks in two scripts must not share a name.
    usual = langcodes.Language.get(language.language).maximize().script
    return tag.replace(f"-{language.script}", "") if language.script == usual else tag


@cache
def english_name(tag: str) -> str:
    """Return the English name of a language in the IANA registry, or the tag if it is not there.

    >>> english_name("hi"), english_name("sw"), english_name("domain:law")
    ('Hindi', 'Swahili', 'domain:law')
    """
    language = tag.partition("-")[0]
    for entry in parse_registry():
        if entry.get("Type") == "language" and entry.get("Subtag") == language:
            # The registry adds notes in parentheses, as in "Swahili (macrolanguage)".
            return re.sub(r"\s*\(.*\)", "", entry["Description"][0])
    return tag


def _fill(value: Any, words: Mapping[str, str]) -> Any:
    """Replace <<word>> in every string of a structure."""
    if isinstance(value, str):
        for word, meaning in words.items():
            value = value.replace(f"<<{word}>>", meaning)
        return value
    if isinstance(value, dict):
        return {key: _fill(item, words) for key, item in value.items()}
    return [_fill(item, words) for item in value] if isinstance(value, list) else value
