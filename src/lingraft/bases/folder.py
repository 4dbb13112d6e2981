"""A model folder on disk: the user's own checkpoint, or what a hub's snapshot holds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from lingraft.bases.base import BASES, Base, Bench
from lingraft.digests import known_digest
from lingraft.errors import ModelError
from lingraft.paths import is_folder

WEIGHTS = ("*.safetensors",)
SMALL_FILES = ("config.json", "generation_config.json", "model.safetensors.index.json", "tokenizer.json",
               "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "tokenizer.model",
               "spiece.model", "sentencepiece.bpe.model", "vocab.json", "merges.txt", "vocab.txt",
               "chat_template.jinja", "LICENSE*", "NOTICE*", "USE_POLICY*")


@BASES.register
class FolderBase(Base):
    """A folder with config.json, *.safetensors and a tokenizer."""

    name: ClassVar[str] = "folder"

    path: str = Field(description="the folder of the model, as save_pretrained writes it")

    @property
    def folder(self) -> Path:
        """The folder; a leading ~ is the home folder."""
        return Path(self.path).expanduser()

    def identity(self) -> dict[str, Any]:
        """Name every file that makes the model by its hash: the same model elsewhere is the same question."""
        check_folder(self.folder)
        return {"files": {path.name: known_digest(path) for path in model_files(self.folder)}}

    def materialise(self, bench: Bench) -> None:
        """Link the weights, copy the rest."""
        fill(bench.folder, self.folder)
        bench.draft.notes["from"] = self.path

    def config(self) -> dict[str, Any]:
        """Return the content of config.json."""
        return read_config(self.folder)


def model_files(folder: Path) -> list[Path]:
    """Return the files that make a model, by name."""
    return sorted({path for pattern in (*WEIGHTS, *SMALL_FILES) for path in folder.glob(pattern) if path.is_file()})


def check_folder(folder: Path) -> None:
    """Raise `ModelError` where a folder holds no complete model that can be read safely."""
    if not is_folder(folder):
        msg = (f"model: {folder} is no folder (looked from {Path.cwd()} and beside the recipe) and no hub id; expected "
               "a folder with config.json, or owner/name of a model on the hub")
        raise ModelError(msg)
    config = read_config(folder)
    if "auto_map" in config:
        msg = (f"{folder / 'config.json'}: the model brings code of its own (auto_map), which is not run; "
               "use a model whose architecture transformers holds")
        raise ModelError(msg)
    if not list(folder.glob("*.safetensors")):
        others = ", ".join(sorted(path.name for path in folder.glob("*.bin"))) or "none"
        msg = (f"{folder}: no *.safetensors (other weights: {others}); pickled weights are not read, because loading "
               "them runs code: convert them with save_pretrained(safe_serialization=True)")
        raise ModelError(msg)


def read_config(folder: Path) -> dict[str, Any]:
    """Read config.json; raises `ModelError` where it is missing or broken."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        msg = f"{path}: not there; a model folder holds config.json, *.safetensors and tokenizer.json"
        raise ModelError(msg) from None
    except (OSError, ValueError) as error:
        msg = f"{path}: cannot be read as JSON ({error}); fetch the model again"
        raise ModelError(msg) from error
    if not isinstance(config, dict) or "model_type" not in config:
        msg = f"{path}: has no model_type; expected the configuration of a transformers model"
        raise ModelError(msg)
    return config


def fill(target: Path, source: Path) -> None:
    """Make `target` a model folder like `source`: weights as links (a 7B model is 13 GB), small files as copies."""
    check_folder(source)
    for path in model_files(source):
        if path.suffix == ".safetensors":
            (target / path.name).symlink_to(path.resolve())
        else:
            shutil.copyfile(path, target / path.name)
