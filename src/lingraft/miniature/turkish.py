"""Turkish grammar of the miniature: suffixes with vowel harmony.

In a suffix, capital letters depend on the word before it: A is a or e; I is ı, i, u or ü; D is d or
t. A first letter in brackets is a buffer, which is only written where it is needed: (y), (n), (s)
after a vowel, (I) after a consonant.

A word entry is `bare/soft`. The second form is used before a vowel, as in kitap/kitab, nehir/nehr.
A `^` at the end marks a word whose last vowel is a back vowel that takes front suffixes, as in
saat^: saati.
"""

from __future__ import annotations

from dataclasses import dataclass

from lingraft.miniature.phrases import Agreement, Phrase
from lingraft.miniature.sentences import Lexicon, sex_of

VOWELS = "aâeıioöuü"
_FRONTED = str.maketrans("aıou", "eiöü")
_NARROW = {"a": "ı", "â": "ı", "ı": "ı", "e": "i", "i": "i", "o": "u", "u": "u", "ö": "ü", "ü": "ü"}
_VOICELESS = "fstkçşhp"
_NUMBERS = {2: "iki", 3: "üç", 4: "dört"}
_CASES = {"acc": "(y)I", "dat": "(y)A", "loc": "DA", "abl": "DAn", "gen": "(n)In", "ins": "(y)lA"}
_CASES_AFTER_POSS3 = {
    "acc": "nI", "dat": "nA", "loc": "nDA", "abl": "nDAn", "gen": "nIn", "ins": "ylA",
}  # fmt: skip
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

    >>> attach("okul", "DA"), attach("kitap/kitab", "(y)I"), attach("Ali", "(n)In", mark="'")
    ('okulda', 'kitabı', "Ali'nin")
    """
    word, is_front = word.rstrip("^"), word.endswith("^")
    bare, _, soft = word.partition("/")
    suffix = _resolve_buffer(suffix, after_vowel=bare[-1] in VOWELS)
    stem = (soft or bare) if suffix[:1] in ("A", "I", *VOWELS) else bare
    last = next((letter for letter in reversed(bare.lower()) if letter in VOWELS), "e")
    last = last.translate(_FRONTED) if is_front else last
    letters = list(stem + mark)
    for letter in suffix:
        before = stem[-1] if letters[-1] == "'" else letters[-1]
        written = _harmonise(letter, last, voiceless=before in _VOICELESS)
        last = written if written in VOWELS else last
        letters.append(written)
    return "".join(letters)


def _resolve_buffer(suffix: str, *, after_vowel: bool) -> str:
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
    possessive = next((name for name in features if name in _POSSESSIVES), "")
    case = next((name for name in features if name in _CASES), "")
    if not possessive:
        return attach(word, _CASES[case], mark=mark) if case else word.rstrip("^").partition("/")[0]
    noun = attach(word, _POSSESSIVES[possessive])
    cases = _CASES_AFTER_POSS3 if possessive == "poss3" else _CASES
    return attach(noun, cases[case]) if case else noun


def conjugate(verb: str, form: str, person: int = 3, *, plural: bool = False) -> str:
    """Return a verb from its stem; the complement of a light verb stays before it.

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
    if form == "doing":  # the verbal noun in the accusative: "yüzmeyi", as an object
        return attach(attach(verb, "mA"), "(y)I")
    present = _present(verb)
    if form == "prespast":
        return attach(present, "DI")
    return attach(present, _PERSONS[person, plural])


def _present(verb: str) -> str:
    bare, _, soft = verb.partition("/")
    if bare[-1] in "ae":  # the suffix -yor raises a final a or e: oyna-, oynuyor
        return attach(bare[:-1], "Iyor")
    return bare + "yor" if bare[-1] in VOWELS else attach(soft or bare, "Iyor")


@dataclass(frozen=True)
class Turkish:
    """Fill Turkish templates."""

    lexicon: Lexicon

    def agreement(self, phrase: Phrase) -> Agreement:
        """Return the third person; Turkish has no gender, and a counted noun stays singular."""
        return Agreement(gender=sex_of(phrase), kind=phrase.kind)

    def noun(self, phrase: Phrase, features: tuple[str, ...]) -> str:
        """Return a noun phrase.

        Features: a, plain (no adjective), cap (capital letter), poss1, poss3, and a case.
        """
        entry = self.lexicon.entry(phrase)
        if phrase.kind in ("phrase", "day"):
            return entry
        if phrase.kind == "place":
            entry, _, location = entry.partition("|")
            if location:  # the locative is listed, so it must not be formed a second time
                entry = location if "loc" in features else entry
                features = tuple(name for name in features if name != "loc")
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
        """Return the verb or predicate.

        The forms `was` and `are` are the copula after an adjective; `FORM+cap` capitalises.
        """
        form, _, capital = form.partition("+")
        if form == "was":
            word = attach(lemma, "(y)DI")
        elif form == "are":
            word = attach(lemma, _PERSONS[agreement.person, agreement.plural])
        else:
            word = conjugate(lemma, form, agreement.person, plural=agreement.plural)
        return self.finish(word) if capital else word

    def finish(self, sentence: str) -> str:
        """Capitalise the first letter; the capital of i is İ."""
        return ("İ" if sentence[0] == "i" else sentence[0].upper()) + sentence[1:]
