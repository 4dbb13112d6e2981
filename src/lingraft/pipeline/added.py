"""What became of the added tokens of the models of an evaluation: exposures in training, rows that barely turned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lingraft.measurement import Measurement
from lingraft.pipeline.steps import Work


def added_measurements(entrants: Mapping[str, Any], language: str, work: Work) -> list[Measurement]:
    """Measure each model's added tokens, and write them one by one into added_tokens.parquet, where there are any.

    Exposures are counted in the packed training text. A row is compared with that of the model before it in order,
    where both have the same tokens: the one that training began from.
    """
    import numpy as np

    from lingraft.intrinsic.added_tokens import AddedUse, exposure_rows, turns_of
    from lingraft.intrinsic.evaluation import added_ids

    added = added_ids(entrants)
    rows: list[Measurement] = []
    table: list[dict[str, Any]] = []
    before = None
    for name, entrant in entrants.items():
        ids_A = np.array(sorted(added[name]), dtype=np.int64)
        surfaces = entrant.tokenizer.vocabulary.surfaces
        trained = before is not None and before.tokenizer.vocabulary.surfaces == surfaces
        if len(ids_A) and trained and before is not None:
            use = AddedUse(ids_A, _exposures(ids_A, work), turns_of(before.folder, entrant.folder, ids_A))
            rows += exposure_rows(use, language, name)
            table += _details(use, surfaces, entrant.scored.scores, name)
        before = entrant
    if table:
        _write(table, work)
    return rows


def _exposures(ids_A: Any, work: Work) -> Any:
    if "packed" not in work.folders:
        return None
    import numpy as np

    from lingraft.packing.blocks import Blocks

    tokens, size, chunk = Blocks.open(work.folders["packed"]).tokens, int(ids_A.max()) + 1, 2**22
    counts = np.zeros(size, dtype=np.int64)
    for begin in range(0, len(tokens), chunk):
        found = tokens[begin:begin + chunk]
        counts += np.bincount(found[found < size].astype(np.int64), minlength=size)
    return counts[ids_A]


def _details(use: Any, surfaces: Any, scores: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    import numpy as np

    from lingraft.intrinsic.added_tokens import undertrained

    heldout = np.bincount(np.concatenate([score.ids for score in scores.values()]), minlength=len(surfaces))
    few = undertrained(use.turns)
    return [{"subject": name, "id": int(i), "text": surfaces[i].decode("utf-8", errors="backslashreplace"),
             "heldout": int(heldout[i]), "exposures": None if use.exposures is None else int(use.exposures[n]),
             "turn": float(use.turns[n]), "under_trained": bool(few[n])} for n, i in enumerate(use.ids)]


def _write(table: list[dict[str, Any]], work: Work) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(table), work.draft.path("added_tokens.parquet"))
