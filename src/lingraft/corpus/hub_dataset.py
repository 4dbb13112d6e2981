"""Read the documents of a data set on the hub with the library `datasets`.

A branch or tag is resolved to its commit first, so that all records come from one version, and the
commit is the identity of the source.
"""

from __future__ import annotations

import gc
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from lingraft.corpus.config import Source
from lingraft.corpus.text_fields import record_document
from lingraft.errors import HubError
from lingraft.hub_client import (
    COMMIT,
    causes_of,
    hub_errors,
    one_line,
    refusal,
    well_formed_response,
)


def commit_of(source: Source) -> str:
    """Return the commit of a source's revision; a full commit needs no network.

    Raises `HubError`.
    """
    if source.revision and COMMIT.fullmatch(source.revision):
        return source.revision
    from huggingface_hub import HfApi

    with (
        hub_errors(source.label, lambda error: _explanation(error, source, documents=0)),
        well_formed_response(source.label),
    ):
        return str(HfApi().dataset_info(str(source.hub), revision=source.revision).sha)


def read_hub(source: Source) -> Iterator[str]:
    """Yield the documents of a split in the order of the data set.

    Raises `HubError`, and `CorpusError` for an unknown field.
    """
    import datasets

    read = 0
    try:
        with hub_errors(source.label, lambda error: _explanation(error, source, documents=read)):
            for record in _records(source):
                read += 1
                yield record_document(record, source, f"{source.label}:row {read}")
    except (ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        # An unknown split or configuration (`datasets` lists the known ones), or unreadable files.
        causes = dict.fromkeys(one_line(cause) for cause in causes_of(error))
        msg = f"{source.label}: the data set cannot be read: {'; '.join(causes)}"
        raise HubError(msg) from None


def _records(source: Source) -> Iterator[dict[str, Any]]:
    import datasets

    # For a folder OWNER/NAME in the working directory, `datasets` would read the folder and not
    # the data set on the hub.
    exists = Path(str(source.hub)).exists()
    name = f"hf://datasets/{source.hub}" if exists else source.hub
    records = datasets.load_dataset(
        name,
        name=source.config,
        split=source.split,
        revision=commit_of(source),
        streaming=source.streaming,
    )
    if not isinstance(records, (datasets.Dataset, datasets.IterableDataset)):
        msg = f"{source.label}: {source.split!r} is not a single split; choose one of its splits"
        raise HubError(msg)
    columns = records.column_names or []
    column = source.text_field if source.text_field in columns else source.text_field.split(".")[0]
    if column in columns and source.format == "text":
        # A parquet reader then downloads only this column.
        records = records.select_columns([column])
    iterator = iter(records)
    try:
        yield from iterator
    finally:
        # A parquet reader that is not read to its end may abort the interpreter at exit
        # (arrow issue 45214), so the reader is closed and collected here.
        if isinstance(iterator, Generator):
            iterator.close()
        del records, iterator
        gc.collect()


def _explanation(error: Exception, source: Source, *, documents: int) -> str:
    from huggingface_hub import constants

    return refusal(error, str(source.hub), "dataset", source.revision) or (
        f"the connection to {constants.ENDPOINT} failed after {documents} documents "
        f"({type(error).__name__}: {one_line(error)}); run again, or download the data set and "
        "name its path"
    )
