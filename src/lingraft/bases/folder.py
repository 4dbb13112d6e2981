"""A base in a model folder: a checkpoint of the user, or a snapshot of a hub model.

Weights are linked and not copied. The identity of a folder is the hash of its files, so a moved
model has the same key.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from lingraft.bases.base import BASES, Base, BuildContext
from lingraft.bases.weight_formats import (
    check_not_quantised,
    check_rows_are_plain,
    check_weight_format,
)
from lingraft.checkpoint.config_files import COMPANIONS
from lingraft.errors import ModelError
from lingraft.model_code import check_loads_without_code, code_files, is_permitted, permit
from lingraft.store import (
    cached_sha256,
    expanded,
    file_digest,
    is_folder,
    path_exists,
    symlink_or_link,
    write_json,
)
from lingraft.tokenizer.file_names import TOKENIZER_FILES

WEIGHTS = ("*.safetensors",)
SECOND_COPY = "consolidated"
"""Prefix of the files with the same weights in Mistral's own format."""
SMALL_FILES = (
    "config.json",
    "generation_config.json",
    "model.safetensors.index.json",
    *TOKENIZER_FILES,
    *COMPANIONS,
)
"""The files that are copied with a model; other files of its folder are not part of the base."""


@BASES.register
class FolderBase(Base):
    """A folder with config.json, *.safetensors and a tokenizer."""

    name: ClassVar[str] = "folder"
    reads_files: ClassVar[bool] = True

    path: str = Field(description="folder of the model, as save_pretrained writes it")
    trust_remote_code: bool = Field(
        default=False, description="run the code in the model's folder (auto_map); read it first"
    )

    @property
    def folder(self) -> Path:
        """The folder; a leading ~ is the home folder."""
        return expanded(self.path)

    @property
    def runs_code(self) -> bool:
        """Whether the code of the model runs: permitted here, or by a base with the same code."""
        return self.trust_remote_code or (is_folder(self.folder) and is_permitted(self.folder))

    def identity(self) -> dict[str, Any]:
        """Return the hash of every file of the model, so that a moved model has the same key."""
        check_folder(self.folder, code=self.runs_code)
        hashes = {}
        for path in model_files(self.folder, code=self.runs_code):
            hashes[path.relative_to(self.folder).as_posix()] = cached_sha256(path)
        return {"files": hashes}

    def materialise(self, context: BuildContext) -> None:
        """Link the weights and copy the other files."""
        context.draft.notes.update(fill(context.folder, self.folder, code=self.runs_code))
        context.draft.notes["from"] = self.path

    def tokenizer_folder(self) -> Path:
        """Return the folder itself."""
        return self.folder

    def check_trainable(self) -> None:
        """Raise `ModelError` for quantised weights."""
        if is_folder(self.folder):
            check_not_quantised(read_config(self.folder), self.folder)

    def config(self) -> dict[str, Any]:
        """Return the content of config.json."""
        return read_config(self.folder)


def model_files(folder: Path, *, code: bool = False) -> list[Path]:
    """Return the files of a model, sorted by name."""
    weights, second_copy, files = set[Path](), set[Path](), set[Path]()
    for pattern in (*WEIGHTS, *SMALL_FILES):
        files.update(filter(Path.is_file, folder.glob(pattern)))
    for path in files:
        if path.suffix == ".safetensors":
            (second_copy if path.name.startswith(SECOND_COPY) else weights).add(path)
    if weights:  # the same weights twice would be read as two models
        files -= second_copy
    return sorted({*files, *(code_files(folder) if code else ())})


def check_folder(folder: Path, *, code: bool = False) -> None:
    """Raise `ModelError` for an incomplete or unsafe model; `code` permits its own code."""
    # First, because a .gguf file is no folder either, and its message names a conversion.
    if path_exists(folder):
        check_weight_format(folder)
    if not is_folder(folder):
        msg = (
            f"model: {folder}: not found; neither a folder (relative to {Path.cwd()} or to the "
            "recipe) nor a hub id; expected a folder with config.json, or owner/name of a model "
            "on the hub"
        )
        raise ModelError(msg)
    config = read_config(folder)
    if code:
        permit(folder)
    else:
        check_loads_without_code(config, folder)
    check_rows_are_plain(config, folder)
    check_generation_config(folder)
    if not list(folder.glob("*.safetensors")):
        msg = (
            f"{folder}: contains no weights; expected model.safetensors, or shards with an index "
            "file"
        )
        raise ModelError(msg)


def check_generation_config(folder: Path) -> None:
    """Raise `ModelError` for a generation_config.json that is no JSON object; it may be missing."""
    path = folder / "generation_config.json"
    if not path.is_file():
        return
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        msg = f"{path}: cannot be read as JSON ({error}); fetch the model again, or delete the file"
        raise ModelError(msg) from error
    if not isinstance(content, dict):
        msg = f"{path}: not an object with settings; fetch the model again, or delete the file"
        raise ModelError(msg)


def read_config(folder: Path) -> dict[str, Any]:
    """Read config.json; raises `ModelError` if it is missing or invalid."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        msg = (
            f"{path}: no such file; a model folder contains config.json, *.safetensors and "
            "tokenizer.json"
        )
        raise ModelError(msg) from None
    except (OSError, ValueError, RecursionError) as error:
        msg = f"{path}: cannot be read as JSON ({error}); fetch the model again"
        raise ModelError(msg) from error
    if not isinstance(config, dict) or "model_type" not in config:
        msg = f"{path}: has no model_type; expected the configuration of a transformers model"
        raise ModelError(msg)
    return config


def fill(target: Path, source: Path, *, code: bool = False) -> dict[str, Any]:
    """Fill `target` from `source`: weights as links (a 7B model has 13 GB), small files as copies.

    Without `code`, `auto_map` is removed from config.json, so that transformers uses its own class.
    The returned notes name the code files that run, or state that they are left out.
    """
    check_folder(source, code=code)
    for path in model_files(source, code=code):
        if path.suffix == ".safetensors":
            # Resolved, because files of the hub's cache are relative links themselves.
            symlink_or_link(path.resolve(), target / path.name)
        else:
            # Copied, because config.json and the tokenizer may be rewritten in the target.
            (target / path.relative_to(source)).parent.mkdir(exist_ok=True)
            shutil.copyfile(path, target / path.relative_to(source))
    config = read_config(source)
    if "auto_map" not in config:
        return {}
    if code:
        digests = {}
        for path in code_files(target):
            digests[path.name] = file_digest(path)
        return {"code": digests}
    del config["auto_map"]
    write_json(target / "config.json", config, indent=2)
    return {"code left out": f"transformers' own {config['model_type']} is used"}
