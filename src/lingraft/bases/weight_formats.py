"""Detect weight formats to which embedding rows cannot be added, with a command that converts them.

Rows are added to plain floating-point safetensors. Pickled weights, GGUF files, adapters and
quantised checkpoints are detected by the files and settings by which their libraries detect them.
The commands were run on real checkpoints of each kind with transformers 5.23, PEFT 0.21,
bitsandbytes 0.50, GPTQModel 7.7 and compressed-tensors 0.20 (MLX's only on Apple's machines).
"""

from __future__ import annotations

import fnmatch
import inspect
import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from lingraft.checkpoint.safetensors_files import FLOATS, Checkpoint
from lingraft.errors import ModelError

OTHER_WEIGHTS = (
    "pytorch_model*.bin",
    "*.pth",
    "*.pt",
    "*.ckpt",
    "tf_model*.h5",
    "flax_model*.msgpack",
)
NOT_WEIGHTS = ("optimizer.pt", "scheduler.pt", "scaler.pt", "rng_state")
"""Prefixes of training files next to weights; training_args.bin matches no pattern above."""

OLD_SETTINGS = {
    "quantize_config.json": "gptq",
    "quant_config.json": "awq",
    "hf_quant_config.json": "modelopt",
}
"""Files in which older writers state a quantisation that is missing in config.json."""

ROWS_STAY_PLAIN = ("fp8", "mxfp4")
"""Quantisations that leave embeddings and head in floating point by default."""

EMBEDDING_NAMES = ("embed", "wte", "lm_head")

# One-letter names keep the commands on one line.
AUTO = "from transformers import AutoModelForCausalLM as M, AutoTokenizer as T"


def check_weight_format(path: Path, name: str = "") -> None:
    """Raise `ModelError` if a path has weights but no safetensors; a path without weights passes.

    An adapter is refused even next to the weights of a model, because transformers would load both.
    `name` is the name that the user gave, if it is not the path (owner/name of a hub model).
    """
    name = name or str(path)
    if path.is_file():
        if path.suffix == ".gguf":
            raise ModelError(_gguf(path.parent, path.name, str(path.parent)))
        return
    if not path.is_dir():
        return
    if (path / "adapter_config.json").is_file():
        raise ModelError(_adapter(path, name))
    if list(path.glob("*.safetensors")):
        return
    if index := next(iter(sorted(path.glob("*.safetensors.index.json"))), None):
        msg = f"{index}: names safetensors files, none of which is there; fetch the model again"
        raise ModelError(msg)
    check_file_names([file.name for file in path.iterdir()], name)


def check_file_names(names: Sequence[str], model: str) -> None:
    """Raise `ModelError` if one of these files has weights in another format."""
    for pattern in OTHER_WEIGHTS:
        for name in sorted(fnmatch.filter(names, pattern)):
            if not name.startswith(NOT_WEIGHTS):
                raise ModelError(_other_weights(model, name))
    if ggufs := sorted(fnmatch.filter(names, "*.gguf")):
        raise ModelError(_gguf(Path(model), ggufs[0], model))


def check_not_quantised(config: Mapping[str, Any], folder: Path, name: str = "") -> None:
    """Raise `ModelError` if the configuration of a model states that its weights are quantised."""
    method = quantisation_of(config)
    for file, kind in OLD_SETTINGS.items():
        if method is None and (folder / file).is_file():
            method = kind
    if method is None:
        return
    name = name or str(folder)
    # The model card of a quantised model often names the model that was quantised.
    origin = _base_model(folder)
    msg = (
        f"{name}: its weights are quantised ({method}), and rows can be added to unquantised "
        f"weights only; start from the model that was quantised{f' ({origin})' if origin else ''}"
    )
    if command := _dequantise(method, name):
        msg += f", or convert it: {command}"
    raise ModelError(msg)


def check_rows_are_plain(config: Mapping[str, Any], folder: Path, name: str = "") -> None:
    """Raise `ModelError` for quantised weights, unless embeddings and head are plain floats.

    FP8 and MXFP4 checkpoints quantise only the layers: rows can be added to them, but training and
    scoring need the plain model. Without weights in the folder (the config.json of a hub model,
    which is fetched first) the files are checked later.
    """
    if quantisation_of(config) not in ROWS_STAY_PLAIN:
        check_not_quantised(config, folder, name)
    elif any(folder.glob("*.safetensors")):
        for tensor, place in Checkpoint.open(folder).tensors.items():
            if place.dtype not in FLOATS and any(word in tensor for word in EMBEDDING_NAMES):
                check_not_quantised(config, folder, name)


def quantisation_of(config: Mapping[str, Any]) -> str | None:
    """Return the quantisation that a config.json states, `None` if it states none.

    >>> quantisation_of({"quantization_config": {"load_in_4bit": True}})
    'bitsandbytes'
    >>> quantisation_of({"quantization": {"group_size": 64, "bits": 4}})
    'mlx'
    """
    # A multimodal model can state the quantisation in the part of its language model.
    for part in (config, config.get("text_config")):
        if not isinstance(part, Mapping):
            continue
        stated = part.get("quantization_config") or part.get("compression_config")
        if isinstance(stated, Mapping) and stated.get("quant_method"):
            return str(stated["quant_method"])
        if isinstance(stated, Mapping) and (
            stated.get("load_in_4bit") or stated.get("load_in_8bit")
        ):
            return "bitsandbytes"  # its first releases did not write the method
        if isinstance(part.get("quantization"), Mapping):
            return "mlx"
        if stated:
            return "of an unknown kind"
    return None


def _dequantise(method: str, model: str) -> str:
    """Return the command that dequantises a model, "" if no library can."""
    output = _next_to(model, "dequantized")
    source, target = json.dumps(model), json.dumps(output)
    if method == "mlx":
        paths = f"--hf-path {shlex.quote(model)} --mlx-path {shlex.quote(output)}"
        return f"mlx_lm.convert {paths} --dequantize"
    if method == "gptq":
        return _python(
            "from gptqmodel.utils.model_dequant import dequantize_model; "
            f"dequantize_model({source}, {target})",
            needs="gptqmodel",
        )
    if method == "awq":
        # Through compressed-tensors: GPTQModel reads AWQ's interleaved columns in another order.
        between = json.dumps(_next_to(model, "compressed-tensors"))
        return _python(
            "from compressed_tensors.entrypoints.convert import convert_checkpoint as C, "
            f"AutoAWQConverter as A, CompressedTensorsDequantizer as D; C({source}, {between}, "
            f"A.from_pretrained({source})); "
            f"C({between}, {target}, D({between}))",
            needs="compressed-tensors",
        )
    if method == "bitsandbytes":
        return _save_with_tokenizer(
            AUTO, f"M.from_pretrained({source}).dequantize()", model, output, needs=method
        )
    setting, needs = {
        "fp8": ("FineGrainedFP8Config", "accelerate"),
        "mxfp4": ("Mxfp4Config", "accelerate"),
        "compressed-tensors": ("CompressedTensorsConfig", method),
    }.get(method, ("", ""))
    if not setting:
        return ""
    loaded = f"M.from_pretrained({source}, quantization_config=Q({_dequantise_argument(setting)}))"
    return _save_with_tokenizer(f"{AUTO}, {setting} as Q", loaded, model, output, needs=needs)


def _dequantise_argument(setting: str) -> str:
    """Return the argument with which the installed transformers dequantises."""
    import transformers

    # Earlier releases of transformers know only run_compressed for compressed-tensors.
    known = inspect.signature(getattr(transformers, setting).__init__).parameters
    return "dequantize=True" if "dequantize" in known else "run_compressed=False"


def _adapter(folder: Path, name: str) -> str:
    try:
        settings = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        settings = {}
    base = settings.get("base_model_name_or_path") if isinstance(settings, dict) else None
    own = [file for file in folder.glob("*.safetensors") if not file.name.startswith("adapter")]
    if own:
        return (
            f"{name}: holds a model ({own[0].name}) and an adapter (adapter_config.json), and "
            "transformers would load both; move one of them to another folder"
        )
    # An adapter that was saved without a tokenizer uses that of its base.
    has_tokenizer = (folder / "tokenizer_config.json").is_file()
    tokenizer = json.dumps(name if has_tokenizer or not base else base)
    output = json.dumps(_next_to(name, "merged"))
    command = _python(
        "from peft import AutoPeftModelForCausalLM as M; "
        "from transformers import AutoTokenizer as T; "
        f"M.from_pretrained({json.dumps(name)}).merge_and_unload().save_pretrained({output}); "
        f"T.from_pretrained({tokenizer}).save_pretrained({output})",
        needs="peft",
    )
    of = base or "a base that it does not name"
    return f"{name}: an adapter of {of}, not a model; merge it first: {command}"


def _gguf(folder: Path, file: str, model: str) -> str:
    import transformers

    name = json.dumps(file)
    imported, unpacked = AUTO, ""
    if hasattr(transformers, "GgufConfig"):  # earlier releases always dequantise
        imported, unpacked = f"{AUTO}, GgufConfig as Q", ", quantization_config=Q(dequantize=True)"
    command = _save_with_tokenizer(
        imported,
        f"M.from_pretrained({json.dumps(model)}, gguf_file={name}{unpacked})",
        model,
        _next_to(model, "safetensors"),
        f", gguf_file={name}",
        needs="gguf accelerate",
    )
    return (
        f"{folder / file}: a GGUF file, which llama.cpp reads; start from the safetensors that it "
        f"was made from, or convert it: {command}"
    )


def _other_weights(model: str, name: str) -> str:
    if not name.startswith("pytorch_model"):
        return (
            f"{model}: its weights ({name}) are not safetensors; save them as such with the tool "
            "that wrote them"
        )
    source = json.dumps(model)
    command = _python(
        "from transformers import AutoModelForCausalLM as M; "
        f"M.from_pretrained({source}).save_pretrained({source})"
    )
    return (
        f"{model}: only pickled weights ({name}), which can run code when they are read; convert "
        f"them to safetensors: {command}"
    )


def _save_with_tokenizer(
    imported: str, loaded: str, model: str, output: str, more: str = "", *, needs: str
) -> str:
    source, target = json.dumps(model), json.dumps(output)
    return _python(
        f"{imported}; {loaded}.save_pretrained({target}, save_original_format=False); "
        f"T.from_pretrained({source}{more}).save_pretrained({target})",
        needs=needs,
    )


def _python(code: str, *, needs: str = "") -> str:
    """Return a command that runs Python code, with what has to be installed for it."""
    return f"{f'(pip install {needs}) ' if needs else ''}python -c {shlex.quote(code)}"


def _next_to(model: str, ending: str) -> str:
    """Return the output path: next to a folder; for a hub id, in the current folder."""
    path = Path(model)
    if path.is_dir():
        return str(path.with_name(f"{path.absolute().name}-{ending}"))
    return f"{path.name}-{ending}"


def _base_model(folder: Path) -> str:
    """Return the base_model of the model card, "" without one."""
    try:
        text = (folder / "README.md").read_text(encoding="utf-8")
        head = yaml.safe_load(text.split("---")[1]) if text.startswith("---") else {}
        named = head.get("base_model")
    except (OSError, ValueError, LookupError, AttributeError, yaml.YAMLError):
        return ""
    return str(named[0] if isinstance(named, list) and named else named or "")
