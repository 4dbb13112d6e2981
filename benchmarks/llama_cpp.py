"""Compare exported GGUF files with transformers: `python benchmarks/llama_cpp.py architectures`.

`architectures`: a small model of each architecture of the tests, trained on the sentences of the
tests so that its predictions are peaked; logits after each position of text, and greedy tokens.
`tokenizers`: the ids of awkward and real text with the published tokenizer of a family.
`trained FOLDER ...`: the same for given model folders, with greedy tokens.

llama.cpp itself is asked, the one of `.venv/llama.cpp`, which `make test` installs with npm.
"""

from __future__ import annotations

import argparse
import gzip
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import transformers

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from lingraft.errors import ModelError
from lingraft.export import export_gguf
from lingraft.splice import identity_splice
from lingraft.tokenizer import open_tokenizer
from lingraft.tokenizer.save_tokenizer import save_tokenizer
from tests.conftest import ENGLISH, HINDI
from tests.gguf_models import MODELS, Job, ask_llama_cpp, build

ASSETS = Path(__file__).parent.parent.parent / "shared" / "assets"
LANGUAGES = ("en", "hi", "tr", "ar", "ta", "th")
AWKWARD = (
    "",
    "  two  leading spaces ",
    "\n\n\n a\n",
    "\t\tx = 1\n\n    return x\r\n",
    "don't DON'T I'LL we've",
    "123 4567 89.01 २०२३ ٣٤",
    "🙂🚀 👨‍👩‍👧 naïve café e\u0301",
    "\u200d\u200c a\u00a0b\u3000c",
    "İstanbul'un IĞDIR ışık",
    "<|im_end|> </s> <s> <unk>",
    "क्षत्रिय ज़िंदगी เด็กๆ กำลัง 日本語テスト 한국어",
    "x" * 300,
    "\x01\x7f …—“q” foo_bar(baz)[0]{1}",
)
"""Each has what tokenizers disagree on; all are in NFC except one, which keeps its marks apart."""

SENTENCES = (*ENGLISH, *HINDI)
POSITIONS = 40


def documents(count: int) -> Iterator[str]:
    """Yield the first held-out documents of each language."""
    for language in LANGUAGES:
        with gzip.open(ASSETS / "text" / f"{language}.heldout.jsonl.gz", "rt") as lines:
            for _, line in zip(range(count), lines, strict=False):
                yield json.loads(line)["text"][:3000]


def train(folder: Path, steps: int) -> None:
    """Train a small model on a few sentences, so that its next token is seldom a near-tie."""
    config = transformers.AutoConfig.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_config(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    rows = [torch.tensor([ids[:48]]) for ids in open_tokenizer(folder).encode(SENTENCES)]
    for step in range(steps):
        row = rows[step % len(rows)]
        optimizer.zero_grad()
        model(row, labels=row).loss.backward()
        optimizer.step()
    model.save_pretrained(folder)


def compare(folder: Path, file: Path, texts: Sequence[str], compared: int) -> str:
    """Return one row of the table: ids, logits and greedy tokens of llama.cpp and transformers."""
    job = Job(file, texts, compared=compared, positions=POSITIONS, count=16)
    (answers,) = ask_llama_cpp([job], file.parent)
    wanted = open_tokenizer(folder).encode(texts)
    different = sum(a["ids"] != ids for a, ids in zip(answers, wanted, strict=True))
    cells = [f"{sum(map(len, wanted)):,}", f"{different} of {len(texts)}"]
    if compared:
        cells += compare_logits(folder, answers[:compared], wanted)
    return " | ".join(cells)


def compare_logits(folder: Path, answers: list[dict], wanted: list[list[int]]) -> list[str]:
    """Return the spread of logits, their largest difference, and how many greedy tokens agree."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    worst, spread, agree, total = 0.0, 0.0, 0, 0
    for answer, ids in zip(answers, wanted, strict=False):
        prompt = ids[:POSITIONS]
        if not prompt:
            continue
        with torch.no_grad():
            logits = model(torch.tensor([[*prompt, *answer["greedy"]]])).logits[0]
        found = torch.tensor(answer["logits"])
        worst = max(worst, float((found - logits[: len(prompt)]).abs().max()))
        spread = max(spread, float(logits.std()))
        chosen = logits[len(prompt) - 1 : -1].argmax(-1).tolist()
        agree += sum(a == b for a, b in zip(chosen, answer["greedy"], strict=True))
        total += len(chosen)
    return [f"{spread:.1f}", f"{worst:.1e}", f"{agree} of {total}"]


def architectures(steps: int) -> None:
    """Print a row for each architecture."""
    print("| model | ids | texts that differ | spread of logits | largest difference | greedy |")
    print("|---|--:|--:|--:|--:|--:|")
    texts = [*SENTENCES, *AWKWARD]
    for name in MODELS:
        with tempfile.TemporaryDirectory() as scratch:
            folder = build(name, Path(scratch) / "model")
            train(folder, steps)
            file = export_gguf(folder, Path(scratch) / "model.gguf").path
            print(f"| {name} | {compare(folder, file, texts, len(texts))} |", flush=True)


def tokenizers() -> None:
    """Print a row for each published tokenizer, with the ids of awkward and real text."""
    print("| tokenizer | as | ids | texts that differ |")
    print("|---|---|--:|--:|")
    texts = [*AWKWARD, *documents(150)]
    families = {
        "llama2": "llama",
        "mistral": "llama",
        "hindi-llama-bpe1k": "llama",
        "llama3": "llama",
        "qwen2": "qwen2",
        "gpt2": "llama",
        "pythia": "llama",
    }
    for name, kind in families.items():
        with tempfile.TemporaryDirectory() as scratch:
            folder = published(name, kind, Path(scratch) / "model")
            try:
                exported = export_gguf(folder, Path(scratch) / "model.gguf")
            except ModelError as error:
                print(f"| {name} | refused: {error} | | |", flush=True)
                continue
            row = compare(folder, exported.path, texts, 0)
            print(f"| {name} | {exported.pretokenizer} | {row} |", flush=True)


def published(name: str, kind: str, folder: Path) -> Path:
    """Write a tiny random model with a published tokenizer."""
    source = folder.with_name("source")
    source.mkdir()
    for path in (ASSETS / "tokenizers" / name).iterdir():
        if path.name.endswith("tokenizer.json.gz"):
            (source / "tokenizer.json").write_bytes(gzip.decompress(path.read_bytes()))
        elif path.name.startswith("tokenizer.model"):
            shutil.copy(path, source / "tokenizer.model")
        elif path.suffix != ".tiktoken":
            shutil.copy(path, source)
    tokenizer = open_tokenizer(source)
    folder.mkdir()
    save_tokenizer(tokenizer, tokenizer.family.data, identity_splice(tokenizer.size), folder)
    settings = {"vocab_size": tokenizer.size, "hidden_size": 32, "intermediate_size": 32}
    layers = {"num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2}
    ends = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    config = transformers.AutoConfig.for_model(kind, **settings, **layers, **ends)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def trained(folders: Sequence[Path]) -> None:
    """Print a row for each given model folder."""
    print("| model | ids | texts that differ | spread of logits | largest difference | greedy |")
    print("|---|--:|--:|--:|--:|--:|")
    texts = [*(text[:400] for text in documents(2)), *AWKWARD, *documents(150)]
    for folder in folders:
        with tempfile.TemporaryDirectory() as scratch:
            file = export_gguf(folder, Path(scratch) / "model.gguf", numbers="f32").path
            print(f"| {folder.name} | {compare(folder, file, texts, 12)} |", flush=True)


def main() -> None:
    """Run one of the comparisons."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("architectures", "tokenizers", "trained"))
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--steps", type=int, default=64)
    settings = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    if settings.what == "architectures":
        architectures(settings.steps)
    elif settings.what == "tokenizers":
        tokenizers()
    else:
        trained(settings.folders)


if __name__ == "__main__":
    main()
