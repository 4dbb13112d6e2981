"""The identity of a corpus: plain JSON that changes if the text of the corpus would change.

Local files are identified by the hash of their bytes and not by their names, so that a moved file
gives the same corpus. A hub data set is identified by the commit of its revision, the miniature by
the hash of its source code, and a remote file by its URL and the version that the store states.

Hashing reads all text once. Hashes are cached until a file changes, and a plan does not wait for
them: `unread_identity_of` stands for the identity of a large text that was not hashed yet.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from lingraft.corpus.config import CorpusSettings
from lingraft.corpus.hub_dataset import commit_of
from lingraft.corpus.language import parse_language
from lingraft.corpus.listing import Listing
from lingraft.corpus.remote_files import RemoteFile, TextFile, forget_listing
from lingraft.corpus.source import Source
from lingraft.corpus.text_files import ending_of
from lingraft.formatting import size
from lingraft.progress import progress
from lingraft.store import cached_sha256, digest, file_digest, has_cached_sha256

VERSION = 2
"""Increase it when the same settings and sources give a different corpus."""

READERS = {".xz": "2", ".bz2": "2"}
"""Numbers of the readers of compressed files, where an earlier one gave another text.

The first ones left out what follows a damaged stream, or NULs between streams.
"""

CHAT_READER = 2
"""Number of the reader of conversations; the first kept the text of a message with an image."""

MAX_FILES = 1000
"""The hashes of more files are one hash in the identity, which is part of the manifest."""
CACHED_FROM = 2**20
"""Size in bytes from which the hash of a file is cached: hashing less takes under a millisecond."""
RECENT_SECONDS = 2
"""A file that changed within this time could change again without another time of change."""
PLANNED_BYTES = 10**9
"""Text of a corpus that is hashed for a plan: 1 GB takes about a second."""


def list_files(settings: CorpusSettings) -> Listing:
    """List the files of a corpus, remote ones too, as they are now; raises `CorpusError`."""
    sources = settings.all_sources
    for source in sources:
        if source.path is not None:
            forget_listing(source.path)
    return Listing.of(sources)


def identity_of(
    settings: CorpusSettings, language: str, listing: Listing | None = None
) -> dict[str, Any]:
    """Return the identity of a corpus of the listed files, by default of those that exist now.

    Raises `CorpusError` for a missing file and `HubError` if the hub cannot be reached.
    """
    listing = listing or list_files(settings)
    settings = settings.resolve(language)
    # The memory bound only decides whether an error is raised, not what the corpus contains.
    apart = {"sources", "heldout", "decontaminate", "max_document_bytes", "allow", "cleaning"}
    identity: dict[str, Any] = settings.model_dump(mode="json", exclude={*apart, "scripts"})
    if settings.scripts:
        identity["scripts"] = list(settings.scripts)
    # Under its name of earlier versions, so that the keys of stored corpora stay.
    cleaning = settings.cleaning
    identity["unicode_normalization"] = cleaning.normalise if cleaning else None
    if cleaning and (others := cleaning.model_dump(exclude={"normalise"}, exclude_defaults=True)):
        identity["cleaning"] = {**others, "strip": sorted(others.get("strip", ()))}
    # The share that is used, so that a default that is written out gives the same key.
    identity["heldout_share"] = settings.share
    identity["sources"] = [_identity(source, listing) for source in settings.sources]
    if settings.limit is not None:
        for source, fields in zip(settings.sources, identity["sources"], strict=True):
            # Up to a limit, a streamed data set gives its first documents, a downloaded one a
            # sample of all. Only the value that is not the default enters, so that keys stay.
            if source.hub is not None and not source.streaming:
                fields["streaming"] = False
    identity["heldout"] = [_identity(source, listing) for source in settings.heldout or ()]
    if settings.decontaminate:  # without it, the keys of stored corpora stay
        identity["decontaminate"] = [_identity(one, listing) for one in settings.decontaminate]
    return {"version": VERSION, "language": parse_language(language), **identity}


def unread_identity_of(listing: Listing) -> dict[str, Any] | None:
    """Return what stands for the identity if too much text is not hashed yet, otherwise `None`.

    No stored corpus has this identity: its text was never read here in its present state.
    """
    unread = 0
    for file, state in listing.states.items():
        if state.size < CACHED_FROM or not has_cached_sha256(file):
            unread += state.size
    if unread <= PLANNED_BYTES:
        return None
    return {"unread": f"{size(unread)} in {len(listing.states):,} files"}


def file_identity(file: TextFile) -> str:
    """Return what changes when the bytes of a file change."""
    if isinstance(file, RemoteFile):
        return f"{file.url} {file.version}"
    if time.time() - file.stat().st_mtime < RECENT_SECONDS:
        return file_digest(file)
    return cached_sha256(file, cached_from=CACHED_FROM)


def _format_of(file: TextFile) -> list[str]:
    """Return what decides how the bytes of a file are read: its ending, and the reader's number."""
    number = READERS.get(file.suffix.lower())
    return [ending_of(file), *([number] if number else [])]


def _identity_of_files(files: Sequence[TextFile]) -> list[list[str]] | dict[str, Any]:
    identities = []
    with progress("hashing text", len(files), unit="files") as advance:
        for file in files:
            identities.append([*_format_of(file), file_identity(file)])
            advance(1)
    if len(identities) <= MAX_FILES:
        return identities
    return {"count": len(identities), "sha256": digest(identities)}


def _identity(source: Source, listing: Listing) -> dict[str, Any]:
    # Content hashes stand for the path, and the commit for the revision.
    identity = source.model_dump(mode="json", exclude={"path", "revision", "streaming"})
    if identity["format"] == "text":  # stores written before `format` existed stay valid
        del identity["format"]
    else:
        identity["reader"] = CHAT_READER
    if source.path is not None:
        identity["files"] = _identity_of_files(listing.files[source.path])
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
