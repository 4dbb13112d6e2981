"""Whether the data sets of tasks can be had: from the Hub, or offline from its cache."""

from __future__ import annotations

from functools import cache

from lingraft.errors import one_line
from lingraft.hub_client import MALFORMED, client_errors, refusal


def data_set_commit(data: str, revision: str) -> str:
    """Return the commit of a data set on the Hub; offline, of the cached one.

    Raises an error of the Hub's client, or `ConnectionError`, if it cannot be had.
    """
    from huggingface_hub import HfApi, constants, errors, scan_cache_dir

    if not constants.HF_HUB_OFFLINE:
        info = HfApi().dataset_info(data, revision=revision, timeout=20)
        # A gated data set has public metadata, but its files need an access token.
        if info.gated:
            HfApi().auth_check(data, repo_type="dataset")
        return str(info.sha)
    try:
        repositories = scan_cache_dir().repos
    except errors.CacheNotFound:
        repositories = frozenset()
    for repository in repositories:
        is_wanted = repository.repo_type == "dataset" and repository.repo_id == data
        if is_wanted and revision in repository.refs:
            return str(repository.refs[revision].commit_hash)
    msg = "HF_HUB_OFFLINE is set, and the data set is not in the cache"
    raise ConnectionError(msg)


@cache
def data_set_problem(data: str, revision: str) -> str | None:
    """Return why a data set cannot be had, `None` if it can."""
    from huggingface_hub import constants, list_repo_files

    try:
        data_set_commit(data, revision)
        if constants.HF_HUB_OFFLINE:
            return None
        script = f"{data.rpartition('/')[2]}.py"
        if script in list_repo_files(data, revision=revision, repo_type="dataset"):
            return "the data set needs a loading script, which `datasets` no longer runs"
    except client_errors() + MALFORMED as error:
        return refusal(error, data, "dataset", revision) or one_line(error)
    return None
