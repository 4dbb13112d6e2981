"""`recipes/datatrove_hindi.py` on a small WET file, where datatrove (the extra) is installed.

What lingraft reads of its output is tested without it, in `test_corpus_columns`.
"""

from __future__ import annotations

import gzip
import json
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("datatrove", reason="the extra datatrove is not installed")
pytest.importorskip("indicnlp", reason="the extra datatrove is not installed")
fasttext = pytest.importorskip("fasttext", reason="the extra datatrove is not installed")

RECIPE = Path(__file__).parents[1] / "recipes" / "datatrove_hindi.py"
HINDI = [
    "नदी",
    "सुबह",
    "बच्चे",
    "पानी",
    "घर",
    "पेड़",
    "रास्ता",
    "गाँव",
    "खेत",
    "आकाश",
    "बाज़ार",
    "कहानी",
    "के",
    "में",
    "है",
    "की",
    "और",
    "से",
]
ENGLISH = [
    "river",
    "morning",
    "children",
    "water",
    "house",
    "tree",
    "road",
    "village",
    "field",
    "sky",
    "market",
    "story",
]


def page(number, words):
    """Return a page of 20 sentences."""
    chosen = random.Random(number)
    return "\n".join(" ".join(chosen.choices(words, k=12)) + "।" for _ in range(20))


def record(number, text):
    body = text.encode()
    header = (
        f"WARC/1.0\r\nWARC-Type: conversion\r\nWARC-Record-ID: <urn:uuid:{number}>\r\n"
        f"WARC-Target-URI: https://example.org/{number}\r\nWARC-Date: 2026-01-01T00:00:00Z\r\n"
        f"Content-Type: text/plain\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return gzip.compress(header.encode() + body + b"\r\n\r\n")


def test_a_crawl_becomes_text_with_scores_and_cluster_sizes(tmp_path):
    """English and lists are dropped, and of three near-duplicates one is left, of size 3."""
    pages = [page(number, HINDI) for number in range(30)]
    copies = [f"{text}\nबच्चे {copy}।" for text in pages[:5] for copy in ("घर", "पानी")]
    others = [page(number, ENGLISH) for number in range(10)] + ["होम\nमेनू\n" * 40]
    records = [record(number, text) for number, text in enumerate(pages + copies + others)]
    (tmp_path / "wet").mkdir()
    (tmp_path / "wet" / "CC.warc.wet.gz").write_bytes(b"".join(records))
    labelled = [
        f"__label__{tag} {word}"
        for tag, words in (("hi", HINDI), ("en", ENGLISH))
        for word in words * 20
    ]
    (tmp_path / "words.txt").write_text("\n".join(labelled), encoding="utf-8")
    model = fasttext.train_supervised(
        str(tmp_path / "words.txt"), dim=4, epoch=50, thread=1, verbose=0
    )
    model.save_model(str(tmp_path / "lid.bin"))
    command = [
        sys.executable,
        str(RECIPE),
        "--wet",
        str(tmp_path / "wet"),
        "-o",
        str(tmp_path / "out"),
    ]
    done = subprocess.run(
        [*command, "--language-model", str(tmp_path / "lid.bin")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "weight: metadata.minhash_cluster_size" in done.stdout
    rows = []
    for path in (tmp_path / "out" / "text").glob("*.jsonl.gz"):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            rows += map(json.loads, lines)
    sizes = Counter(row["metadata"]["minhash_cluster_size"] for row in rows)
    assert sizes == {1: 25, 3: 5}
    assert {row["metadata"]["language"] for row in rows} == {"hi"}
    assert all(row["metadata"]["language_score"] > 0.692 for row in rows)
    assert {row["text"].split("\n")[0] for row in rows} == {text.split("\n")[0] for text in pages}
