"""Read the documents of a data set on the hub with the library `datasets`.

A branch or tag is resolved to its commit first, so that all records come from one version, and the
commit is the identity of the source. The same request returns the data set's card: a configuration
that the card does not list is an error before anything is read.
"""

from __future__ import annotations

import gc
from collections.abc import Generator, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from lingraft.corpus.columnar_files import columns_of
from lingraft.corpus.presets import describe_names, preset_of
from lingraft.corpus.source import Source
from lingraft.corpus.text_fields import Document, read_document
from lingraft.errors import HubError, one_line
from lingraft.hub_client import (
    COMMIT,
    causes_of,
    hub_errors,
    refusal,
    well_formed_response,
)


def commit_of(source: Source) -> str:
    """Return the commit of a source's revision; a full commit needs no network.

    Within a process, a branch is resolved once: a key and the text that is read for it are of one
    commit, also if the branch moves in between. Raises `HubError`.
    """
    if source.revision and COMMIT.fullmatch(source.revision):
        return source.revision
    with (
        hub_errors(source.label, lambda error: _explanation(error, source, documents=0)),
        well_formed_response(source.label),
    ):
        commit, configurations = _resolve(str(source.hub), source.revision)
    _check_configuration(source, configurations)
    return commit


@cache
def _resolve(repository: str, revision: str | None) -> tuple[str, tuple[str, ...]]:
    """Return the commit of a revision, and the configurations that the card lists."""
    from huggingface_hub import HfApi

    info = HfApi().dataset_info(repository, revision=revision)
    card: Any = info.card_data or {}
    return str(info.sha), _listed(card.get("configs"))


def _listed(entries: Any) -> tuple[str, ...]:
    """Return the configurations in the metadata of a card, none if it is of an unknown form.

    >>> _listed([{"config_name": "hi", "data_files": "hi/*"}, {"config_name": "ta"}])
    ('hi', 'ta')
    >>> _listed(None), _listed(["hi"]), _listed([{"config_name": False}])  # an unquoted `no`
    ((), (), ())
    """
    names: list[str] = []
    for entry in entries or ():
        name = entry.get("config_name") if isinstance(entry, Mapping) else None
        if not isinstance(name, str):
            return ()
        names.append(name)
    return tuple(names)


def _check_configuration(source: Source, known: Sequence[str]) -> None:
    """Raise `HubError` if a data set has configurations, but not that of the source."""
    if source.config and known and source.config not in known:
        page = preset_of(source.hub)
        named = f" (preset {page.name})" if page else ""
        msg = (
            f"hf:{source.hub}{named}: there is no configuration {source.config!r}; "
            f"{describe_names(source.config, known)}; name another data set, or give local text "
            "(--text FILE)"
        )
        raise HubError(msg)


def read_hub(source: Source) -> Iterator[Document]:
    """Yield the documents of a split in the order of the data set.

    Raises `HubError`, and `CorpusError` for an unknown field.
    """
    import datasets

    read = 0
    try:
        with hub_errors(source.label, lambda error: _explanation(error, source, documents=read)):
            for record in _records(source):
                read += 1
                yield read_document(record, source, f"{source.label}:row {read}")
    except (ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        # An unknown configuration or split (`datasets` lists the known ones), or unreadable files.
        _check_configuration(source, _configurations(source))
        causes = dict.fromkeys(one_line(cause) for cause in causes_of(error))
        msg = f"{source.label}: the data set cannot be read: {'; '.join(causes)}"
        raise HubError(msg) from None


def _configurations(source: Source) -> list[str]:
    """Return the configurations that `datasets` finds, none if it finds none."""
    import datasets

    if source.config is None:
        return []
    try:
        names = datasets.get_dataset_config_names(source.hub, revision=commit_of(source))
    except (ValueError, RuntimeError, OSError, datasets.exceptions.DatasetsError):
        return []  # the error of reading the data set is reported
    return [str(name) for name in names]


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
    names = records.column_names or ()
    columns = columns_of(names, source.fields_among(names))
    if columns:
        # A parquet reader then downloads only these columns, and no image is decoded.
        records = records.select_columns(columns)
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
        f"({type(error).__name__}: {one_line(error)}); run again, or give local text "
        "(--text FILE)"
    )
