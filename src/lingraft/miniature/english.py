"""English grammar of the miniature: articles, plurals, the possessive, past tenses.

A food whose table entry ends in ` pl` is used in the plural ("apple pl"). Irregular past tenses are
listed in the table `pasts`.
"""

from __future__ import annotations

from dataclasses import dataclass

from lingraft.miniature.phrases import Agreement, Phrase
from lingraft.miniature.sentences import Lexicon, sex_of

_VOWELS = "aeiou"
_NUMBERS = {2: "two", 3: "three", 4: "four"}


def with_s(word: str) -> str:
    """Return the plural of a noun, or the third person of a verb.

    >>> with_s("box"), with_s("potato"), with_s("donkey"), with_s("dance")
    ('boxes', 'potatoes', 'donkeys', 'dances')
    """
    return word + ("es" if word.endswith(("s", "x", "ch", "sh", "o")) else "s")


def past(verb: str) -> str:
    """Return the regular past tense of a verb.

    >>> past("play"), past("live")
    ('played', 'lived')
    """
    return verb + ("d" if verb.endswith("e") else "ed")


@dataclass(frozen=True)
class English:
    """Fill English templates."""

    lexicon: Lexicon

    def agreement(self, phrase: Phrase) -> Agreement:
        """Return the number and the sex."""
        is_plural_food = phrase.kind == "food" and self.lexicon.entry(phrase).endswith(" pl")
        is_plural = phrase.number > 1 or is_plural_food
        return Agreement(gender=sex_of(phrase), plural=is_plural, kind=phrase.kind)

    def noun(self, phrase: Phrase, features: tuple[str, ...]) -> str:
        """Return determiner, adjective and noun.

        Features: a, the, my, this, his:SEX, gen, plain (no adjective); for places to, at.
        """
        entry = self.lexicon.entry(phrase)
        if phrase.kind == "place":
            direction, location = entry.split("|")
            return location if "at" in features else direction
        words = [with_s(entry.split()[0]) if self.agreement(phrase).plural else entry]
        if phrase.kind in ("thing", "animal", "food"):
            if phrase.adjective and "plain" not in features:
                words.insert(0, self.lexicon.tables["adjective"][phrase.adjective])
            if phrase.number > 1:
                words.insert(0, _NUMBERS[phrase.number])
        if phrase.kind != "name":
            words = [*_determiner(words[0], features), *words]
        return " ".join(words) + ("'s" if "gen" in features else "")

    def verb(self, lemma: str, form: str, agreement: Agreement) -> str:
        """Return the verb; forms: past, pres, and pred (a predicate, which does not change)."""
        if form == "pred":
            return lemma
        if lemma == "be":
            return "were" if agreement.plural else "was"
        if form == "pres":
            return lemma if agreement.plural else with_s(lemma)
        return self.lexicon.tables["pasts"].get(lemma) or past(lemma)

    def finish(self, sentence: str) -> str:
        """Capitalise the first letter."""
        return sentence[0].upper() + sentence[1:]


def _determiner(next_word: str, features: tuple[str, ...]) -> list[str]:
    for feature in features:
        if feature == "a":
            return ["an" if next_word[0] in _VOWELS else "a"]
        if feature in ("the", "my", "this"):
            return [feature]
        if feature.startswith("his:"):
            return ["his" if feature == "his:m" else "her"]
    return []
