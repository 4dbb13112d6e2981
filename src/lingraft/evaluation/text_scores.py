"""What scoring a text with a model leaves behind: counts, document by document, from which every measure is made.

Scores know neither the name of the model nor what it is compared with, so that they can be kept and serve any
comparison. A file of them is plain arrays, never pickled. Suffixes: N documents, T tokens of all of them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lingraft.errors import StoreError
from lingraft.evaluation.bootstrap import Floats
from lingraft.evaluation.words import is_unspaced, sentences_in, words_in

Integers = npt.NDArray[np.int64]
COUNTS = ("bytes", "characters", "words", "sentences")


@dataclass(frozen=True)
class TextScores:
    """One model on one text: the `ids` of all documents, and for each its tokens, nats and the counts of its text.

    `unspaced` says that the script is written without spaces; `context` and `stride` how the text was read.
    """

    ids: Integers
    tokens: Floats
    nats: Floats
    bytes: Floats
    characters: Floats
    words: Floats
    sentences: Floats
    unspaced: bool
    context: int
    stride: int
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
        return np.split(self.ids, np.cumsum(self.tokens[:-1]).astype(np.int64))

    def in_documents(self, ids: frozenset[int]) -> Floats:
        """Return how many tokens of each document are among these ids."""
        chosen = np.zeros(max([*ids, int(self.ids.max(initial=0))]) + 1)
        chosen[list(ids)] = 1
        return np.array([chosen[part].sum() for part in self.documents()], dtype=np.float64)

    def write(self, path: Path) -> None:
        """Write it as an .npz file."""
        facts = json.dumps(
            {
                "unspaced": self.unspaced,
                "context": self.context,
                "stride": self.stride,
                "notes": self.notes,
            }
        )
        np.savez_compressed(
            path,
            ids=self.ids.astype(np.uint32),
            tokens=self.tokens,
            nats=self.nats,
            facts=np.array(facts),
            **{name: getattr(self, name) for name in COUNTS},
        )

    @classmethod
    def read(cls, path: Path) -> TextScores:
        """Read what `write` wrote; raises `StoreError` where it is none."""
        try:
            with np.load(path, allow_pickle=False) as stored:
                facts = json.loads(str(stored["facts"]))
                arrays = {name: stored[name] for name in ("tokens", "nats", *COUNTS)}
                ids = stored["ids"].astype(np.int64)
        except (OSError, ValueError, KeyError) as error:
            msg = f"{path}: no scores ({error}); remove its folder and run again"
            raise StoreError(msg) from error
        return cls(ids, **arrays, **{**facts, "notes": tuple(facts["notes"])})


def counts_of(documents: Sequence[str]) -> dict[str, Floats]:
    """Return bytes, characters (code points), words and sentences of each document."""
    rows = [
        (len(text.encode()), len(text), words_in(text), sentences_in(text)) for text in documents
    ]
    columns = np.array(rows, dtype=np.float64).reshape(-1, len(COUNTS)).T
    return dict(zip(COUNTS, columns, strict=True))


def joined_ids(ids: Sequence[Sequence[int]]) -> Integers:
    """Return the ids of all documents one after another."""
    return np.concatenate(
        [np.zeros(0, dtype=np.int64), *(np.array(part, dtype=np.int64) for part in ids)]
    )


def scores_of(
    documents: Sequence[str],
    ids: Sequence[Sequence[int]],
    nats: Floats,
    *,
    context: int,
    stride: int,
    notes: tuple[str, ...] = (),
) -> TextScores:
    """Put counts of the text and of its tokens beside the nats."""
    return TextScores(
        joined_ids(ids),
        np.array([len(part) for part in ids], dtype=np.float64),
        nats,
        **counts_of(documents),
        unspaced=is_unspaced(documents),
        context=context,
        stride=stride,
        notes=notes,
    )
