"""The recipes that pieces b, c and f carry out, made from what the pack holds.

The same function prepares text when the pack is made, so that the run finds it in the store.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.compared_recipes import ALONE, PAPER, REPLAYED, Point, settings_at
from benchmarks.gpu.unpack import VECTORS
from lingraft.recipe import Recipe, parse_recipe
from lingraft.recipe.tree import Tree

FACTS = "facts.json"


@dataclass(frozen=True)
class Sizes:
    """How much is added, trained on and scored. `megabytes` is text in the target language.

    Piece f adds `tuned_added` tokens, reads at most `tuned_text` bytes, trains on `tuned_megabytes`
    of them, and tries each of `rates` with each of `batches`.
    """

    added: int = 8000
    megabytes: float = 6.0
    init_megabytes: float = 1.0
    block: int = 1024
    heldout: str = "100 kB"
    points: int = 8
    seeds: int = 3
    tuned_added: int = 3000
    tuned_text: int = 3_000_000
    tuned_megabytes: float = 1.0
    rates: tuple[float, ...] = (3e-5, 1e-4, 3e-4, 1e-3)
    batches: tuple[int, ...] = (2048, 8192)


SMOKE = Sizes(
    added=60,
    megabytes=0.02,
    init_megabytes=0.004,
    block=64,
    heldout="1 kB",
    points=2,
    seeds=1,
    tuned_added=40,
    tuned_text=50_000,
    tuned_megabytes=0.004,
    rates=(1e-3,),
    batches=(128,),
)


@dataclass(frozen=True)
class Base:
    """What is adapted.

    A model folder, text in Hindi (hi) and English (en), and what was made beforehand.

    `vectors` are those of FOCUS, in a file; without it, that initialization is left out.
    """

    name: str
    folder: Path
    text: Path
    store: Path
    sizes: Sizes
    vectors: Path | None = None


def read_base(folder: Path, text: Path, store: Path, *, smoke: bool) -> Base:
    """Read what `facts.json` of a model folder says of it."""
    facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    vectors = folder.parent / VECTORS
    sizes = SMOKE if smoke else replace(Sizes(), block=facts["block"])
    return Base(facts["name"], folder, text, store, sizes, vectors if vectors.is_file() else None)


def recipe_of(base: Base, arm: str, seed: int) -> Recipe:
    """Return the recipe of an arm.

    Trained on the same bytes of Hindi, everything else as the arm has it.

    `default`: lingraft's own defaults. `paper`: Tejaswi et al. 2024 (arXiv 2406.14670): tokens
    learned apart and appended, the base's regex, mean rows, all weights at one rate, documents cut,
    no replay. `no added tokens`: the defaults with the base's own tokenizer, English replayed as in
    `default`.
    """
    sizes = base.sizes
    training: dict[str, Any] = {
        "budget": f"{sizes.megabytes} MB",
        "packing": {"block_size": sizes.block},
        "heldout_points": sizes.points,
    }
    vocabulary: dict[str, Any] = {"size": sizes.added}
    embeddings: Any = {}
    if arm == PAPER:
        training["plan"] = "paper"
        vocabulary |= {"method": "append", "pretokenizer": "keep"}
        embeddings = "mean"
    if arm == ALONE:
        vocabulary["size"] = 0
    values = {
        "name": f"{arm.replace(' ', '-')}-{seed}",
        "seed": seed,
        "model": {"folder": {"path": str(base.folder)}},
        "target": _text(base, "hi"),
        "replay": {**_text(base, "en"), "share": REPLAYED},
        "vocabulary": vocabulary,
        "embeddings": embeddings,
        "training": training,
        "evaluation": _evaluation(sizes),
    }
    return parse_recipe(Tree(values))


def tuned_recipe(
    base: Base, arm: str, point: Point, seed: int, budget: str, *, is_trial: bool
) -> Recipe:
    """Return the recipe of an arm at given rate and batch.

    A trial scores documents that are held out of the training text, so that the text
    on which arms are compared has no part in the choice.
    """
    sizes = base.sizes
    target = {**_text(base, "hi"), "limit": {"bytes": sizes.tuned_text}}
    if is_trial:
        target |= {"heldout": None, "heldout_bytes": sizes.heldout}
    settings = settings_at(arm, point, added=sizes.tuned_added, block=sizes.block)
    kind = "trial" if is_trial else "run"
    name = f"{kind}-{arm}-{point.rate:g}-{point.batch}-{budget}-{seed}"
    values = {
        "name": name.replace(" ", "-"),
        "seed": seed,
        "model": {"folder": {"path": str(base.folder)}},
        "target": target,
        "replay": {**_text(base, "en"), "share": settings.pop("replay.share")},
        **settings,
        "training": {"budget": budget, **settings["training"]},
        "evaluation": _evaluation(sizes),
    }
    return parse_recipe(Tree(values))


def _evaluation(sizes: Sizes) -> dict[str, Any]:
    return {
        "heldout_bytes": sizes.heldout,
        "context": sizes.block,
        "generation": None,
        "bootstrap": {"resamples": 100},
    }


def _text(base: Base, language: str) -> dict[str, Any]:
    return {
        "language": language,
        "corpus": str(base.text / f"{language}.train.jsonl.gz"),
        "heldout": str(base.text / f"{language}.heldout.jsonl.gz"),
    }
