"""Train a hand-over with other trainers, and read its configurations with their own parsers.

python benchmarks/handover_engines.py RECIPE -O FOLDER --hf PYTHON --trl PYTHON
    --llama-factory PYTHON --axolotl PYTHON --torchtitan PYTHON --megatron PYTHON --megatron-lm REPO

Each PYTHON is the interpreter of an environment with that trainer and the packages of lingraft.
Engines without an interpreter are skipped. `hf`, `trl` and `llama-factory` train; their losses and
weights are compared with lingraft's own loop on the same recipe. The others only parse their files.
REPO is a checkout of Megatron-LM, whose argument parser is not part of the package megatron-core.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

import lingraft
from lingraft.pipeline import run
from lingraft.recipe import Runtime, load_recipe
from lingraft.training.step_loop import DivergenceMonitor

TRAINED = {
    "hf": ("train.py",),
    "trl": ("train.py",),
    "llama-factory": ("train.py", "llama_factory.yaml"),
}
PARSED = {
    "llama-factory": """
import yaml
from llamafactory.hparams import get_train_args
model, data, training, finetuning, _ = get_train_args(yaml.safe_load(open("llama_factory.yaml")))
print("tokenized_path", data.tokenized_path, "disable_shuffling", finetuning.disable_shuffling)
""",
    "axolotl": """
import yaml
from axolotl.cli.config import prepare_plugins
from axolotl.utils.config import validate_config
from axolotl.utils.dict import DictDefault
settings = DictDefault(yaml.safe_load(open("axolotl.yaml")))
prepare_plugins(settings)
machine = {"bf16": True, "fp8": False, "tf32": True, "n_gpu": 1, "n_node": 1}
machine["compute_capability"] = "sm_90"
settings = validate_config(settings, machine, {"torch_version": "2.11.0"})
print("plugins", settings.plugins, "curriculum_sampling", settings.curriculum_sampling)
""",
    "torchtitan": """
from torchtitan.config import ConfigManager
settings = ConfigManager().parse_args(["--module", "handover_titan", "--config", "phase1"])
print(type(settings).__name__, settings.training.steps, settings.dataloader.path)
""",
    "megatron": """
import re, shlex, sys
arrays = re.findall(r"=\\(\\n(.*?)\\n\\)", open("megatron.sh").read(), re.S)
sys.argv = ["pretrain_gpt.py", *(word for array in arrays for word in shlex.split(array))]
from megatron.training.arguments import parse_args
settings = parse_args()
print("train_data_path", settings.train_data_path, "decoupled_lr", settings.decoupled_lr)
""",
}


def main() -> None:
    """Print one line for each comparison."""
    parser = argparse.ArgumentParser()
    parser.add_argument("recipe", type=Path)
    parser.add_argument("-O", "--output", type=Path, required=True)
    parser.add_argument("--override", "-o", action="append", default=[])
    parser.add_argument("--megatron-lm", default="")
    for engine in (*TRAINED, *(name for name in PARSED if name not in TRAINED)):
        parser.add_argument(f"--{engine}", default="")
    arguments = vars(parser.parse_args())
    output, overrides = arguments["output"].resolve(), arguments["override"]
    losses = train_with_lingraft(arguments["recipe"], output, overrides)
    (trained,) = (output / "runs").glob("*/model")
    for engine in sorted({*TRAINED, *PARSED}):
        python = arguments[engine.replace("-", "_")]
        if not python:
            print(f"{engine}: skipped")
            continue
        folder = output / engine
        shutil.rmtree(folder, ignore_errors=True)
        hand_over(arguments["recipe"], engine, output, overrides)
        if engine in PARSED:
            found = call(python, folder, "-c", PARSED[engine], path=arguments["megatron_lm"])
            print(f"{engine}: its parser accepts the files: {found.splitlines()[-1]}")
        if engine in TRAINED:
            call(python, folder, *TRAINED[engine])
            print(f"{engine}: {compare(losses, trained, folder)}")


def hand_over(recipe: Path, engine: str, output: Path, overrides: list[str]) -> None:
    """Write the hand-over for an engine."""
    command = ["-m", "lingraft", "handover", str(recipe), "--to", engine]
    command += ["-O", str(output / engine), "--store", str(output / "store")]
    for override in overrides:
        command += ["-o", override]
    call(sys.executable, Path.cwd(), *command)


def call(python: str, folder: Path, *arguments: str, path: str = "") -> str:
    """Run an interpreter in a folder; return its output."""
    paths = [str(folder), path, str(Path(lingraft.__file__).parent.parent)]
    paths.append(os.environ.get("PYTHONPATH", ""))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    done = subprocess.run(
        [python, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{folder}: {arguments[0]} failed\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return done.stdout


def train_with_lingraft(recipe: Path, output: Path, overrides: list[str]) -> list[float]:
    """Run the recipe with lingraft's own loop; return the loss of each step."""
    losses: list[float] = []
    check = DivergenceMonitor.check

    def recording(self: DivergenceMonitor, nats: float, norm: float) -> str | None:
        losses.append(nats)
        return check(self, nats, norm)

    # The log has bits per byte of text; the trainers log the minimised loss, separators included.
    DivergenceMonitor.check = recording  # type: ignore[method-assign, assignment]
    runtime = Runtime(runs=output / "runs", store=output / "store", device="cpu")
    run(
        load_recipe(recipe, overrides),
        runtime,
        write_report=lambda folder: (folder / "report.html").write_text("", encoding="utf-8"),
        log=lambda _line: None,
    )
    DivergenceMonitor.check = check  # type: ignore[method-assign]
    return losses


def compare(losses: list[float], trained: Path, folder: Path) -> str:
    """Return in words how the losses and weights of a trainer differ from lingraft's."""
    theirs: list[dict[str, Any]] = []
    states = (folder / "checkpoints-1", folder / "trained")
    found = [file for place in states for file in place.glob("checkpoint-*/trainer_state.json")]
    state = max(found, key=lambda file: int(file.parent.name.partition("-")[2]))
    theirs = [log for log in json.loads(state.read_text())["log_history"] if "loss" in log]
    assert len(theirs) == len(losses), (len(theirs), len(losses))
    pairs = zip(losses, theirs, strict=True)
    difference = max(abs(ours - log["loss"]) for ours, log in pairs)
    before, ours, other = map(load_weights, (folder / "model", trained, folder / "trained"))
    weights = max(float((ours[name].float() - other[name].float()).abs().max()) for name in ours)
    change = max(float((ours[name].float() - before[name].float()).abs().max()) for name in ours)
    return (
        f"{len(losses)} steps, loss {losses[0]:.4f} to {losses[-1]:.4f}, largest difference "
        f"{difference:.1e}; weights change by up to {change:.2g}, and differ from lingraft's by at "
        f"most {weights:.1e}"
    )


def load_weights(folder: Path) -> dict[str, Any]:
    """Return all tensors of a model."""
    tensors: dict[str, Any] = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors |= load_file(file)
    return tensors


if __name__ == "__main__":
    main()
