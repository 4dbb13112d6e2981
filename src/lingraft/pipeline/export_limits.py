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
from lingraft.pretokenizer.llama_cpp_names import llama_cpp_name
from lingraft.tokenizer import open_tokenizer
from lingraft.tokenizer.byte_level_bpe import ByteLevel
from lingraft.vocabulary.pretokenizer_choice import find_options

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


def why_no_gguf(folder: Path, mode: str) -> str:
    """Return why llama.cpp would not read the extended tokenizer, "" if nothing is known.

    `folder` has the source tokenizer, `mode` is the setting `vocabulary.pretokenizer`.
    """
    family = open_tokenizer(folder).family
    if not isinstance(family, ByteLevel):
        return ""
    options = find_options(family, folder) if mode != "keep" else []
    # `auto` decides on the text: then it is only known what happens if it changes something.
    condition = "if auto changes the pre-tokenizer: " if options and mode == "auto" else ""
    try:
        llama_cpp_name(options[0].family.data if options else family.data)
    except ModelError as error:
        return f"{condition}{error}"
    return ""
