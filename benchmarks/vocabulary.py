"""Gain and cost of vocabulary extension on real tokenizers and text, compared with other tools.

    python benchmarks/vocabulary.py reduction   held-out tokens with +10,000 tokens, Llama-2
    python benchmarks/vocabulary.py methods     continued BPE, append and atomic at equal size
    python benchmarks/vocabulary.py published   +1,000 Hindi tokens and the paper's vocabulary
    python benchmarks/vocabulary.py time        `tokenizers` BPE, and continued BPE in Python
    python benchmarks/vocabulary.py memory      peak memory at 10, 30 and 88 MB of mixed text
    python benchmarks/vocabulary.py scale       time and memory of +30,000 tokens, up to 1 GB

Assets are read from ../shared/assets. Times are the best of several alternating runs, in seconds of
wall clock and of processor. Every measured run has its own process, so that its memory is measured
separately.
"""

from __future__ import annotations

import argparse
import gzip
import heapq
import json
import resource
import subprocess
import sys
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.grown_text import write_grown_text
from lingraft.corpus import Corpus
from lingraft.tokenizer import Family, open_tokenizer
from lingraft.tokenizer.json_format import build_backend
from lingraft.vocabulary import SELECTIONS, Selected, SelectionRequest
from lingraft.vocabulary.corpus_words import MAX_WORDS, count_words
from lingraft.workers import Workers

ASSETS = Path(__file__).resolve().parents[2] / "shared" / "assets"
LANGUAGES = ("hi", "ta", "ar", "tr")
MIXED = "en+hi+tr+ar+ta+th"
MB = 1_000_000
SCALE_SIZES = (125 * MB, 250 * MB, 500 * MB, 1000 * MB)
SAMPLE_SECONDS = 0.3


def texts(language: str, split: str = "train", limit: float = 1e12) -> list[str]:
    """Return documents in the order of the file, up to so many bytes."""
    found, size = [], 0
    with gzip.open(
        ASSETS / "text" / f"{language}.{split}.jsonl.gz", "rt", encoding="utf-8"
    ) as file:
        for line in file:
            found.append(json.loads(line)["text"])
            size += len(found[-1].encode())
            if size >= limit:
                break
    return found


def base(name: str) -> Family:
    """Open a tokenizer of the assets."""
    return open_tokenizer(ASSETS / "tokenizers" / name).family


def select(family: Family, documents: list[str], size: int, method: str = "continued") -> Selected:
    """Choose tokens as `lingraft adapt` does."""
    return SELECTIONS.parse(method).select(SelectionRequest(family, family.units(documents), size))


def extended(family: Family, chosen: Selected) -> Tokenizer:
    """Build the extended tokenizer."""
    return build_backend(
        family.with_units(chosen.surfaces)
        if chosen.whole_units
        else family.with_tokens(chosen.surfaces)
    )


def count(tokenizer: Tokenizer, documents: list[str]) -> int:
    """Count tokens."""
    return sum(
        len(encoding.ids)
        for encoding in tokenizer.encode_batch_fast(documents, add_special_tokens=False)
    )


def same(one: Tokenizer, other: Tokenizer, documents: list[str]) -> int:
    """Count documents with the same ids."""
    pairs = zip(
        one.encode_batch_fast(documents, add_special_tokens=False),
        other.encode_batch_fast(documents, add_special_tokens=False),
        strict=True,
    )
    return sum(a.ids == b.ids for a, b in pairs)


def unreachable(family: Family, tokenizer: Tokenizer, chosen: Selected) -> int:
    """Count added tokens that the model does not make of their own spelling."""
    from lingraft.tokenizer.json_format import build_model_only

    bare = build_model_only(json.loads(tokenizer.to_str()))
    cut = bare.encode_batch_fast(
        [family.piece_of(surface) for surface in chosen.surfaces], add_special_tokens=False
    )
    return sum(encoding.ids != [family.size + i] for i, encoding in enumerate(cut))


def reduction() -> None:
    """Print how far tokens fall on held-out text, by document and by line."""
    english = texts("en", "heldout")
    print(
        "| language | text | tokens before | after | by document | by line | unreachable | "
        "English identical |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for language in LANGUAGES:
        family = base("llama2")
        documents = texts(language, limit=12 * MB)
        chosen = select(family, documents, 10_000)
        before, after = build_backend(family.data), extended(family, chosen)
        heldout = texts(language, "heldout")
        lines = [line for text in heldout for line in text.split("\n")]
        a, b = count(before, heldout), count(after, heldout)
        by_line = count(before, lines) / count(after, lines)
        size = sum(len(text.encode()) for text in documents) / MB
        print(
            f"| {language} | {size:.1f} MB | {a} | {b} | {a / b:.3f} | {by_line:.3f} | "
            f"{unreachable(family, after, chosen)} | "
            f"{same(before, after, english)} of {len(english)} |",
            flush=True,
        )


def methods(*bases: str) -> None:
    """Print held-out tokens of each method with 10,000 added tokens (default: three bases)."""
    names = ("continued", "append", "atomic")
    print("| base | language |", " | ".join(names), "|")
    print("|---|---|" + "---|" * len(names))
    for name in bases or ("llama2", "qwen2", "pythia"):
        for language in LANGUAGES:
            family, documents, heldout = (
                base(name),
                texts(language, limit=12 * MB),
                texts(language, "heldout"),
            )
            counts = family.units(documents)
            totals = []
            for method in names:
                chosen = SELECTIONS.parse(method).select(SelectionRequest(family, counts, 10_000))
                totals.append(
                    f"{count(extended(family, chosen), heldout)} ({len(chosen.surfaces)})"
                )
            print(f"| {name} | {language} |", " | ".join(totals), "|", flush=True)


def published() -> None:
    """Print tokens a Hindi word on FLORES devtest and with the paper's own vocabulary."""
    import sentencepiece

    with gzip.open(
        ASSETS / "parallel" / "flores200-devtest.jsonl.gz", "rt", encoding="utf-8"
    ) as file:
        sentences = [json.loads(line)["hi"] for line in file]
    words = sum(len(sentence.split()) for sentence in sentences)
    (path,) = (ASSETS / "tokenizers" / "hindi-llama-bpe1k").iterdir()
    theirs = sum(
        map(len, sentencepiece.SentencePieceProcessor(model_file=str(path)).encode(sentences))
    )
    family = base("llama2")
    before = count(build_backend(family.data), sentences)
    ours = count(extended(family, select(family, texts("hi"), 1000)), sentences)
    print(
        f"tokens a word: Llama-2 {before / words:.2f}, the paper's +1,000 {theirs / words:.2f}, "
        f"continued BPE +1,000 {ours / words:.2f}"
    )


# -- time and memory: each measured run has its own process -------------------------------------


def run_continued(name: str, documents: list[str], size: int) -> None:
    """Learn as lingraft does."""
    select(base(name), documents, size)


def run_plain(name: str, documents: list[str], size: int) -> None:
    """Train a new BPE with `tokenizers` on the same text with the base's pre-tokenizer."""
    family = base(name)
    tokenizer = Tokenizer(models.BPE())
    if family.fallback:  # SentencePiece: words with the space before them, over characters
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        alphabet = []
    else:
        tokenizer.pre_tokenizer = build_backend(family.data).pre_tokenizer
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size + 256, show_progress=False, initial_alphabet=alphabet
    )
    tokenizer.train_from_iterator(documents, trainer, length=len(documents))


def run_python(name: str, documents: list[str], size: int) -> None:
    """Continue BPE in plain Python: encode each document, count words, merge in a dictionary."""
    family = base(name)
    words: Counter[tuple[int, ...]] = Counter()
    for document in documents:
        for unit in family.cut(document):
            words[tuple(family.segment([unit])[0])] += 1
    sequences = [list(word) for word in words]
    counts = list(words.values())
    pairs: Counter[tuple[int, int]] = Counter()
    where: dict[tuple[int, int], set[int]] = {}
    for i, word in enumerate(sequences):
        for pair in pairwise(word):
            pairs[pair] += counts[i]
            where.setdefault(pair, set()).add(i)
    heap = [(-number, pair) for pair, number in pairs.items()]
    heapq.heapify(heap)
    for step in range(size):
        best = next_best(heap, pairs)
        if best is None:
            return
        changed: set[tuple[int, int]] = set()
        for i in where.pop(best, set()):
            word = sequences[i]
            changed.update(pairwise(word))
            for pair in pairwise(word):
                pairs[pair] -= counts[i]
            sequences[i] = merged = merge(word, best, family.size + step)
            changed.update(pairwise(merged))
            for pair in pairwise(merged):
                pairs[pair] += counts[i]
                where.setdefault(pair, set()).add(i)
        del pairs[best]
        for pair in changed - {best}:
            heapq.heappush(heap, (-pairs[pair], pair))


def next_best(
    heap: list[tuple[int, tuple[int, int]]], pairs: Counter[tuple[int, int]]
) -> tuple[int, int] | None:
    """Pop entries until one is up to date."""
    while heap:
        negative, pair = heapq.heappop(heap)
        if pair in pairs and pairs[pair] == -negative > 0:
            return pair
    return None


def merge(word: list[int], pair: tuple[int, int], new: int) -> list[int]:
    """Replace a pair in a word."""
    merged, at = [], 0
    while at < len(word):
        fits = at + 1 < len(word) and (word[at], word[at + 1]) == pair
        merged.append(new if fits else word[at])
        at += 2 if fits else 1
    return merged


RUNS = {"continued": run_continued, "plain": run_plain, "python": run_python}


def measured(kind: str, name: str, languages: str, limit: float, size: int) -> dict[str, float]:
    """Run one kind in a process of its own and return its figures."""
    command = [sys.executable, __file__, "one", kind, name, languages, str(limit), str(size)]
    return json.loads(
        subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
    )


def one(kind: str, name: str, languages: str, limit: float, size: int) -> None:
    """Do one measured run: texts are read before the clock starts."""
    documents = [text for language in languages.split("+") for text in texts(language, limit=limit)]
    read = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    wall, cpu = time.monotonic(), time.process_time()
    RUNS[kind](name, documents, size)
    print(
        json.dumps(
            {
                "wall": time.monotonic() - wall,
                "cpu": time.process_time() - cpu,
                "read": read,
                "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                "bytes": sum(len(text.encode()) for text in documents),
            }
        )
    )


def timed(repeats: int) -> None:
    """Print times of continued BPE and plain training, alternating, and of plain Python once."""
    print(
        "| base | text | continued, wall (cpu) s | plain BPE | ratio | "
        "Python, document by document | peak MiB |"
    )
    print("|---|---|---|---|---|---|---|")
    cases = [("llama2", language, 12 * MB) for language in LANGUAGES] + [("qwen2", "hi", 12 * MB)]
    cases += [("qwen2", MIXED, 10**12)]
    for name, languages, limit in cases:
        rounds = [
            {
                kind: measured(kind, name, languages, limit, 10_000)
                for kind in ("continued", "plain")
            }
            for _ in range(repeats)
        ]
        best = {
            kind: min((row[kind] for row in rounds), key=lambda row: row["wall"])
            for kind in ("continued", "plain")
        }
        slow = (
            "not run"
            if limit > 100 * MB
            else f"{measured('python', name, languages, limit, 10_000)['wall']:.1f}"
        )
        ours, plain = best["continued"], best["plain"]
        print(
            f"| {name} | {languages} {ours['bytes'] / MB:.0f} MB | "
            f"{ours['wall']:.1f} ({ours['cpu']:.1f}) | "
            f"{plain['wall']:.1f} ({plain['cpu']:.1f}) | {ours['wall'] / plain['wall']:.2f} | "
            f"{slow} | {ours['peak']:.0f} |",
            flush=True,
        )


def memory() -> None:
    """Print peak memory beyond the text itself, at growing amounts of mixed text."""
    print("| text | peak MiB beyond the documents held | wall s |")
    print("|---|---|---|")
    for limit in (1.7 * MB, 5 * MB, 1e12):
        row = measured("continued", "qwen2", MIXED, limit, 10_000)
        print(
            f"| {row['bytes'] / MB:.0f} MB | {row['peak'] - row['read']:.0f} | {row['wall']:.1f} |",
            flush=True,
        )


# -- scale: a corpus on disk, counted by workers -----------------------------------------------


def scale(name: str = "qwen2", size: int = 30_000, workers: int = 2) -> None:
    """Print time and memory of learning, at growing amounts of text that was grown from real text.

    The text goes to a temporary folder of about 0.7 GB, which is removed.
    """
    with TemporaryDirectory() as folder:
        originals = {language: texts(language) for language in MIXED.split("+")}
        languages = write_grown_text(originals, SCALE_SIZES, Path(folder))
        for language, grown in languages.items():
            law = grown.law
            print(
                f"{language}: {law.words:,} words, {law.distinct:,} distinct, exponent "
                f"{law.exponent:.3f}; grown to {grown.words:,} words, {len(grown.known):,} "
                f"distinct, {law.at(grown.words):,.0f} by the law"
            )
        print("| text, MB | distinct | counting, s | learning, s | CPU s | peak PSS, MB |")
        print("|---|---|---|---|---|---|")
        for amount in SCALE_SIZES:
            row = watched("one-scale", name, f"{folder}/{amount}", str(size), str(workers))
            print(
                f"| {row['bytes'] / MB:.0f} | {row['distinct']:,} | {row['counting']:.1f} | "
                f"{row['learning']:.1f} | {row['cpu']:.1f} | {row['peak']:.0f} |",
                flush=True,
            )


def one_scale(name: str, folder: str, size: int, workers: int) -> None:
    """Learn from a corpus, as the stage does, and print seconds of wall clock and processor."""
    started = time.monotonic()
    family, corpus = base(name), Corpus.open(Path(folder))
    words = count_words(family, corpus, Workers(workers), MAX_WORDS)
    counted = time.monotonic()
    chosen = SELECTIONS.parse("continued").select(SelectionRequest(family, words.units, size))
    learned = time.monotonic()
    usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(
        json.dumps(
            {
                "bytes": words.bytes,
                "distinct": words.distinct,
                "tokens": len(chosen.surfaces),
                "counting": counted - started,
                "learning": learned - counted,
                "cpu": sum(usage.ru_utime + usage.ru_stime for usage in usages),
            }
        )
    )


def watched(*arguments: str) -> dict[str, float]:
    """Run a part in a process; return its figures and the peak memory of it and its workers.

    The memory is the proportional set size (PSS) of Linux: a page that processes share counts once.
    """
    command = [sys.executable, __file__, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    peak = 0
    while process.poll() is None:
        peak = max(peak, sum(map(pss, process_tree(process.pid))))
        time.sleep(SAMPLE_SECONDS)
    output, _ = process.communicate()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return {**json.loads(output.splitlines()[-1]), "peak": peak * 1024 / MB}


def process_tree(pid: int) -> list[int]:
    """Return a process and all that it started, directly or indirectly."""
    found = [pid]
    for parent in found:
        try:
            for children in Path(f"/proc/{parent}/task").glob("*/children"):
                found += map(int, children.read_text().split())
        except OSError:  # the process has ended
            continue
    return found


def pss(pid: int) -> int:
    """Return the proportional set size of a process in KiB, 0 if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def main() -> None:
    """Run one part."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "part",
        choices=[
            "reduction",
            "methods",
            "published",
            "time",
            "memory",
            "scale",
            "one",
            "one-scale",
        ],
    )
    parser.add_argument("rest", nargs="*")
    parser.add_argument("--repeats", type=int, default=3)
    chosen = parser.parse_args()
    if chosen.part == "one":
        kind, name, languages, limit, size = chosen.rest
        one(kind, name, languages, float(limit), int(size))
    elif chosen.part == "one-scale":
        name, folder, size, workers = chosen.rest
        one_scale(name, folder, int(size), int(workers))
    elif chosen.part == "scale":
        scale(*chosen.rest)
    elif chosen.part == "time":
        timed(chosen.repeats)
    elif chosen.part == "methods":
        methods(*chosen.rest)
    else:
        {"reduction": reduction, "published": published, "memory": memory}[chosen.part]()


if __name__ == "__main__":
    main()
