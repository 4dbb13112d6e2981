"""What a strategy is: which parameters of a model train, and at which of two learning rates.

Every parameter has one of two roles: *embeddings* (the input matrix and the output head) or *body* (all else). A
strategy freezes what it leaves alone, names the groups that train, and may put modules of its own into the model,
which `finish` takes out again: a finished model is a plain one.
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
"""The two model sizes (parameters) at which default learning rates are known."""


@dataclass(frozen=True)
class Rates:
    """The learning rates of the two roles, and where they come from."""

    body: float
    added_rows: float
    why: str = "as the recipe says"


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that train together: name -> parameter, the names stable between runs."""

    role: Role
    parameters: dict[str, torch.nn.Parameter] = field(default_factory=dict)


class Strategy(Choice, ABC):
    """What trains. `small_rates` and `large_rates` (body, embeddings) hold for models of 8M and 7B parameters."""

    small_rates: ClassVar[tuple[float, float]]
    large_rates: ClassVar[tuple[float, float]]
    reads_whole: ClassVar[str] = ""
    """Why `prepare` needs the numbers of the body, too; else those of embeddings and head are enough."""

    @abstractmethod
    def prepare(self, model: torch.nn.Module, added: Sequence[int]) -> list[ParameterGroup]:
        """Freeze what does not train and return what does; `added` are the ids of the spliced-in tokens."""

    def learned(self, model: torch.nn.Module) -> dict[str, torch.Tensor]:  # noqa: ARG002 - nothing is put in
        """Return what `finish` will merge into the weights, so that it can be kept apart; here there is nothing."""
        return {}

    def finish(self, model: torch.nn.Module) -> None:
        """Take out what `prepare` put into the model; here there is nothing."""

    def rates(self, parameters: int) -> Rates:
        """Return default learning rates for a model of so many parameters.

        >>> from lingraft.strategies import Differential
        >>> Differential().rates(8_000_000).body, round(Differential().rates(240_000_000).added_rows, 6)
        (0.0006, 0.000768)
        """
        body, added_rows = (
            between(small, large, parameters)
            for small, large in zip(self.small_rates, self.large_rates, strict=True)
        )
        why = (
            f"follows the model's size: {parameters / 1e6:.3g}M parameters, between {self.small_rates} (body, "
            f"embeddings) at 8M and {self.large_rates} at 7B on a log-log line"
        )
        return Rates(body, added_rows, why)


STRATEGIES: Registry[Strategy] = Registry("training strategy")


def between(small: float, large: float, parameters: int) -> float:
    """Return the value at a model size on the log-log line between its values at 8M and 7B, constant outside."""
    where = (math.log(max(parameters, 1)) - math.log(SMALL)) / (math.log(LARGE) - math.log(SMALL))
    where = min(max(where, 0.0), 1.0)
    return float(f"{small ** (1 - where) * large**where:.3g}")


def role_of(model: Any, parameter: torch.nn.Parameter) -> Role:
    """Say which role a parameter has."""
    return (
        "added_rows"
        if any(parameter is own for own in embedding_parameters(model).values())
        else "body"
    )


def embedding_parameters(model: Any) -> dict[str, torch.nn.Parameter]:
    """Return the parameters of the input matrix and the output head; tied ones once, under the input's name."""
    modules = [model.get_input_embeddings(), model.get_output_embeddings()]
    own = {id(p) for module in modules if module is not None for p in module.parameters()}
    return {name: p for name, p in model.named_parameters() if id(p) in own}


def text_module(model: Any) -> str:
    """Return the name of the module that reads text in a multimodal model; of a language model, the whole (`""`).

    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> text_module(LlamaForCausalLM(LlamaConfig(
    ...     vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2)))
    ''
    """
    if not is_multimodal(model.config):
        return ""
    embedding = model.get_input_embeddings()
    embedding = getattr(embedding, "plain", embedding)
    name = next(name for name, module in model.named_modules() if module is embedding)
    return str(name.removesuffix(".plain").rpartition(".")[0])


def text_parameters(model: Any) -> dict[str, torch.nn.Parameter]:
    """Return the parameters that text is read with: all, or those of a multimodal model's language model and head.

    What reads images or sound, and what projects it into the language model, is never trained here.
    """
    within, embeddings = text_module(model), embedding_parameters(model)
    prefix = f"{within}." if within else ""
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if name.startswith(prefix) or name in embeddings
    }


def groups_of(model: Any, trains: set[str]) -> list[ParameterGroup]:
    """Freeze every parameter but the named ones and return these by role."""
    embeddings = embedding_parameters(model)
    body, rows = ParameterGroup("body"), ParameterGroup("added_rows")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trains)
        if name in trains:
            (rows if name in embeddings else body).parameters[name] = parameter
    return [group for group in (body, rows) if group.parameters]
