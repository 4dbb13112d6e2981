"""Compare predictions with measurements on real text: tokens per byte, and bits per byte of a run.

    python benchmarks/advice.py [small|full] [RUNS] [LANGUAGE...]
    python benchmarks/advice.py tokens

Run from the root of the repository; ../shared/assets must exist. Each recipe in
benchmarks/recipes/english-8m-*.yaml is run (stages in the store are reused). Its predictions use
only what was known before: tokens per byte from the base tokenizer, the training text and the
held-out text; the final bits per byte from the first part of the training log. `small` takes 10
minutes per language on 2 cores; `full` needs a GPU. `tokens` checks tokenizers only: it predicts
from a sample, then learns the tokens from 12 MB (or all the text, if there is less) and counts the
tokens of the same held-out file.
"""

from __future__ import annotations

import sys
from pathlib import Path

from diagnose import LEARNED_FROM, Case, measured

import lingraft
from lingraft.advice import check_predictions, measure, read_sample, tokens_per_byte
from lingraft.forecast.predict_fertility import predict_fertility
from lingraft.pretokenizer import make_mark_aware
from lingraft.tokenizer import family_of, open_tokenizer
from lingraft.vocabulary.auto_size import SIZES

BUDGETS = {"small": "0.4 MB", "full": "8 MB"}
LANGUAGES = ("hindi", "turkish", "arabic", "tamil")
ADDED = (2_500, 8_500)
SAMPLES = (2_000_000, 8_000_000)
TARGETS = {"tokens per byte": 0.01, "bits per byte": 0.03}


def main() -> None:
    """Run the recipes and print predictions next to measurements."""
    scale = sys.argv[1] if len(sys.argv) > 1 else "small"
    if scale == "tokens":
        tokens()
        return
    runs = Path(sys.argv[2] if len(sys.argv) > 2 else "runs")
    print("| run | metric | predicted (95% interval) | measured | error | target | inside |")
    print("|---|---|---|---|---|---|---|")
    for language in sys.argv[3:] or LANGUAGES:
        run = lingraft.adapt(
            Path("benchmarks/recipes") / f"english-8m-{language}.yaml",
            runs=runs,
            overrides={
                "name": f"advice-{language}",
                "training.budget": BUDGETS[scale],
                "training.batch_tokens": 1024,
                "training.heldout_points": 20,
                "target.limit.bytes": "3 MB",
                "evaluation.heldout_bytes": "50 kB",
                "evaluation.generation": None,
            },
        )
        for row in check_predictions(run.folder):
            one, target = row.prediction, TARGETS.get(row.prediction.metric)
            print(
                f"| english-8m, {language} | {one.metric} | "
                f"{one.value:.4g} ({one.low:.4g} to {one.high:.4g}) | "
                f"{row.measured:.4g} | {row.error:+.1%} | {f'{target:.0%}' if target else ''} | "
                f"{'yes' if row.within else 'no'} |",
                flush=True,
            )


def tokens() -> None:
    """Print predicted and counted tokens per byte, for samples of two sizes."""
    print(
        "| tokenizer | language | added | from | predicted (95% interval) | "
        "counted | error | inside |"
    )
    print("|---|---|---|---|---|---|---|---|")
    errors: dict[int, list[float]] = {size: [] for size in SAMPLES}
    for language in ("hi", "ta", "tr", "ar"):
        train = f"../shared/assets/text/{language}.train.jsonl.gz"
        everything = read_sample(language, [train], LEARNED_FROM)
        heldout = read_sample(language, [train.replace(".train.", ".heldout.")], LEARNED_FROM)
        for name in ("llama2", "qwen2"):
            base = open_tokenizer(Path("../shared/assets/tokenizers") / name)
            fixed = make_mark_aware(base.family.data)
            family = family_of(fixed, base.folder) if fixed else base.family
            case = Case(language, name, base, everything, everything, heldout)
            counted, now = (
                measured(case, family, list(ADDED)),
                measure(base, heldout.documents).tokens_per_byte,
            )
            for size in SAMPLES:
                documents = read_sample(language, [train], size).documents
                curves = predict_fertility(
                    base.family,
                    family if fixed else None,
                    documents,
                    everything.bytes,
                    evaluated=heldout.documents,
                    sizes=sorted({*SIZES, *ADDED}),
                )
                for added in ADDED:
                    if not curves:
                        continue
                    value, low, high = tokens_per_byte(now, curves[-1]).at(added)
                    found = now / counted[added]
                    errors[size].append(abs(value / found - 1))
                    print(
                        f"| {name} | {language} | {added:,} | {size / 1e6:.0f} MB | "
                        f"{value:.4f} ({low:.4f} to {high:.4f}) | "
                        f"{found:.4f} | {value / found - 1:+.1%} | "
                        f"{'yes' if low <= found <= high else 'no'} |",
                        flush=True,
                    )
    for size, missed in errors.items():
        print(
            f"from {size / 1e6:.0f} MB: mean error {sum(missed) / len(missed):.2%}, "
            f"largest {max(missed):.2%}"
        )


if __name__ == "__main__":
    main()
