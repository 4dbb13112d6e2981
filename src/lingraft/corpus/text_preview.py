"""The health of the beginning of a text, before a run reads all of it.

Of local text, the beginnings of files at equal distances are read. Of text on the Hub or at a URL,
only the first documents are read, and only where the caller asks for it: that downloads the first
part of a file.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from functools import cache

from lingraft.corpus.cleaning import Cleaner
from lingraft.corpus.config import CorpusSettings
from lingraft.corpus.first_look import FileVersion, file_versions, spread_files
from lingraft.corpus.health import HealthReport, TextHealth
from lingraft.corpus.readers import read_documents, read_file, read_source
from lingraft.corpus.remote_files import is_url
from lingraft.corpus.source import Source
from lingraft.corpus.splits import HASH_RANGE, DocumentHashes
from lingraft.corpus.text_files import find_files
from lingraft.corpus.warc import MalformedRecord
from lingraft.errors import HubError

SAMPLE_CHARACTERS = 4_000_000
"""Characters of local text that are read: 0.3 s of reading and counting."""
REMOTE_CHARACTERS, REMOTE_DOCUMENTS = 1_000_000, 1000
"""How much is read of each source on the Hub or at a URL; a parquet file is read by row groups."""
COUNTED_HELDOUT = 100
"""Documents of held-out sources that are counted; nobody asks about more."""


@dataclass(frozen=True)
class RemoteSample:
    """How many documents of a source on the Hub or at a URL were read, or why none could be.

    `dropped` of them do not meet the condition of the source.
    """

    source: str
    documents: int
    error: str = ""
    dropped: int = 0


@dataclass(frozen=True)
class TextPreview:
    """What was found in the beginning of a text.

    `heldout` is the number of documents that would be held out, `None` if not all text was read.
    """

    health: HealthReport
    heldout: int | None
    remote: tuple[RemoteSample, ...] = ()


def preview_text(
    settings: CorpusSettings, language: str, *, identify: bool = True, remote: bool = False
) -> TextPreview | None:
    """Return what the beginning of a text contains; `None` if none of it may be read.

    The repairs of `cleaning` are applied first. `identify` is whether the language is identified,
    and `remote` whether text on the Hub and at URLs is read. Raises `CorpusError` for text that
    cannot be read. A Hub that cannot be reached is no error, because the cache may have the text.
    """
    if not remote and not all(map(_is_local, settings.sources)):
        local = tuple(filter(_is_local, settings.sources))
        found = preview_text(
            settings.model_copy(update={"sources": local}), language, identify=identify
        )
        return found and replace(found, heldout=None)
    if not any(source.miniature is None for source in settings.sources):
        return None
    if not all(map(_is_local, (*settings.sources, *(settings.heldout or ())))):
        return _Preview(settings, language, identify=identify).read()
    states = []
    for source in (*settings.sources, *(settings.heldout or ())):
        if source.path is not None:
            states += file_versions(find_files(source.path))
    return _local_preview(settings.model_dump_json(), tuple(states), language, identify=identify)


def _is_local(source: Source) -> bool:
    return source.miniature is not None or bool(source.path and not is_url(source.path))


@cache
def _local_preview(
    settings_json: str, states: tuple[FileVersion, ...], language: str, *, identify: bool
) -> TextPreview:
    """Return the preview of files in a state; the same files in the same state are read once."""
    del states  # only in the key of the cache
    settings = CorpusSettings.model_validate_json(settings_json)
    return _Preview(settings, language, identify=identify).read()


class _Preview:
    """Reads the beginnings of the sources of a text."""

    def __init__(self, settings: CorpusSettings, language: str, *, identify: bool) -> None:
        self.settings, self.language = settings, language
        self.health = TextHealth(language, identify=identify, scripts=settings.scripts)
        self._repairs = settings.repairs(language)
        self._cleaner = Cleaner(settings, in_language=None)
        self._threshold = int((settings.share or 0) * HASH_RANGE)
        self._held_out = 0
        self._is_whole = True

    def read(self) -> TextPreview:
        """Read the sources and return what was found."""
        remote = []
        for source in self.settings.sources:
            if source.miniature is not None:
                self._is_whole = False  # generated stories are not looked at
            elif _is_local(source):
                self._read_local(source)
            else:
                self._is_whole = False
                remote.append(self._read_remote(source))
        return TextPreview(self.health.report(), self._heldout(), tuple(remote))

    def _read_local(self, source: Source) -> None:
        files = find_files(str(source.path))
        chosen = spread_files(files)
        self._is_whole &= len(chosen) == len(files)
        share = SAMPLE_CHARACTERS // (len(chosen) * len(self.settings.sources))
        documents = size = 0
        for path in chosen:
            characters = 0
            for text, passes, _ in read_file(path, source):
                if passes:
                    documents, size = documents + 1, size + len(text.encode())
                    if source.limit is not None and not source.limit.allows(documents, size):
                        return
                    self._add(text)
                # Of dropped documents, too: a condition that few meet would read whole files.
                characters += len(text)
                if characters >= share:
                    self._is_whole = False
                    break

    def _read_remote(self, source: Source) -> RemoteSample:
        """Read the first documents, as a stream also where the run downloads the data set."""
        documents = characters = dropped = 0
        try:
            streamed = source.resolve(self.language)
            if streamed.hub is not None:
                streamed = streamed.model_copy(update={"streaming": True})
            with closing(read_documents(streamed, self.language)) as stream:
                for text, passes, _ in stream:
                    if passes:
                        self._add(text)
                    dropped += not passes
                    documents, characters = documents + 1, characters + len(text)
                    if documents >= REMOTE_DOCUMENTS or characters >= REMOTE_CHARACTERS:
                        break
        except HubError as error:
            return RemoteSample(source.label, documents, str(error))
        return RemoteSample(source.label, documents, dropped=dropped)

    def _add(self, text: str) -> None:
        if isinstance(text, MalformedRecord) or not text.strip():
            return
        text = self._repairs.repair(text)
        self.health.add_once(text)
        reason, digest = self._cleaner.filter(text)
        if reason is None:
            held_out = DocumentHashes.of(digest, self.settings.seed).split < self._threshold
            self._held_out += held_out

    def _heldout(self) -> int | None:
        """Return the number of documents that would be held out, if it is known."""
        sources = self.settings.heldout
        if not sources:
            return max(self._held_out, 1) if self._is_whole else None
        if not all(map(_is_local, sources)):
            return None
        documents = 0
        for source in sources:
            with closing(read_source(source, self.language)) as texts:
                for text in texts:
                    documents += bool(text.strip())
                    if documents >= COUNTED_HELDOUT:
                        return documents
        return documents
