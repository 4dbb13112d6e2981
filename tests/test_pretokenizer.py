"""The repair of letters-only regexes."""

from __future__ import annotations

import unicodedata

import pytest
import regex
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import Regex, pre_tokenizers

from lingraft.families import family_of, open_tokenizer
from lingraft.families.content import backend_of
from lingraft.families.convert import GPT2_REGEX, LLAMA3_REGEX, QWEN_REGEX
from lingraft.pretokenizer import patterns, repaired, repaired_pattern
from tests.small_bases import byte_level

PATTERNS = {"GPT-2": GPT2_REGEX, "Llama-3": LLAMA3_REGEX, "Qwen": QWEN_REGEX}
text_of_all_kinds = st.text(st.characters(exclude_categories=("Cs",)), max_size=60)


def cut(pattern, text):
    return [part for part, _ in pre_tokenizers.Split(Regex(pattern), "isolated").pre_tokenize_str(text)]


@pytest.mark.parametrize("name", PATTERNS)
@settings(max_examples=300, deadline=None)
@given(text=text_of_all_kinds | st.text("a क\u093f\u094d\u200d!\ufe0f⚡1\n", max_size=30))
def test_text_without_a_mark_after_a_letter_is_cut_as_before(name, text):
    """Both regexes differ only where a mark follows a letter: any other text gives the same parts, so the same ids."""
    assume(not regex.search(r"\p{L}\p{M}", text))
    assert cut(PATTERNS[name], text) == cut(repaired_pattern(PATTERNS[name]), text)


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("word", ["हिन्दी", "கல்விக்கு", "ক্ষমতা", "ശാസ്ത്രം", "ක්‍රියාව", "क्‍ष", "é"])
def test_words_with_marks_stay_whole(name, word):
    """A vowel sign, a virama, or a joiner after one continues the word."""
    decomposed = unicodedata.normalize("NFD", word)
    assert cut(repaired_pattern(PATTERNS[name]), f"x {decomposed} y") == ["x", f" {decomposed}", " y"]
    assert len(cut(PATTERNS[name], decomposed)) > 1


@pytest.mark.parametrize("text", ["⚡️ fast", "a ❤️ b", "1️⃣ one", "!\u0301", "\u0301x"])
def test_marks_that_follow_no_letter_change_nothing(text):
    """Emoji with variation selectors and keycaps are cut as before, in every regex."""
    for pattern in PATTERNS.values():
        assert cut(pattern, text) == cut(repaired_pattern(pattern), text)


def test_nothing_is_lost_in_the_cut():
    """Every regex, repaired or not, only cuts: the parts spell the text."""
    text = "नमस्ते दुनिया! \u0301x  12 'll\n\n\u200d क"
    for pattern in PATTERNS.values():
        assert "".join(cut(repaired_pattern(pattern), text)) == text


def test_a_mark_aware_regex_needs_no_repair():
    """Where marks are known there is nothing to do, and a tokenizer without a regex has nothing to repair."""
    assert repaired_pattern(r"[\p{L}\p{M}]+|\s+") is None
    assert repaired(byte_level(pattern=r"[\p{L}\p{M}]+|[^\p{L}\p{M}]+")) is None


def test_the_regex_inside_byte_level_is_repaired_too(assets):
    """Pythia cuts inside its ByteLevel step, with GPT-2's regex: the repair spells it out."""
    data = open_tokenizer(assets / "tokenizers" / "pythia").family.data
    assert patterns(data) == [GPT2_REGEX]
    fixed = repaired(data)
    assert patterns(fixed) == [repaired_pattern(GPT2_REGEX)]
    text = "plain English text, isn't it?  12345\n\nYes."
    before, after = backend_of(data), backend_of(fixed)
    assert before.encode(text).ids == after.encode(text).ids
    assert family_of(fixed, "made here").size == family_of(data, "made here").size


@pytest.mark.parametrize("name", ["llama2", "nemo"])
def test_real_tokenizers_that_need_no_repair_are_left_alone(assets, name):
    """SentencePiece has no regex; Mistral-Nemo's knows marks."""
    assert repaired(open_tokenizer(assets / "tokenizers" / name).family.data) is None
