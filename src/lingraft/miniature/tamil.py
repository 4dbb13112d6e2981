"""Tamil grammar of the miniature: oblique stems, cases, verb endings, sandhi between words.

A noun entry is the word, followed by `/stem` if the stem does not follow from the word. A verb
entry lists three stems (past, present, future) that end in a consonant and take a personal ending.
`~` after a word marks that the first consonant of the next word is doubled: பந்தை~ தேடு becomes
பந்தைத் தேடு.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from lingraft.miniature.phrases import Agreement, Phrase
from lingraft.miniature.sentences import Lexicon, sex_of

_PULLI = "்"
_SIGNS = {
    "ஆ": "ா", "இ": "ி", "ஈ": "ீ", "உ": "ு", "ஊ": "ூ", "எ": "ெ", "ஏ": "ே", "ஐ": "ை", "ஒ": "ொ",
    "ஓ": "ோ", "அ": "",
}  # fmt: skip
_FRONT = ("ி", "ீ", "ெ", "ே", "ை", "இ", "ஈ", "எ", "ஏ", "ஐ")
_CASES = {"acc": "ஐ", "loc": "இல்", "abl": "இலிருந்து", "gen": "இன்", "soc": "உடன்", "at": "இடம்"}
_NUMBERS = {2: "இரண்டு", 3: "மூன்று", 4: "நான்கு"}
_PERSONS = {(1, False): "ஏன்", (1, True): "ஓம்", (2, False): "ஆய்"}
_SHORT = re.compile(r"^[க-ஹ]?[அஇஉஎஒிுெொ]?[ணனமயரலளழவ]்$")
_DOUBLING = re.compile(r"~( [“]?)(?=([கசதப]))")
_A_BEFORE_VOWEL = re.compile(r"(?<!\S)ஒரு (?=[அ-ஔ])")


def join(stem: str, ending: str) -> str:
    """Attach an ending that starts with a vowel to a stem that ends in a consonant.

    >>> join("மரத்த்", "இல்"), join("பூனைய்", "ஐ"), join("சென்ற்", "ஆள்")
    ('மரத்தில்', 'பூனையை', 'சென்றாள்')
    """
    return stem[:-1] + _SIGNS[ending[0]] + ending[1:] if stem.endswith(_PULLI) else stem + ending


def stem_of(noun: str) -> str:
    """Return the stem before a vowel: with a glide, with a doubled consonant, or without short u.

    >>> [stem_of(noun) for noun in ("பூனை", "பூங்கா", "பந்து", "புல்", "முயல்")]
    ['பூனைய்', 'பூங்காவ்', 'பந்த்', 'புல்ல்', 'முயல்']
    """
    noun, _, listed = noun.partition("/")
    if listed:
        return listed
    if noun.endswith(_PULLI):
        return noun + noun[-2:] if _SHORT.match(noun) else noun
    if noun.endswith("ு"):
        return noun[:-1] + _PULLI
    return noun + ("ய்" if noun.endswith(_FRONT) else "வ்")


def oblique(noun: str) -> str:
    """Return the stem that takes the case endings.

    >>> [oblique(noun) for noun in ("மரம்", "வீடு", "ஆறு", "தட்டு")]
    ['மரத்த்', 'வீட்ட்', 'ஆற்ற்', 'தட்ட்']
    """
    if noun.endswith("ம்"):
        return noun[:-2] + "த்த்"
    if noun.endswith(("டு", "று")) and noun[-3] != _PULLI:
        return noun[:-1] + _PULLI + noun[-2] + _PULLI
    return stem_of(noun)


def decline(noun: str, case: str, *, name: bool = False) -> str:
    """Return a case form; accusative and dative double the next consonant.

    A name keeps its final m, which other nouns lose in the oblique.

    >>> decline("புத்தகம்", "acc"), decline("பூனை", "dat"), decline("மரியம்", "acc", name=True)
    ('புத்தகத்தை~', 'பூனைக்கு~', 'மரியமை~')
    """
    stem = stem_of(noun) if name else oblique(noun)
    if case == "um":
        return join(stem_of(noun), "உம்")
    if case != "dat":
        return join(stem, _CASES[case]) + "~" * (case == "acc")
    bare = noun.partition("/")[0]
    return (bare + "க்கு" if bare.endswith((*_FRONT, "ய்")) else join(stem, "உக்கு")) + "~"


def plural(noun: str) -> str:
    """Return the plural.

    >>> plural("மரம்"), plural("பூனை"), plural("பசு/பசுவ்")
    ('மரங்கள்', 'பூனைகள்', 'பசுக்கள்')
    """
    noun, _, listed = noun.partition("/")
    if noun.endswith("ம்"):
        return noun[:-2] + "ங்கள்"
    return noun + ("க்கள்" if listed.endswith("ுவ்") else "கள்")


def conjugate(stem: str, agreement: Agreement) -> str:
    """Return a past, present or future from its stem.

    >>> conjugate("தூங்கின்", Agreement(gender="f")), conjugate("வாழ்ந்த்", Agreement(kind="kin"))
    ('தூங்கினாள்', 'வாழ்ந்தார்')
    """
    if agreement.person < 3:
        return join(stem, _PERSONS[agreement.person, agreement.plural])
    if agreement.plural:
        return join(stem, "ஆர்கள்")
    if agreement.kind in ("thing", "animal", "food"):
        return stem[:-2] + "யது" if stem.endswith("ின்") else join(stem, "அது")
    if agreement.kind == "kin":
        return join(stem, "ஆர்")
    return join(stem, "ஆள்" if agreement.gender == "f" else "ஆன்")


@dataclass(frozen=True)
class Tamil:
    """Fill Tamil templates."""

    lexicon: Lexicon

    def agreement(self, phrase: Phrase) -> Agreement:
        """Return sex and kind: older relatives take honorific forms, animals and things neuter."""
        return Agreement(gender=sex_of(phrase), kind=phrase.kind)

    def noun(self, phrase: Phrase, features: tuple[str, ...]) -> str:
        """Return a noun phrase; features: a, plain (no adjective), and a case."""
        entry = self.lexicon.entry(phrase)
        if phrase.kind in ("phrase", "day"):
            return entry
        if phrase.kind == "skill":
            return entry.split("|")[0] + "~"
        entry, _, location = entry.partition("|")
        if location and "loc" in features:
            return location
        case = next((name for name in features if name in _CASES or name in ("dat", "um")), "")
        entry = plural(entry) if phrase.number > 1 else entry
        bare = entry.partition("/")[0]
        words = [decline(entry, case, name=phrase.kind == "name") if case else bare]
        if phrase.adjective and "plain" not in features:
            words.insert(0, self.lexicon.tables["adjective"][phrase.adjective])
        if "a" in features or phrase.number > 1:
            words.insert(0, _NUMBERS.get(phrase.number, "ஒரு"))
        return " ".join(words)

    def verb(self, lemma: str, form: str, agreement: Agreement) -> str:
        """Return the verb or predicate; a predicate does not change."""
        if form == "pred":
            return lemma
        if "|" in lemma:
            return conjugate(lemma.split("|")[1], agreement)
        past, present, future = self.lexicon.tables["verbs"][lemma].split()
        stem = {"past": past, "pres": present, "fut": future}[form]
        return conjugate(stem, agreement)

    def finish(self, sentence: str) -> str:
        """Double the consonants that `~` marks, and write ஓர் for ஒரு before a vowel."""
        doubled = _DOUBLING.sub(lambda gap: gap[2] + _PULLI + gap[1], sentence).replace("~", "")
        return _A_BEFORE_VOWEL.sub("ஓர் ", doubled)
