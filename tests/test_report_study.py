"""The page of a study: the question, what the intervals answer, charts, choices, failures."""

from __future__ import annotations

import json
import math
import re
import resource
from dataclasses import replace
from itertools import product
from statistics import fmean

import pytest

from lingraft.display_text import plain
from lingraft.errors import StoreError
from lingraft.recipe import load_recipe, recipe_values
from lingraft.report import rebuild_pages, write_study_report
from lingraft.report.charts import specification
from lingraft.report.study_charts import study_charts
from lingraft.report.study_curves import _curve_points
from lingraft.report.study_files import read_study_files
from lingraft.report.study_language_charts import frontier
from lingraft.report.study_numbers import BASE_CHANGE, BITS, COST, SERVING
from lingraft.report.study_page import choices, equal_quality, study_page
from lingraft.studies.study_folder import CURVES, DIFFERENCES, STUDY, TABLE
from lingraft.studies.study_table import write_table
from lingraft.studies.text_needed import describe_reached, text_to_equal
from tests.conftest import ROOT
from tests.test_report import HOSTILE, Outline, make_run

SIZES, INITS, SEEDS = (0, 100, 1000), ("mean", "random"), (0, 1)
OF_A_LANGUAGE = ["size", "fertility", "course", "frontier", "forgetting"]
CHARTS = ["axis-0", "axis-1", "result-0", "speed-0", "result-1", "speed-1", "learned", "kept"]
CHARTS += OF_A_LANGUAGE


def measured(beside, metric, subject, role, value):
    language = {"target": "hi", "replay": "en", "": ""}[role]
    return {
        **beside,
        "role": role,
        "metric": metric,
        "subject": subject,
        "value": value,
        "unit": "",
        "split": "heldout",
        "language": language,
        "n": 9,
        "per": "document",
        "low": None,
        "high": None,
        "confidence": None,
        "version": 1,
        "note": "",
    }


FERTILITY = "tokens per word"


def cell_rows(beside, size, init, seed):
    bits = 1.5 - math.log1p(size) / 20 + (0.1 if init.startswith("random") else 0) + seed / 100
    yield measured(beside, "tokens added", "spliced", "", float(size))
    yield measured(beside, "parameters", "spliced", "", 1e6 + 64.0 * size)
    yield measured(beside, "training tokens", "adapted", "", 1e6 - 300.0 * size)
    yield measured(beside, FERTILITY, "adapted", "target", 4 - math.log1p(size) / 3)
    yield measured(beside, "bits per byte", "adapted", "target", bits)
    yield measured(beside, "bits per byte change", "adapted", "replay", 0.05 + size / 1e5)


def make_study(
    folder, *, word="plain", sizes=SIZES, inits=INITS, seeds=SEEDS, failures=(), trained=True
):
    """Write a finished study with `word` in every field that a recipe or a failing run can fill."""
    folder.mkdir(parents=True)
    table, curves, cells = [], [], []
    for size, init, seed in product(sizes, inits, seeds):
        labels = {"vocabulary.size": size, "embeddings": f"{init} {word}"}
        name = f"{size}-{init}-s{seed}"
        beside = {
            "cell": name,
            "seed": seed,
            **{f"axis.{axis}": label for axis, label in labels.items()},
        }
        failed = name in failures
        cells.append(
            {
                "name": name,
                "labels": labels,
                "seed": seed,
                "status": "failed" if failed else "done",
                "error": f"no {word}" if failed else "",
                "folder": "" if failed else f"cells/{name}",
            }
        )
        if failed:
            continue
        rows = list(cell_rows(beside, size, init, seed))
        table += rows if trained else rows[:2]
        curves += (
            [
                {
                    **beside,
                    "role": "target",
                    "language": "hi",
                    "step": step,
                    # The order of sequences, and with it the bytes of a step, depend on the seed.
                    "bytes": step * (10_000 + 10 * seed),
                    "bits_per_byte": 2 - step / 10 + size / 1e4,
                }
                for step in range(6)
            ]
            if trained
            else []
        )
    differences = [
        {
            "axis": "embeddings",
            "first": inits[0],
            "second": inits[-1],
            "axis.vocabulary.size": "100",
            "axis.embeddings": "",
            "metric": "bits per byte",
            "subject": "adapted",
            "language": "hi",
            "difference": 0.1,
            "low": 0.08,
            "high": 0.12,
            "seeds": 2,
            "over": "seeds",
            "better": inits[0],
        }
    ]
    for name, rows in ((TABLE, table), (CURVES, curves), (DIFFERENCES, differences)):
        write_table(rows, folder / name)
    record = {
        "format": 1,
        "key": word,
        "name": f"study {word}",
        "question": f"Which {word}?",
        "scale": None,
        "recipe": f"{word}.yaml",
        "settings": {word: word},
        "seeds": list(seeds),
        "cells": cells,
        "axes": [{"name": "vocabulary.size", "values": []}, {"name": "embeddings", "values": []}],
        "failures": [
            {"cell": cell["name"], "error": cell["error"], "trace": ""}
            for cell in cells
            if cell["status"] == "failed"
        ],
        "rankings": [
            {"axis": "embeddings", "sentence": f"bits per byte: {word} is better", "best": None}
        ],
        "stages": {"asked": 9, "different": 5, "built": 5},
        "versions": {"lingraft": "0.1.0"},
        "workers": 1,
        "executor": "local",
        "started": "2026-01-01T00:00:00Z",
        "finished": "2026-01-01T00:03:00Z",
    }
    (folder / STUDY).write_text(json.dumps(record), encoding="utf-8")
    return folder


TOKENS_CELLS = {
    # (pre-tokenizer, size): tokens added, training tokens, tokens per byte, start, end
    ("keep", 0): (0, 1e6, 0.8, 2.0, 1.5),
    ("keep", 500): (500, 0.5e6, 0.4, 2.2, 1.6),
    ("auto", 500): (500, 0.4e6, 0.2, 1.9, 1.4),
    ("auto", "auto"): (2000, 0.4e6, 0.2, 1.9, 1.35),
}


def make_tokens_study(folder, *, seeds=(0, 1)):
    """Write a study of how many tokens to add, with straight curves of six points."""
    make_study(folder, seeds=seeds)
    table, curves, cells = [], [], []
    for ((form, size), numbers), seed in product(TOKENS_CELLS.items(), seeds):
        added, trained, per_byte, start, end = numbers
        labels = {"language": "hi", "vocabulary.pretokenizer": form, "vocabulary.size": size}
        name = f"{form}-{size}-s{seed}"
        beside = {"cell": name, "seed": seed}
        beside |= {f"axis.{axis}": label for axis, label in labels.items()}
        cells.append({"name": name, "labels": labels, "seed": seed, "status": "done", "error": ""})
        cells[-1]["folder"] = f"cells/{name}"
        table += [
            measured(beside, "tokens added", "spliced", "", float(added)),
            measured(beside, "parameters", "source", "", 1e6),
            measured(beside, "parameters", "spliced", "", 1e6 + 200.0 * added),
            measured(beside, "training tokens", "adapted", "", trained),
            measured(beside, "tokens per byte", "source", "target", 0.8),
            measured(beside, "tokens per byte", "adapted", "target", per_byte),
            measured(beside, "bits per byte", "adapted", "target", end + seed / 100),
        ]
        for step in range(6):
            bits = start + (end - start) * step / 5
            point = {"step": step, "bytes": 1000 * step, "bits_per_byte": bits}
            curves.append({**beside, "role": "target", "language": "hi", **point})
    for name, rows in ((TABLE, table), (CURVES, curves), (DIFFERENCES, [])):
        write_table(rows, folder / name)
    record = json.loads((folder / STUDY).read_text(encoding="utf-8"))
    record["cells"] = cells
    record["axes"] = [{"name": name.removeprefix("axis."), "values": []} for name in beside][2:]
    (folder / STUDY).write_text(json.dumps(record), encoding="utf-8")
    return folder


def with_parameters_per_token(study, idle):
    """Return a study whose models have so many parameters that a token does not go through."""
    multiplied = [
        {**row, "metric": "parameters per token", "value": row["value"] - idle}
        for row in study.rows
        if row["metric"] == "parameters"
    ]
    return replace(study, rows=[*study.rows, *multiplied])


def in_two_languages(study):
    """Return a study with the same cells in Turkish, too, at twice the bits per byte.

    The language is set on two axes, as in a list of cells.
    """
    cells, rows, curves = [], [], []
    for language, factor in (("hi", 1), ("tr", 2)):
        labels = {"target.language": language, "target.corpus": f"{language}.jsonl"}
        for cell in study.record["cells"]:
            name = f"{language}-{cell['name']}"
            cells.append({**cell, "name": name, "labels": {**cell["labels"], **labels}})
        beside = {f"axis.{axis}": label for axis, label in labels.items()}
        for row in (*study.rows, *study.curves):
            changed = {**row, **beside, "cell": f"{language}-{row['cell']}"}
            if row["role"] == "target":
                changed["language"] = language
            if "step" in row:
                curves.append({**changed, "bits_per_byte": factor * row["bits_per_byte"]})
            else:
                is_bits = row["metric"] == "bits per byte"
                rows.append({**changed, "value": row["value"] * (factor if is_bits else 1)})
    axes = [*study.record["axes"], *({"name": axis, "values": []} for axis in labels)]
    record = {**study.record, "axes": axes, "cells": cells}
    return replace(study, record=record, rows=rows, curves=curves)


def drawn(study):
    """Return the charts of a study by name."""
    return {chart.name: chart for chart in study_charts(study)}


@pytest.fixture(scope="module")
def page(checked_charts, tmp_path_factory):
    return Outline(
        write_study_report(make_study(tmp_path_factory.mktemp("study") / "s")).read_text(
            encoding="utf-8"
        )
    )


def test_the_question_then_what_is_carried_then_the_charts(page):
    """A study's page starts with its question and rankings, and draws what it has numbers for."""
    assert [section["id"] for section in page.all("section")] == [
        "answer",
        "charts",
        "choices",
        "differences",
        "text-needed",
        "failures",
        "runs",
        "provenance",
    ]
    words = " ".join(page.words)
    assert words.index("Which plain?") < words.index("All 12 cells finished, with 2 seeds.")
    assert "Bits per byte: plain is better." in words
    assert [figure["id"] for figure in page.all("figure")] == [f"figure-{name}" for name in CHARTS]
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(drawing["role"] == "img" and drawing["aria-label"] for drawing in page.all("svg"))
    assert not page.all("script")


def test_every_chart_is_valid_vega_lite(page, checked_charts):
    """The schema of Vega-Lite permits every chart of a study's page, which is drawn unchecked."""
    assert len(checked_charts) >= len(page.all("svg")) > 3


def test_the_page_names_the_unit_of_the_target_text(page, tmp_path, monkeypatch):
    """Tokens are counted per word, per syllable or per character in every heading and chart."""
    assert "tokens per word" in page.words
    monkeypatch.setattr("tests.test_report_study.FERTILITY", "tokens per syllable")
    other = Outline(write_study_report(make_study(tmp_path / "s")).read_text(encoding="utf-8"))
    words = " ".join(other.words)
    assert "tokens per syllable" in other.words
    assert "tokens per word" not in words
    (chart,) = [d for d in other.all("svg") if "Fertility against" in d["aria-label"]]
    assert "tokens per syllable to" in chart["aria-label"]


def test_choices_stand_in_the_order_of_their_bits_per_byte(tmp_path):
    """Each choice is one row, its seeds put together; the lowest mean is first."""
    html = write_study_report(make_study(tmp_path / "s")).read_text(encoding="utf-8")
    table = html[html.index('<section id="choices"') : html.index('<section id="differences"')]
    assert re.findall(r'<th scope="row">(\d+)</th><td>(\w+)', table) == [
        ("1000", "mean"),
        ("1000", "random"),
        ("100", "mean"),
        ("100", "random"),
        ("0", "mean"),
        ("0", "random"),
    ]
    assert table.count('<td class="n">2</td></tr>') == len(SIZES) * len(INITS)  # cells of each


def test_choices_are_ordered_within_their_language(tmp_path):
    """The first language has all of its choices first, though one of another language is lower."""
    study = in_two_languages(read_study_files(make_study(tmp_path / "s")))
    rows = [
        {**row, "value": row["value"] / 100} if row["cell"].startswith("tr-1000") else row
        for row in study.rows
    ]
    found = [group.labels["target.language"] for group, _ in choices(replace(study, rows=rows))]
    assert found == ["hi"] * 6 + ["tr"] * 6


def test_numbers_of_a_choice_are_means_over_its_seeds(tmp_path):
    """A group has the mean of its cells with minimum and maximum; cost is 6 N D FLOPs."""
    group = read_study_files(make_study(tmp_path / "s")).groups[0]
    assert group.labels == {"vocabulary.size": 0, "embeddings": "mean plain"}
    assert group.get(BITS).value == pytest.approx(1.505)
    assert (group.get(BITS).low, group.get(BITS).high) == pytest.approx((1.5, 1.51))
    assert group.get(COST).value == 6e12


def test_a_byte_in_use_costs_tokens_times_parameters(tmp_path):
    """The cost of use counts the rows of added tokens, and is a share of that of the base."""
    keep, _, repaired, _ = read_study_files(make_tokens_study(tmp_path / "s")).groups
    assert keep.get(SERVING).value == 1
    # A quarter of the tokens, with 10% more weights.
    assert repaired.get(SERVING).value == pytest.approx(1.1 / 4)
    kept = read_study_files(ROOT / "benchmarks/measured/study-rows-ar")
    share = 0.1542 * 10161408 / (0.8818 * 8621312)
    assert kept.groups[0].get(SERVING).value == pytest.approx(share)


def test_weights_that_a_token_does_not_go_through_cost_nothing(tmp_path):
    """Experts that it skips, and input embeddings; not if a cell does not know their number."""
    study = read_study_files(make_tokens_study(tmp_path / "s"))
    repaired = with_parameters_per_token(study, idle=9e5).groups[2]
    assert repaired.get(SERVING).value == pytest.approx(2e5 / 1e5 / 4)
    assert repaired.get(COST).value == pytest.approx(study.groups[2].get(COST).value * 2 / 11)
    rows = with_parameters_per_token(study, idle=9e5).rows
    first = study.rows[0]["cell"]
    partly = [
        row for row in rows if (row["cell"], row["metric"]) != (first, "parameters per token")
    ]
    for key in (SERVING, COST):
        assert replace(study, rows=partly).groups[2].get(key) == study.groups[2].get(key)


def test_choices_are_related_to_no_added_tokens(tmp_path):
    """Text and compute to equal quality are read where a run is as low as no added tokens end.

    A choice with another pre-tokenizer is related to the base's own, the only one without tokens.
    """
    study = read_study_files(make_tokens_study(tmp_path / "s"))
    none, kept, repaired, _ = study.groups
    assert study.without_tokens(repaired) is none
    assert equal_quality(study, none) == ["", ""]
    assert equal_quality(study, kept) == ["not reached", "not reached"]
    # From 1.9 to 1.4, it is at 1.5 after 80% of the text; a byte costs 0.4 x 1.1 as much.
    assert equal_quality(study, repaired) == ["80%", "35%"]
    page = Outline(study_page(study, None))
    assert "compute to equal quality" in page.words
    others = read_study_files(make_study(tmp_path / "other", sizes=(100,)))
    assert "compute to equal quality" not in Outline(study_page(others, None)).words


def test_text_to_equal_quality_is_the_text_needed_of_kept_runs():
    """Two groups of a real study that differ in one axis give the number of its own table."""
    study = read_study_files(ROOT / "benchmarks/measured/study-rows-ta")
    mean, random = study.groups[0], study.groups[-1]
    names = (mean.labels["embeddings"], random.labels["embeddings"])
    curves = study.curves_of(mean), study.curves_of(random)
    found = text_to_equal(*curves, "embeddings", names)
    assert found in study.text_needed
    assert describe_reached(found) == "not reached"
    back = text_to_equal(*reversed(curves), "embeddings", names[::-1])
    assert describe_reached(back, 0.5) == "20% (17% to 24%)"


def test_the_bar_of_an_axis_is_over_seeds_alone(tmp_path):
    """The interval of a value is Student's t over its seeds, each averaged over the other axes."""
    study = read_study_files(make_study(tmp_path / "s", seeds=(0, 1, 2)))
    mean, drawn = study.means(["embeddings"], BITS)
    assert (mean.label, mean.seeds, drawn.value - mean.value) == (
        "mean plain",
        3,
        pytest.approx(0.1),
    )
    half = 4.3027 * 0.01 / math.sqrt(3)  # the seeds differ by 0.01, the sizes by up to 0.35
    assert mean.interval == pytest.approx((mean.value - half, mean.value + half), abs=1e-5)
    page = write_study_report(study.folder).read_text(encoding="utf-8")
    assert "Dot: the mean over 3 seeds after averaging over the other axes. Bar: its 95%" in page
    single = read_study_files(make_study(tmp_path / "one", seeds=(0,)))
    assert [mean.interval for mean in single.means(["embeddings"], BITS)] == [None, None]


def test_values_of_an_axis_are_averaged_over_the_same_choices(tmp_path):
    """A combination that failed for one value counts for none of them, a seed for the others.

    The chart says which are left, where a value of another axis is not.
    """
    failures = ("1000-mean-s0", "1000-mean-s1", "0-random-s1")
    study = read_study_files(make_study(tmp_path / "s", failures=failures))
    mean, drawn = study.means(["embeddings"], BITS)
    assert (mean.seeds, drawn.seeds) == (2, 1)
    expected = 1.5 - (0 + math.log1p(100)) / 2 / 20
    assert (mean.value, drawn.value) == pytest.approx((expected + 0.005, expected + 0.1))
    assert mean.where == "Only with size 0 or 100. "
    (of_rows,) = (chart for chart in study_charts(study) if chart.name == "axis-1")
    assert "lower is better. Only with size 0 or 100. Dot: " in of_rows.caption
    (of_all,) = read_study_files(make_study(tmp_path / "all")).means(["embeddings"], BITS)[:1]
    assert of_all.where == ""


def test_choices_are_compared_with_the_first_by_seed(tmp_path):
    """A choice is a value on each axis; its interval is over the differences of its seeds."""
    study = read_study_files(make_study(tmp_path / "s", sizes=(0, 100), seeds=(0, 1, 2)))
    assert study.choice_axes == ["vocabulary.size", "embeddings"]
    first, *others = study.means(study.choice_axes, BITS, compared=True)
    assert (first.label, first.value) == ("size 0, mean plain", 0.0)
    # All seeds differ from the first choice by the same.
    assert [mean.interval for mean in others] == [None] * 3
    saved = math.log1p(100) / 20
    assert [mean.value for mean in others] == pytest.approx([0.1, -saved, 0.1 - saved])


def test_values_in_different_languages_are_in_no_chart_together(tmp_path):
    """The charts of a language are those of a study of it alone; other charts average languages."""
    alone = read_study_files(make_study(tmp_path / "s", seeds=(0, 1, 2)))
    both = in_two_languages(alone)
    assert both.choice_axes == alone.choice_axes
    of_one, of_both = drawn(alone), drawn(both)
    assert list(of_one) == CHARTS
    of_each = [f"{name}-{language}" for language in ("hi", "tr") for name in OF_A_LANGUAGE]
    assert list(of_both) == [*CHARTS[: -len(OF_A_LANGUAGE)], *of_each]
    for name in OF_A_LANGUAGE:
        hindi = of_both[f"{name}-hi"]
        assert specification(hindi.declared) == specification(of_one[name].declared)
        assert hindi.title == f"{of_one[name].title}: Hindi"
        assert hindi.label == f"Hindi. {of_one[name].label}"
        assert of_both[f"{name}-tr"].title.endswith(": Turkish")
    (hindi, _), (turkish, _) = (
        part.means(["embeddings"], BITS) for part in both.by_target.values()
    )
    together = both.means(["embeddings"], BITS)[0]
    assert together.value == pytest.approx((hindi.value + turkish.value) / 2)


def test_an_axis_with_a_language_in_its_values_has_no_means(tmp_path):
    """Values that share no language are not compared, even if others on their axis do share one."""
    both = in_two_languages(read_study_files(make_study(tmp_path / "s", sizes=(0,))))
    cells = []
    for cell in both.record["cells"]:
        labels = cell["labels"]
        cells.append(
            {**cell, "labels": {"mixed": f"{labels['target.language']} {labels['embeddings']}"}}
        )
    axes = [{"name": "mixed", "values": []}]
    mixed = replace(both, record={**both.record, "axes": axes, "cells": cells})
    assert mixed.choice_axes == ["mixed"]
    assert mixed.means(["mixed"], BITS) == []


def test_captions_name_the_languages_of_their_means():
    """A language without all of the values is not in the mean, and not in its caption."""
    charts = drawn(read_study_files(ROOT / "benchmarks/measured/study-tokens"))
    assert charts["axis-1"].caption.startswith("Hindi, adapted model; lower is better.")
    assert charts["axis-2"].caption.startswith("Hindi and Turkish, adapted model;")
    assert charts["learned"].caption.startswith("Target language: Hindi. Difference")
    assert "over the other axes" not in charts["learned"].caption
    of_forgetting = drawn(read_study_files(ROOT / "benchmarks/measured/study-forgetting"))
    assert "Target language: Arabic, Hindi, Tamil and Turkish." in of_forgetting["kept"].caption
    assert "after averaging over the other axes" in of_forgetting["kept"].caption


def diverged_in(study, label, seeds):
    """Return a study in which the training of a choice of rows ends in NaN with these seeds."""

    def changed(row, value):
        is_run = str(row["axis.embeddings"]).startswith(label) and row["seed"] in seeds
        is_late = row.get("step", 9) > 2 and row.get("metric", "bits per byte") == "bits per byte"
        return {**row, value: math.nan} if is_run and is_late else row

    rows = [changed(row, "value") for row in study.rows]
    curves = [changed(row, "bits_per_byte") for row in study.curves]
    return replace(study, rows=rows, curves=curves)


@pytest.mark.parametrize(("seeds", "said"), [((0,), "3 of 6 runs"), ((0, 1), "6 of 6 runs")])
def test_runs_that_diverged_are_named_and_left_out(tmp_path, seeds, said):
    """A curve that stops has no end to compare, and a missing dot has a reason."""
    folder = make_study(tmp_path / "s", inits=("mean", "focus", "random"))
    charts = drawn(diverged_in(read_study_files(folder), "random", seeds))
    for name in ("axis-1", "result-1"):
        assert f"Diverged, and left out: random plain ({said})." in charts[name].caption
    dots = specification(charts["axis-1"].declared)["data"]["values"]
    assert [point["label"].split("¶")[0] for point in dots] == ["mean plain", "focus plain"]
    assert "random" not in charts["course"].label
    assert "so that the curve stops: " in charts["course"].caption
    # The other seed still counts, alone: its runs end with what is a number.
    needed = {
        found.second: found.seeds
        for found in diverged_in(read_study_files(folder), "random", seeds).text_needed
        if found.axis == "embeddings"
    }
    assert needed == {"focus plain": 2, **({"random plain": 1} if len(seeds) == 1 else {})}


def test_values_on_different_documents_have_no_chart_of_differences(tmp_path):
    """Their numbers are not compared in the table, and not in a chart."""
    study = read_study_files(make_study(tmp_path / "s"))
    record = {**study.record, "different documents": [["embeddings", "hi"]]}
    charts = drawn(replace(study, record=record))
    assert {"result-1", "speed-1", "learned"} <= drawn(study).keys() - charts.keys()
    assert "result-0" in charts


def test_choices_that_diverged_are_the_last_of_their_table(tmp_path):
    """What is not a number has no place among numbers."""
    study = diverged_in(read_study_files(make_study(tmp_path / "s")), "mean", SEEDS)
    cells = [cells[2] for _, cells in choices(study)]
    assert [cell == "not a number" for cell in cells] == [False] * 3 + [True] * 3


def test_a_line_is_decided_if_its_wider_interval_does_not_cross_zero():
    """All lines of the chart are tested together: scipy's t at 1 - 0.05 / 5, over three seeds."""
    from scipy.stats import ttest_1samp

    study = read_study_files(ROOT / "benchmarks/measured/study-forgetting")
    labels = {}
    for cell in study.record["cells"]:
        labels[cell["name"]] = cell["labels"]["replay.share"], cell["labels"]["training"]
    changes = {}
    for row in study.rows:
        if (row["metric"], row["subject"], row["role"]) == BASE_CHANGE:
            of_seed = changes.setdefault(labels[row["cell"]], {}).setdefault(row["seed"], [])
            of_seed.append(row["value"])
    expected = {}
    for by_seed in changes.values():
        means = [fmean(values) for values in by_seed.values()]
        interval = ttest_1samp(means, 0).confidence_interval(1 - 0.05 / len(changes))
        expected[f"{fmean(means):+.3f}"] = (
            "undecided" if interval.low <= 0 <= interval.high else "decided"
        )
    layers = specification(drawn(study)["kept"].declared)["layer"]
    points = next(layer["data"]["values"] for layer in layers if len(layer["data"]["values"]) > 1)
    assert {point["shown"]: point["kind"] for point in points} == expected
    assert set(expected.values()) == {"decided", "undecided"}


def test_the_caption_of_an_axis_names_the_model_that_was_measured(tmp_path):
    """Of a model that was not trained, the numbers are those of the spliced one."""
    study = read_study_files(make_study(tmp_path / "s"))

    def caption(untrained):
        rows = [
            {**row, "subject": "spliced"}
            if row["metric"] == "bits per byte" and row["cell"].startswith(untrained)
            else row
            for row in study.rows
        ]
        return drawn(replace(study, rows=rows))["axis-0"].caption

    assert caption("none").startswith("Hindi, adapted model; ")
    assert caption("").startswith("Hindi, spliced model, which was not trained; ")
    some = "Hindi, adapted model, or the spliced one where it was not trained; "
    assert caption("0-mean").startswith(some)


def test_the_chart_of_forgetting_names_the_lowest_and_the_highest_change(tmp_path):
    """A base language that improves is the lowest, not the smallest, change."""
    study = read_study_files(make_study(tmp_path / "s", sizes=(0, 1000), inits=("mean",)))
    rows = [
        {**row, "value": row["value"] - 0.055} if row["metric"] == "bits per byte change" else row
        for row in study.rows
    ]
    label = drawn(replace(study, rows=rows))["forgetting"].label
    assert label.endswith(
        "The change of the base language is between -0.00500 bits per byte with size 0 and "
        "+0.00500 with size 1000."
    )


def test_choices_of_equal_cost_have_no_frontier(tmp_path):
    """Bits per byte against cost need different costs."""
    study = read_study_files(make_study(tmp_path / "s", sizes=(100,)))
    assert "frontier" not in drawn(study)


def test_a_training_curve_is_the_mean_of_all_seeds_at_every_point(tmp_path):
    """Seeds reach the same share of the text after different numbers of steps."""
    study = read_study_files(make_study(tmp_path / "s", sizes=(0, 100), inits=("mean",)))
    curves = []
    for row in study.curves:
        later = row["seed"] * (row["step"] > 0)
        bits = row["bits_per_byte"] + row["seed"]
        curves.append({**row, "step": row["step"] + later, "bits_per_byte": bits})
    label = drawn(replace(study, curves=curves))["course"].label
    assert label.endswith("lowest at the end: size 0, 2; highest: size 100, 2.01.")


def test_a_training_that_continued_a_shorter_one_has_its_points_too(tmp_path):
    """More points of one seed do not move the end of the mean curve."""
    study = read_study_files(make_study(tmp_path / "s", sizes=(0, 100), inits=("mean",)))
    more = []
    for row in study.curves:
        between = row["step"] * 0.5
        if row["seed"] == 0 and row["step"] > 0:
            later = {"step": between, "bytes": row["bytes"] * 0.5}
            more.append({**row, **later, "bits_per_byte": 9.0 - row["step"] / 1000})
    assert len(more) > 3
    before = drawn(study)["course"].label.partition("lowest at the end")
    after = drawn(replace(study, curves=[*more, *study.curves]))["course"]
    assert after.label.partition("lowest at the end") == before


def test_a_mean_curve_lies_on_the_lines_between_points(tmp_path):
    """A seed with half of the points counts at all of them as one with every point does."""
    study = read_study_files(make_study(tmp_path / "s", sizes=(0, 100), inits=("mean",)))
    steps = sorted({row["step"] for row in study.curves})
    straight = [{**row, "bits_per_byte": 3 - row["step"] / 1000} for row in study.curves]
    fewer = [row for row in straight if row["seed"] or row["step"] in {*steps[::2], steps[-1]}]
    assert len(fewer) < len(straight)
    points = _curve_points(replace(study, curves=fewer))
    assert {point["name"] for point in points} == {"size 0", "size 100"}
    whole = fmean(row["bytes"] for row in straight if row["step"] == steps[-1])
    for point in points:
        share = point["bytes"] / whole
        assert point["value"] == pytest.approx(3 - share * steps[-1] / 1000)


def test_the_result_says_where_no_text_needed_is_known(tmp_path):
    """A curve above all of the first one never meets it: there is no share to show beside it."""
    study = read_study_files(make_study(tmp_path / "s", sizes=(0, 100)))
    above = [
        {
            **row,
            "bits_per_byte": row["bits_per_byte"] + 5 * (str(row["axis.vocabulary.size"]) == "100"),
        }
        for row in study.curves
    ]
    size, rows = (
        chart
        for chart in study_charts(replace(study, curves=above))
        if chart.name.startswith("result-")
    )
    assert "the curves never meet" not in rows.caption
    assert "text needed" not in size.caption
    assert "text needed 0 of 4 runs reached it" in size.label


def test_foreign_text_cannot_steer_a_studys_page(tmp_path, page):
    """Names, labels, errors and questions add no element, attribute or script to the page."""
    words = [word for word in HOSTILE if "\ud800" not in word]
    folder = make_study(tmp_path / "s", word=" ".join(words))
    outline = Outline(write_study_report(folder).read_text(encoding="utf-8"))
    shown = "".join(outline.words)
    assert all(plain(word) in shown for word in words)
    assert not outline.all("script")
    kinds = {(tag, name) for tag, attributes in outline.elements for name in attributes}
    assert kinds <= {(tag, name) for tag, attributes in page.elements for name in attributes} | {
        ("path", "transform"),
        ("tspan", "dy"),  # the lines of a long label
        ("tspan", "x"),
    }


def test_failed_cells_and_missing_numbers_are_said(tmp_path):
    """A failed cell is named with its reason; a study without training has too few points."""
    folder = make_study(tmp_path / "failed", failures=("0-mean-s0", "0-mean-s1"))
    words = " ".join(Outline(write_study_report(folder).read_text(encoding="utf-8")).words)
    assert "10 of 12 cells finished" in words
    assert "2 cells failed" in words
    assert "no plain" in words
    bare = make_study(tmp_path / "bare", trained=False)
    assert "too few measurements to draw" in write_study_report(bare).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [TABLE, CURVES, DIFFERENCES])
def test_a_study_folder_without_its_files_is_one_line(tmp_path, name):
    """A table that is missing or cut off is named, as is a study.json of something else."""
    folder = make_study(tmp_path / "s")
    for damage in ((folder / name).unlink, lambda: (folder / name).write_bytes(b"PAR1")):
        damage()
        with pytest.raises(StoreError, match=rf"{name}: the table of a study cannot be read; run"):
            write_study_report(folder)
    (folder / STUDY).write_text('{"format": 1}', encoding="utf-8")
    with pytest.raises(StoreError, match="not a finished study"):
        write_study_report(folder)


def test_a_difference_without_a_better_value_says_why(tmp_path):
    """The order may be withheld, the metric without a direction, or the interval around zero."""
    study = read_study_files(make_study(tmp_path / "s"))
    (row,) = study.differences
    few = {**row, "better": ""}
    neutral = {**few, "metric": "Renyi efficiency"}
    none = {**few, "low": -0.1}
    words = Outline(study_page(replace(study, differences=[row, few, neutral, none]), None)).words
    for verdict in ("too few documents", "neither direction is better", "no detectable difference"):
        assert words.count(verdict) == 1


def test_why_no_difference_has_an_interval(tmp_path):
    """One seed, nothing to compare, and seeds that cannot be paired are different reasons."""
    study = read_study_files(make_study(tmp_path / "s"))
    bare = [{**row, "low": None, "high": None} for row in study.differences]

    def text(differences, seeds):
        record = {**study.record, "seeds": seeds}
        page = study_page(replace(study, differences=differences, record=record), None)
        return " ".join(Outline(page).words)

    assert "an interval needs two seeds or more." in text(bare, [0])
    assert "two seeds or more that both values have" in text(bare, [0, 1])
    assert "Nothing was compared" in text([], [0, 1])


def test_the_frontier_is_what_nothing_beats():
    """A point is on the frontier if and only if no cheaper or equal point is as good."""
    points = [(float(x * 7 % 5), float(x * 3 % 8), f"p{x}") for x in range(12)]
    beaten = {
        c
        for a, b, c in points
        for x, y, z in points
        if z != c and x <= a and y <= b and (x, y) != (a, b)
    }
    assert {c for _, _, c in points} - beaten == set(frontier(points))


def test_a_study_of_hundreds_of_runs_stays_small(tmp_path):
    """200 cells make a page of under 8 MB in which only the best and the worst course are named."""
    folder = make_study(tmp_path / "s", sizes=tuple(range(0, 5000, 100)), seeds=(0, 1))
    path = write_study_report(folder)
    assert len(read_study_files(folder).record["cells"]) == 200
    assert path.stat().st_size < 8e6
    assert "Named: the best and the worst at the end" in path.read_text(encoding="utf-8")


def with_recipe(folder):
    """Give a made-up run what its model card tells: a model folder, and the recipe's data."""
    (folder / "model").mkdir()
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    record["recipe"] = recipe_values(load_recipe(ROOT / "recipes" / "demo.yaml"))
    record["method"] = {
        role: record["recipe"][role] for role in ("vocabulary", "embeddings", "training")
    }
    (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    return folder


def test_runs_and_studies_are_written_again_side_by_side(tmp_path):
    """`report` accepts runs and studies, compares two or more runs, and refuses other folders."""
    first, second = (with_recipe(make_run(tmp_path / name)) for name in ("a", "b"))
    written = rebuild_pages([first, make_study(tmp_path / "s"), second])
    assert [set(paths) for paths in written] == [
        {"report", "card"},
        {"report"},
        {"report", "card"},
        {"comparison"},
    ]
    assert written[-1]["comparison"] == tmp_path / "comparison.html"
    assert all(path.is_file() for paths in written for path in paths.values())
    with pytest.raises(StoreError, match="not a finished run"):
        rebuild_pages([tmp_path])
    with pytest.raises(StoreError, match="needs two runs or more; got 1"):
        rebuild_pages([first], tmp_path / "one.html")


@pytest.mark.parametrize("room", [1, 20_000])
def test_a_full_disk_is_one_line_and_leaves_the_run_as_it_was(tmp_path, room):
    """`lingraft report` on a full disk is one error line and changes nothing in the run."""
    run = with_recipe(make_run(tmp_path / "run"))
    rebuild_pages([run])
    (run / "charts" / "of-before.svg").write_text("a chart that the new report does not have")
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        with pytest.raises(StoreError) as caught:
            rebuild_pages([run])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    said = rf"{run}.*: no space left on the disk \(.*\); free some; finished work is kept"
    assert re.fullmatch(said, str(caught.value))
    assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == before
