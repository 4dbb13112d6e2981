"""Extend every real tokenizer for five languages and count the exceptions in its certificate.

    python benchmarks/families.py [--size 2000] [--megabytes 3] [--only qwen2 t5]

One line for each tokenizer and language: held-out tokens before and after, and the exceptions to
the fatal claims (0 is expected everywhere). A failing certificate is printed, not raised.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from lingraft.corpus import Corpus, CorpusSettings, build_corpus
from lingraft.errors import CertificateError
from lingraft.store import Draft
from lingraft.tokenizer import open_tokenizer
from lingraft.vocabulary import ContinuedBPE, Extension, extend_tokenizer

ASSETS = Path(__file__).resolve().parents[2] / "shared" / "assets"
TOKENIZERS = ("llama2", "mistral", "llama3", "qwen2", "pythia", "gpt2", "nemo", "t5", "focus-ar")
LANGUAGES = ("hi", "tr", "ar", "ta", "th")


def corpus(language: str, root: Path, megabytes: float) -> Corpus:
    """Build the corpus of a language."""
    folder = root / language
    if not folder.exists():
        folder.mkdir()
        text = str(ASSETS / "text" / f"{language}.train.jsonl.gz")
        source = {"path": text, "limit": {"bytes": int(megabytes * 1e6)}}
        heldout = str(ASSETS / "text" / f"{language}.heldout.jsonl.gz")
        settings = CorpusSettings.model_validate(
            {"sources": source, "heldout": heldout, "heldout_bytes": 200_000}
        )
        build_corpus(settings, language, Draft(folder))
    return Corpus.open(folder)


def row(name: str, language: str, size: int, megabytes: float, root: Path) -> str:
    """Extend one tokenizer for one language and tell what came out."""
    folder = root / f"{name}-{language}"
    folder.mkdir()
    draft, text = Draft(folder), corpus(language, root, megabytes)
    failed = ""
    try:
        extend_tokenizer(
            ASSETS / "tokenizers" / name,
            [text],
            Extension(ContinuedBPE(), size),
            draft,
            base=corpus("en", root, megabytes),
        )
    except CertificateError:
        failed = " FAILED"
    claims = json.loads((folder / "certificate.json").read_text(encoding="utf-8"))["claims"]
    exceptions = {
        claim["name"]: claim["value"] for claim in claims if claim["fatal"] and claim["value"]
    }
    english = next(
        claim for claim in claims if claim["name"] == "base-language documents identical"
    )
    documents = list(text.documents("heldout"))
    before, after = (
        sum(map(len, open_tokenizer(place).encode(documents)))
        for place in (ASSETS / "tokenizers" / name, folder / "tokenizer")
    )
    added = len(json.loads((folder / "splice.json").read_text(encoding="utf-8"))["added"])
    repaired = "yes" if draft.notes.get("pre-tokenizer repaired") else "no"
    return (
        f"| {name} | {language} | {added} | {repaired} | "
        f"{before} | {after} | {before / after:.2f} | "
        f"{len([c for c in claims if c['fatal']])} | {exceptions or 0}{failed} | "
        f"{english['of'] - english['value']} of {english['of']} |"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=2000)
    parser.add_argument("--megabytes", type=float, default=3.0)
    parser.add_argument("--only", nargs="*", default=TOKENIZERS)
    chosen = parser.parse_args()
    print(
        "| tokenizer | language | added | repaired | tokens before | after | factor | "
        "fatal claims | exceptions | English documents identical |\n"
        "|---|---|---|---|---|---|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory() as root:
        for name in chosen.only:
            for language in LANGUAGES:
                print(row(name, language, chosen.size, chosen.megabytes, Path(root)), flush=True)


if __name__ == "__main__":
    main()
