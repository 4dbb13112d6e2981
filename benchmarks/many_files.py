"""Time and memory of a corpus of many files, and counting on Ray with a worker killed.

    python benchmarks/many_files.py                  # 2,000, 5,000 and 10,000 files
    python benchmarks/many_files.py --files 300      # a smoke test
    python benchmarks/many_files.py --ray            # counts the last corpus on Ray as well

Real Hindi text of ../shared/assets is dealt out to files of three kinds, a third each. Every size
has its own process. Times are seconds of processor. With --ray, the words are counted in this
process and by two workers of a Ray cluster on this machine, of which one is killed while it counts;
the counts must be equal.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq

from lingraft.corpus import Corpus, CorpusSettings, build_corpus, identity_of, list_files, look_at
from lingraft.store import Draft
from lingraft.tokenizer import open_tokenizer
from lingraft.vocabulary import corpus_words
from lingraft.workers import HERE, Workers

ASSETS = Path(__file__).resolve().parents[2] / "shared" / "assets"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, nargs="+", default=[2000, 5000, 10_000])
    parser.add_argument("--ray", action="store_true")
    parser.add_argument("--one", help="a folder of files: measure it in this process")
    arguments = parser.parse_args()
    if arguments.one:
        measure(Path(arguments.one), on_ray=arguments.ray)
        return
    print("| files | listing | first look | hashing | building | text, MB | peak memory, MB |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for count in arguments.files:
        with TemporaryDirectory() as folder:
            files = Path(folder, "files")
            write_files(files, count)
            command = [sys.executable, __file__, "--one", str(files)]
            last = arguments.ray and count == arguments.files[-1]
            environment = {**os.environ, "XDG_CACHE_HOME": folder}  # no hashes of earlier runs
            subprocess.run([*command, *(["--ray"] if last else [])], check=True, env=environment)


def write_files(folder: Path, count: int) -> None:
    """Deal the documents out to files of three kinds."""
    folder.mkdir()
    with gzip.open(ASSETS / "text/hi.train.jsonl.gz", "rt", encoding="utf-8") as lines:
        texts = [json.loads(line)["text"] for line in lines]
    for number in range(count):
        own, path = texts[number::count], folder / f"part-{number:05d}"
        written = "".join(json.dumps({"text": text}) + "\n" for text in own)
        if number % 3 == 0:
            path.with_suffix(".jsonl.gz").write_bytes(gzip.compress(written.encode()))
        elif number % 3 == 1:
            pq.write_table(pa.table({"text": own}), path.with_suffix(".parquet"))
        else:
            path.with_suffix(".jsonl").write_text(written, encoding="utf-8")


def measure(files: Path, *, on_ray: bool) -> None:
    """Print the line of a folder of files; count its words on Ray if asked."""
    settings = CorpusSettings.model_validate({"sources": str(files)})
    seconds = []

    def timed(function, *given):
        began = time.process_time()
        result = function(*given)
        seconds.append(time.process_time() - began)
        return result

    listing = timed(list_files, settings)
    timed(look_at, settings, "hi")
    timed(identity_of, settings, "hi", listing)
    output = files.with_name("corpus")
    output.mkdir()
    timed(build_corpus, settings, "hi", Draft(output), listing)
    corpus = Corpus.open(output)
    size = corpus.counts("train").bytes + corpus.counts("heldout").bytes
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    columns = " | ".join(f"{value:.2f}" for value in seconds)
    count = len(list(files.iterdir()))
    print(f"| {count:,} | {columns} | {size / 1e6:.1f} | {peak / 1e3:.0f} |", flush=True)
    if on_ray:
        count_on_ray(corpus)


def count_on_ray(corpus: Corpus) -> None:
    """Count words with two workers of Ray, one of which is killed, and compare the counts."""
    family = open_tokenizer(ASSETS / "tokenizers/qwen2").family
    corpus_words.PART_BYTES = 200_000
    expected = corpus_words.count_words(family, corpus, HERE)
    killed: list[str] = []
    threading.Thread(target=kill_a_worker, args=(killed,), daemon=True).start()
    began = time.monotonic()
    found = corpus_words.count_words(family, corpus, Workers(2, "ray"))
    seconds = time.monotonic() - began
    equal = found.units == expected.units and found.mentions == expected.mentions
    print(
        f"\nRay, two workers, killed: {', '.join(killed) or 'none'}; {seconds:.1f} s with the "
        f"start of the cluster; {len(found.units):,} units, counts {'equal' if equal else 'DIFFER'}"
    )


def kill_a_worker(killed: list[str]) -> None:
    """Kill the first worker of Ray that carries out a task."""
    while not killed:
        command = ["pgrep", "-af", "^ray::_run"]
        found = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        for line in found.splitlines()[:1]:
            os.kill(int(line.split()[0]), signal.SIGKILL)
            killed.append(line)
        time.sleep(0.05)


if __name__ == "__main__":
    main()
