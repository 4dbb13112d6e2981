"""Find text in another language than the one it is given as.

GlotLID knows 2,000 languages. It is used if its model file is in the cache of the Hub, or named by
the environment variable `LINGRAFT_GLOTLID`, and `fasttext` can be imported (the extra `glotlid`):
the file has 1.6 GB and is not downloaded here.
Otherwise lingua identifies 75 languages (the extra `language-id`). A language that neither knows
is not checked, nor is one in an unusual script with lingua (`hi-Latn`), which the report says.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import langcodes

from lingraft.corpus.language import is_domain
from lingraft.corpus.script_check import in_usual_script
from lingraft.errors import CorpusError, MissingExtraError, one_line

GLOTLID = ("cis-lmu/glotlid", "model_v3.bin")
"""The repository on the Hub and the file of GlotLID (Kargaran et al. 2023, arXiv 2310.16248)."""
GLOTLID_FILE = "LINGRAFT_GLOTLID"
"""The environment variable with the path of the model file."""
MAX_OWN, MIN_OTHER = 0.01, 0.5
"""Text is in another language if the identifier gives at most `MAX_OWN` of its confidence to the
stated language and at least `MIN_OTHER` to another.

With lingua's small models, on 300 real documents each, this is wrong for 0.3% in English and
Turkish and for none in Arabic, Hindi, Tamil and Thai; with 0.05 for 2% in Hindi (called Marathi).
"""
CHECKED_CHARACTERS = 500


class Identifier(Protocol):
    """Says whether a text is in another language than the stated one."""

    def other_language(self, text: str) -> str:
        """Return the tag of the language, "" if the text may be in the stated one."""


@cache
def find_identifier(language: str) -> tuple[Identifier | None, str]:
    """Return the identifier for a language, or `None` and the reason."""
    if is_domain(language):
        return None, f"the language of {language} cannot be identified: it is a domain"
    glotlid = open_glotlid()
    if glotlid is not None and (own := own_labels(glotlid, language)):
        return GlotLid(glotlid, own), ""
    if find_spec("lingua") is None:
        needed = "pip install 'lingraft[language-id]'"
        return None, f"the language of the documents is not checked: lingua is missing ({needed})"
    expected = lingua_language(language)
    if expected is None:
        unknown = (
            "neither GlotLID nor lingua knows" if glotlid is not None else "lingua does not know"
        )
        return None, f"the language of the documents is not checked: {unknown} {language}"
    return Lingua(_small_lingua(), expected), ""


def lingua_language(language: str) -> Any:
    """Return lingua's language for a tag, `None` if it does not know it.

    It knows each language in its usual script only, and calls romanised Hindi another language.

    >>> lingua_language("hi").name, lingua_language("hi-Latn")
    ('HINDI', None)
    """
    if not in_usual_script(language):
        return None
    return lingua_languages().get(langcodes.standardize_tag(language).split("-")[0])


@cache
def lingua_languages() -> dict[str, Any]:
    """Return the languages of lingua by their codes of two and three letters."""
    import lingua

    known = {}
    for candidate in lingua.Language.all():
        for code in (candidate.iso_code_639_1, candidate.iso_code_639_3):
            known[code.name.lower()] = candidate
    return known


@cache
def _small_lingua() -> Any:
    """Return a detector of all languages; its small models take 130 MB, the large ones 1.2 GB."""
    import lingua

    builder = lingua.LanguageDetectorBuilder.from_all_languages()
    return builder.with_low_accuracy_mode().build()


@cache
def open_glotlid() -> Any:
    """Return the model if it is on this machine, otherwise `None`.

    Raises `CorpusError` for a file that is no model, and `MissingExtraError` if a file is named and
    `fasttext` is missing.
    """
    path = os.environ.get(GLOTLID_FILE)
    if find_spec("fasttext") is None:
        if path:
            raise MissingExtraError("fasttext", extra="glotlid")
        return None
    import fasttext

    path = path or _cached_file()
    if path is None:
        return None
    try:
        _check_size(path)
        return fasttext.load_model(path)
    except (OSError, ValueError, RuntimeError, MemoryError) as error:
        msg = (
            f"{path}: not a model of fastText ({one_line(error)}); download it again: "
            f"hf download {' '.join(GLOTLID)}, and name another place of it with {GLOTLID_FILE}"
        )
        raise CorpusError(msg) from error


def _check_size(path: str) -> None:
    """Raise `ValueError` for a file that is shorter than its matrices.

    Of a file that ends too early, fastText reads zeros, or letters of a word without end.
    """
    with Path(path).open("rb") as file:
        head = file.read(_HEADER.size)
        size = os.fstat(file.fileno()).st_size
    if len(head) < _HEADER.size:
        msg = "it is too short"
        raise ValueError(msg)
    magic, _, dim, *_, bucket, _, _, _, _, _, words, labels, _, _ = _HEADER.unpack(head)
    if magic == _MAGIC and size < 4 * dim * (words + bucket + labels):
        msg = f"it is not complete: {size:,} bytes"
        raise ValueError(msg)


# Magic number and version; 12 settings (the first is the dimension, the ninth the number of
# buckets) and a float; entries, words and labels of the dictionary, and two counts.
_HEADER = struct.Struct("<2i12id3i2q")
_MAGIC = 793712314


def _cached_file() -> str | None:
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(*GLOTLID)
    return path if isinstance(path, str) else None


def own_labels(model: Any, language: str) -> frozenset[str]:
    """Return the labels of a language and of its varieties: `ar` is arb_Arab, ary_Arab and so on.

    The script is not compared: `script_check` does that.
    """
    expected = _macrolanguage(language)
    labels, _ = model.predict("a", k=10_000)  # the model names all its labels only as predictions
    return frozenset(label for label in labels if _macrolanguage(_tag_of(label)) == expected)


def _tag_of(label: str) -> str:
    return label.removeprefix("__label__").split("_")[0]


def _macrolanguage(tag: str) -> str:
    return str(langcodes.standardize_tag(tag, macro=True)).split("-")[0]


@dataclass(frozen=True)
class GlotLid:
    """GlotLID, with its labels of the stated language."""

    model: Any
    own: frozenset[str]

    def other_language(self, text: str) -> str:
        """Return the label of the language, such as spa_Latn."""
        line = text[:CHECKED_CHARACTERS].replace("\n", " ")
        labels, shares = self.model.predict(line, k=10)
        own = sum(share for label, share in zip(labels, shares, strict=True) if label in self.own)
        if not labels or own > MAX_OWN or shares[0] < MIN_OTHER:
            return ""
        return str(labels[0]).removeprefix("__label__")


@dataclass(frozen=True)
class Lingua:
    """Lingua, with its name of the stated language."""

    detector: Any
    language: Any

    def other_language(self, text: str) -> str:
        """Return the tag of the language."""
        shares = self.detector.compute_language_confidence_values(text[:CHECKED_CHARACTERS])
        best = shares[0]
        if best.language == self.language or best.value < MIN_OTHER:
            return ""
        own = next(share.value for share in shares if share.language == self.language)
        return "" if own > MAX_OWN else str(best.language.iso_code_639_1.name.lower())
