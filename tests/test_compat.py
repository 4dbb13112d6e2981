"""An adapted model and an adapter have the same ids and logits in transformers 4.

`make test` lays transformers 4 over .venv.

Models are as runs leave them: grafted, trained, and saved by the transformers that lingraft runs
with.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lingraft.export import export_peft
from tests import models
from tests.compat import answer
from tests.conftest import ENGLISH, HINDI
from tests.test_export_peft import LORA, ROWS, pytestmark, run_of

__all__ = ["pytestmark"]

FOUR = Path(__file__).parent.parent / ".venv" / "transformers-4"
SCALED = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
KINDS = {
    "llama": {},
    "llama-tied": {},
    "turned": {"rope_parameters": {"rope_type": "default", "rope_theta": 500000.0}},
    "scaled": {"rope_parameters": SCALED},
    "gpt2": {},
    "gemma": {},
    "neox": {},
    "neox-scaled": {
        "rope_parameters": {
            "rope_type": "linear",
            "rope_theta": 500.0,
            "factor": 2.0,
            "partial_rotary_factor": 0.5,
        }
    },
    "qwen3": {},
    "mistral": {},
}
TEXTS = [*ENGLISH, *HINDI, "12 shells, naïve 🙂  two  spaces\n\nand lines"]


def with_turned_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add models whose positions are turned otherwise than by default."""
    for kind in ("turned", "scaled", "neox-scaled"):
        plain = models.ARCHITECTURES["neox" if "neox" in kind else "llama"]
        changed = dataclasses.replace(plain, settings={**plain.settings, **KINDS[kind]})
        monkeypatch.setitem(models.ARCHITECTURES, kind, changed)


def test_positions_are_named_in_both_ways(tmp_path, monkeypatch):
    """config.json has rotary settings for transformers 4 and 5; 5 reads the same as before."""
    from transformers import AutoConfig

    with_turned_positions(monkeypatch)
    run = run_of("neox-scaled", [ROWS], tmp_path)
    config = json.loads((run / "model" / "config.json").read_text())
    turning = AutoConfig.from_pretrained(tmp_path / "base").rope_parameters
    assert AutoConfig.from_pretrained(run / "model").rope_parameters == turning
    assert config["rope_theta"] == turning["rope_theta"]
    assert config["rotary_pct"] == turning["partial_rotary_factor"]
    scaling = {key: value for key, value in turning.items() if key != "rope_theta"}
    assert config["rope_scaling"] == scaling
    assert config["use_cache"] is True


@pytest.mark.skipif(
    not (FOUR / ".ready").is_file(), reason="no .venv/transformers-4: `make compat` sets it up"
)
def test_transformers_4_computes_the_same(tmp_path, monkeypatch):
    """Ids are equal, logits equal but for rounding, of models and of adapters on their base."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with_turned_positions(monkeypatch)
    asked = {}
    for kind in KINDS:
        run = run_of(kind, [LORA], tmp_path / kind)
        asked[str(run / "model")] = run
        if kind in {"llama", "llama-tied", "gpt2"}:
            done = export_peft(run, tmp_path / kind / "adapter")
            asked[f"{tmp_path / kind / 'base'}+{done.path}:{done.rows}"] = run
    (tmp_path / "texts.json").write_text(
        json.dumps([text[:16] for text in TEXTS]), encoding="utf-8"
    )
    program = Path(__file__).with_name("compat.py")
    command = [sys.executable, program, tmp_path / "texts.json", tmp_path / "answers.json", *asked]
    environment = {
        **os.environ,
        "PYTHONPATH": str(FOUR),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    there = subprocess.run(
        list(map(str, command)), env=environment, capture_output=True, text=True, check=False
    )
    assert there.returncode == 0, there.stderr[-2000:]
    answers = json.loads((tmp_path / "answers.json").read_text())
    assert answers["version"].startswith("4.")
    for folder, run in asked.items():
        model = AutoModelForCausalLM.from_pretrained(run / "model").eval()
        wanted = answer(
            model, AutoTokenizer.from_pretrained(run / "model"), [text[:16] for text in TEXTS]
        )
        assert answers[folder]["ids"] == wanted["ids"], folder
        for mine, other in zip(wanted["logits"], answers[folder]["logits"], strict=True):
            torch.testing.assert_close(
                torch.tensor(other),
                torch.tensor(mine),
                rtol=1e-4,
                atol=2e-5,
                msg=lambda told, folder=folder: f"{folder}: {told}",
            )
