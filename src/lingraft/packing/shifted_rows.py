"""Sequences as rows of token ids for models that shift labels by one, as those of transformers do.

A row has one id more than a sequence predicts: its first id is context only. Rows are concatenated:
row i is `ids[offsets[i]:offsets[i + 1]]`. Labels stand at the place of the id that they name.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from lingraft.packing.mixture import IGNORED, document_positions
from lingraft.packing.shards import Integers


def row_labels(ids: NDArray[np.uint32], offsets: Integers, bos: int | None) -> Integers:
    """Return the label of each id; IGNORED at BOS and at the first id of a row.

    >>> row_labels(np.array([7, 1, 5, 5, 6], np.uint32), np.array([0, 3, 5]), bos=1).tolist()
    [-100, -100, 5, -100, 6]
    """
    labels = ids.astype(np.int64)
    if bos is not None:
        # A user of the model always gives BOS, so the model need not predict it.
        labels[labels == bos] = IGNORED
    # No label predicts the first id of a row.
    labels[offsets[:-1]] = IGNORED
    return labels


def row_positions(ids: NDArray[np.uint32], offsets: Integers, document_start: int) -> Integers:
    """Return the position of each id in its document, or in its row if that starts later."""
    positions = np.empty(len(ids), dtype=np.int64)
    for begin, end in itertools.pairwise(offsets):
        row = ids[None, begin:end].astype(np.int64)
        positions[begin:end] = document_positions(row, document_start)[0]
    return positions
