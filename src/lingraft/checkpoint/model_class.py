"""Which class of transformers loads a model folder, and which kinds of model are refused.

A folder loads with the class that its config.json names: a decoder-only language model, or a multimodal model whose
language model is adapted in place. Loading Qwen3.5 or Gemma 3 as a plain causal language model would lose the vision
tower. What cannot be adapted is refused in one line that says why: encoder-decoders, encoders, speech recognisers,
models that are no language models.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from lingraft.errors import ModelError
from lingraft.model_code import trust

DECODERS = "lingraft adapts models that generate text token by token: decoder-only language models and multimodal ones"
NOT_FROM_LEFT_TO_RIGHT = {
    "xlnet": "a permutation language model: without a mask for each token it reads text in both directions",
    "bert-generation": "half of an encoder-decoder",
    "trocr": "the half of an encoder-decoder that writes",
}
"""Types among transformers' causal language models whose logits follow from later tokens, too, or from an encoder."""

UNREADABLE = (OSError, ValueError, KeyError, AttributeError, TypeError, ImportError)
"""What transformers raises for a configuration that it cannot make a model of."""


def read_model_config(folder: Path) -> Any:
    """Return the configuration of a model folder; raises `ModelError` where transformers cannot read it."""
    from transformers import AutoConfig

    trusted = trust(folder)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return AutoConfig.from_pretrained(folder, local_files_only=True, **trusted)
    except UNREADABLE as error:
        msg = f"{folder}: not a causal language model that transformers knows ({' '.join(str(error).split())[:200]})"
        raise ModelError(msg) from error


def auto_class(config: Any, where: Path | str = "config.json") -> Any:
    """Return the Auto class that loads a model whole; raises `ModelError` for kinds that are not adapted.

    The class named in `architectures` decides where a model type has several: Qwen3.5 as published is multimodal, a
    text-only model made of it is not. Without a known name, a multimodal type is loaded as the multimodal model.
    """
    import transformers
    from transformers.models.auto import modeling_auto as known

    check_kind(config, where)
    named = next(iter(getattr(config, "architectures", None) or ()), None)
    causal = known.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(config.model_type)
    multimodal = _multimodal_names().get(config.model_type)
    brings_code = "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})
    text_only = named is not None and named == causal and named != multimodal
    if multimodal is None or brings_code or text_only:
        return transformers.AutoModelForCausalLM
    if config.model_type in known.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        return transformers.AutoModelForImageTextToText
    return transformers.AutoModelForMultimodalLM


def check_runs_on_text(model: Any, where: Path | str) -> None:
    """Raise `ModelError` for a model that cannot be run on text alone: its forward pass wants images or sound."""
    import inspect

    parameters = inspect.signature(model.forward).parameters.values()
    needed = [
        one.name
        for one in parameters
        if one.default is one.empty
        and one.kind is one.POSITIONAL_OR_KEYWORD
        and one.name not in {"self", "input_ids"}
    ]
    if needed:
        _refuse(
            where,
            type(model).__name__,
            f"a model that needs {' and '.join(needed)} in every call, so that it "
            f"cannot be trained on text",
        )


def check_kind(config: Any, where: Path | str = "config.json") -> None:
    """Raise `ModelError` for a kind of model that cannot be adapted, with the reason."""
    from transformers.models.auto import modeling_auto as known

    kind = config.model_type
    if getattr(config, "auto_map", None) and "AutoModelForCausalLM" in config.auto_map:
        return
    named = next(iter(getattr(config, "architectures", None) or ()), kind)
    speech = (
        kind in known.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES
        or kind in known.MODEL_FOR_CTC_MAPPING_NAMES
    )
    if "Diffusion" in _multimodal_names().get(kind, ""):
        _refuse(where, named, "a diffusion model, which writes whole blocks of text at once")
    if kind in _multimodal_names() and not config.is_encoder_decoder:
        return
    if speech:
        _refuse(where, named, "a speech recogniser")
    if config.is_encoder_decoder:
        _refuse(
            where,
            named,
            "an encoder-decoder, whose two vocabularies and objective are those of translation or "
            "summarisation",
        )
    if kind in known.MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(config, "is_decoder", False):
        _refuse(where, named, "an encoder, which reads text in both directions and generates none")
    if kind in NOT_FROM_LEFT_TO_RIGHT:
        _refuse(where, named, NOT_FROM_LEFT_TO_RIGHT[kind])
    if kind not in known.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        _refuse(
            where, named, f"a {kind!r} model, not a causal language model that transformers knows"
        )
    if kind in known.MODEL_FOR_TEXT_TO_WAVEFORM_MAPPING_NAMES or hasattr(
        config, "audio_encoder_config"
    ):
        _refuse(where, named, "a model that generates audio")


def _refuse(where: Path | str, named: str, what: str) -> NoReturn:
    msg = f"{where}: {named} is {what}; {DECODERS}"
    raise ModelError(msg)


def _multimodal_names() -> Mapping[str, str]:
    """Return model type -> class of models that read images or sound as well as text."""
    from transformers.models.auto import modeling_auto as known

    found: Mapping[str, str] = getattr(
        known,
        "MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES",
        known.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    )
    return found


def is_multimodal(config: Any) -> bool:
    """Say whether a configuration is loaded as a model that also reads images, video or sound."""
    return "CausalLM" not in auto_class(config).__name__
