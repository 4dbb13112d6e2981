"""Compare initialisations on a pretrained model: the same training after each, over several seeds.

    python benchmarks/inits.py              # random, mean, calibrated; 3 seeds
    python benchmarks/inits.py --size 256 --inits random,mean,calibrated,focus,align,learned
    python benchmarks/inits.py --smoke      # takes seconds: a smoke test

Run from the root of the repository; ../shared/assets must exist. The script runs `lingraft probe`
on english-8m with 1 MB of Hindi and a fifth of English added. Everything else is as in
benchmarks/recipes/english-8m-hindi.yaml (+3,000 tokens, the regex repaired). --steps 0 is one pass
over that text. Scores are cached in --store: a stopped run resumes, and a further init only adds
its own runs. Differences are paired by seed; intervals are Student's t at 95%. `learned` sees more
text than the others; the output says how much.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from statistics import fmean, stdev

from scipy.stats import t

from lingraft.recipe import Runtime, load_recipe
from lingraft.studies import Probe, ProbeOutcome, inits_of, run_probe

TOKENS_OF_A_MEGABYTE = {256: 430_000, 3000: 201_000}
"""Of target and replayed text, with so many tokens added: what one pass comes to."""
STEP_TOKENS = 4096


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--recipe", type=Path, default=Path("benchmarks/recipes/english-8m-hindi.yaml")
    )
    parser.add_argument("--inits", default="random,mean,calibrated")
    parser.add_argument("--size", type=int, default=3000, help="tokens added")
    parser.add_argument("--megabytes", type=float, default=1.0, help="text in the target language")
    parser.add_argument(
        "--steps", type=int, default=40, help="of 4,096 tokens; 0: one pass over the text"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--heldout", default="50 kB", help="scored in each language")
    parser.add_argument("--store", type=Path, default=Path("runs/.store"))
    parser.add_argument("--json", type=Path, help="write everything there, too")
    parser.add_argument("--smoke", action="store_true")
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.size, arguments.megabytes, arguments.steps, arguments.seeds = 100, 0.1, 2, 2
        arguments.heldout = "2 kB"
    nearest = min(TOKENS_OF_A_MEGABYTE, key=lambda size: abs(size - arguments.size))
    steps = arguments.steps or math.ceil(
        TOKENS_OF_A_MEGABYTE[nearest] * arguments.megabytes / STEP_TOKENS
    )
    settings = {
        "vocabulary.size": arguments.size,
        "target.limit.bytes": int(arguments.megabytes * 1e6),
        "evaluation.heldout_bytes": arguments.heldout,
        "training.batch_tokens": 256 if arguments.smoke else STEP_TOKENS,
    }
    if arguments.smoke:
        settings["replay.limit.bytes"] = 200_000
    recipe = load_recipe(arguments.recipe, [f"{path}={value}" for path, value in settings.items()])
    begun, used = time.monotonic(), time.process_time()
    found = run_probe(
        recipe,
        Probe(inits_of(arguments.inits), steps, arguments.seeds),
        Runtime(store=arguments.store),
        log=lambda line: print(line, flush=True),
    )
    print(
        f"\n+{arguments.size} tokens, {arguments.megabytes:g} MB of {recipe.target.language}, "
        f"{steps} steps of {settings['training.batch_tokens']} tokens, "
        f"{arguments.seeds} seeds, {arguments.heldout} scored\n"
    )
    print(table(found))
    print(*found.sentences(), sep="\n")
    print(f"{time.monotonic() - begun:.0f} s, {time.process_time() - used:.0f} s of processor")
    written = json.dumps(
        {"size": arguments.size, "megabytes": arguments.megabytes, **found.as_json()}, indent=1
    )
    if arguments.json:
        arguments.json.write_text(written, encoding="utf-8")
    else:
        print(written)


def table(found: ProbeOutcome) -> str:
    """Return a Markdown table: each init before and after, and its difference to the first."""
    first = found.inits[0]
    heads = [
        f"{language} {what}"
        for language in found.languages
        for what in ("step 0", f"step {found.steps}", f"minus {first}")
    ]
    lines = [f"| rows | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for init in found.inits:
        cells = []
        for language in found.languages:
            cells += [
                mean(found.values(init, language, subject)) for subject in ("spliced", "adapted")
            ]
            cells.append("" if init == first else against(found, first, init, language))
        lines.append(f"| {init} | {' | '.join(cells)} |")
    return "\n".join(lines)


def mean(values: list[float]) -> str:
    """Return the mean over seeds with its interval, which needs two different values."""
    if len(set(values)) < 2:
        return f"{values[0]:.4f}"
    half = float(t.ppf(0.975, len(values) - 1)) * stdev(values) / math.sqrt(len(values))
    return f"{fmean(values):.4f} ± {half:.4f}"


def against(found: ProbeOutcome, first: str, init: str, language: str) -> str:
    """Return the paired difference to the first init."""
    difference = found.difference(first, init, language)
    low, high = difference.interval() or (math.nan, math.nan)
    return f"{difference.value:+.4f} ({low:+.4f} to {high:+.4f})"


if __name__ == "__main__":
    main()
