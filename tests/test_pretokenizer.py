"""The repair of letters-only regexes."""

from __future__ import annotations

import unicodedata

import pytest
import regex
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import Regex, pre_tokenizers

from lingraft.pretokenizer import SENTENCES, make_mark_aware, mark_aware_pattern, split_patterns
from lingraft.pretokenizer.regex_syntax import CharacterClass, UnknownSyntaxError, members, parse
from lingraft.tokenizer import family_of, open_tokenizer
from lingraft.tokenizer.convert import GPT2_REGEX, LLAMA3_REGEX, QWEN_REGEX
from lingraft.tokenizer.json_format import build_backend
from tests.small_bases import byte_level

CASES = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}]*[\p{Ll}\p{Lm}\p{Lo}]+(?i:'s|'t)?"
END = r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
PATTERNS = {
    "GPT-2": GPT2_REGEX,
    "Llama-3": LLAMA3_REGEX,
    "Qwen": QWEN_REGEX,
    "a class": GPT2_REGEX.replace(r"\p{L}+", r"[\p{L}]+"),
    "marks apart": LLAMA3_REGEX.replace(r"\p{L}+|", r"\p{L}+|\p{M}+|"),
    "case classes": CASES + END,
    "DeepSeek-LLM": r"[\r\n]|\s?\p{L}+|\s?\p{P}+|\p{N}",
    "possessive": GPT2_REGEX.replace(r"\p{L}+", r"\p{L}++"),
}
MARK_AWARE = {
    "o200k": CASES.replace(r"\p{Lo}]", r"\p{Lo}\p{M}]") + END,
    "DeepSeek-V3": (
        r"[!-/:-~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
    "BLOOM": r" ?[^(\s|[.,!?…。，、।۔،])]+",
    "Qwen3.5": LLAMA3_REGEX.replace(r"\p{L}+", r"[\p{L}\p{M}]+"),
    "word characters": r"\w+|[^\w\s]+|\s+",
    "a letter with its marks": r"(?:\p{L}\p{M}*)+|[^\p{L}]",
}
text_of_all_kinds = st.text(st.characters(exclude_categories=("Cs",)), max_size=60)


def cut(pattern, text):
    return [
        part for part, _ in pre_tokenizers.Split(Regex(pattern), "isolated").pre_tokenize_str(text)
    ]


@pytest.mark.parametrize("name", PATTERNS)
@settings(max_examples=100, deadline=None)
@given(text=text_of_all_kinds | st.text("a क\u093f\u094d\u200d!\ufe0f⚡1\n", max_size=30))
def test_text_without_a_mark_after_a_letter_is_cut_as_before(name, text):
    """Without a mark after a letter, both regexes give the same parts, and so the same ids."""
    assume(not regex.search(r"\p{L}\p{M}", text))
    assert cut(PATTERNS[name], text) == cut(mark_aware_pattern(PATTERNS[name]), text)


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("word", ["हिन्दी", "கல்விக்கு", "ক্ষমতা", "ശാസ്ത്രം", "ක්‍රියාව", "क्‍ष", "é"])
def test_words_with_marks_stay_whole(name, word):
    """A vowel sign, a virama, or a joiner after one continues the word."""
    decomposed = unicodedata.normalize("NFD", word)
    assert cut(mark_aware_pattern(PATTERNS[name]), f"x {decomposed} y") == [
        "x",
        f" {decomposed}",
        " y",
    ]
    assert len(cut(PATTERNS[name], decomposed)) > 1


@pytest.mark.parametrize("text", ["⚡️ fast", "a ❤️ b", "1️⃣ one", "!\u0301", "\u0301x"])
def test_marks_that_follow_no_letter_change_nothing(text):
    """Emoji with variation selectors and keycaps are cut as before, in every regex."""
    for pattern in PATTERNS.values():
        assert cut(pattern, text) == cut(mark_aware_pattern(pattern), text)


def test_nothing_is_lost_in_the_cut():
    """Every regex, repaired or not, only cuts: the parts spell the text."""
    text = "नमस्ते दुनिया! \u0301x  12 'll\n\n\u200d क"
    for pattern in PATTERNS.values():
        assert "".join(cut(mark_aware_pattern(pattern), text)) == text


def test_a_mark_aware_regex_needs_no_repair():
    """A regex that knows marks stays, and so does a tokenizer without a regex."""
    for pattern in MARK_AWARE.values():
        assert mark_aware_pattern(pattern) is None
    assert make_mark_aware(byte_level(pattern=r"[\p{L}\p{M}]+|[^\p{L}\p{M}]+")) is None


@pytest.mark.parametrize(
    "before",
    [
        [{"type": "Digits", "individual_digits": True}],
        [{"type": "Punctuation", "behavior": "Contiguous"}],
    ],
)
def test_steps_around_the_regex_stay_in_their_order(before):
    """Steps before and after the regex, of digits, punctuation or mapped bytes, stay in order."""
    step = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    after = [
        {
            "type": "Split",
            "pattern": {"Regex": "[0-9][0-9][0-9]"},
            "behavior": "Isolated",
            "invert": False,
        }
    ]
    data = {
        **byte_level(),
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*before, step, *after]},
    }
    parts = make_mark_aware(data)["pre_tokenizer"]["pretokenizers"]
    assert parts[: len(before)] == before
    assert parts[len(before)]["pattern"]["Regex"] == mark_aware_pattern(GPT2_REGEX)
    assert parts[len(before) + 1 :] == [{**step, "use_regex": False}, *after]


@pytest.mark.parametrize("pattern", [r"[A-Za-z]+|[^A-Za-z]", r"[\u4e00-\u9fff]+|[^\u4e00-\u9fff]"])
def test_runs_of_letters_that_take_no_vowel_signs_are_left_alone(pattern):
    """A run of ASCII letters, or of Han, is no word of a script with marks."""
    assert mark_aware_pattern(pattern) is None


def test_marks_continue_letters_only_in_a_run_of_letters_and_digits():
    """In a set with digits, a keycap after a digit is split as before, a vowel sign is not."""
    pattern = r"[\p{L}\p{N}]+|[^\p{L}\p{N}]+"
    assert cut(mark_aware_pattern(pattern), "\u0915\u093f1\ufe0f\u20e3") == [
        "\u0915\u093f1",
        "\ufe0f\u20e3",
    ]
    assert cut(pattern, "\u0915\u093f") == ["\u0915", "\u093f"]


def test_an_expression_that_cannot_be_read_is_not_repaired():
    """A back reference is beyond what is reasoned about: such a pre-tokenizer is kept."""
    assert mark_aware_pattern(r"(\p{L})\1|\p{L}+|.") is None
    with pytest.raises(UnknownSyntaxError, match="character 7"):
        parse(r"(\p{L})\1")


@pytest.mark.parametrize(
    "text",
    [r"\p{L}", r"\s", r"[^\s\p{L}\p{N}]", r"[^(\s|[.,!?…。，、।۔،])]", r"\w", "(?i:k)", r"\d"],
)
def test_sets_hold_what_the_library_matches(text):
    """Python's and the tokenizer's engine agree on the members of sets, for all of Unicode 14."""
    ranges = [
        *range(0x3100),
        *range(0xA640, 0xA9E0),
        *range(0xFB00, 0xFFFE),
        0x1F600,
        0x1D400,
        0xE0100,
    ]
    points = [point for point in ranges if unicodedata.category(chr(point)) != "Cn"]
    characters = "".join(map(chr, points))
    inner = (
        CharacterClass(text[4:-1], ignore_case=True)
        if text.startswith("(?i:")
        else CharacterClass(text)
    )
    split = pre_tokenizers.Split(Regex(f"(?:{text})+"), "removed")
    outside = {character for part, _ in split.pre_tokenize_str(characters) for character in part}
    held = members(inner)
    assert [chr(i) for i in points if held[i] == (chr(i) in outside)] == []


def test_every_sentence_holds_marks_after_letters():
    """The sample sentences are of scripts that a letters-only expression cuts."""
    for script, text in SENTENCES.items():
        assert regex.search(r"\p{L}\p{M}", text), script
        assert len(cut(LLAMA3_REGEX, text)) > len(cut(mark_aware_pattern(LLAMA3_REGEX), text)), (
            script
        )


def test_the_regex_inside_byte_level_is_repaired_too(assets):
    """Pythia cuts inside its ByteLevel step, with GPT-2's regex: the repair spells it out."""
    data = open_tokenizer(assets / "tokenizers" / "pythia").family.data
    assert split_patterns(data) == [GPT2_REGEX]
    fixed = make_mark_aware(data)
    assert split_patterns(fixed) == [mark_aware_pattern(GPT2_REGEX)]
    text = "plain English text, isn't it?  12345\n\nYes."
    before, after = build_backend(data), build_backend(fixed)
    assert before.encode(text).ids == after.encode(text).ids
    assert family_of(fixed, "made here").size == family_of(data, "made here").size


@pytest.mark.parametrize("name", ["llama2", "nemo"])
def test_real_tokenizers_that_need_no_repair_are_left_alone(assets, name):
    """SentencePiece has no regex; Mistral-Nemo's knows marks."""
    assert make_mark_aware(open_tokenizer(assets / "tokenizers" / name).family.data) is None
