"""Build a corpus from its settings in two passes.

The first pass reads and filters every source once, and stores the kept documents in a shuffle on
disk. Then the size of each source is known, which determines the thresholds of the splits. The
second pass writes the splits in shuffled order. Both passes are done for the sources of held-out
text first, if there are any, because their documents are dropped from the training text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lingraft.corpus.cleaning import Cleaner, Reason, Tally, language_filter, sum_drops
from lingraft.corpus.config import CorpusSettings
from lingraft.corpus.corpus import write_counts
from lingraft.corpus.evaluation_sources import index_evaluation_text
from lingraft.corpus.health import HealthReport, TextHealth
from lingraft.corpus.health_checks import refuse
from lingraft.corpus.hub_dataset import commit_of
from lingraft.corpus.kept_documents import NAMED_RECORDS, KeptDocuments
from lingraft.corpus.language import parse_language
from lingraft.corpus.listing import Listing
from lingraft.corpus.near_duplicates import NearDuplicates
from lingraft.corpus.readers import read_documents
from lingraft.corpus.source import Limit, Source
from lingraft.corpus.splits import (
    HASH_RANGE,
    Shuffle,
)
from lingraft.corpus.text_repairs import add_counts
from lingraft.corpus.write_splits import split_writer, write_heldout, write_splits
from lingraft.formatting import counted
from lingraft.progress import progress
from lingraft.store import Draft


def build_corpus(
    settings: CorpusSettings, language: str, draft: Draft, listing: Listing | None = None
) -> None:
    """Write train.parquet, heldout.parquet and counts.json, and report the drops in the notes.

    `listing` holds the files of the sources, by default as they are now.
    Raises `CorpusError` if text is missing, malformed or all dropped, `HubError` if a hub fails,
    `RecipeError` for an unknown language, and `MissingExtraError` for a language check without
    lingua and near-duplicates without rensa.
    """
    language = parse_language(language)
    settings = settings.resolve(language)
    listing = listing or Listing.of(settings.all_sources)
    check = settings.language_check
    in_language = language_filter(check, language) if check else None
    # In the draft's folder: its disk has to hold the corpus anyway, and the shuffle is as large as
    # the kept text.
    with (
        TemporaryDirectory(dir=draft.folder, prefix="shuffle-") as scratch,
        _near_duplicates(settings, Path(scratch, "shingles")) as near,
        split_writer(settings, draft, "heldout") as heldout_file,
    ):
        # Held-out text is written first: its documents are dropped from the training text.
        heldout: KeptDocuments | None = None
        withheld: set[bytes] = set()
        if settings.heldout:
            heldout = _read_heldout(settings, language, listing, Path(scratch), in_language)
            _check_health("held-out text", heldout, settings, draft)
            withheld = write_heldout(settings, heldout, heldout_file, near)
        evaluation = index_evaluation_text(settings, language, listing)
        train = _read_sources(
            settings.sources,
            Cleaner(settings, in_language=in_language, heldout=withheld, evaluation=evaluation),
            settings,
            language,
            listing=listing,
            folder=Path(scratch, "train"),
            near_duplicates=near,
            needed=_needed(settings),
        )
        health = _check_health("text", train, settings, draft)
        counts, notes = write_splits(settings, train, heldout, draft, heldout_file)
    report = {split: asdict(count) for split, count in counts.items()}
    notes |= _health_notes(health, train, heldout)
    draft.note(report | notes | _commits(settings))
    scripts = {"scripts": list(settings.scripts)} if settings.scripts else {}
    write_counts(draft, language, report, notes | scripts)


def _near_duplicates(
    settings: CorpusSettings, path: Path
) -> AbstractContextManager[NearDuplicates | None]:
    threshold = settings.cleaning.near_duplicates if settings.cleaning else None
    return NearDuplicates(threshold, path) if threshold else nullcontext()


def _check_health(
    what: str, kept: KeptDocuments, settings: CorpusSettings, draft: Draft
) -> HealthReport:
    """Return the health of text, and warn of it; raises `CorpusError` if it refuses the text."""
    health = kept.health.report()
    refuse(health.findings, f"{what} in {health.language}", settings.allow)
    left_out = [*_malformed_warning(what, kept), *_incomplete_warning(what, kept)]
    for warning in [*left_out, *health.warnings(what)]:
        draft.warn(warning)
    return health


def _health_notes(
    health: HealthReport, train: KeptDocuments, heldout: KeptDocuments | None
) -> dict[str, Any]:
    """Return the notes about the kept training text, and about what was changed in all text."""
    notes: dict[str, Any] = {"health": health.as_json()}
    repairs = [kept.repairs.counts() for kept in (train, heldout) if kept]
    if changed := add_counts(*repairs):
        notes["changed"] = changed
    examples = [kept.near_duplicate for kept in (train, heldout) if kept and kept.near_duplicate]
    if examples:
        notes["near_duplicates"] = examples[0]
    if train.weights.weighted:
        notes["weights"] = asdict(train.weights)
    if train.malformed:  # only crawls have such records
        notes["malformed records"] = train.malformed[:NAMED_RECORDS]
    return notes


def _malformed_warning(what: str, kept: KeptDocuments) -> list[str]:
    if not kept.malformed:
        return []
    first = "; ".join(kept.malformed[:NAMED_RECORDS])
    where, count = f"{what} in {kept.health.language}", f"{len(kept.malformed):,}"
    return [f"{where}: malformed records are left out: {count}; the first: {first}"]


def _incomplete_warning(what: str, kept: KeptDocuments) -> list[str]:
    counts = sum_drops(kept.tallies).get(Reason.incomplete)
    if counts is None:
        return []
    where, number = f"{what} in {kept.health.language}", counts["documents"]
    verb, first = "is" if number == 1 else "are", "; ".join(kept.incomplete)
    left_out = f"{counted(number, 'conversation')} with {counts['bytes']:,} bytes of text {verb}"
    return [f"{where}: {left_out} left out, because a message is not text; the first: {first}"]


def _commits(settings: CorpusSettings) -> dict[str, dict[str, str]]:
    """Return the note of the commits of the hub data sets that were read, if there are any."""
    commits = {}
    for source in settings.all_sources:
        if source.hub is not None:
            commits[f"{source.hub}@{source.revision or 'main'}"] = commit_of(source)
    return {"commits": commits} if commits else {}


def _needed(settings: CorpusSettings) -> list[Limit | None]:
    """Return the limit of each training source: of a streamed one, its share of the limit."""
    total_weight = sum(source.weight or 0 for source in settings.sources)
    needed: list[Limit | None] = []
    for source in settings.sources:
        if settings.limit is None or not source.is_streamed:
            needed.append(None)
            continue
        share = source.weight / total_weight if source.weight else 1
        size = settings.limit.bytes and max(1, round(settings.limit.bytes * share))
        needed.append(settings.limit.model_copy(update={"bytes": size}))
    return needed


def _read_heldout(
    settings: CorpusSettings,
    language: str,
    listing: Listing,
    scratch: Path,
    in_language: Callable[[str], bool] | None,
) -> KeptDocuments:
    """Read and filter the held-out sources."""
    with _near_duplicates(settings, scratch / "heldout-shingles") as near:
        return _read_sources(
            settings.heldout or (),
            Cleaner(settings, in_language=in_language),
            settings,
            language,
            listing=listing,
            folder=scratch / "heldout",
            near_duplicates=near,
        )


def _read_sources(
    sources: Sequence[Source],
    cleaner: Cleaner,
    settings: CorpusSettings,
    language: str,
    *,
    listing: Listing,
    folder: Path,
    near_duplicates: NearDuplicates | None,
    needed: Sequence[Limit | None] = (),
) -> KeptDocuments:
    """Read and filter sources; each is read until its kept training text exceeds `needed`."""
    kept = KeptDocuments(
        Shuffle(folder),
        [Tally(source.label) for source in sources],
        cleaner,
        settings,
        settings.repairs(language),
        # The language of generated stories is known, and identifying it takes a second.
        TextHealth(
            language,
            identify=any(not source.miniature for source in sources),
            scripts=settings.scripts,
        ),
        [source.document_weight for source in sources],
        near_duplicates,
        0 if near_duplicates is None else len(near_duplicates),
    )
    heldout_threshold = int((settings.share or 0) * HASH_RANGE)
    with kept.shuffle, progress("reading text", unit="documents") as advance:
        for index, source in enumerate(sources):
            limit = needed[index] if needed else None
            documents = size = 0
            # Closing the generator ends a download that is not read to its end.
            with closing(read_documents(source, language, listing)) as stream:
                for number, document in enumerate(stream, start=1):
                    added = kept.add(index, document)
                    if number % 1000 == 0:
                        advance(1000)
                    if limit is None or added is None:
                        continue
                    if added.hashes.split < heldout_threshold:
                        continue  # only training text counts towards the limit
                    documents, size = documents + added.copies, size + added.size * added.copies
                    if not limit.allows(documents, size):
                        kept.tallies[index].stopped_early = True
                        break
    return kept
