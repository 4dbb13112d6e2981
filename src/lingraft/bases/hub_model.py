"""A base on the hub: its revision is resolved to a commit, its files are in the client's cache.

Only safetensors weights are downloaded, and of subfolders only the named chat templates: models,
processors and code are read from the top folder. config.json is fetched first, so that a model that
cannot be used is refused before any weights are downloaded.
"""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, field_validator, model_validator

from lingraft.bases.base import BASES, Base, BuildContext
from lingraft.bases.folder import SECOND_COPY, SMALL_FILES, WEIGHTS, fill, read_config
from lingraft.bases.weight_formats import (
    check_file_names,
    check_not_quantised,
    check_rows_are_plain,
    check_weight_format,
    quantisation_of,
)
from lingraft.errors import one_line
from lingraft.hub_client import (
    COMMIT,
    HUB_ID,
    client_errors,
    hub_errors,
    refusal,
    well_formed_response,
)
from lingraft.model_code import PATTERN, permit

NOT_FETCHED = (
    f"{SECOND_COPY}*.safetensors",
    # In patterns of the Hub's client `*` matches a slash too, so these would match our patterns.
    "*/*.safetensors",
    "*/*.tiktoken",
    "*/*.py",
)
"""Files that are never read: Mistral's second copy of the weights, and all of subfolders.

Llama and gpt-oss have a second copy of the weights in `original/`, which would double the download.
"""


def _hidden_bar() -> type[Any]:
    """Return the progress bar of the Hub's client, not drawn.

    A command asks for config.json a dozen times and finds it in the cache; each time the client
    would draw `Fetching 1 files`.
    """
    from huggingface_hub.utils.tqdm import tqdm

    class HiddenBar(tqdm):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            hidden = {**options, "disable": True}
            super().__init__(*arguments, **hidden)  # type: ignore[no-untyped-call]

    return HiddenBar


@BASES.register
class HubBase(Base):
    """A model on the hub that HF_ENDPOINT names."""

    name: ClassVar[str] = "hub"

    id: str = Field(description="owner/name of the model")
    revision: str = Field(
        default="main", description="branch, tag or commit; the resolved commit is recorded"
    )
    trust_remote_code: bool = Field(
        default=False,
        description="run the code in the model's repository (auto_map); read it first, and set "
        "revision to the commit that you read",
    )

    @field_validator("id")
    @classmethod
    def _well_formed(cls, value: str) -> str:
        if not HUB_ID.fullmatch(value):
            msg = f"{value!r} is not a model id; expected owner/name"
            raise ValueError(msg)
        return value

    @model_validator(mode="after")
    def _pinned(self) -> HubBase:
        if self.trust_remote_code and not COMMIT.fullmatch(self.revision):
            msg = (
                f"trust_remote_code runs the code of {self.id} at a pinned revision only, got "
                f"{self.revision!r}; set revision to the commit whose code you have read (40 "
                "hexadecimal digits)"
            )
            raise ValueError(msg)
        return self

    def identity(self) -> dict[str, Any]:
        """Return the commit, so that a branch with new commits has another key."""
        if self.trust_remote_code:
            # A permission is the hash of the code files, so they are needed before the first stage.
            permit(self._fetch(("config.json", PATTERN)))
        identity = {"hub": self.id, "commit": self.commit()}
        return {**identity, "code": True} if self.trust_remote_code else identity

    def commit(self) -> str:
        """Resolve the revision to a commit; offline, to the commit in the cache."""
        if COMMIT.fullmatch(self.revision):
            return self.revision  # needs no network
        # A snapshot folder is named by its commit, so one call resolves online and offline.
        return self._fetch(("config.json",), self.revision).name

    def materialise(self, context: BuildContext) -> None:
        """Download the files of the commit and link them."""
        self.config()  # refuses adapters and quantised weights before the download
        folder = self._fetch(self._patterns)
        if not list(folder.glob("*.safetensors")):
            # Weights in other formats are not downloaded, so their names are on the hub only.
            check_file_names(self._file_names(), self.id)
        context.draft.notes.update(fill(context.folder, folder, code=self.trust_remote_code))
        context.draft.notes["from"] = f"{self.id}@{self.commit()}"

    def tokenizer_folder(self) -> Path:
        """Return the snapshot folder with all files but the weights."""
        return self._fetch(SMALL_FILES)

    def config(self) -> dict[str, Any]:
        """Return config.json, fetched before any weights.

        Raises `ModelError` for an adapter or quantised weights.
        """
        folder = self._fetch(("config.json", "adapter_config.json"))
        if (folder / "adapter_config.json").is_file():
            check_weight_format(folder, self.id)
        config = read_config(folder)
        if quantisation_of(config) is not None:
            check_rows_are_plain(config, self._fetch(("README.md",)), self.id)
        return config

    def check_trainable(self) -> None:
        """Raise `ModelError` for quantised weights."""
        if quantisation_of(config := self.config()) is not None:
            check_not_quantised(config, self._fetch(("README.md",)), self.id)

    def missing_files(self) -> dict[str, int]:
        """Return the bytes of each file that `materialise` would still download.

        Without a connection to the Hub there is nothing to download, and the result is empty.
        """
        from huggingface_hub import HfApi, try_to_load_from_cache

        commit = self.commit()
        try:
            listed = HfApi().model_info(self.id, revision=commit, files_metadata=True).siblings
        except client_errors():
            return {}
        sizes = {file.rfilename: file.size or 0 for file in listed or ()}
        missing = {}
        for name, size in sizes.items():
            belongs = any(fnmatch(name, pattern) for pattern in self._patterns)
            if not belongs or any(fnmatch(name, pattern) for pattern in NOT_FETCHED):
                continue
            if not isinstance(try_to_load_from_cache(self.id, name, revision=commit), str):
                missing[name] = size
        return missing

    @property
    def _patterns(self) -> tuple[str, ...]:
        """The names of the files that belong to the base."""
        return (*WEIGHTS, *SMALL_FILES, *((PATTERN,) if self.trust_remote_code else ()))

    def _file_names(self) -> list[str]:
        """Return the names of all files of the commit; none if the hub cannot be reached."""
        from huggingface_hub import HfApi

        try:
            return list(HfApi().list_repo_files(self.id, revision=self.commit()))
        except client_errors():
            return []  # `fill` reports that the folder has no weights

    def _fetch(self, patterns: tuple[str, ...], revision: str | None = None) -> Path:
        """Return a snapshot in the cache with the files that match the patterns."""
        from huggingface_hub import snapshot_download

        revision = revision or self.commit()
        label = f"model: {self.id}"
        with (
            hub_errors(label, lambda error: self._explanation(error, revision)),
            well_formed_response(label),
        ):
            folder = snapshot_download(
                self.id,
                revision=revision,
                allow_patterns=list(patterns),
                ignore_patterns=list(NOT_FETCHED),
                tqdm_class=_hidden_bar(),
            )
        return Path(folder)

    def _explanation(self, error: Exception, revision: str) -> str:
        from huggingface_hub import constants, errors

        if refused := refusal(error, self.id, "model", revision):
            return refused
        if isinstance(error, errors.LocalEntryNotFoundError):
            return (
                f"the hub at {constants.ENDPOINT} cannot be reached and revision {revision} is not "
                "in the cache; connect, or name a local folder"
            )
        return f"the download was interrupted ({one_line(error)}); run again to continue it"
