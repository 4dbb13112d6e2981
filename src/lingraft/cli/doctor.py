"""The command that checks this machine: versions, device, memory, disk and Hub.

Each check has a verdict: `ok`, `note` (missing, but only some runs need it) or `bad` (a run would
fail). A check never raises an error: what it cannot find out becomes its verdict. An unreachable
Hub is a note, because only downloads need it. A token is never printed.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Literal

import typer

from lingraft.cli.named_models import ModelOrRun, run_of
from lingraft.cli.options import AsJson, StoreFolder, print_json, print_table
from lingraft.errors import RecipeError, StoreError
from lingraft.formatting import counted, size
from lingraft.progress import progress
from lingraft.store import Store, output_damage

REQUIRED = ("lingraft", "torch", "transformers", "tokenizers", "datasets", "safetensors")
# Optional packages, and the extra of lingraft that installs each.
EXTRAS = {
    "peft": "lora",
    "gguf": "gguf",
    "gensim": "focus",
    "lingua-language-detector": "language-id",
    "fasttext-predict": "glotlid",
    "lm_eval": "eval",
    "ray": "ray",
    "rensa": "near-duplicates",
    "tensorboard": "tensorboard",
}
# Seconds to wait for the Hub: enough for a slow network, and a short wait without a network.
HUB_TIMEOUT = 3.0

Verify = Annotated[
    bool,
    typer.Option("--verify", help="Instead, read every stored stage output and check its digests."),
]
ModelToCheck = Annotated[
    Path | None,
    typer.Argument(
        metavar="[MODEL]",
        help="Instead, check whether vLLM would load this model: a run or a model folder.",
    ),
]


@dataclass(frozen=True)
class MachineCheck:
    """One check: its subject, the finding, the verdict, and what to do unless it is ok."""

    what: str
    found: str
    verdict: Literal["ok", "note", "bad"] = "ok"
    advice: str = ""


def doctor(
    model: ModelToCheck = None,
    *,
    model_option: ModelOrRun = None,
    store: StoreFolder = None,
    verify: Verify = False,
    as_json: AsJson = False,
) -> None:
    """Check this machine: versions, device, memory, disk, Hub. Works without a network.

    The exit code is 2 if a run would fail, with --verify if a stored output is damaged, and with
    a model if vLLM would refuse the folder or compute other values. Otherwise it is 0.
    """
    from lingraft.export.hub_upload import model_folder
    from lingraft.recipe import Runtime

    if model is not None or model_option is not None:
        if verify:
            msg = "--verify: checks the store and not a model; leave out the model or --verify"
            raise RecipeError(msg)
        checks = check_model(model_folder(run_of(model, model_option)))
    else:
        folder = Runtime(store=store or Path()).store
        checks = verify_store(folder) if verify else check_machine(folder)
    if as_json:
        print_json([asdict(check) for check in checks])
    else:
        _print_checks(checks)
    if not is_ready(checks):
        raise typer.Exit(2)


def _print_checks(checks: list[MachineCheck]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for heading in ("what", "found", "", "advice"):
        table.add_column(heading, overflow="fold")
    for check in checks:
        verdict = "" if check.verdict == "ok" else check.verdict
        # Text, because rich would read lingraft[extra] as markup.
        table.add_row(check.what, Text(check.found), verdict, Text(check.advice))
    print_table(table)


def check_machine(store: Path) -> list[MachineCheck]:
    """Run all checks; `store` is the folder where finished stages would be cached."""
    return [
        MachineCheck("Python", platform.python_version()),
        *_check_packages(),
        *_check_devices(),
        _check_memory(),
        _check_disk(store),
        _check_token(),
        _check_hub(),
    ]


def verify_store(store: Path) -> list[MachineCheck]:
    """Read every stored output and compare its digests.

    Returns a check for each damaged output, and the number of unchanged ones. Raises `StoreError`
    for a folder without any.
    """
    folders = sorted(path for path in Store(store).outputs.glob("*") if path.is_dir())
    if not folders:
        msg = f"{store}: no stored output is there; name another store with --store"
        raise StoreError(msg)
    checks = []
    with progress("reading the store", len(folders), unit="outputs") as advance:
        for folder in folders:
            # maxsize: no output is too recent to be read again.
            if damage := output_damage(folder, trusted_from=sys.maxsize):
                advice = "the next run that needs it builds it again"
                checks.append(MachineCheck("stage output", damage, "bad", advice))
            advance(1)
    intact = len(folders) - len(checks)
    summary = f"{intact} of {len(folders)} in {store} are unchanged"
    return [*checks, MachineCheck("stored outputs", summary)]


def check_model(model: Path) -> list[MachineCheck]:
    """Check whether vLLM would load a model folder; one check per requirement of vLLM."""
    from lingraft.checkpoint.vllm_check import check_vllm_layout

    verdicts: dict[str, Literal["ok", "note", "bad"]] = {"yes": "ok", "note": "note", "no": "bad"}
    checks = []
    for finding in check_vllm_layout(model):
        verdict = verdicts[finding.holds]
        checks.append(MachineCheck(finding.what, finding.found, verdict, finding.advice))
    return checks


def is_ready(checks: list[MachineCheck]) -> bool:
    """Return whether a run could start."""
    return sys.version_info >= (3, 11) and all(check.verdict != "bad" for check in checks)


def _check_packages() -> Iterator[MachineCheck]:
    for name in REQUIRED:
        yield _check_package(name, "bad", f"pip install {name}")
    for name, extra in EXTRAS.items():
        yield _check_package(name, "note", f"optional: pip install 'lingraft[{extra}]'")


def _check_package(name: str, if_missing: Literal["note", "bad"], advice: str) -> MachineCheck:
    try:
        return MachineCheck(name, version(name))
    except PackageNotFoundError:
        return MachineCheck(name, "not installed", if_missing, advice)


def _check_devices() -> Iterator[MachineCheck]:
    try:
        import torch
    except ImportError as error:
        found = f"torch cannot be imported ({error})"
        yield MachineCheck("device", found, "bad", "reinstall torch")
        return
    every = os.cpu_count() or 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else every
    threads = counted(torch.get_num_threads(), "thread")
    yield MachineCheck("CPU", f"{counted(cores, 'core')}, torch uses {threads}")
    for number in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(number)
        name = torch.cuda.get_device_name(number)
        bfloat16 = "yes" if torch.cuda.is_bf16_supported(including_emulation=False) else "no"
        found = f"{name}, {size(free)} of {size(total)} free, bfloat16 {bfloat16}"
        yield MachineCheck(f"cuda:{number}", found)
    if torch.backends.mps.is_available():
        yield MachineCheck("mps", "Apple GPU")
    elif not torch.cuda.device_count():
        advice = "small models can be trained on the CPU; `lingraft plan` estimates the time"
        yield MachineCheck("GPU", "none", "note", advice)


def _check_memory() -> MachineCheck:
    try:
        page, total = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):  # Windows has no os.sysconf
        return MachineCheck("memory", "unknown", "note")
    if "SC_AVPHYS_PAGES" not in os.sysconf_names:  # macOS
        return MachineCheck("memory", size(total * page))
    free = os.sysconf("SC_AVPHYS_PAGES")
    return MachineCheck("memory", f"{size(total * page)}, {size(free * page)} unused")


def _check_disk(store: Path) -> MachineCheck:
    # The store is created by the first run, so its nearest existing parent is checked.
    folder = store.resolve()
    while not folder.exists():
        folder = folder.parent
    free = f"{size(shutil.disk_usage(folder).free)} free at {folder}"
    # Writing a file is the only reliable test: permission bits say nothing about quotas or mounts.
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        found = f"{free}; not writable ({error.strerror})"
        return MachineCheck("disk", found, "bad", "use another folder with --store")
    return MachineCheck("disk", free)


def _check_token() -> MachineCheck:
    from huggingface_hub import get_token

    if get_token():
        return MachineCheck("Hub token", "is set")
    advice = "only needed for gated models and `lingraft push`: hf auth login"
    return MachineCheck("Hub token", "none", "note", advice)


def _check_hub() -> MachineCheck:
    # urllib.request takes 40 ms to import, which `lingraft --help` would pay for, too.
    import urllib.error
    import urllib.request

    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        advice = "only models and datasets in the cache can be used"
        return MachineCheck("Hub", "offline (HF_HUB_OFFLINE is set)", "note", advice)
    address = constants.ENDPOINT
    try:
        request = urllib.request.Request(address, method="HEAD")  # noqa: S310 - the user's own endpoint
        with urllib.request.urlopen(request, timeout=HUB_TIMEOUT):  # noqa: S310
            pass
    except urllib.error.HTTPError:
        pass  # an HTTP error is a response: the Hub is reachable
    except (OSError, ValueError) as error:
        found = f"{address} does not respond ({getattr(error, 'reason', error)})"
        return MachineCheck("Hub", found, "note", "local files work without it")
    return MachineCheck("Hub", f"{address} responds")
