"""`lingraft diagnose`: what it reads, prints and writes, and how it refuses."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from lingraft.advice import (
    diagnose_command,
    diagnosis_json,
    diagnosis_page,
    diagnosis_tables,
    read_sample,
)
from lingraft.cli import app
from lingraft.corpus.readers import read_parallel
from lingraft.corpus.text_arguments import parse_text_argument
from lingraft.errors import CorpusError, LingraftError, RecipeError
from lingraft.tokenizer.premiums import gini
from tests.small_bases import BASES
from tests.test_advice_diagnose import made_up

POINT = {
    "added",
    "share",
    "share_low",
    "share_high",
    "reduction",
    "reduction_low",
    "reduction_high",
    "tokens_per_unit",
    "tokens_per_unit_low",
    "tokens_per_unit_high",
    "tokens_per_word",
    "tokens_per_word_low",
    "tokens_per_word_high",
    "characters_per_token",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with two tokenizers, Hindi text and parallel sentences."""
    folder = tmp_path_factory.mktemp("diagnose")
    for name, make in BASES.items():
        target = folder / name.split()[0]
        target.mkdir()
        (target / "tokenizer.json").write_text(json.dumps(make()), encoding="utf-8")
    (folder / "hi.txt").write_text("\n".join(made_up(300)), encoding="utf-8")
    rows = ({"en": f"the cat number {i}", "hi": text} for i, text in enumerate(made_up(30)))
    (folder / "parallel.jsonl").write_text(
        "\n".join(json.dumps(row) for row in rows), encoding="utf-8"
    )
    return folder


@pytest.fixture(scope="module")
def compared(place):
    """Both tokenizers on Hindi."""
    return diagnose_command(
        [str(place / "byte-level"), str(place / "SentencePiece")],
        text=[str(place / "hi.txt")],
        parallel=str(place / "parallel.jsonl"),
        compare=True,
        html=place / "page" / "d.html",
    )


def printed(renderable) -> str:
    console = Console(width=200, record=True, file=Path("/dev/null").open("w", encoding="utf-8"))  # noqa: SIM115
    with console.file:
        console.print(renderable)
    return console.export_text()


def test_json_keeps_its_promise(compared):
    """The JSON has the documented keys, and numbers that agree with one another."""
    content = json.loads(json.dumps(diagnosis_json(compared)))
    assert content["format"] == 1
    (finding,) = content["tokenizers"][0]["languages"]
    assert finding["tokens_per_word"] == pytest.approx(finding["tokens"] / finding["text"]["words"])
    assert (finding["unit"], finding["tokens_per_unit"]) == ("word", finding["tokens_per_word"])
    assert finding["premium"] > 1
    for curve in (finding["keep"], finding["repaired"]):
        shares = [point["share"] for point in curve["points"]]
        assert shares == sorted(shares, reverse=True)
        for point in curve["points"]:
            assert set(point) == POINT
            assert point["share_low"] <= point["share"] <= point["share_high"]
            assert point["tokens_per_word"] == pytest.approx(
                finding["tokens_per_word"] * point["share"]
            )
            assert point["reduction_low"] == pytest.approx(1 / point["share_high"])
    assert set(finding["advice"]) == {"action", "size", "headline", "reasons", "warnings"}
    rows = content["comparison"]["hi"]
    assert [row["tokens_per_byte"] for row in rows] == sorted(
        row["tokens_per_byte"] for row in rows
    )
    assert [sum(row[best] for row in rows) for best in ("best_now", "best_after")] == [1, 1]


def test_the_terminal_shows_advice_and_comparison(compared):
    """In full, each tokenizer has tables and advice; compared, each language has a ranking.

    A sentence sums up each ranking.
    """
    full = printed(diagnosis_tables(compared))
    assert "tokens/word" in full
    assert "+10,000" in full
    assert "a lower bound that added tokens cannot cross" in " ".join(full.split())
    assert "repair the pre-tokenizer and extend" in full
    short = printed(diagnosis_tables(compared, compare=True))
    assert "which base suits hi" in short
    assert "needs the fewest tokens now" in short
    assert "a lower bound that added tokens" not in " ".join(short.split())


def test_the_gini_coefficient_is_shown_for_several_languages(compared):
    """Terminal, page and JSON have it without and with English; for one language there is none."""
    tokenizer = compared.tokenizers[0]
    (finding,) = tokenizer.findings
    other = replace(finding, language="ta", premium=3 * finding.premium)
    several = replace(compared, tokenizers=(replace(tokenizer, findings=(finding, other)),))
    with_english = gini([1.0, finding.premium, other.premium])
    several = replace(several, samples={**several.samples, "ta": several.samples["hi"]})
    sentence = f"Gini coefficient of the premiums: 0.250 over hi, ta, {with_english:.3f} with en"
    assert sentence in " ".join(printed(diagnosis_tables(several)).split())
    assert sentence in diagnosis_page(several)
    (content,) = diagnosis_json(several)["tokenizers"]
    assert content["gini_of_premiums"] == pytest.approx(0.25)
    assert content["gini_of_premiums_with_en"] == pytest.approx(with_english)
    assert tokenizer.gini() is None
    assert "Gini" not in printed(diagnosis_tables(compared))


def test_the_page_stands_alone_and_escapes(compared, place):
    """The page fetches nothing, draws each curve, and shows names as text whatever they hold."""
    page = (place / "page" / "d.html").read_text(encoding="utf-8")
    assert page == diagnosis_page(compared)
    for outside in ("http:", "https:", "<script", "<link", "src="):
        assert outside not in page
    assert (
        page.count("<polyline") == 3
    )  # kept and repaired for the byte-level one, kept for the other
    assert page.count("<table>") == 7
    nasty = place / "<script>alert(1)"
    nasty.mkdir()
    (nasty / "tokenizer.json").write_bytes((place / "byte-level" / "tokenizer.json").read_bytes())
    escaped = diagnosis_page(
        diagnose_command([str(nasty)], text=[str(place / "hi.txt")], sample_bytes=30_000)
    )
    assert "<script" not in escaped
    assert "&lt;script&gt;alert(1)" in escaped


def test_the_command_line_prints_json_without_torch(place):
    """`lingraft diagnose --json` prints JSON alone and imports neither torch nor transformers."""
    arguments = [
        "diagnose",
        str(place / "SentencePiece"),
        "--text",
        f"hi={place / 'hi.txt'}",
        "--json",
    ]
    code = (
        "import sys\nfrom lingraft.cli import app\n"
        "try:\n    app(sys.argv[1:])\nexcept SystemExit as end:\n    assert not end.code\n"
        "heavy = ('torch', 'transformers', 'datasets', 'pyarrow')\n"
        "print([m for m in heavy if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["tokenizers"][0]["name"] == "SentencePiece"
    assert done.stderr.splitlines()[-1] == "[]"


def test_tokenizers_have_names_that_are_not_empty(place, monkeypatch):
    """A file of the current folder is named by itself; a tokenizer named twice is an error."""
    monkeypatch.chdir(place / "byte-level")
    models = ["tokenizer.json", str(place / "SentencePiece" / "tokenizer.json")]
    found = diagnose_command(models, text=[str(place / "hi.txt")], sample_bytes=30_000)
    assert [one.name for one in found.tokenizers] == ["tokenizer.json", "SentencePiece"]
    with pytest.raises(RecipeError, match="a model is named twice"):
        diagnose_command(models[:1] * 2, text=[str(place / "hi.txt")], compare=True)


def test_help_names_every_option():
    """Help says what to give."""
    shown = (
        CliRunner(env={"COLUMNS": "200", "TERM": "dumb"}).invoke(app, ["diagnose", "--help"]).output
    )
    for option in (
        "--text",
        "--parallel",
        "--compare",
        "--json",
        "--html",
        "--sample-bytes",
        "--learned-from",
    ):
        assert option in shown


def test_too_little_text_is_measured_all_the_same(place, tmp_path):
    """A few lines give measures and no prediction, with the reason."""
    (tmp_path / "hi.txt").write_text("यह एक वाक्य है।\n", encoding="utf-8")
    found = diagnose_command([str(place / "byte-level")], text=[str(tmp_path / "hi.txt")])
    finding = found.tokenizers[0].findings[0]
    assert finding.keep is None
    assert finding.measures.words == 4
    assert "too little text" in printed(diagnosis_tables(found))
    assert diagnosis_json(found)["tokenizers"][0]["languages"][0]["keep"] is None
    assert "<polyline" not in diagnosis_page(found)


def test_a_sample_is_drawn_from_everything(tmp_path):
    """A sample mixes all sources, holds no document twice, and knows the size of the whole."""
    lines = [f"first {i}" for i in range(500)] + [f"second {i}" for i in range(500)]
    with gzip.open(tmp_path / "hi.txt.gz", "wt", encoding="utf-8") as file:
        file.write("\n".join([*lines, *lines]))
    sample = read_sample("hi", [str(tmp_path / "hi.txt.gz")], 2_000)
    seconds = sum(text.startswith("second") for text in sample.documents)
    assert 0.3 < seconds / len(sample.documents) < 0.7
    assert 2_000 <= sample.bytes < 2_020
    assert sample.given_bytes == sum(len(line) for line in lines)
    assert not sample.cut_short
    whole = read_sample("hi", [str(tmp_path / "hi.txt.gz")])
    assert sorted(whole.documents) == sorted(lines)


def test_languages_are_read_from_names():
    """LANG=FILE, or a tag in the file's name, or --language; "=" in a path is part of it."""
    assert parse_text_argument("hi=a.txt") == ("hi", "a.txt")
    assert parse_text_argument("x/ta.train.jsonl") == ("ta", "x/ta.train.jsonl")
    assert parse_text_argument("domain:law=x.txt") == ("domain:law", "x.txt")
    assert parse_text_argument("en=1/tr.txt") == ("en", "1/tr.txt")
    assert parse_text_argument("./run=1/tr.txt") == ("tr", "./run=1/tr.txt")
    assert parse_text_argument("ten.jsonl", "hi") == ("hi", "ten.jsonl")
    assert parse_text_argument("ta=hi.jsonl", "hi") == ("ta", "hi.jsonl")


@pytest.mark.parametrize("name", ["ten.jsonl", "new.txt", "to_train.txt", "en-hi.txt", "hindi.txt"])
def test_a_word_in_a_file_name_is_no_language(name):
    """A language is asked for, unless the name has one tag of two letters that is no word."""
    with pytest.raises(CorpusError, match=f"{name}: its language is not known; write LANG=FILE"):
        parse_text_argument(name)


def test_a_language_from_a_file_name_is_printed(capsys):
    """What a name is taken for stands on the terminal."""
    assert parse_text_argument("news_hi.jsonl.gz") == ("hi", "news_hi.jsonl.gz")
    assert "news_hi.jsonl.gz: taken as hi, as its name says" in capsys.readouterr().err


def test_parallel_rows_with_a_gap_are_left_out(tmp_path):
    """A row counts where every language has text."""
    rows = [{"en": "a", "hi": "क"}, {"en": "", "hi": "ख"}, {"en": "c", "hi": None}]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert read_parallel(str(tmp_path / "p.jsonl"), ["hi"]) == {"en": ("a",), "hi": ("क",)}
    with pytest.raises(CorpusError, match="no column sw; the columns are"):
        read_parallel(str(tmp_path / "p.jsonl"), ["sw"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"models": ["nowhere"]}, "nowhere: there is no such file or folder"),
        ({"text": []}, "give --text LANG=FILE"),
        ({"text": ["corpus.txt"]}, "write LANG=FILE, for example hi=corpus.txt"),
        ({"text": ["hi=nothing.txt"]}, "nothing.txt: no such file"),
        ({"compare": True}, "--compare needs two tokenizers"),
        ({"sample_bytes": 0}, "expected a number of bytes above 0"),
        ({"learned_from": 0}, "--learned-from 0: expected a number of bytes above 0"),
        ({"parallel": "nothing.jsonl"}, "nothing.jsonl: no such file"),
        ({"html": Path("/proc/nowhere/d.html")}, "cannot be written"),
        ({"html": Path("/proc")}, "--html /proc: is a folder; name a file"),
        ({"html": Path()}, "--html .: is a folder; name a file"),
    ],
)
def test_refusals_are_one_line(place, change, words):
    """Each mistake is answered with one line that says what to do."""
    given = {
        "models": [str(place / "byte-level")],
        "text": [str(place / "hi.txt")],
        "sample_bytes": 25_000,
    } | change
    with pytest.raises(LingraftError) as refusal:
        diagnose_command(given.pop("models"), **given)
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_text_in_the_wrong_script_is_a_warning(place):
    """Hindi text given as Telugu: the diagnosis says so first on the terminal and in the JSON."""
    found = diagnose_command([str(place / "byte-level")], text=[f"te={place / 'hi.txt'}"])
    (note,) = diagnosis_json(found)["notes"]
    assert "most letters are Devanagari, not Telugu" in note
    console = Console(width=2000, file=io.StringIO(), record=True)
    console.print(diagnosis_tables(found))
    assert console.export_text().startswith(f"warning: {note}")
    assert not diagnose_command([str(place / "byte-level")], text=[f"hi={place / 'hi.txt'}"]).notes
