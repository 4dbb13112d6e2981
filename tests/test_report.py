"""The report: its sentences follow from the numbers, it is self-contained, and text is escaped."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from lingraft.display_text import plain
from lingraft.errors import StoreError
from lingraft.evaluation.byte_positions import position_metric
from lingraft.measurement import Measurement, metric_changes, write_measurements
from lingraft.pipeline.run_files import read_run
from lingraft.pipeline.run_summary import answer
from lingraft.pretokenizer import ScriptChange
from lingraft.pretokenizer.change import ConsideredPretokenizer, PretokenizerChange
from lingraft.report import compare_runs, write_report
from lingraft.report.charts import Chart, difference_dots, interval_dots
from lingraft.report.inlined_svg import inlined
from lingraft.report.token_boxes import token_boxes
from lingraft.report.training_chart import training_chart
from lingraft.splice import AddedToken, identity_splice
from lingraft.strategies.base import Rates
from lingraft.training.phase_outline import PhaseOutline

HOSTILE = (
    "<script>alert(1)</script>",
    "\"' onload=alert(1) x='",
    "</style><b>",
    "</title><img src=x onerror=alert(1)>",
    "a\u202egnp.exe",
    "a\x00b\x1bc",
    "{{ 7 * 77777 }}",
    "\ud800",
    "]]>&lt;&#60;",
)
OPTIONAL = (
    "training.jsonl",
    "splice.json",
    "certificate.json",
    "samples.json",
    "generated.json",
    "recipe.yaml",
)


def measured(metric, subject, value, language, width=0.1):
    return Measurement(
        metric,
        subject,
        value,
        "",
        language,
        n=26,
        low=value - width,
        high=value + width,
        confidence=0.95,
    )


def rows(after_hi=1.20, change=(-0.6, -0.5), target="hi", fertility="tokens per word"):
    found = []
    for language, tokens, bits in (
        (target, (13.1, 1.76), (1.75, after_hi)),
        ("en", (1.54, 1.54), (1.64, 1.84)),
    ):
        for subject, index in (("source", 0), ("spliced", 1), ("adapted", 1)):
            found += [
                measured(
                    fertility if language == target else "tokens per word",
                    subject,
                    tokens[index],
                    language,
                ),
                measured("bits per byte", subject, bits[index], language),
            ]
        low, high = change if language == target else (0.15, 0.25)
        found.append(
            Measurement(
                "bits per byte change",
                "adapted",
                bits[1] - bits[0],
                "bits/byte",
                language,
                n=26,
                low=low,
                high=high,
                confidence=0.95,
            )
        )
    return found


def at_level(found, level):
    """Return measurements whose intervals have another level."""
    return [replace(row, confidence=level) for row in found]


def test_captions_state_the_level_of_the_intervals(tmp_path):
    """Page, charts and comparison name the level that a run set, also where two runs differ."""
    positions = []
    for metric in map(position_metric, ((0, 64), (64, 128))):
        positions += [measured(metric, name, 2.0, "hi") for name in ("source", "adapted")]
    narrow = make_run(tmp_path / "narrow", measurements=at_level([*rows(), *positions], 0.8))
    usual = make_run(tmp_path / "usual")
    page = write_report(narrow).read_text(encoding="utf-8")
    assert "its 80% interval over documents" in page
    assert "Vertical lines: 80% intervals over documents" in page
    assert "95% interval over documents" not in page
    both = compare_runs([narrow, usual], tmp_path / "both.html").read_text(encoding="utf-8")
    assert both.count("80% intervals") == both.count("95% intervals") == 1
    bare = [replace(row, low=None, high=None, confidence=None) for row in rows()]
    without = make_run(tmp_path / "without", measurements=bare)
    assert "Thin line" not in write_report(without).read_text(encoding="utf-8")


def outline_of(word):
    """Return the outline of a phase of 78 steps."""
    return PhaseOutline(78, 256, f"least {word}", 5, "at least 5 steps", Rates(2e-4, 2e-3, word))


def make_run(folder, *, word="plain", language="hi", measurements=None, warnings=()):
    """Write a finished run with `word` in every field that a corpus, a hub or a recipe can fill."""
    folder.mkdir(parents=True, exist_ok=True)
    record = {
        "format": 1,
        "key": "k" + word,
        "name": f"run {word}",
        "source": f"english-8m {word}",
        "language": language,
        "replay_language": "en",
        "recipe": {"seed": 0, "note": word},
        "device": f"cpu {word}",
        "stages": [
            {
                "name": "corpus",
                "title": f"text {word}",
                "key": word,
                "cached": True,
                "seconds": 1.5,
                "notes": {
                    "dropped": {f"duplicate {word}": {"documents": 61, "bytes": 1663}},
                    word: [1, word],
                },
            },
            {
                "name": "embeddings",
                "title": "embeddings",
                "key": "e",
                "cached": False,
                "seconds": 90,
                "notes": {
                    "inits": {
                        "input": {"method": {"mean": {}}, "origins": {f"subtoken mean {word}": 2}}
                    }
                },
            },
            {
                "name": "training",
                "title": "training",
                "key": "t",
                "cached": False,
                "seconds": 90,
                "notes": {
                    "tokens": 19_968,
                    "bytes": 120_000,
                    "replay_share": 0.2,
                    "steps": 78,
                    "parameters": 8_883_456,
                    "precision": "float32",
                    "device": "cpu",
                    "phases": [
                        {
                            "strategy": {"differential": {}},
                            "schedule": {"cosine": {}},
                            "steps": 78,
                            **outline_of(word).notes(),
                        }
                    ],
                },
            },
        ],
        "versions": {"lingraft": "0.1.0", "python": word},
        "started": "2026-01-01T00:00:00Z",
        "finished": "2026-01-01T00:03:00Z",
        "warnings": [*warnings, f"warning {word}"],
    }
    (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    write_measurements(
        rows(target=language) if measurements is None else measurements,
        folder / "measurements.parquet",
    )
    steps = [
        {
            "step": i,
            "bytes": 1000 * i,
            "target_bits_per_byte": 2 - i / 20,
            "replay_bits_per_byte": 1.7,
            "bits_per_byte": 1.8,
        }
        for i in range(1, 9)
    ]
    heldout = [
        {"step": i, "bytes": 1000 * i, "heldout": {language: 1.8 - i / 30, "en": 1.6}}
        for i in (0, 4, 8)
    ]
    (folder / "training.jsonl").write_text(
        "\n".join(map(json.dumps, steps + heldout)) + "\n", encoding="utf-8"
    )
    surface = f"so {word}".encode("utf-8", "replace")
    splice = identity_splice(
        300, (AddedToken(300, surface, (1, 2), 9), AddedToken(301, "है".encode(), (3,), 7))
    )
    (folder / "splice.json").write_text(splice.dumps(), encoding="utf-8")
    change = PretokenizerChange(
        f"why {word}",
        "mark-aware",
        f"effect {word}",
        (f"before {word}",),
        (f"after {word}",),
        (ScriptChange(f"Thai {word}", 24, 15),),
        reinitialised=7,
        considered=(ConsideredPretokenizer("qwen35", 0.12, 0.0, 0, "qwen35"),),
    )
    (folder / "pretokenizer.json").write_text(json.dumps(change.as_json()), encoding="utf-8")
    claims = [
        {
            "name": f"base ids kept {word}",
            "holds": True,
            "value": 0,
            "of": 300,
            "unit": "tokens",
            "fatal": True,
            "detail": f"all keep their place {word}",
        },
        {
            "name": "added tokens used",
            "holds": False,
            "value": 2,
            "of": 9,
            "unit": word,
            "fatal": False,
            "detail": word,
        },
    ]
    (folder / "certificate.json").write_text(
        json.dumps({"format": 1, "claims": claims}), encoding="utf-8"
    )
    samples = [
        {
            "text": f"क{word}",
            "language": language,
            "source": [[1, "\\xe0\\xa4"], [2, "\\x95"], [3, word]],
            "target": [[301, "क"], [300, word]],
        }
    ]
    (folder / "samples.json").write_text(json.dumps(samples), encoding="utf-8")
    generated = [
        {
            "subject": subject,
            "language": language,
            "prompt": f"क {word}",
            "text": f"{subject} {word}",
        }
        for subject in ("source", "adapted")
    ]
    (folder / "generated.json").write_text(json.dumps(generated), encoding="utf-8")
    (folder / "recipe.yaml").write_text(f"name: {word}\n", encoding="utf-8", errors="replace")
    return folder


def html_of(folder: Path) -> str:
    return write_report(folder).read_text(encoding="utf-8")


class Outline(HTMLParser):
    """The elements of a page with their attributes."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.words = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def test_one_page_that_needs_nothing_beside_it(tmp_path):
    """No script, no address, a policy that forbids both, and less than a megabyte."""
    folder = make_run(tmp_path / "run")
    path = write_report(folder)
    page = path.read_text(encoding="utf-8")
    assert path == folder / "report.html"
    assert len(page) < 500_000
    outline = Outline(page)
    assert not outline.all("script")
    assert not outline.all("link")
    links = [
        value
        for _, attributes in outline.elements
        for name, value in attributes.items()
        if name in {"href", "src", "xlink:href"}
    ]
    assert all(link.startswith("#") for link in links)
    assert outline.all("meta")[1]["content"].startswith(
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    )
    assert sorted(file.name for file in (folder / "charts").iterdir()) == [
        "fertility.png",
        "fertility.svg",
        "training.png",
        "training.svg",
    ]
    assert all(
        (folder / "charts" / name).stat().st_size > 2000
        for name in ("fertility.png", "training.svg")
    )


def test_the_page_says_how_the_training_was_set(tmp_path):
    """Steps, tokens per step, warm-up and peak rates of each phase are on it, with reasons."""
    page = write_report(make_run(tmp_path / "run")).read_text(encoding="utf-8")
    assert f"<p>Training: {outline_of('plain').line}.</p>" in page


def test_the_order_of_the_sections_and_their_landmarks(tmp_path):
    """Warnings come first, then question and answer; sections, tables and charts have names."""
    outline = Outline(html_of(make_run(tmp_path / "run")))
    assert [section["id"] for section in outline.all("section")] == [
        "warnings",
        "answer",
        "numbers",
        "forgetting",
        "context",
        "predictions",
        "charts",
        "sentences",
        "writing",
        "certificate",
        "added",
        "text",
        "stages",
        "provenance",
    ]
    assert len(outline.all("main")) == len(outline.all("h1")) == 1
    assert len(outline.all("caption")) == len(outline.all("table"))
    assert all(header.get("scope") in {"row", "col"} for header in outline.all("th"))
    drawings = outline.all("svg")
    assert [drawing["role"] for drawing in drawings] == ["img", "img"]
    assert "Hindi 13.1 before, 1.76 after" in drawings[0]["aria-label"]
    names = [attributes["id"] for _, attributes in outline.elements if "id" in attributes]
    assert len(names) == len(set(names))


@pytest.fixture(scope="module")
def harmless(checked_charts, tmp_path_factory):
    return Outline(html_of(make_run(tmp_path_factory.mktemp("harmless"))))


def test_every_chart_is_valid_vega_lite(harmless, checked_charts):
    """The schema of Vega-Lite permits every chart of a run's page, which is drawn unchecked."""
    assert len(checked_charts) >= len(harmless.all("svg")) > 1


@pytest.mark.parametrize("word", HOSTILE)
def test_foreign_text_cannot_steer_the_page(tmp_path, harmless, word):
    """Whatever stands in a name, corpus, token, recipe, claim or note is shown and does nothing."""
    folder = make_run(tmp_path / "run", word=word)
    page = html_of(folder)
    outline = Outline(page)
    assert [(tag, sorted(attributes)) for tag, attributes in outline.elements] == [
        (tag, sorted(attributes)) for tag, attributes in harmless.elements
    ]
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", page)
    assert plain(word) in "".join(outline.words)
    assert "544439" not in "".join(outline.words)


@pytest.mark.parametrize("word", HOSTILE)
def test_a_hostile_language_cannot_steer_the_charts(tmp_path, word):
    """Charts are drawn with what stands in the measurements, and the drawing stays a drawing."""
    if word == "\ud800":
        pytest.skip("parquet holds no lone surrogates")
    folder = make_run(tmp_path / "run", language=word)
    outline = Outline(html_of(folder))
    assert not {"script", "img", "b", "image", "a:href"} & {tag for tag, _ in outline.elements}
    assert not any(
        name.startswith("on") for _, attributes in outline.elements for name in attributes
    )
    for name in ("fertility", "training"):
        ET.parse(folder / "charts" / f"{name}.svg")


def test_each_target_language_has_its_training_curve(tmp_path):
    """A step with text of one of the languages is a point of this one alone."""
    folder = make_run(tmp_path / "run", language="hi")
    record = json.loads((folder / "run.json").read_text())
    record["recipe"]["extra_targets"] = [{"language": "ta"}]
    (folder / "run.json").write_text(json.dumps(record))
    steps = []
    for step in range(1, 9):
        tag, value = ("hi", 1.5) if step % 4 else ("ta", 2.5)
        targets = {tag: {"bytes": 1000, "bits_per_byte": value}}
        of_all = {"bits_per_byte": value, "target_bits_per_byte": value}
        steps.append({"step": step, "bytes": 1000 * step, **of_all, "targets": targets})
    (folder / "training.jsonl").write_text("\n".join(map(json.dumps, steps)) + "\n")
    chart = training_chart(read_run(folder))
    assert chart is not None
    points = chart.declared.to_dict()["data"]["values"]
    drawn = {(point["language"], point["bytes"], point["value"]) for point in points}
    assert drawn == {
        ("Tamil" if step % 4 == 0 else "Hindi", 1000 * step, 1.5 if step % 4 else 2.5)
        for step in range(1, 9)
    }


def test_an_inlined_drawing_keeps_only_shapes():
    """Scripts, links, events and foreign elements are removed; ids contain the chart's name."""
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" onload="x()"><script>x()</script>'
        '<defs><clipPath id="c"/></defs><a href="javascript:x()"><text>lost</text></a>'
        '<g clip-path="url(#c)"><text>kept</text></g></svg>'
    )
    made = inlined(svg, "one", 'a "label"')
    assert "x()" not in made
    assert "lost" not in made
    assert "kept" in made
    assert 'id="one-0"' in made
    assert "url(#one-0)" in made
    assert 'aria-label="a &quot;label&quot;"' in made


def leave_out(folder, name):
    """Remove a file of a run; without its log, the run did not train."""
    (folder / name).unlink()
    if name == "training.jsonl":
        record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        record["stages"] = [stage for stage in record["stages"] if stage["name"] != "training"]
        (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")


@pytest.mark.parametrize("absent", [*OPTIONAL, None])
def test_what_a_recipe_leaves_out_is_said(tmp_path, absent):
    """A stage that did not apply leaves no file; the page says so and is whole."""
    folder = make_run(tmp_path / "run")
    for name in OPTIONAL if absent is None else (absent,):
        leave_out(folder, name)
    page = html_of(folder)
    said = {
        "training.jsonl": "the recipe has no training",
        "splice.json": "no splice.json",
        "certificate.json": "no certificate.json",
        "samples.json": "samples.json is missing",
        "generated.json": "No text was generated",
        "recipe.yaml": "no recipe.yaml",
    }
    for name, sentence in said.items():
        assert (sentence in page) == (absent in {name, None})
    assert page.rstrip().endswith("</html>")


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    """Without run.json or measurements there is nothing to report; the message says what to do."""
    with pytest.raises(StoreError, match="lingraft adapt"):
        write_report(tmp_path)
    folder = make_run(tmp_path / "run")
    (folder / "training.jsonl").rename(tmp_path / "log")
    with pytest.raises(StoreError, match=r"training.jsonl: missing, and the run has trained"):
        write_report(folder)
    (tmp_path / "log").rename(folder / "training.jsonl")
    (folder / "samples.json").write_text("{", encoding="utf-8")
    with pytest.raises(StoreError, match=r"samples.json, line 1: not JSON"):
        write_report(folder)
    (folder / "samples.json").unlink()
    (folder / "measurements.parquet").write_bytes(b"nothing")
    with pytest.raises(StoreError, match="not a table of measurements"):
        write_report(folder)
    (folder / "measurements.parquet").unlink()
    with pytest.raises(StoreError, match=r"measurements.parquet: missing"):
        write_report(folder)


def sentences(tmp_path, measurements):
    run = read_run(make_run(tmp_path / "run", measurements=measurements))
    return answer(run, metric_changes(run.measurements))


def test_a_changed_pre_tokenizer_is_stated(tmp_path):
    """The page states a changed pre-tokenizer: before and after, the reason, and who loads it."""
    folder = make_run(tmp_path / "run")
    page = html_of(folder)
    for words in (
        "pre-tokenizer changed (mark-aware: effect plain): why plain; 7 base tokens reinitialised",
        "not in llama.cpp",
        "before plain",
        "after plain",
        "Thai plain 24 -&gt; 15",
        "tokens, changes the ids of 0 compared base-language documents, qwen35 in llama.cpp",
    ):
        assert words in page, words
    (folder / "pretokenizer.json").unlink()  # a run of an earlier version has none
    assert "why plain" not in html_of(folder)


def test_the_answer_is_made_from_the_numbers(tmp_path):
    """The answer has tokens as a factor, bits per byte with interval, forgetting and claims."""
    said = sentences(tmp_path, rows())
    assert said[0] == (
        "english-8m plain needs 7.44 times fewer tokens for Hindi "
        "(13.1 before, 1.76 after, tokens per word, on 26 documents)."
    )
    assert said[1] == (
        "Bits per byte on Hindi fell from 1.75 to 1.20 "
        "(lower is better; 95% interval of the change: -0.600 to -0.500; on 26 documents)."
    )
    assert said[2].startswith("Bits per byte on English rose from 1.64 to 1.84")
    assert said[-1] == (
        "The certified claim about the tokenizer holds. For information only, these hold in part: "
        "added tokens used (except 2 of 9)."
    )


def test_the_answer_stays_within_the_intervals(tmp_path):
    """If the interval of a change contains 0 or intervals overlap, no fall or rise is claimed."""
    said = sentences(tmp_path, rows(after_hi=1.74, change=(-0.05, 0.03)))
    unclear = "Bits per byte on Hindi shows no detectable change (from 1.75 to 1.74, on 26"
    assert said[1] == f"{unclear} documents)."
    near = [
        measured("tokens per word", subject, value, "hi", 0.3)
        for subject, value in (("source", 2.0), ("adapted", 1.9))
    ]
    assert "the two intervals over documents overlap" in sentences(tmp_path, near)[0]
    bare = [
        Measurement("tokens per word", subject, value, "", "hi", n=26)
        for subject, value in (("source", 3.0), ("adapted", 1.0))
    ]
    assert "measured without an interval" in sentences(tmp_path, bare)[0]
    assert "was not measured" in sentences(tmp_path, [])[0]


def test_the_unit_of_each_text_is_named(tmp_path):
    """Text without spaces is counted per character, and a chart with words too names both."""
    mixed = rows(target="th", fertility="tokens per character")
    folder = make_run(tmp_path / "run", language="th", measurements=mixed)
    run = read_run(folder)
    said = answer(run, metric_changes(run.measurements))
    assert "(13.1 before, 1.76 after, tokens per character, on 26 documents)" in said[0]
    page = html_of(folder)
    assert '<th scope="row">tokens per character' in page.replace("\n", "")
    drawn = (folder / "charts" / "fertility.svg").read_text()
    assert (
        "<title>Bar chart of tokens per unit: Thai, per character 13.1 before, 1.76 after; "
        "English, per word 1.54 before" in drawn
    )
    alone = [row for row in mixed if row.language == "th"]
    html_of(make_run(tmp_path / "alone", language="th", measurements=alone))
    drawn = (tmp_path / "alone" / "charts" / "fertility.svg").read_text()
    assert "<title>Bar chart of tokens per character: Thai 13.1 before" in drawn


def test_few_documents_make_no_better_or_worse(tmp_path):
    """With fewer than 20 documents nothing is called better: the answer says how many there are."""
    few = [replace(row, n=1) for row in rows()]
    folder = make_run(tmp_path / "run", measurements=few)
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    notes = {"hi": {"documents": 1, "bytes": 48_200}}
    record["stages"].append({"name": "evaluation", "title": "evaluation", "notes": notes})
    (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    run = read_run(folder)
    said = answer(run, metric_changes(run.measurements))
    tail = "measured on 1 document (48.2 kB): too few to say better or worse (at least 20)."
    assert said[0] == f"Tokens per word on Hindi went from 13.1 to 1.76, {tail}"
    assert said[1] == f"Bits per byte on Hindi went from 1.75 to 1.20, {tail}"
    page = html_of(folder)
    assert "▲ better" not in page
    assert "▼ worse" not in page
    assert "fewer than 20: too few" in page


def test_text_in_another_script_is_not_called_by_its_language(tmp_path):
    """The answer begins with what the text is, and says nothing about the language it was given."""
    folder = make_run(tmp_path / "run", language="te")
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    record["wrong_scripts"] = [
        {"language": "te", "expected": "Telugu", "found": "Devanagari", "share": 0.97}
    ]
    (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    run = read_run(folder)
    said = answer(run, metric_changes(run.measurements))
    assert said[0] == (
        "The text given as Telugu has 97% of its letters in Devanagari, not in Telugu: the results "
        "say nothing about Telugu."
    )
    assert "fewer tokens for the text given as Telugu (" in said[1]
    assert said[2].startswith("Bits per byte on the text given as Telugu fell")


def test_notes_of_stages_are_in_words(tmp_path):
    """Counts of a stage have words on the page; no key of run.json is shown."""
    folder = make_run(tmp_path / "run")
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    source = {"dropped": {"duplicate": {"documents": 3}}, "kept": {"train": {"bytes": 77}}}
    record["stages"][0]["notes"] = {"sources": [source], "phases": [{"rows_of_a_step": 8}]}
    record["recipe"]["target"] = {"corpus": [{"miniature": {"seed": 5}}]}
    (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    page = html_of(folder)
    assert 'href="#received"' not in page
    assert "<dt>seed, miniature, first source, target</dt><dd>5</dd>" in page
    assert "<dt>duplicate documents dropped, first source</dt><dd>3</dd>" in page
    assert "<dt>bytes kept for training, first source</dt><dd>77</dd>" in page
    assert "<dt>sequences in a step, first phase</dt><dd>8</dd>" in page
    assert "sources.0" not in page


def test_several_target_languages_are_each_answered(tmp_path):
    """A run on two languages tells of both, and its title names both."""
    folder = make_run(tmp_path / "run", measurements=[*rows(), *rows(target="ta")])
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    record["recipe"]["extra_targets"] = [{"language": "ta"}]
    (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    page = html_of(folder)
    assert "Hindi, Tamil on" in page
    assert "Bits per byte on Tamil fell" in page
    assert "read and predict Hindi and Tamil better" in page


def test_the_boxes_of_a_sentence_tell_bytes_from_text():
    r"""Tokens are matched along the text: \xe0 in the text is text, a split character is bytes."""
    text = "\\xe0 क"
    found = token_boxes(text, [[1, "\\xe0"], [2, " \\xe0\\xa4"], [3, "\\x95"]], frozenset({3}))
    assert [(box.shown, box.is_bytes, box.is_added) for box in found] == [
        ("\\xe0", False, False),
        ("␣E0 A4", True, False),
        ("95", True, True),
    ]


def test_sentences_are_whole_once_and_then_cut(tmp_path):
    """A joining script stays readable; counts, direction and language are said."""
    folder = make_run(tmp_path / "run", language="ar")
    arabic = [
        {
            "text": "مرحبا بكم",
            "language": "ar",
            "source": [[1, "م"], [2, "\\xd8"], [3, "\\xb1"]],
            "target": [[300, "مرحبا"], [2, " بكم"]],
        }
    ]
    (folder / "samples.json").write_text(json.dumps(arabic), encoding="utf-8")
    page = html_of(folder)
    assert '<p class="whole" dir="auto" lang="ar">مرحبا بكم</p>' in page
    assert '<ol class="cut" dir="rtl" lang="ar">' in page
    assert "3 → 2 tokens" in page
    assert '<li class="c0 new">مرحبا</li>' in page


def test_what_the_models_write_stands_below_its_prompt(tmp_path):
    """Each prompt is shown once, with every model's own words after it."""
    page = html_of(make_run(tmp_path / "run", language="ar"))

    words = Outline(page).words
    assert words.count("क plain") == 1
    assert [word for word in words if word in {"source plain", "adapted plain"}] == [
        "source plain",
        "adapted plain",
    ]


def test_forgetting_and_predictions_have_their_tables(tmp_path):
    """Forgetting has its interval, and a prediction is next to the measured value."""
    folder = make_run(tmp_path / "run")
    row = {
        "metric": "bits per byte",
        "language": "hi",
        "unit": "bits/byte",
        "value": 1.26,
        "low": 1.1,
        "high": 1.4,
        "known": "the first fifth <b>",
    }
    (folder / "prediction.json").write_text(
        json.dumps({"format": 1, "rows": [row]}), encoding="utf-8"
    )
    page = html_of(folder)
    lost = page[page.index('id="forgetting"') : page.index('id="predictions"')]
    assert re.findall(r"<td>(\w+)</td>", lost) == ["spliced", "adapted"]
    assert "+0.200" in lost
    assert "+0.150 to +0.250" in lost
    predicted = page[page.index('id="predictions"') : page.index('id="charts"')]
    assert "+5.0%" in predicted
    assert "✓ yes" in predicted
    assert "fifth &lt;b&gt;" in predicted


def test_without_the_packages_that_draw_the_page_says_so(tmp_path, monkeypatch, capsys):
    """Without altair or vl-convert a run finishes; its page says how to get the charts later."""
    folder = make_run(tmp_path / "run")
    with monkeypatch.context() as node:
        node.setitem(sys.modules, "vl_convert", None)
        undrawn = html_of(folder)
    assert "<figure" not in undrawn
    assert "There are no charts: the packages that draw them" in undrawn
    assert not (folder / "charts").exists()
    assert "vl_convert not installed); to draw them, copy the folder" in capsys.readouterr().err
    drawn = html_of(folder)
    assert "<figure" in drawn
    assert "There are no charts" not in drawn


def test_what_models_learn_from_their_context_has_a_section(tmp_path):
    """Gains and positions have tables and charts of their own; a missing ability is named."""
    gains, spans = ("copying gain", "mapping gain"), ((0, 64), (64, 128))
    found = rows()
    for subject in ("source", "adapted"):
        found += [measured(gain, subject, 0.05, "", width=0.1) for gain in gains[:1]]
        found += [measured(gain, subject, 2.3, "", width=0.1) for gain in gains[1:]]
        found += [measured(position_metric(span), subject, 1.5, "hi") for span in spans]
    folder = make_run(tmp_path / "run", measurements=found)
    point = {"gain": 2.25, "low": 2.0, "high": 2.5}
    gain = "in-context gain at bytes 512 to 1,024 in hi"
    points = {"copying gain": point, gain: {**point, "n": 19, "bits_per_byte": 1.0}}
    records = [{"step": i, "bytes": i * 9, "in_context": points} for i in (0, 4)]
    (folder / "training.jsonl").write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    page = write_report(folder).read_text(encoding="utf-8")
    section = page[page.index('id="context"') : page.index('id="predictions"')]
    others = page.replace(section, "")
    for metric in (*gains, *map(position_metric, spans)):
        assert f">{metric}<br>" in section
        assert f">{metric}<br>" not in others
    assert "The source has no copying gain above 0 by its interval" in section
    assert (folder / "charts" / "positions.svg").is_file()
    probes, documents = (
        (folder / "charts" / f"{name}.svg").read_text()
        for name in ("in-context", "in-context-documents")
    )
    assert "training: copying gain from 2.25 to 2.25." in probes
    assert "training: Hindi, bytes 512 to 1,024 from 2.25 to 2.25." in documents
    assert "Hollow: fewer than 20 documents are this long." in page


def test_charts_of_an_earlier_report_do_not_stay(tmp_path):
    """The charts folder has the charts of this report only, each file with a title in words."""
    folder = make_run(tmp_path / "run")
    html_of(folder)
    assert (
        "<title>Bar chart of tokens per word: Hindi 13.1 before"
        in (folder / "charts" / "fertility.svg").read_text()
    )
    leave_out(folder, "training.jsonl")
    html_of(folder)
    assert sorted(file.name for file in (folder / "charts").iterdir()) == [
        "fertility.png",
        "fertility.svg",
    ]


def test_runs_side_by_side(tmp_path):
    """One page compares runs; what one of them did not measure is said."""
    first, second = (
        make_run(tmp_path / "a", word="<one>"),
        make_run(tmp_path / "b", measurements=rows()[:7]),
    )
    page = compare_runs([first, second], tmp_path / "out" / "both.html").read_text(encoding="utf-8")
    assert "run &lt;one&gt;" in page
    assert "not measured" in page
    with pytest.raises(StoreError, match="two runs or more"):
        compare_runs([first], tmp_path / "one.html")


def test_a_report_is_written_without_torch(tmp_path):
    """A report of a finished run needs no deep-learning library, and says the same each time."""
    folder = make_run(tmp_path / "run")
    code = (
        "import sys; from pathlib import Path; from lingraft.report import write_report; "
        "write_report(Path(sys.argv[1])); assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True, timeout=120)
    assert (folder / "report.html").read_text(encoding="utf-8") == html_of(folder)


PROBE = """<script>addEventListener('load', () => { const frame = document.querySelector('iframe');
const drawings = [...frame.contentDocument.querySelectorAll('figure svg')];
const seen = drawings.map(svg => svg.getBoundingClientRect());
const wide = frame.contentDocument.documentElement.scrollWidth;
const sizes = seen.map(box => [box.width, box.height]);
document.body.dataset.seen = JSON.stringify({wide, sizes}); });</script>
<iframe src="report.html" width="390" height="800" style="border:0"></iframe>"""


def test_a_browser_shows_it(tmp_path):
    """Chromium opens the page without errors; a phone needs no horizontal scrolling."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium on this machine")
    folder = make_run(
        tmp_path / "run",
        word="a_very_long_word_that_has_no_space_in_it_and_is_wider_than_a_phone_is",
    )
    write_report(folder)
    (folder / "probe.html").write_text(PROBE, encoding="utf-8")
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--enable-logging=stderr",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--dump-dom",
        "--allow-file-access-from-files",
        "--virtual-time-budget=3000",
        f"--user-data-dir={tmp_path / 'profile'}",
    ]
    done = subprocess.run(
        [browser, *flags, (folder / "probe.html").as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "CONSOLE" not in done.stderr
    seen = json.loads(re.search(r'data-seen="([^"]*)"', done.stdout)[1].replace("&quot;", '"'))
    assert len(seen["sizes"]) == 2
    assert all(width > 100 and height > 60 for width, height in seen["sizes"])
    assert seen["wide"] <= 390


def test_a_diverged_run_still_gets_its_report(tmp_path):
    """A measurement that is not a number is shown as such and left out of the charts."""
    folder = make_run(tmp_path / "run", measurements=rows(after_hi=float("nan")))
    with (folder / "training.jsonl").open("a", encoding="utf-8") as log:
        log.write(
            '{"step": 99, "steps": 99, "bytes": 99000, '
            '"bits_per_byte": NaN, "target_bits_per_byte": NaN}\n'
        )
    page = write_report(folder).read_text(encoding="utf-8")
    assert "not a number" in page


def test_a_file_that_is_not_utf8_is_named(tmp_path):
    """Damage in an optional file is one line with its name, not a traceback."""
    folder = make_run(tmp_path / "run")
    (folder / "certificate.json").write_bytes(b"\xff\xfe")
    with pytest.raises(StoreError, match=r"certificate\.json: not UTF-8"):
        write_report(folder)


def test_the_curve_of_the_vocabulary_is_drawn(tmp_path):
    """Tokens of the text against added tokens are a chart, with the chosen size marked."""
    folder = make_run(tmp_path / "run")
    (folder / "curve.json").write_text(
        '{"added": [0, 100, 300], "tokens": [1000, 400, 250]}', encoding="utf-8"
    )
    page = write_report(folder).read_text(encoding="utf-8")
    assert "300 added tokens reduce the text to 25% of its tokens" in page
    assert (folder / "charts" / "vocabulary.svg").is_file()


@pytest.mark.parametrize("metric", ["tokens per word", "repeated tokens", "bits per byte"])
@pytest.mark.parametrize(("before", "after"), [(3.0, 0.0), (0.0, 3.0), (0.0, 0.0)])
def test_values_that_fall_to_nothing_or_rise_from_it_are_shown(metric, before, after, tmp_path):
    """A change from or to 0 has no factor to divide by; the page still shows it."""
    found = [
        measured(metric, subject, value, "hi", 0.0)
        for subject, value in (("source", before), ("adapted", after))
    ]
    page = html_of(make_run(tmp_path / "run", measurements=found))
    assert metric in page
    assert (">to 0<" in page) == (before > after)


def tick_labels(svg):
    """Return the texts of a drawing with the places of their left edge or centre."""
    texts = ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")
    return {text.text or "".join(text.itertext()): text for text in texts}


def test_an_axis_of_one_value_is_labelled_right():
    """Vega rounds the label of an axis of one value to 2; no label but 1.83 is at 1.83."""
    points = [{"label": label, "value": 1.834, "shown": "dot"} for label in ("a", "b")]
    drawn = interval_dots(points, "bits per byte", labels=["a", "b"])
    shown = tick_labels(Chart("n", "", "", "", drawn).svg)
    assert {"1.7", "1.8", "1.9", "2.0"} <= shown.keys()
    assert "2" not in shown


def test_no_legend_of_a_curve_is_cut_off(tmp_path):
    """With two targets and replay, the kinds of text have room below the languages."""
    folder = make_run(tmp_path / "run")
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    record["recipe"]["extra_targets"] = [{"language": "ta"}, {"language": "te"}]
    (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    with (folder / "training.jsonl").open("a", encoding="utf-8") as log:
        for step in (0, 4, 8):
            heldout = {"ta": 1.5, "te": 1.4 + step / 100}
            log.write(json.dumps({"step": step, "bytes": 1000 * step, "heldout": heldout}) + "\n")
    drawn = ET.fromstring(training_chart(read_run(folder)).svg)
    names = {"Hindi, Tamil and Telugu", "Tamil", "Telugu", "English", "held-out text"}
    ends = dict(_ends_of_texts(drawn, 0.0))
    assert {*names, "training text"} <= ends.keys()
    assert max(ends.values()) <= float(drawn.get("width"))


def _ends_of_texts(element, left):
    """Yield the text elements of a drawing, and where they end if a letter has 6 pixels."""
    moved = re.search(r"translate\(([-\d.]+)", element.get("transform", ""))
    left += float(moved[1]) if moved else 0.0
    if element.tag.endswith("}text") and element.get("text-anchor") in {None, "start"}:
        yield element.text, left + 6 * len(element.text or "")
    for child in element:
        yield from _ends_of_texts(child, left)


def test_a_label_of_several_lines_is_centred_on_its_line():
    """Its first line alone would be there otherwise, and the last one run into the next label."""
    labels = ["one", "one¶two", "one¶two¶three"]
    points = [{"label": label, "value": 1.0, "shown": "dot"} for label in labels]
    drawn = ET.fromstring(Chart("n", "", "", "", difference_dots(points, "x", labels)).svg)
    middles, dots = [], []
    for text in drawn.iter("{http://www.w3.org/2000/svg}text"):
        height = float(text.get("transform").rstrip(")").split(",")[1])
        if text.text == "dot":
            dots.append(height)
        elif text.get("font-weight") == "bold":
            middles.append(height + sum(float(line.get("dy", 0)) for line in text) / 2)
    assert len(dots) == len(middles) == 3
    assert [dot - dots[0] for dot in dots] == pytest.approx(
        [middle - middles[0] for middle in middles], abs=0.01
    )
