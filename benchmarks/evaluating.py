"""How long `lingraft evaluate` takes: two models, one language, 1,000 held-out sentences, and the same once more.

    python benchmarks/evaluating.py [--language hi] [--sentences 1000] [--rounds 3]

Run from the root of the repository; ../shared/assets must be there. The first model is english-8m, the second one the
same with 3,000 tokens of the language spliced in. The sentences are those of FLORES-200 (devtest). The command is run
as a user would, in a process of its own: everything is inside the clock, with libraries to load and generation to time.
Each round begins with an empty store; the best of the rounds counts.
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
            f"{arguments.sentences:,} sentences, {size:,} bytes of {arguments.language}, two models; best of "
            f"{arguments.rounds}: {min(times['first']):.1f} s, the same again {min(times['again']):.1f} s"
        )


def write_sentences(arguments: argparse.Namespace, path: Path) -> int:
    """Write the first sentences of FLORES in the language, a document each, and return their bytes."""
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
