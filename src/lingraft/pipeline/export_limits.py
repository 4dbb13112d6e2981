"""What cannot be done with the result of a recipe, as far as it is known before the run.

`lingraft export` refuses with the same reasons.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lingraft.bases.folder import read_config
from lingraft.checkpoint.gguf_architectures import architecture_of, complete_config
from lingraft.errors import ModelError
from lingraft.pretokenizer.llama_cpp_names import find_llama_cpp_name, why_no_name
from lingraft.tokenizer import open_tokenizer
from lingraft.tokenizer.base import Family
from lingraft.tokenizer.byte_level_bpe import ByteLevel
from lingraft.vocabulary.pretokenizer_options import (
    find_named_options,
    find_options,
    find_requested_option,
)

WHOLE_MODEL = "use the whole model (RUN/model)"
INSTEAD = f"{WHOLE_MODEL}, or train with the strategy lora or rows"

ADAPTER_STRATEGIES = ("lora", "rows", "embeddings")
"""The strategies whose result a PEFT adapter can represent."""


def why_no_adapter(recipe: Mapping[str, Any]) -> str:
    """Return why the result of a recipe cannot be a PEFT adapter, "" if it can.

    `recipe` is plain JSON, as in run.json.

    >>> why_no_adapter({"training": {"phases": [{"strategy": {"full": {}}}]}})[:56]
    'training.phases.0: the strategy full trains full weights'
    """
    for number, phase in enumerate(recipe["training"]["phases"]):
        name = next(iter(phase["strategy"]))
        if name not in ADAPTER_STRATEGIES:
            return (
                f"training.phases.{number}: the strategy {name} trains full weights, which a "
                f"LoRA adapter cannot represent; {INSTEAD}"
            )
    if recipe.get("chat_vector"):
        return f"a chat vector changed all weights, which no adapter can represent; {INSTEAD}"
    return ""


def why_no_gguf_architecture(folder: Path) -> str:
    """Return why the architecture of a model cannot be a GGUF file, "" if nothing is known."""
    if not (folder / "config.json").is_file():
        return ""
    try:
        architecture_of(complete_config(read_config(folder)))
    except ModelError as error:
        return str(error)
    return ""


def describe_options(folder: Path) -> str:
    """Return the pre-tokenizers that `auto` chooses from, as a part of a sentence."""
    family = open_tokenizer(folder).family
    options = find_options(family, folder)
    if not options:
        return ""
    own = find_llama_cpp_name(family.data)
    parts = [f"the base's own ({f'{own} in' if own else 'not in'} llama.cpp)"]
    for option in (*options, *find_named_options(family, folder).options):
        in_llama_cpp = "in llama.cpp" if option.llama_cpp else "not in llama.cpp"
        parts.append(f"{option.rewrite.name} ({in_llama_cpp})")
    return f", between {', '.join(parts[:-1])} and {parts[-1]}"


def why_no_gguf(folder: Path, mode: str, extended: Path | None = None) -> str:
    """Return why llama.cpp would not read the extended tokenizer, "" if nothing is known.

    `folder` has the source tokenizer, `mode` is the setting `vocabulary.pretokenizer`, `extended`
    has the extended tokenizer if there is one already. Raises `RecipeError` if the mode names a
    pre-tokenizer that does not fit.
    """
    family = open_tokenizer(folder).family
    if not isinstance(family, ByteLevel):
        return ""
    if extended is not None:
        reason = why_no_name(open_tokenizer(extended).family.data)
        return f"{reason}; {_remedy(family, folder)}" if reason else ""
    if mode not in {"auto", "keep", "repair"}:
        find_requested_option(family, mode, folder)
        return ""
    own_reason = why_no_name(family.data)
    options = find_options(family, folder) if mode != "keep" else []
    if not options:
        return f"{own_reason}; {_remedy(family, folder)}" if own_reason else ""
    reason = why_no_name(options[0].family.data)
    condition = ""
    # `auto` decides on the text: then it is only known what happens in one case.
    if mode == "auto":
        named = find_named_options(family, folder).options
        if named and own_reason:
            condition = f"unless auto chooses {named[0].llama_cpp}: "
        elif named:
            condition = f"if auto finds that {named[0].llama_cpp} needs too many tokens: "
        elif not own_reason:
            condition = "if auto changes the pre-tokenizer: "
        reason = own_reason or reason
    return f"{condition}{reason}; {_remedy(family, folder)}"


def _remedy(family: Family, folder: Path) -> str:
    """Return what to set for a GGUF file, or that no setting gives one."""
    named, own = find_named_options(family, folder), find_llama_cpp_name(family.data)
    ways = []
    if named.options:
        ways.append(f"named ({named.options[0].llama_cpp})")
    if own:
        ways.append(f"keep ({own}, with more tokens per word: `lingraft diagnose` counts them)")
    advice = "no other setting helps: use the model in transformers or vLLM"
    if ways:
        advice = f"for llama.cpp, set vocabulary.pretokenizer: {' or '.join(ways)}"
    return f"{advice} ({named.reason})" if named.reason else advice
