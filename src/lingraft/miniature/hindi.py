"""Hindi grammar of the miniature: gender, the oblique case, agreeing participles.

A noun entry is `word gender`, followed by `pl` for a food that is used in the plural. The ergative
is not a noun feature: it sets the postposition and what the verb agrees with, so the templates
contain it, as in "{x} ने {thing} [देखना perf thing]".
"""

from __future__ import annotations

from dataclasses import dataclass

from lingraft.miniature.phrases import Agreement, Phrase
from lingraft.miniature.sentences import Lexicon, sex_of

_CONSONANT_FINAL = range(ord("क"), ord("ह") + 1)
_NUKTA = "़"
_NUMBERS = {2: "दो", 3: "तीन", 4: "चार"}
_IRREGULAR_PERFECTS = {
    "कर": ("किया", "किए", "की", "कीं"),
    "दे": ("दिया", "दिए", "दी", "दीं"),
    "ले": ("लिया", "लिए", "ली", "लीं"),
    "पी": ("पिया", "पिए", "पी", "पीं"),
    "हो": ("हुआ", "हुए", "हुई", "हुईं"),
    "जा": ("गया", "गए", "गई", "गईं"),
}
_POSSESSIVES = {"his": "उसका", "my": "मेरा", "own": "अपना"}


def _ends_in_consonant(word: str) -> bool:
    return ord(word[-1]) in _CONSONANT_FINAL or word[-1] == _NUKTA


def oblique(noun: str, gender: str) -> str:
    """Return the oblique singular, the form before a postposition.

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
    """Return an adjective in the direct case, word by word; only words in -ā change.

    >>> agree("थका हुआ", Agreement(gender="f")), agree("नया", Agreement(plural=True))
    ('थकी हुई', 'नए')
    """
    return " ".join(_agree(word, agreement) for word in adjective.split())


def _agree(word: str, agreement: Agreement) -> str:
    feminine = agreement.gender == "f"
    if word.endswith(("आ", "या")):
        if not feminine and not agreement.plural:
            return word
        return word.removesuffix("आ").removesuffix("या") + ("ई" if feminine else "ए")
    if not word.endswith("ा"):
        return word
    if feminine:
        return word[:-1] + "ी"
    return word[:-1] + "े" if agreement.plural else word


def perfect(stem: str, agreement: Agreement) -> str:
    """Return the perfective participle.

    >>> she, he, they = Agreement(gender="f"), Agreement(), Agreement(plural=True)
    >>> perfect("जा", she), perfect("खरीद", she), perfect("खा", he), perfect("दे", they)
    ('गई', 'खरीदी', 'खाया', 'दिए')
    """
    # The forms are listed as masculine singular and plural, then feminine singular and plural.
    index = 2 * (agreement.gender == "f") + agreement.plural
    if stem in _IRREGULAR_PERFECTS:
        return _IRREGULAR_PERFECTS[stem][index]
    endings = ("ा", "े", "ी", "ीं") if _ends_in_consonant(stem) else ("या", "ए", "ई", "ईं")
    return stem + endings[index]


def future(stem: str, agreement: Agreement) -> str:
    """Return the future.

    >>> future("आ", Agreement(1, "f")), future("ढूँढ", Agreement(1, plural=True))
    ('आऊँगी', 'ढूँढेंगे')
    """
    # After a consonant a vowel is written as a sign, after a vowel as a letter.
    as_sign = _ends_in_consonant(stem)
    if agreement.plural:
        ending = "ें" if as_sign else "एँ"
    elif agreement.person == 1:
        ending = "ूँ" if as_sign else "ऊँ"
    else:
        ending = "े" if as_sign else "ए"
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
    """Fill Hindi templates."""

    lexicon: Lexicon

    def agreement(self, phrase: Phrase) -> Agreement:
        """Return gender and number; older relatives take the plural, a form of respect."""
        if phrase.kind in ("name", "kin"):
            return Agreement(gender=sex_of(phrase), plural=phrase.kind == "kin", kind=phrase.kind)
        _, gender, *plural_mark = self.lexicon.entry(phrase).split()
        is_plural = phrase.number > 1 or bool(plural_mark)
        return Agreement(gender=gender, plural=is_plural, kind=phrase.kind)

    def noun(self, phrase: Phrase, features: tuple[str, ...]) -> str:
        """Return a noun phrase.

        Features: a, plain (no adjective), obl, my, own, his; for places to, at, from.
        """
        entry = self.lexicon.entry(phrase)
        if phrase.kind == "place":
            return entry.split("|")[("to", "at", "from").index(features[0])]
        if phrase.kind not in ("thing", "animal", "food"):
            return entry
        agreement = self.agreement(phrase)
        noun, gender = entry.split()[:2]
        # The oblique of a masculine adjective is spelt like its plural.
        spelt_as = Agreement(gender=gender, plural=agreement.plural or "obl" in features)
        words = [_POSSESSIVES[name] for name in features if name in _POSSESSIVES]
        if phrase.adjective and "plain" not in features:
            words.append(self.lexicon.tables["adjective"][phrase.adjective])
        words = [agree(word, spelt_as) for word in words]
        if agreement.plural:
            noun = plural(noun, gender)
        elif "obl" in features:
            noun = oblique(noun, gender)
        words.append(noun)
        if "a" in features or phrase.number > 1:
            words.insert(0, _NUMBERS.get(phrase.number, "एक"))
        return " ".join(words)

    def verb(self, lemma: str, form: str, agreement: Agreement) -> str:
        """Return the verb or predicate; a complement before the infinitive does not change."""
        if form in ("adj", "pred"):
            return agree(lemma, agreement)
        if form == "was":
            return _was(agreement)
        *complement, infinitive = lemma.split()
        verb = _conjugate(infinitive.removesuffix("ना"), form, agreement)
        return " ".join([*complement, verb])

    def finish(self, sentence: str) -> str:
        """Return the sentence unchanged: the script has no capitals."""
        return sentence


def _conjugate(stem: str, form: str, agreement: Agreement) -> str:
    """Return a verb; forms: perf, fut, hab, habpast, progpast."""
    if form == "perf":
        return perfect(stem, agreement)
    if form == "fut":
        return future(stem, agreement)
    if form == "hab":
        return f"{stem}{_agree('ता', agreement)} {_be(agreement)}"
    if form == "habpast":
        return f"{stem}{_agree('ता', agreement)} {_was(agreement)}"
    return f"{stem} {_agree('रहा', agreement)} {_was(agreement)}"
