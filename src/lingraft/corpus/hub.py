"""Documents of a hub data set, read by `datasets`, with errors that say what to do about them."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lingraft.corpus.readers import text_of
from lingraft.corpus.settings import Source
from lingraft.errors import HubError


def commit_of(source: Source) -> str:
    """Return the commit that a source's revision stands for; raises `HubError`. A whole commit needs no network."""
    if source.revision and re.fullmatch(r"[0-9a-f]{40}", source.revision):
        return source.revision
    from huggingface_hub import HfApi

    with _explained(source, [0]):
        return str(HfApi().dataset_info(str(source.hub), revision=source.revision).sha)


def read_hub(source: Source) -> Iterator[str]:
    """Yield the texts of a split in its own order; raises `HubError`, and `CorpusError` for an unknown field."""
    read = [0]
    with _explained(source, read):
        for row in _rows(source):
            read[0] += 1
            yield text_of(row, source.text, f"{source.label}, row {read[0]}")


def _rows(source: Source) -> Iterator[dict[str, Any]]:
    commit = commit_of(source)
    import datasets

    try:
        rows = datasets.load_dataset(source.hub, name=source.config, split=source.split, revision=commit,
                                     streaming=source.streaming)
    except ValueError as error:  # an unknown split or configuration; the message lists the known ones
        msg = f"{source.label}: {_one_line(error)}"
        raise HubError(msg) from None
    if not isinstance(rows, (datasets.Dataset, datasets.IterableDataset)):
        msg = f"{source.label}: split {source.split!r} is no single split; name one of its splits"
        raise HubError(msg)
    column = source.text.split(".")[0]
    if rows.column_names and source.text not in rows.column_names and column in rows.column_names:
        rows = rows.select_columns([column])
    elif rows.column_names and source.text in rows.column_names:
        rows = rows.select_columns([source.text])
    yield from rows


@contextmanager
def _explained(source: Source, read: list[int]) -> Iterator[None]:
    """Turn what the hub's libraries raise into a `HubError` that names the data set and what to do."""
    from huggingface_hub import constants, errors

    client_error = errors.HfHubHTTPError.__mro__[1]  # of whichever HTTP client the hub's library has today
    page = f"{constants.ENDPOINT}/datasets/{source.hub}"
    try:
        yield
    except errors.GatedRepoError:
        msg = (f"{source.label}: access is restricted; accept the conditions on {page}, then sign in with "
               f"'hf auth login' or set HF_TOKEN")
        raise HubError(msg) from None
    except errors.RepositoryNotFoundError:
        msg = f"{source.label}: there is no such data set, or it is private; check {page}, or sign in (hf auth login)"
        raise HubError(msg) from None
    except errors.RevisionNotFoundError:
        msg = f"{source.label}: there is no revision {source.revision!r}; its branches and tags are on {page}/tree/main"
        raise HubError(msg) from None
    except errors.OfflineModeIsEnabled:
        msg = f"{source.label}: HF_HUB_OFFLINE is set, so the hub is not asked; unset it, or name a local path"
        raise HubError(msg) from None
    except (errors.EntryNotFoundError, FileNotFoundError) as error:
        msg = f"{source.label}: a file that was expected is not there ({_one_line(error)}); look at {page}/tree/main"
        raise HubError(msg) from None
    except (client_error, OSError) as error:
        if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT}:
            raise  # our own disk, not the hub
        msg = (f"{source.label}: the connection to {constants.ENDPOINT} failed after {read[0]} documents "
               f"({type(error).__name__}: {_one_line(error)}); run again, or download the data set and name its path")
        raise HubError(msg) from None


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else text[:300] + "..."
