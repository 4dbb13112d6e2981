"""Equal premiums: each token goes to the language that needs most tokens for the same content."""

from __future__ import annotations

import json
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lingraft
from lingraft.corpus import Corpus, CorpusSettings, build_corpus
from lingraft.errors import CorpusError, RecipeError
from lingraft.library.example_model import example_model
from lingraft.miniature import stories
from lingraft.recipe.overrides import override
from lingraft.recipe.problems import parse_settings
from lingraft.recipe.schema import VocabularySettings
from lingraft.recipe.tree import Tree
from lingraft.store import Draft
from lingraft.tokenizer import family_of
from lingraft.tokenizer.json_format import build_model_only
from lingraft.tokenizer.premiums import gini
from lingraft.vocabulary import AutoSize, ContinuedBPE, SelectionRequest, balanced_bpe
from lingraft.vocabulary.auto_size import ServingCost, remaining_tokens
from lingraft.vocabulary.balanced_bpe import BalancedLearner, cut_languages
from lingraft.vocabulary.base import LanguageText
from lingraft.vocabulary.bpe_learner import BPELearner
from lingraft.vocabulary.premium_balance import PremiumBalance
from lingraft.vocabulary.text_lengths import relative_lengths
from lingraft.vocabulary.word_counts import cut_by_base
from tests.small_bases import BASES
from tests.test_vocabulary_unigram import trained

FAMILIES = {name: family_of(make(), Path("base")) for name, make in BASES.items()}
WORDS = st.lists(st.text("abt eho", min_size=1, max_size=9), min_size=1, max_size=12)
QUICK = settings(
    max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def balance(family, texts, size, **given):
    """Return the tokens for languages whose text and measured text are the same."""
    languages = tuple(
        LanguageText(str(number), family.units(text), family.units(text), 1.0)
        for number, text in enumerate(texts)
    )
    request = SelectionRequest(family, Counter(), size, balanced=languages, **given)
    return ContinuedBPE().select(request).surfaces


def count_tokens(family, surfaces, units):
    model = build_model_only(family.with_tokens(surfaces))
    return sum(
        len(model.encode(unit, add_special_tokens=False).ids) * count
        for unit, count in units.items()
    )


@pytest.mark.parametrize("name", FAMILIES)
@QUICK
@given(words=WORDS, languages=st.integers(2, 4))
def test_equal_languages_get_the_tokens_of_continued_bpe(name, words, languages):
    """Languages with the same text get the tokens that continued BPE learns from one of them."""
    family = FAMILIES[name]
    plain = ContinuedBPE().select(SelectionRequest(family, family.units(words), 8))
    assert balance(family, [words] * languages, 8) == plain.surfaces


@pytest.mark.parametrize("name", FAMILIES)
@QUICK
@given(first=WORDS, second=WORDS, times=st.integers(2, 50))
def test_the_amount_of_text_of_a_language_does_not_matter(name, first, second, times):
    """Text that is repeated gets no more tokens, and counts no more for how many there should be.

    With parallel sentences, the amount of the training text is that of no measured text.
    """
    family = FAMILIES[name]
    for is_parallel in (False, True):
        selected = []
        for copies in (1, times):
            units, texts = family.units(second), []
            for part, more in ((family.units(first), 1), (units, copies)):
                counts = Counter({unit: count * more for unit, count in part.items()})
                measured, content = (part, 1.0) if is_parallel else (counts, float(more))
                texts.append(LanguageText("", counts, measured, content))
            request = SelectionRequest(family, Counter(), 8, balanced=tuple(texts))
            selected.append(ContinuedBPE(step_cost=0).select(request))
        once, repeated = selected
        assert once.surfaces == repeated.surfaces
        remaining = []
        for found in selected:
            tokens = remaining_tokens(found, range(9))
            remaining.append([count / tokens[0] for count in tokens])
        assert remaining[0] == pytest.approx(remaining[1], abs=0.01)


def test_auto_adds_as_many_tokens_to_300_times_the_text_of_a_language():
    """A language that few tokens shorten much does not decide the size by its amount of text."""
    family = FAMILIES["byte-level BPE"]
    easy, hard = family.units(["taboo " * 4]), family.units(["a boat at the bottom to be heated"])
    rule, cost = AutoSize(rule="serving"), ServingCost(body=60, head_per_row=1, rows=1)
    sizes = []
    for copies in (1, 300):
        many = Counter({unit: count * copies for unit, count in easy.items()})
        texts = (LanguageText("", many, many, copies * 1.0), LanguageText("", hard, hard, 1.0))
        request = SelectionRequest(family, Counter(), 16, balanced=texts)
        sizes.append(rule.choose(ContinuedBPE(step_cost=0).select(request), cost))
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize("name", FAMILIES)
@QUICK
@given(texts=st.lists(st.tuples(WORDS, WORDS), min_size=2, max_size=3))
def test_each_token_is_for_the_highest_premium_and_lengthens_no_language(name, texts):
    """Premiums are those of the extended tokenizer, and the highest one decides each step."""
    family = FAMILIES[name]
    languages = tuple(
        LanguageText(str(number), family.units(text), family.units(measured), 1.0 + number)
        for number, (text, measured) in enumerate(texts)
    )
    request = SelectionRequest(family, Counter(), 9, balanced=languages)
    start = partial(BPELearner, allowed=family.allows, cut_alone=cut_by_base(family))
    learner = BalancedLearner(languages, cut_languages(request), start)
    chosen = [0] * len(texts)
    for _ in learner.run(9):
        surfaces, before = learner.learned.surfaces, []
        for language in learner.languages:
            now = count_tokens(family, surfaces, language.text.measured)
            earlier = count_tokens(family, surfaces[:-1], language.text.measured)
            assert now == language.learner.measured_tokens <= earlier
            before.append(earlier / language.text.content)
        counts = [language.chosen for language in learner.languages]
        (last,) = (number for number, count in enumerate(counts) if count != chosen[number])
        chosen = counts
        for language, premium in zip(learner.languages, before, strict=True):
            assert premium <= before[last] or language.finished or language.merged_last


def test_a_language_that_can_gain_nothing_rests_and_leaves_its_tokens_to_others(monkeypatch):
    """A language whose tokens do not shorten its measured text does not take the whole budget."""
    monkeypatch.setattr(balanced_bpe, "WINDOW", 3)
    family = FAMILIES["byte-level BPE"]
    text, measured = family.units(["taboo oboe hobo"]), family.units(["x" * 9])
    stuck = LanguageText("stuck", text, measured, 1e-9)
    free_text = family.units(["a boat at the bottom to be heated"])
    free = LanguageText("free", free_text, free_text, 1.0)
    request = SelectionRequest(family, Counter(), 8, balanced=(stuck, free))
    notes = ContinuedBPE().select(request).notes
    assert (
        notes["tokens chosen for stuck"] == notes["tokens after which stuck could gain little"] == 3
    )
    assert notes["tokens chosen for free"] == 5


def test_protected_words_of_another_language_are_cut_as_before():
    """Protected units keep their tokens, whichever language would gain from a change."""
    family = FAMILIES["byte-level BPE"]
    texts = [["that bath that bath"], ["the boat the boat"]]
    free = balance(family, texts, 6)
    protected = frozenset(family.units(["that"]))
    kept = balance(family, texts, 6, protected=protected)
    units = Counter(protected)
    assert count_tokens(family, kept, units) == count_tokens(family, (), units)
    assert count_tokens(family, free, units) < count_tokens(family, (), units)


@given(st.lists(st.floats(0.1, 100), min_size=1, max_size=8), st.floats(0.1, 10), st.randoms())
def test_the_gini_coefficient_has_no_unit_and_no_order(costs, unit, chance):
    """It is the same for costs in another unit and order, and 0 only for equal costs."""
    value = gini(costs)
    assert gini([cost * unit for cost in costs]) == pytest.approx(value)
    assert (value < 1e-12) == (max(costs) - min(costs) < 1e-9 * max(costs))
    chance.shuffle(costs)
    assert gini(costs) == pytest.approx(value)
    assert value <= 1 - 1 / len(costs)


def test_text_lengths_are_those_of_the_script_of_the_text():
    """A tag finds the entry of its script; a language without one is named."""
    assert relative_lengths(["sr"]) == relative_lengths(["sr-Cyrl"]) > relative_lengths(["sr-Latn"])
    assert relative_lengths(["zh-Hant-HK"]) == relative_lengths(["zh-Hant"])
    with pytest.raises(RecipeError, match=r"no pa-Arab, domain:law; name parallel sentences"):
        relative_lengths(["hi", "pa-Arab", "domain:law"])


SENTENCES = {tag: list(stories(tag, count=20)) for tag in ("en", "hi", "tr")}


@pytest.fixture(scope="module")
def languages():
    """Texts of two languages, much more of the first."""
    return {"tr": list(stories("tr", count=120)), "hi": list(stories("hi", count=40))}


def test_premiums_are_balanced_measured_and_written(languages, tmp_path):
    """Premiums become equal; certificate, notes and premiums.json show them before and after."""
    _, tokenizer = example_model("en")
    extended = lingraft.extend_tokenizer(
        tokenizer, languages, size=60, balance="premium", parallel=SENTENCES
    )
    (claim,) = (c for c in extended.certificate.claims if c.name == "no target language longer")
    assert (claim.value, claim.of, extended.certificate.holds) == (0, 2, True)
    extended.save(tmp_path)
    record = json.loads((tmp_path / "lingraft" / "premiums.json").read_text())
    for when, used in (("before", tokenizer), ("after", extended.tokenizer)):
        tokens = {tag: sum(map(len, used(text)["input_ids"])) for tag, text in SENTENCES.items()}
        if when == "before":
            english = tokens["en"]
        premiums = [value[when] for value in record["languages"]]
        assert premiums == [tokens[tag] / english for tag in ("tr", "hi")]
        assert record["gini"][when] == pytest.approx(gini(premiums))
        with_english = [*premiums, tokens["en"] / english]
        assert record["gini_with_reference"][when] == pytest.approx(gini(with_english))
    assert record["gini"]["after"] < 0.01 < record["gini"]["before"]
    assert extended.notes["Gini of premiums (tr, hi)"].endswith("after")


@pytest.mark.parametrize("is_file", [True, False])
def test_parallel_sentences_are_cleaned_as_the_texts_are(languages, tmp_path, is_file):
    """`text_settings` apply to the sentences of each language, in a file and as an argument."""
    rows = [dict(zip(SENTENCES, row, strict=True)) for row in zip(*SENTENCES.values(), strict=True)]
    _, tokenizer = example_model("en")
    premiums = []
    for mark in ("", "\u00ad"):
        given = {tag: [mark.join(text) for text in SENTENCES[tag]] for tag in ("tr", "hi")}
        given["en"] = SENTENCES["en"]
        options = {"balance": "premium"}
        if is_file:
            path = tmp_path / "parallel.jsonl"
            rows = [dict(zip(given, row, strict=True)) for row in zip(*given.values(), strict=True)]
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
            options["parallel_file"] = str(path)
        extended = lingraft.extend_tokenizer(
            tokenizer,
            languages,
            settings={"size": 10, **options},
            parallel=None if is_file else given,
            text_settings={"cleaning": {"strip": ["soft_hyphens"]}},
        )
        premiums.append(extended.notes["premium of hi"])
    assert premiums[0] == premiums[1]


def test_sentences_that_are_not_translated_are_a_warning(tmp_path):
    """English in the column of Hindi has the premium of English, so Hindi would get no tokens.

    Not so where the text of the language declares the script.
    """
    balance = PremiumBalance({"en": SENTENCES["en"], "hi": SENTENCES["en"]})
    [warning] = balance.warnings([])
    assert warning.startswith("parallel sentences in hi: letters of another script")
    path = tmp_path / "hi.txt"
    path.write_text("\n".join(SENTENCES["en"] + SENTENCES["hi"]))
    draft = Draft(tmp_path)
    settings = CorpusSettings.model_validate({"sources": str(path), "scripts": ["Deva", "Latn"]})
    build_corpus(settings, "hi", draft)
    assert balance.warnings([Corpus.open(tmp_path)]) == []


def test_one_language_gets_what_it_gets_without_balance(languages):
    """With one target language nothing is balanced: the tokens are the same."""
    _, tokenizer = example_model("en")
    learn = partial(lingraft.learn_tokens, tokenizer, {"hi": languages["hi"]}, size=60)
    assert learn(balance="premium").tokens == learn().tokens


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"parallel": SENTENCES}, RecipeError, "parallel: is read by balance='premium' only"),
        (
            {"balance": "premium", "parallel": {"en": ["a"], "tr": ["b"]}},
            CorpusError,
            "parallel: no sentences in hi",
        ),
        (
            {"balance": "premium", "parallel": {"en": ["a"], "tr": ["b"], "hi": [None]}},
            CorpusError,
            "parallel: no sentence has text in all of en, tr, hi",
        ),
    ],
)
def test_sentences_that_cannot_be_used_are_refused(languages, given, error, message):
    """Parallel sentences without `balance`, or without text in every language, are an error."""
    _, tokenizer = example_model("en")
    with pytest.raises(error, match=message):
        lingraft.learn_tokens(tokenizer, languages, size=10, **given)


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (["method=append", "balance=premium"], r"balance: premium needs a method .*not append"),
        (["parallel_file=a.jsonl"], "parallel_file is read by balance: premium only"),
    ],
)
def test_settings_that_cannot_balance_are_refused(assignments, message):
    """A method that chooses all tokens at once, and sentences that nothing reads, are refused."""
    with pytest.raises(RecipeError, match=message):
        parse_settings(override(Tree({}), assignments, VocabularySettings), VocabularySettings)


def test_a_unigram_is_refused():
    """A Unigram tokenizer has no next token of a language; the error says what to do instead."""
    unigram = family_of(json.loads(trained()), Path("base"))
    with pytest.raises(RecipeError, match=r"needs a BPE tokenizer.*set vocabulary\.balance: size"):
        balance(unigram, [["a"], ["b"]], 3)


def test_keys_of_recipes_without_balance_stay_the_same(tmp_path):
    """The default of `balance` is in no key; another value is, with its sentences by content."""
    for values in (VocabularySettings().identity(), VocabularySettings().model_dump()):
        assert values.keys().isdisjoint({"balance", "parallel_file", "parallel"})
    (tmp_path / "p.jsonl").write_text('{"en": "a", "hi": "b"}')
    settings = VocabularySettings(balance="premium", parallel_file=str(tmp_path / "p.jsonl"))
    first = settings.identity()
    (tmp_path / "p.jsonl").write_text('{"en": "a", "hi": "c"}')
    assert first["balance"] == "premium"
    assert first["parallel"] != settings.identity()["parallel"]
