"""What a stage will cost before it has run: rough on purpose, and marked as an estimate wherever it is shown.

Training costs 6 FLOPs and reading 2 for each token and each parameter that is multiplied (all but the input
embedding). Seconds are FLOPs over the speed of this machine's own matrix product, of which a model reaches a part.
"""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path
from typing import Any

from lingraft.corpus import CorpusSettings, Source
from lingraft.corpus.text_files import find_files
from lingraft.errors import LingraftError
from lingraft.recipe import Recipe

COMPRESSION = 4.0
"""Bytes of text in a byte of a .gz or .zst file: 3.6 (English) to 6.2 (Tamil) in news text."""

BYTES_PER_TOKEN = {"before": 1.6, "after": 6.5}
"""Of a language that the tokenizer was not made for, and of the same language when thousands of tokens were added."""

LEARNING_SECONDS_PER_BYTE = 1.2e-6
READING_SECONDS_PER_BYTE = 0.5e-6
EFFICIENCY = 0.45
"""The part of the speed of a large matrix product that training and scoring of small models reach."""


def text_bytes(settings: CorpusSettings) -> int | None:
    """Return about how many bytes of train text the settings give, `None` where nothing is known of it."""
    sizes = [_source_bytes(source) for source in settings.sources]
    known = (
        sum(size for size in sizes if size is not None)
        if all(size is not None for size in sizes)
        else None
    )
    bounds = [
        size
        for size in (known, settings.limit.bytes if settings.limit else None)
        if size is not None
    ]
    return min(bounds) if bounds else None


def _source_bytes(source: Source) -> int | None:
    limit = source.limit.bytes if source.limit and source.limit.bytes else None
    if source.miniature is not None:
        return limit or source.miniature.stories * 300
    if source.path is None:
        return limit
    try:
        files = [Path(str(file)) for file in find_files(source.path)]
    except LingraftError:
        return limit
    size = round(
        sum(
            file.stat().st_size * (COMPRESSION if file.suffix in {".gz", ".zst"} else 1)
            for file in files
        )
    )
    return min(size, limit) if limit else size


def parameters_of(config: dict[str, Any]) -> tuple[int | None, int]:
    """Return how many parameters a configuration gives, and how many of them are the input embedding.

    They are not known beforehand (`None`, 0) where transformers has no such type: the model brings code of its own.
    """
    from transformers import AutoConfig
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    from lingraft.checkpoint.load_model import meta_model

    if config["model_type"] not in CONFIG_MAPPING_NAMES:
        return None, 0
    settings = {key: value for key, value in config.items() if key != "model_type"}
    built = AutoConfig.for_model(config["model_type"], **settings)
    model = meta_model(built)
    total = sum(parameter.numel() for parameter in model.parameters())
    return total, model.get_input_embeddings().weight.numel()


def training_tokens(
    recipe: Recipe,
    target_bytes: int | None,
    target_tokens: int | None,
    block: int,
    *,
    replay_bytes_per_token: float | None = None,
) -> int | None:
    """Return about how many tokens the plan predicts, replayed ones included.

    A share of replay is a share of the bytes. Without `replay_bytes_per_token`, replayed text is taken to need as many
    tokens a byte as the target's.
    """
    total = 0.0
    share = recipe.replay.portion if recipe.replay else 0.0
    for phase in recipe.training.phases:
        unit, amount = phase.budget.amount
        if unit == "tokens":
            total += amount
            continue
        if unit == "steps":
            total += amount * (phase.batch_tokens or block * 8)
            continue
        if target_bytes is None or target_tokens is None or unit == "documents":
            return None
        part = amount if unit == "epochs" else amount / max(target_bytes, 1)
        portion = share if phase.replay_share is None else phase.replay_share
        replayed = part * portion / (1 - portion)
        total += part * target_tokens
        total += replayed * (
            target_bytes / replay_bytes_per_token if replay_bytes_per_token else target_tokens
        )
    return round(total)


@cache
def flops_per_second(device: str) -> float:
    """Measure this machine's matrix product in float32: the fastest of half a second, in which others compute."""
    import torch

    size = 512 if device == "cpu" else 4096
    left = torch.rand(size, size, device=device)
    left @ left
    started, fastest = time.perf_counter(), float("inf")
    while time.perf_counter() - started < 0.5:
        begun = time.perf_counter()
        float((left @ left)[0, 0])
        fastest = min(fastest, time.perf_counter() - begun)
    return 2 * size**3 / fastest
