"""The cost of checking a stored output: speed of hash functions on one core and of reading a file.

python benchmarks/checksums.py [FILE]
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from lingraft.store import file_digest

SIZE = 2**28


def main() -> None:
    """Print MB/s for each hash, best of three, and for hashing a file."""
    block = bytes(range(256)) * (SIZE // 256)
    for name in ("sha256", "blake2b", "sha1", "md5"):
        best = min(_seconds(partial(hashlib.new, name, block)) for _ in range(3))
        print(f"{name:<10} {SIZE / best / 1e6:8.0f} MB/s")
    with tempfile.NamedTemporaryFile() as made:
        path = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(made.name)
        if len(sys.argv) == 1:
            path.write_bytes(block)
        size = path.stat().st_size
        best = min(_seconds(lambda: file_digest(path)) for _ in range(3))
        print(f"{'a file':<10} {size / best / 1e6:8.0f} MB/s")


def _seconds(work: Callable[[], object]) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun


if __name__ == "__main__":
    main()
