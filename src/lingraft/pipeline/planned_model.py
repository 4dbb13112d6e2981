"""The size of a model before a run, as far as its configuration says it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from lingraft.bases.tokenizer_files import rows_of
from lingraft.checkpoint.resized_tensors import ROW_MULTIPLE
from lingraft.pipeline.run_estimates import model_of


@dataclass(frozen=True)
class PlannedModel:
    """The parameters, embedding rows, their width, and the layers of a model.

    `tied` says whether the output embedding is the input embedding. Parameters are `None`, width
    and layers are 0 for a model that `model_of` does not build.
    """

    parameters: int | None
    rows: int | None
    width: int
    layers: int
    tied: bool

    @classmethod
    def of(cls, config: dict[str, Any]) -> PlannedModel:
        """Return the size of the model of a configuration; an empty one says nothing."""
        rows, model = rows_of(config), model_of(config) if config else None
        if model is None:
            return cls(None, rows, 0, 0, bool(config.get("tie_word_embeddings")))
        weight, output = model.get_input_embeddings().weight, model.get_output_embeddings()
        # Many configurations leave out whether they tie, which is the default of their type.
        tied = getattr(output, "weight", None) is weight
        total = sum(parameter.numel() for parameter in model.parameters())
        width = weight.numel() // max(rows or 1, 1)
        layers = getattr(model.config.get_text_config(), "num_hidden_layers", 0)
        return cls(total, rows, width, layers, tied)

    def resized(self, tokens: int | None, added: int, dropped: int = 0) -> PlannedModel:
        """Return the size with tokens added to, and dropped from, the first `tokens`, padded.

        Rows beyond the vocabulary stay unless tokens are dropped (`checkpoint.rewrite.lay_out`).

        >>> PlannedModel(1000, 100, width=2, layers=1, tied=True).resized(90, 20)
        PlannedModel(parameters=1056, rows=128, width=2, layers=1, tied=True)
        >>> PlannedModel(1000, 100, width=2, layers=1, tied=True).resized(90, 0, dropped=30)
        PlannedModel(parameters=928, rows=64, width=2, layers=1, tied=True)
        """
        if self.rows is None or tokens is None or not (added or dropped):
            return self
        rows, needed = self.rows, tokens + added - dropped
        if dropped or needed > rows:
            rows = math.ceil(needed / ROW_MULTIPLE) * ROW_MULTIPLE
        grown = (rows - self.rows) * self.width * (1 if self.tied else 2)
        return replace(self, rows=rows, parameters=self.parameters and self.parameters + grown)

    def flops(self, per_parameter: int, tokens: int | None) -> float | None:
        """Return the operations on so many tokens; `None` if they are not known."""
        if tokens is None or not self.parameters:
            return None
        # An input embedding is a lookup, which multiplies nothing. If it is tied, its matrix counts
        # because it is also the output head.
        lookup = 0 if self.tied else (self.rows or 0) * self.width
        return float(per_parameter) * tokens * (self.parameters - lookup)
