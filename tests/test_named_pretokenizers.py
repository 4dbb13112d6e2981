"""Pre-tokenizers that llama.cpp has built in: what they do, and which base may get one."""

from __future__ import annotations

import json
import shutil
from itertools import product
from typing import get_args

import pytest
import regex
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import Regex, pre_tokenizers

from lingraft.cli import app
from lingraft.errors import RecipeError
from lingraft.pipeline.export_limits import why_no_gguf
from lingraft.pretokenizer.base_text_splits import CAUSES, find_split_difference
from lingraft.pretokenizer.change import PretokenizerChange
from lingraft.pretokenizer.named_pretokenizers import (
    BY_NAME,
    FROM_THE_RIGHT,
    MARK_AWARE_NAMES,
    NAMED_PRETOKENIZERS,
    ONE,
    RUNS,
    THREE,
    PretokenizerMode,
    use_named_pretokenizer,
)
from lingraft.tokenizer import family_of, open_tokenizer
from lingraft.tokenizer.convert import GPT2_REGEX, LLAMA3_REGEX, QWEN_REGEX
from lingraft.vocabulary import SELECTIONS
from lingraft.vocabulary.pretokenizer_choice import OptionScore, ScoredOption, choose_pretokenizer
from lingraft.vocabulary.pretokenizer_options import find_named_options, find_options
from lingraft.vocabulary.unchanged_text import BaseText
from tests.conftest import ENGLISH, HINDI
from tests.small_bases import byte_level

QWEN35 = BY_NAME["qwen35"].expressions[0]
DIGITS = {ONE: [1, 1, 1, 1], THREE: [3, 1], RUNS: [4], FROM_THE_RIGHT: [1, 3]}
AWKWARD = [
    "12345 1.5",
    "don't DON'T",
    "O'Reilly's",
    "'section\n'The",
    "iPhone PDFs",
    "a\n\n\nb\r\n\n",
    "x  y\t\tw ",
    ":\n    ok",
    "//\n/ (w) ",
    "(é “é” ’t",
    "⚡️ a ❤️ b",
    "1️⃣ é",
    "你好 あい 한국",
    "मेरा भाई।",
    "ที่นี่ مَاءُ",
    "a\u00a0b\u2003c",
]


def split(named, text):
    steps = [pre_tokenizers.Split(Regex(each), "isolated") for each in named.expressions]
    return [part for part, _ in pre_tokenizers.Sequence(steps).pre_tokenize_str(text)]


def base(pattern, **model):
    data = byte_level(pattern=pattern)
    data["model"] |= model
    return family_of(data, "made here")


def test_each_name_splits_text_as_the_table_says(tmp_path):
    """Real llama.cpp splits digits and marks as the table says, and text as the expressions do."""
    llama_cpp = pytest.importorskip("tests.llama_cpp_ids")
    pairs = ["".join(pair) for pair in product("aB1' \n.’⚡क\u093f", repeat=2)]
    texts = ["1234", "क\u093f", *pairs, *AWKWARD]
    vocabulary = llama_cpp.RevealingVocabulary(texts)
    names = {name for named in NAMED_PRETOKENIZERS for name in (named.name, *named.aliases)}
    files = {name: vocabulary.write(name, tmp_path / f"{name}.gguf") for name in sorted(names)}
    found = llama_cpp.llama_cpp_ids(files, texts, tmp_path)
    for named in NAMED_PRETOKENIZERS:
        parts = list(map(vocabulary.parts, found[named.name]))
        assert list(map(len, parts[0])) == DIGITS[named.digits], named.name
        assert (parts[1] == ["क\u093f"]) == named.marks, named.name
        if named.expressions:
            assert parts == [split(named, text) for text in texts], named.name
        for alias in named.aliases:
            assert found[alias] == found[named.name], alias


@settings(max_examples=300, deadline=None)
@given(text=st.text(st.characters(exclude_categories=("Cs", "M")), max_size=60))
def test_qwen35_splits_text_without_marks_as_qwen2(text):
    """Digits, contractions, line ends, spaces and all else without marks keep their splits."""
    assert split(BY_NAME["qwen35"], text) == split(BY_NAME["qwen2"], text)


@settings(max_examples=300, deadline=None)
@given(text=st.text("aT1're \n\t.(⚡क\u093f\ufe0f\u200d", max_size=30))
def test_a_fitting_name_moves_no_id_of_text_without_marks_after_letters(qwen, text):
    """With the base's merges, the ids are equal as long as no mark follows a letter or a mark."""
    assume(not regex.search(r"[\p{L}\p{M}]\p{M}|\p{M}\p{L}", text))
    before, after = qwen
    assert before.encode([text]) == after.encode([text])


@pytest.fixture(scope="module")
def qwen():
    family = base(QWEN_REGEX)
    (option,) = find_named_options(family, "made here").options
    return family, option.family


@pytest.mark.parametrize(
    ("pattern", "model", "words"),
    [
        (GPT2_REGEX, {}, "qwen35 is nearest and differs in digits, contractions, line ends, spac"),
        (LLAMA3_REGEX, {"ignore_merges": True}, "qwen35 is nearest and differs in digits: '12' is"),
        (QWEN_REGEX.replace("|'ll", ""), {}, 'differs in contractions: "\'llama" is split'),
        (QWEN_REGEX.replace(r"+[\r\n]*", "+"), {}, r"differs in line ends: '.\n' is split '.|"),
    ],
)
def test_a_name_that_would_move_base_text_is_refused_with_the_cause(pattern, model, words):
    """No name fits a base with other rules for text without marks; the nearest is explained."""
    family = base(pattern, **model)
    named = find_named_options(family, "made here")
    assert not named.options
    assert words in named.reason, named.reason
    with pytest.raises(RecipeError, match="named does not fit the base"):
        choose(family, "named")


def test_a_difference_beyond_the_listed_texts_is_found():
    """Strings over every kind of character find what no listed text shows."""
    odd = base(QWEN_REGEX.replace(r"\p{N}|", r"\p{N}|#~|"))
    data = use_named_pretokenizer(odd.data, BY_NAME["qwen35"])
    difference = find_split_difference(odd, family_of(data, "made here"))
    assert difference.causes == ("other text",)
    assert "#~" in difference.text
    assert not any("#" in text for texts in CAUSES.values() for text in texts)


def test_a_name_with_another_rule_for_whole_words_does_not_fit():
    """llama.cpp merges under qwen35, so a base that looks whole words up is not given it."""
    named = find_named_options(base(QWEN_REGEX, ignore_merges=True), "made here")
    assert named.misfits["qwen35"] == (
        "llama.cpp looks words up before merges for only one of the two"
    )


def choose(family, mode, base_texts=ENGLISH):
    return choose_pretokenizer(
        family,
        mode,
        texts=HINDI * 20,
        base=BaseText(base_texts),
        selection=SELECTIONS.parse("continued"),
        size=100,
        where="made here",
    )


def test_auto_prefers_a_name_and_says_what_it_compared():
    """The record names the choice, the reason, who loads it, and the numbers of each option."""
    change = choose(base(QWEN_REGEX), "auto").change
    assert change.rewrite == change.llama_cpp == "qwen35"
    assert change.after == (QWEN35,)
    assert [entry.name for entry in change.considered] == ["keep", "mark-aware", "qwen35"]
    assert [entry.llama_cpp for entry in change.considered] == ["qwen2", None, "qwen35"]
    assert [entry.recut for entry in change.considered] == [0, 0, 0]
    assert change.documents == len(ENGLISH)
    assert str(change.considered[0]) == "the base's own: qwen2 in llama.cpp"
    assert str(change.considered[1]).endswith(
        "changes the ids of 0 compared base-language documents, no name in llama.cpp"
    )
    line = str(change)
    assert "than mark-aware, which has no name" in line
    assert line.endswith("in llama.cpp as qwen35 (since #19468, February 2026)")
    assert PretokenizerChange.from_json(json.loads(json.dumps(change.as_json()))) == change


def test_auto_takes_no_name_that_needs_over_one_percent_more_tokens():
    """A name is preferred within 1% of the best option, and not beyond."""
    family = base(QWEN_REGEX)
    (option,) = find_named_options(family, "made here").options
    best = OptionScore(0.40, 0.0)
    assert ScoredOption(option, OptionScore(0.40 - 0.6 * 0.009, 0.0)).is_named_within(best)
    assert not ScoredOption(option, OptionScore(0.40 - 0.6 * 0.011, 0.0)).is_named_within(best)
    unnamed = find_options(family, "made here")[0]
    assert not ScoredOption(unnamed, best).is_named_within(best)


def test_a_document_that_a_change_moves_keeps_the_base():
    """If a base-language document gets other ids under every option, the base's regex stays."""
    data = byte_level([*ENGLISH, *HINDI[:2]], pattern=QWEN_REGEX)
    change = choose(family_of(data, "made here"), "auto", base_texts=[*ENGLISH, HINDI[1]]).change
    assert not change.changed
    assert change.why == f"a change would re-cut 1 of {len(ENGLISH) + 1} base-language documents"
    assert [entry.recut for entry in change.considered] == [0, 1, 1]


@pytest.mark.parametrize("mode", ["named", "qwen35"])
def test_a_name_can_be_asked_for(mode):
    """`named` takes the name that fits; a name is taken if it fits, else refused with the cause."""
    assert choose(base(QWEN_REGEX), mode).change.llama_cpp == "qwen35"
    with pytest.raises(RecipeError, match=r"deepseek-v3 does not fit the base \(digits, contr"):
        choose(base(QWEN_REGEX), "deepseek-v3")


def test_a_plan_says_what_gives_a_gguf_file(tmp_path):
    """The condition, the reason and the setting follow from the base and the mode."""
    odd = QWEN_REGEX.replace(r"\p{N}|", r"\p{N}{1,2}|")
    found = {}
    for name, pattern in (("qwen", QWEN_REGEX), ("gpt-2", GPT2_REGEX), ("odd", odd)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "tokenizer.json").write_text(json.dumps(byte_level(pattern=pattern)))
        for mode in ("auto", "keep", "repair"):
            found[name, mode] = why_no_gguf(folder, mode)
    assert found["qwen", "keep"] == found["gpt-2", "keep"] == ""
    assert "pretokenizer: named (qwen35) or keep (qwen2, with more" in found["qwen", "repair"]
    assert found["qwen", "auto"].startswith("if auto finds that qwen35 needs too many tokens: ")
    assert found["gpt-2", "auto"].startswith("if auto changes the pre-tokenizer: ")
    assert "set vocabulary.pretokenizer: keep (gpt-2, with" in found["gpt-2", "repair"]
    for mode in ("auto", "keep", "repair"):
        assert found["odd", mode].startswith("the pre-tokenizer has no name in llama.cpp (")
        assert "no other setting helps: use the model in transformers" in found["odd", mode]


def test_every_usable_name_is_a_value_of_the_setting():
    """`vocabulary.pretokenizer` takes the four rules and every name that a base may be given."""
    assert get_args(PretokenizerMode) == ("auto", "keep", "repair", "named", *MARK_AWARE_NAMES)


def test_qwen2_fits_qwen35_and_no_other(assets):
    """On the real Qwen2 tokenizer one name fits; each of the others has a stated difference."""
    tokenizer = open_tokenizer(assets / "tokenizers" / "qwen2")
    named = find_named_options(tokenizer.family, tokenizer.folder)
    assert [option.llama_cpp for option in named.options] == ["qwen35"]
    assert set(named.misfits) == set(MARK_AWARE_NAMES) - {"qwen35"}


def test_a_qwen_base_extended_by_command_runs_in_llama_cpp(
    tiny_model, hindi_file, english_file, tmp_path, capsys
):
    """`plan` names the options, `extend` takes qwen35, `export` writes it; llama.cpp agrees."""
    llama_cpp = pytest.importorskip("tests.llama_cpp_ids")
    model, made = tmp_path / "model", tmp_path / "made"
    shutil.copytree(tiny_model, model)
    data = json.loads((model / "tokenizer.json").read_text(encoding="utf-8"))
    data = use_named_pretokenizer(data, BY_NAME["qwen2"])
    (model / "tokenizer.json").write_text(json.dumps(data), encoding="utf-8")
    words = ["--model", str(model), "-l", "hi", "--text", str(hindi_file)]
    words += ["--base-text", f"en={english_file}", "-o", "vocabulary.size=120"]
    words += ["--store", str(tmp_path / "store")]
    app(["plan", *words], standalone_mode=False)
    planned = capsys.readouterr().out
    assert "the base's own (qwen2 in llama.cpp), mark-aware (not in llama.cpp)" in planned
    assert "and qwen35 (in llama.cpp); a changed one loads" in planned
    assert "no GGUF file later if auto finds that qwen35 needs too many tokens" in planned
    app(["plan", *words, "-o", "vocabulary.size=0"], standalone_mode=False)
    planned = capsys.readouterr().out
    assert "pre-tokenizer: stays the base's (nothing is added)" in planned
    assert "no GGUF file later" not in planned
    app(["extend", *words, "--output", str(made)], standalone_mode=False)
    assert "in llama.cpp as qwen35 (since #19468" in capsys.readouterr().out
    app(["export", str(made), "--gguf", str(tmp_path / "m.gguf")], standalone_mode=False)
    texts = [*ENGLISH, *HINDI, *AWKWARD]
    found = llama_cpp.llama_cpp_ids({"made": tmp_path / "m.gguf"}, texts, tmp_path)["made"]
    assert found == open_tokenizer(made).encode(texts)
    with pytest.raises(RecipeError, match="deepseek-v3 does not fit the base"):
        app(["plan", *words, "-o", "vocabulary.pretokenizer=deepseek-v3"], standalone_mode=False)
