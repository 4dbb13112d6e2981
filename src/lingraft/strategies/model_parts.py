"""The parts of a model that strategies name: embeddings, layers, and what reads text.

Every function here takes a transformers model and returns names or parameters of it. A multimodal
model also has encoders of images or sound. They never train, because the training text has no
images, so these functions look only inside the language model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lingraft.checkpoint.model_class import is_multimodal
from lingraft.errors import RecipeError

if TYPE_CHECKING:
    import torch


def embedding_module_parameters(model: Any) -> dict[str, torch.nn.Parameter]:
    """Return all parameters of the input embedding and the output head by name.

    Tied ones are returned once, under the input's name.
    """
    own_ids: set[int] = set()
    for module in (model.get_input_embeddings(), model.get_output_embeddings()):
        if module is not None:
            own_ids.update(map(id, module.parameters()))
    # By identity, because the names of the two modules differ between architectures.
    return {name: p for name, p in model.named_parameters() if id(p) in own_ids}


def embedding_parameters(model: Any) -> dict[str, torch.nn.Parameter]:
    """Return the parameters with an entry for each id: the matrices, and the bias of a head.

    The embedding of Inkling also has a norm, which belongs to the body.
    """
    found = embedding_module_parameters(model)
    return {name: p for name, p in found.items() if p.dim() > 1 or name.endswith("bias")}


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


LAYER_LISTS = ("layers", "h", "blocks")
"""The names of lists of layers, where their number is not that of the configuration."""


def layer_stacks(model: Any) -> list[str]:
    """Return the names of the ModuleLists that hold the model's layers: one, or two of HRM-Text.

    It is the list with the number of layers of the configuration. Some configurations count
    something else: LongCat-Flash has two attention layers in each layer, and HRM-Text runs its two
    lists several times. Raises `RecipeError` if there is no list of layers.
    """
    import torch

    count = model.config.get_text_config().num_hidden_layers
    text = text_module(model)
    lists: dict[str, int] = {}
    for name, module in model.named_modules():
        # The vision encoder of a multimodal model can have as many layers. Lists within a layer,
        # such as experts, are no lists of layers.
        is_outer = name.startswith(text) and not name.startswith(tuple(f"{x}." for x in lists))
        if isinstance(module, torch.nn.ModuleList) and is_outer:
            lists[name] = len(module)
    for name, length in lists.items():
        if length == count:
            return [name]
    stacks = [name for name in lists if name.rpartition(".")[2] in LAYER_LISTS]
    if not stacks:
        msg = (
            f"{type(model).__name__} has no list of {count} layers; choose the training.strategy "
            f"differential"
        )
        raise RecipeError(msg)
    return stacks


def layer_stack(model: Any) -> tuple[str, int]:
    """Return the name of the ModuleList that holds the model's layers, and its length.

    Raises `RecipeError` if the model has no such list, or several.
    """
    stacks = layer_stacks(model)
    if len(stacks) > 1:
        msg = (
            f"{type(model).__name__} has {len(stacks)} lists of layers ({', '.join(stacks)}), so "
            f"none are its first and last layers; choose the training.strategy differential"
        )
        raise RecipeError(msg)
    return stacks[0], len(model.get_submodule(stacks[0]))


def layer_root(model: Any) -> str:
    """Return the name of the module that holds all layers: their list, or what has all lists.

    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> sizes = {"vocab_size": 8, "hidden_size": 8, "intermediate_size": 8}
    >>> config = LlamaConfig(**sizes, num_hidden_layers=1, num_attention_heads=2)
    >>> layer_root(LlamaForCausalLM(config))
    'model.layers'
    """
    shared: list[str] = []
    for parts in zip(*(name.split(".") for name in layer_stacks(model)), strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return ".".join(shared)
