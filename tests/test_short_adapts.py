"""Short runs on small random models of each family: train, stop and go on, evaluate, report.

`make test` runs one of experts with LoRA; `make architectures` all of them
(`LINGRAFT_ARCHITECTURES=all`).
"""

from __future__ import annotations

import json
import os
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from lingraft.checkpoint.safetensors_files import Checkpoint
from lingraft.errors import Interrupted
from lingraft.report import write_report
from lingraft.training.train_log import TrainLog
from tests.architecture_sweep import build, load
from tests.short_adapt import short_adapt

EVERY = os.environ.get("LINGRAFT_ARCHITECTURES") == "all"
FAMILIES = (
    "llama",
    "qwen3",
    "qwen3_moe",
    "gemma3_text",
    "gemma3",
    "gemma4_text",
    "qwen3_5",
    "mistral3",
    "phi3",
    "gpt2",
    "mamba2",
    "nemotron_h",
    "gpt_oss",
    "deepseek_v4",
    "qwen2_5_vl",
    "llava",
)


def name_roles(folder: Path) -> None:
    """Name every role and store the tokenizer as transformers reads it.

    The class that transformers takes for Qwen3.5 adds a token for a role that is not named, and
    cuts text by an expression of its own, whatever the files say.
    """
    path = folder / "tokenizer_config.json"
    named = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**named, "pad_token": "</s>", "unk_token": None}), encoding="utf-8")
    AutoTokenizer.from_pretrained(folder).backend_tokenizer.save(str(folder / "tokenizer.json"))


@contextmanager
def umask(mask: int) -> Iterator[None]:
    """Run a block with another umask."""
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def unlike_umask(root: Path, mask: int, source: Path) -> dict[str, str]:
    """Return the files and folders under `root` whose mode is not what the umask gives.

    Links to files of the source model are the user's own and keep their mode.
    """
    own = {path.stat().st_ino for path in source.rglob("*")}
    unlike = {}
    for path in (root, *root.rglob("*")):
        if not path.is_symlink() and path.stat().st_ino not in own:
            mode = stat.S_IMODE(path.stat().st_mode)
            if mode != (0o777 if path.is_dir() else 0o666) & ~mask:
                unlike[str(path.relative_to(root))] = oct(mode)
    return unlike


@pytest.mark.parametrize("strategy", ["differential", "lora"] if EVERY else ["lora"])
@pytest.mark.parametrize("kind", FAMILIES if EVERY else ["qwen3_moe"])
def test_a_short_run_stops_goes_on_and_reports(
    kind: str, strategy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run stopped by SIGTERM and resumed ends like an undisturbed one.

    It loads under its own names and has a report. The files of the run, its model and the store
    have the modes that the umask gives.
    """
    source = build(kind, tmp_path / "source", dtype="bfloat16")
    name_roles(source)
    overrides = (f"training.strategy={strategy}", "training.heldout_points=4")
    with umask(0o002):
        whole = short_adapt(source, tmp_path / "whole", *overrides)
    assert unlike_umask(tmp_path / "whole", 0o002, source) == {}
    measure, calls = TrainLog.measure, []

    def stopping(*arguments: object, **named: object) -> None:
        measure(*arguments, **named)  # type: ignore[arg-type]
        calls.append(len(calls))
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(TrainLog, "measure", stopping)
    with umask(0o027):
        with pytest.raises(Interrupted):
            short_adapt(source, tmp_path / "stopped", *overrides)
        stopped = short_adapt(source, tmp_path / "stopped", *overrides, report=write_report)
    assert unlike_umask(tmp_path / "stopped", 0o027, source) == {}
    one, other = (Checkpoint.open(run.model_path) for run in (whole, stopped))
    before = Checkpoint.open(source)
    assert one.tensors.keys() == other.tensors.keys() == before.tensors.keys()
    for name, place in one.tensors.items():
        assert place.dtype == other.tensors[name].dtype == before.tensors[name].dtype
        assert torch.equal(one.tensor(name), other.tensor(name)), name
    model, account = load(stopped.model_path)
    assert not any(account.values())
    assert type(model).__name__ == type(load(source)[0]).__name__
    assert "bits per byte" in stopped.report.read_text()
    assert {row.subject for row in stopped.measurements} == {"source", "spliced", "adapted"}
    assert any(
        not torch.equal(one.tensor(name), before.tensor(name))
        for name in one.tensors
        if one.tensors[name].shape == before.tensors[name].shape
    )
