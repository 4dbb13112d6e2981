"""The miniature: the same stories in five languages, each in correct grammar and spelling."""

import subprocess
import sys
import unicodedata
from itertools import chain, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lingraft.errors import CorpusError
from lingraft.miniature import (
    LANGUAGES,
    _renderer,
    arabic,
    english,
    hindi,
    sentences,
    stories,
    story,
    tamil,
    turkish,
)
from lingraft.miniature.phrases import Agreement, Phrase
from lingraft.miniature.stories import plan_story

SCRIPTS = {"en": "LATIN", "hi": "DEVANAGARI", "tr": "LATIN", "ar": "ARABIC", "ta": "TAMIL"}
SHE, THEY = Agreement(gender="f"), Agreement(plural=True)
SHE_WITH_RESPECT = Agreement(gender="f", plural=True, kind="kin")

each_language = pytest.mark.parametrize("language", LANGUAGES)


# The stories


@each_language
def test_one_seed_gives_twenty_thousand_distinct_sentences(language):
    """One seed gives more than 20,000 distinct sentences in each language."""
    distinct = set(chain.from_iterable(sentences(language, index, seed=3) for index in range(7000)))
    assert len(distinct) > 20_000


@each_language
def test_a_story_is_a_short_paragraph(language):
    """A story has five to twelve sentences, joined by single spaces on one line."""
    for index, text in enumerate(stories(language, count=200)):
        parts = sentences(language, index)
        assert 5 <= len(parts) <= 12
        assert text == " ".join(parts)
        assert "\n" not in text
        assert "  " not in text


@each_language
def test_stories_come_in_order_of_their_index(language):
    """`stories` yields story 0, 1, 2, ... of the seed."""
    assert list(stories(language, count=5, seed=9)) == [
        story(language, index, seed=9) for index in range(5)
    ]


@given(index=st.integers(0, 10**6), seed=st.integers(0, 100))
def test_the_languages_have_the_same_sentences(index, seed):
    """A story has as many sentences in each language, and each sentence names the same people."""
    versions = [sentences(language, index, seed=seed) for language in LANGUAGES]
    for event, *aligned in zip(plan_story(index, seed), *versions, strict=True):
        english_sentence, turkish_sentence = aligned[0], aligned[2]
        for person in (event.slots["x"], event.slots["y"]):
            if _renderer("en").grammar.noun(person, ()) in english_sentence:
                assert _renderer("tr").grammar.noun(person, ()) in turkish_sentence


def test_a_story_does_not_depend_on_the_process():
    """Another process, with another hash seed, gives the same stories."""
    program = (
        "from lingraft.miniature import LANGUAGES, stories\n"
        "print(ascii([list(stories(language, count=20, seed=5)) for language in LANGUAGES]))"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert printed == {ascii([list(stories(language, count=20, seed=5)) for language in LANGUAGES])}


def test_another_seed_gives_other_stories():
    """Two seeds have fewer than 5 of 100 stories in common."""
    assert len({*stories("en", count=100, seed=0)} & {*stories("en", count=100, seed=1)}) < 5


def test_what_is_lost_is_what_is_found():
    """In a story about a loss, the thing that is lost is found and given back to the hero."""
    plans = [{event.key: event.slots for event in plan_story(index, 0)} for index in range(300)]
    losses = [slots for slots in plans if "lost" in slots]
    assert losses
    for slots in losses:
        assert (
            slots["had"]["thing"]
            == slots["lost"]["thing"]
            == slots["found"]["thing"]
            == slots["gave_back"]["thing"]
        )
        assert len({slot["x"] for slot in slots.values()}) == 1


@each_language
def test_each_template_is_used(language):
    """Each planned event has a template, and each template is used."""
    templates = _renderer(language).templates
    used = set()
    for index in range(3000):
        for event in plan_story(index, 0):
            used.add((event.key, event.template % len(templates[event.key])))
    assert used == {(key, which) for key, known in templates.items() for which in range(len(known))}


@each_language
def test_text_is_in_normal_form(language):
    """All text is NFC."""
    assert all(unicodedata.is_normalized("NFC", text) for text in stories(language, count=300))


@each_language
def test_each_language_uses_its_script(language):
    """Each letter and vowel sign is of the language's script, and no table mark is in the text."""
    letters = {letter for text in stories(language, count=600) for letter in text}
    assert all(
        unicodedata.name(letter).startswith(SCRIPTS[language])
        for letter in letters
        if unicodedata.category(letter)[0] in "LM"
    )
    assert not letters & set("{}[]<>|~^/_0123456789")


def test_an_unknown_language_names_the_known_ones():
    """The message lists the five languages and explains how to use your own text."""
    with pytest.raises(CorpusError) as error:
        stories("hin", count=1)
    assert str(error.value) == (
        "language 'hin': the miniature has no text in it; did you mean 'hi'? known: ar, en, hi, "
        "ta, tr; for another language, replace `miniature` with your own text: a file, a folder, "
        "or owner/name of a hub data set"
    )


# English


@pytest.mark.parametrize(
    ("key", "feature", "form"),
    [
        ("umbrella", "a", "an old umbrella"),
        ("box", "a", "an old box"),
        ("ring", "my", "my old ring"),
        ("watch", "his:f", "her old watch"),
        ("watch", "the", "the old watch"),
    ],
)
def test_english_articles(key, feature, form):
    """An article or possessive is before the adjective; it is `an` before a vowel."""
    assert _renderer("en").grammar.noun(Phrase("thing", key, adjective="old"), (feature,)) == form


def test_english_forms():
    """Irregular pasts are listed, the rest is regular."""
    grammar = _renderer("en").grammar
    assert [
        grammar.verb(verb, "past", SHE) for verb in ("go", "buy", "break", "live", "play", "be")
    ] == ["went", "bought", "broke", "lived", "played", "was"]
    assert [english.with_s(word) for word in ("mango", "tomato", "box", "monkey")] == [
        "mangoes",
        "tomatoes",
        "boxes",
        "monkeys",
    ]


# Turkish


def test_turkish_plain_suffixes():
    """Hand-checked forms: harmony, buffers, softening, a dropped vowel, saat before a suffix."""
    checked = {
        ("park", "loc"): "parkta",
        ("bahçe", "dat"): "bahçeye",
        ("okul", "dat"): "okula",
        ("göl", "loc"): "gölde",
        ("kitap/kitab", "acc"): "kitabı",
        ("kitap/kitab", "loc"): "kitapta",
        ("ekmek/ekmeğ", "acc"): "ekmeği",
        ("nehir/nehr", "dat"): "nehre",
        ("nehir/nehr", "loc"): "nehirde",
        ("saat^", "acc"): "saati",
        ("saat^", "gen"): "saatin",
        ("dükkân", "abl"): "dükkândan",
        ("kutu", "acc"): "kutuyu",
        ("köpek/köpeğ", "dat"): "köpeğe",
        ("mutfak/mutfağ", "loc"): "mutfakta",
        ("otobüs", "ins"): "otobüsle",
        ("araba", "ins"): "arabayla",
    }
    assert {given: turkish.decline(given[0], (given[1],)) for given in checked} == checked


def test_turkish_possessives_and_names():
    """An n separates the third-person possessive from a case; names take an apostrophe."""
    assert turkish.decline("anne", ("poss3", "gen")) == "annesinin"
    assert turkish.decline("top", ("poss3", "acc")) == "topunu"
    assert turkish.decline("saat^", ("poss3", "acc")) == "saatini"
    assert turkish.decline("resim/resm", ("poss1", "acc")) == "resmimi"
    assert turkish.decline("baba", ("poss3", "ins")) == "babasıyla"
    names = [
        turkish.decline(name, ("gen",), mark="'")
        for name in ("Ali", "Ömer", "Sara", "Cemal^", "Hasan")
    ]
    assert names == ["Ali'nin", "Ömer'in", "Sara'nın", "Cemal'in", "Hasan'ın"]


@pytest.mark.parametrize(
    ("verb", "form", "person", "plural", "written"),
    [
        ("git/gid", "past", 3, False, "gitti"),
        ("kaybet/kaybed", "past", 1, False, "kaybettim"),
        ("oyna", "past", 3, True, "oynadılar"),
        ("ara", "fut", 1, True, "arayacağız"),
        ("öğret", "fut", 1, False, "öğreteceğim"),
        ("bul", "cannot", 3, False, "bulamadı"),
        ("et/ed", "neg", 3, False, "etmedi"),
        ("oku", "pres", 3, False, "okuyor"),
        ("oyna", "prespast", 3, False, "oynuyordu"),
        ("iste", "pres", 1, False, "istiyorum"),
        ("yüz", "doing", 3, False, "yüzmeyi"),
        ("dans et/dans ed", "pres", 3, False, "dans ediyor"),
        ("git/gid", "prespast", 3, False, "gidiyordu"),
    ],
)
def test_turkish_verbs(verb, form, person, plural, written):
    """Hand-checked forms of verbs."""
    assert turkish.conjugate(verb, form, person, plural=plural) == written


consonant, vowel = st.sampled_from("bcçdfgğhjklmnprsştvyz"), st.sampled_from("aeıioöuü")
turkish_words = st.lists(
    st.tuples(consonant, vowel, st.sampled_from(["", "k", "l", "m", "r", "s", "t"])),
    min_size=1,
    max_size=3,
).map(lambda syllables: "".join(chain.from_iterable(syllables)))


suffixes = st.sampled_from(["(y)I", "(y)A", "DA", "DAn", "(n)In", "(y)lA", "(I)m", "(s)I", "DI"])


@given(word=turkish_words, suffix=suffixes)
def test_turkish_suffixes_follow_the_last_vowel(word, suffix):
    """A suffix vowel is front after front, a close one round after round; vowels never meet."""
    written = turkish.attach(word, suffix)
    assert written.startswith(word)
    last = next(letter for letter in reversed(word) if letter in turkish.VOWELS)
    for letter in written[len(word) :]:
        if letter in turkish.VOWELS:
            assert (letter in "eiöü") == (last in "eiöü")
            assert letter in "ae" or (letter in "uü") == (last in "oöuü")
    assert not any(a in turkish.VOWELS and b in turkish.VOWELS for a, b in pairwise(written))
    if suffix.startswith("D"):
        assert (written[len(word)] == "t") == (word[-1] in "fstkçşhp")


@given(word=turkish_words)
def test_turkish_capitals_keep_the_dot(word):
    """The capital of i is İ, the capital of ı is I."""
    finish = _renderer("tr").grammar.finish
    assert finish("i" + word) == "İ" + word
    assert finish("ı" + word) == "I" + word


# Hindi


def test_hindi_nouns():
    """Hand-checked plurals and obliques, of each gender and ending."""
    assert [hindi.plural(noun, "f") for noun in ("बिल्ली", "चिड़िया", "बत्तख", "गाय")] == [
        "बिल्लियाँ",
        "चिड़ियाँ",
        "बत्तखें",
        "गायें",
    ]
    assert [hindi.plural(noun, "m") for noun in ("कुत्ता", "बंदर", "संतरा")] == ["कुत्ते", "बंदर", "संतरे"]
    phrase = Phrase("animal", "horse", adjective="black")
    assert _renderer("hi").grammar.noun(phrase, ("a", "obl")) == "एक काले घोड़े"


@pytest.mark.parametrize(
    ("lemma", "form", "agreement", "written"),
    [
        ("जाना", "perf", SHE, "गई"),
        ("जाना", "perf", SHE_WITH_RESPECT, "गईं"),
        ("देना", "perf", THEY, "दिए"),
        ("देखना", "perf", SHE_WITH_RESPECT, "देखीं"),
        ("खाना", "perf", Agreement(), "खाया"),
        ("खरीदना", "perf", SHE, "खरीदी"),
        ("होना", "perf", SHE_WITH_RESPECT, "हुईं"),
        ("खेलना", "progpast", SHE, "खेल रही थी"),
        ("रहना", "habpast", THEY, "रहते थे"),
        ("खाना पकाना", "hab", SHE, "खाना पकाती है"),
        ("चाहना", "hab", Agreement(1), "चाहता हूँ"),
        ("ढूँढना", "fut", Agreement(1, plural=True), "ढूँढेंगे"),
        ("सिखाना", "fut", Agreement(1), "सिखाऊँगा"),
        ("नया", "adj", SHE, "नई"),
        ("भूखा", "pred", THEY, "भूखे"),
        ("लाल", "adj", SHE, "लाल"),
        ("होना", "was", SHE_WITH_RESPECT, "थीं"),
    ],
)
def test_hindi_agreement(lemma, form, agreement, written):
    """Hand-checked participles, auxiliaries and adjectives."""
    assert _renderer("hi").grammar.verb(lemma, form, agreement) == written


def test_hindi_past_agrees_with_what_was_bought():
    """With ने, the verb agrees with the object and not with the subject."""
    watch = Phrase("thing", "watch", adjective="new")
    slots = {"x": Phrase("name", "Ali"), "y": Phrase("name", "Sara"), "thing": watch}
    assert _renderer("hi").render("bought_for", slots, 1) == "अली ने वहाँ सारा के लिए एक नई घड़ी खरीदी।"


# Arabic


@pytest.mark.parametrize(
    ("phrase", "features", "written"),
    [
        (Phrase("thing", "ball", adjective="red"), (), "كرة حمراء"),
        (Phrase("thing", "book", adjective="new"), ("acc",), "كتابًا جديدًا"),
        (Phrase("thing", "pen", adjective="blue"), ("acc",), "قلمًا أزرق"),
        (Phrase("thing", "ball", adjective="red"), ("the",), "الكرة الحمراء"),
        (Phrase("thing", "ball", adjective="red"), ("my",), "كرتي الحمراء"),
        (Phrase("thing", "mirror"), ("his:f",), "مرآتها"),
        (Phrase("thing", "key"), ("this",), "هذا المفتاح"),
        (Phrase("kin", "grandmother", owner="m"), ("his:m",), "جدته"),
        (Phrase("food", "tomato"), ("acc",), "طماطم"),
        (Phrase("animal", "cat", number=2), ("acc",), "قطتين"),
        (Phrase("animal", "dog", number=3), ("acc",), "ثلاثة كلاب"),
        (Phrase("animal", "cat", number=4), ("acc",), "أربع قطط"),
        (Phrase("name", "Ali"), ("acc",), "عليًا"),
        (Phrase("name", "Omar"), ("acc",), "عمر"),
        (Phrase("name", "Ali"), (), "علي"),
    ],
)
def test_arabic_nouns(phrase, features, written):
    """Hand-checked article, agreement, written case, suffix pronouns, dual and broken plurals."""
    assert _renderer("ar").grammar.noun(phrase, features) == written


@pytest.mark.parametrize(
    ("verb", "form", "agreement", "written"),
    [
        ("go", "past", SHE, "ذهبت"),
        ("buy", "past", SHE, "اشترت"),
        ("see", "past", SHE, "رأت"),
        ("lose", "past", Agreement(1), "أضعت"),
        ("play", "pres", SHE, "تلعب"),
        ("live", "pres", Agreement(), "يعيش"),
        ("want", "pres", Agreement(1), "أريد"),
        ("search", "fut", Agreement(1, plural=True), "سنبحث"),
        ("be", "juss", SHE, "تكن"),
        ("find", "juss", Agreement(), "يجد"),
    ],
)
def test_arabic_verbs(verb, form, agreement, written):
    """Hand-checked past, present, future and jussive, of sound and weak verbs."""
    assert (
        arabic.conjugate(_renderer("ar").grammar.lexicon.tables["verbs"][verb], form, agreement)
        == written
    )


# Tamil


def test_tamil_cases():
    """Hand-checked cases: glides, the oblique of -m, doubled -ṭu and -ṟu, short u lost or kept."""
    checked = {
        ("புத்தகம்", "acc"): "புத்தகத்தை~",
        ("வீடு", "dat"): "வீட்டுக்கு~",
        ("வீடு", "loc"): "வீட்டில்",
        ("காடு", "loc"): "காட்டில்",
        ("ஆறு", "dat"): "ஆற்றுக்கு~",
        ("பூனை", "acc"): "பூனையை~",
        ("பூனை", "dat"): "பூனைக்கு~",
        ("நாய்", "acc"): "நாயை~",
        ("நாய்", "dat"): "நாய்க்கு~",
        ("பசு/பசுவ்", "acc"): "பசுவை~",
        ("பசு/பசுவ்", "dat"): "பசுவுக்கு~",
        ("பந்து", "acc"): "பந்தை~",
        ("தட்டு", "acc"): "தட்டை~",
        ("புல்", "acc"): "புல்லை~",
        ("பால்", "acc"): "பாலை~",
        ("முயல்", "dat"): "முயலுக்கு~",
        ("சந்தை", "abl"): "சந்தையிலிருந்து",
        ("குன்று", "loc"): "குன்றில்",
        ("மாம்பழம்", "um"): "மாம்பழமும்",
        ("பேனா", "acc"): "பேனாவை~",
    }
    assert {given: tamil.decline(*given) for given in checked} == checked
    names = [tamil.decline("சாரா", case, name=True) for case in ("dat", "gen", "soc", "at")]
    assert names == ["சாராவுக்கு~", "சாராவின்", "சாராவுடன்", "சாராவிடம்"]


@pytest.mark.parametrize(
    ("stem", "agreement", "written"),
    [
        ("சென்ற்", Agreement(), "சென்றான்"),
        ("சென்ற்", SHE, "சென்றாள்"),
        ("வாங்கின்", SHE, "வாங்கினாள்"),
        ("வாங்கின்", Agreement(kind="animal"), "வாங்கியது"),
        ("இருந்த்", Agreement(kind="thing"), "இருந்தது"),
        ("சொன்ன்", Agreement(kind="kin"), "சொன்னார்"),
        ("தேடுவ்", Agreement(1, plural=True), "தேடுவோம்"),
        ("விரும்புகிற்", Agreement(1), "விரும்புகிறேன்"),
        ("இருக்கிற்", Agreement(2), "இருக்கிறாய்"),
        ("விளையாடின்", THEY, "விளையாடினார்கள்"),
        ("வாழ்கிற்", Agreement(kind="animal"), "வாழ்கிறது"),
    ],
)
def test_tamil_persons(stem, agreement, written):
    """Hand-checked endings of person, number, gender and respect."""
    assert tamil.conjugate(stem, agreement) == written


@pytest.mark.parametrize(
    ("marked", "written"),
    [
        ("பந்தை~ தொலைத்தாள்.", "பந்தைத் தொலைத்தாள்."),
        ("பூங்காவுக்கு~ சென்றான்.", "பூங்காவுக்குச் சென்றான்."),
        ("நாயை~ பார்த்தாள்.", "நாயைப் பார்த்தாள்."),
        ("பந்தை~ யார்", "பந்தை யார்"),
        ("ஒரு அழகான பை", "ஓர் அழகான பை"),
        ("ஒரு சிவப்பு~ குடை", "ஒரு சிவப்புக் குடை"),
    ],
)
def test_tamil_sandhi(marked, written):
    """k, c, t and p double after accusative, dative and colours; `a` is ōr before a vowel."""
    assert _renderer("ta").grammar.finish(marked) == written


def test_one_sentence_in_five_languages():
    """The same sentence, checked by hand in each language."""
    slots = {
        "x": Phrase("name", "Sara"),
        "y": Phrase("name", "Ali"),
        "k": Phrase("kin", "mother", owner="f"),
        "time": Phrase("day", "friday", adjective="morning"),
        "place": Phrase("place", "river"),
    }
    assert [_renderer(language).render("went_friend", slots, 0) for language in LANGUAGES] == [
        "On Friday morning, Sara went to the river with Ali.",
        "शुक्रवार की सुबह सारा अली के साथ नदी के किनारे गई।",
        "Cuma sabahı Sara, Ali ile birlikte nehre gitti.",
        "صباح يوم الجمعة ذهبت سارة مع علي إلى النهر.",
        "வெள்ளிக்கிழமை காலையில் சாரா அலியுடன் ஆற்றுக்குச் சென்றாள்.",
    ]
