"""The real command on a disk that becomes full at each stage in turn, in forks on one store.

    python -m tests.full_disk FOLDER                    with a limit on the size of a file: EFBIG
    unshare -rm python -m tests.full_disk FOLDER tmpfs  a small file system of memory too: ENOSPC

First the room grows from nothing to enough for the whole run. Then there is none, while the run
folder, its last stage, and so on to its first are forgotten one after the other. Prints JSON, an
entry for each attempt of both: the room, the exit code, what was told, what is stored, what is
left.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lingraft.store import output_damage
from tests.torture import commands, left_over, start, warm

ROOMS = (("tmpfs", 200), ("limit", 60_000), ("tmpfs", 1000))
"""KiB of the file system, or bytes of the largest file."""

ENOUGH = ("none", 0)


RUN = "tiny-hi"


def attempt(arguments: list[str], folder: Path, kind: str, room: int) -> dict[str, Any]:
    """Run the command with so much room; say how it ended."""
    reading, writing = os.pipe()  # what is told takes no room
    number = start(arguments, folder, writing, room if kind == "limit" else 0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        lines = pipe.read().splitlines()
    status = os.waitpid(number, 0)[1]
    answers = sorted((folder / "runs" / ".store" / "answers").glob("*"))
    return {
        "kind": kind,
        "room": room,
        "code": os.waitstatus_to_exitcode(status),
        "told": lines,
        "stored": [answer.name for answer in answers],
        "left": left_over(folder),
        "damaged": [answer.name for answer in answers if output_damage(answer)],
    }


def mount(folder: Path, size: str, *options: str) -> None:
    """Give the file system a size."""
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", ",".join([*options, f"size={size}"]), "none", folder],
        check=True,
    )


def backwards(arguments: list[str], place: Path, *, mounted: bool) -> list[dict[str, Any]]:
    """Delete the run folder, then its last stage, and so on to the first.

    Each attempt runs without any room.
    """
    stages = json.loads((place / "runs" / RUN / "run.json").read_text())["stages"]
    shutil.rmtree(place / "runs" / RUN)
    outcomes = []
    answers = {f"{stage['name']}-{stage['key']}": stage["name"] for stage in reversed(stages)}
    for answer, stage in {RUN: RUN, **answers}.items():
        shutil.rmtree(place / "runs" / ".store" / "answers" / answer, ignore_errors=answer == RUN)
        if mounted:
            taken = os.statvfs(place)
            mount(
                place, f"{max(taken.f_blocks - taken.f_bfree, 1) * taken.f_frsize}", "remount"
            )  # 0 is no limit
        outcomes.append(
            {
                "stage": stage,
                **attempt(arguments, place, *(("tmpfs", 0) if mounted else ("limit", 1))),
            }
        )
    return outcomes


def main() -> None:
    """Try with more and more room."""
    folder, kinds = Path(sys.argv[1]), {"limit", "none", *sys.argv[2:]}
    warm()
    place = folder / "disk"
    place.mkdir()
    if "tmpfs" in kinds:
        mount(place, "1g")
    arguments = commands("tiny", folder)[0]

    def attempts(rooms: Sequence[tuple[str, int]]) -> Iterator[dict[str, Any]]:
        for kind, room in rooms:
            if kind not in kinds:
                continue
            if "tmpfs" in kinds:
                mount(place, f"{room}k" if kind == "tmpfs" else "1g", "remount")
            yield attempt(arguments, place, kind, room)

    growing = [*attempts(ROOMS), *attempts([ENOUGH])]
    shrinking = [*backwards(arguments, place, mounted="tmpfs" in kinds), *attempts([ENOUGH])]
    json.dump({"growing": growing, "shrinking": shrinking}, sys.stdout)


if __name__ == "__main__":
    main()
