"""The script that writes the tables and pictures of the findings."""

from __future__ import annotations

import json
import math
from itertools import cycle

import pytest

from benchmarks import findings
from lingraft.errors import StoreError
from lingraft.studies.study_folder import STUDY
from tests.conftest import ROOT
from tests.test_report_study import make_study, make_tokens_study

COMPARED = """
hi, 0.3MB, +3,000 tokens, 3 seeds; before: 1.542 bits per byte, English 1.735

| recipe | equal | bits per byte | more than the default | English | English worse by | tokens |
|---|---|---|---|---|---|---|
| default | bytes | 1.187 ± 0.025 |  | 1.719 ± 0.037 | -0.9% | 60,757 |
| paper | bytes | 1.296 ± 0.023 | 0.109 ± 0.048 | 2.901 ± 0.241 | +67.2% | 80,025 |
| paper | tokens | 1.327 ± 0.020 | 0.140 ± 0.044 | 2.781 ± 0.346 | +60.3% | 60,780 |
| no added tokens | bytes | 1.207 ± 0.009 | 0.020 ± 0.020 | 2.036 ± 0.107 | +17.3% | 317,781 |
| no added tokens | FLOPs | 1.354 ± 0.050 | 0.167 ± 0.061 | 1.798 ± 0.093 | +3.6% | 68,011 |
"""


def write(monkeypatch, docs, *arguments, places="rows;tokens;recipes"):
    """Run the script on a page with a place for every table; return the page."""
    docs.mkdir(exist_ok=True)
    blocks = [f"<!-- {name} -->\nold\n<!-- /{name} -->\n" for name in places.split(";")]
    for name in ("findings-tables", "paper"):
        text = "Above.\n" + "".join(blocks) + "Below.\n"
        (docs / f"{name}.md").write_text(text, encoding="utf-8")
    monkeypatch.setattr("sys.argv", ["findings.py", *map(str, arguments), "--docs", str(docs)])
    findings.main()
    return (docs / "findings-tables.md").read_text(encoding="utf-8")


def test_the_findings_are_written_from_a_study(tmp_path, monkeypatch):
    """One command puts the table of a question into the page and draws its pictures."""
    study = make_study(tmp_path / "study", sizes=(0, 100), seeds=(0, 1))
    rows = write(monkeypatch, tmp_path / "docs", "rows", study)
    # Random rows end 0.1 higher with each seed.
    assert "| random plain | – | +0.100 (+0.100 to +0.100) | worse |" in rows
    # The curves fall in a straight line, and are the same for both.
    assert "| mean plain | 2.005 | 1.942 | 1.880 | 1.755 | 1.630 | 1.505 |" in rows
    assert f"| random plain |{6 * ' +0.000 |'}" in rows
    assert rows.count("\nold\n") == 2
    assert rows.startswith("Above.\n<!-- rows -->\n")
    assert rows.endswith("Below.\n")
    paper = (tmp_path / "docs" / "paper.md").read_text(encoding="utf-8")
    assert "| rows | the paper, average of tasks |" in paper
    tokens = write(monkeypatch, tmp_path / "docs", "tokens", study)
    # The curve of the runs without new tokens is at 1.515 after 97% of their compute.
    # Bold: also among the two comparisons of the table.
    same_text, same_compute = "-0.231 (-0.231 to -0.231)", "-0.238 (-0.301 to -0.174)"
    assert f"| 100 | 2.46 | 1.274 | **{same_text}** | 97.6% | **{same_compute}** |" in tokens
    assert {path.name for path in (tmp_path / "docs" / "pictures").iterdir()} == {
        "rows-kept.svg",
        "rows-result.svg",
        "tokens-size.svg",
        "tokens-fertility.svg",
    }


def test_each_number_of_tokens_has_its_cost_and_the_way_to_equal_quality(tmp_path, monkeypatch):
    """A line has the cost of use, text and compute to the end of no added tokens, and the choice.

    Tokens with a repaired pre-tokenizer are compared with no tokens under the base's own.
    """
    study = make_tokens_study(tmp_path / "study")
    page = write(monkeypatch, tmp_path / "docs", "tokens", study, places="tokens")
    keep, kept, repaired, auto = (line for line in page.splitlines() if "| Hindi |" in line)
    assert keep.endswith("| 100% |  |  |  | 100% | – |")
    assert kept.endswith("| not reached | not reached | 55% | – |")
    assert repaired.endswith("| 44% | **-0.375 (-0.439 to -0.311)** | 80% | 35% | 27.5% | – |")
    assert "| 2,000 (auto) |" in auto
    assert (
        "- Hindi, auto: `size: auto` chose 2,000 tokens and ends -0.050 (-0.050 to -0.050) bits "
        "per byte from the best of the other sizes, 500.\n"
    ) in page


def test_rows_have_a_table_for_each_language_and_one_for_all(tmp_path, monkeypatch, capsys):
    """The page has the means over languages, and a column of each; its own table is printed."""
    study = make_study(tmp_path / "study", sizes=(0,), seeds=(0, 1))
    record = json.loads((study / STUDY).read_text(encoding="utf-8"))
    for cell, language in zip(record["cells"], cycle(("hi", "tr")), strict=False):
        cell["labels"]["language"] = language
    (study / STUDY).write_text(json.dumps(record), encoding="utf-8")
    page = write(monkeypatch, tmp_path / "docs", "rows", study, places="rows")
    assert "2 languages" in page
    assert "| after training, compared with mean plain | Hindi | Turkish |" in page
    hindi, turkish = capsys.readouterr().out.split("Turkish:")
    assert hindi.startswith("Hindi:")
    assert "1 language" in hindi
    assert "1 language" in turkish


def test_the_page_has_the_tables_of_the_kept_measurements(tmp_path, monkeypatch, capsys):
    """What is kept in benchmarks/measured makes the table and the pictures of the pages again."""
    measured = ROOT / "benchmarks/measured"
    kept = [*sorted(measured.glob("study-rows-*")), *sorted(measured.glob("distilled-*"))]
    write(monkeypatch, tmp_path, "rows", *kept, places="rows")
    of_languages = capsys.readouterr().out.split("\n\n| rows | before training", 1)[0]
    assert of_languages.strip() in (ROOT / "benchmarks/results.md").read_text("utf-8")
    for page in ("findings-tables", "paper"):
        made = (tmp_path / f"{page}.md").read_text(encoding="utf-8").removeprefix("Above.\n")
        assert made.removesuffix("Below.\n") in (ROOT / f"docs/{page}.md").read_text("utf-8")
    for picture in (tmp_path / "pictures").iterdir():
        assert (ROOT / "docs/pictures" / picture.name).is_file()


def test_the_page_has_the_table_of_the_kept_study_of_tokens(tmp_path, monkeypatch):
    """The kept studies make the tables of both pages again."""
    sizes = ("30000-hi", "30000-keep-hi", "30000-tr")
    names = ("study-tokens", *(f"study-tokens-{size}" for size in sizes))
    kept = [ROOT / "benchmarks/measured" / name for name in names]
    write(monkeypatch, tmp_path, "tokens", *kept, places="tokens")
    for page in ("findings-tables", "paper"):
        made = (tmp_path / f"{page}.md").read_text(encoding="utf-8").removeprefix("Above.\n")
        assert made.removesuffix("Below.\n") in (ROOT / f"docs/{page}.md").read_text("utf-8")
    for picture in (tmp_path / "pictures").iterdir():
        assert (ROOT / "docs/pictures" / picture.name).is_file()


def test_results_have_the_table_of_the_kept_study_of_forgetting(tmp_path, monkeypatch, capsys):
    """The printed tables are those in results.md, line by line."""
    kept = ROOT / "benchmarks/measured/study-forgetting"
    write(monkeypatch, tmp_path, "forgetting", kept)
    printed = capsys.readouterr().out.strip()
    # The last column averages the four languages within a seed.
    assert "| 40% replay | 94.2% (87.3% to 101.0%) |" in printed
    assert "| 92.0% (89.6% to 94.4%) |" in printed
    # A language with a small gain counts less in the mean gain.
    assert "| 40% replay | 96.6% (96.1% to 97.1%) |" in printed
    assert {path.name for path in (tmp_path / "pictures").iterdir()} == {
        "forgetting-kept.svg",
        "forgetting-learned.svg",
    }
    assert printed in (ROOT / "benchmarks/results.md").read_text(encoding="utf-8")


def test_the_bases_that_come_with_lingraft_need_no_study(tmp_path, monkeypatch):
    """Without a source, the tables are of the runs that `advise` reads."""
    page = write(monkeypatch, tmp_path / "docs", "bases", places="bases")
    assert "| 1M-5 | 0.2M-5 | +0.001 (-0.017 to +0.020) |" in page


def test_the_findings_are_written_from_compared_recipes(tmp_path, monkeypatch):
    """What `recipes_compare.py` printed becomes a column for each language."""
    compared = tmp_path / "hi.txt"
    compared.write_text(COMPARED, encoding="utf-8")
    page = write(monkeypatch, tmp_path / "docs", "recipes", compared, compared)
    assert "| bits per byte | Hindi | Hindi |" in page
    assert "| paper's recipe, difference | +0.109 (+0.061 to +0.157) |" in page
    assert "| no new tokens, equal compute | +0.063 (-0.030 to +0.156) |" in page
    picture = (tmp_path / "docs" / "pictures" / "recipes-english.svg").read_text(encoding="utf-8")
    assert "Hindi, paper's recipe +1.166" in picture


def test_an_order_is_claimed_only_where_the_intervals_support_it():
    """A value is better, worse or equal by intervals that share the 5% of all values."""
    pairs = [(("hi",), seed) for seed in range(4)]
    first = dict.fromkeys(pairs, 1.0)

    def compared(*values, tests=1):
        second = dict(zip(pairs, values, strict=False))
        return findings.verdict(findings.difference(first, second), tests)

    assert compared(0.9, 0.91, 0.9, 0.89) == "better"
    assert compared(1.001, 1.002, 1.0, 0.999) == "equal within 0.01"
    assert compared(1.02, 1.04, 1.03, 1.03) == "worse"
    assert compared(1.02, 1.04, 1.03, 1.03, tests=1000) == "no order"
    assert compared(0.5) == "one seed: no order"


def test_languages_are_averaged_within_a_seed():
    """The sample of a difference over several languages is its seeds."""
    first = {((language,), seed): 0.0 for language in ("hi", "tr") for seed in range(3)}
    second = {(place, seed): seed + (place == ("tr",)) for place, seed in first}
    found = findings.difference(first, second)
    assert (found.value, found.n) == (1.5, 3)
    assert found.spread == pytest.approx(1 / math.sqrt(3))
    # A seed without one of the languages is left out, also if it has another one instead.
    del second[("tr",), 0]
    assert findings.difference(first, second).n == 2
    first[("ar",), 0], second[("ar",), 0] = 0.0, 5.0
    assert findings.difference(first, second) is None


def test_a_folder_that_is_no_study_is_refused(tmp_path, monkeypatch):
    """Nothing is written from a study that has not ended."""
    with pytest.raises(StoreError, match="not a finished study"):
        write(monkeypatch, tmp_path / "docs", "rows", tmp_path)
    assert "old" in (tmp_path / "docs" / "findings-tables.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "places"),
    [
        ("findings-tables", "rows;tokens;bases;recipes"),
        ("paper", "rows;tokens"),
    ],
)
def test_a_page_has_a_place_for_each_table(name, places):
    """The pages have the comments between which the script writes."""
    page = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    for place in places.split(";"):
        assert f"<!-- {place} -->\n\nnew\n\n<!--" in findings.put_into(page, place, "new")
