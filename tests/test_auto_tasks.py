"""`evaluation.tasks: auto` chooses the tasks of a documented list that exist in a language."""

from __future__ import annotations

import json

import pytest

from lingraft.evaluation.tasks import TaskSettings, auto_tasks, choose_tasks
from lingraft.evaluation.tasks.auto_tasks import listed_tasks
from lingraft.evaluation.tasks.task_catalogue import find_task
from lingraft.evaluation.tasks.task_names import find_manager, has_builtin_name
from tests.conftest import HINDI, ROOT, write_lines
from tests.test_evaluation_tasks import ROWS

CHOSEN = {
    "hi": "belebele-hi xnli-hi xstorycloze-hi sentiment-hi global_piqa_nonparallel_cloze_hin_deva "
    "arc_hi hellaswag_hi",
    "ta": "belebele-ta xcopa-ta sentiment-ta global_piqa_nonparallel_cloze_tam_taml arc_ta "
    "hellaswag_ta",
    "tr": "belebele-tr xnli-tr xcopa-tr global_piqa_nonparallel_cloze_tur_latn",
    "ar": "belebele-ar xnli-ar xstorycloze-ar global_piqa_nonparallel_cloze_arb_arab arc_ar "
    "hellaswag_ar",
    "sw": "belebele-swh_Latn xnli_sw xcopa_sw xstorycloze-sw "
    "global_piqa_nonparallel_cloze_swh_latn",
    "te": "belebele-tel_Telu xstorycloze-te global_piqa_nonparallel_cloze_tel_telu arc_te "
    "hellaswag_te",
}
AUTO = TaskSettings.model_validate("auto")


@pytest.fixture
def every_data_set(monkeypatch):
    """Let every data set be on the Hub, without asking it."""
    monkeypatch.setattr(auto_tasks, "data_set_problem", lambda _data, _revision: None)


@pytest.mark.usefixtures("every_data_set")
@pytest.mark.parametrize("language", CHOSEN)
def test_the_tasks_of_a_language(language):
    """Tasks of lingraft and of lm-eval are chosen by the tag; the line names the downloads."""
    chosen = choose_tasks(AUTO, [language])
    assert chosen.settings.names == tuple(CHOSEN[language].split())
    (line,) = chosen.lines
    assert line.startswith(f"tasks in {language} (auto): belebele-")
    assert "; with data from the Hub: facebook/belebele, " in line


def test_the_names_are_those_of_the_installed_lm_eval():
    """lm-eval's TaskManager has the chosen tasks, and its files every task of the list."""
    for name in CHOSEN["sw"].split() + CHOSEN["te"].split():
        if find_task(name) is None:
            assert name in find_manager(name, None).all_subtasks
    for entry in auto_tasks._entries():
        for code in entry["codes"].split():
            tag, _, known = code.rpartition("=")
            name = entry["name"].replace("{code}", known)
            assert find_task(name) or has_builtin_name(name), name
            # A code that is no tag would be matched with no language.
            assert auto_tasks.language_and_script(tag or known)[0], code


def test_included_tasks_are_listed_with_their_own_data_set():
    """The list names the data set and the branch that the file of an included task reads."""
    for entry in auto_tasks._entries():
        task = find_task(entry["name"].replace("{code}", entry["codes"].split()[0]))
        if task is not None:
            listed = (entry["data"], entry.get("revision", "main"))
            assert (task.hub.id, task.hub.revision or "main") == listed


def names(language: str) -> list[str]:
    return [task.name for task in listed_tasks(language)]


def test_tags_are_matched_by_language_and_script():
    """Macrolanguages, ISO 639-3 codes, scripts and regions find the code of a data set."""
    assert names("swh") == names("sw")
    assert names("fa")[0] == names("pes")[0] == "belebele-pes_Arab"
    assert names("ary")[0] == "belebele-ary_Arab"
    assert names("zh-Hant")[0] == "belebele-zho_Hant"
    assert names("hi-Latn")[0] == "belebele-hin_Latn"
    assert "global_piqa_nonparallel_cloze_por_latn_port" in names("pt-PT")
    assert "global_piqa_nonparallel_cloze_por_latn_braz" in names("pt")
    assert "xwinograd_jp" in names("ja")


@pytest.mark.usefixtures("every_data_set")
def test_where_there_are_no_tasks_a_sentence_says_why(monkeypatch):
    """An unlisted language, a domain, and a machine without lm-eval have no tasks."""
    chosen = choose_tasks(AUTO, ["gv", "domain:law"])
    assert chosen.settings.names == ()
    assert "tasks in gv (auto): none of the listed tasks has the language" in chosen.lines[0]
    assert "none, because a domain has no tasks" in chosen.lines[1]
    monkeypatch.setattr(auto_tasks, "find_spec", lambda _module: None)
    chosen = choose_tasks(AUTO, ["hi"])
    assert chosen.settings.names == ()
    assert "none, because lm-eval is not installed: pip install" in chosen.lines[0]
    assert {*CHOSEN["hi"].split()} <= chosen.unavailable.keys()
    named = choose_tasks(TaskSettings.model_validate(["flores-hi"]), ["hi"])
    assert named.unavailable == {"flores-hi": auto_tasks.NOT_INSTALLED}


def test_tasks_that_are_left_out_for_one_reason_are_named_together(monkeypatch):
    """Offline, one sentence says that no data set is in the cache."""
    monkeypatch.setattr(auto_tasks, "data_set_problem", lambda _data, _revision: "offline")
    chosen = choose_tasks(AUTO, ["tr"])
    left_out = CHOSEN["tr"].replace(" ", ", ")
    assert chosen.lines == (f"tasks in tr (auto): none; left out {left_out} (offline)",)
    assert chosen.unavailable == dict.fromkeys(CHOSEN["tr"].split(), "offline")


def test_the_default_and_named_tasks_stay(monkeypatch):
    """Without `auto` nothing is chosen or asked; next to it, named tasks come first, once."""
    monkeypatch.setattr(auto_tasks, "data_set_problem", lambda _data, _revision: None)
    named = TaskSettings.model_validate(["belebele-en", "belebele-hi"])
    assert choose_tasks(named, ["hi"]).settings is named
    assert choose_tasks(TaskSettings(), ["hi"]).lines == ()
    both = TaskSettings.model_validate(["belebele-en", "auto", "xnli-hi"])
    chosen = choose_tasks(both, ["hi"]).settings.names
    assert chosen[:3] == ("belebele-en", "xnli-hi", "belebele-hi")
    assert len(chosen) == len(set(chosen)) == 1 + len(CHOSEN["hi"].split())


COMMANDS = """
import json, sys
from lingraft.cli import main
for line in sys.stdin:
    sys.argv = ["lingraft", *json.loads(line)]
    try:
        main()
    except SystemExit as stopped:
        assert not stopped.code, stopped.code
"""


def test_only_tasks_whose_data_can_be_had_are_chosen(tiny_model, hub_commands, tmp_path):
    """Data come from files or from the Hub; the plan names what is downloaded and left out.

    `lingraft evaluate --tasks auto` takes the language of the text, and runs the tasks.
    """
    script = tmp_path / "hub/datasets/alexandrainst/m_arc/m_arc.py"
    script.parent.mkdir(parents=True)
    script.touch()
    there = tmp_path / "hub/datasets/Muennighoff/xwinograd/README.md"
    there.parent.mkdir(parents=True)
    there.touch()
    for family in ("belebele", "sentiment"):
        rows = "\n".join(map(json.dumps, ROWS[family]))
        (tmp_path / f"{family}.jsonl").write_text(rows, encoding="utf-8")
    text = write_lines(tmp_path / "hi.txt", HINDI, copies=20)
    tasks = "evaluation.tasks={names: auto, limit: 2, num_fewshot: 0, data: {FILE: FILE.jsonl}}"
    allow = "target.allow=[wrong_script]"
    long, short = (tasks.replace("FILE", family) for family in ("belebele", "sentiment"))
    quick = "evaluation={heldout_bytes: 500, bootstrap: {resamples: 20}, generation: null}"
    commands = [
        ["plan", "-m", str(tiny_model), "-l", "ja", "-t", str(text), "-o", long, "-o", allow],
        ["evaluate", str(tiny_model), "-t", f"hi={text}", "-o", quick, "-o", short, "--json"],
    ]
    given = "\n".join(map(json.dumps, commands))
    with hub_commands.serve(tmp_path / "hub"):
        done = hub_commands.ask("-c", COMMANDS, home=tmp_path / "home", cwd=tmp_path, stdin=given)
    assert done.returncode == 0, done.stderr
    line = next(line for line in done.stdout.splitlines() if line.startswith("tasks in ja (auto)"))
    assert line.startswith(
        "tasks in ja (auto): belebele-jpn_Jpan, xwinograd_jp; with data from the Hub: "
        "Muennighoff/xwinograd; left out global_piqa_nonparallel_cloze_jpn_jpan "
        "(there is no such dataset"
    )
    measured = json.loads(done.stdout[done.stdout.index("{") :])["measurements"]
    assert ("sentiment accuracy", "hi") in {(row["metric"], row["language"]) for row in measured}
    assert "tasks in hi (auto): sentiment-hi; left out " in done.stderr
    assert "arc_hi (the data set needs a loading script" in done.stderr


def test_the_list_is_in_the_docs():
    """docs/tasks.md names every task of the list."""
    page = (ROOT / "docs" / "tasks.md").read_text(encoding="utf-8")
    for entry in auto_tasks._entries():
        assert f"`{entry['name'].replace('{code}', 'CODE')}`" in page
