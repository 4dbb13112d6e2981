"""Equal premiums against shares of the text: Gini coefficient, premiums and time.

    python benchmarks/premium_balance.py [--bases qwen2 llama2] [--size 20000] [--megabytes 3]
                                         [--methods T=1 T=2 T=5 premium table weights]
                                         [--text te=FILE ...]

The assets have FLORES-200 devtest only, so its 1,012 sentences are split: premiums are counted on
the first 506 while tokens are learned, and measured on the other 506, which are of other articles.
Tokens are learned from text of the assets. Telugu, Bengali and Swahili have none there: they are
learned from the first 506 sentences themselves, or from a file of --text (jsonl with `text`).

`weights` is the alternative to the greedy choice: ordinary continued BPE on a mixture in which the
weight of each language is multiplied by (premium / mean premium)^4 after each of 6 passes.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lingraft.tokenizer import Family, family_of, open_tokenizer
from lingraft.tokenizer.premiums import gini
from lingraft.vocabulary import ContinuedBPE, Selected, SelectionRequest
from lingraft.vocabulary.build_splice import extend_family
from lingraft.vocabulary.corpus_words import CorpusWords
from lingraft.vocabulary.language_shares import mix_counts
from lingraft.vocabulary.premium_balance import PremiumBalance
from lingraft.vocabulary.pretokenizer_choice import choose_pretokenizer
from lingraft.vocabulary.unchanged_text import BaseText

ASSETS = Path("../shared/assets")
LANGUAGES = ("hi", "ta", "te", "bn", "th", "ar", "tr", "sw")
METHODS = ("T=1", "T=2", "T=5", "premium", "table", "weights")
LEARNED = 506
SAMPLE_BYTES = 100_000
PASSES, POWER = 6, 4
Columns = dict[str, list[str]]


def read_lines(file: Path) -> list[dict[str, str]]:
    """Read a file of JSON lines, compressed or not."""
    opener = gzip.open if file.suffix == ".gz" else open
    with opener(file, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def first_bytes(documents: Sequence[str], limit: float) -> list[str]:
    """Return the first documents up to a number of bytes."""
    kept, size = [], 0
    for text in documents:
        if size >= limit:
            break
        kept.append(text)
        size += len(text.encode())
    return kept


@dataclass
class Setting:
    """A base with its chosen pre-tokenizer, the words of each language, and the sentences."""

    base: Family
    family: Family
    words: list[CorpusWords]
    counted: Columns
    measured: Columns
    size: int

    def learn(self, method: str) -> Selected:
        """Select tokens by a method."""
        if method.startswith("T="):
            return self._mix(float(method[2:]))
        if method == "weights":
            return self._adapt_weights()
        balance = PremiumBalance(self.counted if method == "premium" else None)
        texts = balance.texts(self.family, self.words)
        return ContinuedBPE().select(
            SelectionRequest(self.family, Counter(), self.size, balanced=texts)
        )

    def _mix(self, temperature: float, weights: Sequence[float] | None = None) -> Selected:
        units = [words.units for words in self.words]
        sizes = [words.bytes for words in self.words]
        counts = mix_counts(units, sizes, temperature, weights)
        return ContinuedBPE().select(SelectionRequest(self.family, counts, self.size))

    def _adapt_weights(self) -> Selected:
        # T=1000 gives all languages the same share, so that the weights alone decide.
        weights = [1.0] * len(LANGUAGES)
        for number in range(PASSES):
            selected = self._mix(1000, weights)
            costs = self.costs(self.extended(selected), self.counted)
            premiums = [costs[language] for language in LANGUAGES]
            print(f"pass {number + 1} of weights: Gini {gini(premiums):.4f}", flush=True)
            mean = sum(premiums) / len(premiums)
            for index, premium in enumerate(premiums):
                weights[index] *= (premium / mean) ** POWER
        return selected

    def extended(self, selected: Selected) -> Family:
        """Return the extended tokenizer."""
        return family_of(extend_family(self.family, selected), Path("base"))

    def costs(self, family: Family, sentences: Columns) -> dict[str, float]:
        """Return the tokens of each language divided by those of English."""
        tokens = {language: count(family, texts) for language, texts in sentences.items()}
        return {language: tokens[language] / tokens["en"] for language in (*LANGUAGES, "en")}


def count(family: Family, texts: Sequence[str]) -> int:
    """Return the tokens of texts."""
    units = family.units(texts)
    return sum(
        len(ids) * number
        for ids, number in zip(family.segment(list(units)), units.values(), strict=True)
    )


def prepare(base: str, size: int, megabytes: float, files: dict[str, Path]) -> Setting:
    """Read the text and choose the pre-tokenizer, as `lingraft extend` does."""
    rows = read_lines(ASSETS / "parallel" / "flores200-devtest.jsonl.gz")
    columns = {tag: [str(row[tag]) for row in rows] for tag in (*LANGUAGES, "en")}
    counted = {tag: texts[:LEARNED] for tag, texts in columns.items()}
    texts = {}
    for language in LANGUAGES:
        file = files.get(language, ASSETS / "text" / f"{language}.train.jsonl.gz")
        if file.is_file():
            documents = [line["text"] for line in read_lines(file)]
            # Documents from all of the file: it is sorted by source.
            total = sum(len(text.encode()) for text in documents)
            step = max(int(total / (megabytes * 1e6)), 1)
            texts[language] = first_bytes(documents[::step], megabytes * 1e6)
        else:
            texts[language] = counted[language]
    sample = []
    for documents in texts.values():
        sample += first_bytes(documents, SAMPLE_BYTES)
    folder = ASSETS / "tokenizers" / base
    family = open_tokenizer(folder).family
    decision = choose_pretokenizer(
        family,
        "auto",
        texts=sample,
        base=BaseText(columns["en"]),
        selection=ContinuedBPE(),
        size=size,
        where=folder,
    )
    print(f"{base}: {decision.change}", flush=True)
    words = []
    for language, documents in texts.items():
        length = sum(len(text.encode()) for text in documents)
        units = decision.family.units(documents)
        words.append(CorpusWords(language, length, units, Counter(), len(units)))
        print(f"{language}: {length / 1e6:.2f} MB, {len(units):,} distinct words", flush=True)
    measured = {tag: texts[LEARNED:] for tag, texts in columns.items()}
    return Setting(family, decision.family, words, counted, measured, size)


def row(
    name: str, setting: Setting, family: Family, seconds: float, before: dict[str, float]
) -> str:
    """Return a line of the table."""
    measured = setting.costs(family, setting.measured)
    targets = [measured[language] for language in LANGUAGES]
    counted = setting.costs(family, setting.counted)
    longer = sum(measured[language] > before[language] for language in LANGUAGES)
    cells = [
        name,
        f"{gini([counted[language] for language in LANGUAGES]):.4f}",
        f"{gini(targets):.4f}",
        f"{gini([*targets, 1.0]):.4f}",
        *(f"{premium:.2f}" for premium in (*targets, sum(targets) / len(targets))),
        str(longer),
        f"{seconds:.0f}",
    ]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Print a table for each base."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--bases", nargs="+", default=["qwen2", "llama2"])
    parser.add_argument("--size", type=int, default=20_000)
    parser.add_argument("--megabytes", type=float, default=3)
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--text", nargs="*", default=[], metavar="LANGUAGE=FILE")
    given = parser.parse_args()
    files = {tag: Path(file) for tag, _, file in (text.partition("=") for text in given.text)}
    for base in given.bases:
        setting = prepare(base, given.size, given.megabytes, files)
        before = setting.costs(setting.base, setting.measured)
        titles = ("", "Gini counted", "Gini", "with en", *LANGUAGES, "mean", "longer", "CPU s")
        print("| " + " | ".join(titles) + " |\n|" + "---|" * len(titles))
        print(row("before", setting, setting.base, 0, before), flush=True)
        english = count(setting.family, setting.measured["en"])
        bounds = []
        for language in LANGUAGES:
            units = setting.family.units(setting.measured[language]).total()
            bounds.append(f"{language} {units / english:.2f}")
        print(f"lower bounds: {', '.join(bounds)}", flush=True)
        for method in given.methods:
            started = time.process_time()
            selected = setting.learn(method)
            seconds = time.process_time() - started
            print(row(method, setting, setting.extended(selected), seconds, before), flush=True)
            chosen = {name: n for name, n in selected.notes.items() if name.startswith("tokens ")}
            if chosen:
                print(chosen, flush=True)


if __name__ == "__main__":
    main()
