"""Warnings that a run finds in the output of a stage, in addition to those of the stage itself.

They are found again in each run, also where the stage is cached: an output of an earlier version
has no such warning, and some depend on settings that are not part of the key of the stage.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from lingraft.certificate.source_claims import SOURCE_READ
from lingraft.corpus import Corpus, first_documents
from lingraft.corpus.script_check import WrongScript, find_wrong_script
from lingraft.evaluation.config import HeldoutPart
from lingraft.evaluation.lost_ability import lost_abilities, lost_during_training
from lingraft.forecast.training_curve import read_log
from lingraft.formatting import counted, number
from lingraft.measurement import MIN_DOCUMENTS, read_measurements
from lingraft.pipeline.check_stages import CLAIMS
from lingraft.pipeline.evaluation_stages import CURVE_SETTINGS, PART
from lingraft.pipeline.run_files import read_pretokenizer
from lingraft.recipe.old_names import current_log
from lingraft.store import WARNINGS, Manifest

TEXTS = ("corpus", "text")
"""The kinds of stages whose output is the text of one language."""


@dataclass(frozen=True)
class StageWarnings:
    """The warnings of a finished stage; `wrong_script` if its text is not in its language's."""

    lines: tuple[str, ...] = ()
    wrong_script: WrongScript | None = None


@dataclass(frozen=True)
class ScoredText:
    """The held-out text of a language that is scored, all or one half, and how.

    `settings` are those of `curve_settings`.
    """

    settings: Mapping[str, Any]
    part: HeldoutPart = "all"

    @property
    def bytes(self) -> int:
        """The bytes from which on no further document of a language is scored."""
        return int(self.settings["heldout_bytes"])


def stage_warnings(kind: str, folder: Path, scored: ScoredText | None = None) -> StageWarnings:
    """Return the warnings of a stage of this kind, given the folder of its output.

    `scored` is the held-out text that is scored; `None` if nothing is measured.
    """
    wrong = None
    lines = list(Manifest.read(folder).notes.get(WARNINGS, ()))
    if kind in TEXTS:
        corpus = Corpus.open(folder)
        wrong = wrong_script_of(corpus)
        # The stage that builds a corpus has checked all of it.
        if kind == "text":
            lines += [str(wrong)] if wrong else []
            held_out = corpus.counts("heldout")
            lines.append(few_documents_warning(corpus.language, held_out.documents, held_out.bytes))
        if scored is not None:
            lines.append(few_scored_warning(corpus, scored))
    if kind == "training" and scored is not None:
        lines.append(other_curve_warning(folder, scored))
        lines += lost_during_training(current_log(read_log(folder / "training.jsonl")))
    if kind == "vocabulary":
        lines.append(pretokenizer_warning(folder))
    if kind == "evaluation":
        lines += lost_abilities(read_measurements(folder / "measurements.parquet"))
    lines += claim_warnings(folder)
    return StageWarnings(tuple(dict.fromkeys(filter(None, lines))), wrong)


def wrong_script_of(corpus: Corpus) -> WrongScript | None:
    """Return the scripts if the text of a corpus is not in the script of its language."""
    split = "train" if corpus.counts("train").documents else "heldout"
    return find_wrong_script(corpus.language, corpus.documents(split), corpus.scripts)


def few_scored_warning(corpus: Corpus, scored: ScoredText) -> str:
    """Return the warning that few held-out documents are scored; "" if enough are.

    If the corpus itself has few, `few_documents_warning` says so.
    """
    held_out = corpus.counts("heldout").documents
    texts = first_documents(corpus.documents("heldout"), scored.bytes)
    documents = sum(1 for _ in islice(texts, 2 * MIN_DOCUMENTS))
    if scored.part != "all" and held_out >= MIN_DOCUMENTS > documents // 2:
        fits = documents == held_out
        remedy = "give more held-out text" if fits else "raise evaluation.heldout_bytes"
        return (
            f"evaluation: {counted(documents // 2, 'held-out document')} in {corpus.language} are "
            f"scored (evaluation.heldout_part: {scored.part}), too few to judge (at least "
            f"{MIN_DOCUMENTS}); {remedy}"
        )
    if documents >= MIN_DOCUMENTS or held_out < MIN_DOCUMENTS:
        return ""
    return (
        f"evaluation: {documents} of {counted(held_out, 'held-out document')} in {corpus.language} "
        f"fit into evaluation.heldout_bytes: {scored.bytes:,}, too few to judge (at least "
        f"{MIN_DOCUMENTS}); raise evaluation.heldout_bytes"
    )


def other_curve_warning(training: Path, scored: ScoredText) -> str:
    """Return the warning that a held-out curve was measured otherwise than the table; "" if not."""
    table = {**scored.settings, PART: scored.part}
    measured = Manifest.read(training).notes.get(CURVE_SETTINGS, table)
    pairs = ((name, value, table[name]) for name, value in measured.items())
    differing = [
        f"{name} {_in_words(before)} (now {_in_words(now)})"
        for name, before, now in pairs
        if before != now
    ]
    if not differing:
        return ""
    return (
        "training: the stored held-out curve and its prediction were measured with evaluation."
        f"{', evaluation.'.join(differing)}; the table is not comparable with them"
    )


def _in_words(value: Any) -> str:
    """Return a setting as a recipe has it.

    >>> _in_words({"texts": 24, "seed": 0}), _in_words(None)
    ('{texts: 24, seed: 0}', 'null')
    """
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {_in_words(one)}" for name, one in value.items()) + "}"
    return "null" if value is None else str(value)


def few_documents_warning(language: str, documents: int, size: int) -> str:
    """Return the warning that text for an evaluation has few documents; "" if it has enough.

    `size` is its size in bytes.
    """
    if documents >= MIN_DOCUMENTS:
        return ""
    return (
        f"text in {language}: {counted(documents, 'document')} ({size:,} "
        f"bytes), too few to judge (at least {MIN_DOCUMENTS}); give more documents"
    )


def pretokenizer_warning(vocabulary: Path) -> str:
    """Return the warning that a vocabulary stage changed the pre-tokenizer; "" if it did not."""
    change = read_pretokenizer(vocabulary)
    remedy = "to keep the base's, set vocabulary.pretokenizer: keep"
    return f"{change}; {remedy}" if change and change.changed else ""


def claim_warnings(folder: Path) -> Iterator[str]:
    """Yield a warning for each claim that does not hold and that the run continues with.

    That is a claim which the recipe accepts by name, and a source that a class of transformers
    reads otherwise than its file says.
    """
    for name in ("certificate.json", CLAIMS):
        if not (folder / name).is_file():
            continue
        for claim in json.loads((folder / name).read_text(encoding="utf-8"))["claims"]:
            if claim["holds"]:
                continue
            exceptions = f"{number(claim['value'])} of {number(claim['of'])} {claim['unit']}"
            if claim.get("waived"):
                yield (
                    f"certificate: {claim['name']!r} does not hold ({exceptions}), which "
                    "vocabulary.allow accepts; remove it there to refuse such a result"
                )
            elif claim["name"] == SOURCE_READ and not claim["fatal"]:
                reason, *examples = claim["exceptions"]
                yield (
                    f"source tokenizer: {reason} ({exceptions} differ, such as {examples[0]}); if "
                    "the model was trained with that class, save the tokenizer with it first: "
                    "AutoTokenizer.from_pretrained(SOURCE).save_pretrained(FOLDER)"
                )
