"""The checks of text health that read a sample: repeated lines, near-duplicates, the language.

They compare documents with each other or take about a millisecond a document, so that they read
`SAMPLE_DOCUMENTS` random documents, and the beginning of each.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import chain, combinations, product

import numpy as np

from lingraft.corpus.excerpts import escaped
from lingraft.corpus.health_checks import Finding
from lingraft.corpus.language_identifier import Identifier, find_identifier
from lingraft.corpus.shingles import Hashes, hash_word, jaccard, shingles

SAMPLE_DOCUMENTS = 1000
SAMPLE_CHARACTERS = 2000
"""Characters at the beginning of a document that these checks read."""
IDENTIFIED_DOCUMENTS = 200
MIN_IDENTIFIED_DOCUMENTS = 20
MIN_IDENTIFIED_CHARACTERS = 60
"""Shorter text is not identified: names and greetings are the same in many languages."""

MIN_LINE_CHARACTERS = 12
MIN_LINE_DOCUMENTS = 4
"""A line is boilerplate if it is in at least this many documents of the sample, and in 0.5%."""
LINE_SHARE = 0.005

NEAR_DUPLICATE = 0.7
"""Documents of which this share of five words in a row is equal (Jaccard) are near-duplicates.

FineWeb and datatrove remove documents from about 0.75 on.
"""
HASHES, BAND = 24, 3
"""MinHash values of a document, and how many must be equal for two to be compared: of pairs with a
similarity of 0.7, 97% are found, and 98% of 0.72."""
COMPARED_MEMBERS, FIRST_MEMBERS = 50, 10
"""Documents of a band that are compared with each other, and with those after them.

They bound the time where many documents are similar, but less than `NEAR_DUPLICATE`.
"""


def sample_findings(
    language: str, sample: Sequence[str], *, identify: bool
) -> tuple[dict[str, Finding], str]:
    """Return the findings by check, and why a check could not run ("" if all did).

    `identify` is whether the language of the documents is identified.
    """
    texts = [text[:SAMPLE_CHARACTERS] for text in sample]
    findings = {
        "repeated_lines": _repeated_lines(texts),
        "near_duplicates": _near_duplicates(texts),
    }
    if not identify:
        return findings, ""
    long = [text for text in texts if len(text) >= MIN_IDENTIFIED_CHARACTERS]
    if len(long) < MIN_IDENTIFIED_DOCUMENTS:
        return findings, "the language is not identified: too few documents are long enough"
    identifier, reason = find_identifier(language)
    if identifier is not None:
        findings["other_language"] = _other_language(identifier, long[:IDENTIFIED_DOCUMENTS])
    return findings, reason


def _other_language(identifier: Identifier, texts: Sequence[str]) -> Finding:
    """Count the documents in another language."""
    found: dict[str, list[str]] = defaultdict(list)
    for text in texts:
        other = identifier.other_language(text)
        if other:
            found[other].append(text)
    example = ""
    if found:
        most = max(found, key=lambda other: len(found[other]))
        example = f"{escaped(found[most][0][:60])} ({most})"
    count = sum(map(len, found.values()))
    return Finding.of_check(
        "other_language", count, len(texts), example, unit="documents of a sample"
    )


def boilerplate_lines(texts: Sequence[str]) -> Counter[str]:
    """Return the lines that many documents contain, with the number of documents."""
    documents: Counter[str] = Counter()
    for text in texts:
        if "\n" in text:
            lines = {line.strip() for line in text.splitlines()}
            documents.update(line for line in lines if len(line) >= MIN_LINE_CHARACTERS)
    least = max(MIN_LINE_DOCUMENTS, LINE_SHARE * len(texts))
    return Counter({line: count for line, count in documents.items() if count >= least})


def _repeated_lines(texts: Sequence[str]) -> Finding:
    """Count the characters in lines that many documents repeat."""
    repeated = boilerplate_lines(texts)
    characters = 0
    for text in texts if repeated else ():
        for line in text.splitlines():
            characters += len(line) if line.strip() in repeated else 0
    total = sum(map(len, texts))
    example = escaped(repeated.most_common(1)[0][0][:60]) if repeated else ""
    return Finding.of_check(
        "repeated_lines", characters, total, example, unit="characters of a sample"
    )


def _near_duplicates(texts: Sequence[str]) -> Finding:
    """Count the documents of which the sample has an earlier near-duplicate."""
    hashes_of = list(map(shingles, texts))
    bands: defaultdict[tuple[int, bytes], list[int]] = defaultdict(list)
    for number, hashes in enumerate(hashes_of):
        if hashes.size:
            smallest = _min_hashes(hashes)
            for start in range(0, HASHES, BAND):
                bands[start, smallest[start : start + BAND].tobytes()].append(number)
    later: set[int] = set()
    compared: set[tuple[int, int]] = set()
    example = ""
    for members in bands.values():
        # Of a text from one template, all documents are in one band.
        pairs = chain(
            combinations(members[:COMPARED_MEMBERS], 2),
            product(members[:FIRST_MEMBERS], members[COMPARED_MEMBERS:]),
        )
        for pair in pairs:
            if pair in compared or pair[1] in later:
                continue
            compared.add(pair)
            if jaccard(hashes_of[pair[0]], hashes_of[pair[1]]) >= NEAR_DUPLICATE:
                later.add(pair[1])
                example = example or escaped(texts[pair[1]][:60])
    return Finding.of_check(
        "near_duplicates", len(later), len(texts), example, unit="documents of a sample"
    )


_MULTIPLIERS = np.array([[hash_word(str(number)) | 1] for number in range(HASHES)], dtype=np.uint64)


def _min_hashes(hashes: Hashes) -> Hashes:
    mixed = hashes ^ (hashes >> np.uint64(31))
    smallest: Hashes = (mixed * _MULTIPLIERS).min(axis=1)
    return smallest
