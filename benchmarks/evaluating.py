"""The time of `lingraft evaluate`: two models, one language, 1,000 held-out sentences, run twice.

    python benchmarks/evaluating.py [--language hi] [--sentences 1000] [--rounds 3]

Run from the root of the repository; ../shared/assets must exist. The first model is english-8m, the
second is the same model with 3,000 added tokens of the language. The sentences are from FLORES-200
(devtest). The command runs in its own process, as a user would run it, so the time includes loading
libraries and timing generation. Each round begins with an empty store; the best round counts.
"""

from __future__ import annotations

import argparse
import gzip
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MODEL = "models/english-8m"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--assets", type=Path, default=Path("../shared/assets"))
    parser.add_argument("--language", default="hi")
    parser.add_argument("--sentences", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text = folder / f"{arguments.language}.jsonl"
        size = write_sentences(arguments, text)
        lingraft(
            "extend",
            "--model",
            arguments.assets / MODEL,
            "--language",
            arguments.language,
            "--text",
            arguments.assets / "text" / f"{arguments.language}.train.jsonl.gz",
            "--size",
            3000,
            "-o",
            "target.limit.bytes=2 MB",
            "--store",
            folder / "made",
            "-O",
            folder / "spliced",
        )
        times: dict[str, list[float]] = {"first": [], "again": []}
        for turn in range(arguments.rounds):
            for which, taken in times.items():
                taken.append(
                    lingraft(
                        "evaluate",
                        arguments.assets / MODEL,
                        folder / "spliced",
                        "--text",
                        f"{arguments.language}={text}",
                        "--store",
                        folder / f"store-{turn}",
                        "-O",
                        folder / f"{which}-{turn}",
                    )
                )
        print(
            f"{arguments.sentences:,} sentences, {size:,} bytes of {arguments.language}, "
            f"two models; best of {arguments.rounds}: "
            f"{min(times['first']):.1f} s, the same again {min(times['again']):.1f} s"
        )


def write_sentences(arguments: argparse.Namespace, path: Path) -> int:
    """Write the first FLORES sentences of the language as documents; return their bytes."""
    with gzip.open(
        arguments.assets / "parallel" / "flores200-devtest.jsonl.gz", "rt", encoding="utf-8"
    ) as file:
        sentences = [json.loads(line)[arguments.language] for line in file][: arguments.sentences]
    path.write_text(
        "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in sentences),
        encoding="utf-8",
    )
    return sum(len(text.encode()) for text in sentences)


def lingraft(*words: object) -> float:
    """Run a command; return its seconds."""
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "lingraft", *map(str, words)], check=True, stdout=subprocess.DEVNULL
    )
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
