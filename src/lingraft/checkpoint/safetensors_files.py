"""The safetensors files of a model folder, as byte ranges.

A safetensors file is eight bytes with the length of a JSON header, the header (name -> dtype,
shape, begin and end within the data), and the data without gaps. A `Checkpoint` holds the file and
the byte range of every tensor, so that rows can be copied without decoding them, or mapped into
memory and read a few at a time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open

from lingraft.errors import ModelError
from lingraft.store import write_json

if TYPE_CHECKING:
    from torch import Tensor

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
FLOATS = {"F32": 4, "F16": 2, "BF16": 2, "F64": 8}
"""Bytes per number of each dtype that embedding rows can have."""
INTEGERS = {"I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1}
"""Bytes per number of each dtype that routing tables can have."""
# The exceptions that a header of arbitrary bytes can cause.
DAMAGED_HEADER = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    OverflowError,
    RecursionError,
)
# About the limit of the safetensors library; the length of a damaged header is often far larger.
HEADER_LIMIT = 100 * 2**20


@dataclass(frozen=True)
class TensorPlace:
    """Where a tensor is stored: bytes `begin` to `end`, counted from the start of `file`."""

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

        Raises `ModelError` where there are none (with the command that converts pickled weights),
        or where one is damaged.
        """
        folder = Path(folder)
        index_path = folder / INDEX
        index, names = None, [SINGLE]
        if index_path.exists():
            index = _read_json(index_path)
            names = _shard_names(index, index_path)
        # Next to shards of another save, transformers reads the single file.
        if SINGLE not in names and (folder / SINGLE).exists():
            index, names = None, [SINGLE]
        files = [folder / name for name in names] if index else _single_file(folder)
        return cls(folder, cls.open_files(files), index)

    @staticmethod
    def open_files(files: Sequence[Path]) -> dict[str, TensorPlace]:
        """Read the headers of these files."""
        places: dict[str, TensorPlace] = {}
        for file in files:
            for place in read_header(file)[0]:
                places[place.name] = place
        return places

    @property
    def files(self) -> list[Path]:
        """Every file that holds tensors."""
        return sorted({place.file for place in self.tensors.values()})

    @property
    def parameters(self) -> int:
        """The number of parameters in the files."""
        return sum(prod(place.shape) for place in self.tensors.values())

    @property
    def tensor_bytes(self) -> int:
        """The number of bytes of all tensors."""
        return sum(place.end - place.begin for place in self.tensors.values())

    def tensor(self, name: str) -> Tensor:
        """Map a tensor from its file, in its own dtype; only the parts that are read use memory."""
        return map_tensor(self.tensors[name])


def map_tensor(place: TensorPlace) -> Tensor:
    """Map a tensor's bytes into memory; writing to it does not change the file.

    Raises `ModelError` for a dtype that is neither in `FLOATS` nor in `INTEGERS`.
    """
    import torch

    if place.dtype not in {*FLOATS, *INTEGERS}:
        msg = (
            f"{place.file}: {place.name} is stored as {place.dtype}; rows can be added to "
            f"{', '.join(FLOATS)}: save the model unquantised"
        )
        raise ModelError(msg)
    size = place.end - place.begin
    # Mode "c": torch needs a writable array, and writes must not reach the file.
    raw = np.memmap(place.file, dtype=np.uint8, mode="c", offset=place.begin, shape=(size,))
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
    """Yield a matrix in blocks of `rows` rows."""
    for begin in range(0, len(matrix), rows):
        yield matrix[begin : begin + rows]


def read_header(file: Path) -> tuple[list[TensorPlace], dict[str, str]]:
    """Return a file's tensors in the order of their bytes, and its metadata.

    Raises `ModelError` if the file is damaged.
    """
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(min(length, HEADER_LIMIT)))
        metadata = header.pop("__metadata__", {})
        data = 8 + length
        places: list[TensorPlace] = []
        for name, entry in header.items():
            begin, end = data + entry["data_offsets"][0], data + entry["data_offsets"][1]
            places.append(
                TensorPlace(name, file, entry["dtype"], tuple(entry["shape"]), begin, end)
            )
        places.sort(key=lambda place: (place.begin, place.end))
        expected_size = max((place.end for place in places), default=size)
    except DAMAGED_HEADER as error:
        msg = f"{file}: not a complete safetensors file ({error}); download or save the model again"
        raise ModelError(msg) from error
    # A download that stopped leaves a valid header and too few bytes.
    if expected_size != size:
        msg = (
            f"{file}: has {size:,} bytes, but its header describes {expected_size:,}; download or "
            f"save the model again"
        )
        raise ModelError(msg)
    _check_consistent(file)
    return places, metadata


def _check_consistent(file: Path) -> None:
    """Raise `ModelError` if offsets, shapes and dtypes of a header do not fit together.

    The safetensors library checks this when it opens a file.
    """
    try:
        with safe_open(file, framework="np"):
            return
    except (OSError, SafetensorError) as error:
        msg = f"{file}: not a complete safetensors file ({error}); download or save the model again"
        raise ModelError(msg) from error


def _shard_names(index: Any, where: Path) -> list[str]:
    """Return the files that an index names; raise `ModelError` for one in another folder."""
    try:
        names = sorted(set(index["weight_map"].values()))
        # A path would let a downloaded index read any file of this machine.
        outside = [name for name in names if Path(name).name != name]
    except (KeyError, TypeError, AttributeError):
        names, outside = [], []
    if outside or not names:
        problem = f"weight_map names {outside[0]!r}" if outside else "no weight_map"
        msg = (
            f"{where}: {problem}; expected names of safetensors files next to it; download or save "
            f"the model again"
        )
        raise ModelError(msg)
    return names


def write_index(
    folder: Path, weight_map: Mapping[str, str], before: Mapping[str, Any] | None = None
) -> None:
    """Write the index of the shards in a folder; `weight_map` is the file name of each tensor.

    The other entries are those of the index `before`, with new sizes.
    """
    files = [folder / name for name in sorted(set(weight_map.values()))]
    written = Checkpoint(folder, Checkpoint.open_files(files), None)
    before = before or {}
    metadata = {**before.get("metadata", {}), "total_size": written.tensor_bytes}
    # Only recent releases of transformers write this number.
    if "total_parameters" in metadata:
        metadata["total_parameters"] = written.parameters
    index = {**before, "metadata": metadata, "weight_map": weight_map}
    write_json(folder / INDEX, index, indent=2)


def _single_file(folder: Path) -> list[Path]:
    """Return the file of a model without an index, as a list; raise `ModelError` where none is."""
    # Without an index, other safetensors files next to it do not belong to the model.
    if (folder / SINGLE).exists():
        return [folder / SINGLE]
    files = sorted(folder.glob("*.safetensors"))
    if len(files) == 1:
        return files
    pickled: list[str] = []
    for pattern in ("*.bin", "*.pt", "*.pth"):
        pickled += [path.name for path in folder.glob(pattern)]
    if pickled:
        msg = (
            f"{folder}: only pickled weights ({min(pickled)}), which can run code when they are "
            f'read; convert them once: python -c "from transformers import AutoModelForCausalLM '
            f"as M; M.from_pretrained('{folder}').save_pretrained('{folder}')\""
        )
        raise ModelError(msg)
    found = ", ".join(path.name for path in files[:4]) or "no safetensors file"
    msg = f"{folder}: expected {SINGLE}, or shards with {INDEX}; found {found}"
    raise ModelError(msg)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"{path}: not readable JSON ({error}); download or save the model again"
        raise ModelError(msg) from error
    return data
