"""Compare the default recipe with the paper's and with training alone, each at its own best rate.

    python benchmarks/recipes_compare.py tune      # rate and batch of each recipe, on Hindi
    python benchmarks/recipes_compare.py compare   # four languages, three seeds, the rates of tune
    python benchmarks/recipes_compare.py compare --document-masks --runs runs/with-masks
    python benchmarks/recipes_compare.py tune compare --smoke    # a minute: a smoke test

Run from the root of the repository; ../shared/assets must exist. english-8m learns a language with
+3,000 tokens. `compared_recipes.py` has the recipes.

`tune` runs every recipe over the same grid of learning rates and batch sizes, on Hindi, one seed.
It scores documents that it holds out of the training file; `compare` scores the held-out file. The
trials of a recipe read the same bytes of Hindi, except those of `no added tokens`, which get the
training FLOPs of `default`: at equal bytes they would cost eight times as much.

`compare` trains on the same number of bytes of the language, on as many tokens as the default, or
with as many FLOPs (`lingraft.training.mfu`), replayed text included. A stopped run goes on where it
was: finished stages are cached. Intervals over seeds are Student's t at 95%, paired by seed.

A step of the paper's recipe is counted with the padding of its sequences, of which each holds one
document: a batch of 1,024 are four sequences, as many as in the other recipes.

`--document-masks` trains `default` and `no added tokens` with document masks, as lingraft does by
default. The paper's recipe packs no two documents into a sequence. The folder of runs needs the
`chosen.json` of `tune`, whose rates were chosen without masks.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from pathlib import Path
from statistics import fmean
from typing import Any

from transformers import AutoConfig, AutoModelForCausalLM

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import lingraft
from benchmarks.compared_recipes import ALONE, DEFAULT, PAPER, RECIPES, Point, settings_at
from benchmarks.gpu.intervals import interval
from lingraft.measurement import select
from lingraft.training.mfu import flops_per_token

BASE = "../shared/assets/models/english-8m"
TEXTS = "../shared/assets/text"
RECIPE = Path("benchmarks/recipes/english-8m-hindi.yaml")
ARMS = (
    (DEFAULT, "bytes"),
    (PAPER, "bytes"),
    (PAPER, "tokens"),
    (PAPER, "FLOPs"),
    (ALONE, "bytes"),
    (ALONE, "FLOPs"),
)
COMPARED = tuple(f"{recipe} at equal {equal}" for recipe, equal in ARMS[1:])
RATES = (1.3e-4, 2.6e-4, 5.2e-4, 1.04e-3, 2.08e-3)
BATCHES = (1024, 2048, 4096)
SEQUENCE = 256
"""Tokens of a sequence, as the base was trained; no batch is smaller."""
DOCUMENT = {"hi": 45, "ar": 37, "tr": 44, "ta": 46}
"""Mean tokens of a document of each text under `PAPER`, with 3,000 tokens added."""

Outcome = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="+", choices=("tune", "compare"))
    parser.add_argument("--languages", nargs="+", default=["hi", "tr", "ta", "ar"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--bytes", default="1 MB", help="text of the language to train on")
    parser.add_argument("--size", type=int, default=3000, help="tokens added")
    parser.add_argument("--rates", type=float, nargs="+", default=RATES)
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES)
    parser.add_argument("--heldout", default="100 kB", help="scored in each language")
    parser.add_argument("--runs", type=Path, default=Path("runs/recipes-compare"))
    parser.add_argument("--document-masks", action="store_true", help="see above")
    parser.add_argument(
        "--only", nargs="+", choices=COMPARED, default=COMPARED, help="what is compared"
    )
    parser.add_argument("--smoke", action="store_true")
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.languages, arguments.seeds, arguments.bytes = ["hi"], 2, "0.02 MB"
        arguments.rates, arguments.batches = RATES[1:3], BATCHES[:1]
        arguments.size, arguments.heldout = 100, "2 kB"
    chosen = arguments.runs / "chosen.json"
    if "tune" in arguments.parts:
        points = tune(arguments)
        values = {recipe: [point.rate, point.batch] for recipe, point in points.items()}
        chosen.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    if "compare" in arguments.parts:
        if not chosen.is_file():
            parser.error(f"{chosen} does not exist: run `tune` first")
        read = json.loads(chosen.read_text(encoding="utf-8"))
        points = {recipe: Point(*point) for recipe, point in read.items()}
        for language in arguments.languages:
            show(language, arguments, compare(arguments, language, points))


def tune(arguments: argparse.Namespace) -> dict[str, Point]:
    """Train each recipe at every point of the grid; return the best points and print all."""
    grid = [Point(*pair) for pair in itertools.product(arguments.rates, arguments.batches)]
    print(
        f"Hindi bits per byte after {arguments.bytes}, on documents held out of its training file\n"
    )
    print(f"| recipe | rate | {' | '.join(f'{batch:,} a step' for batch in arguments.batches)} |")
    print(f"|---|---|{'---|' * len(arguments.batches)}")
    best: dict[str, Point] = {}
    compute = 0.0
    for recipe in RECIPES:
        found: dict[Point, float] = {}
        for point in grid:
            budget = ("FLOPs", compute) if recipe == ALONE else ("bytes", 0.0)
            outcome = train(arguments, "hi", recipe, point, budget=budget, is_trial=True)
            found[point] = outcome["adapted"]["hi"]
            if recipe == DEFAULT:
                compute = outcome["flops"]
        for rate in arguments.rates:
            cells = " | ".join(f"{found[Point(rate, batch)]:.4f}" for batch in arguments.batches)
            print(f"| {recipe} | {rate:.3g} | {cells} |")
        best[recipe] = min(found, key=lambda point: found[point])
    print()
    for recipe, point in best.items():
        print(f"{recipe}: rate {point.rate:.3g}, {point.batch:,} tokens a step")
        for name, value, values in (
            ("rate", point.rate, arguments.rates),
            ("batch", point.batch, arguments.batches),
        ):
            is_least = name == "batch" and value == SEQUENCE
            if value in {min(values), max(values)} and not is_least:
                print(f"  the {name} is at an edge of the grid: widen it")
    return best


def compare(
    arguments: argparse.Namespace, language: str, points: dict[str, Point]
) -> dict[tuple[str, str], list[Outcome]]:
    """Train every arm with every seed."""
    chosen = [arm for arm, name in zip(ARMS[1:], COMPARED, strict=True) if name in arguments.only]
    arms = [ARMS[0], *chosen]
    found: dict[tuple[str, str], list[Outcome]] = {arm: [] for arm in arms}
    for seed in range(arguments.seeds):
        for recipe, equal in arms:
            amount = 0.0 if equal == "bytes" else found[DEFAULT, "bytes"][seed][equal.lower()]
            outcome = train(
                arguments, language, recipe, points[recipe], seed=seed, budget=(equal, amount)
            )
            found[recipe, equal].append(outcome)
    return found


def train(
    arguments: argparse.Namespace,
    language: str,
    recipe: str,
    point: Point,
    *,
    seed: int = 0,
    budget: tuple[str, float] = ("bytes", 0.0),
    is_trial: bool = False,
) -> Outcome:
    """Run a recipe; return its bits per byte by language, and its tokens, bytes and FLOPs.

    A budget of bytes is that of the arguments; of tokens or FLOPs, the amount given.
    """
    equal, amount = budget
    name = f"{language}-{recipe}-{equal}-{point.rate:g}-{point.batch}-{seed}".replace(" ", "-")
    written = arguments.bytes
    if equal != "bytes":
        tokens = amount / (flops_a_token(recipe, arguments) if equal == "FLOPs" else 1)
        written = f"{round(tokens)} tokens"
    sequences = point.batch // SEQUENCE
    if recipe == PAPER:  # a recipe counts a step without padding
        point = Point(point.rate, sequences * DOCUMENT[language])
    settings = settings_at(recipe, point, added=arguments.size, block=SEQUENCE)
    masks = {"document_attention_mask": arguments.document_masks and recipe != PAPER}
    run = lingraft.adapt(
        RECIPE,
        overrides={
            "name": f"{'trial-' if is_trial else ''}{name}",
            "seed": seed,
            "target": texts(language, arguments, is_trial=is_trial),
            **settings,
            "training": {"budget": written, **masks, **settings["training"]},
            "evaluation": {
                "heldout_bytes": arguments.heldout,
                "context": 256,
                "generation": None,
                "bootstrap": {"resamples": 100},
            },
        },
        runs=arguments.runs,
    )
    record = json.loads((run.folder / "run.json").read_text(encoding="utf-8"))
    notes = next(stage["notes"] for stage in record["stages"] if stage["name"] == "training")
    read = notes["phases"][0]["rows_of_a_step"]
    if recipe == PAPER and read != sequences and not arguments.smoke:
        msg = f"{run.folder}: a step has {read} documents instead of {sequences}; mend DOCUMENT"
        raise SystemExit(msg)
    return {
        **{subject: bits(run, subject, language) for subject in ("source", "adapted")},
        "tokens": notes["tokens"],
        "flops": notes["tokens"] * flops_a_token(recipe, arguments),
        "bytes": notes["target_bytes"],
    }


def texts(language: str, arguments: argparse.Namespace, *, is_trial: bool) -> dict[str, Any]:
    """Return the target text; a trial holds documents out of the training file."""
    heldout = None if is_trial else f"{TEXTS}/{language}.heldout.jsonl.gz"
    return {
        "language": language,
        "corpus": f"{TEXTS}/{language}.train.jsonl.gz",
        "heldout": heldout,
        "heldout_bytes": arguments.heldout,
        "limit": {"bytes": 12_000_000},
    }


def flops_a_token(recipe: str, arguments: argparse.Namespace) -> float:
    """Return the training FLOPs of a token of english-8m, whose input embedding is looked up."""
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(BASE))
    weights = model.num_parameters() - model.get_input_embeddings().weight.numel()
    head = 0 if recipe == ALONE else arguments.size * model.config.hidden_size
    return flops_per_token(weights + head, weights + head)


def bits(run: Any, subject: str, language: str) -> dict[str, float]:
    """Return the bits per byte of a model, by language."""
    return {
        text: select(run.measurements, metric="bits per byte", language=text, subject=subject)[
            0
        ].value
        for text in (language, "en")
    }


def show(
    language: str, arguments: argparse.Namespace, found: dict[tuple[str, str], list[Outcome]]
) -> None:
    """Print the table of a language, with differences from the default paired by seed."""
    source = found[DEFAULT, "bytes"][0]["source"]
    print(
        f"\n{language}, {arguments.bytes}, +{arguments.size:,} tokens, {arguments.seeds} seeds; "
        f"before: {source[language]:.3f} bits per byte, English {source['en']:.3f}\n\n"
        "| recipe | equal | bits per byte | more than the default | English | English worse by | "
        "tokens | bytes |\n|---|---|---|---|---|---|---|---|"
    )
    ours = [one["adapted"][language] for one in found[DEFAULT, "bytes"]]
    for (recipe, equal), runs in found.items():
        theirs = [one["adapted"][language] for one in runs]
        pairs = [other - mine for other, mine in zip(theirs, ours, strict=True)]
        english = [one["adapted"]["en"] for one in runs]
        worse = fmean(english) / source["en"] - 1
        more = "" if recipe == DEFAULT else interval(pairs)
        print(
            f"| {recipe} | {equal} | {interval(theirs)} | {more} | {interval(english)} | "
            f"{worse:+.1%} | "
            f"{fmean(one['tokens'] for one in runs):,.0f} | "
            f"{fmean(one['bytes'] for one in runs):,.0f} |"
        )


if __name__ == "__main__":
    main()
