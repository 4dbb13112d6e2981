"""What a diagnosis measures, predicts and advises."""

from __future__ import annotations

import dataclasses
import json
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from lingraft.advice import (
    AdviceRequest,
    Measures,
    TextSample,
    advice_tables,
    advise,
    diagnose,
    measure,
    premium,
    read_sample,
    recommend,
)
from lingraft.corpus.readers import read_parallel
from lingraft.forecast.extrapolate import STEP_RATIO, extrapolate
from lingraft.forecast.heldout_tokens import group_units, learn_and_count
from lingraft.forecast.predict_fertility import (
    HELDOUT_SHARE,
    FertilityCurve,
    FertilityPoint,
    predict_fertility,
)
from lingraft.pretokenizer import make_mark_aware
from lingraft.text_units import TextUnit
from lingraft.tokenizer import ModelTokenizer, family_of, open_tokenizer
from lingraft.vocabulary import AutoSize, ContinuedBPE, SelectionRequest
from lingraft.vocabulary.auto_size import SIZES
from tests.small_bases import BASES, byte_level

# tokens per whitespace word of FLORES-200 devtest, as published with the assets
WHITESPACE_FERTILITY = {
    "llama2": {"en": 1.42, "hi": 5.55, "tr": 3.70, "ar": 5.41, "ta": 10.87},
    # Hindi (2.26) and Tamil are left out: SentencePiece makes और of a character that is no piece,
    # which `tokenizers` cannot do
    "hindi-llama-bpe1k": {"en": 1.41, "tr": 3.67, "ar": 5.38},
    "mistral": {"en": 1.37, "hi": 5.32, "tr": 3.78, "ar": 5.30, "ta": 10.45},
    "llama3": {"en": 1.24, "hi": 2.67, "tr": 2.16, "ar": 2.29, "ta": 12.38},
    "qwen2": {"en": 1.26, "hi": 4.76, "tr": 2.55, "ar": 2.29, "ta": 10.06},
    "pythia": {"en": 1.25, "hi": 5.05, "tr": 3.43, "ar": 4.16, "ta": 12.74},
    "gpt2": {"en": 1.23, "hi": 7.83, "tr": 3.75, "ar": 6.00, "ta": 25.04},
}

SYLLABLES = ["का", "मि", "ते", "रों", "सु", "ब", "ल", "की", "ना", "दे", "ग", "हि", "न्", "दी"]


def made_up(documents: int = 400, seed: int = 0) -> list[str]:
    """Documents of made-up Hindi words, the frequent ones much more frequent."""
    draw = random.Random(seed)
    words = ["".join(draw.choices(SYLLABLES, k=draw.randint(1, 4))) for _ in range(3_000)]
    weights = [1 / (i + 1) for i in range(len(words))]
    return [" ".join(draw.choices(words, weights, k=20)) for _ in range(documents)]


def tokenizer_of(data) -> ModelTokenizer:
    return ModelTokenizer(Path(), family_of(data, Path()), {})


def curve_of(*shares: float, width: float = 0.02, found: int = 50_000) -> FertilityCurve:
    """A curve through these shares, one for each size, the last one for all that follow."""
    filled = [*shares, *[shares[-1]] * (len(SIZES) - len(shares))]
    points = tuple(
        FertilityPoint(size, s, s - width / 2, s + width / 2)
        for size, s in zip(SIZES, filled, strict=True)
    )
    return FertilityCurve(points, 1_000_000, 800_000, 200_000, found)


MEASURES = Measures(
    documents=100,
    bytes=12_000,
    characters=5_000,
    unit=TextUnit.WORD,
    units=1_000,
    spaced_words=1_000,
    tokens=5_000,
    pretokens=1_050,
    fallback=0.1,
    single=0.5,
    torn=0.0,
    unknown=0.0,
)


def test_kinds_of_tokens_are_told_apart():
    """A byte-level token is torn where it is part of a character; SentencePiece uses bytes."""
    text = ["the का"]  # "the" is a token of both; क and ा are three bytes each, unknown to both
    torn, fallback = (
        measure(tokenizer_of(BASES[name]()), text)
        for name in ("byte-level BPE", "SentencePiece BPE")
    )
    assert (torn.torn * torn.tokens, torn.fallback) == (6, 0)
    assert (fallback.fallback * fallback.tokens, fallback.torn) == (6, 0)
    assert torn.single * torn.tokens == 1  # the space
    for measures in (torn, fallback):
        assert (measures.words, measures.spaced_words, measures.bytes, measures.characters) == (
            2,
            2,
            10,
            6,
        )
        assert measures.tokens_per_byte == pytest.approx(1 / measures.bytes_per_token)


def test_unknown_tokens_are_counted(assets):
    """T5's vocabulary has no Arabic: what it loses is counted, and another base is advised."""
    t5 = open_tokenizer(assets / "tokenizers" / "t5")
    measures = measure(t5, ["السلام عليكم"])
    assert measures.unknown > 0.3
    assert recommend(measures, None, None, 1.0, None).action == "choose another base"


@pytest.mark.parametrize("name", WHITESPACE_FERTILITY)
def test_published_fertility_is_reproduced(assets, name):
    """Tokens per whitespace word on FLORES-200 devtest are those published, within rounding."""
    tokenizer = open_tokenizer(assets / "tokenizers" / name)
    table = WHITESPACE_FERTILITY[name]
    parallel = read_parallel(str(assets / "parallel" / "flores200-devtest.jsonl.gz"), list(table))
    for language, expected in table.items():
        documents = parallel[language]
        fertility = sum(map(len, tokenizer.encode(documents))) / sum(
            len(text.split()) for text in documents
        )
        assert fertility == pytest.approx(expected, abs=0.0051), language


def test_premium_is_the_ratio_of_all_tokens():
    """The premium divides total tokens by total English tokens, not sentence by sentence."""
    tokenizer = tokenizer_of(byte_level())
    parallel = {"en": ("the cat", "hello world"), "hi": ("का", "की सु")}
    counts = {
        tag: sum(len(ids) for ids in tokenizer.encode(texts)) for tag, texts in parallel.items()
    }
    assert premium(tokenizer, parallel, "hi") == counts["hi"] / counts["en"]


@pytest.mark.parametrize("name", BASES)
def test_held_out_counts_are_those_of_the_extended_tokenizer(name):
    """The learner predicts what the tokenizer with these tokens makes of the held-out text."""
    family = family_of(BASES[name](), Path())
    train, heldout = made_up(), made_up(60, seed=1)
    counts = family.units(train)
    held = group_units(family, heldout)
    rows_KG, found = learn_and_count(family, counts, held)
    surfaces = ContinuedBPE().select(SelectionRequest(family, counts, SIZES[-1])).surfaces
    assert found == len(surfaces) > 100
    for row_G, size in zip(rows_KG, (0, *SIZES), strict=True):
        extended = family_of(family.with_tokens(surfaces[:size]), Path())
        expected = sum(
            len(extended.segment([unit])[0]) * n for unit, n in family.units(heldout).items()
        )
        assert row_G.sum() == expected, size
        if size > 2_000:
            break


@pytest.mark.parametrize("name", BASES)
def test_named_text_is_predicted_to_the_token_where_all_text_is_known(name):
    """Where the sample is the train text and the counted text is named, no prediction is needed."""
    family = family_of(BASES[name](), Path())
    train, wanted = made_up(), made_up(60, seed=1)
    (curve,) = predict_fertility(family, None, train, 0, evaluated=wanted)
    surfaces = (
        ContinuedBPE().select(SelectionRequest(family, family.units(train), SIZES[0])).surfaces
    )
    extended = family_of(family.with_tokens(surfaces), Path())
    before, after = (
        sum(len(of.segment([unit])[0]) * n for unit, n in family.units(wanted).items())
        for of in (family, extended)
    )
    assert curve.at(SIZES[0]).share == pytest.approx(after / before, rel=1e-12)
    assert curve.train_bytes == sum(len(text.encode()) for text in train)


@pytest.mark.parametrize("name", BASES)
@pytest.mark.parametrize("settings", [{"max_token_bytes": 4}, {"min_saving": 40}])
def test_a_prediction_is_of_tokens_that_the_recipe_learns(name, settings):
    """The settings of `continued` have the effect on a prediction that they have on tokens."""
    family = family_of(BASES[name](), Path())
    train, wanted, method = made_up(), made_up(60, seed=1), ContinuedBPE(**settings)
    (curve,) = predict_fertility(family, None, train, 0, evaluated=wanted, method=method)
    (other,) = predict_fertility(family, None, train, 0, evaluated=wanted)
    request = SelectionRequest(family, family.units(train), SIZES[0])
    extended = family_of(family.with_tokens(method.select(request).surfaces), Path())
    before, after = (
        sum(len(of.segment([unit])[0]) * n for unit, n in family.units(wanted).items())
        for of in (family, extended)
    )
    assert curve.at(SIZES[0]).share == pytest.approx(after / before, rel=1e-12)
    assert curve.at(SIZES[0]).share > other.at(SIZES[0]).share


def test_unigram_is_counted_by_the_extended_tokenizer():
    """Where merges do not make the tokens, the extended tokenizer is asked at each size."""
    learner = Tokenizer(models.Unigram())
    learner.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=120, unk_token="<unk>", special_tokens=["<unk>"], show_progress=False
    )
    learner.train_from_iterator(made_up(200), trainer)
    family = family_of(json.loads(learner.to_str()), Path())
    counts, held = family.units(made_up()), group_units(family, made_up(60, seed=1))
    rows_KG, _ = learn_and_count(family, counts, held)
    surfaces = ContinuedBPE().select(SelectionRequest(family, counts, 1_000)).surfaces
    units = family.units(made_up(60, seed=1))
    for row, added in ((0, ()), (1 + SIZES.index(1_000), surfaces)):
        extended = family_of(family.with_tokens(added), Path()) if added else family
        assert rows_KG[row].sum() == sum(
            len(extended.segment([unit])[0]) * n for unit, n in units.items()
        )
    assert rows_KG[-1].sum() < rows_KG[0].sum()


def test_held_out_text_teaches_nothing():
    """Words that stand in the held-out text alone do not become tokens."""
    family = family_of(byte_level(), Path())
    held = group_units(family, ["zebra " * 50, "zebras " * 50])
    rows_KG, _ = learn_and_count(family, Counter({" hello": 5}), held)
    assert (rows_KG == rows_KG[0]).all()


def test_a_repair_is_counted_against_the_tokens_of_the_base():
    """Both curves are shares of the tokens today; the repaired one goes below the other's floor."""
    data = byte_level()
    family, fixed = family_of(data, Path()), family_of(make_mark_aware(data), Path())
    documents = made_up(800)
    keep, mended = predict_fertility(family, fixed, documents, learned_from=100_000)
    heldout = documents[: round(len(documents) * HELDOUT_SHARE)]
    floor = family.units(heldout).total() / sum(
        map(len, family.segment(list(family.units(heldout).elements())))
    )
    assert keep.at(30_000).share >= floor > mended.at(5_000).high
    assert keep.train_bytes + keep.heldout_bytes == sum(len(text.encode()) for text in documents)


def test_too_little_text_is_not_predicted_from():
    """Without 20 documents and 20 kB there is no prediction; few long ones are cut by lines."""
    family = family_of(byte_level(), Path())
    assert predict_fertility(family, None, made_up(5), 10_000) is None
    assert predict_fertility(family, None, ["short"] * 500, 10_000) is None
    long = ["\n".join(made_up(100, seed=seed)) for seed in range(3)]
    assert predict_fertility(family, None, long, 10_000) is not None


def test_a_prediction_holds_on_text_learned_from_four_times_as_much():
    """The interval predicted from a sample holds what four times the text gives on other text."""
    family = family_of(BASES["SentencePiece BPE"](), Path())
    everything, heldout = made_up(1_600), made_up(2_000)[1_600:]
    size = sum(len(text.encode()) for text in everything)
    (curve,) = predict_fertility(family, None, everything[:400], size)
    surfaces = (
        ContinuedBPE().select(SelectionRequest(family, family.units(everything), 1_000)).surfaces
    )
    units = family.units(heldout)
    tokens = {
        k: sum(len(ids) * n for ids, n in zip(of.segment(list(units)), units.values(), strict=True))
        for k, of in ((0, family), (1_000, family_of(family.with_tokens(surfaces), Path())))
    }
    point = curve.at(1_000)
    assert point.low <= tokens[1_000] / tokens[0] <= point.high


def test_the_curve_is_carried_on_by_shrinking_steps():
    """One doubling brings q of the step from half the text, none brings 0; a floor holds."""
    base_G, half_KG, full_KG = np.full(4, 100.0), np.full((2, 4), 60.0), np.full((2, 4), 50.0)
    floor_G = np.full(4, 10.0)
    assert extrapolate(base_G, half_KG, full_KG, floor_G, doublings=0.0, useful=(900, 900))[0] == [
        0.5,
        0.5,
    ]
    share, low, high = extrapolate(
        base_G, half_KG, full_KG, floor_G, doublings=1.0, useful=(900, 900)
    )
    assert share == pytest.approx([0.5 - 0.1 * STEP_RATIO] * 2)
    assert low[0] < share[0] < high[0] < 0.5
    assert extrapolate(
        base_G, half_KG, full_KG, np.full(4, 48.0), doublings=9.0, useful=(900, 900)
    )[0] == [0.48, 0.48]


def test_running_out_of_tokens_is_not_taken_for_learning():
    """Where half the text ran out of tokens, the step is in proportion to the sizes it filled."""
    base_G = np.full(4, 100.0)
    half_KG, full_KG = (
        np.repeat([[row] for row in rows], 4, axis=1) for rows in ((61.0, 60, 60), (60.0, 50, 40))
    )
    share, _, _ = extrapolate(
        base_G, half_KG, full_KG, np.zeros(4), doublings=1.0, useful=(300, 1_000)
    )
    q = STEP_RATIO
    assert share == pytest.approx([0.6 - 0.01 * q, 0.5 - 0.02 * q, 0.4 - 0.04 * q])
    further = extrapolate(base_G, half_KG, full_KG, np.zeros(4), doublings=1.0, useful=(300, 600))[
        0
    ]
    assert 0.4 - 0.2 * q < further[2] < further[1] == share[1]


def test_half_of_the_text_may_have_more_useful_tokens_than_all_of_it():
    """By chance it reaches a size that all of the text does not; no step is then scaled."""
    base_G = np.full(4, 100.0)
    half_KG, full_KG = (
        np.repeat([[row] for row in rows], 4, axis=1) for rows in ((61.0, 60, 52), (60.0, 50, 45))
    )
    share, low, high = extrapolate(
        base_G, half_KG, full_KG, np.zeros(4), doublings=1.0, useful=(1_010, 990)
    )
    q = STEP_RATIO
    assert share[:2] == pytest.approx([0.6 - 0.01 * q, 0.5 - 0.1 * q])
    assert share[2] <= share[1]
    assert all(np.less_equal(low, high))


def test_advice_extends_up_to_the_knee():
    """Tokens are advised while 1,000 more save 1% of those left; the reasons give the numbers."""
    curve = curve_of(0.8, 0.7, 0.6, 0.5, 0.45, 0.4, 0.38, 0.378)
    advice = recommend(MEASURES, curve, None, 4.0, None)
    assert (advice.action, advice.size, advice.headline) == (
        "extend",
        7_500,
        "extend by 7,500 tokens",
    )
    assert "5 tokens per word to 1.90" in advice.reasons[0]
    assert "from 4.00x to about 1.52x" in advice.reasons[0]
    assert "less than 1%" in advice.reasons[1]
    assert advice.reasons[2] == "in a recipe: vocabulary: {size: 7500, pretokenizer: keep}"
    assert not advice.warnings


def test_advice_leaves_alone_what_is_good_already():
    """A low premium, or a gain under 15%, is left alone, and the reason says which."""
    gain = curve_of(0.8, 0.7, 0.6)
    assert "1.10x the tokens of English" in recommend(MEASURES, gain, None, 1.1, None).reasons[0]
    small = recommend(MEASURES, curve_of(0.97, 0.95, 0.94, 0.93), None, 3.0, None)
    assert (small.action, small.size) == ("leave alone", 0)
    assert "under 15%" in small.reasons[0]
    assert recommend(MEASURES, None, None, None, None).action == "undecided"


def test_advice_repairs_where_the_floor_binds():
    """Where a mark-aware pre-tokenizer saves over 10%, it is advised.

    A warning says that the lower bound is high.
    """
    high = dataclasses.replace(MEASURES, pretokens=2_500)
    advice = recommend(high, curve_of(0.6, 0.55), curve_of(0.6, 0.5, 0.4, 0.3), None, 1.15)
    assert advice.action == "repair and extend"
    assert advice.headline.startswith("repair the pre-tokenizer and extend by")
    assert "2.50 parts" in advice.warnings[0]
    assert "with a mark-aware pre-tokenizer it is 1.15" in advice.warnings[0]
    slight = recommend(high, curve_of(0.6, 0.5), curve_of(0.6, 0.48), None, 1.15)
    assert slight.action == "extend"
    assert "pretokenizer: repair lowers it to 1.15 (mark-aware)" in slight.warnings[0]
    apostrophes = recommend(high, curve_of(0.6, 0.5), None, None, None, apostrophes=0.15)
    assert "15% of the words hold ' or ’ between Latin letters" in apostrophes.warnings[-1]
    assert "no repair is known" in recommend(high, curve_of(0.6, 0.5), None, None, None).warnings[0]
    grown = dataclasses.replace(
        curve_of(0.6, 0.5, 0.4, 0.3), growth=0.5
    )  # the base's own tokens for it get longer
    assert recommend(high, curve_of(0.6, 0.55), grown, None, 1.15).action == "extend"


@pytest.mark.parametrize(
    ("unit", "pretokens", "metric", "floor"),
    [
        (TextUnit.SYLLABLE, 2_500, "tokens per syllable", "splits a syllable into 2.50 parts"),
        (TextUnit.CHARACTER, 560, "tokens per character", "into 0.560 parts per character"),
    ],
)
def test_advice_names_the_unit_of_the_text(unit, pretokens, metric, floor):
    """In text without spaces, no reason and no warning counts words."""
    measures = dataclasses.replace(MEASURES, unit=unit, pretokens=pretokens)
    assert measures.words is measures.tokens_per_word is None
    curves = curve_of(0.6, 0.55), curve_of(0.6, 0.5, 0.4, 0.3)
    advice = recommend(measures, *curves, 4.0, 0.3)
    assert f"5 {metric} to 1.50" in advice.reasons[0]
    assert (
        f"the text at combining marks: with 10,000 tokens it needs 2.75 {metric}"
        in (advice.reasons[2])
    )
    assert floor in advice.warnings[0]
    assert not any("word" in line for line in (*advice.reasons, *advice.warnings))


def test_advise_adds_the_tokens_that_its_recommendation_names(tmp_path):
    """Where the tokenizer is to be left alone, 0 tokens are advised, and the table says why."""
    documents = made_up(400)
    tokenizer = byte_level(documents, size=900, pattern=r"\s?[\p{L}\p{M}]+|\s+|[^\s\p{L}\p{M}]+")
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    text = tmp_path / "hi.txt"
    text.write_text("\n".join(documents), encoding="utf-8")
    advice = advise([str(tmp_path)], AdviceRequest("hi", [str(text)]))
    (base,) = advice.bases
    # The rule `marginal` alone would add some, and they would save under 15%.
    assert "1,000 tokens would save" in base.reasons[0]
    assert (base.headline, base.size.size, base.size.saving[0]) == (
        "leave alone",
        0,
        pytest.approx(0, abs=1e-9),
    )
    (table,) = advice_tables(advice)
    cells = dict(zip(*(column.cells for column in table.columns), strict=True))
    assert cells["tokens to add"] == f"0 ({base.reasons[0]})"


def test_wide_intervals_are_warned_of():
    """A prediction that is uncertain by more than a quarter says so, and what would help."""
    (warning,) = recommend(MEASURES, curve_of(0.5, 0.4, 0.3, width=0.2), None, None, None).warnings
    assert "give more text" in warning


def test_real_hindi_is_predicted(assets):
    """On 0.4 MB of Hindi, the intervals hold what 12 MB give.

    Llama-2: 4.08x. Qwen2: 1.87x, repaired 3.43x.
    """
    documents = prediction_sample(assets)
    sample = TextSample("hi", tuple(documents), 400_000, 12_000_000)
    found = diagnose(
        {name: open_tokenizer(assets / "tokenizers" / name) for name in ("llama2", "qwen2")},
        [sample],
    )
    llama2, qwen2 = (of.findings[0] for of in found.tokenizers)
    for curve, truth in ((llama2.keep, 4.08), (qwen2.keep, 1.87), (qwen2.repaired, 3.43)):
        point = curve.at(10_000)
        assert 1 / point.high <= truth <= 1 / point.low
    assert llama2.recommendation.action == "extend"
    assert qwen2.recommendation.action == "repair and extend"
    ranks = found.ranking("hi")
    assert [(rank.name, rank.best_now) for rank in ranks] == [("qwen2", True), ("llama2", False)]


def prediction_sample(assets) -> tuple[str, ...]:
    from lingraft.advice import read_sample

    return read_sample("hi", [str(assets / "text" / "hi.train.jsonl.gz")], 400_000).documents


def test_three_answers_to_how_many_tokens_are_one(assets, tmp_path):
    """On the same text, diagnose and advise recommend the size that `size: auto` chooses."""
    tokenizer = assets / "tokenizers" / "llama2"
    documents = read_sample("hi", [str(assets / "text" / "hi.heldout.jsonl.gz")], 200_000).documents
    text = tmp_path / "hi.jsonl"
    text.write_text("\n".join(json.dumps({"text": document}) for document in documents))
    opened = open_tokenizer(tokenizer)
    sample = read_sample("hi", [str(text)])
    finding = diagnose({"llama2": opened}, [sample]).tokenizers[0].findings[0]
    advised = advise([str(tokenizer)], AdviceRequest("hi", [str(text)])).bases[0].size
    counts = opened.family.units(sample.documents)
    learned = ContinuedBPE().select(SelectionRequest(opened.family, counts, AutoSize().max_size))
    chosen = AutoSize().choose(learned, None)
    assert finding.recommendation.size == advised.size == chosen > 1_000
    assert (advised.rule, AutoSize().rule) == ("marginal", "marginal")
    assert any("rule marginal: beyond" in reason for reason in finding.recommendation.reasons)
