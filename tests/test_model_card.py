"""The model card says what the run says, and claims nothing that the recipe does not state."""

from __future__ import annotations

import json
import shutil

import pytest
import yaml

import lingraft
from lingraft.measurement import Measurement
from lingraft.measurement_text import measured
from lingraft.model_card import CARD, card_text, write_card
from lingraft.model_card.card_table import FEW, measurement_table
from lingraft.model_card.markdown import escape_markdown, front_matter
from lingraft.model_card.sections import chat_statement, limits_section
from lingraft.recipe.old_names import names_of_0_1
from lingraft.report.rebuild import rebuild_pages


@pytest.fixture(scope="module")
def run(tiny_model, tmp_path_factory):
    """A finished tiny run with replay and a stated licence."""
    from tests.conftest import ENGLISH, HINDI, write_lines

    folder = tmp_path_factory.mktemp("card")
    overrides = {
        "vocabulary.size": 10,
        "evaluation.generation": None,
        "evaluation.heldout_bytes": 300,
        "training": {
            "budget": "2 steps",
            "batch_tokens": 64,
            "branch_and_merge": {"iterations": 1},
        },
        "licences.result": "cc-by-4.0",
        "licences.target": "cc0-1.0",
    }
    return lingraft.adapt(
        model=str(tiny_model),
        language="hi",
        text=str(write_lines(folder / "hi.txt", HINDI)),
        base_text=str(write_lines(folder / "en.txt", ENGLISH)),
        overrides=overrides,
        runs=folder / "runs",
        device="cpu",
    )


def parts(text: str) -> tuple[dict, str]:
    _, head, body = text.split("---\n", 2)
    return yaml.safe_load(head), body


def test_every_run_holds_a_card(run):
    """Its front matter is what a hub reads; its body names data, method, numbers and limits."""
    from huggingface_hub import ModelCard

    path = run.folder / CARD
    head, body = parts(path.read_text(encoding="utf-8"))
    assert head["language"] == ["hi", "en"]
    assert head["license"] == "cc-by-4.0"
    assert "base_model" not in head  # a folder on disk is no model of a hub
    assert ModelCard.load(path).data.to_dict() == head
    for heading in ("Use", "Data", "Method", "Before and after", "Limits"):
        assert f"\n## {heading}\n" in body
    assert "2 steps in 1 iteration of 2 branches with 1 step each, merged by slerp" in body
    assert "cc0-1.0" in body
    assert "not stated" in body  # the licence of the replayed text
    assert str(run.folder.parent.parent) not in body  # paths of this machine are nobody's business


def test_the_table_holds_every_measured_number(run):
    """Each metric and language has a line with the value and interval of each subject."""
    lines = [line for line in (run.folder / CARD).read_text().splitlines() if line.startswith("| ")]
    for row in run.measurements:
        if row.metric.endswith(" change"):
            continue
        line = next(line for line in lines if line.startswith(f"| {row.metric} | {row.language} |"))
        assert f" {measured(row)} " in line


@pytest.mark.parametrize(("documents", "is_marked"), [(19, True), (20, False)])
def test_changes_on_too_few_documents_are_marked(documents, is_marked):
    """As the report does; numbers that claim nothing (Renyi efficiency) have no mark."""
    rows = []
    for subject, value in (("source", 2.0), ("adapted", 1.5)):
        bounds = {"low": value - 0.1, "high": value + 0.1, "confidence": 0.95}
        shared = {"subject": subject, "value": value, "language": "hi", "n": documents}
        rows.append(Measurement("bits per byte", unit="bits/byte", **shared, **bounds))
        rows.append(Measurement("Renyi efficiency", unit="share", **shared))
    text = measurement_table(rows)
    bits, renyi = (line for line in text.splitlines() if line.startswith(("| bits", "| Renyi")))
    assert (FEW in bits) == is_marked
    assert FEW not in renyi
    assert ("fewer than 20" in text) == is_marked


def test_the_card_is_written_anew_without_touching_the_store(run):
    """A README that is a link into the store is replaced, not written through."""
    path = run.folder / CARD
    before = path.read_text()
    stored = run.folder.parent / "stored.md"
    stored.write_text("of the base")
    path.unlink()
    path.hardlink_to(stored)
    assert write_card(run.folder) == path
    assert path.read_text() == before
    assert stored.read_text() == "of the base"


def test_a_run_of_0_1_has_the_same_pages(run, tmp_path, capsys):
    """Card, report and comparison of a run folder of 0.1 are those of today, without warnings."""
    old, new = tmp_path / "old", tmp_path / "new"
    for folder in (old, new):
        shutil.copytree(run.folder, folder)
    record = json.loads((old / "run.json").read_text())
    record |= {name: names_of_0_1(record[name]) for name in ("recipe", "method")}
    for phase in next(
        stage["notes"]["phases"] for stage in record["stages"] if stage["name"] == "training"
    ):
        rates = phase.pop("learning_rates")
        phase["rates"] = {
            "body": rates["body"],
            "embeddings": rates["added_rows"],
            "why": rates["why"],
        }
    (old / "run.json").write_text(json.dumps(record))
    log = (old / "training.jsonl").read_text()
    (old / "training.jsonl").write_text(
        log.replace("learning_rate_added_rows", "learning_rate_embeddings")
    )
    assert "learning_rate_embeddings" in (old / "training.jsonl").read_text()
    rebuild_pages([old, new])
    assert (old / "model" / "README.md").read_text() == (new / "model" / "README.md").read_text()
    assert (old / "report.html").read_text() == (new / "report.html").read_text()
    assert (tmp_path / "comparison.html").is_file()
    assert " is now " not in capsys.readouterr().err


def test_a_hub_s_names_are_its_own(run):
    """Hub models and data sets are in the front matter; regions, domains and `und` are not."""
    recipe = run.record["recipe"]
    source = recipe["target"]["corpus"][0] | {"path": None, "hub": "wiki/hindi"}
    target = recipe["target"] | {"language": "pt-BR", "corpus": [source]}
    changed = recipe | {
        "model": {"hub": {"id": "small/model", "revision": "main"}},
        "target": target,
        "extra_targets": [target | {"language": tag} for tag in ("domain:law", "und")],
    }
    head, _ = parts(front_matter(run.record | {"recipe": changed}))
    assert head["base_model"] == "small/model"
    assert head["datasets"] == ["wiki/hindi"]
    assert head["language"] == ["pt", "en"]


def test_limits_follow_the_run(run):
    """Without replay the card says that forgetting is unknown; the run's warnings stand in it."""
    assert "forgot" not in limits_section(run.record)
    alone = run.record | {
        "recipe": run.record["recipe"] | {"replay": None},
        "warnings": ["a <warning>"],
    }
    assert "forgot is not known" in limits_section(alone)
    assert r"a \<warning\>." in limits_section(alone)


def test_an_untrained_run_says_so(run):
    """Where nothing was trained, the card says none; where tokens were dropped, how many."""
    stages = [
        stage
        for stage in json.loads(json.dumps(run.record["stages"]))
        if stage["name"] != "training"
    ]
    next(stage for stage in stages if stage["name"] == "vocabulary")["notes"]["dropped"] = 1234
    text = card_text(run.record | {"stages": stages}, run.measurements)
    assert "**Training:** none." in text
    assert "1,234 tokens of the base were dropped, and the others renumbered" in text


@pytest.mark.parametrize(
    ("added", "dropped", "said"),
    [
        (10, 10, "10 tokens of the base were dropped; the other ids are unchanged."),
        (10, 0, "Every id of the base stands for the same token as before."),
        (0, 0, "No tokens were added, and pretraining was continued. Every id of the base"),
    ],
)
def test_the_first_lines_say_what_became_of_the_ids(run, added, dropped, said):
    """New tokens take the ids of dropped ones, and no rows are made where no tokens are added."""
    stages = json.loads(json.dumps(run.record["stages"]))
    next(stage for stage in stages if stage["name"] == "vocabulary")["notes"] |= {
        "added": added,
        "dropped": dropped,
    }
    head = card_text(run.record | {"stages": stages}, run.measurements).split("\n## ")[0]
    assert said in head
    assert ("rows were initialised" in head) == (added > 0)


def test_names_are_text(run):
    """No name of a file or licence becomes markup."""
    assert escape_markdown("<img src=x>|*a*") == r"\<img src=x\>\|\*a\*"


@pytest.mark.parametrize(
    ("tasks", "prompts"),
    [
        ({"names": ["ifeval"]}, "were plain text, without the chat template"),
        ({"names": ["ifeval"], "apply_chat_template": True}, "were conversations in its chat temp"),
    ],
)
def test_the_card_says_how_tasks_asked_a_chat_model(tasks, prompts):
    record = {"recipe": {"evaluation": {"tasks": tasks}, "chat_vector": {"instruct": "it"}}}
    assert f"was measured by ifeval, whose prompts {prompts}" in chat_statement(record)
