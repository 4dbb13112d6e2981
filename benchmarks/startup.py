"""The time of commands that only print something: best of several alternating rounds, wall and CPU.

python benchmarks/startup.py [ROUNDS]
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time

COMMANDS = {
    "lingraft --help": ["--help"],
    "lingraft adapt --help": ["adapt", "--help"],
    "lingraft version": ["version"],
    "lingraft settings vocabulary": ["settings", "vocabulary"],
}


def main() -> None:
    """Print the least time of each command, and of an interpreter that does nothing."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    code = "from lingraft.cli import main; main()"
    started = {
        "python -c pass": ["-c", "pass"],
        **{name: ["-c", code, *rest] for name, rest in COMMANDS.items()},
    }
    least = dict.fromkeys(started, (float("inf"), float("inf")))
    for _ in range(rounds):
        for name, arguments in started.items():
            wall, processor = _seconds([sys.executable, *arguments])
            least[name] = (min(least[name][0], wall), min(least[name][1], processor))
    for name, (wall, processor) in least.items():
        print(f"{name:<30} {wall:6.3f} s, processor {processor:6.3f} s")


def _seconds(command: list[str]) -> tuple[float, float]:
    """Return wall and processor time of a command."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    wall, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
