"""One measurement and one change read the same in the terminal, the model card and the report."""

from __future__ import annotations

import re

from lingraft.measurement import Measurement, metric_changes
from lingraft.measurement_text import change, value_of
from lingraft.model_card.card_table import FEW, measurement_table
from lingraft.pipeline import Run
from lingraft.pipeline.tables import before_after
from tests.test_report import html_of, make_run

VALUES = {
    ("tokens per word", "hi", "tokens/word"): (13.06, 1.66, 1.659),
    ("tokens per word", "en", "tokens/word"): (1.447, 1.447, 1.447),
    ("bits per byte", "hi", "bits/byte"): (1.379, 1.475, 0.881),
    ("bits per byte", "en", "bits/byte"): (1.56, 1.598, 1.6),
    ("documents tokenised identically", "en", "share"): (1.0, 0.99961, 0.6566),
    ("generation speed", "hi", "bytes/s"): (186.7, 1088.2, 1047.0),
    ("generation speed", "en", "bytes/s"): (855.0, 767.0, 781.0),
}
PAIRED = "-0.498 (-0.703 to -0.384)"
CHANGES = ["7.87x fewer", "0", PAIRED, "+2.6%", "-34.3 points", "5.61x", "0.91x"]


def measurements():
    rows = []
    for (metric, language, unit), values in VALUES.items():
        for subject, value in zip(("source", "spliced", "adapted"), values, strict=True):
            rows.append(Measurement(metric, subject, value, unit, language))
    rows.append(
        Measurement(
            "bits per byte change",
            "adapted",
            -0.498,
            "bits/byte",
            "hi",
            low=-0.703,
            high=-0.384,
            confidence=0.95,
        )
    )
    return rows


def terminal_cells(folder):
    table = before_after(Run(folder))
    columns = [list(column.cells) for column in table.columns]
    return [row[2:] for row in zip(*columns, strict=True)]


def card_cells(rows):
    # The mark of few documents is a column of its own in the report.
    lines = [
        line.replace(f" {FEW}", "").strip("| ").split(" | ")
        for line in measurement_table(rows).splitlines()
        if line.startswith("| ")
    ]
    return [tuple(line[3:]) for line in lines[1:]]


def report_cells(page):
    body = page.split('id="numbers"')[1].split("<tbody>")[1].split("</tbody>")[0]
    lines = re.findall(r"<tr>(.*?)</tr>", body, re.DOTALL)
    return [tuple(re.findall(r'<td class="n">(.*?)</td>', line)[:4]) for line in lines]


def test_the_three_tables_show_the_same_cells(tmp_path):
    """Values and changes of the same measurements are the same text in every output."""
    rows = measurements()
    folder = make_run(tmp_path / "run", measurements=rows)
    shown = terminal_cells(folder)
    assert [cells[-1] for cells in shown] == CHANGES
    assert shown == card_cells(rows) == report_cells(html_of(folder))


def test_the_table_names_every_target_language(tmp_path):
    """With two target languages the title names both, without that of the replay text."""
    rows = measurements()
    rows.append(Measurement("bits per byte", "adapted", 1.2, "bits/byte", "ta"))
    title = str(before_after(Run(make_run(tmp_path / "run", measurements=rows))).title)
    assert ": hi and ta added to " in title


def test_a_share_that_is_not_all_never_reads_100_percent():
    """3,277 of 3,278 documents are not shown as 100%."""
    row = Measurement("documents tokenised identically", "adapted", 3277 / 3278, "share", "en")
    assert value_of(row) == "99.97%"


def test_a_change_from_or_to_0_has_no_factor():
    """A change from 0 names the new value, a change to 0 is written as such."""
    nothing, some = (Measurement("loops", "source", value, "loops", "en") for value in (0, 25))
    assert (change(nothing, some), change(some, nothing)) == ("from 0 to 25", "to 0")


def test_the_change_of_a_negative_score_has_the_sign_of_the_change():
    """A correlation that rises from -0.02 to 0.10 has not fallen by 600%."""
    low, high = (Measurement("mcc", "source", value, "", split="test") for value in (-0.02, 0.1))
    assert (change(low, high), change(high, low)) == ("+0.120", "-0.120")
    before, after = (Measurement("score", "source", value, "") for value in (-120.0, -100.0))
    assert change(before, after) == "+20.0"
    same = Measurement("share", "adapted", 0.5 - 1e-9, "share")
    assert change(Measurement("share", "source", 0.5, "share"), same) == "0.0 points"


def test_the_change_of_a_run_without_training_is_that_of_the_spliced_model():
    """Without training, the last model of a run is the spliced one."""
    rows = [row for row in measurements() if row.subject != "adapted"]
    one = metric_changes(rows)[0]
    assert change(one.before, one.last, one.difference) == "7.87x fewer"
