"""Putting an adapted model on a hub, with the user's own token; nothing is put there without its card.

The token is taken by the hub's library from where `hf auth login` or HF_TOKEN left it. It is never an argument here, so
that it stands in no shell history, log, manifest or report.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from lingraft.errors import HubError, ModelError, RecipeError
from lingraft.paths import is_folder
from lingraft.store import room_on_disk

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def model_folder(path: Path) -> Path:
    """Return the model folder that a user means: of a run its model/, else the folder itself; raises `ModelError`."""
    folder = path / "model" if (path / "run.json").is_file() and (path / "model").is_dir() else path
    if not (folder / "config.json").is_file():
        msg = f"{path}: neither a finished run nor a model folder (no config.json); a run is made by `lingraft adapt`"
        raise ModelError(msg)
    return folder


def publishable(path: Path) -> Path:
    """Return the folder that is put on a hub: an adapter of a base that is there, or what `model_folder` returns.

    Raises `ModelError` for an adapter of a base that others cannot have, since it says where that lies on this machine.
    """
    config = path / "adapter_config.json"
    if not config.is_file():
        return model_folder(path)
    base = str(json.loads(config.read_text(encoding="utf-8")).get("base_model_name_or_path"))
    if not HUB_ID.fullmatch(base) or is_folder(base):
        msg = (f"{config}: the adapter's base is {base!r}, not owner/name of a hub; adapt from a hub's model, or push "
               "the run itself")
        raise ModelError(msg)
    return path


def upload(path: Path, repository: str, *, private: bool = True, revision: str | None = None) -> str:
    """Upload a run's model, or its adapter, to a hub and return the address of the commit.

    Raises `ModelError` where there is no card, `HubError` where the hub says no or cannot be reached.
    """
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import HfHubHTTPError

    client_error: Any = HfHubHTTPError.__mro__[1]  # of whichever HTTP client the library has today

    folder = publishable(path)
    if not HUB_ID.fullmatch(repository):
        msg = f"--to {repository!r}: a model on a hub is named owner/name"
        raise RecipeError(msg)
    if not (folder / "README.md").is_file():
        msg = f"{folder}: there is no card (README.md), without which nothing is pushed; run `lingraft adapt` again"
        raise ModelError(msg)
    if get_token() is None:
        msg = f"{repository}: pushing needs your token; `hf auth login`, or set HF_TOKEN"
        raise HubError(msg)
    api = HfApi()
    with room_on_disk(folder):
        try:
            api.create_repo(repository, private=private, exist_ok=True)
            done = api.upload_folder(repo_id=repository, folder_path=folder, revision=revision,
                                     commit_message="Model adapted with lingraft", ignore_patterns=[".*", "*.tmp"])
        except (HfHubHTTPError, client_error, OSError) as error:
            raise _told(error, repository, get_token()) from None  # the chain would hold request headers
    return str(done.commit_url)


def _told(error: Exception, repository: str, token: str | None) -> HubError:
    response: Any = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    advice = {401: "the token is not valid: `hf auth login`", 403: "the token may not write there: make one with write "
              "access", 404: "there is no such owner or revision"}.get(status or 0, "try again later")
    reason = f"the hub answered {status}" if status else (str(error).splitlines() or [type(error).__name__])[0]
    return HubError(f"{repository}: {reason.replace(token or chr(0), 'the token')}; {advice}")
