"""The transformers class that loads a model folder, and the kinds of model that lingraft refuses.

A folder loads with the class that its config.json names: a decoder-only language model, or a
multimodal model whose language model is adapted in place. Loading Qwen3.5 or Gemma 3 as a plain
causal language model would lose the vision tower. Other kinds are refused with the reason:
encoder-decoders, encoders, speech recognition models, and models that generate no text.
"""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from huggingface_hub.errors import StrictDataclassError

from lingraft.errors import ModelError, one_line
from lingraft.model_code import checked_trust_option

SUPPORTED = (
    "lingraft adapts models that generate text token by token: decoder-only language models and "
    "multimodal ones"
)
NOT_CAUSAL = {
    "xlnet": "a permutation language model: without a mask for each token it reads text in both "
    "directions",
    "bert-generation": "half of an encoder-decoder",
    "trocr": "the decoder of an encoder-decoder",
}
"""Causal language models of transformers whose logits depend on later tokens or an encoder."""

TEXT_ARGUMENTS = ("self", "input_ids")
UNREADABLE = (
    OSError,
    ValueError,
    KeyError,
    AttributeError,
    TypeError,
    ImportError,
    StrictDataclassError,
)
"""The exceptions that transformers raises for a configuration that it cannot build a model from."""


def read_model_config(folder: Path) -> Any:
    """Return the configuration of a model folder; raise `ModelError` if it is not readable."""
    from transformers import AutoConfig

    trusted = checked_trust_option(folder)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return AutoConfig.from_pretrained(folder, local_files_only=True, **trusted)
    except UNREADABLE as error:
        msg = f"{folder}: not a causal language model that transformers knows ({one_line(error)})"
        raise ModelError(msg) from error


def reads_setting(config_class: type[Any], name: str) -> bool:
    """Whether the code of a configuration or of its models names a setting."""
    own = Path(inspect.getfile(config_class))
    # transformers generates the other files from its modular ones, and runs only the others.
    code = [
        path
        for path in own.parent.glob("*.py")
        if path == own or not path.name.startswith("modular_")
    ]
    texts = [path.read_text("utf-8") for path in code]
    return any(re.search(rf"\b{re.escape(name)}\b", text) for text in texts)


def auto_class(config: Any, where: Path | str = "config.json") -> Any:
    """Return the Auto class that loads every part of a model.

    Raises `ModelError` for kinds that are not adapted. The class in `architectures` decides where a
    model type has several: Qwen3.5 as published is multimodal, a text-only model derived from it is
    not. Without a known class, a multimodal type loads as the multimodal model.
    """
    import transformers
    from transformers.models.auto import modeling_auto

    check_kind(config, where)
    named = next(iter(getattr(config, "architectures", None) or ()), None)
    causal = modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(config.model_type)
    multimodal = _multimodal_names().get(config.model_type)
    text_only = named is not None and named == causal and named != multimodal
    if multimodal is None or _has_own_code(config) or text_only:
        return transformers.AutoModelForCausalLM
    if config.model_type in modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        return transformers.AutoModelForImageTextToText
    return transformers.AutoModelForMultimodalLM


def _has_own_code(config: Any) -> bool:
    """Whether the folder brings the code of its causal language model."""
    return "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})


def check_runs_on_text(model: Any, where: Path | str) -> None:
    """Raise `ModelError` for a model whose forward pass requires images or sound."""
    needed: list[str] = []
    for parameter in inspect.signature(model.forward).parameters.values():
        required = parameter.default is parameter.empty and parameter.name not in TEXT_ARGUMENTS
        # *args and **kwargs have no default either.
        if required and parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
            needed.append(parameter.name)
    if needed:
        reason = (
            f"a model that needs {' and '.join(needed)} in every call, so it cannot be trained on "
            f"text"
        )
        _refuse(where, type(model).__name__, reason)


def check_kind(config: Any, where: Path | str = "config.json") -> None:
    """Raise `ModelError` for a kind of model that cannot be adapted, with the reason."""
    if _has_own_code(config):
        return
    reason = _reason_to_refuse(config)
    if reason:
        named = next(iter(getattr(config, "architectures", None) or ()), config.model_type)
        _refuse(where, named, reason)


def _reason_to_refuse(config: Any) -> str:
    """Return why a kind of model cannot be adapted; empty where it can."""
    from transformers.models.auto import modeling_auto

    kind = config.model_type
    multimodal = _multimodal_names()
    is_decoder = getattr(config, "is_decoder", False)
    transcribes = (
        kind in modeling_auto.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES
        or kind in modeling_auto.MODEL_FOR_CTC_MAPPING_NAMES
    )
    generates_audio = kind in modeling_auto.MODEL_FOR_TEXT_TO_WAVEFORM_MAPPING_NAMES or hasattr(
        config, "audio_encoder_config"
    )
    # The first condition that holds decides. A multimodal decoder is accepted before the conditions
    # on encoders, and an unknown type is reported before a model that generates audio.
    reasons = (
        (
            "Diffusion" in multimodal.get(kind, ""),
            "a diffusion model, which writes whole blocks of text at once",
        ),
        (kind in multimodal and not config.is_encoder_decoder, ""),
        (transcribes, "a speech recognition model"),
        (
            config.is_encoder_decoder,
            "an encoder-decoder, whose objective is that of translation or summarisation",
        ),
        (
            kind in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES and not is_decoder,
            "an encoder, which reads text in both directions and generates none",
        ),
        (kind in NOT_CAUSAL, NOT_CAUSAL.get(kind, "")),
        (
            kind not in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
            f"a {kind!r} model, not a causal language model that transformers knows",
        ),
        (generates_audio, "a model that generates audio"),
    )
    return next((reason for applies, reason in reasons if applies), "")


def _refuse(where: Path | str, named: str, reason: str) -> NoReturn:
    msg = f"{where}: {named} is {reason}; {SUPPORTED}"
    raise ModelError(msg)


def _multimodal_names() -> Mapping[str, str]:
    """Return the class name of each model type that reads images or sound as well as text."""
    from transformers.models.auto import modeling_auto

    # Releases of transformers without the first mapping list these models in the second.
    names: Mapping[str, str] = getattr(
        modeling_auto,
        "MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES",
        modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    )
    return names


def is_multimodal(config: Any) -> bool:
    """Whether a configuration loads as a model that also reads images, video or sound."""
    return "CausalLM" not in auto_class(config).__name__
