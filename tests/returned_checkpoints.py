"""Checkpoints as other engines return them, each with one fault, made from a trained folder.

A function of `BREAKS` changes the files of a folder in the way in which an engine, a converter or a
training script does it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from lingraft.splice import Splice
from tests.models import ARCHITECTURES, extended_tokenizer, resize_with_mean

WEIGHTS, CONFIG, GENERATION = "model.safetensors", "config.json", "generation_config.json"
TOKENIZER, SETTINGS = "tokenizer.json", "tokenizer_config.json"
EMBEDDING, HEAD, EOS = "model.embed_tokens.weight", "lm_head.weight", 319
TEMPLATE = "{{ bos_token }}{% for m in messages %}{{ m['content'] }}</s>{% endfor %}"


@dataclass(frozen=True)
class HandedOver:
    """A source, the extended model that was handed over, and what an engine made of it."""

    source: Path
    extended: Path
    trained: Path
    splice: Splice


def hand_over(root: Path, kind: str = "llama") -> HandedOver:
    """Extend a small tied model with a chat template; change every weight a little, as training."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    architecture = ARCHITECTURES[kind]
    settings = {**architecture.settings, "tie_word_embeddings": True}
    source = replace(architecture, settings=settings, tied=True).build(root / "source")
    splice = extended_tokenizer(source, root / "tokenizer")
    (root / "tokenizer" / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    resize_with_mean(source, root, splice)
    extended, trained = root / "model", root / "trained"
    model = AutoModelForCausalLM.from_pretrained(extended)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 1e-3)
    model.save_pretrained(trained)
    AutoTokenizer.from_pretrained(extended).save_pretrained(trained)
    return HandedOver(source, extended, trained, splice)


def edit(path: Path, **values: Any) -> None:
    """Change entries of a JSON file; `None` removes an entry."""
    content = json.loads(path.read_text(encoding="utf-8")) | values
    kept = {name: value for name, value in content.items() if value is not None}
    path.write_text(json.dumps(kept), encoding="utf-8")


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    """Change the tensors of a folder."""
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(contiguous, folder / WEIGHTS, {"format": "pt"})


def resize_rows(folder: Path, rows: int) -> None:
    """Cut the embedding, or repeat its last row, as Megatron's saver pads it."""

    def change(tensors: dict[str, torch.Tensor]) -> None:
        table = tensors[EMBEDDING]
        last = table[-1:].expand(max(0, rows - len(table)), -1)
        tensors[EMBEDDING] = torch.cat([table[:rows], last])

    edit_weights(folder, change)
    edit(folder / CONFIG, vocab_size=rows)


def _class_of_gpt2(folder: Path, _handed: HandedOver) -> None:
    from transformers import GPT2TokenizerFast

    GPT2TokenizerFast.from_pretrained(folder).save_pretrained(folder)


def _megatron_padding(folder: Path, _handed: HandedOver) -> None:
    resize_rows(folder, 512)


def _cut_padding(folder: Path, handed: HandedOver) -> None:
    resize_rows(folder, handed.splice.target_size)


def _cut_tokens(folder: Path, handed: HandedOver) -> None:
    resize_rows(folder, handed.splice.source_size)


def _zero_eos(folder: Path, _handed: HandedOver) -> None:
    edit_weights(folder, lambda tensors: tensors[EMBEDDING][EOS].zero_())


def _masked_eos(folder: Path, handed: HandedOver) -> None:
    row = load_file(handed.extended / WEIGHTS)[EMBEDDING][EOS]
    edit_weights(folder, lambda tensors: tensors[EMBEDDING][EOS].copy_(row))


def _pad_is_eos(folder: Path, _handed: HandedOver) -> None:
    edit(folder / SETTINGS, pad_token="</s>")


def _generated_padding(folder: Path, _handed: HandedOver) -> None:
    edit(folder / GENERATION, suppress_tokens=None)


def _source_tokenizer(folder: Path, handed: HandedOver) -> None:
    for name in (TOKENIZER, SETTINGS):
        shutil.copyfile(handed.source / name, folder / name)


def _modules_to_save(folder: Path, _handed: HandedOver) -> None:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        tensors[HEAD] = tensors[EMBEDDING] * 1.01

    edit_weights(folder, change)


def _untied(folder: Path, handed: HandedOver) -> None:
    _modules_to_save(folder, handed)
    edit(folder / CONFIG, tie_word_embeddings=False)


def _untied_without_config(folder: Path, handed: HandedOver) -> None:
    _modules_to_save(folder, handed)
    (folder / CONFIG).unlink()


def _other_gguf(folder: Path, _handed: HandedOver) -> None:
    from gguf import GGUFWriter

    writer = GGUFWriter(str(folder / "model-f16.gguf"), "llama")
    writer.add_tokenizer_pre("default")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


def _no_template(folder: Path, _handed: HandedOver) -> None:
    (folder / "chat_template.jinja").unlink()


def _second_bos(folder: Path, _handed: HandedOver) -> None:
    from tokenizers import Tokenizer, processors

    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A", None, [("<s>", 318)])
    tokenizer.save(str(folder / TOKENIZER))


def _merges_as_text(folder: Path, handed: HandedOver) -> None:
    content = json.loads((folder / TOKENIZER).read_text(encoding="utf-8"))
    content["model"]["merges"] = list(map(" ".join, content["model"]["merges"]))
    (folder / TOKENIZER).write_text(json.dumps(content), encoding="utf-8")


def _other_eos(folder: Path, _handed: HandedOver) -> None:
    edit(folder / GENERATION, eos_token_id=318)


def _lost_bos(folder: Path, _handed: HandedOver) -> None:
    edit(folder / CONFIG, bos_token_id=None)


def _engine_tokens(folder: Path, _handed: HandedOver) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.save_pretrained(folder)


def _pad_token(folder: Path, _handed: HandedOver) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.save_pretrained(folder)


def _weights_only(folder: Path, _handed: HandedOver) -> None:
    for path in folder.iterdir():
        if path.suffix != ".safetensors":
            path.unlink()


def _no_index(folder: Path, _handed: HandedOver) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder)
    (folder / WEIGHTS).unlink()
    model.save_pretrained(folder, max_shard_size="30KB")
    (folder / "model.safetensors.index.json").unlink()


def _other_size(folder: Path, handed: HandedOver) -> None:
    edit(folder / CONFIG, vocab_size=handed.splice.target_size)


def _short_context(folder: Path, _handed: HandedOver) -> None:
    edit(folder / CONFIG, max_position_embeddings=32)


def _bfloat16(folder: Path, _handed: HandedOver) -> None:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        for name, tensor in tensors.items():
            tensors[name] = tensor.bfloat16()

    edit_weights(folder, change)


def _frozen_rows(folder: Path, handed: HandedOver) -> None:
    rows = load_file(handed.extended / WEIGHTS)[EMBEDDING]
    edit_weights(folder, lambda tensors: tensors[EMBEDDING].copy_(rows))


def _untrained(folder: Path, handed: HandedOver) -> None:
    shutil.copyfile(handed.extended / WEIGHTS, folder / WEIGHTS)
    _bfloat16(folder, handed)


def _nan(folder: Path, _handed: HandedOver) -> None:
    edit_weights(folder, lambda tensors: tensors[EMBEDDING][7].fill_(float("nan")))


def _other_theta(folder: Path, _handed: HandedOver) -> None:
    edit(folder / CONFIG, rope_parameters={"rope_theta": 5e5, "rope_type": "default"})


def _wrapped(folder: Path, _handed: HandedOver) -> None:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        for name in list(tensors):
            tensors[f"_orig_mod.{name}"] = tensors.pop(name)

    edit_weights(folder, change)


def _wrapped_layers(folder: Path, _handed: HandedOver) -> None:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        for name in list(tensors):
            wrapped = name.replace("layers.0.", "layers.0._fsdp_wrapped_module.")
            tensors[wrapped] = tensors.pop(name)

    edit_weights(folder, change)


def _other_weights(folder: Path, _: HandedOver) -> None:
    """A model of the same shape that was trained from another base."""
    torch.manual_seed(2)
    tensors = load_file(folder / WEIGHTS)
    for name, tensor in tensors.items():
        if tensor.dim() > 1 and name != EMBEDDING:
            tensors[name] = torch.randn_like(tensor) * tensor.std()
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


BREAKS: Mapping[str, tuple[tuple[Callable[[Path, HandedOver], None], str], ...]] = {
    "changed pre-tokenizer": ((_class_of_gpt2, "repaired"),),
    "padded rows": (
        (_megatron_padding, "repaired"),
        (_cut_padding, "repaired"),
        (_cut_tokens, "refused"),
    ),
    "EOS row not trained": ((_zero_eos, "refused"), (_masked_eos, "kept")),
    "PAD is EOS": ((_pad_is_eos, "repaired"),),
    "rows not a multiple of 64": ((_cut_padding, "repaired"),),
    "size larger than the tokenizer": ((_generated_padding, "repaired"),),
    "lost added tokens": ((_source_tokenizer, "repaired"),),
    "untied head": (
        (_modules_to_save, "refused"),
        (_untied_without_config, "refused"),
        (_untied, "kept"),
    ),
    "name in GGUF": ((_other_gguf, "kept"),),
    "lost chat template": ((_no_template, "repaired"),),
    "doubled BOS": ((_second_bos, "repaired"),),
    "form of merges": ((_merges_as_text, "repaired"),),
    "changed EOS in generation_config": ((_other_eos, "repaired"),),
    "changed special ids": ((_lost_bos, "repaired"),),
    "tokens of the engine": ((_engine_tokens, "refused"), (_pad_token, "repaired")),
    "missing files": ((_weights_only, "repaired"),),
    "missing index": ((_no_index, "repaired"),),
    "size in config.json": ((_other_size, "repaired"),),
    "settings in config.json": ((_short_context, "repaired"),),
    "other data type": ((_bfloat16, "kept"),),
    "part not trained": ((_frozen_rows, "kept"),),
    "nothing trained": ((_untrained, "refused"),),
    "damaged weights": ((_nan, "refused"),),
    "tensor names with a prefix": ((_wrapped, "refused"), (_wrapped_layers, "refused")),
    "another model": (
        (_other_theta, "refused"),
        (_other_weights, "refused"),
    ),
}
"""What makes each fault, and the outcome; adapters and frozen parts have tests of their own."""
