"""Repair words that a regex splits at apostrophes and joiners: gain, cost and time.

    python benchmarks/word_internal.py gain TEXTS   tokens of each language with and without it
    python benchmarks/word_internal.py english      English documents that each rule would change
    python benchmarks/word_internal.py time TEXTS   encoding with both regexes, interleaved

TEXTS is a folder with LANGUAGE.txt files, a sentence on each line, for example the sentences of
Common Voice. A fifth of the lines is held out. Tokenizers and English documents are read from
../shared/assets.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import regex

from lingraft.pretokenizer.change import LETTER_AWARE, REWRITES
from lingraft.pretokenizer.word_internal import RULES
from lingraft.text_units import count_words
from lingraft.tokenizer import Family, open_tokenizer
from lingraft.tokenizer.json_format import build_backend
from lingraft.vocabulary import ContinuedBPE, SelectionRequest
from lingraft.vocabulary.pretokenizer_options import find_options, keep_effective

ASSETS = Path(__file__).resolve().parents[2] / "shared" / "assets"
REFUSED = {
    "Uzbek o' g' with ' or ’": r"[oOgG]['’]\p{L}",
    "' or ’ between vowels (Guarani, Hawaiian, Tahitian)": r"(?i)[aeiouy]['’][aeiouy]",
    "‘ between any Latin letters": r"\p{L}‘\p{L}",
    "' or ’ between any letters": r"\p{L}['’]\p{L}",
}
"""Rules that were considered, and change English documents."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=["gain", "english", "time"])
    parser.add_argument("texts", type=Path, nargs="?")
    parser.add_argument("--tokenizers", nargs="+", default=["gpt2", "qwen2"])
    parser.add_argument("--languages", nargs="+", default=["fa", "uk", "uz", "br", "ca", "or"])
    parser.add_argument("--size", type=int, default=5_000)
    arguments = parser.parse_args()
    if arguments.part == "english":
        english()
    elif arguments.part == "gain":
        gain(arguments.texts, arguments.tokenizers, arguments.languages, arguments.size)
    else:
        encoding_time(arguments.texts, arguments.tokenizers, arguments.languages)


def lines(folder: Path, language: str, limit: int = 2_000_000) -> list[str]:
    """Return the distinct lines of a language in random order, up to so many bytes."""
    texts = (folder / f"{language}.txt").read_text(encoding="utf-8").splitlines()
    distinct = list(dict.fromkeys(filter(str.strip, texts)))
    random.Random(0).shuffle(distinct)
    chosen, size = [], 0
    for text in distinct:
        size += len(text.encode())
        if size > limit:
            break
        chosen.append(text)
    return chosen


def english_documents() -> Iterable[str]:
    """Yield every English document of the assets."""
    for split in ("heldout", "train"):
        path = ASSETS / "text" / f"en.{split}.jsonl.gz"
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for line in file:
                yield json.loads(line)["text"]


def gain(folder: Path, tokenizers: list[str], languages: list[str], size: int) -> None:
    """Print the lower bound and the tokens per word, with the base's regex and the repaired one."""
    documents = list(english_documents())
    print(
        "| base | language | words | repair | floor before | after | tokens per word now | "
        f"+{size:,} kept | +{size:,} repaired | saved | English documents changed |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for name in tokenizers:
        tokenizer = open_tokenizer(ASSETS / "tokenizers" / name)
        family = tokenizer.family
        options = find_options(family, tokenizer.folder)
        english_ids = family.encode(documents)
        moved = {}
        for option in options:
            changed_ids = option.family.encode(documents)
            pairs = zip(english_ids, changed_ids, strict=True)
            moved[option.rewrite.name] = sum(before != after for before, after in pairs)
        for language in languages:
            texts = lines(folder, language)
            heldout, train = texts[: len(texts) // 5], texts[len(texts) // 5 :]
            words = sum(map(count_words, texts))
            heldout_words = sum(map(count_words, heldout))
            floor = family.units(texts).total() / words
            effective = keep_effective(family, options, texts)
            now = sum(map(len, family.encode(heldout))) / heldout_words
            kept = tokens_after(family, train, heldout, size) / heldout_words
            row = f"| {name} | {language} | {words:,} "
            if not effective:
                print(f"{row}| none | {floor:.3f} | | {now:.3f} | {kept:.3f} | | | |", flush=True)
                continue
            best = effective[-1]
            after = best.family.units(texts).total() / words
            repaired = tokens_after(best.trained, train, heldout, size) / heldout_words
            print(
                f"{row}| {best.rewrite.name} | {floor:.3f} | {after:.3f} | {now:.3f} | "
                f"{kept:.3f} | {repaired:.3f} | {1 - repaired / kept:.1%} | "
                f"{moved[best.rewrite.name]} of {len(documents):,} |",
                flush=True,
            )


def tokens_after(family: Family, train: list[str], heldout: list[str], size: int) -> int:
    """Return the tokens of the held-out lines with tokens that are learned from the others."""
    selected = ContinuedBPE().select(SelectionRequest(family, family.units(train), size))
    backend = build_backend(family.with_tokens(selected.surfaces))
    encodings = backend.encode_batch_fast(heldout, add_special_tokens=False)
    return sum(len(encoding.ids) for encoding in encodings)


def english() -> None:
    """Print the number of English documents with the context of each rule."""
    rules = {rule.language: rule.expression for rule in RULES} | REFUSED
    found = dict.fromkeys(rules, 0)
    patterns = {name: regex.compile(expression) for name, expression in rules.items()}
    documents = 0
    for text in english_documents():
        documents += 1
        for name, pattern in patterns.items():
            found[name] += pattern.search(text) is not None
    print(f"| rule | used | English documents of {documents:,} with its context |")
    print("|---|---|---|")
    for name, number in found.items():
        print(f"| {name} | {'no' if name in REFUSED else 'yes'} | {number:,} |")


def encoding_time(
    folder: Path, tokenizers: list[str], languages: list[str], rounds: int = 3
) -> None:
    """Print the seconds that encoding 1 MB takes, the best of interleaved rounds, on one thread."""
    print("| base | language | own regex | letter-aware | mark-aware | both |")
    print("|---|---|---|---|---|---|")
    for name in tokenizers:
        tokenizer = open_tokenizer(ASSETS / "tokenizers" / name)
        forms: dict[str, dict[str, Any] | None] = {"own": tokenizer.family.data}
        forms |= {rewrite.name: rewrite.rewrite(tokenizer.family.data) for rewrite in REWRITES}
        backends = {form: build_backend(data) for form, data in forms.items() if data}
        for language in languages:
            texts = lines(folder, language, 1_000_000)
            best = dict.fromkeys(backends, float("inf"))
            for _ in range(rounds):
                for form, backend in backends.items():
                    started = time.process_time()
                    for text in texts:
                        backend.encode(text, add_special_tokens=False)
                    best[form] = min(best[form], time.process_time() - started)
            order = ("own", LETTER_AWARE.name, REWRITES[0].name, REWRITES[-1].name)
            cells = " | ".join(f"{best[form]:.2f}" if form in best else "" for form in order)
            print(f"| {name} | {language} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
