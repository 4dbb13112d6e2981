"""What a folder or a pattern holds: its files, their sizes, and the kinds of text in them.

A folder often holds the files of a data set: training and test text, or several languages. Read as
one text, they would put the test into the training text, or two languages into one vocabulary. So
each file gets a kind, from its name and the script of its first text, and a folder or pattern of
several kinds is an error that names a pattern for each.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path, PurePosixPath

import langcodes

from lingraft.corpus.file_patterns import has_wildcards, literal_folder
from lingraft.corpus.language import AMBIGUOUS_TAGS
from lingraft.corpus.remote_files import RemoteFile, TextFile, is_url, size_of
from lingraft.corpus.script_check import main_script
from lingraft.corpus.text_files import find_files
from lingraft.errors import CorpusError
from lingraft.formatting import counted, size
from lingraft.store import expanded

HELDOUT_WORDS = frozenset(
    {"test", "tests", "dev", "devtest", "valid", "validation", "val", "heldout", "eval"}
)
"""Words in the names of files with held-out text."""
MIN_LETTERS = 20
"""With fewer letters, nothing is said about the script of a text."""
NAMED_FILES = 3
NAMED_KINDS = 4


@dataclass(frozen=True)
class FileKind:
    """What a file holds: its language or script, "" if neither is known, and if it is held out."""

    language: str
    heldout: bool


@dataclass(frozen=True)
class FileMix:
    """The files of a folder or pattern, each with its kind and its size in bytes."""

    pattern: str
    kinds: Mapping[TextFile, FileKind]
    sizes: Mapping[TextFile, int]

    @classmethod
    def of(cls, pattern: str, heads: Mapping[TextFile, str]) -> FileMix:
        """Return the files of a folder or pattern, given the first text of each file."""
        names = {path: _relative(path, pattern) for path in heads}
        languages = _languages_by_name(names)
        kinds = {}
        for path, text in heads.items():
            language = languages.get(path) or main_script(text, MIN_LETTERS)
            kinds[path] = FileKind(language, bool(HELDOUT_WORDS & set(_words(names[path]))))
        return cls(pattern, kinds, {path: size_of(path) for path in heads})

    def check(self, language: str) -> None:
        """Raise `CorpusError` if the files are of several kinds.

        The first pattern in the message is the one for training text in `language`.
        """
        groups = self._groups(language)
        if len(groups) < 2:
            return
        what, listing = [], []
        if len({kind.heldout for kind in self.kinds.values()}) > 1:
            what.append("training and held-out text")
        if len({kind.language for kind in self.kinds.values()} - {""}) > 1:
            what.append("several languages or scripts")
        for label, files in list(groups.items())[:NAMED_KINDS]:
            listing.append(f"{label}: {self._describe(files)}")
        if len(groups) > NAMED_KINDS:
            listing.append(f"{len(groups) - NAMED_KINDS} more kinds")
        first, second = list(groups.values())[:2]
        msg = (
            f"{self.pattern}: mixes {' and '.join(what)} ({'; '.join(listing)}); give a pattern "
            f"for one kind: {self._pattern_for(first)} or {self._pattern_for(second)}"
        )
        raise CorpusError(msg)

    def describe(self) -> str:
        """Return one line: number of files, their size, where from, a few names, and the kind."""
        files = list(self.kinds)
        languages = {kind.language for kind in self.kinds.values()} - {""}
        kind = f", {', '.join(languages)}" if languages else ""
        return f"{self._describe(files, f' from {self.pattern}')}{kind}"

    def _describe(self, files: Sequence[TextFile], where: str = "") -> str:
        total = sum(self.sizes[path] for path in files)
        names = [_relative(path, self.pattern) for path in files[:NAMED_FILES]]
        more = ", ..." if len(files) > NAMED_FILES else ""
        count = counted(len(files), "file")
        return f"{count}, {size(total)}{where} ({', '.join(names)}{more})"

    def _groups(self, language: str) -> dict[str, list[TextFile]]:
        """Return the files by kind; training text in the language comes first."""
        mixes_heldout = len({kind.heldout for kind in self.kinds.values()}) > 1
        languages = {kind.language for kind in self.kinds.values()} - {""}

        def order(item: tuple[TextFile, FileKind]) -> tuple[bool, bool, bool]:
            _, kind = item
            is_primary = kind.language.partition("-")[0] == language.partition("-")[0]
            return kind.heldout, kind.language != language, not is_primary

        groups: dict[str, list[TextFile]] = {}
        for path, kind in sorted(self.kinds.items(), key=order):
            parts = [kind.language or "other"] if len(languages) > 1 else []
            if mixes_heldout:
                parts.append("held-out" if kind.heldout else "training")
            groups.setdefault(" ".join(parts), []).append(path)
        return groups

    def _pattern_for(self, files: Sequence[TextFile]) -> str:
        """Return a pattern, quoted for a shell, that matches exactly these files."""
        base = _literal_folder(self.pattern)
        names = [_relative(path, self.pattern) for path in files]
        for candidate in _candidates(names):
            pattern = str(base / candidate) if isinstance(base, Path) else f"{base}/{candidate}"
            try:
                if set(find_files(pattern)) == set(files):
                    return shlex.quote(pattern)
            except CorpusError:
                continue
        return shlex.quote(str(files[0]))


def _candidates(names: Sequence[str]) -> Iterator[str]:
    """Yield patterns that may match these names and no others; the more readable ones first."""
    if len(names) == 1:
        yield names[0]
    same_letters = takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    prefix = "".join(letters[0] for letters in same_letters)
    if "/" in prefix:
        yield prefix.rpartition("/")[0]
    common = set.intersection(*(set(_words(name)) for name in names))
    endings = {"".join(PurePosixPath(name).suffixes[-2:]) for name in names}
    for tail in ("*", *(f"*{ending}" for ending in endings if len(endings) == 1)):
        if prefix:
            yield prefix + tail
        # Words that say what the file holds come before others.
        for word in sorted(common, key=lambda word: (word not in HELDOUT_WORDS, word)):
            yield f"*{word}{tail}"
            yield f"**/*{word}{tail}"
            yield f"**/{word}/{tail}"


def _languages_by_name(names: Mapping[TextFile, str]) -> dict[TextFile, str]:
    """Return the language that the name of each file begins with, or that its folder has as name.

    Only if every name has one: other words look like tags as well. And not if all of them are
    words like `my` and `no`, unless the names differ in nothing else: en_news.txt and it_news.txt
    make de_news.txt German, but no_ads.txt next to my_blog.txt is not Norwegian.
    """
    found = {}
    rests = set()
    is_certain = False
    for path, name in names.items():
        *folders, file = name.split("/")
        stem = file.partition(".")[0]  # hi.jsonl and hi-Latn.jsonl
        first_words = (re.split(letters, stem)[0] for letters in ("-", "[_-]"))
        first = next(filter(_tag, first_words), "")  # hi-news.jsonl and hi_news.jsonl
        certain = list(filter(_tag, (*folders, "" if first in AMBIGUOUS_TAGS else first, stem)))
        word = certain[-1] if certain else first
        if not word:
            return {}
        is_certain |= bool(certain)
        rests.add(name.replace(first, "", 1) if first else name)
        found[path] = str(_tag(word))
    return found if is_certain or (len(rests) == 1 and len(found) > 1) else {}


def _tag(word: str) -> str | None:
    """Return the tag of a language: two letters (hi), or three with a script (hin_Deva)."""
    if re.fullmatch(r"[a-z]{2}|[a-z]{2,3}[-_][A-Z][a-z]{3}", word) and langcodes.tag_is_valid(word):
        return str(langcodes.standardize_tag(word))
    return None


def _words(name: str) -> list[str]:
    """Return the words of a path, in lower case.

    >>> _words("Held-out/hi_test01.jsonl")
    ['heldout', 'hi', 'test', 'jsonl']
    """
    joined = re.sub(r"held[-_ ]out", "heldout", name.lower())
    return [word for word in re.split(r"[^a-z]+", joined) if word]


def _literal_folder(pattern: str) -> Path | str:
    """Return the part of a pattern before its wildcards."""
    if is_url(pattern):
        return "/".join(takewhile(lambda part: not has_wildcards(part), pattern.split("/")))
    return literal_folder(expanded(pattern))


def _relative(path: TextFile, pattern: str) -> str:
    base = _literal_folder(pattern)
    if isinstance(path, RemoteFile):
        return path.url.removeprefix(str(base)).lstrip("/")
    return path.relative_to(base).as_posix() if path.is_relative_to(base) else path.name
