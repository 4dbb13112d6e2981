"""Compare the default recipe with the paper's on a pretrained model: equal bytes, equal tokens.

    python benchmarks/recipes_compare.py                       # 3 seeds
    python benchmarks/recipes_compare.py --seeds 5 --json out.json
    python benchmarks/recipes_compare.py --smoke               # takes a minute: a smoke test

Run from the root of the repository; ../shared/assets must exist. english-8m learns Hindi from 1 MB
of text, with +3,000 tokens.

- `default`: the default settings of vocabulary, initialisation and training, with a fifth of
  English added.
- `paper` (Tejaswi et al. 2024): tokens learned separately and appended, the base's regex, mean
  rows, all weights at one learning rate, documents cut, no replay.

Equal bytes: both are trained on the same number of bytes of Hindi. Equal tokens: the paper's recipe
is trained on as many tokens as the default one, English included. The paper's recipe runs with the
default's 2,048 tokens per step, and with 4,096, since smaller steps improve it as well. All train
on sequences of 256 tokens, as the base model was. Each seed is a run. The store caches finished
stages: a stopped comparison resumes, and further seeds only add their own runs. Intervals over
seeds are Student's t at 95%; a gain is source minus adapted.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from gpu.intervals import interval

import lingraft
from lingraft.measurement import select

RECIPE = Path("benchmarks/recipes/english-8m-hindi.yaml")
LANGUAGES = ("hi", "en")
DEFAULT, BYTES, TOKENS = "default", "paper, equal bytes", "paper, equal tokens"
LARGER = ", 4096 a step"
PAPERS = (BYTES, BYTES + LARGER, TOKENS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--bytes", default="1 MB", help="Hindi text, and what is trained on")
    parser.add_argument("--size", type=int, default=3000, help="tokens added")
    parser.add_argument("--heldout", default="100 kB", help="scored in each language")
    parser.add_argument(
        "--paper-rate",
        type=float,
        help="rate of the paper's recipe; left out: its default for the "
        "model's size, which is not in the paper's table",
    )
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--store", type=Path)
    parser.add_argument("--json", type=Path, help="write everything there, too")
    parser.add_argument("--smoke", action="store_true")
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.seeds, arguments.bytes, arguments.size, arguments.heldout = (
            2,
            "0.02 MB",
            100,
            "1 kB",
        )
    found: dict[str, list[dict[str, Any]]] = {arm: [] for arm in (DEFAULT, *PAPERS)}
    for seed in range(arguments.seeds):
        mine = carried_out(arguments, DEFAULT, seed)
        found[DEFAULT].append(mine)
        for arm in PAPERS:
            budget = f"{mine['tokens']} tokens" if TOKENS in arm else None
            found[arm].append(carried_out(arguments, arm, seed, budget))
    show(arguments, found)


def carried_out(
    arguments: argparse.Namespace, arm: str, seed: int, budget: str | None = None
) -> dict[str, Any]:
    """Run a recipe with a seed; return bits per byte before and after, and the training amounts."""
    size, rows = arguments.size, {"block_size": 256}
    budget = budget or arguments.bytes
    own: dict[str, Any] = {
        "vocabulary": {"size": size},
        "embeddings": {},
        "training": {"budget": budget, "packing": rows, "heldout_points": 0},
    }
    if arm != DEFAULT:
        plan: dict[str, Any] = {
            "plan": "paper",
            "budget": budget,
            "heldout_points": 0,
            "packing": {"layout": "documents", **rows},
        }
        if arguments.paper_rate or LARGER in arm:  # the same, written out
            plan = {
                "strategy": "full",
                "learning_rates": arguments.paper_rate or "paper",
                "replay_share": 0.0,
                "schedule": {"cosine": {"warmup": 0.03}},
                **({"batch_tokens": 4096} if LARGER in arm else {}),
                **{key: value for key, value in plan.items() if key != "plan"},
            }
        own = {
            "vocabulary": {"method": "append", "size": size, "pretokenizer": "keep"},
            "embeddings": "mean",
            "training": plan,
        }
    name = f"compare-{arm.replace(',', '').replace(' ', '-')}-{seed}"
    run = lingraft.adapt(
        RECIPE,
        overrides={
            "name": name,
            "seed": seed,
            "target.limit": {"bytes": arguments.bytes},
            **own,
            "evaluation": {
                "heldout_bytes": arguments.heldout,
                "context": 256,
                "generation": None,
                "bootstrap": {"resamples": 100},
            },
        },
        runs=arguments.runs,
        store=arguments.store,
    )
    measured = run.measurements
    bits = {
        subject: {
            language: select(measured, metric="bits per byte", language=language, subject=subject)[
                0
            ].value
            for language in LANGUAGES
        }
        for subject in ("source", "spliced", "adapted")
    }
    record = json.loads((run.folder / "run.json").read_text(encoding="utf-8"))
    notes = next(stage["notes"] for stage in record["stages"] if stage["name"] == "training")
    return {
        "seed": seed,
        "bits_per_byte": bits,
        "learning_rates": [phase["learning_rates"] for phase in notes["phases"]],
        **{
            key: notes[key]
            for key in ("tokens", "target_bytes", "replayed_bytes", "seconds", "target_epochs")
        },
    }


def show(arguments: argparse.Namespace, found: dict[str, list[dict[str, Any]]]) -> None:
    """Print the tables, and write everything where it was asked for."""
    source = found[DEFAULT][0]["bits_per_byte"]["source"]
    print(
        f"english-8m -> Hindi, {arguments.bytes}, +{arguments.size:,} tokens, "
        f"{arguments.seeds} seeds; before: Hindi {source['hi']:.3f} bits per byte, "
        f"English {source['en']:.3f}.\n"
    )
    print(
        "| recipe | Hindi spliced | Hindi adapted | gain | English adapted | English worse by | "
        "tokens | Hindi bytes | English bytes |\n|---|---|---|---|---|---|---|---|---|"
    )
    for arm, runs in found.items():
        bits = [run["bits_per_byte"] for run in runs]
        spliced, adapted = (
            [one[subject]["hi"] for one in bits] for subject in ("spliced", "adapted")
        )
        english = [one["adapted"]["en"] for one in bits]
        worse = 100 * (fmean(english) / source["en"] - 1)
        amounts = (
            f"{fmean(run[key] for run in runs):,.0f}"
            for key in ("tokens", "target_bytes", "replayed_bytes")
        )
        print(
            f"| {arm} | {interval(spliced)} | {interval(adapted)} | {interval(gains(bits))} | "
            f"{interval(english)} | {worse:.1f}% | {' | '.join(amounts)} |"
        )
    print()
    mine = gains([run["bits_per_byte"] for run in found[DEFAULT]])
    for arm in PAPERS:
        theirs = gains([run["bits_per_byte"] for run in found[arm]])
        pairs = [one - other for one, other in zip(mine, theirs, strict=True)]
        both = fmean(mine) > 0 < fmean(theirs)
        times = (
            f"{fmean(mine) / fmean(theirs):.2f} times as much"
            if both
            else "not both gain, so there is no ratio"
        )
        print(
            f"default against {arm}: {times}; {interval(pairs)} bits per byte more, paired by seed"
        )
    for arm, runs in found.items():
        rates = (
            f"body {one['body']:.2g}, added rows {one['added_rows']:.2g} ({one['why']})"
            for one in runs[0]["learning_rates"]
        )
        print(f"rates, {arm}: {'; '.join(rates)}")
    if arguments.json:
        values = {
            "settings": {key: str(value) for key, value in vars(arguments).items()},
            "runs": found,
        }
        arguments.json.write_text(
            json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )


def gains(bits: Sequence[dict[str, dict[str, float]]]) -> list[float]:
    """Return the bits per byte of Hindi that each run gained over the source."""
    return [one["source"]["hi"] - one["adapted"]["hi"] for one in bits]


if __name__ == "__main__":
    main()
