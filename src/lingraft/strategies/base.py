"""The interface of a training strategy, and the roles of parameters.

A strategy decides which parameters of a model train, and at which of two learning rates. Every
trained parameter has a role: `added_rows` (the added rows, or the whole input and output matrices
where a strategy trains these) or `body` (all other parameters). A strategy freezes the other
parameters. It may insert modules of its own, which `finish` removes: a finished model has only the
modules of its architecture.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from lingraft.checkpoint.model_class import is_multimodal
from lingraft.registry import Choice, Registry

if TYPE_CHECKING:
    import torch

Role = Literal["body", "added_rows"]

SMALL, LARGE = 8e6, 7e9
"""The two model sizes (parameters) for which default learning rates are known."""


@dataclass(frozen=True)
class Rates:
    """The learning rates of the two roles, and where they come from."""

    body: float
    added_rows: float
    why: str = "as the recipe says"


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that train together, by name; the names are the same in every run."""

    role: Role
    parameters: dict[str, torch.nn.Parameter] = field(default_factory=dict)


class Strategy(Choice, ABC):
    """Which parameters train.

    `small_rates` and `large_rates` (body, added rows) are the default learning rates of models with
    8M and 7B parameters.
    """

    small_rates: ClassVar[tuple[float, float]]
    large_rates: ClassVar[tuple[float, float]]
    full_load_reason: ClassVar[str] = ""
    """Why `prepare` needs the body's weights; empty if those of embeddings and head are enough."""

    @abstractmethod
    def prepare(self, model: torch.nn.Module, added: Sequence[int]) -> list[ParameterGroup]:
        """Freeze what does not train and return what does; `added` are the ids of added tokens."""

    def adapter_state(self, model: torch.nn.Module) -> dict[str, torch.Tensor]:  # noqa: ARG002 - no adapter here
        """Return the tensors that `finish` merges into the weights; by default there are none.

        The training stage stores them, because they cannot be recovered from merged weights.
        """
        return {}

    def finish(self, model: torch.nn.Module) -> None:
        """Remove what `prepare` inserted into the model; by default nothing."""

    def rates(self, parameters: int) -> Rates:
        """Return the default learning rates of a model with this number of parameters.

        >>> from lingraft.strategies import Differential
        >>> Differential().rates(8_000_000).body
        0.0006
        >>> round(Differential().rates(240_000_000).added_rows, 6)
        0.000768
        """
        body = interpolate_by_size(self.small_rates[0], self.large_rates[0], parameters)
        added_rows = interpolate_by_size(self.small_rates[1], self.large_rates[1], parameters)
        why = (
            f"follows the model's size: {parameters / 1e6:.3g}M parameters, between "
            f"{self.small_rates} (body, added rows) at 8M and {self.large_rates} at 7B on a "
            f"log-log line"
        )
        return Rates(body, added_rows, why)


STRATEGIES: Registry[Strategy] = Registry("training strategy")


def interpolate_by_size(small: float, large: float, parameters: int) -> float:
    """Return the value for a model size on the log-log line between 8M and 7B parameters.

    Outside of this range the value is constant.
    """
    position = math.log(max(parameters, 1) / SMALL) / math.log(LARGE / SMALL)
    position = min(max(position, 0.0), 1.0)
    # Rounded, because a default is not known more precisely.
    return float(f"{small ** (1 - position) * large**position:.3g}")


def embedding_parameters(model: Any) -> dict[str, torch.nn.Parameter]:
    """Return the parameters of the input matrix and the output head by name.

    Tied ones are returned once, under the input's name.
    """
    own_ids: set[int] = set()
    for module in (model.get_input_embeddings(), model.get_output_embeddings()):
        if module is not None:
            own_ids.update(map(id, module.parameters()))
    return {name: p for name, p in model.named_parameters() if id(p) in own_ids}


def text_module(model: Any) -> str:
    """Return the name of a multimodal model's module that reads text; "" for a language model.

    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> sizes = {"vocab_size": 8, "hidden_size": 8, "intermediate_size": 8}
    >>> config = LlamaConfig(**sizes, num_hidden_layers=1, num_attention_heads=2)
    >>> text_module(LlamaForCausalLM(config))
    ''
    """
    if not is_multimodal(model.config):
        return ""
    embedding = model.get_input_embeddings()
    embedding = getattr(embedding, "plain", embedding)
    name = next(name for name, module in model.named_modules() if module is embedding)
    return str(name.removesuffix(".plain").rpartition(".")[0])


def text_parameters(model: Any) -> dict[str, torch.nn.Parameter]:
    """Return the parameters that read text: those of the language model and the head.

    The encoders of images or sound, and the projection into the language model, never train here:
    the training text has no images.
    """
    text, embeddings = text_module(model), embedding_parameters(model)
    prefix = f"{text}." if text else ""
    # The head can be outside the text module.
    parameters = dict(model.named_parameters())
    reads_text = [name for name in parameters if name.startswith(prefix) or name in embeddings]
    return {name: parameters[name] for name in reads_text}


def train_only(model: Any, names: set[str]) -> list[ParameterGroup]:
    """Freeze every parameter except the named ones, and return these by role."""
    embeddings = embedding_parameters(model)
    body, rows = ParameterGroup("body"), ParameterGroup("added_rows")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in names)
        if name in names:
            group = rows if name in embeddings else body
            group.parameters[name] = parameter
    return [group for group in (body, rows) if group.parameters]


def train_added_rows(model: Any, added: Sequence[int]) -> ParameterGroup:
    """Insert row modules, so that the added rows are parameters of their own, and return these."""
    # The classes of `row_modules` need torch when they are defined.
    from lingraft.strategies.row_modules import insert_row_modules

    return ParameterGroup("added_rows", insert_row_modules(model, added))


def write_added_rows(model: Any) -> None:
    """Write the added rows into the matrices and remove the row modules, if there are any."""
    from lingraft.strategies.row_modules import remove_row_modules

    remove_row_modules(model)
