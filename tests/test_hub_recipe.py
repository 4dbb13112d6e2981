"""The recipe whose model and text come from a hub.

The real hub libraries fetch stand-ins from the loopback interface.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from tests.conftest import ENGLISH, HINDI
from tests.hub_server import HubServer

RECIPE = Path(__file__).resolve().parent.parent / "recipes" / "smollm2-hindi.yaml"
SMALL = [
    "vocabulary.size=20",
    "training={budget: 3 steps, batch_tokens: 64, heldout_points: 1, packing: {block: 32}}",
    "target.heldout_share=0.1",
    "replay.heldout_share=0.1",
    "evaluation={heldout_bytes: 500, bootstrap: {resamples: 20}, generation: null}",
]


def stand_ins(recipe: dict, model: Path, folder: Path) -> dict[str, str]:
    """Store a model and texts under the names that a recipe gives; return their commits."""
    asked = recipe["model"]["hub"]
    shutil.copytree(model, folder / "models" / asked["id"])
    commits = {asked["id"]: asked["revision"]}
    configurations = []
    for side, lines in (("target", HINDI), ("replay", ENGLISH)):
        source = recipe[side]["corpus"]
        data = folder / "datasets" / source["hub"]
        (data / source["config"]).mkdir(parents=True)
        texts = [f"{lines[n % 4]} {n}" for n in range(200)]
        table = pa.table({"id": [str(n) for n in range(200)], "title": ["t"] * 200, "text": texts})
        pq.write_table(
            table, data / source["config"] / "train-00000-of-00001.parquet", row_group_size=20
        )
        configurations.append(
            {
                "config_name": source["config"],
                "data_files": [{"split": "train", "path": f"{source['config']}/train-*"}],
            }
        )
        (data / "README.md").write_text(
            f"---\n{yaml.safe_dump({'configs': configurations})}---\n", encoding="utf-8"
        )
        commits[source["hub"]] = source["revision"]
    return commits


def test_a_model_and_texts_of_a_hub_by_their_commits(tiny_model, tmp_path):
    """Model, Hindi and English come from the hub at the named commits; the run records them."""
    commits = stand_ins(
        yaml.safe_load(RECIPE.read_text(encoding="utf-8")), tiny_model, tmp_path / "hub"
    )
    options = [part for setting in SMALL for part in ("-o", setting)]
    with HubServer(tmp_path / "hub", commits=commits) as hub:
        command = [
            sys.executable,
            "-m",
            "lingraft",
            "adapt",
            RECIPE,
            *options,
            "--device",
            "cpu",
            "--json",
        ]
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env=hub.environment(tmp_path / "home"),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        for repository, commit in commits.items():
            assert any(repository in line and commit in line for line in hub.requests)
        assert not any("/main" in line for line in hub.requests)
    run = tmp_path / json.loads(done.stdout)["run"]
    assert run.name == "smollm2-hi"
    card = (run / "model" / "README.md").read_text(encoding="utf-8")
    assert "base_model: HuggingFaceTB/SmolLM2-135M" in card
    assert commits["HuggingFaceTB/SmolLM2-135M"] in (run / "run.json").read_text(encoding="utf-8")
