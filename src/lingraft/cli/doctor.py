"""What this machine offers a run: versions, device, memory, disk, hub; nothing here fails, it only tells.

Every line has a verdict: `ok`, `note` (something is missing that only some runs need) or `bad` (a run would stop). A
hub that cannot be reached is a note: everything but fetching works without one. No token is ever read out.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from lingraft.formatting import size
from lingraft.progress import progress
from lingraft.store import Store, output_damage

NEEDED = ("lingraft", "torch", "transformers", "tokenizers", "datasets", "safetensors")
EXTRAS = {
    "peft": "lora",
    "gguf": "gguf",
    "gensim": "focus",
    "lingua-language-detector": "language-id",
    "lm_eval": "eval",
    "ray": "ray",
    "tensorboard": "tensorboard",
}
"""Optional packages, and the extra of lingraft that brings each."""

_PATIENCE = 3.0  # seconds for a hub to answer


@dataclass(frozen=True)
class MachineCheck:
    """One line: what was looked at, what was found, the verdict, and what to do where it is not ok."""

    what: str
    found: str
    verdict: Literal["ok", "note", "bad"] = "ok"
    advice: str = ""


def examine(store: Path) -> list[MachineCheck]:
    """Look at everything; `store` is where finished stages would be kept."""
    return [
        MachineCheck("Python", platform.python_version()),
        *_packages(),
        *_device(),
        _memory(),
        _disk(store),
        _token(),
        _hub(),
    ]


def verify(store: Path) -> list[MachineCheck]:
    """Read every stored output and compare its checksums: a finding for each damaged one, and a total."""
    folders = sorted(path for path in Store(store).outputs.glob("*") if path.is_dir())
    findings = []
    with progress("reading the store", len(folders), unit="outputs") as advance:
        for folder in folders:
            if found := output_damage(folder, trusted_from=sys.maxsize):
                findings.append(
                    MachineCheck(
                        "stage output", found, "bad", "the next run that needs it builds it again"
                    )
                )
            advance(1)
    whole = len(folders) - len(findings)
    return [
        *findings,
        MachineCheck("stored outputs", f"{whole} of {len(folders)} in {store} are unchanged"),
    ]


def look_at(model: Path) -> list[MachineCheck]:
    """Look at a model folder as vLLM would: a line for each thing that it asks."""
    from lingraft.checkpoint.vllm_check import check_vllm_layout

    verdicts: dict[str, Literal["ok", "note", "bad"]] = {"yes": "ok", "note": "note", "no": "bad"}
    return [
        MachineCheck(one.what, one.found, verdicts[one.holds], one.advice)
        for one in check_vllm_layout(model)
    ]


def _packages() -> Iterator[MachineCheck]:
    for name in NEEDED:
        number = _version(name)
        yield (
            MachineCheck(name, number)
            if number
            else MachineCheck(name, "not installed", "bad", f"pip install {name}")
        )
    for name, extra in EXTRAS.items():
        number = _version(name)
        yield (
            MachineCheck(name, number)
            if number
            else MachineCheck(
                name,
                "not installed",
                "note",
                f"only where it is asked for: pip install 'lingraft[{extra}]'",
            )
        )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _device() -> Iterator[MachineCheck]:
    try:
        import torch
    except ImportError as error:
        yield MachineCheck(
            "device", f"torch cannot be loaded ({error})", "bad", "install torch again"
        )
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield MachineCheck("CPU", f"{cores} cores, {torch.get_num_threads()} threads used by torch")
    for number in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(number)
        half = "yes" if torch.cuda.is_bf16_supported(including_emulation=False) else "no"
        yield MachineCheck(
            f"cuda:{number}",
            f"{torch.cuda.get_device_name(number)}, {size(free)} of "
            f"{size(total)} free, bfloat16 {half}",
        )
    if torch.backends.mps.is_available():
        yield MachineCheck("mps", "Apple GPU")
    elif not torch.cuda.device_count():
        yield MachineCheck(
            "GPU",
            "none",
            "note",
            "small models train on the CPU; `lingraft plan` estimates the time",
        )


def _memory() -> MachineCheck:
    try:
        page, total = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_PHYS_PAGES")
        free = os.sysconf("SC_AVPHYS_PAGES")
    except (ValueError, OSError, AttributeError):  # not told on every system
        return MachineCheck("memory", "unknown", "note")
    return MachineCheck("memory", f"{size(total * page)}, {size(free * page)} unused")


def _disk(store: Path) -> MachineCheck:
    place = store.resolve()
    while not place.exists():
        place = place.parent
    free = f"{size(shutil.disk_usage(place).free)} free at {place}"
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        return MachineCheck(
            "disk",
            f"{free}; not writable ({error.strerror})",
            "bad",
            "name another place with --store",
        )
    return MachineCheck("disk", free)


def _token() -> MachineCheck:
    from huggingface_hub import get_token

    return MachineCheck(
        "hub token",
        "there is one" if get_token() else "none",
        "ok" if get_token() else "note",
        "" if get_token() else "only for gated models and for pushing: hf auth login",
    )


def _hub() -> MachineCheck:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return MachineCheck(
            "hub",
            "offline, as HF_HUB_OFFLINE says",
            "note",
            "only what the cache holds can be used",
        )
    address = constants.ENDPOINT
    try:
        request = urllib.request.Request(address, method="HEAD")  # noqa: S310 - the user's own endpoint
        with urllib.request.urlopen(request, timeout=_PATIENCE):  # noqa: S310
            pass
    except urllib.error.HTTPError:
        pass  # it answers
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return MachineCheck(
            "hub", f"{address} does not answer ({reason})", "note", "local files work without it"
        )
    return MachineCheck("hub", f"{address} answers")


def is_well(findings: list[MachineCheck]) -> bool:
    """Say whether a run could begin."""
    return sys.version_info >= (3, 11) and all(finding.verdict != "bad" for finding in findings)
