"""Check the reduction that `diagnose` predicts from 2 MB against tokens learned from 12 MB.

    python benchmarks/diagnose.py [--assets ../shared/assets] [--languages hi tr]
                                  [--tokenizers llama2]

One line for each language, tokenizer and pre-tokenizer: the predicted reduction for 10,000 tokens
with its 95% interval, and the measured reduction. To measure it, continued BPE learns tokens from
the training text (12 MB, or all the text if there is less), the tokens are added to the tokenizer,
and the held-out file is encoded. The last line counts how often the interval contains the measured
value.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

from lingraft.advice import TextSample, diagnose, read_sample
from lingraft.forecast.extrapolate import TARGETS
from lingraft.pretokenizer import make_mark_aware
from lingraft.tokenizer import Family, ModelTokenizer, family_of, open_tokenizer
from lingraft.tokenizer.json_format import build_backend
from lingraft.vocabulary import ContinuedBPE, SelectionRequest

LEARNED_FROM = 12_000_000
SAMPLED = 2_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--assets", type=Path, default=Path("../shared/assets"))
    parser.add_argument("--languages", nargs="+", default=["hi", "ta", "tr", "ar"])
    parser.add_argument("--tokenizers", nargs="+", default=["llama2", "qwen2", "pythia"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[10_000], choices=TARGETS)
    arguments = parser.parse_args()
    rows = []
    print(
        "    tokenizer pre-tokenizer  added predicted      interval  measured  holds  "
        "error  seconds"
    )
    for language in arguments.languages:
        train = str(arguments.assets / "text" / f"{language}.train.jsonl.gz")
        everything = read_sample(language, [train], LEARNED_FROM)
        heldout = read_sample(language, [train.replace(".train.", ".heldout.")], LEARNED_FROM)
        sample = read_sample(language, [train], SAMPLED)
        for name in arguments.tokenizers:
            tokenizer = open_tokenizer(arguments.assets / "tokenizers" / name)
            rows += compared(
                Case(language, name, tokenizer, sample, everything, heldout), arguments.sizes
            )
    holds = sum(row[0] for row in rows)
    error = sum(abs(row[1]) for row in rows) / len(rows)
    print(
        f"the interval holds {holds} of {len(rows)}; "
        f"mean absolute error of the prediction {error:.1%}"
    )


@dataclass(frozen=True)
class Case:
    """A tokenizer and the texts of one language."""

    language: str
    name: str
    tokenizer: ModelTokenizer
    sample: TextSample
    everything: TextSample
    heldout: TextSample


def compared(case: Case, sizes: list[int]) -> list[tuple[bool, float]]:
    """Print the lines of one tokenizer; return for each if the interval holds, and its error."""
    started = time.perf_counter()
    tokenizer = case.tokenizer
    diagnosis = diagnose({case.name: tokenizer}, [case.sample], learned_from=case.everything.bytes)
    (finding,) = diagnosis.tokenizers[0].findings
    seconds = time.perf_counter() - started
    rows = []
    for how, curve in (("as it is", finding.keep), ("repaired", finding.repaired)):
        if curve is None:
            continue
        family, repaired = tokenizer.family, make_mark_aware(tokenizer.family.data)
        if how == "repaired" and repaired:
            family = family_of(repaired, tokenizer.folder)
        for size, value in measured(case, family, sizes).items():
            point = curve.at(size)
            low, high = 1 / point.high, 1 / point.low
            rows.append((low <= value <= high, point.reduction / value - 1))
            print(
                f"{case.language:3} {case.name:9} {how:13} {size:6} "
                f"{point.reduction:9.2f} {low:6.2f}-{high:6.2f} {value:9.2f}  "
                f"{'yes' if rows[-1][0] else 'NO':5} {rows[-1][1]:+6.1%} {seconds:8.1f}",
                flush=True,
            )
    return rows


def measured(case: Case, family: Family, sizes: list[int]) -> dict[int, float]:
    """Learn, extend, and cut the held-out documents with the real tokenizer."""
    heldout = list(case.heldout.documents)
    counts = family.units(case.everything.documents)
    selected = ContinuedBPE().select(SelectionRequest(family, counts, max(sizes)))
    before = sum(map(len, case.tokenizer.encode(heldout)))
    reductions = {}
    for size in sizes:
        backend = build_backend(family.with_tokens(selected.surfaces[:size]))
        encodings = backend.encode_batch_fast(heldout, add_special_tokens=False)
        reductions[size] = before / sum(len(encoding.ids) for encoding in encodings)
    return reductions


if __name__ == "__main__":
    main()
