"""Where the embedding rows of new tokens come from, as a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lingraft.checkpoint.row_request import InitRows
from lingraft.splice import Splice

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


@dataclass(frozen=True, eq=False)
class RowOrigins:
    """The result of a resize: how the row of every added token was made.

    Attributes:
        splice: the tokens, in the order of the rows.
        sides: by matrix ("input"; "output" if it is separate), the origin of each row, and in
            `mixture` the source ids and weights that it is a sum of, where it is one.
        rows: the number of embedding rows, with padding; `rows_before` is that of the source.
        warnings: what to know about the rows, one line each.
        notes: methods, counts of origins and what else a run records.
    """

    splice: Splice
    sides: Mapping[str, InitRows]
    rows: int
    rows_before: int
    warnings: tuple[str, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Return the numbers; `lingraft.resize` returns it to a notebook."""
        sides = "; ".join(f"{side}: {rows.origin_counts}" for side, rows in self.sides.items())
        return (
            f"{type(self).__name__}({self.rows_before:,} rows before, {self.rows:,} now; {sides})"
        )

    def to_arrow(self) -> pa.Table:
        """Return a table with one row for each matrix and added token.

        Columns: `side`, `id`, `token`, `origin`, and `source_ids` with `weights`. The weights of a
        mean sum to 1; a rescaled mean has larger ones. Both are null for rows that were drawn or
        trained.
        """
        import pyarrow as pa

        columns: dict[str, list[Any]] = {
            name: [] for name in ("side", "id", "token", "origin", "source_ids", "weights")
        }
        for side, rows in self.sides.items():
            for number, token in enumerate(self.splice.added):
                mixture = rows.mixture
                columns["side"].append(side)
                columns["id"].append(token.id)
                columns["token"].append(token.text)
                columns["origin"].append(rows.origins[number])
                columns["source_ids"].append(mixture and list(mixture.ids[number]))
                columns["weights"].append(mixture and list(mixture.weights[number]))
        types = [pa.list_(pa.int64()), pa.list_(pa.float64())]
        schema = pa.schema(
            [
                ("side", pa.string()),
                ("id", pa.int64()),
                ("token", pa.string()),
                ("origin", pa.string()),
                ("source_ids", types[0]),
                ("weights", types[1]),
            ]
        )
        return pa.table(columns, schema=schema)

    def to_pandas(self) -> pd.DataFrame:
        """Return the table of `to_arrow` as a data frame."""
        return self.to_arrow().to_pandas()
