"""The wheels of the pack.

Fetched for the Python of the compute node, and checked against what its image holds.

The check reads the wheels' own metadata: each requirement of each wheel, and of lingraft itself,
has to be met by another wheel of the pack or by the image. A missing wheel shows where there is a
network, not on the node.
"""

from __future__ import annotations

import argparse
import email
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
LAZY = frozenset({"altair", "datasets", "vl-convert-python", "zstandard"})
"""Requirements of lingraft that the run never imports.

Tests/test_pipeline.py hides them from a run.
"""
GLIBC = (*range(17, 29), "2014")
"""The manylinux platforms that are accepted.

Manylinux_2_17 to manylinux_2_28, and manylinux2014.
"""

Versions = dict[str, Version | None]


def requirements(file: Path) -> Iterator[Requirement]:
    """Yield the requirements of a list, one a line."""
    for line in file.read_text(encoding="utf-8").splitlines():
        text = line.partition("#")[0].strip()
        if text:
            yield Requirement(text)


def packed() -> frozenset[str]:
    """Return the names of the packages that the pack brings."""
    return frozenset(canonicalize_name(one.name) for one in requirements(HERE / "wheels.txt"))


def platforms() -> list[str]:
    """Return the names of the platforms, in the form that pip takes."""
    return [f"manylinux{'_2_' if isinstance(one, int) else ''}{one}_x86_64" for one in GLIBC]


def fetch(folder: Path, python: str) -> None:
    """Download the wheels of `wheels.txt` for a CPython on x86-64 Linux.

    Nothing is resolved or built.
    """
    folder.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "-q",
        "--disable-pip-version-check",
        "--no-deps",
        "--only-binary=:all:",
        "--python-version",
        python,
        "--implementation",
        "cp",
        "-r",
        str(HERE / "wheels.txt"),
        "-d",
        str(folder),
    ]
    for platform in platforms():
        command += ["--platform", platform]
    subprocess.run(command, check=True)


def image() -> Versions:
    """Return the packages of the image; the version is `None` where it is not known."""
    found: Versions = {}
    for one in requirements(HERE / "image.txt"):
        pins = [Version(pin.version) for pin in one.specifier]
        found[canonicalize_name(one.name)] = pins[0] if pins else None
    return found


def faults(folder: Path, python: str) -> list[str]:
    """Return, one line each, what would fail on the node.

    Wrong tags, and requirements that nothing meets.
    """
    packed: Versions = {}
    needed: list[tuple[str, Requirement]] = []
    found: list[str] = []
    for wheel in sorted(folder.glob("*.whl")):
        name, version, _, tags = parse_wheel_filename(wheel.name)
        packed[name] = version
        if not any(_runs(tag, python) for tag in tags):
            found.append(f"{wheel.name}: not for CPython {python} on x86-64 Linux; fetch it again")
        needed += [(wheel.name, requirement) for requirement in _needs(wheel)]
    for text in tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "dependencies"
    ]:
        requirement = Requirement(text)
        if canonicalize_name(requirement.name) not in LAZY:
            needed.append(("lingraft", requirement))
    there: dict[str, Version | None] = {**image(), **packed}
    for asking, requirement in needed:
        name = canonicalize_name(requirement.name)
        if not _applies(requirement, python):
            continue
        if name not in there:
            found.append(
                f"{asking}: needs {requirement}; neither the pack nor the image has it: "
                "add it to wheels.txt"
            )
        elif (there_is := there[name]) and not requirement.specifier.contains(
            there_is, prereleases=True
        ):
            found.append(
                f"{asking}: needs {requirement}, and {there_is} is there; change wheels.txt"
            )
    return found


def main() -> None:
    """Fetch the wheels into a folder and check them; exit 1 with what would be missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--python", default="3.12", help="version of the node's Python")
    arguments = parser.parse_args()
    fetch(arguments.folder, arguments.python)
    if found := faults(arguments.folder, arguments.python):
        sys.exit("\n".join(found))


def _needs(wheel: Path) -> Iterator[Requirement]:
    with zipfile.ZipFile(wheel) as archive:
        metadata = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        message = email.message_from_bytes(archive.read(metadata))
    for text in message.get_all("Requires-Dist", []):
        yield Requirement(text)


def _applies(requirement: Requirement, python: str) -> bool:
    node = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": "x86_64",
        "os_name": "posix",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "extra": "",
    }
    return requirement.marker is None or requirement.marker.evaluate(node)


def _runs(tag: Tag, python: str) -> bool:
    """Say whether a wheel with this tag can be used by that CPython on x86-64 Linux."""
    major, minor = map(int, python.split("."))
    version, names = (major, minor), platforms()
    specific = cpython_tags(version, platforms=names)
    return tag in {*specific, *compatible_tags(version, f"cp{major}{minor}", names)}


if __name__ == "__main__":
    main()
