"""Documents of a hub data set, read by `datasets`, with errors that say what to do about them."""

from __future__ import annotations

import errno
import gc
import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lingraft.corpus.config import Source
from lingraft.corpus.readers import document_of
from lingraft.errors import HubError

NO_ANSWER = (ValueError, TypeError, KeyError, AttributeError)
"""What the hub's library raises at a page that is no JSON, or JSON that is something else."""


def commit_of(source: Source) -> str:
    """Return the commit that a source's revision stands for; raises `HubError`. A whole commit needs no network."""
    if source.revision and re.fullmatch(r"[0-9a-f]{40}", source.revision):
        return source.revision
    from huggingface_hub import HfApi, constants

    try:
        with _explained(source, [0]):
            return str(HfApi().dataset_info(str(source.hub), revision=source.revision).sha)
    except NO_ANSWER as error:
        msg = (f"{source.label}: what {constants.ENDPOINT} answered is no answer of a hub ({_one_line(error)}); look "
               f"at HF_ENDPOINT, and whether a network's sign-in page answers in its place")
        raise HubError(msg) from None


def read_hub(source: Source) -> Iterator[str]:
    """Yield the texts of a split in its own order; raises `HubError`, and `CorpusError` for an unknown field."""
    import datasets

    read = [0]
    try:
        with _explained(source, read):
            for row in _rows(source):
                read[0] += 1
                yield document_of(row, source, f"{source.label}, row {read[0]}")
    except (ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        # an unknown split or configuration (the message lists the known ones), or files that cannot be read
        causes = dict.fromkeys(_one_line(cause) for cause in _chain(error))
        msg = f"{source.label}: the data set cannot be read: {'; '.join(causes)}"
        raise HubError(msg) from None


def _rows(source: Source) -> Iterator[dict[str, Any]]:
    import datasets

    # a folder of the same name in the working directory would be read in place of the hub
    name = f"hf://datasets/{source.hub}" if Path(str(source.hub)).exists() else source.hub
    rows = datasets.load_dataset(name, name=source.config, split=source.split, revision=commit_of(source),
                                 streaming=source.streaming)
    if not isinstance(rows, (datasets.Dataset, datasets.IterableDataset)):
        msg = f"{source.label}: split {source.split!r} is no single split; name one of its splits"
        raise HubError(msg)
    column = source.text.split(".")[0]
    columns = rows.column_names or []
    column = source.text if source.text in columns else source.text.split(".")[0]
    if column in columns and source.format == "text":  # the others are not fetched
        rows = rows.select_columns([column])
    iterator = iter(rows)
    try:
        yield from iterator
    finally:  # a parquet reader that is left half-way may abort the interpreter at exit (apache/arrow 45214)
        if isinstance(iterator, Generator):
            iterator.close()
        del rows, iterator
        gc.collect()


@contextmanager
def _explained(source: Source, read: list[int]) -> Iterator[None]:
    """Turn what the hub's libraries raise into a `HubError` that names the data set and what to do."""
    from huggingface_hub import constants, errors

    client_error: Any = errors.HfHubHTTPError.__mro__[1]  # of whichever HTTP client the hub's library has today
    try:
        yield
    except (client_error, errors.EntryNotFoundError, OSError) as error:
        if getattr(error, "errno", None) in {errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT}:
            raise  # our own disk, not the hub
        advice = _advice(error, source) or (
            f"the connection to {constants.ENDPOINT} failed after {read[0]} documents ({type(error).__name__}: "
            f"{_one_line(error)}); run again, or download the data set and name its path")
        msg = f"{source.label}: {advice}"
        raise HubError(msg) from None


def _advice(error: Exception, source: Source) -> str | None:
    """Say what a refusal means and what to do; `None` where it is none, but a connection that failed."""
    from huggingface_hub import constants, errors

    page = f"{constants.ENDPOINT}/datasets/{source.hub}"

    def came_from(*kinds: type[BaseException]) -> bool:
        return any(isinstance(cause, kinds) for cause in _chain(error))

    if came_from(errors.GatedRepoError) or "gated dataset" in str(error):  # `datasets` hides the cause of its own
        return f"access is restricted; accept the conditions on {page}, then 'hf auth login' or set HF_TOKEN"
    if came_from(errors.RepositoryNotFoundError):
        return f"there is no such data set, or it is private; check {page}, or sign in with 'hf auth login'"
    if came_from(errors.RevisionNotFoundError):
        return f"there is no revision {source.revision!r}; its branches and tags are on {page}/tree/main"
    if came_from(errors.OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set, so the hub is not asked; unset it, or name a local path"
    if came_from(errors.EntryNotFoundError, FileNotFoundError):
        return f"a file is not where it was expected ({_one_line(error)}); look at {page}/tree/main"
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what it came from: `datasets` wraps the errors of the hub's own library."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else text[:300] + "..."
