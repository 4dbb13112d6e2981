"""The job files of docs/launch parse, name options that exist, and requeue what was stopped."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
import typer
import yaml
from torch.distributed.run import get_args_parser

from lingraft.cli import app

LAUNCH = Path(__file__).parents[1] / "docs/launch"
OPTION = re.compile(r"(?<![\w-])(--[a-z][a-z-]+)")


def options_of(command: str) -> set[str]:
    """The options of a command of lingraft."""
    found = typer.main.get_command(app).get_command(None, command)
    return {option for parameter in found.params for option in parameter.opts}


def commands(path: Path) -> str:
    """What a file runs, without comments and without the options of sbatch."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if not line.lstrip().startswith("#"))


@pytest.mark.parametrize("path", sorted(LAUNCH.iterdir()), ids=lambda path: path.name)
def test_job_files_name_options_that_exist(path):
    """A file parses, and every option after `lingraft COMMAND` and after torchrun is a real one."""
    if path.suffix == ".sh":
        subprocess.run(["bash", "-n", path], check=True)
    else:
        assert all(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    started = re.search(r"lingraft\s*(?:- )?(adapt|study)(.*)", commands(path), re.DOTALL)
    assert started, "the file starts lingraft"
    before, named = commands(path)[: started.start()], started[2].partition("|| status")[0]
    named = named.partition("env:")[0]
    assert set(OPTION.findall(named)) <= options_of(started[1])
    if "torchrun" in before:
        real = {option for action in get_args_parser()._actions for option in action.option_strings}
        assert set(OPTION.findall(before.partition("torchrun")[2])) <= real


def test_options_in_the_comments_exist_too():
    """The command lines in the comments of the job files name options of lingraft."""
    known = options_of("adapt") | options_of("study")
    for path in LAUNCH.iterdir():
        for line in re.findall(r"^#   .*(?:slurm|ray)\.sh (.*)", path.read_text(), re.MULTILINE):
            assert set(OPTION.findall(line)) <= known


def run_slurm_script(
    folder: Path, status: int, variables: Mapping[str, str]
) -> tuple[str, list[str]]:
    """Run slurm.sh where `srun` runs one task that exits with `status`; return what was called."""
    programs = {
        "srun": 'shift; SLURM_NTASKS=4 SLURM_PROCID=${PROCID:-0} SLURM_LOCALID=1 "$@"',
        "lingraft": f'echo "$@ $RANK/$WORLD_SIZE $LOCAL_RANK $MASTER_ADDR:$MASTER_PORT"\n'
        f'if [ -n "${{STOP:-}}" ]; then kill -TERM "$STOP_SHELL"; fi; exit {status}',
        "scancel": 'echo "scancel $*" >> called',
        "scontrol": 'if [ "$1" = show ]; then printf "node7\\nnode8\\n"; '
        'else echo "scontrol $*" >> called; fi',
    }
    for name, body in programs.items():
        program = folder / name
        program.write_text(f"#!/bin/bash\n{body}\n", encoding="utf-8")
        program.chmod(0o755)
    given = {"PATH": f"{folder}:{os.environ['PATH']}", "HOME": str(folder)}
    given |= {"SLURM_JOB_ID": "20123", "SLURM_JOB_NODELIST": "node[7-8]", **variables}
    shell = 'export STOP_SHELL=$$; source "$0" "$@"'
    done = subprocess.run(
        ["bash", "-c", shell, LAUNCH / "slurm.sh", "recipe.yaml", "--runs", "shared runs"],
        cwd=folder,
        env=given,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.stderr
    called = folder / "called"
    return done.stdout, called.read_text().splitlines() if called.exists() else []


REQUEUED = "scontrol requeue 20123"


@pytest.mark.parametrize(
    ("status", "variables", "called"),
    [
        (0, {}, []),
        (2, {}, []),
        (130, {}, [REQUEUED]),
        (130, {"SLURM_RESTART_COUNT": "100"}, []),
        (130, {"PROCID": "1"}, []),
        (130, {"STOP": "1"}, ["scancel --signal=TERM 20123", REQUEUED]),
        (0, {"STOP": "1"}, ["scancel --signal=TERM 20123"]),
    ],
    ids=[
        "finished",
        "failed",
        "preempted",
        "preempted often",
        "another process",
        "time limit",
        "finished in time",
    ],
)
def test_a_stopped_slurm_job_is_requeued_and_a_failed_one_is_not(
    tmp_path, status, variables, called
):
    """slurm.sh passes its arguments, ranks and meeting point on, and requeues a stopped run."""
    printed, seen = run_slurm_script(tmp_path, status, variables)
    assert (
        f"adapt recipe.yaml --runs shared runs {variables.get('PROCID', 0)}/4 1 node7:20123"
        in printed
    )
    assert seen == called
