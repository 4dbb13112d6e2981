"""Extend one small random model of an architecture and compare it, as transformers reads it.

`extend` builds a model of a type from its small configuration, saves it, adds tokens, and loads
both with the class that the folder names. `problems` lists what is wrong with the result; an empty
list is the claim of support.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lingraft.checkpoint import Checkpoint, embedding_names, resize_embeddings
from lingraft.checkpoint.model_class import auto_class, read_model_config
from lingraft.embeddings import INITS
from lingraft.splice import Splice
from tests.models import IDS, extended_tokenizer, write_tokenizer
from tests.tiny_configs import tiny_config

MEAN = INITS.parse("mean")
LARGEST = 25_000_000
BASE_IDS = [[5, 70, 80, 290, 299, 7, 8, 20, 21, 22, 23, 24, 25, 26, 27, 28]]


class CannotBuild(Exception):  # noqa: N818 - said of the test's own small model
    """A small model of this type cannot be built or run from a configuration alone."""


@dataclass(frozen=True)
class Extended:
    """A model folder before and after an extension, both loaded."""

    source: Path
    result: Path
    splice: Splice
    notes: dict[str, Any]
    before: Any
    after: Any
    accounts: tuple[dict[str, Any], dict[str, Any]]


def build(kind: str, folder: Path, *, dtype: str = "float32", **settings: Any) -> Path:
    """Save a small random model of a type with its tokenizer; raises `CannotBuild`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            config = tiny_config(kind, **settings)
        except Exception as error:
            raise _cannot(error) from error
        made_by = auto_class(config)
        try:
            model = random_model(made_by, config).to(getattr(torch, dtype))
            run(model, BASE_IDS)
        except Exception as error:
            raise _cannot(error) from error
        model.save_pretrained(folder, max_shard_size="60KB")
    write_tokenizer(folder)
    return folder


def _cannot(error: Exception) -> CannotBuild:
    return CannotBuild(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")


def random_model(made_by: Any, config: Any) -> Any:
    """Return a model with random numbers; raises `CannotBuild` for a large one."""
    with torch.device("meta"):
        size = sum(parameter.numel() for parameter in made_by.from_config(config).parameters())
    if size > LARGEST:
        msg = f"{size:,} parameters"
        raise CannotBuild(msg)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = made_by.from_config(config).eval()
        randomise(model)
    return model


def randomise(model: Any) -> None:
    """Fill weights that begin as zeros or ones, so that a lost tensor would change the logits."""
    for name, tensor in model.state_dict().items():
        if tensor.dtype == torch.long and "tid2eid" in name:
            experts = model.config.get_text_config().num_local_experts
            tensor.copy_(
                torch.stack(
                    [torch.randperm(experts)[: tensor.shape[1]] for _ in range(len(tensor))]
                )
            )
        elif tensor.is_floating_point() and (tensor.dim() == 1 or not tensor.any()):
            tensor.add_(torch.randn_like(tensor) * 0.02)


def extend(kind: str, root: Path, **settings: Any) -> Extended:
    """Extend a small model of a type and load both.

    Raises `CannotBuild`, or `ModelError` where the model is refused.
    """
    source = build(kind, root / "source", **settings)
    return extend_folder(source, root)


def extend_folder(source: Path, root: Path) -> Extended:
    """Extend a model folder and load both."""
    splice = extended_tokenizer(source, root / "tokenizer")
    notes = resize_embeddings(
        source, root / "tokenizer", splice, input_init=MEAN, output_init=MEAN, output=root / "model"
    )
    before, after = load(source), load(root / "model")
    return Extended(
        source, root / "model", splice, notes, before[0], after[0], (before[1], after[1])
    )


def load(folder: Path) -> tuple[Any, dict[str, Any]]:
    """Load a folder with its own class; return the model and transformers' report on tensors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, account = auto_class(read_model_config(folder)).from_pretrained(
            folder, output_loading_info=True
        )
    return model.eval(), account


def run(model: Any, ids: list[list[int]], **inputs: Any) -> torch.Tensor:
    """Return the logits of these ids."""
    with torch.inference_mode():
        logits: torch.Tensor = model(input_ids=torch.tensor(ids), use_cache=False, **inputs).logits
    return logits


def problems(found: Extended) -> Iterator[str]:
    """Yield what is wrong with an extension."""
    for which, account in zip(("source", "result"), found.accounts, strict=True):
        for kind, names in account.items():
            if names and which == "result":
                yield f"{kind} of the {which}: {sorted(map(str, names))[:3]}"
    yield from _numbers(found)
    yield from _files(found)


def _numbers(found: Extended) -> Iterator[str]:
    before, after = run(found.before, BASE_IDS), run(found.after, BASE_IDS)
    width = min(IDS, before.shape[-1])
    if not torch.equal(before[..., :width], after[..., :width]):
        far = float((before[..., :width] - after[..., :width]).abs().max())
        yield f"logits of base ids differ by up to {far:.2g}"
    new = [token.id for token in found.splice.added]
    logits = run(found.after, [[*BASE_IDS[0][: 16 - len(new)], *new]])
    if not bool(logits.isfinite().all()) or logits.shape[-1] < found.splice.target_size:
        yield "new ids have no finite logits"
    tied = [
        model.get_input_embeddings().weight is model.get_output_embeddings().weight
        for model in (found.before, found.after)
    ]
    if tied[0] != tied[1]:
        yield f"tied {tied[0]} became {tied[1]}"
    for token in found.splice.added:
        for one, other in zip(_matrices(found.before), _matrices(found.after), strict=True):
            if not torch.equal(
                other[token.id], one[list(token.pieces)].double().mean(dim=0).to(one.dtype)
            ):
                yield f"the row of {token.text!r} is not the mean of its pieces"
                return


def _matrices(model: Any) -> list[torch.Tensor]:
    return [model.get_input_embeddings().weight, model.get_output_embeddings().weight]


def _files(found: Extended) -> Iterator[str]:
    before, after = Checkpoint.open(found.source), Checkpoint.open(found.result)
    differing = sorted(before.tensors.keys() ^ after.tensors.keys())
    if differing:
        yield f"names of tensors changed: {differing[:3]}"
    changed = set(embedding_names(before).all)
    for name in before.tensors.keys() & after.tensors.keys():
        one, other = before.tensors[name], after.tensors[name]
        if one.dtype != other.dtype:
            yield f"dtype of {name}: {one.dtype} became {other.dtype}"
        if name not in changed and one.shape != other.shape:
            yield f"shape of {name}: {one.shape} became {other.shape}"
        if IDS in one.shape and name not in changed and one.shape[0] == IDS:
            yield f"{name} has {IDS} entries and stays behind"
    if after.index is not None:
        wrong = [
            name
            for name, file in after.index["weight_map"].items()
            if name not in after.tensors or after.tensors[name].file.name != file
        ]
        total = sum(place.end - place.begin for place in after.tensors.values())
        if (
            wrong
            or json.loads((found.result / "model.safetensors.index.json").read_text())["metadata"][
                "total_size"
            ]
            != total
        ):
            yield f"the index is wrong: {wrong[:3]}"


def image_inputs(model: Any) -> dict[str, torch.Tensor]:
    """Return a random image with its tokens, in the form that a multimodal model takes."""
    config, kind = model.config, model.config.model_type
    seed = torch.Generator().manual_seed(1)
    vision = getattr(config, "vision_config", None)
    token = next(
        getattr(config, name)
        for name in ("image_token_id", "image_token_index")
        if isinstance(getattr(config, name, None), int)
    )
    if hasattr(vision, "spatial_merge_size") and "qwen" in kind:
        grid, side = (1, 4, 4), vision.spatial_merge_size
        patch = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
        pixels = torch.randn(16, patch, generator=seed)
        ids = [5, config.vision_start_token_id, *[token] * (16 // side**2), 6, 7]
        return {
            "input_ids": torch.tensor([ids]),
            "pixel_values": pixels,
            "image_grid_thw": torch.tensor([grid]),
            "mm_token_type_ids": torch.tensor([[int(i == token) for i in ids]]),
        }
    side = vision.image_size if isinstance(getattr(vision, "image_size", None), int) else 28
    pixels = torch.randn(1, 3, side, side, generator=seed)
    extra: dict[str, Any] = {"pixel_values": pixels}
    if kind == "mistral3":
        extra["image_sizes"] = torch.tensor([[side, side]])
    if kind in {"idefics3", "smolvlm"}:
        extra["pixel_values"] = pixels[:, None]
    if kind == "gemma4":
        patch = 3 * vision.patch_size**2
        extra = {
            "pixel_values": torch.randn(1, 36, patch, generator=seed),
            "image_position_ids": torch.stack(
                torch.meshgrid(torch.arange(6), torch.arange(6), indexing="ij"), dim=-1
            ).reshape(1, 36, 2),
        }
    if kind == "lfm2_vl":
        patch = 3 * vision.patch_size**2
        extra = {
            "pixel_values": torch.randn(1, 16, patch, generator=seed),
            "pixel_attention_mask": torch.ones(1, 16, dtype=torch.long),
            "spatial_shapes": torch.tensor([[4, 4]]),
        }
    with torch.inference_mode():
        features = model.get_image_features(**extra)
    pooled = getattr(features, "pooler_output", features)
    features = features.last_hidden_state if pooled is None else pooled
    features = features[0] if isinstance(features, (list, tuple)) else features
    count = features.numel() // features.shape[-1]
    ids = [5, *[token] * count, 6, 7]
    return {"input_ids": torch.tensor([ids]), **extra}
