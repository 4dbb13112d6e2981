"""Torture: the real command, killed with SIGKILL at random moments and resumed to its end.

    make torture                                          50 kills over the demo and a small study
    .venv/bin/python -m tests.torture --rounds 1 --seed 17          what seed 17 did, again

Every resumed run must end with the same files as an undisturbed one, by the checksums in the
manifests, and with nothing left over; so must several at once on one store, one of them killed.
Libraries are imported once and each run is a fork, so that kills fall into the work. `tiny` is what
`make test` runs: a model of two layers.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

from lingraft.pipeline.run_folder import run_damage
from lingraft.progress import say
from lingraft.store import Manifest, output_damage

ROOT = Path(__file__).resolve().parent.parent
TIMED = {"evaluation", "training.jsonl"}
"""Stage outputs and files with measured seconds."""

STUDY = """
name: small
question: Which rows?
recipe: {recipe}
axes: {{embeddings: {rows}}}
seeds: [0]
settings: {{evaluation.generation: null, training.budget: {budget}, evaluation.heldout_bytes: 800}}
"""
TINY = """
name: tiny-{{language}}
model: {model}
target: {{language: hi, corpus: {text}, heldout_share: 0.1}}
vocabulary: {{size: 20}}
training: {{budget: 20 steps, batch_tokens: 128, heldout_points: 1}}
evaluation: {{heldout_bytes: 800, bootstrap: {{resamples: 20}}, generation: null}}
"""


def commands(kind: str, folder: Path) -> list[list[str]]:
    """Return the commands to test: arguments of `lingraft`; their inputs are put into `folder`."""
    from tests.conftest import HINDI, make_tiny_model, write_lines

    recipe, budget, rows = ROOT / "recipes" / "demo.yaml", "15K tokens", "[mean, random]"
    if kind == "tiny":
        (folder / "model").mkdir()
        make_tiny_model(folder / "model")
        text, recipe = write_lines(folder / "hi.txt", HINDI, copies=30), folder / "tiny.yaml"
        budget, rows = "4 steps", "[mean]"
        recipe.write_text(TINY.format(model=folder / "model", text=text), encoding="utf-8")
    (folder / "study.yaml").write_text(
        STUDY.format(recipe=recipe, budget=budget, rows=rows), encoding="utf-8"
    )
    return [
        ["adapt", str(recipe), "--device", "cpu", "--checkpoint-seconds", "0.5"],
        ["study", str(folder / "study.yaml"), "--device", "cpu"],
    ]


def start(arguments: Sequence[str], folder: Path, log: int | None = None, limit: int = 0) -> int:
    """Begin the command in a fork whose working folder is `folder`; return its process number.

    It writes into the open file `log`, else into `folder`. With a `limit`, no file may be larger
    than so many bytes.
    """
    number = os.fork()
    if number:
        return number
    code = 1
    try:  # the child never returns into the parent's code
        folder.mkdir(parents=True, exist_ok=True)
        os.chdir(folder)
        log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND) if log is None else log
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ.update(
            XDG_CACHE_HOME=str(folder / "cache"), LINGRAFT_STORE="", TOKENIZERS_PARALLELISM="false"
        )
        sys.argv = ["lingraft", *arguments]
        if limit:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        from lingraft.cli import main

        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - a fork has nobody to raise to
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def finish(arguments: Sequence[str], folder: Path) -> float:
    """Carry the command out to its end; return the seconds that it took."""
    begun = time.monotonic()
    _, status = os.waitpid(start(arguments, folder), 0)
    if status:
        msg = f"{arguments} failed in {folder}: {(folder / 'log').read_text()[-2000:]}"
        raise AssertionError(msg)
    return time.monotonic() - begun


def killed(arguments: Sequence[str], folder: Path, after: float) -> bool:
    """Begin the command and kill it after so many seconds; say whether it was still alive."""
    number = start(arguments, folder)
    deadline = time.monotonic() + after
    while time.monotonic() < deadline:
        if os.waitpid(number, os.WNOHANG)[0]:
            return False
        time.sleep(0.005)
    os.kill(number, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(number, 0)[1])


def fingerprint(folder: Path) -> dict[str, str]:
    """Return every stored file's checksum; raises `AssertionError` where a manifest differs."""
    found = {}
    for answer in sorted((folder / "runs" / ".store" / "answers").iterdir()):
        assert not output_damage(answer), output_damage(answer)
        manifest = Manifest.read(answer)
        if manifest.stage not in TIMED:
            found |= {
                f"{answer.name}/{name}": sha
                for name, (_, sha) in manifest.files.items()
                if name not in TIMED
            }
    for record in (folder / "runs").rglob("run.json"):
        assert not run_damage(record.parent), run_damage(record.parent)
    return found


def left_over(folder: Path) -> list[str]:
    """Return what a finished run should not leave: locks, drafts, progress, temporary files."""
    return sorted(str(path.relative_to(folder)) for path in _suspects(folder / "runs"))


def _suspects(runs: Path) -> Iterator[Path]:
    store = runs / ".store"
    yield from (path for kind in ("locks", "drafts", "work") for path in (store / kind).glob("*"))
    yield from (path for path in runs.glob("*") if path.name.startswith(".") and path != store)
    for path in runs.rglob("*"):
        if path.is_file() and (
            path.name.startswith(".") or path.suffix in {".tmp", ".lock", ".part"}
        ):
            yield path


def torture(kind: str, rounds: int, seed: int, folder: Path) -> None:
    """Kill and resume each command in every round; raises `AssertionError` at any difference."""
    chosen = commands(kind, folder)
    took = [finish(arguments, folder / "alone") for arguments in chosen]
    expected = fingerprint(folder / "alone")
    durations = " and ".join(f"{seconds:.1f} s" for seconds in took)
    say(f"undisturbed: {durations}, {len(expected)} files")
    for one in range(seed, seed + rounds):
        place, chance = folder / f"seed-{one}", random.Random(one)
        for arguments, seconds in zip(chosen, took, strict=True):
            after = chance.random() * seconds
            ended = "" if killed(arguments, place, after) else " (had ended)"
            say(f"seed {one}: {arguments[0]} killed after {after:.2f} s{ended}")
            finish(arguments, place)
        compare(place, expected, f"seed {one}")
    together(chosen, folder / "together", random.Random(seed).random() * max(took))
    compare(folder / "together", expected, "together")
    say(
        f"{rounds * len(chosen)} kills from seed {seed} on, and {len(chosen) + 1} processes at "
        "once: the same files as undisturbed ones, nothing left over"
    )


def together(chosen: Sequence[Sequence[str]], folder: Path, after: float) -> None:
    """Begin all commands on one store, the first one twice; one of these is killed."""
    victim = start(chosen[0], folder)
    others = [start(arguments, folder) for arguments in chosen]
    time.sleep(after)
    os.kill(
        victim, signal.SIGKILL
    )  # a process that has ended stays there to be killed until it is waited for
    os.waitpid(victim, 0)
    for number in others:
        if os.waitpid(number, 0)[1]:
            raise AssertionError((folder / "log").read_text()[-2000:])


def compare(place: Path, expected: dict[str, str], who: str) -> None:
    """Raise `AssertionError` where files differ or anything is left over; then remove it."""
    found = fingerprint(place)
    assert found == expected, (
        f"{who}: other files: {sorted(set(found.items()) ^ set(expected.items()))[:4]}"
    )
    assert left_over(place) == [], f"{who}: left over: {left_over(place)}"
    shutil.rmtree(place)


def warm() -> None:
    """Import what runs import, so that forks need not; one thread, as a fork has no others."""
    import altair as alt  # noqa: F401
    import torch
    import transformers.models.llama.modeling_llama  # noqa: F401
    import vl_convert  # noqa: F401

    import lingraft.checkpoint
    import lingraft.corpus.build
    import lingraft.evaluation
    import lingraft.evaluation.tasks.task_metrics
    import lingraft.packing.pack
    import lingraft.pipeline
    import lingraft.report.run_page
    import lingraft.studies
    import lingraft.training.train  # noqa: F401

    torch.set_num_threads(1)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the torture; the exit code is 1 where anything differed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kind", choices=("demo", "tiny"), default="demo")
    parser.add_argument("--rounds", type=int, default=25, help="each kills every command once")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(arguments)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    warm()
    with tempfile.TemporaryDirectory() as folder:
        torture(asked.kind, asked.rounds, asked.seed, Path(folder))


if __name__ == "__main__":
    main()
