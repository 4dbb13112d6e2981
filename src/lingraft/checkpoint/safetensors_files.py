"""The safetensors files of a model folder, as places of bytes.

A safetensors file is eight bytes with the length of a JSON header, the header (name -> dtype, shape, begin and end
within the data), and the data without gaps. A `Checkpoint` knows for every tensor in which file its bytes lie, so
that rows can be copied without being understood, or mapped into memory and read a few at a time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lingraft.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
FLOATS = {"F32": 4, "F16": 2, "BF16": 2, "F64": 8}
"""Bytes of one number of each dtype that embedding rows come in."""
INTEGERS = {"I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1}
"""Bytes of one number of each dtype that routing tables come in."""
HEADER_LIMIT = 100 * 2**20


@dataclass(frozen=True)
class TensorPlace:
    """Where a tensor's bytes lie: from `begin` to `end` of `file`, counted from the start of the file."""

    name: str
    file: Path
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def row_bytes(self) -> int:
        """Bytes of one entry of the first dimension."""
        return (self.end - self.begin) // max(1, self.shape[0])


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of a model folder by name, and the index where the folder has one."""

    folder: Path
    tensors: Mapping[str, TensorPlace]
    index: Mapping[str, Any] | None

    @classmethod
    def open(cls, folder: Path) -> Checkpoint:
        """Read the headers of a folder's safetensors files.

        Raises `ModelError` where there are none (with the command that converts pickled weights), or one is damaged.
        """
        folder = Path(folder)
        index_path = folder / INDEX
        if index_path.exists():
            index = _read_json(index_path)
            files = [folder / name for name in _shard_names(index, index_path)]
        else:
            index, files = None, _lone_file(folder)
        return cls(folder, cls.open_files(files), index)

    @staticmethod
    def open_files(files: Sequence[Path]) -> dict[str, TensorPlace]:
        """Read the headers of these files."""
        return {place.name: place for file in files for place in read_header(file)[0]}

    @property
    def files(self) -> list[Path]:
        """Every file that holds tensors."""
        return sorted({place.file for place in self.tensors.values()})

    @property
    def parameters(self) -> int:
        """How many numbers the files hold."""
        return sum(prod(place.shape) for place in self.tensors.values())

    def tensor(self, name: str) -> Tensor:
        """Map a tensor from its file, in its own dtype; only what is read of it comes into memory."""
        return mapped(self.tensors[name])


def mapped(place: TensorPlace) -> Tensor:
    """Map a tensor's bytes into memory, copy on write; raises `ModelError` for dtypes that are no plain numbers."""
    import numpy as np
    import torch

    if place.dtype not in {*FLOATS, *INTEGERS}:
        msg = (
            f"{place.file}: {place.name} is stored as {place.dtype}; rows can be added to "
            f"{', '.join(FLOATS)}: save the model unquantised"
        )
        raise ModelError(msg)
    raw = np.memmap(
        place.file, dtype=np.uint8, mode="c", offset=place.begin, shape=(place.end - place.begin,)
    )
    return torch.from_numpy(raw).view(torch_dtype(place.dtype)).view(place.shape)


def torch_dtype(name: str) -> Any:
    """Return torch's dtype for a safetensors name."""
    import torch

    return {
        "F32": torch.float32,
        "F16": torch.float16,
        "BF16": torch.bfloat16,
        "F64": torch.float64,
        "I64": torch.int64,
        "I32": torch.int32,
        "I16": torch.int16,
        "I8": torch.int8,
        "U8": torch.uint8,
    }[name]


def blocks(matrix: Tensor, rows: int = 8192) -> Iterator[Tensor]:
    """Yield a matrix so many rows at a time."""
    for begin in range(0, len(matrix), rows):
        yield matrix[begin : begin + rows]


def read_header(file: Path) -> tuple[list[TensorPlace], dict[str, str]]:
    """Return a file's tensors in the order of their bytes, and its metadata; raises `ModelError` if it is damaged."""
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(min(length, HEADER_LIMIT)))
        metadata = header.pop("__metadata__", {})
        places = [
            TensorPlace(
                name,
                file,
                entry["dtype"],
                tuple(entry["shape"]),
                8 + length + entry["data_offsets"][0],
                8 + length + entry["data_offsets"][1],
            )
            for name, entry in header.items()
        ]
        places.sort(key=lambda place: (place.begin, place.end))
        promised = max((place.end for place in places), default=size)
    except (
        OSError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as error:
        msg = f"{file}: not a whole safetensors file ({error}); fetch or save the model again"
        raise ModelError(msg) from error
    if promised != size:
        msg = f"{file}: {size:,} bytes where its header promises {promised:,}; fetch or save the model again"
        raise ModelError(msg)
    _check_consistent(file)
    return places, metadata


def _check_consistent(file: Path) -> None:
    """Let the library check lengths, places, shapes and kinds against each other; raises `ModelError`."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="np"):
            return
    except (OSError, SafetensorError) as error:
        msg = f"{file}: not a whole safetensors file ({error}); fetch or save the model again"
        raise ModelError(msg) from error


def _shard_names(index: Any, where: Path) -> list[str]:
    """Return the files that an index names; raises `ModelError` for one that is not beside it."""
    try:
        names = sorted(set(index["weight_map"].values()))
        strange = [name for name in names if Path(name).name != name]
    except (KeyError, TypeError, AttributeError):
        names, strange = [], [""]
    if strange or not names:
        seen = f"weight_map names {strange[0]!r}" if strange and strange[0] else "no weight_map"
        msg = f"{where}: {seen}; expected names of safetensors files beside it; fetch or save the model again"
        raise ModelError(msg)
    return names


def _lone_file(folder: Path) -> list[Path]:
    if (folder / SINGLE).exists():
        return [folder / SINGLE]
    found = sorted(folder.glob("*.safetensors"))
    if len(found) == 1:
        return found
    pickled = sorted(
        path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern)
    )
    if pickled:
        msg = (
            f"{folder}: only pickled weights ({pickled[0]}), which can run code when they are read; convert them "
            f'once: python -c "from transformers import AutoModelForCausalLM as M; '
            f"M.from_pretrained('{folder}').save_pretrained('{folder}')\""
        )
        raise ModelError(msg)
    seen = ", ".join(path.name for path in found[:4]) or "no safetensors file"
    msg = f"{folder}: expected {SINGLE}, or shards with {INDEX}; found {seen}"
    raise ModelError(msg)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"{path}: not readable JSON ({error})"
        raise ModelError(msg) from error
    return data
