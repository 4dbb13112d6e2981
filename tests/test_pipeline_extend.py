"""`lingraft extend`, and runs with several target languages."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lingraft.cli import app
from lingraft.corpus import Corpus
from lingraft.corpus.blend import blend_corpora
from lingraft.errors import CorpusError, RecipeError, StoreError
from lingraft.measurement import select
from lingraft.pipeline import claims_table, extend, premiums_line, pretokenizer_line, run
from lingraft.recipe import load_recipe, parse_recipe
from lingraft.recipe.tree import Tree
from lingraft.splice import Splice
from lingraft.store import Draft
from lingraft.tokenizer import open_tokenizer
from tests.conftest import ROOT, write_lines
from tests.tiny_recipes import quick_evaluation, quick_training, report, text_of, tiny_recipe

TAMIL = ("பழைய விவசாயி தன் மகளுக்கு சிவப்பு ஆப்பிளைக் கொடுத்தார்.", "காலையில் குழந்தைகள் ஆற்றுக்குச் செல்கிறார்கள்.")


@pytest.fixture
def values(tiny_model, hindi_file, english_file) -> dict:
    return tiny_recipe(
        tiny_model,
        name="tiny-{language}",
        vocabulary={"size": 30},
        target=text_of("hi", hindi_file),
        replay=text_of("en", english_file),
        training=quick_training(4),
        evaluation=quick_evaluation(600),
    )


def extended(values, here, folder):
    return extend(parse_recipe(Tree(values)), here, folder, log=lambda _line: None)


def test_an_extended_model_loads_plainly_with_a_row_for_each_token(values, here, tmp_path):
    """The model folder has 30 tokens more, a row for each, and unchanged base rows.

    Nothing is trained.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = extended(values, here, tmp_path / "out")
    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(folder),
        AutoTokenizer.from_pretrained(folder),
    )
    before = AutoModelForCausalLM.from_pretrained(values["model"]).get_input_embeddings().weight
    rows = model.get_input_embeddings().weight
    assert len(tokenizer) == open_tokenizer(folder).size == 350
    assert len(rows) >= 350
    assert torch.equal(rows[:320], before)
    claims = json.loads((folder / "lingraft" / "certificate.json").read_text())["claims"]
    assert all(claim["holds"] for claim in claims if claim["fatal"])
    assert claims_table(folder / "lingraft" / "certificate.json").row_count == len(claims)


def test_a_finished_run_is_not_replaced_by_an_extended_model(values, here, tmp_path):
    """A run, and other files, at --output are refused with an advice that the command has."""
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "thesis.tex").write_text("years of work")
    with pytest.raises(StoreError, match="not a run of lingraft; choose another folder with --out"):
        extended(values, here, folder)
    (folder / "run.json").write_text('{"format": 1, "recipe": {}, "stages": []}')
    with pytest.raises(StoreError, match=r"made by `lingraft adapt`.* another folder with --out"):
        extended(values, here, folder)
    assert len(list(folder.iterdir())) == 2


def test_a_file_that_a_user_put_next_to_an_extended_model_is_not_lost(values, here, tmp_path):
    """Another extension replaces the files of the first, and refuses to delete other files."""
    folder = extended(values, here, tmp_path / "out")
    extended(values, here, folder)
    (folder / "model.gguf").write_text("converted")
    with pytest.raises(StoreError, match=r"holds model.gguf, .*; choose another folder with --out"):
        extended(values, here, folder)
    assert (folder / "model.gguf").read_text() == "converted"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("pretokenizer.json", pretokenizer_line),
        ("premiums.json", premiums_line),
        ("certificate.json", lambda folder: claims_table(folder / "certificate.json")),
    ],
)
def test_a_damaged_file_of_a_result_is_one_line(tmp_path, name, shown):
    """A file that was cut off is named with its line, not shown as a traceback."""
    (tmp_path / name).write_text('{"summary": "kep')
    with pytest.raises(StoreError, match=f"{name}, line 1: not JSON"):
        shown(tmp_path)


def test_a_file_of_parallel_sentences_may_have_any_name(tmp_path, monkeypatch):
    """The value of --parallel is a name, not YAML, in which a comment begins after the space."""
    monkeypatch.chdir(tmp_path)
    arguments = ["extend", str(ROOT / "recipes" / "demo.yaml"), "--parallel", "data #1.jsonl"]
    done = CliRunner().invoke(app, [*arguments, "--balance", "premium"])
    assert str(done.exception).startswith("data #1.jsonl: no such file")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--size", ""), "--size: is empty; "),
        (("--parallel", ""), "--parallel: is empty; "),
        (("--size", "x"), "--size x: vocabulary.size: "),
        (("--balance", "foo"), "--balance foo: vocabulary.balance: "),
    ],
)
def test_a_mistake_in_an_option_is_that_of_the_option(arguments, told):
    """A message names the option that was given, also an empty one."""
    demo = str(ROOT / "recipes" / "demo.yaml")
    failed = CliRunner().invoke(app, ["extend", demo, *arguments])
    assert isinstance(failed.exception, RecipeError)
    assert str(failed.exception).startswith(told)


def test_the_current_folder_is_not_replaced(values, here, tmp_path, monkeypatch):
    """A folder that is replaced as a whole cannot be the one in which the command runs."""
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    for folder in (Path(), Path.cwd(), Path("../empty")):
        with pytest.raises(
            StoreError, match=r"is the current working directory, .* folder with --output$"
        ):
            extended(values, here, folder)


def test_a_tokenizer_without_weights_is_extended_alone(values, here, tmp_path, tiny_model):
    """A folder with only a tokenizer gives the same extended tokenizer as one with weights."""
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (bare / name).write_bytes((tiny_model / name).read_bytes())
    with_weights = extended(values, here, tmp_path / "one")
    alone = extended({**values, "model": str(bare)}, here, tmp_path / "two")
    assert not list(alone.glob("*.safetensors"))
    assert (alone / "tokenizer.json").read_text() == (with_weights / "tokenizer.json").read_text()


def test_what_was_extended_is_not_done_again_by_a_full_run(values, here, tmp_path):
    """`adapt` begins from the stages that `extend` left in the store."""
    extended(values, here, tmp_path / "out")
    finished = run(parse_recipe(Tree(values)), here, write_report=report)
    cached = {stage["name"] for stage in finished.record["stages"] if stage["cached"]}
    assert {"source", "corpus", "vocabulary", "embeddings"} <= cached


def test_fewer_tokens_than_asked_for_are_warned_of_at_once_and_above_the_table(
    values, tmp_path, capsys
):
    """A text with too few tokens is reported on standard error, then above the table.

    A cached run reports it again.
    """
    text = values["target"]["corpus"]
    command = [
        "extend",
        "--model",
        values["model"],
        "--language",
        "hi",
        "--text",
        text,
        "--size",
        "50000",
        "--store",
        str(tmp_path / "store"),
        "--output",
        str(tmp_path / "out"),
    ]
    for _ in range(2):
        app(command, standalone_mode=False)
        printed = capsys.readouterr()
        warned = [line for line in printed.err.splitlines() if line.startswith("warning: ")]
        (warning,) = [line for line in warned if "tokens were added" in line]
        assert re.match(
            r"warning: vocabulary: [0-9,]+ of 50,000 tokens were added \([0-9]+%\), ", warning
        )
        assert printed.out.splitlines()[: len(warned)] == warned
        assert "claim" in printed.out
    app([*command, "--json"], standalone_mode=False)
    assert [
        f"warning: {line}" for line in json.loads(capsys.readouterr().out)["warnings"]
    ] == warned


def test_text_in_another_script_is_refused_before_anything_is_learned(values, tmp_path, capsys):
    """Hindi text given as Telugu is one error; `allow` makes it a warning, also in run.json."""
    command = ["extend", "--model", values["model"], "--text", values["target"]["corpus"]]
    command += ["--size", "30", "--store", str(tmp_path / "store"), "--output"]
    given = [*command, str(tmp_path / "te"), "--language", "te"]
    with pytest.raises(CorpusError) as refused:
        app(given, standalone_mode=False)
    message = str(refused.value)
    assert "Devanagari, not Telugu: the results say nothing about Telugu" in message
    assert message.endswith("set allow: [wrong_script]")
    capsys.readouterr()
    assert not (tmp_path / "te").exists()
    app([*given, "-o", "target.allow=[wrong_script]"], standalone_mode=False)
    printed = capsys.readouterr()
    lines = printed.err.splitlines()
    (warning,) = [line for line in lines if line.startswith("warning: text in te: letters of ano")]
    assert lines.index(warning) < [line.startswith("vocabulary ") for line in lines].index(True)
    assert warning in printed.out.splitlines()
    record = json.loads((tmp_path / "te" / "run.json").read_text(encoding="utf-8"))
    assert warning.removeprefix("warning: ") in record["warnings"]
    assert record["wrong_scripts"][0]["found"] == "Devanagari"
    app([*command, str(tmp_path / "hi"), "--language", "hi"], standalone_mode=False)
    assert "Devanagari" not in capsys.readouterr().err


def test_what_became_of_the_pre_tokenizer_is_said_in_one_line(values, here, tmp_path, capsys):
    """`extend` says what was changed, why and who can load it; `plan` says so before and after."""
    words = [
        "--model",
        values["model"],
        "--language",
        "hi",
        "--text",
        values["target"]["corpus"],
        "--override",
        "vocabulary.pretokenizer=repair",
        "--override",
        "vocabulary.size=30",
        "--store",
        str(here.store),
    ]
    app(["plan", *words], standalone_mode=False)
    planned = capsys.readouterr().out
    assert " learns Hindi: 30 tokens added, " in planned.splitlines()[0]
    assert "pre-tokenizer: is made mark-aware or letter-aware" in planned
    assert "no PEFT adapter later: training.phases.0: the strategy" in planned
    assert "no GGUF file later: the pre-tokenizer has no name in llama.cpp" in planned
    app(["extend", *words, "--output", str(tmp_path / "out")], standalone_mode=False)
    printed = capsys.readouterr().out.splitlines()
    (line,) = [line for line in printed if "pre-tokenizer changed" in line]
    line, _, remedy = line.removeprefix("warning: ").partition("; to keep the base's, ")
    assert remedy == "set vocabulary.pretokenizer: keep"
    assert line.startswith(
        "pre-tokenizer changed (mark-aware: combining marks continue the letters"
    )
    assert "the recipe says so" in line
    assert "loads in transformers, tokenizers and vLLM, not in llama.cpp" in line
    app(["plan", *words], standalone_mode=False)
    assert line in capsys.readouterr().out.splitlines()
    app(["extend", *words, "--output", str(tmp_path / "out"), "--json"], standalone_mode=False)
    assert json.loads(capsys.readouterr().out)["pretokenizer"]["summary"] == line


def test_no_token_at_all_is_an_error(values, here, tmp_path):
    """If the base has every token that the text could use, asking for more ends with exit code 2.

    The message is one line.
    """
    text = tmp_path / "sums.txt"
    text.write_text("".join(f"{number} + {number} = {2 * number}\n" for number in range(100)))
    with pytest.raises(RecipeError, match="vocabulary: 0 of 30 tokens can be added") as refused:
        extended(
            {**values, "target": {"language": "tr", "corpus": str(text)}}, here, tmp_path / "out"
        )
    assert refused.value.exit_code == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("vocabulary", "named"), [({"size": 0}, "size: 0"), ({"method": "none"}, "method: none")]
)
def test_an_extension_by_nothing_is_an_error(values, here, tmp_path, vocabulary, named):
    """A copy of the model is no extension: the setting is named, and nothing is written."""
    with pytest.raises(RecipeError, match=f"vocabulary.{named} adds no tokens"):
        extended({**values, "vocabulary": vocabulary}, here, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_several_languages_are_one_splice_and_each_is_measured(values, here, tmp_path):
    """A list of targets: tokens from all of them, one training mixture, measures by language."""
    text = write_lines(tmp_path / "ta.txt", TAMIL)
    tamil = {"language": "ta", "corpus": str(text), "heldout_share": 0.1, "weight": 2}
    training = {"budget": "40 steps", "batch_tokens": 128, "heldout_points": 8}
    targets = [values["target"], tamil]
    recipe = parse_recipe(Tree({**values, "target": targets, "training": training}))
    assert recipe.run_name == "tiny-hi-ta"
    finished = run(recipe, here, write_report=report)
    splice = Splice.read(finished.folder)
    scripts = {"hi": "\u0900", "ta": "\u0b80"}
    for start in scripts.values():
        assert any(
            start <= character <= chr(ord(start) + 127)
            for token in splice.added
            for character in token.text
        )
    for language in ("hi", "ta", "en"):
        before, after = (
            select(
                finished.measurements,
                metric="tokens per word",
                language=language,
                subject=subject,
            )
            for subject in ("source", "adapted")
        )
        assert before[0].value >= after[0].value
    assert list(finished.notes["training"]["epochs"]) == ["hi", "ta", "en"]
    ends = [row.language for row in finished.prediction if row.metric == "bits per byte"]
    assert ends == ["hi", "ta"]
    again = load_recipe(finished.folder / "recipe.yaml")
    assert again == recipe


def test_a_blend_holds_its_shares_in_every_prefix(values, here, tmp_path):
    """Languages are interleaved by bytes.

    After any prefix, no language is off its share by more than a document.
    """
    tamil = {
        "language": "ta",
        "corpus": str(write_lines(tmp_path / "ta.txt", TAMIL)),
        "heldout_share": 0.1,
    }
    recipe = parse_recipe(Tree({**values, "target": [values["target"], tamil]}))
    extend(recipe, here, tmp_path / "out", log=lambda _line: None)
    corpora = [Corpus.open(path) for path in (here.store / "answers").glob("corpus-*")]
    folder = tmp_path / "blend"
    folder.mkdir()
    blend_corpora([one for one in corpora if one.language != "en"], [0.4, 0.6], Draft(folder))
    notes = json.loads((folder / "counts.json").read_text())
    used, longest = {"hi": 0, "ta": 0}, 0
    for text in Corpus.open(folder).documents("train"):
        language = "ta" if any("\u0b80" <= character <= "\u0bff" for character in text) else "hi"
        used[language] += len(text.encode())
        longest = max(longest, len(text.encode()))
        total = sum(used.values())
        for name, share in zip(notes["languages"], notes["shares"], strict=True):
            assert abs(used[name] - share * total) <= 2 * longest


def test_a_language_named_twice_is_refused(values):
    """Two entries for one language are sources of one corpus."""
    with pytest.raises(RecipeError, match="a target language is named more than once"):
        parse_recipe(Tree({**values, "target": [values["target"], values["target"]]}))


def test_words_beyond_what_memory_allows_are_left_out_and_named(
    values, here, tmp_path, monkeypatch
):
    """Of more pre-tokens than the limit, the most frequent are used; a warning counts them."""
    monkeypatch.setattr("lingraft.vocabulary.learn_tokens.MAX_WORDS", 20)
    folder = extend(parse_recipe(Tree(values)), here, tmp_path / "out", log=lambda _line: None)
    warnings = json.loads((folder / "run.json").read_text(encoding="utf-8"))["warnings"]
    (said,) = [line for line in warnings if "distinct pre-tokens" in line]
    assert re.fullmatch(
        r"text in hi: tokens are learned from the 20 most frequent of [\d,]+ distinct pre-tokens; "
        r"each of the others occurs at most [\d,]+ times",
        said,
    )
