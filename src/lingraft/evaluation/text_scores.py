"""The stored result of scoring a text with a model: counts per document for every measure.

Scores hold neither the name of the model nor that of another one, so they can be cached and used
in any comparison. They are stored as an .npz file without pickled arrays.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from lingraft.errors import StoreError
from lingraft.evaluation.bootstrap import Floats
from lingraft.text_units import TextUnit, count_sentences, unit_of

Integers = npt.NDArray[np.int64]
COUNTS = ("bytes", "characters", "units", "sentences")
"""The counts of a text that do not depend on a tokenizer."""


@dataclass(frozen=True)
class DocumentScores:
    """Nats (negative log-likelihood), bytes and tokens of each document.

    `ids` are the token ids of all documents in one array, and `token_nats` their nats. `context`
    and `stride` describe the windows, in tokens.
    """

    nats: Floats
    bytes: Floats
    tokens: Floats
    context: int
    stride: int
    ids: Integers
    token_nats: Floats
    notes: tuple[str, ...] = ()

    @property
    def bits(self) -> Floats:
        """Bits of each document."""
        return self.nats * (1 / log(2))

    @property
    def bits_per_byte(self) -> float:
        """Bits per byte over all documents."""
        return float(self.bits.sum() / self.bytes.sum())

    def documents(self) -> list[Integers]:
        """Return the ids of each document."""
        return np.split(self.ids, self._borders)

    def document_token_nats(self) -> list[Floats]:
        """Return the nats of each token of each document."""
        return np.split(self.token_nats, self._borders)

    @property
    def _borders(self) -> Integers:
        # `split` takes the positions between documents, so not the end of the last one.
        return np.cumsum(self.tokens[:-1]).astype(np.int64)


@dataclass(frozen=True)
class ScoredIds:
    """The nats of each document, and of each token of all documents in one array; notes on how."""

    nats: Floats
    token_nats: Floats
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class TextScores(DocumentScores):
    """The scores of one model on one text, with the counts of the text.

    `unit` is what `units` counts: words, syllables or characters.
    """

    characters: Floats
    units: Floats
    sentences: Floats
    unit: TextUnit

    @classmethod
    def of(cls, scores: DocumentScores, documents: Sequence[str]) -> TextScores:
        """Add the counts of the documents to their scores."""
        unit = unit_of(documents)
        return cls(**vars(scores) | count_text(documents, unit), unit=unit)

    def count_in_documents(self, ids: frozenset[int]) -> Floats:
        """Return how many tokens of each document are among these ids."""
        # A table indexed by id: each document is one vectorised sum.
        is_chosen = np.zeros(max([*ids, int(self.ids.max(initial=0))]) + 1)
        is_chosen[list(ids)] = 1
        return np.array([is_chosen[part].sum() for part in self.documents()], dtype=np.float64)

    def write(self, path: Path) -> None:
        """Write the scores as an .npz file."""
        # A JSON string in an array of text: an array of objects would be pickled.
        facts = json.dumps(
            {
                "unit": self.unit,
                "context": self.context,
                "stride": self.stride,
                "notes": self.notes,
            }
        )
        np.savez_compressed(
            path,
            ids=self.ids.astype(np.uint32),  # half the size of int64; every vocabulary fits
            # Models give float32, so nothing is lost.
            token_nats=self.token_nats.astype(np.float32),
            tokens=self.tokens,
            nats=self.nats,
            facts=np.array(facts),
            **{name: getattr(self, name) for name in COUNTS},
        )

    @classmethod
    def read(cls, path: Path) -> TextScores:
        """Read a file of `write`; raises `StoreError` if it is damaged."""
        try:
            # numpy leaves a damaged file open.
            with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                facts = json.loads(str(stored["facts"]))
                arrays = {name: stored[name] for name in ("tokens", "nats", *COUNTS)}
                ids = stored["ids"].astype(np.int64)
                token_nats = stored["token_nats"].astype(np.float64)
        # An empty file, one that was cut, and one with other bytes inside.
        except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error) as error:
            msg = f"{path}: not a file of scores ({error}); remove its folder and run again"
            raise StoreError(msg) from error
        facts |= {"unit": TextUnit(facts["unit"]), "notes": tuple(facts["notes"])}
        return cls(ids=ids, token_nats=token_nats, **arrays, **facts)


def count_text(documents: Sequence[str], unit: TextUnit) -> dict[str, Floats]:
    """Return bytes, characters (code points), units and sentences of each document."""
    counts = []
    for text in documents:
        size = len(text.encode())
        counts.append((size, len(text), unit.count_in(text), count_sentences(text)))
    # `reshape` gives the four columns to a text without documents, too.
    columns = np.array(counts, dtype=np.float64).reshape(-1, len(COUNTS)).T
    return dict(zip(COUNTS, columns, strict=True))


def concatenate_ids(ids: Sequence[Sequence[int]]) -> Integers:
    """Return the ids of all documents in one array."""
    parts = [np.array(part, dtype=np.int64) for part in ids]
    # The empty array in front allows a text without documents, and fixes the dtype.
    return np.concatenate([np.zeros(0, dtype=np.int64), *parts])
