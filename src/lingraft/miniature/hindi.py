"""Hindi: gender, the oblique case, participles that agree.

A noun is written `word gender`, with `pl` after it for a food that is spoken of in the plural. The ergative is a matter
of word order and of what the verb agrees with, so it stands in the wordings: "{x} ने {thing} [देखना perf thing]".
"""

from __future__ import annotations

from dataclasses import dataclass

from lingraft.miniature.phrases import Agreement, Phrase
from lingraft.miniature.sentences import Lexicon, sex

_CONSONANT_FINAL = range(ord("क"), ord("ह") + 1)
_NUKTA = "़"
_NUMBERS = {2: "दो", 3: "तीन", 4: "चार"}
_PERFECT_STEMS = {"जा": "ग", "कर": "कि", "दे": "दि", "ले": "लि", "हो": "हु", "पी": "पि"}
_SHORT_PERFECTS = {
    "कि": ("किया", "किए", "की", "कीं"),
    "दि": ("दिया", "दिए", "दी", "दीं"),
    "लि": ("लिया", "लिए", "ली", "लीं"),
    "पि": ("पिया", "पिए", "पी", "पीं"),
    "हु": ("हुआ", "हुए", "हुई", "हुईं"),
    "ग": ("गया", "गए", "गई", "गईं"),
}
_OWNERS = {"his": "उसका", "my": "मेरा", "own": "अपना"}


def _ends_in_consonant(word: str) -> bool:
    return ord(word[-1]) in _CONSONANT_FINAL or word[-1] == _NUKTA


def oblique(noun: str, gender: str) -> str:
    """Return the singular before a postposition.

    >>> oblique("घोड़ा", "m"), oblique("बिल्ली", "f"), oblique("बंदर", "m")
    ('घोड़े', 'बिल्ली', 'बंदर')
    """
    return noun[:-1] + "े" if gender == "m" and noun.endswith("ा") else noun


def plural(noun: str, gender: str) -> str:
    """Return the direct plural.

    >>> [plural(*noun.split()) for noun in ("केला m", "आम m", "बिल्ली f", "चिड़िया f", "गाय f")]
    ['केले', 'आम', 'बिल्लियाँ', 'चिड़ियाँ', 'गायें']
    """
    if gender == "m":
        return oblique(noun, "m")
    if noun.endswith("िया"):
        return noun + "ँ"
    if noun.endswith("ी"):
        return noun[:-1] + "ियाँ"
    return noun + ("ें" if _ends_in_consonant(noun) else "एँ")


def agree(adjective: str, agreement: Agreement) -> str:
    """Return an adjective in the direct case; only those in -ā change, word by word.

    >>> agree("थका हुआ", Agreement(gender="f")), agree("नया", Agreement(plural=True))
    ('थकी हुई', 'नए')
    """
    return " ".join(_agree(word, agreement) for word in adjective.split())


def _agree(word: str, agreement: Agreement) -> str:
    feminine = agreement.gender == "f"
    if word.endswith(("आ", "या")):
        return (
            word.removesuffix("आ").removesuffix("या") + ("ई" if feminine else "ए")
            if feminine or agreement.plural
            else word
        )
    if not word.endswith("ा"):
        return word
    return word[:-1] + ("ी" if feminine else "े" if agreement.plural else "ा")


def perfect(stem: str, agreement: Agreement) -> str:
    """Return the perfective participle.

    >>> she = Agreement(gender="f")
    >>> perfect("जा", she), perfect("खरीद", she), perfect("खा", Agreement()), perfect("दे", Agreement(plural=True))
    ('गई', 'खरीदी', 'खाया', 'दिए')
    """
    which = 2 * (agreement.gender == "f") + agreement.plural
    if stem in _PERFECT_STEMS:
        return _SHORT_PERFECTS[_PERFECT_STEMS[stem]][which]
    return (
        stem + (("ा", "े", "ी", "ीं") if _ends_in_consonant(stem) else ("या", "ए", "ई", "ईं"))[which]
    )


def future(stem: str, agreement: Agreement) -> str:
    """Return the future.

    >>> future("आ", Agreement(1, "f")), future("ढूँढ", Agreement(1, plural=True))
    ('आऊँगी', 'ढूँढेंगे')
    """
    joined = _ends_in_consonant(stem)
    if agreement.plural:
        ending = "ें" if joined else "एँ"
    elif agreement.person == 1:
        ending = "ूँ" if joined else "ऊँ"
    else:
        ending = "े" if joined else "ए"
    return stem + ending + _agree("गा", agreement)


def _be(agreement: Agreement) -> str:
    if agreement.plural:
        return "हैं"
    return {1: "हूँ", 2: "हो", 3: "है"}[agreement.person]


def _was(agreement: Agreement) -> str:
    if agreement.gender == "f":
        return "थीं" if agreement.plural else "थी"
    return "थे" if agreement.plural else "था"


@dataclass(frozen=True)
class Hindi:
    """Fill Hindi wordings."""

    lexicon: Lexicon

    def agreement(self, phrase: Phrase) -> Agreement:
        """Return grammatical gender and number; relatives of the older generation take the plural of respect."""
        if phrase.kind in ("name", "kin"):
            return Agreement(gender=sex(phrase), plural=phrase.kind == "kin", kind=phrase.kind)
        _, gender, *many = self.lexicon.entry(phrase).split()
        return Agreement(gender=gender, plural=phrase.number > 1 or bool(many), kind=phrase.kind)

    def noun(self, phrase: Phrase, features: tuple[str, ...]) -> str:
        """Return a noun phrase; features: a, plain, obl, my, own, his, and for places to, at, from."""
        entry = self.lexicon.entry(phrase)
        if phrase.kind == "place":
            return entry.split("|")[("to", "at", "from").index(features[0])]
        if phrase.kind not in ("thing", "animal", "food"):
            return entry
        agreement = self.agreement(phrase)
        noun, gender = entry.split()[:2]
        bent = Agreement(gender=gender, plural=agreement.plural or "obl" in features)
        words = [_OWNERS[name] for name in features if name in _OWNERS]
        if phrase.adjective and "plain" not in features:
            words.append(self.lexicon.tables["adjective"][phrase.adjective])
        words = [agree(word, bent) for word in words]
        words.append(
            plural(noun, gender)
            if agreement.plural
            else oblique(noun, gender)
            if "obl" in features
            else noun
        )
        if "a" in features or phrase.number > 1:
            words.insert(0, _NUMBERS.get(phrase.number, "एक"))
        return " ".join(words)

    def verb(self, lemma: str, form: str, agreement: Agreement) -> str:
        """Return verb or predicate; a complement before the infinitive stays as it is."""
        if form in ("adj", "pred"):
            return agree(lemma, agreement)
        if form == "was":
            return _was(agreement)
        *complement, infinitive = lemma.split()
        return " ".join(
            [*complement, self._conjugated(infinitive.removesuffix("ना"), form, agreement)]
        )

    def _conjugated(self, stem: str, form: str, agreement: Agreement) -> str:
        if form == "perf":
            return perfect(stem, agreement)
        if form == "fut":
            return future(stem, agreement)
        if form == "hab":
            return f"{stem}{_agree('ता', agreement)} {_be(agreement)}"
        if form == "habpast":
            return f"{stem}{_agree('ता', agreement)} {_was(agreement)}"
        return f"{stem} {_agree('रहा', agreement)} {_was(agreement)}"

    def finish(self, sentence: str) -> str:
        """Return the sentence as it is: the script has no capitals."""
        return sentence
