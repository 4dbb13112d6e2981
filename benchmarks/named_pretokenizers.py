"""Compare the base's pre-tokenizer, its mark-aware form and llama.cpp's named ones.

    python benchmarks/named_pretokenizers.py [--size 2000] [--megabytes 2] [--only qwen2]
        [--languages hi ta] [--text km=FILE] [--folder model=FOLDER]

One row for each tokenizer and language: held-out tokens after `--size` added tokens with each
pre-tokenizer, and how many texts get other ids in real llama.cpp, from the GGUF file of a tiny
random model with the named one. Languages without a corpus in the assets are learned from one half
of FLORES and measured on the other. Then, for each tokenizer, the English documents that the named
pre-tokenizer alone changes, or the reason why none fits.
"""

from __future__ import annotations

import argparse
import gzip
import json
import subprocess
import tempfile
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from lingraft.corpus import first_documents
from lingraft.export import export_gguf
from lingraft.pretokenizer.llama_cpp_names import find_llama_cpp_name
from lingraft.pretokenizer.named_pretokenizers import MARK_AWARE_NAMES
from lingraft.tokenizer import Family, ModelTokenizer, open_tokenizer
from lingraft.vocabulary import ContinuedBPE
from lingraft.vocabulary.base import SelectionRequest
from lingraft.vocabulary.build_splice import extend_family
from lingraft.vocabulary.pretokenizer_options import find_named_options, find_options

ROOT = Path(__file__).resolve().parents[1]
ASSETS = ROOT.parent / "shared" / "assets"
LLAMA_CPP = ROOT / ".venv" / "llama.cpp"
BASES = ("qwen2", "llama3", "gpt2", "pythia", "english-8m")
LANGUAGES = ("hi", "ta", "th", "ar", "te", "bn", "am")
HELDOUT_BYTES = 200_000
COMPARED = 200
"""Documents of each language whose ids are compared with llama.cpp."""

# Text of other kinds than prose: numbers, contractions, line ends, code, symbols, marks alone.
AWKWARD = (
    "1 12 123 1234 20240101 1,234.56 १२३ 3x4 v2",
    "don't DON'T we'Re O'Reilly's 'section\n'The n\u2019t “élan” (élan)",
    "a\n\nb\n\n\nc \n d\r\ne\t\tf   g",
    "def f(x):\n    return {'a': x[0]}\n\n\n# ok\n//\n/usr/bin",
    "iPhone McDonald PDFs camelCase USA's",
    "⚡️ fast a ❤️ b 1️⃣ 👩‍👩‍👧 ✔️\n☎️\n",
    "你好世界 ひらがな カタカナ 한국어 मेरा भाई ที่นี่ مَاءٌ ክረምት",
    "\u0301 x\u0301 ! \u093f क्‍ष \u200d",
)


def read_lines(path: Path) -> list[dict[str, str]]:
    """Return the rows of a compressed JSONL file."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def read_texts(language: str, megabytes: float, given: Mapping[str, Path]) -> dict[str, list[str]]:
    """Return training and held-out texts of a language, and English held-out texts."""
    english = [row["text"] for row in read_lines(ASSETS / "text" / "en.heldout.jsonl.gz")]
    corpus = ASSETS / "text" / f"{language}.train.jsonl.gz"
    if corpus.is_file():
        train = [row["text"] for row in read_lines(corpus)]
        heldout = [
            row["text"] for row in read_lines(corpus.with_name(f"{language}.heldout.jsonl.gz"))
        ]
    else:
        if language in given:
            lines = given[language].read_text(encoding="utf-8").splitlines()
            texts = [line for line in lines if line.strip()]
        else:
            rows = read_lines(ASSETS / "parallel" / "flores200-devtest.jsonl.gz")
            texts = [row[language] for row in rows]
        train, heldout = texts[::2], texts[1::2]
    train = list(first_documents(train, int(megabytes * 1e6)))
    heldout = list(first_documents(heldout, HELDOUT_BYTES))
    return {"train": train, "heldout": heldout, "english": english}


def export(folder: Path) -> Path:
    """Write the GGUF file of a tiny random model with this tokenizer."""
    config = LlamaConfig(
        vocab_size=open_tokenizer(folder).size,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    return export_gguf(folder, folder / "model.gguf", numbers="f16").path


def count_differences(tokenizer: ModelTokenizer, file: Path, texts: list[str]) -> int:
    """Count the texts that get other ids in llama.cpp."""
    texts = [unicodedata.normalize("NFC", text) for text in texts]
    asked = file.with_name("asked.json")
    asked.write_text(json.dumps({"model": {"file": str(file), "texts": texts}}), encoding="utf-8")
    answers = file.with_name("ids.json")
    script = Path(__file__).with_name("llama_cpp_ids.mjs")
    subprocess.run(["node", script, LLAMA_CPP, asked, answers], check=True, capture_output=True)
    found = json.loads(answers.read_text(encoding="utf-8"))["model"]
    return sum(a != b for a, b in zip(found, tokenizer.encode(texts), strict=True))


def measure(
    changed: Family, texts: Mapping[str, list[str]], size: int, folder: Path
) -> tuple[int, str]:
    """Learn tokens; return the held-out tokens, and the texts with other ids in llama.cpp."""
    counts = changed.units(texts["train"])
    selected = ContinuedBPE().select(SelectionRequest(changed, counts, size))
    data = extend_family(changed, selected)
    folder.mkdir()
    (folder / "tokenizer.json").write_text(json.dumps(data), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text("{}", encoding="utf-8")
    tokenizer = open_tokenizer(folder)
    tokens = sum(map(len, tokenizer.encode(texts["heldout"])))
    if find_llama_cpp_name(data) not in MARK_AWARE_NAMES:
        return tokens, ""
    file = export(folder)
    compared = [*texts["heldout"][:COMPARED], *texts["english"][:COMPARED], *AWKWARD]
    different = count_differences(tokenizer, file, compared)
    return tokens, f"{different} of {len(compared)}"


def rows_of(
    name: str, source: Path, texts: Mapping[str, Mapping[str, list[str]]], size: int
) -> Iterator[str]:
    """Yield a row of the table for each language."""
    family = open_tokenizer(source).family
    (repair,) = find_options(family, source)[:1]
    named = find_named_options(family, source).options
    changed = {"keep": family, "repair": repair.family}
    if named:
        changed["named"] = named[0].family
    for language, text in texts.items():
        found = {}
        for mode, option in changed.items():
            with tempfile.TemporaryDirectory() as folder:
                found[mode] = measure(option, text, size, Path(folder) / "made")
        tokens = {mode: f"{count:,}" for mode, (count, _) in found.items()}
        excess = ""
        if named:
            excess = f"{found['named'][0] / found['repair'][0] - 1:+.2%}"
        cells = [name, language, tokens["keep"], tokens["repair"]]
        cells += [tokens.get("named", "none fits"), excess]
        cells.append(found["named"][1] if named else "")
        yield f"| {' | '.join(cells)} |"


def english_line(name: str, source: Path) -> str:
    """Return how many English documents the named pre-tokenizer alone changes, or why none fits."""
    tokenizer = open_tokenizer(source)
    named = find_named_options(tokenizer.family, source)
    if not named.options:
        return f"- {name}: {named.reason}"
    texts = [
        row["text"]
        for split in ("train", "heldout")
        for row in read_lines(ASSETS / "text" / f"en.{split}.jsonl.gz")
    ]
    texts += [row["en"] for row in read_lines(ASSETS / "parallel" / "flores200-devtest.jsonl.gz")]
    option, changed = named.options[0], 0
    for before, after in zip(
        tokenizer.family.encode(texts), option.family.encode(texts), strict=True
    ):
        changed += before != after
    return f"- {name}: {option.llama_cpp} changes {changed} of {len(texts):,} English documents"


def path_by_name(values: list[str]) -> dict[str, Path]:
    """Read NAME=PATH arguments."""
    return {name: Path(path) for name, _, path in (value.partition("=") for value in values)}


def main() -> None:
    """Print the table, then a line for each tokenizer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=2000)
    parser.add_argument("--megabytes", type=float, default=2.0)
    parser.add_argument("--only", nargs="*", default=list(BASES))
    parser.add_argument("--languages", nargs="*", default=list(LANGUAGES))
    parser.add_argument("--text", nargs="*", default=[], help="LANGUAGE=FILE, one text a line")
    parser.add_argument("--folder", nargs="*", default=[], help="NAME=FOLDER of more tokenizers")
    arguments = parser.parse_args()
    arguments.text = path_by_name(arguments.text)
    sources = {name: ASSETS / "tokenizers" / name for name in arguments.only}
    if "english-8m" in sources:
        sources["english-8m"] = ASSETS / "models" / "english-8m"
    sources |= path_by_name(arguments.folder)
    columns = ["tokenizer", "language", "keep", "repair", "named", "named against repair"]
    columns.append("texts with other ids in llama.cpp")
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}", flush=True)
    texts = {}
    for language in (*arguments.languages, *arguments.text):
        texts[language] = read_texts(language, arguments.megabytes, arguments.text)
    for name, source in sources.items():
        for row in rows_of(name, source, texts, arguments.size):
            print(row, flush=True)
    for name, source in sources.items():
        print(english_line(name, source), flush=True)


if __name__ == "__main__":
    main()
