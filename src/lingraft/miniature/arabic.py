"""Arabic grammar of the miniature, written without short vowels.

It covers the article, gender, the cases that show in writing, suffix pronouns and verb stems.
A noun entry is `word gender plural`; the plural, which is often broken, is only listed where it is
used. An adjective entry is `masculine feminine`, followed by `2` if it takes no tanwin. A verb
entry lists its stems: the past (he did), the past before a consonant (I did), the present with its
ya, and the jussive if it is written differently.
"""

from __future__ import annotations

from dataclasses import dataclass

from lingraft.miniature.phrases import Agreement, Phrase
from lingraft.miniature.sentences import Lexicon, sex_of

_NUMBERS = {3: ("ثلاثة", "ثلاث"), 4: ("أربعة", "أربع")}
_SUFFIXES = {"his:m": "ه", "his:f": "ها", "my": "ي"}
_PRESENT_PREFIXES = {(1, False): "أ", (1, True): "ن", (3, False): "ي"}


def accusative(word: str) -> str:
    """Return the written indefinite accusative: alif with tanwin, unless the ending excludes it.

    >>> accusative("كتاب"), accusative("كرة")
    ('كتابًا', 'كرة')
    """
    return word if word.endswith(("ة", "ى", "اء", "ا", "و")) else word + "ًا"


def dual(word: str) -> str:
    """Return the dual in the oblique cases.

    >>> dual("كلب"), dual("قطة")
    ('كلبين', 'قطتين')
    """
    return _before_suffix(word) + "ين"


def _before_suffix(word: str) -> str:
    """Return a noun as it is spelt before a suffix: a final ta marbuta becomes a ta."""
    return word[:-1] + "ت" if word.endswith("ة") else word


def conjugate(stems: str, form: str, agreement: Agreement) -> str:
    """Return a verb from its stems; forms: past, pres, fut, juss.

    >>> conjugate("اشترى اشتري يشتري", "past", Agreement(gender="f"))
    'اشترت'
    >>> conjugate("كان كن يكون يكن", "juss", Agreement())
    'يكن'
    """
    past, before_consonant, present, *jussive = stems.split()
    if form == "past":
        if agreement.person == 1:
            return before_consonant + "ت"
        return past.removesuffix("ى") + "ت" if agreement.gender == "f" else past
    stem = (jussive[0] if jussive and form == "juss" else present)[1:]
    feminine = agreement.person == 3 and agreement.gender == "f"
    prefix = "ت" if feminine else _PRESENT_PREFIXES[agreement.person, agreement.plural]
    return ("س" if form == "fut" else "") + prefix + stem


@dataclass(frozen=True)
class Arabic:
    """Fill Arabic templates."""

    lexicon: Lexicon

    def agreement(self, phrase: Phrase) -> Agreement:
        """Return the grammatical gender; a verb before its subject is always singular."""
        if phrase.kind in ("name", "kin"):
            return Agreement(gender=sex_of(phrase), kind=phrase.kind)
        return Agreement(gender=self.lexicon.entry(phrase).split()[1], kind=phrase.kind)

    def noun(self, phrase: Phrase, features: tuple[str, ...]) -> str:
        """Return a noun phrase.

        Features: the, this, my, his:SEX, acc, construct, plain (no adjective); for places to, at.
        """
        entry = self.lexicon.entry(phrase)
        if phrase.kind == "name":
            word, *is_triptote = entry.split()
            return accusative(word) if is_triptote and "acc" in features else word
        if phrase.kind == "place":
            direction, location = entry.split("|")
            return location if "at" in features else direction
        if phrase.kind == "skill":
            return entry.split("|")[0]
        if phrase.kind in ("phrase", "day"):
            return entry
        return self._common_noun(entry.split(), phrase, features)

    def _common_noun(self, entry: list[str], phrase: Phrase, features: tuple[str, ...]) -> str:
        noun, gender, *more = entry
        if phrase.number > 2:
            return f"{_NUMBERS[phrase.number][gender == 'f']} {more[0]}"
        if phrase.number == 2:
            return dual(noun)
        suffix = next((_SUFFIXES[name] for name in features if name in _SUFFIXES), "")
        article = "ال" if "the" in features or "this" in features else ""
        if suffix:
            word = _before_suffix(noun) + suffix
        elif article or "acc" not in features or "construct" in features or "2" in more:
            word = article + noun
        else:
            word = accusative(noun)
        if "this" in features:
            word = ("هذه " if gender == "f" else "هذا ") + word
        if not phrase.adjective or "plain" in features:
            return word
        adjective, is_diptote = self._adjective(phrase.adjective, gender)
        if article or suffix:  # an adjective agrees with its noun in definiteness
            adjective = "ال" + adjective
        elif "acc" in features and not is_diptote:
            adjective = accusative(adjective)
        return f"{word} {adjective}"

    def _adjective(self, key: str, gender: str) -> tuple[str, bool]:
        """Return an adjective without article, and whether it takes no tanwin."""
        masculine, feminine, *diptote_mark = self.lexicon.tables["adjective"][key].split()
        return feminine if gender == "f" else masculine, bool(diptote_mark)

    def verb(self, lemma: str, form: str, agreement: Agreement) -> str:
        """Return the verb or predicate; a predicate is in the accusative, as after kāna."""
        if form == "pred":
            masculine, feminine = lemma.split()
            return feminine if agreement.gender == "f" else accusative(masculine)
        stems = lemma.split("|")[1] if "|" in lemma else self.lexicon.tables["verbs"][lemma]
        return conjugate(stems, form, agreement)

    def finish(self, sentence: str) -> str:
        """Return the sentence unchanged: the templates contain the prefixes that join words."""
        return sentence
