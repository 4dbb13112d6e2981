"""Tokens a word of Hindi with the vocabulary sizes of piece d, measured with real tokenizers."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from lingraft.advice import measure
from lingraft.corpus import Corpus, CorpusSettings, build_corpus
from lingraft.store import Draft
from lingraft.tokenizer import open_tokenizer
from lingraft.vocabulary import SELECTIONS, Extension, extend_tokenizer

Vocabulary = tuple[Path, int, int, int]
"""Tokenizer, tokens added, and the sizes of piece d that it stands for before and after."""


def vocabularies(tokenizers: Path) -> list[Vocabulary]:
    """Return the vocabularies of piece d: those of Llama-2 and of Qwen2, which has padding rows."""
    return [
        (tokenizers / "llama2", 10_000, 32_000, 42_000),
        (tokenizers / "qwen2", 30_000, 152_000, 182_000),
    ]


def measure_vocabularies(chosen: list[Vocabulary], text: Path) -> dict[str, Any]:
    """Extend each tokenizer with the Hindi text of the pack.

    Return tokens a word on held-out text, by size.
    """
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        hindi = _corpus(text, "hi", Path(scratch) / "hi")
        heldout = list(hindi.documents("heldout"))
        for tokenizer, added, before, after in chosen:
            draft = Draft(Path(scratch) / f"{before}")
            extend_tokenizer(
                tokenizer, [hindi], Extension(SELECTIONS.parse("continued"), added), draft
            )
            for size, folder in ((before, tokenizer), (after, draft.folder / "tokenizer")):
                words = measure(open_tokenizer(folder), heldout).tokens_per_word
                found[str(size)] = {
                    "tokens per word": words,
                    "tokenizer": tokenizer.name,
                    "added": size - before,
                }
                print(f"   {size:,} rows ({tokenizer.name}): {words:.3f} tokens a word", flush=True)
    return found


def _corpus(text: Path, language: str, folder: Path) -> Corpus:
    """Read the text of the pack, which is clean, as a corpus."""
    files = {split: str(text / f"{language}.{split}.jsonl.gz") for split in ("train", "heldout")}
    settings = CorpusSettings.model_validate(
        {"sources": [files["train"]], "heldout": [files["heldout"]]}
    )
    folder.mkdir()
    build_corpus(settings, language, Draft(folder))
    return Corpus.open(folder)
