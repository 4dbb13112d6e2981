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
from lingraft.strategies.model_parts import text_parameters
from lingraft.training.mfu import multiplied_weights
from lingraft.training.step_memory import ModelSizes
from lingraft.vocabulary import ServingCost

LAYERS = ("num_hidden_layers", "n_layer", "num_layers")
"""The settings of architectures for the number of layers; the first takes precedence."""

PER_LAYER_TABLE = "embed_tokens_per_layer.weight"
"""The end of the name of the table with an embedding of each id for every layer (Gemma 3n)."""


@dataclass(frozen=True)
class Shape:
    """The sizes of a model; those that are not known are 0.

    Attributes:
        parameters: all parameters, with the embeddings.
        rows: the rows of the embedding.
        width: the size of a hidden state.
        layers: the number of transformer layers.
        tied: whether the output embedding is the input embedding.
        table_width: the numbers of an id in further tables, such as embeddings for each layer.
        idle: parameters that a token of text does not go through: of experts, on average, and of
            encoders for images or sound.
    """

    parameters: int = 0
    rows: int = 0
    width: int = 0
    layers: int = 0
    tied: bool = False
    table_width: int = 0
    idle: int = 0

    @classmethod
    def of(cls, folder: Path) -> Shape:
        """Read the sizes of a model folder from its weights; no code of the model runs."""
        checkpoint, built = Checkpoint.open(folder), cls.of_config(read_config(folder))
        names = embedding_names(checkpoint)
        found = replace(built, rows=names.rows, width=names.width, tied=names.tied)
        return found.with_parameters(checkpoint.parameters)

    @classmethod
    def of_config(cls, config: dict[str, Any]) -> Shape:
        """Return the sizes that transformers gives to the model of a configuration.

        For a type that transformers does not have, only rows and layers can be known.
        """
        model = model_of(config)
        if model is None:
            text = text_parts(config)[-1]
            layers = next((text[name] for name in LAYERS if name in text), 0)
            return cls(rows=rows_of(config) or 0, layers=int(layers))
        weight, head = model.get_input_embeddings().weight, model.get_output_embeddings()
        settings, (rows, width) = model.config.get_text_config(), weight.shape
        # Many configurations leave out whether they tie, which is the default of their type.
        tied = getattr(head, "weight", None) is weight
        parameters = sum(parameter.numel() for parameter in model.parameters())
        multiplied = round(sum(count for _, count in multiplied_weights(model)))
        weights = text_parameters(model).items()
        tables = [table for name, table in weights if name.endswith(PER_LAYER_TABLE)]
        table_width = sum(table.shape[1] for table in tables)
        looked_up = rows * (table_width + (0 if tied else width))
        return cls(
            parameters,
            rows,
            width,
            getattr(settings, "num_hidden_layers", 0),
            tied,
            table_width,
            idle=parameters - multiplied - looked_up,
        )

    def with_parameters(self, parameters: int) -> Shape:
        """Return the sizes for files with so many numbers.

        They may have more than the model loads, such as layers that predict several tokens.
        """
        idle = self.idle + parameters - self.parameters if self.parameters else 0
        return replace(self, parameters=parameters, idle=idle)

    def resized(self, tokens: int, added: int, dropped: int = 0) -> Shape:
        """Return the sizes with tokens added to, and dropped from, the first `tokens`, padded.

        Rows beyond the vocabulary stay unless tokens are dropped (`checkpoint.row_layout.lay_out`).

        >>> Shape(1000, 100, width=2, layers=1, tied=True).resized(90, 20)
        Shape(parameters=1056, rows=128, width=2, layers=1, tied=True, table_width=0, idle=0)
        >>> Shape(1000, 100, width=2, layers=1, tied=True).resized(90, 0, dropped=30)
        Shape(parameters=928, rows=64, width=2, layers=1, tied=True, table_width=0, idle=0)
        """
        needed = tokens + added - dropped
        if not self.rows or not (dropped or (added and needed > self.rows)):
            return self
        rows = math.ceil(needed / ROW_MULTIPLE) * ROW_MULTIPLE
        grown = (rows - self.rows) * self._parameters_per_id
        return replace(self, rows=rows, parameters=self.parameters and self.parameters + grown)

    @property
    def body(self) -> int:
        """Parameters that are not in an embedding."""
        return self.parameters - self.rows * self._parameters_per_id

    @property
    def active(self) -> int:
        """Parameters of the body that a text token is multiplied with."""
        return self.body - self.idle

    @property
    def _parameters_per_id(self) -> int:
        """The parameters of an id."""
        return self.width * (1 if self.tied else 2) + self.table_width

    @property
    def multiplied(self) -> int:
        """Parameters that a text token is multiplied with (`mfu.multiplied_weights`)."""
        return self.active + self.rows * self.width

    @property
    def sizes(self) -> ModelSizes:
        """The sizes that the memory of a training step follows from."""
        return ModelSizes(
            self.parameters, self.body, self.active, self.multiplied, self.width, self.layers
        )

    @property
    def serving(self) -> ServingCost:
        """The FLOPs of serving a token, as a function of the added rows."""
        return ServingCost(2.0 * self.active, 2.0 * self.width, self.rows)

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
