"""The identity of a corpus: plain JSON that changes if the text of the corpus would change.

Local files are identified by the hash of their bytes and not by their names, so that a moved file
gives the same corpus. A hub data set is identified by the commit of its revision, the miniature by
the hash of its source code, and a remote file by its URL and the version that the store states.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from lingraft.corpus.config import CorpusSettings, Source
from lingraft.corpus.hub_dataset import commit_of
from lingraft.corpus.language import parse_language
from lingraft.corpus.remote_files import RemoteFile, TextFile, forget_listing
from lingraft.corpus.text_files import ending_of, find_files
from lingraft.store import digest, file_digest

VERSION = 1
"""Increase it when the same settings and sources give a different corpus."""


def identity_of(settings: CorpusSettings, language: str) -> dict[str, Any]:
    """Return the identity.

    Raises `CorpusError` for a missing file and `HubError` if the hub cannot be reached.
    """
    settings = settings.resolve(language)
    # The memory bound only decides whether an error is raised, not what the corpus contains.
    identity: dict[str, Any] = settings.model_dump(
        mode="json", exclude={"sources", "heldout", "max_document_bytes", "allow", "cleaning"}
    )
    # Under its name of earlier versions, so that the keys of stored corpora stay.
    cleaning = settings.cleaning
    identity["unicode_normalization"] = cleaning.normalise if cleaning else None
    if cleaning and (others := cleaning.model_dump(exclude={"normalise"}, exclude_defaults=True)):
        identity["cleaning"] = {**others, "strip": sorted(others.get("strip", ()))}
    # The share that is used, so that a default that is written out gives the same key.
    identity["heldout_share"] = settings.share
    identity["sources"] = [_identity(source) for source in settings.sources]
    if settings.limit is not None:
        for source, fields in zip(settings.sources, identity["sources"], strict=True):
            # Up to a limit, a streamed data set gives its first documents, a downloaded one a
            # sample of all. Only the value that is not the default enters, so that keys stay.
            if source.hub is not None and not source.streaming:
                fields["streaming"] = False
    identity["heldout"] = [_identity(source) for source in settings.heldout or ()]
    return {"version": VERSION, "language": parse_language(language), **identity}


def file_identity(file: TextFile) -> str:
    """Return what changes when the bytes of a file change."""
    if isinstance(file, RemoteFile):
        return f"{file.url} {file.version}"
    return file_digest(file)


def _identity(source: Source) -> dict[str, Any]:
    # Content hashes stand for the path, and the commit for the revision.
    identity = source.model_dump(mode="json", exclude={"path", "revision", "streaming"})
    if identity["format"] == "text":  # stores written before `format` existed stay valid
        del identity["format"]
    if source.path is not None:
        forget_listing(source.path)
        files = find_files(source.path)
        identity["files"] = [[ending_of(path), file_identity(path)] for path in files]
    elif source.hub is not None:
        identity["revision"] = commit_of(source)
    else:
        identity["world"] = _miniature_digest()
    return identity


@cache
def _miniature_digest() -> str:
    """Return the hash of the files from which the miniature is generated."""
    folder = Path(__file__).parents[1] / "miniature"
    digests = {}
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix != ".pyc":
            digests[path.relative_to(folder).as_posix()] = file_digest(path)
    return digest(digests)
