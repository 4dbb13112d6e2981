"""Turkish: suffixes that follow the vowels before them.

A suffix is written with the letters that harmony decides: A is a or e; I is ı, i, u or ü; D is d or t. A bracket at its
head holds a letter that appears only where it is needed: (y), (n), (s) after a vowel, (I) after a consonant.
A word is written `bare/soft`: the second form stands before a vowel, as in kitap/kitab, nehir/nehr. A `^` after it
marks a last vowel that counts as front although it is written back, as in saat^: saati.
"""

from __future__ import annotations

from dataclasses import dataclass

from lingraft.miniature.phrases import Agreement, Phrase
from lingraft.miniature.sentences import Lexicon, sex

VOWELS = "aâeıioöuü"
_FRONTED = str.maketrans("aıou", "eiöü")
_NARROW = {"a": "ı", "â": "ı", "ı": "ı", "e": "i", "i": "i", "o": "u", "u": "u", "ö": "ü", "ü": "ü"}
_VOICELESS = "fstkçşhp"
_NUMBERS = {2: "iki", 3: "üç", 4: "dört"}
_CASES = {"acc": "(y)I", "dat": "(y)A", "loc": "DA", "abl": "DAn", "gen": "(n)In", "ins": "(y)lA"}
_CASES_AFTER_HIS = {
    "acc": "nI",
    "dat": "nA",
    "loc": "nDA",
    "abl": "nDAn",
    "gen": "nIn",
    "ins": "ylA",
}
_POSSESSIVES = {"poss1": "(I)m", "poss3": "(s)I"}
_PASTS = {"past": "DI", "neg": "mADI", "cannot": "(y)AmADI"}
_PAST_PERSONS = {
    (1, False): "m",
    (2, False): "n",
    (3, False): "",
    (1, True): "k",
    (2, True): "nIz",
    (3, True): "lAr",
}
_PERSONS = {
    (1, False): "Im",
    (2, False): "sIn",
    (3, False): "",
    (1, True): "Iz",
    (2, True): "sInIz",
    (3, True): "lAr",
}


def attach(word: str, suffix: str, *, mark: str = "") -> str:
    """Return `word` with `suffix`; `mark` is written between them, the apostrophe of a name.

    >>> attach("okul", "DA"), attach("park/park", "DA"), attach("kitap/kitab", "(y)I"), attach("Ali", "(n)In", mark="'")
    ('okulda', 'parkta', 'kitabı', "Ali'nin")
    """
    word, front = word.rstrip("^"), word.endswith("^")
    bare, _, soft = word.partition("/")
    suffix = _fit(suffix, after_vowel=bare[-1] in VOWELS)
    stem = (soft or bare) if suffix[:1] in ("A", "I", *VOWELS) else bare
    last = next((letter for letter in reversed(bare.lower()) if letter in VOWELS), "e")
    last = last.translate(_FRONTED) if front else last
    letters = list(stem + mark)
    for letter in suffix:
        written = _harmonise(
            letter, last, voiceless=(letters[-1] if letters[-1] != "'" else stem[-1]) in _VOICELESS
        )
        last = written if written in VOWELS else last
        letters.append(written)
    return "".join(letters)


def _fit(suffix: str, *, after_vowel: bool) -> str:
    if not suffix.startswith("("):
        return suffix
    needed = (suffix[1] == "I") != after_vowel
    return suffix[1] * needed + suffix[3:]


def _harmonise(letter: str, last: str, *, voiceless: bool) -> str:
    if letter == "A":
        return "a" if last in "aâıou" else "e"
    if letter == "I":
        return _NARROW[last]
    if letter == "D":
        return "t" if voiceless else "d"
    return letter


def decline(word: str, features: tuple[str, ...], *, mark: str = "") -> str:
    """Return a noun with possessive and case.

    >>> decline("top", ("poss3", "acc")), decline("renk/reng", ("poss1", "dat"))
    ('topunu', 'rengime')
    """
    owner = next((name for name in features if name in _POSSESSIVES), "")
    case = next((name for name in features if name in _CASES), "")
    if not owner:
        return attach(word, _CASES[case], mark=mark) if case else word.rstrip("^").partition("/")[0]
    owned = attach(word, _POSSESSIVES[owner])
    table = _CASES_AFTER_HIS if owner == "poss3" else _CASES
    return attach(owned, table[case]) if case else owned


def conjugate(verb: str, form: str, person: int = 3, *, plural: bool = False) -> str:
    """Return a verb, given as its stem; a light verb's complement stays in front of it.

    >>> conjugate("git/gid", "past", 1), conjugate("git/gid", "fut", 1), conjugate("söyle", "pres")
    ('gittim', 'gideceğim', 'söylüyor')
    """
    if form in _PASTS:
        return attach(attach(verb, _PASTS[form]), _PAST_PERSONS[person, plural])
    if form == "fut":
        ending = attach(verb, "(y)AcAk")
        return attach(f"{ending}/{ending[:-1]}ğ", _PERSONS[person, plural])
    if form == "infinitive":
        return attach(verb, "mAk")
    if form == "doing":  # the noun of an action, as an object
        return attach(attach(verb, "mA"), "(y)I")
    present = _present(verb)
    return (
        attach(present, "DI") if form == "prespast" else attach(present, _PERSONS[person, plural])
    )


def _present(verb: str) -> str:
    bare, _, soft = verb.partition("/")
    if bare[-1] in "ae":  # -yor narrows an open vowel: oyna-, oynuyor
        return attach(bare[:-1], "Iyor")
    return bare + "yor" if bare[-1] in VOWELS else attach(soft or bare, "Iyor")


@dataclass(frozen=True)
class Turkish:
    """Fill Turkish wordings."""

    lexicon: Lexicon

    def agreement(self, phrase: Phrase) -> Agreement:
        """Return the third person; Turkish has no gender, and a counted noun stays singular."""
        return Agreement(gender=sex(phrase), kind=phrase.kind)

    def noun(self, phrase: Phrase, features: tuple[str, ...]) -> str:
        """Return a noun phrase; features: a, plain, cap, poss1, poss3, a case, to and at for places."""
        entry = self.lexicon.entry(phrase)
        if phrase.kind in ("phrase", "day"):
            return entry
        if phrase.kind == "place":
            entry, _, at = entry.partition("|")
            entry = at if "loc" in features and at else entry
            features = tuple(name for name in features if name != "loc" or not at)
        words = [decline(entry, features, mark="'" if phrase.kind == "name" else "")]
        if "a" in features:
            words.insert(0, "bir")
        if phrase.number > 1:
            words.insert(0, _NUMBERS[phrase.number])
        if phrase.adjective and "plain" not in features:
            words.insert(0, self.lexicon.tables["adjective"][phrase.adjective])
        text = " ".join(words)
        return self.finish(text) if "cap" in features else text

    def verb(self, lemma: str, form: str, agreement: Agreement) -> str:
        """Return verb or predicate; `was` and `are` are the copula after an adjective, `cap` in a form capitalises."""
        form, _, capital = form.partition("+")
        if form == "was":
            word = attach(lemma, "(y)DI")
        elif form == "are":
            word = attach(lemma, _PERSONS[agreement.person, agreement.plural])
        else:
            word = conjugate(lemma, form, agreement.person, plural=agreement.plural)
        return self.finish(word) if capital else word

    def finish(self, sentence: str) -> str:
        """Begin with a capital; the capital of i keeps its dot."""
        return ("İ" if sentence[0] == "i" else sentence[0].upper()) + sentence[1:]
