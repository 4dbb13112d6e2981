"""Wordings, and how a grammar fills them.

A wording is a sentence in one language with three kinds of gaps:

    {thing acc}      the participant in slot `thing`, in the form that the features name; `his:x` gives the sex of x
    [go past x]      a verb or predicate in a form, agreeing with x (`1x`: x as speaker, `x+y`: both, `1p`: we);
                     `[@s pres x]` takes the lemma from slot s
    <x:he|she>       a choice by the gender that x has in this language

Word order, case and agreement are therefore decided by whoever wrote the wording; the spelling is the grammar's.
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
Part = Callable[[Slots], str]
Table = Mapping[str, str]

_GAP = re.compile(r"\{([^}]*)\}|\[([^\]]*)\]|<([\w+]+):([^|>]*)\|([^>]*)>")


@dataclass(frozen=True)
class Lexicon:
    """One language's tables: what each kind of lemma is called, and the wordings of each sentence."""

    tables: Mapping[str, Table]
    wordings: Mapping[str, list[str]]

    @classmethod
    def read(cls, language: str) -> Lexicon:
        """Read the table file of `language` that ships with the package."""
        text = (Path(__file__).parent / f"{language}.toml").read_text("utf-8")
        tables = tomllib.loads(unicodedata.normalize("NFC", text))
        return cls(tables, tables.pop("wordings"))

    def entry(self, phrase: Phrase) -> str:
        """Return what the table of the phrase's kind holds for its lemma."""
        if phrase.kind == "day":
            return self.tables["parts"][phrase.adjective].format(self.tables["days"][phrase.noun])
        return self.tables[phrase.kind][phrase.noun]


class Grammar(Protocol):
    """What a language must know to fill the gaps."""

    @property
    def lexicon(self) -> Lexicon:
        """Return the language's tables."""

    def noun(self, phrase: Phrase, features: tuple[str, ...]) -> str:
        """Return the phrase in the form that the features ask for."""

    def verb(self, lemma: str, form: str, agreement: Agreement) -> str:
        """Return the verb or predicate, agreeing."""

    def agreement(self, phrase: Phrase) -> Agreement:
        """Return what agrees with this phrase in this language."""

    def finish(self, sentence: str) -> str:
        """Apply what crosses word boundaries: sandhi, capitals."""


class Teller:
    """One language: its wordings, parsed once, and the grammar that fills them."""

    def __init__(self, grammar: Grammar) -> None:
        self.grammar = grammar
        self.wordings = {
            key: [self._parse(wording) for wording in wordings]
            for key, wordings in grammar.lexicon.wordings.items()
        }

    def tell(self, key: str, slots: Slots, wording: int) -> str:
        """Return one sentence; where a language has fewer wordings, the count wraps around."""
        parts = self.wordings[key][wording % len(self.wordings[key])]
        return unicodedata.normalize(
            "NFC", self.grammar.finish("".join(part(slots) for part in parts))
        )

    def _parse(self, wording: str) -> list[Part]:
        parts, end = [], 0
        for gap in _GAP.finditer(wording):
            parts += [_literal(wording[end : gap.start()]), self._gap(gap)]
            end = gap.end()
        return [*parts, _literal(wording[end:])]

    def _gap(self, gap: re.Match[str]) -> Part:
        if gap[1]:
            slot, *features = gap[1].split()
            return lambda slots: self.grammar.noun(
                slots[slot], tuple(_known(name, slots) for name in features)
            )
        if gap[2]:
            lemma, form, *controller = gap[2].split()
            return lambda slots: self.grammar.verb(
                self._lemma(lemma, slots),
                form,
                self._agreement(controller[0] if controller else "3s", slots),
            )
        return lambda slots: gap[4] if self._agreement(gap[3], slots).gender == "m" else gap[5]

    def _lemma(self, lemma: str, slots: Slots) -> str:
        return self.grammar.lexicon.entry(slots[lemma[1:]]) if lemma.startswith("@") else lemma

    def _agreement(self, controller: str, slots: Slots) -> Agreement:
        person, rest = (
            (int(controller[0]), controller[1:]) if controller[0].isdigit() else (3, controller)
        )
        if rest in ("s", "p"):
            return Agreement(person, plural=rest == "p")
        each = [self.grammar.agreement(slots[name]) for name in rest.split("+")]
        if len(each) > 1:  # mixed company is masculine where there is gender at all
            return Agreement(
                person, "f" if all(one.gender == "f" for one in each) else "m", plural=True
            )
        return Agreement(person, each[0].gender, each[0].plural, each[0].kind)


def _literal(text: str) -> Part:
    return lambda _: text


def _known(feature: str, slots: Slots) -> str:
    name, colon, slot = feature.partition(":")
    return f"{name}:{SEX[slots[slot].noun]}" if colon else feature


def sex(phrase: Phrase) -> str:
    """Return the sex of a person, and masculine for all else."""
    return SEX.get(phrase.noun, "m")
