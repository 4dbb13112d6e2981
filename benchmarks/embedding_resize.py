r"""Adding rows to a large checkpoint: time relative to copying the changed shards, and memory.

    python -m venv ../peers && ../peers/bin/pip install mergekit  # its own venv: it pins versions
    python benchmarks/embedding_resize.py --shape 1b --peers transformers mergekit \
        --mergekit ../peers/bin/mergekit-tokensurgeon
    python benchmarks/embedding_resize.py --shape 8b       # 16 GB: needs 40 GB of disk
    python benchmarks/embedding_resize.py --tokens 500     # tiny, takes seconds: a smoke test

The script writes the checkpoint: random bfloat16 weights in the layout of Llama-3 (untied, up to 4
shards), with the tokenizer of --tokenizer extended by the most frequent words of --text. Each tool
runs in its own process, alternating with the others. The output is the best time and the highest
memory of each tool, and the number of hard-linked shards. `copy` reads and writes the bytes of the
shards that hold changed tensors. The page cache is warm for all of them.
"""

from __future__ import annotations

import argparse
import gzip
import json
import resource
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

SHAPES = {"tiny": (4, 256, 1024), "1b": (16, 2048, 8192), "8b": (32, 4096, 14336)}
SHARDS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="tiny")
    parser.add_argument("--tokens", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=Path("resize-bench"))
    parser.add_argument(
        "--tokenizer", type=Path, default=Path("../shared/assets/tokenizers/llama3/tokenizer.model")
    )
    parser.add_argument(
        "--text", type=Path, default=Path("../shared/assets/text/hi.train.jsonl.gz")
    )
    parser.add_argument("--peers", nargs="*", default=[], choices=["transformers", "mergekit"])
    parser.add_argument(
        "--mergekit",
        default="mergekit-tokensurgeon",
        help="its command, in an environment of its own",
    )
    parser.add_argument("--tool", choices=["copy", "lingraft", "transformers", "mergekit"])
    arguments = parser.parse_args()
    if arguments.tool:
        print(json.dumps(run_tool(arguments.tool, arguments.folder, arguments.mergekit)))
        return
    prepare(arguments)
    best: dict[str, list[float]] = {}
    linked = 0
    for number in range(arguments.rounds):
        for name in ["copy", "lingraft", *(arguments.peers if number == 0 else [])]:
            result = subprocess.run(
                [
                    sys.executable,
                    __file__,
                    "--tool",
                    name,
                    "--folder",
                    str(arguments.folder),
                    "--mergekit",
                    arguments.mergekit,
                ],
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            )
            seconds, memory, links = json.loads(result.stdout.splitlines()[-1])
            linked = max(linked, links)
            before = best.get(name, [float("inf"), 0.0])
            best[name] = [min(before[0], seconds), max(before[1], memory)]
    for name, (seconds, memory) in best.items():
        print(
            f"{name:12} {seconds:8.2f} s  "
            f"{seconds / best['copy'][0]:5.2f} x copying  {memory / 1e9:5.2f} GB"
        )
    shards = len(list((arguments.folder / "source").glob("*.safetensors")))
    print(
        f"{arguments.shape}, +{arguments.tokens} tokens: "
        f"lingraft hard-linked {linked} of {shards} shards"
    )
    shutil.rmtree(arguments.folder)


def prepare(arguments: argparse.Namespace) -> None:
    """Write the source model, the extended tokenizer and the splice."""
    from transformers import LlamaConfig

    from lingraft.bases.tokenizer_files import write_tokenizer
    from lingraft.splice import AddedToken, identity_splice
    from lingraft.tokenizer import open_tokenizer

    source, target = arguments.folder / "source", arguments.folder / "tokenizer"
    source.mkdir(parents=True)
    target.mkdir()
    tokenizer = open_tokenizer(arguments.tokenizer)
    write_tokenizer(tokenizer, source, context=8192)
    layers, width, inner = SHAPES[arguments.shape]
    config = LlamaConfig(
        vocab_size=tokenizer.size,
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        num_key_value_heads=8 if width >= 1024 else 4,
        dtype="bfloat16",
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_id,
        eos_token_id=tokenizer.eos_id,
        architectures=["LlamaForCausalLM"],
    )
    config.save_pretrained(source)
    write_weights(config, source)
    words: Counter[str] = Counter()
    with gzip.open(arguments.text, "rt", encoding="utf-8") as file:
        for line in file:
            words.update(" " + word for word in json.loads(line)["text"].split() if word.isalpha())
    known = tokenizer.vocabulary.ids
    surfaces = [word for word, _ in words.most_common() if word.encode() not in known][
        : arguments.tokens
    ]
    data = tokenizer.family.with_tokens([surface.encode() for surface in surfaces])
    shutil.copyfile(source / "tokenizer_config.json", target / "tokenizer_config.json")
    (target / "tokenizer.json").write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")
    ids = open_tokenizer(target).vocabulary.ids
    added = [
        AddedToken(ids[surface.encode()], surface.encode(), tuple(pieces))
        for surface, pieces in zip(surfaces, tokenizer.encode(surfaces), strict=True)
    ]
    splice = identity_splice(tokenizer.size, sorted(added, key=lambda token: token.id))
    (arguments.folder / "splice.json").write_text(splice.dumps(), encoding="utf-8")


def write_weights(config, folder: Path) -> None:
    """Write random weights in shards, one tensor in memory at a time where the format allows."""
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        shapes = {
            name: tuple(p.shape)
            for name, p in AutoModelForCausalLM.from_config(config).named_parameters()
        }
    total = 2 * sum(torch.Size(shape).numel() for shape in shapes.values())
    shards: list[dict[str, tuple[int, ...]]] = [{}]
    size = 0
    for name, shape in shapes.items():
        if size > total / SHARDS and len(shards) < SHARDS:
            shards.append({})
            size = 0
        shards[-1][name] = shape
        size += 2 * torch.Size(shape).numel()
    where = {}
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        save_file(
            {
                name: torch.empty(shape, dtype=torch.bfloat16).normal_(0, 0.02)
                for name, shape in shard.items()
            },
            folder / file,
            metadata={"format": "pt"},
        )
        where.update(dict.fromkeys(shard, file))
    index = {"metadata": {"total_size": total}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def run_tool(name: str, folder: Path, mergekit: str) -> tuple[float, float, int]:
    """Run one tool; return its seconds without imports, peak memory in bytes and linked files."""
    output = folder / "output"
    shutil.rmtree(output, ignore_errors=True)
    makers: dict[str, Callable[[Path, Path], Callable[[], object]]] = {
        "copy": copy,
        "lingraft": resize_with_lingraft,
        "transformers": resize_with_transformers,
        "mergekit": partial(tokensurgeon, mergekit),
    }
    work = makers[name](folder, output)
    begin = time.perf_counter()
    work()
    seconds = time.perf_counter() - begin
    links = sum(file.stat().st_nlink > 1 for file in output.glob("*.safetensors"))
    shutil.rmtree(output, ignore_errors=True)
    if name == "mergekit":
        return seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024.0, links
    status = Path("/proc/self/status").read_text(
        encoding="utf-8"
    )  # getrusage would count the parent's peak too
    return seconds, int(status.split("VmHWM:")[1].split()[0]) * 1024.0, links


def copy(folder: Path, output: Path):
    from lingraft.checkpoint import Checkpoint, embedding_names

    checkpoint = Checkpoint.open(folder / "source")
    files = {checkpoint.tensors[name].file for name in embedding_names(checkpoint).all}

    def work() -> None:
        output.mkdir()
        for file in files:
            with file.open("rb") as reader, (output / file.name).open("wb") as writer:
                shutil.copyfileobj(reader, writer, 8 * 2**20)

    return work


def resize_with_lingraft(folder: Path, output: Path):
    import transformers  # noqa: F401 - its import is no part of the work

    from lingraft import checkpoint
    from lingraft.embeddings import INITS
    from lingraft.splice import Splice

    splice = Splice.read(folder)
    mean = INITS.parse("mean")
    return lambda: checkpoint.resize_embeddings(
        folder / "source",
        folder / "tokenizer",
        splice,
        input_init=mean,
        output_init=mean,
        output=output,
    )


def resize_with_transformers(folder: Path, output: Path):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    def work() -> None:
        model = AutoModelForCausalLM.from_pretrained(folder / "source", dtype=torch.bfloat16)
        tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
        model.resize_token_embeddings(len(tokenizer), pad_to_multiple_of=64)
        model.save_pretrained(output)
        tokenizer.save_pretrained(output)

    return work


def tokensurgeon(mergekit: str, folder: Path, output: Path):
    donor = folder / "donor"
    if (
        not donor.exists()
    ):  # mergekit takes the new vocabulary from a model: a tiny one with the extended tokenizer
        from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

        tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
        LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(tokenizer),
                hidden_size=64,
                intermediate_size=64,
                num_hidden_layers=1,
                num_attention_heads=2,
            )
        ).save_pretrained(donor)
        tokenizer.save_pretrained(donor)
    command = [
        mergekit,
        str(folder / "source"),
        str(donor),
        str(output),
        "--approximation-method",
        "subword",
    ]
    return lambda: subprocess.run(command, check=True, capture_output=True)


if __name__ == "__main__":
    main()
