"""Measures the added tokens of evaluated models: how often training saw them, how rows changed.

Exposures are counted in the packed training text. The row of an added token is compared with its
row in the previous model of the evaluation, if that has the same tokens: it is then the model that
training began with. Numbers for single tokens are stored in added_tokens.parquet; summaries are
measurements.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lingraft.evaluation import ScoredModel, TextScores
from lingraft.evaluation.added_token_use import (
    AddedTokenUse,
    find_undertrained,
    measure_exposure,
    measure_rotation,
)
from lingraft.evaluation.scored_model import added_ids
from lingraft.measurement import Measurement
from lingraft.packing.blocks import Blocks

ADDED_TOKENS = "added_tokens.parquet"

_CHUNK = 2**22
"""Tokens that are counted at a time: packed text is memory-mapped and may be larger than memory."""


def added_measurements(
    models: Mapping[str, ScoredModel],
    language: str,
    *,
    packed: Sequence[Path] = (),
    table: Path | None = None,
) -> list[Measurement]:
    """Measure the added tokens of each model, and write `table` if there are any.

    `packed` are the folders of packed training text in which they are counted, each text once.
    """
    added = added_ids(models)
    measurements: list[Measurement] = []
    records: list[dict[str, Any]] = []
    previous: ScoredModel | None = None
    for name, model in models.items():
        ids_A = np.array(sorted(added[name]), dtype=np.int64)
        surfaces = model.tokenizer.vocabulary.surfaces
        if len(ids_A) and previous and previous.tokenizer.vocabulary.surfaces == surfaces:
            before, after = previous.input_rows(), model.input_rows()
            # Models of two sizes may share a tokenizer; their rows cannot be compared.
            if before.shape != after.shape:
                previous = model
                continue
            rotations = measure_rotation(before, after, ids_A)
            use = AddedTokenUse(ids_A, _exposures(ids_A, packed), rotations)
            measurements += measure_exposure(use, language, name)
            records += _records(use, surfaces, model.scored.scores, name)
        previous = model
    if records and table is not None:
        _write(records, table)
    return measurements


def _exposures(ids_A: Any, packed: Sequence[Path]) -> Any:
    """Return how often the packed training text holds each token; None without training."""
    if not packed:
        return None
    size = int(ids_A.max()) + 1
    counts = np.zeros(size, dtype=np.int64)
    for folder in packed:
        tokens = Blocks.open(folder).tokens
        for begin in range(0, len(tokens), _CHUNK):
            chunk = tokens[begin : begin + _CHUNK]
            counts += np.bincount(chunk[chunk < size].astype(np.int64), minlength=size)
    return counts[ids_A]


def _records(
    use: AddedTokenUse, surfaces: Any, scores: Mapping[str, TextScores], name: str
) -> list[dict[str, Any]]:
    """Return a record for each added token of a model."""
    ids = np.concatenate([score.ids for score in scores.values()])
    heldout = np.bincount(ids, minlength=len(surfaces))
    is_undertrained = find_undertrained(use.rotations)
    records = []
    # `turn` and `under_trained` are column names of stored files, kept so that readers work.
    for number, token in enumerate(use.ids):
        records.append(
            {
                "subject": name,
                "id": int(token),
                "text": surfaces[token].decode("utf-8", errors="backslashreplace"),
                "heldout": int(heldout[token]),
                "exposures": None if use.exposures is None else int(use.exposures[number]),
                "turn": float(use.rotations[number]),
                "under_trained": bool(is_undertrained[number]),
            }
        )
    return records


def _write(records: list[dict[str, Any]], table: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(records), table)
