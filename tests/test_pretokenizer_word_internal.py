"""The repair of regexes that split words at apostrophes, joiners and the like."""

from __future__ import annotations

import gzip
import json

import pytest
import regex
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from tokenizers import Regex, pre_tokenizers

from lingraft.pretokenizer.mark_aware import mark_aware_pattern
from lingraft.pretokenizer.scripts import SENTENCES, WORD_INTERNAL_SENTENCES
from lingraft.pretokenizer.word_internal import (
    RULES,
    letter_aware_pattern,
    make_letter_aware,
    mark_and_letter_aware_pattern,
)
from lingraft.tokenizer import family_of, open_tokenizer
from lingraft.tokenizer.convert import GPT2_REGEX, LLAMA3_REGEX, QWEN_REGEX
from lingraft.tokenizer.json_format import build_backend
from lingraft.vocabulary import ContinuedBPE
from lingraft.vocabulary.pretokenizer_choice import choose_pretokenizer
from lingraft.vocabulary.pretokenizer_options import find_options, keep_effective
from lingraft.vocabulary.unchanged_text import BaseText
from tests.small_bases import byte_level
from tests.test_pretokenizer import MARK_AWARE, PATTERNS, cut, text_of_all_kinds

WORDS = """
می‌خواهم خانه‌ها به‌رامبه‌ ছোট‌ই സോഫ്റ്റ്‌വെയർ п'ять сім’я об'єкт З’їзд з'еў
হ'ব ন’হয় କ'ଣ बर'नि ከም'ዚ 𞤲'𞤣𞤭 צה״ל ת"א ג'ירפה ז׳אק Ինչպե՞ս սա՛ կ՚երթամ կ'երգէ བཀྲ་ཤིས
o‘zbek g‘alaba O‘ZBEK maika‘i po‘e c'hoar C’HOAR col·legi IL·LUSIÓ
"""
INTERNAL = regex.compile("|".join(rule.expression for rule in RULES))
LETTER_AWARE = {
    **{name: (letter_aware_pattern(pattern), pattern) for name, pattern in PATTERNS.items()},
    "o200k": (letter_aware_pattern(MARK_AWARE["o200k"]), MARK_AWARE["o200k"]),
    "Qwen3.5": (letter_aware_pattern(MARK_AWARE["Qwen3.5"]), MARK_AWARE["Qwen3.5"]),
}
english_words = st.from_regex(r"[A-Za-z]{1,9}", fullmatch=True)
ENGLISH = """{}'s|{}’s|{}s'|'{}'|‘{}’|“‘{}’”|{}'ll|I'd've|don’t|o'clock|O’Brien|'{}|‘{}|👩‍💻|
rock 'n' {}|f('{}', "{}")|{}="{}"|print(f'{}')|5 mmol·l⁻¹ mol·L|a·{}|{}…|{}-{}|12'3"|'{}''{}'"""


@st.composite
def english(draw):
    """Contractions, possessives, quotations and code around random words."""
    pieces = []
    for shape in draw(st.lists(st.sampled_from(ENGLISH.split("|")), max_size=8)):
        words = [draw(english_words) for _ in range(shape.count("{}"))]
        pieces.append(shape.format(*words))
    return " ".join(pieces)


@pytest.mark.parametrize("name", LETTER_AWARE)
@settings(max_examples=40, deadline=None)
@given(text=text_of_all_kinds | st.text("aog'’‘я\u200cמ\"1· \n", max_size=30))
def test_text_without_such_a_character_is_split_as_before(name, text):
    """Where no rule applies, both regexes give the same parts, and so the same ids."""
    assume(not INTERNAL.search(text))
    changed, pattern = LETTER_AWARE[name]
    assert cut(pattern, text) == cut(changed, text)
    both = mark_and_letter_aware_pattern(pattern)
    if both:
        assert cut(mark_aware_pattern(pattern), text) == cut(both, text)


@settings(max_examples=50, deadline=None)
@example("'tis the dogs' 'home' isn't it? o'er y'all, ma’am g'day")
@given(text=english())
def test_english_is_split_as_before(text):
    """Contractions, possessives, quotation marks and code of English have no such context."""
    for changed, pattern in LETTER_AWARE.values():
        assert cut(pattern, text) == cut(changed, text)


def test_english_documents_keep_their_splits(assets):
    """Every held-out English document of the assets is split as before, by every regex."""
    with gzip.open(assets / "text" / "en.heldout.jsonl.gz", "rt", encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for line in file]
    assert len(texts) == 1_638
    for pattern in (GPT2_REGEX, QWEN_REGEX, LLAMA3_REGEX):
        before, after = [
            pre_tokenizers.Split(Regex(form), "isolated").pre_tokenize_str
            for form in (pattern, letter_aware_pattern(pattern))
        ]
        assert [text for text in texts if before(text) != after(text)] == []


@pytest.mark.parametrize("name", LETTER_AWARE)
def test_words_stay_whole(name):
    """An apostrophe, a joiner or a mark of punctuation of the rules continues the word."""
    changed, pattern = LETTER_AWARE[name]
    changed = mark_and_letter_aware_pattern(pattern) or changed
    for word in WORDS.split():
        # These two regexes also split words by letter case.
        if not (name in {"case classes", "o200k"} and word.isupper()):
            assert len(cut(changed, f"1{word}1")) == 3, word
        assert len(cut(pattern, word)) > 1, word


def test_what_other_text_needs_is_split():
    """ASCII apostrophes between Latin letters, elision, names and quotation marks stay."""
    text = "o'tgan ma’no don't mba'e l'home Жанна д'Арк „Dialog‘ 他说'你' 'слово' ז'"
    for changed, pattern in LETTER_AWARE.values():
        assert cut(pattern, text) == cut(changed, text)


def test_modifier_letters_need_no_repair():
    """Unicode's own letters for these sounds, such as U+02BB, are letters to every regex."""
    for pattern in PATTERNS.values():
        for word in ("oʻzbek", "maʼno", "ʻōlelo", "ـسلام", "ꞌba"):
            assert cut(pattern, word) == [word]


def test_nothing_is_lost():
    """The parts spell the text, also where the characters stand in no word."""
    text = "‌‌ ’' сім''я \u200c\u200dа’ o‘ ‘o '\"' ת\"\"א ་ ་་ "
    for changed, _ in LETTER_AWARE.values():
        assert "".join(cut(changed, text)) == text


def test_every_sample_sentence_is_repaired():
    """The sample sentences hold words that every letters-only regex splits."""
    for text in WORD_INTERNAL_SENTENCES.values():
        for pattern in (GPT2_REGEX, QWEN_REGEX, LLAMA3_REGEX):
            assert len(cut(letter_aware_pattern(pattern), text)) < len(cut(pattern, text))


def test_an_expression_that_keeps_words_needs_no_repair():
    """A set that holds apostrophes, or letters that no rule names, stays as it is."""
    assert letter_aware_pattern(MARK_AWARE["BLOOM"]) is None
    assert letter_aware_pattern(r"[\u4e00-\u9fff]+|[^\u4e00-\u9fff]") is None
    assert mark_and_letter_aware_pattern(MARK_AWARE["Qwen3.5"]) is None
    assert letter_aware_pattern(letter_aware_pattern(QWEN_REGEX)) is None
    assert make_letter_aware(byte_level(pattern=r"[^\s]+|\s")) is None


def test_marks_and_letters_are_repaired_together():
    """A word of Odia with vowel signs and an apostrophe stays whole only in the combined form."""
    text = "ବୁଝି'ଛି"
    assert len(cut(mark_aware_pattern(QWEN_REGEX), text)) == 2
    assert len(cut(letter_aware_pattern(QWEN_REGEX), text)) > 1
    assert cut(mark_and_letter_aware_pattern(QWEN_REGEX), text) == [text]


def test_real_tokenizers_are_repaired(assets):
    """Pythia, which splits inside its ByteLevel step, keeps Persian words after the repair."""
    data = open_tokenizer(assets / "tokenizers" / "pythia").family.data
    changed = build_backend(make_letter_aware(data)).pre_tokenizer
    word = WORD_INTERNAL_SENTENCES["Persian"].split()[0]
    assert len(changed.pre_tokenize_str(word)) == 1
    assert len(build_backend(data).pre_tokenizer.pre_tokenize_str(word)) == 3


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (WORD_INTERNAL_SENTENCES["Persian"], ["letter-aware"]),
        (SENTENCES["Devanagari (Hindi)"], ["mark-aware"]),
        (WORD_INTERNAL_SENTENCES["Odia"], ["mark-aware", "mark- and letter-aware"]),
        ("The dog's o'clock isn't ours.", []),
    ],
    ids=["Persian", "Hindi", "Odia", "English"],
)
def test_only_the_forms_that_a_text_needs_are_considered(tmp_path, text, names):
    """`auto` and `diagnose` weigh the forms that split the target's text into fewer parts.

    `repair` uses the one with the fewest parts.
    """
    family = family_of(byte_level(pattern=QWEN_REGEX), tmp_path)
    effective = keep_effective(family, find_options(family, tmp_path), [text])
    assert [option.rewrite.name for option in effective] == names
    request = {"base": BaseText(), "selection": ContinuedBPE(), "size": 10, "where": tmp_path}
    change = choose_pretokenizer(family, "repair", texts=[text], **request).change
    assert change.rewrite == (names or ["mark-aware"])[-1]
