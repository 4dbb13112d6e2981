"""The sizes of a model, and what they make a token cost."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lingraft.bases.folder import read_config
from lingraft.bases.tokenizer_files import rows_of
from lingraft.checkpoint import Checkpoint, embedding_names
from lingraft.checkpoint.config_files import text_parts
from lingraft.checkpoint.load_model import meta_model
from lingraft.checkpoint.resized_tensors import ROW_MULTIPLE
from lingraft.training.mfu import multiplied_weights
from lingraft.vocabulary import ServingCost

LAYERS = ("num_hidden_layers", "n_layer", "num_layers")
"""The settings of architectures for the number of layers; the first takes precedence."""


@dataclass(frozen=True)
class Shape:
    """The sizes of a model; those that are not known are 0.

    Attributes:
        parameters: all parameters, with the embeddings.
        rows: the rows of the embedding.
        width: the size of a hidden state.
        layers: the number of transformer layers.
        tied: whether the output embedding is the input embedding.
        idle: parameters that text does not go through: of experts, on average, and of encoders for
            images or sound.
    """

    parameters: int = 0
    rows: int = 0
    width: int = 0
    layers: int = 0
    tied: bool = False
    idle: int = 0

    @classmethod
    def of(cls, folder: Path) -> Shape:
        """Read the sizes of a model folder from its weights; no code of the model runs."""
        checkpoint, built = Checkpoint.open(folder), cls.of_config(read_config(folder))
        names = embedding_names(checkpoint)
        sizes = (checkpoint.parameters, names.rows, names.width, built.layers)
        return cls(*sizes, tied=names.tied, idle=built.idle)

    @classmethod
    def of_config(cls, config: dict[str, Any]) -> Shape:
        """Return the sizes that transformers gives to the model of a configuration.

        For a type that transformers does not have, only rows and layers can be known.
        """
        rows, model = rows_of(config) or 0, model_of(config)
        if model is None:
            text = text_parts(config)[-1]
            return cls(rows=rows, layers=int(next((text[n] for n in LAYERS if n in text), 0)))
        weight, output = model.get_input_embeddings().weight, model.get_output_embeddings()
        # Many configurations leave out whether they tie, which is the default of their type.
        tied = getattr(output, "weight", None) is weight
        parameters = sum(parameter.numel() for parameter in model.parameters())
        multiplied = round(sum(count for _, count in multiplied_weights(model)))
        return cls(
            parameters,
            rows,
            width=weight.numel() // max(rows, 1),
            layers=getattr(model.config.get_text_config(), "num_hidden_layers", 0),
            tied=tied,
            idle=parameters - multiplied - (0 if tied else weight.numel()),
        )

    def resized(self, tokens: int, added: int, dropped: int = 0) -> Shape:
        """Return the sizes with tokens added to, and dropped from, the first `tokens`, padded.

        Rows beyond the vocabulary stay unless tokens are dropped (`checkpoint.rewrite.lay_out`).

        >>> Shape(1000, 100, width=2, layers=1, tied=True).resized(90, 20)
        Shape(parameters=1056, rows=128, width=2, layers=1, tied=True, idle=0)
        >>> Shape(1000, 100, width=2, layers=1, tied=True).resized(90, 0, dropped=30)
        Shape(parameters=928, rows=64, width=2, layers=1, tied=True, idle=0)
        """
        needed = tokens + added - dropped
        if not self.rows or not (dropped or (added and needed > self.rows)):
            return self
        rows = math.ceil(needed / ROW_MULTIPLE) * ROW_MULTIPLE
        grown = (rows - self.rows) * self.width * (1 if self.tied else 2)
        return replace(self, rows=rows, parameters=self.parameters and self.parameters + grown)

    @property
    def body(self) -> int:
        """Parameters that are not in an embedding."""
        return self.parameters - self.rows * self.width * (1 if self.tied else 2)

    @property
    def multiplied(self) -> int:
        """Parameters that a text token is multiplied with (`mfu.multiplied_weights`)."""
        return self.body - self.idle + self.rows * self.width

    @property
    def serving(self) -> ServingCost:
        """The FLOPs of serving a token, as a function of the added rows."""
        return ServingCost(2.0 * (self.body - self.idle), 2.0 * self.width, self.rows)

    def flops(self, per_parameter: int, tokens: int | None) -> float | None:
        """Return the operations on so many tokens; `None` if they are not known."""
        if tokens is None or not self.parameters:
            return None
        return float(per_parameter) * tokens * self.multiplied


def model_of(config: dict[str, Any]) -> Any | None:
    """Return the model of a configuration without weights, on the meta device.

    Returns `None` without a configuration, and for a type that transformers does not have: its code
    comes with the model and must not run for a plan.
    """
    from transformers import AutoConfig
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    if config.get("model_type") not in CONFIG_MAPPING_NAMES:
        return None
    settings = dict(config)
    return meta_model(AutoConfig.for_model(settings.pop("model_type"), **settings))
