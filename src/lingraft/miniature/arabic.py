"""Arabic, written without short vowels: article, gender, the cases that show in writing, suffix pronouns, verb stems.

A noun is written `word gender plural`, the (often broken) plural only where one is used; an adjective
`masculine feminine`, with `2` after it where it takes no tanwin. A verb lists its stems: the past (he did), the past
before a consonant (I did), the present with its ya, and the jussive where it is written otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

from lingraft.miniature.phrases import Agreement, Phrase
from lingraft.miniature.sentences import Lexicon, sex

_NUMBERS = {3: ("ثلاثة", "ثلاث"), 4: ("أربعة", "أربع")}
_SUFFIXES = {"his:m": "ه", "his:f": "ها", "my": "ي"}
_PRESENT_PREFIXES = {(1, False): "أ", (1, True): "ن", (3, False): "ي"}


def accusative(word: str) -> str:
    """Return the indefinite accusative as it is written: an alif with tanwin, save where the ending forbids it.

    >>> accusative("كتاب"), accusative("كرة")
    ('كتابًا', 'كرة')
    """
    return word if word.endswith(("ة", "ى", "اء", "ا", "و")) else word + "ًا"


def dual(word: str) -> str:
    """Return the dual in the oblique cases.

    >>> dual("كلب"), dual("قطة")
    ('كلبين', 'قطتين')
    """
    return _joined(word) + "ين"


def _joined(word: str) -> str:
    return word[:-1] + "ت" if word.endswith("ة") else word


def conjugate(stems: str, form: str, agreement: Agreement) -> str:
    """Return a verb from its stems; forms: past, pres, fut, juss.

    >>> conjugate("اشترى اشتري يشتري", "past", Agreement(gender="f")), conjugate("كان كن يكون يكن", "juss", Agreement())
    ('اشترت', 'يكن')
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
    """Fill Arabic wordings."""

    lexicon: Lexicon

    def agreement(self, phrase: Phrase) -> Agreement:
        """Return grammatical gender; a verb before its subject stays in the singular."""
        gender = (
            sex(phrase) if phrase.kind in ("name", "kin") else self.lexicon.entry(phrase).split()[1]
        )
        return Agreement(gender=gender, kind=phrase.kind)

    def noun(self, phrase: Phrase, features: tuple[str, ...]) -> str:
        """Return a noun phrase; features: the, this, my, his:SEX, acc, construct, plain, and for places to, at."""
        entry = self.lexicon.entry(phrase)
        if phrase.kind == "name":
            word, *triptote = entry.split()
            return accusative(word) if triptote and "acc" in features else word
        if phrase.kind == "place":
            return entry.split("|")["at" in features]
        if phrase.kind == "skill":
            return entry.split("|")[0]
        if phrase.kind in ("phrase", "day"):
            return entry
        return self._common(entry.split(), phrase, features)

    def _common(self, entry: list[str], phrase: Phrase, features: tuple[str, ...]) -> str:
        noun, gender, *more = entry
        if phrase.number > 2:
            return f"{_NUMBERS[phrase.number][gender == 'f']} {more[0]}"
        if phrase.number == 2:
            return dual(noun)
        suffix = next((_SUFFIXES[name] for name in features if name in _SUFFIXES), "")
        article = "ال" if "the" in features or "this" in features else ""
        bare = "construct" in features or article or suffix or "acc" not in features
        word = (
            _joined(noun) + suffix
            if suffix
            else article + (noun if bare or "2" in more else accusative(noun))
        )
        if "this" in features:
            word = ("هذه " if gender == "f" else "هذا ") + word
        if not phrase.adjective or "plain" in features:
            return word
        definite = bool(article or suffix)
        return f"{word} {self._adjective(phrase.adjective, gender, definite=definite, features=features)}"

    def _adjective(
        self, key: str, gender: str, *, definite: bool, features: tuple[str, ...]
    ) -> str:
        masculine, feminine, *diptote = self.lexicon.tables["adjective"][key].split()
        word = feminine if gender == "f" else masculine
        if definite:
            return "ال" + word
        return accusative(word) if "acc" in features and not diptote else word

    def verb(self, lemma: str, form: str, agreement: Agreement) -> str:
        """Return verb or predicate; a predicate stands in the accusative, after kāna."""
        if form == "pred":
            masculine, feminine = lemma.split()
            return feminine if agreement.gender == "f" else accusative(masculine)
        stems = lemma.split("|")[1] if "|" in lemma else self.lexicon.tables["verbs"][lemma]
        return conjugate(stems, form, agreement)

    def finish(self, sentence: str) -> str:
        """Return the sentence as it is: each wording joins its own prefixes."""
        return sentence
