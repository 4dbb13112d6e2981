"""A run on a disk that is full at one stage after the other: the real command in forks, on one store.

    python -m tests.full_disk FOLDER                       no file may be larger than so many bytes: EFBIG
    unshare -rm python -m tests.full_disk FOLDER tmpfs     a small file system of memory as well: ENOSPC

Prints a JSON list, an entry for each attempt: the room, the exit code, what was told, what is stored, what is left.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from lingraft.manifest import answer_damage
from tests.torture import commands, left_over, start, warm

ROOMS = (("tmpfs", 24), ("tmpfs", 200), ("limit", 9000), ("limit", 60_000), ("tmpfs", 1000), ("none", 0))
"""KiB of the file system, or bytes of the largest file; the last attempt has all the room."""


def attempt(arguments: list[str], folder: Path, kind: str, room: int) -> dict[str, Any]:
    """Run the command with so much room; say how it ended."""
    reading, writing = os.pipe()  # what is told takes no room
    number = start(arguments, folder, writing, room if kind == "limit" else 0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        lines = pipe.read().splitlines()
    status = os.waitpid(number, 0)[1]
    answers = sorted((folder / "runs" / ".store" / "answers").glob("*"))
    return {"kind": kind, "room": room, "code": os.waitstatus_to_exitcode(status), "told": lines,
            "stored": [answer.name for answer in answers], "left": left_over(folder),
            "damaged": [answer.name for answer in answers if answer_damage(answer)]}


def mount(folder: Path, size: str, *options: str) -> None:
    """Give the file system a size."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join([*options, f"size={size}"]), "none", folder], check=True)


def main() -> None:
    """Try with more and more room."""
    folder, kinds = Path(sys.argv[1]), {"limit", "none", *sys.argv[2:]}
    warm()
    place = folder / "disk"
    place.mkdir()
    if "tmpfs" in kinds:
        mount(place, "1g")
    arguments = commands("tiny", folder)[0]
    outcomes = []
    for kind, room in ROOMS:
        if kind in kinds:
            if "tmpfs" in kinds:
                mount(place, f"{room}k" if kind == "tmpfs" else "1g", "remount")
            outcomes.append(attempt(arguments, place, kind, room))
    json.dump(outcomes, sys.stdout)


if __name__ == "__main__":
    main()
