"""Data sets by name: the configuration for a language, and what a recipe makes of it."""

from __future__ import annotations

import re
import string

import langcodes
import pytest
from langcodes.registry_parser import parse_registry
from pydantic import ValidationError

from lingraft.corpus.config import CorpusSettings
from lingraft.corpus.presets import describe_names, preset, preset_of, presets
from lingraft.corpus.source import Source
from lingraft.corpus.text_files import find_files
from lingraft.errors import CorpusError, RecipeError
from lingraft.pipeline.text_summary import recipe_text_lines
from lingraft.recipe import Given, chosen_recipe, load_recipe
from lingraft.recipe.default_text import with_default_text
from lingraft.recipe.load import recipe_yaml

# As the authors of the data sets publish them: the list of fineweb-2's pipeline, the card of c4,
# the addresses of Wikipedia.
FINEWEB_2 = {
    "af": "afr_Latn", "am": "amh_Ethi", "ar": "arb_Arab", "arz": "arz_Arab", "as": "asm_Beng",
    "az": "azj_Latn", "az-Cyrl": "azj_Cyrl", "azb": "azb_Arab", "be": "bel_Cyrl", "bg": "bul_Cyrl",
    "bn": "ben_Beng", "bn-BD": "ben_Beng", "bo": "bod_Tibt", "bs": "bos_Latn", "ca": "cat_Latn",
    "ceb": "ceb_Latn", "ckb": "ckb_Arab", "crh": "crh_Latn", "cs": "ces_Latn", "de-AT": "deu_Latn",
    "dz": "dzo_Tibt", "el": "ell_Grek", "es-419": "spa_Latn", "et": "ekk_Latn", "eu": "eus_Latn",
    "fa": "fas_Arab", "pes": "fas_Arab", "fil": "fil_Latn", "tl": "fil_Latn", "gn": "gug_Latn",
    "grc": "grc_Grek", "gu": "guj_Gujr", "ha": "hau_Latn", "he": "heb_Hebr", "iw": "heb_Hebr",
    "hi": "hin_Deva", "hin": "hin_Deva", "hi-Latn": "hin_Latn", "hmn": "mww_Latn",
    "hy": "hye_Armn", "id": "ind_Latn", "iu": "ike_Cans", "ja": "jpn_Jpan", "jv": "jav_Latn",
    "ka": "kat_Geor", "kk": "kaz_Cyrl", "km": "khm_Khmr", "kmr": "kmr_Latn", "kn": "kan_Knda",
    "ko": "kor_Hang", "kok": "gom_Deva", "ku": "kmr_Latn", "ku-Arab": "ckb_Arab", "lo": "lao_Laoo",
    "lv": "lvs_Latn", "lzh": "lzh_Hani", "mg": "plt_Latn", "ml": "mal_Mlym", "mn": "khk_Cyrl",
    "ms": "zsm_Latn", "ms-Arab": "zsm_Arab", "my": "mya_Mymr", "nb": "nob_Latn", "ne": "npi_Deva",
    "nn": "nno_Latn", "no": "nob_Latn", "om": "gaz_Latn", "or": "ory_Orya", "pa": "pan_Guru",
    "pa-PK": "pnb_Arab", "ps": "pbt_Arab", "pt-BR": "por_Latn", "qu": "quy_Latn", "ro": "ron_Latn",
    "ru": "rus_Cyrl", "sat": "sat_Olck", "sd": "snd_Arab", "sd-Deva": "snd_Deva", "si": "sin_Sinh",
    "sq": "als_Latn", "sr": "srp_Cyrl", "sr-Latn": "srp_Latn", "sr-ME": "srp_Latn",
    "sh": "srp_Latn", "sw": "swh_Latn", "ta": "tam_Taml", "tam": "tam_Taml", "te": "tel_Telu",
    "tg": "tgk_Cyrl", "th": "tha_Thai", "ti": "tir_Ethi", "ug": "uig_Arab", "ur": "urd_Arab",
    "uz": "uzn_Latn",
    "uz-Cyrl": "uzn_Cyrl", "vi": "vie_Latn", "yi": "ydd_Hebr", "yo": "yor_Latn", "yue": "yue_Hani",
    "zh": "cmn_Hani", "zh-Hant": "cmn_Hani", "zh-TW": "cmn_Hani", "zu": "zul_Latn",
}  # fmt: skip
OTHERS = {
    "wikipedia": {
        "hi": "hi", "hin": "hi", "arb": "ar", "arz": "arz", "nb": "no", "nn": "nn", "yue": "zh-yue",
        "gsw": "als", "sq": "sq", "als": "sq", "fil": "tl", "be": "be", "be-tarask": "be-x-old",
        "pa": "pa", "pa-PK": "pnb", "pnb": "pnb", "pt-BR": "pt", "simple": None, "zh": "zh",
    },
    "c4": {"hi": "hi", "hi-Latn": "hi-Latn", "he": "iw", "en": "en", "nb": "no", "fil": "fil",
           "zh-CN": "zh", "pes": "fa"},
    "hplt": {"hi": "hin_Deva", "en": "eng_Latn", "ar": "ara_Arab", "et": "est_Latn",
             "zh-TW": "zho_Hant", "zh": "zho_Hans", "fa": "pes_Arab", "prs": "prs_Arab",
             "ko": "kor_Hang", "sq": "als_Latn", "kon": "kon_Latn"},
    "fineweb-edu": {"en": "sample-10BT", "en-GB": "sample-10BT", "eng": "sample-10BT"},
}  # fmt: skip
PATTERNS = {
    "fineweb-2": r"[a-z]{3}_[A-Z][a-z]{3}",
    "hplt": r"[a-z]{3}_[A-Z][a-z]{3}",
    "wikipedia": r"20231101\.[a-z]{2,3}(-[a-z]+)*",
    "c4": r"[a-z]{2,3}(-[A-Z][a-z]{3})?",
    "fineweb-edu": r"sample-10BT",
}


@pytest.mark.parametrize("tag", FINEWEB_2)
def test_fineweb_2_has_one_configuration_a_language_and_script(tag):
    """Macrolanguages, scripts, regions and three-letter tags give the published configuration."""
    assert preset("fineweb-2").configuration_for(tag) == FINEWEB_2[tag]


@pytest.mark.parametrize("name", OTHERS)
def test_each_data_set_names_languages_in_its_own_way(name):
    """The same tag is another configuration in another data set."""
    for tag, expected in OTHERS[name].items():
        if expected is not None:
            prefix = "20231101." if name == "wikipedia" else ""
            assert preset(name).configuration_for(tag) == prefix + expected, tag


@pytest.mark.parametrize("name", PATTERNS)
def test_every_living_language_gives_a_well_formed_name_or_a_line(name):
    """Each two-letter language of the registry has a configuration of the data set's form.

    Where a data set has few languages, the error names it and the language.
    """
    assert set(PATTERNS) == set(presets())
    for entry in parse_registry():
        tag = entry.get("Subtag", "")
        if entry.get("Type") != "language" or len(tag) != 2 or "Deprecated" in entry:
            continue
        try:
            found = preset(name).configuration_for(tag)
        except CorpusError as error:
            refused = str(error)
            found = ""
        expected = PATTERNS[name] if found else rf"{name} \(\S+\): {tag} .+"
        assert re.fullmatch(expected, found or refused), tag


def test_the_table_is_complete():
    """Each preset has a repository of its own, a licence, a description, and known languages."""
    assert list(presets()) == ["fineweb-2", "wikipedia", "c4", "hplt", "fineweb-edu"]
    for name, found in presets().items():
        assert preset_of(found.repository) is found
        assert re.fullmatch(r"[a-z0-9.-]+", found.licence)
        assert found.description[0].islower() or found.description[0].isupper()
        assert not found.description.endswith(".")
        for tag in found.codes:
            assert langcodes.tag_is_valid(tag), (name, tag)
    assert preset_of("me/other") is None


@pytest.mark.parametrize(
    ("name", "tag", "reason"),
    [
        ("fineweb-2", "en", "en is not in the data set; use fineweb-edu"),
        ("fineweb-edu", "te", "te is not in the data set; it has en"),
        ("c4", "nn", "nn is not in the data set; it has af, am, ar, "),
        ("c4", "sr-Latn", "has no configuration by script; write sr or {preset: c4, config: sr}"),
        ("wikipedia", "zh-TW", "write zh or {preset: wikipedia, config: 20231101.zh}"),
        ("hplt", "domain:law", "domain:law is not a language; name text of the domain"),
    ],
)
def test_a_language_that_is_not_there_is_one_line(name, tag, reason):
    """The error names the data set, the language, and what there is instead."""
    with pytest.raises(CorpusError, match=re.escape(reason)):
        preset(name).configuration_for(tag)


def test_a_name_is_a_preset_unless_it_is_also_a_path(tmp_path, monkeypatch):
    """A bare name means the preset; where a file has that name, the user has to say which."""
    monkeypatch.chdir(tmp_path)
    assert Source.parse("fineweb-2") == Source(preset="fineweb-2")
    (tmp_path / "wikipedia").mkdir()
    with pytest.raises(
        ValidationError, match=r"also a local path; write \./wikipedia for the path"
    ):
        CorpusSettings(sources="wikipedia")
    assert CorpusSettings(sources="./wikipedia").sources[0].path == "./wikipedia"
    assert CorpusSettings(sources={"preset": "wikipedia"}).sources[0].preset == "wikipedia"


def test_a_misspelt_preset_is_not_taken_for_a_file():
    """A name that is no preset and no file is answered with the preset that is like it."""
    with pytest.raises(CorpusError, match="fineweb2: no such file; did you mean the preset fine"):
        find_files("fineweb2")


def test_a_name_that_is_missing_is_answered_with_names_of_its_language():
    """Codes that are spelled alike are not suggested, since they are other languages."""
    names = [f"{first}{second}r_Latn" for first in string.ascii_lowercase for second in "abcdef"]
    assert describe_names("aar_Ethi", names) == "nearest of its 156: aar_Latn"
    assert describe_names("aay_Latn", names) == "none of its 156 is in this language"
    assert describe_names("sample10BT", [*names, "sample-10BT"]).endswith(": sample-10BT")


def recipe_of(*overrides, text="fineweb-2"):
    given = Given("me/model", "te", [text], "en", ["fineweb-edu"])
    return chosen_recipe(None, given, overrides)


def test_a_recipe_keeps_the_data_set_that_a_preset_means(tmp_path):
    """The recipe of a run names repository, configuration and limit, and gives the same recipe."""
    recipe = recipe_of()
    [source] = recipe.target.sources
    written = {"hub": "HuggingFaceFW/fineweb-2", "config": "tel_Telu"}
    assert source == Source(**written, limit={"bytes": "100MB"})
    [replayed] = recipe.replay.sources
    assert (replayed.hub, replayed.config) == ("HuggingFaceFW/fineweb-edu", "sample-10BT")
    file = tmp_path / "recipe.yaml"
    file.write_text(recipe_yaml(recipe), encoding="utf-8")
    assert load_recipe(file) == recipe


def test_settings_of_a_hub_data_set_apply_to_a_preset():
    """A preset takes configuration, split, revision, weight and limit, and nothing else."""
    source = Source(preset="fineweb-2", config="tel_Latn", revision="v2", split="test", weight=2)
    found = source.resolve("domain:law")
    assert (found.config, found.revision, found.split, found.weight) == (
        "tel_Latn",
        "v2",
        "test",
        2,
    )
    with pytest.raises(ValidationError, match="text_field has no meaning for a source with preset"):
        Source(preset="fineweb-2", text_field="content")


@pytest.mark.parametrize(
    ("overrides", "target", "replay"),
    [
        ((), 100e6, 50e6),  # an epoch; 500 kB are a hundredth of 50 MB
        (("training.budget=100M tokens",), 640e6, 160e6),
        (("training.budget=1 GB",), 1.1e9, 275e6),
        (("training={budget: 100 steps, batch_tokens: 500000}",), 320e6, 80e6),
        (("training.budget=1000 steps",), 0.8 * 8 * 131_072_000, 0.2 * 8 * 131_072_000),
        (("training.budget=20 steps",), 50e6, 50e6),
        (("training.budget=20 steps", "target.heldout_share=0.1"), 20e6, 50e6),
        (("vocabulary.size=50000", "training.budget=20 steps"), 100e6, 50e6),
        (("replay.share=0", "replay.heldout=fineweb-edu"), 100e6, 1e6),  # nothing is read of it
        (("target.limit={bytes: 5MB}",), None, 50e6),
        (("target.corpus={preset: fineweb-2, limit: {bytes: 3MB}}",), 3e6, 50e6),
    ],
)
def test_a_preset_is_read_as_far_as_the_recipe_needs(overrides, target, replay):
    """The limit follows from the training budget, the vocabulary size and the held-out text."""
    recipe = recipe_of(*overrides)
    limits = [text.sources[0].limit for text in (recipe.target, recipe.replay)]
    found = [limit and limit.bytes for limit in limits]
    assert found == [target and pytest.approx(target), pytest.approx(replay)]


def test_an_extension_reads_only_what_it_learns_from():
    """Without training and measuring, the vocabulary decides, and replay is a sample."""
    given = Given("me/model", "te")
    recipe = chosen_recipe(None, given, ["vocabulary.size=4000"], trains=False)
    limits = [text.sources[0].limit.bytes for text in (recipe.target, recipe.replay)]
    assert limits == [8_000_000, 5_000_000]


@pytest.mark.parametrize(
    ("given", "overrides", "text", "base_text"),
    [
        (Given("m", "te"), [], ["fineweb-2"], ["fineweb-edu"]),
        (Given("m", "te", base_language="de"), [], ["fineweb-2"], ["fineweb-2"]),
        (Given("m", "en-GB"), [], ["fineweb-edu"], []),
        (Given("m", "en", base_language="de"), [], ["fineweb-edu"], ["fineweb-2"]),
        (Given("m", "te", ["a.txt"]), [], ["a.txt"], []),
        (Given("m", "te", ["a.txt"], "en"), [], ["a.txt"], ["fineweb-edu"]),
        (Given("m", "te", base_text=["en.txt"]), [], ["fineweb-2"], ["en.txt"]),
        (Given("m", "te"), ["target.corpus"], [], []),
        (Given("m", "te"), ["target.heldout_share"], ["fineweb-2"], ["fineweb-edu"]),
        (Given("m", "te"), ["replay"], ["fineweb-2"], []),
        (Given("m", "domain:law", ["law.txt"]), [], ["law.txt"], []),
    ],
)
def test_text_that_is_not_named_is_a_preset(given, overrides, text, base_text):
    """Only if no target text is named, or a base language is, does the Hub supply replay text."""
    found = with_default_text(given, overrides)
    assert (list(found.text), list(found.base_text)) == (text, base_text)


def test_a_domain_has_no_text_by_name():
    """The error for a domain without text asks for a file."""
    with pytest.raises(RecipeError, match="--text must be given: domain:law is not a language"):
        chosen_recipe(None, Given("m", "domain:law"))


def test_a_plan_and_a_run_say_what_is_read_from_the_hub(tmp_path):
    """Each source on the Hub has a line; a local file has none."""
    file = tmp_path / "a.txt"
    file.write_text("a text\n")
    recipe = recipe_of(f"target.corpus=[wikipedia, {{hub: me/texts, revision: v2}}, {file}]")
    wikipedia, texts = recipe_text_lines(recipe)[:2]
    data = "wikipedia (wikimedia/wikipedia, 20231101.te, licence cc-by-sa-3.0)"
    assert wikipedia == f"text in te: {data}, at most 100 MB"
    assert texts == "text in te: me/texts, v2, all of it"
    assert len(recipe_text_lines(recipe)) == 3


def test_an_unknown_preset_or_language_is_named_with_its_setting():
    """The error of a recipe starts with the setting, and names the nearest preset."""
    with pytest.raises(RecipeError, match=r"target: .*did you mean 'fineweb-2'"):
        recipe_of("target.corpus={preset: fineweb2}")
    with pytest.raises(RecipeError, match=r"target: fineweb-2 .* en is not in the data set"):
        recipe_of("target.language=en", "replay.language=de", "replay.corpus=wikipedia")
