"""The kinds of files that text is read from: readers, checks and help texts use these constants.

This module imports nothing, because `lingraft --help` prints the constants.
"""

from __future__ import annotations

RECORD_ENDINGS = (".jsonl", ".json", ".parquet", ".csv", ".tsv", ".arrow", ".wet", ".warc")
"""Files of records with named fields."""
ENDINGS = (".txt", *RECORD_ENDINGS)
COMPRESSIONS = (".gz", ".zst", ".xz", ".bz2")
FOLDER_ENDINGS = (".txt", ".jsonl", ".json", ".parquet", ".arrow", ".wet")
"""Endings that are read from a folder.

.csv and .tsv files in a folder are mostly metadata, and a .warc file mostly has no text.
"""
TEXT_KINDS = f"{' '.join(ENDINGS)}, also {' '.join(COMPRESSIONS)}"
RECORD_KINDS = f"{' '.join(RECORD_ENDINGS)}, also {' '.join(COMPRESSIONS)}"


def without_compression(name: str) -> str:
    """Return the name of a file without the ending of its compression.

    >>> without_compression("hi.jsonl.xz"), without_compression("hi.txt")
    ('hi.jsonl', 'hi.txt')
    """
    for compression in COMPRESSIONS:
        name = name.removesuffix(compression)
    return name
