"""Upload an adapted model with its model card to the hub, with the access token of the user.

The hub client reads the access token that `hf auth login` or HF_TOKEN has set. It is never an
argument, so that it does not appear in a shell history, log, manifest or report.
"""

from __future__ import annotations

import json
from pathlib import Path

from lingraft.errors import HubError, ModelError, RecipeError, one_line
from lingraft.hub_client import HUB_ID, hub_errors, status_of
from lingraft.store import disk_errors, is_folder


def model_folder(path: Path) -> Path:
    """Return the model folder of a path: model/ of a run, or the folder itself.

    Raises `ModelError` for anything else.
    """
    is_run = (path / "run.json").is_file() and (path / "model").is_dir()
    folder = path / "model" if is_run else path
    if not (folder / "config.json").is_file():
        msg = (
            f"{path}: neither a finished run nor a model folder (no config.json); `lingraft adapt` "
            "creates a run"
        )
        raise ModelError(msg)
    return folder


def find_upload_folder(path: Path, repository: str) -> Path:
    """Return the folder to upload: an adapter whose base is on the hub, or `model_folder`.

    Raises `RecipeError` if `repository` is no owner/name, and `ModelError` without a model card and
    for an adapter of a local base: other users do not have the base, and the adapter contains its
    path on this machine.
    """
    if not HUB_ID.fullmatch(repository):
        msg = f"--to {repository!r}: expected owner/name of a model on the hub"
        raise RecipeError(msg)
    folder = _folder_of(path)
    if not (folder / "README.md").is_file():
        msg = f"{folder}: no model card (README.md); run `lingraft adapt` again to write it"
        raise ModelError(msg)
    return folder


def _folder_of(path: Path) -> Path:
    config = path / "adapter_config.json"
    if not config.is_file():
        return model_folder(path)
    try:
        base = str(json.loads(config.read_bytes())["base_model_name_or_path"])
    except (ValueError, LookupError, TypeError) as error:
        msg = f"{config}: not a configuration of PEFT ({one_line(error)}); export the adapter again"
        raise ModelError(msg) from error
    if not HUB_ID.fullmatch(base) or is_folder(base):
        msg = (
            f"{config}: the base of the adapter is {base!r}, not owner/name of a hub model; adapt "
            "a model of the hub, or push the run itself"
        )
        raise ModelError(msg)
    return path


def upload(
    path: Path, repository: str, *, private: bool = True, revision: str | None = None
) -> str:
    """Upload a run's model, or an adapter, to the hub and return the URL of the commit.

    Raises `ModelError` without a model card, `HubError` if the hub refuses or cannot be reached.
    """
    from huggingface_hub import HfApi, get_token

    folder = find_upload_folder(path, repository)
    if get_token() is None:
        msg = f"{repository}: no token of the hub; run `hf auth login`, or set HF_TOKEN"
        raise HubError(msg)
    api = HfApi()
    with disk_errors(folder), hub_errors(repository, _explanation):
        # `private` has an effect only if the repository is created here.
        api.create_repo(repository, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            revision=revision,
            commit_message="Model adapted with lingraft",
            # Hidden and temporary files are not part of the model.
            ignore_patterns=[".*", "*.tmp"],
        )
    return str(commit.commit_url)


def _explanation(error: Exception) -> str:
    status = status_of(error)
    if status is None:
        return f"{one_line(error)}; try again later"
    advice = {
        401: "the token is not valid: `hf auth login`",
        403: "the token cannot write to it: create a token with write access",
        404: "there is no such owner or revision",
    }
    return f"the Hub responded with status {status}; {advice.get(status, 'try again later')}"
