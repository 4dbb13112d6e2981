"""The progress that users see during a long operation."""

from __future__ import annotations

import io
import logging
import sys

import pytest

from lingraft import progress as module
from lingraft.progress import (
    each_warning_once,
    progress,
    quiet_import_notes,
    say,
    stage_progress,
    warn,
)


def test_off_a_terminal_the_latest_note_makes_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A note is printed at most every half minute, with the count; nothing without a note."""
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    with progress("training", 4, unit="steps") as advance:
        for second in (10.0, 31.0, 40.0, 70.0):
            now[0] = second
            advance(1, f"note {second:.0f}")
    with progress("counting", 2) as advance:
        now[0] = 200.0
        advance(2)
    assert capsys.readouterr().err.splitlines() == [
        "training: 2 of 4 steps, note 31",
        "training: 4 of 4 steps, note 70",
        "training: 1 min 10 s",
        "counting: 2 min 10 s",
    ]


def test_the_lines_of_a_stage_are_indented_and_leave_its_time_to_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A stage prints its own time, so blocks in it print notes only."""
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    with stage_progress(), progress("training", 4, unit="steps") as advance:
        now[0] = 31.0
        advance(1, "a note")
        now[0] = 40.0
    assert capsys.readouterr().err == "  training: 1 of 4 steps, a note\n"


def test_a_block_within_another_one_prints_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Held-out text is scored during training: only the training is shown."""
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    with progress("training", 4, unit="steps"):
        with progress("scoring") as advance:
            now[0] = 20.0
            advance(1, "a note")
        now[0] = 40.0
    with progress("short"):
        now[0] = 45.0
    assert capsys.readouterr().err.splitlines() == ["training: 40.0 s"]


def test_each_warning_is_printed_once_in_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    """Two stages that find the same problem make one line; outside of a command all are printed."""
    with each_warning_once():
        warn("vLLM: a fault")
        with each_warning_once():
            warn("vLLM: a fault")
            warn("another")
    warn("vLLM: a fault")
    lines = ["warning: vLLM: a fault", "warning: another", "warning: vLLM: a fault"]
    assert capsys.readouterr().err.splitlines() == lines


def test_without_standard_error_nothing_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A process that was started without standard error works, and its output stays pure."""
    monkeypatch.setattr(sys, "stderr", None)
    with progress("counting", 3) as advance:
        advance(3)
    say("a line")
    assert capsys.readouterr().out == ""


def test_on_a_terminal_the_note_stands_beside_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bar shows the unit, the count and the latest note, and disappears at the end."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    shown = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys, "stderr", shown)
    with progress("training", 4, unit="steps") as advance:
        advance(1, "1.234 bits/byte")
        advance(1)
    assert "1.234 bits/byte" in shown.getvalue()


def test_notes_of_an_import_are_hidden_and_other_notes_are_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What libraries log while torchao is imported is hidden; other warnings of theirs are not."""
    quiet_import_notes()
    torchao, pytree = logging.getLogger("torchao"), logging.getLogger("torch.utils._pytree")
    torchao.warning("Failed to load /site-packages/torchao/_C_mxfp8.so: no such library")
    torchao.warning("Skipping import of cpp extensions due to incompatible torch version")
    enum = "%s is an Enum subclass and is now natively supported by torch.compile as an opaque type"
    pytree.warning(enum, "<enum 'KernelPreference'>")
    pytree.warning("another %s", "warning")
    assert [record.getMessage() for record in caplog.records] == [
        "Skipping import of cpp extensions due to incompatible torch version",
        "another warning",
    ]
