"""Sentence templates, and how a grammar fills their placeholders.

A template is a sentence in one language with three kinds of placeholders:

    {thing acc}      the participant in slot `thing`, inflected for the features that follow; the
                     feature `his:x` stands for the sex of the participant in slot x
    [go past x]      a verb or predicate in a form, agreeing with x (`1x`: x as speaker, `x+y`:
                     both, `1p`: we); `[@s pres x]` takes the lemma from slot s
    <x:he|she>       a choice by the gender that x has in this language

The template therefore decides word order, case and agreement, and the grammar decides the spelling.
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lingraft.miniature.phrases import SEX, Agreement, Phrase

Slots = Mapping[str, Phrase]
Segment = Callable[[Slots], str]
"""A part of a parsed template: returns its text for the participants of a sentence."""
Table = Mapping[str, str]

_PLACEHOLDER = re.compile(r"\{([^}]*)\}|\[([^\]]*)\]|<([\w+]+):([^|>]*)\|([^>]*)>")


@dataclass(frozen=True)
class Lexicon:
    """The tables of one language: words by kind of phrase, and templates by sentence key."""

    tables: Mapping[str, Table]
    templates: Mapping[str, list[str]]

    @classmethod
    def read(cls, language: str) -> Lexicon:
        """Read the table file of a language, which is part of the package."""
        text = (Path(__file__).parent / f"{language}.toml").read_text("utf-8")
        # The grammars compare and replace single code points, so the tables must be in NFC.
        tables = tomllib.loads(unicodedata.normalize("NFC", text))
        return cls(tables, tables.pop("templates"))

    def entry(self, phrase: Phrase) -> str:
        """Return the table entry of a phrase's lemma."""
        if phrase.kind == "day":
            return self.tables["parts"][phrase.adjective].format(self.tables["days"][phrase.noun])
        return self.tables[phrase.kind][phrase.noun]


class Grammar(Protocol):
    """The rules of a language that fill the placeholders."""

    @property
    def lexicon(self) -> Lexicon:
        """Return the tables of the language."""

    def noun(self, phrase: Phrase, features: tuple[str, ...]) -> str:
        """Return the phrase inflected for the features."""

    def verb(self, lemma: str, form: str, agreement: Agreement) -> str:
        """Return the verb or predicate, agreeing."""

    def agreement(self, phrase: Phrase) -> Agreement:
        """Return the features of a phrase with which verbs agree in this language."""

    def finish(self, sentence: str) -> str:
        """Apply the rules that cross word boundaries: sandhi, capitals."""


class SentenceRenderer:
    """Renders the sentences of one language from its templates, which are parsed once."""

    def __init__(self, grammar: Grammar) -> None:
        self.grammar = grammar
        self.templates: dict[str, list[list[Segment]]] = {}
        for key, templates in grammar.lexicon.templates.items():
            self.templates[key] = [self._parse(template) for template in templates]

    def render(self, key: str, slots: Slots, template: int) -> str:
        """Return a sentence; `template` is taken modulo the number of templates of the key."""
        templates = self.templates[key]
        segments = templates[template % len(templates)]
        text = "".join(segment(slots) for segment in segments)
        return unicodedata.normalize("NFC", self.grammar.finish(text))

    def _parse(self, template: str) -> list[Segment]:
        segments, end = [], 0
        for placeholder in _PLACEHOLDER.finditer(template):
            before = template[end : placeholder.start()]
            segments += [_literal(before), self._placeholder(placeholder)]
            end = placeholder.end()
        return [*segments, _literal(template[end:])]

    def _placeholder(self, match: re.Match[str]) -> Segment:
        noun, verb, controller, masculine, feminine = match.groups()
        if noun:
            slot, *features = noun.split()
            return lambda slots: self.grammar.noun(
                slots[slot], tuple(_resolve_feature(feature, slots) for feature in features)
            )
        if verb:
            lemma, form, *controllers = verb.split()
            agrees_with = controllers[0] if controllers else "3s"
            return lambda slots: self.grammar.verb(
                self._lemma(lemma, slots), form, self._agreement(agrees_with, slots)
            )
        return lambda slots: (
            masculine if self._agreement(controller, slots).gender == "m" else feminine
        )

    def _lemma(self, lemma: str, slots: Slots) -> str:
        return self.grammar.lexicon.entry(slots[lemma[1:]]) if lemma.startswith("@") else lemma

    def _agreement(self, controller: str, slots: Slots) -> Agreement:
        person, rest = 3, controller
        if controller[0].isdigit():
            person, rest = int(controller[0]), controller[1:]
        if rest in ("s", "p"):
            return Agreement(person, plural=rest == "p")
        each = [self.grammar.agreement(slots[name]) for name in rest.split("+")]
        if len(each) == 1:
            return Agreement(person, each[0].gender, each[0].plural, each[0].kind)
        # A mixed group is masculine in the languages that have gender.
        all_feminine = all(agreement.gender == "f" for agreement in each)
        return Agreement(person, "f" if all_feminine else "m", plural=True)


def _literal(text: str) -> Segment:
    return lambda _: text


def _resolve_feature(feature: str, slots: Slots) -> str:
    """Replace the slot of a feature such as `his:x` by the sex of its participant."""
    name, colon, slot = feature.partition(":")
    return f"{name}:{SEX[slots[slot].noun]}" if colon else feature


def sex_of(phrase: Phrase) -> str:
    """Return the sex of a person, and "m" for all other phrases."""
    return SEX.get(phrase.noun, "m")
