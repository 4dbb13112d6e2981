"""Time the health report of a text next to reading and cleaning the same text.

    python benchmarks/text_health.py [ASSETS] [--rounds 5]

For each language of the assets (88 MB in all), it measures in turn: reading and cleaning (filters,
hashes, shuffle) without the health report, and the health report alone, language identification
included. Processor seconds of the median round, one process, are printed, and every finding.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from lingraft.corpus import CorpusSettings, build
from lingraft.corpus.cleaning import Cleaner
from lingraft.corpus.health import HealthReport, TextHealth
from lingraft.corpus.listing import Listing
from lingraft.corpus.readers import read_source

LANGUAGES = ("en", "hi", "tr", "ar", "ta", "th")


class NoHealth(TextHealth):
    """Counts nothing: reading and cleaning without the report."""

    def add(self, text: str) -> None:
        """Count nothing."""


def read_and_clean(settings: CorpusSettings, language: str) -> None:
    cleaner = Cleaner(settings, in_language=None)
    listing = Listing.of(settings.all_sources)
    with TemporaryDirectory() as folder:
        build._read_sources(  # noqa: SLF001
            settings.sources,
            cleaner,
            settings,
            language,
            listing=listing,
            folder=Path(folder, "shuffle"),
            near_duplicates=None,
        )


def report(texts: list[str], language: str) -> HealthReport:
    return TextHealth.of(language, texts)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("assets", nargs="?", type=Path, default=Path("../shared/assets"))
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    build.TextHealth = NoHealth  # type: ignore[attr-defined]
    totals = [0.0, 0.0]
    size = 0
    for language in LANGUAGES:
        path = arguments.assets / "text" / f"{language}.train.jsonl.gz"
        settings = CorpusSettings.model_validate({"sources": str(path)})
        texts = list(read_source(settings.sources[0], language))
        size += sum(len(text.encode()) for text in texts)
        seconds: list[list[float]] = [[], []]
        for _ in range(arguments.rounds):
            started = time.process_time()
            read_and_clean(settings, language)
            seconds[0].append(time.process_time() - started)
            started = time.process_time()
            found = report(texts, language)
            seconds[1].append(time.process_time() - started)
        # The first round loads tables and the models of lingua, which a run does too.
        first, medians = seconds[1][0], [statistics.median(part) for part in seconds]
        totals = [total + median for total, median in zip(totals, [medians[0], first], strict=True)]
        print(
            f"{language}: {len(texts):,} documents; read and clean {medians[0]:.2f} s, health "
            f"{medians[1]:.2f} s (first time {first:.2f} s)"
        )
        for finding in found.findings:
            if finding.count:
                print(
                    f"    {finding.level or 'below':8} {finding.check}: {finding.count:,} of ",
                    end="",
                )
                print(f"{finding.of:,} {finding.unit} ({finding.share:.2%})")
    print(f"{size / 1e6:.0f} MB: read and clean {totals[0]:.2f} s, health {totals[1]:.2f} s")


if __name__ == "__main__":
    main()
