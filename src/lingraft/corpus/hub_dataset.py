"""Documents of a data set on the hub, read by `datasets`."""

from __future__ import annotations

import gc
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from lingraft.corpus.config import Source
from lingraft.corpus.records import document_of
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
    """Return the commit of a source's revision.

    Raises `HubError`. A full commit needs no network.
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
    """Yield the texts of a split in its own order.

    Raises `HubError`, and `CorpusError` for an unknown field.
    """
    import datasets

    read = 0
    try:
        with hub_errors(source.label, lambda error: _explanation(error, source, documents=read)):
            for record in _records(source):
                read += 1
                yield document_of(record, source, f"{source.label}:row {read}")
    except (ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        # An unknown split or configuration (the message lists the known ones), or unreadable files.
        causes = dict.fromkeys(one_line(cause) for cause in causes_of(error))
        msg = f"{source.label}: the data set cannot be read: {'; '.join(causes)}"
        raise HubError(msg) from None


def _records(source: Source) -> Iterator[dict[str, Any]]:
    import datasets

    # A folder of the same name in the working directory would be read in place of the hub.
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
    if column in columns and source.format == "text":  # the others are not fetched
        records = records.select_columns([column])
    iterator = iter(records)
    try:
        yield from iterator
    finally:
        # A parquet reader left half-way may abort the interpreter at exit (arrow issue 45214).
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
