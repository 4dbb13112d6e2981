"""The stage that looks for evaluation text in the training text, before anything is learned.

It also reports on the health of parallel sentences.

It is there if the recipe names evaluation text: parallel sentences, or held-out text of its own.
Evaluation text of each language is looked for in the training text of all: a document may be in
the text of a domain and in the replay.
Documents of tasks are looked for where the tasks run. The rule of a match is that of
`lingraft.corpus.contamination`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from typing import Any

from lingraft.corpus import Corpus
from lingraft.corpus.contamination import EvaluationIndex
from lingraft.corpus.excerpts import EXCERPT, escaped
from lingraft.corpus.health import TextHealth
from lingraft.corpus.identity import file_identity
from lingraft.corpus.readers import read_parallel
from lingraft.corpus.text_files import find_files
from lingraft.evaluation.score_model import heldout_documents
from lingraft.formatting import counted, percent
from lingraft.pipeline.stage_node import StageContext, StageNode, stage_node
from lingraft.progress import progress
from lingraft.recipe import Recipe, Text

PARALLEL_FROM, HELDOUT_FROM = 0.01, 0.1
"""The shares of evaluation texts in the training text from which there is a warning.

Held-out documents are long, and a sentence that many documents repeat is a match: of the held-out
files of clean news and courses in Hindi, English, Turkish, Arabic and Tamil, 0.6% to 5.7%.
"""


@dataclass(frozen=True)
class EvaluationText:
    """Evaluation texts, and the source that `decontaminate` takes ("" if it is no file)."""

    name: str
    source: str
    texts: Sequence[str]
    warn_from: float = PARALLEL_FROM


@dataclass(frozen=True)
class FoundText:
    """How many of the `of` evaluation texts are in how many documents of the training text.

    Texts of fewer than five words are not looked for, and not counted.
    """

    language: str
    evaluation: str
    found: int
    of: int
    documents: int
    example: str
    source: str
    warn_from: float

    @property
    def warning(self) -> str:
        """The warning, "" below the threshold."""
        if not self.found or self.found < self.warn_from * self.of:
            return ""
        advice = f"set decontaminate: [{self.source}]"
        if not self.source:
            advice = "put it into a file, name the file as heldout, and set decontaminate to it"
        return (
            f"text in {self.language}: {self.found:,} of {counted(self.of, 'text')} of "
            f"{self.evaluation} ({percent(self.found / self.of)}) are in "
            f"{counted(self.documents, 'training document')}, such as {self.example!r}, and "
            f"results on them say less about new text; to drop these documents, {advice}"
        )


def evaluation_text_check(
    recipe: Recipe, targets: Mapping[str, StageNode], replay: StageNode | None
) -> StageNode | None:
    """Return the stage, `None` if the recipe names no evaluation text."""
    corpora = {**targets, "replay": replay} if replay else dict(targets)
    texts = dict(zip(corpora, recipe.texts, strict=True))
    heldout = [role for role, text in texts.items() if text.heldout]
    settings: dict[str, Any] = {
        "heldout": heldout,
        "heldout_bytes": int(recipe.evaluation.heldout_bytes),
        "cleaning": {tag: one.repairs_identity for tag, one in recipe.repaired.items()},
    }
    parallel = recipe.evaluation.parallel_file
    if parallel is not None:
        settings["parallel"] = [file_identity(path) for path in find_files(parallel)]
    elif not heldout:
        return None
    return stage_node(
        "evaluation text check",
        "evaluation-text",
        settings,
        partial(search_training_text, texts),
        **corpora,
    )


def search_training_text(texts: Mapping[str, Text], context: StageContext) -> None:
    """Count the evaluation texts that each corpus contains, and warn of many."""
    languages = [text.language for text in texts.values() if text.language != "en"]
    parallel = context.recipe.evaluation.parallel_file
    columns: Mapping[str, Sequence[str]] = {}
    if parallel and languages:
        columns = read_parallel(parallel, languages, repaired=context.recipe.repaired)
        scripts = {text.language: text.corpus.scripts for text in texts.values()}
        for language, sentences in columns.items():
            health = TextHealth.of(language, sentences, scripts.get(language, ()))
            for warning in health.warnings("parallel sentences"):
                context.draft.warn(warning)
    notes = []
    corpora = {role: Corpus.open(context.folders[role]) for role in texts}
    scored = int(context.recipe.evaluation.heldout_bytes)
    heldout = {role: heldout_documents(corpus, scored) for role, corpus in corpora.items()}
    for role, corpus in corpora.items():
        evaluations = [
            *_parallel_texts(texts, role, parallel, columns),
            *_heldout_texts(texts, role, heldout),
        ]
        for found in find_evaluation_texts(corpus, evaluations):
            notes.append({key: value for key, value in asdict(found).items() if key != "source"})
            if found.warning:
                context.draft.warn(found.warning)
    context.draft.note({"evaluation text in training text": notes})


def _parallel_texts(
    texts: Mapping[str, Text],
    searched: str,
    parallel: str | None,
    columns: Mapping[str, Sequence[str]],
) -> Iterator[EvaluationText]:
    """Yield the parallel sentences in each language of the texts, for the text of one role."""
    own = texts[searched].language
    for language in dict.fromkeys(text.language for text in texts.values()):
        if language in columns:
            name = "the parallel sentences" + ("" if language == own else f" in {language}")
            source = f"{{path: {parallel}, text_field: {language}}}"
            yield EvaluationText(name, source, columns[language])


def _heldout_texts(
    texts: Mapping[str, Text], searched: str, heldout: Mapping[str, Sequence[str]]
) -> Iterator[EvaluationText]:
    """Yield the held-out text of every role, for the text of one role."""
    for role, text in texts.items():
        # Held-out text that is split from a corpus is not in its training text, by its digest.
        if role == searched and not text.heldout:
            continue
        name = "the held-out text" + ("" if role == searched else f" in {text.language}")
        labels = ", ".join(source.label for source in text.heldout or ())
        yield EvaluationText(name, labels, heldout[role], HELDOUT_FROM)


def find_evaluation_texts(corpus: Corpus, evaluations: Sequence[EvaluationText]) -> list[FoundText]:
    """Look for evaluation texts in all training documents of a corpus, which is read once."""
    # One index for all, so that each document is looked up once.
    index = EvaluationIndex(())
    searches = [_Search(evaluation, index) for evaluation in evaluations]
    with progress("looking for evaluation text", unit="documents") as advance:
        for batch in corpus.batches("train") if searches else ():
            for numbers, search in product(map(index.find, batch), searches):
                search.count(numbers)
            advance(len(batch))
    return [search.result(corpus.language) for search in searches]


class _Search:
    """A search for evaluation texts in documents; `index` has them from the number `_first` on."""

    def __init__(self, evaluation: EvaluationText, index: EvaluationIndex) -> None:
        self.evaluation = evaluation
        self._first, skipped = index.documents, len(index.skipped)
        for text in evaluation.texts:
            index.add(text)
        self._of = len(evaluation.texts) - (len(index.skipped) - skipped)
        self.found: set[int] = set()
        self.documents, self.example = 0, ""

    def count(self, numbers: set[int]) -> None:
        """Count a document in which the index has found the texts of these numbers."""
        texts = self.evaluation.texts
        found = {n - self._first for n in numbers if 0 <= n - self._first < len(texts)}
        self.documents += bool(found)
        if found and not self.example:
            self.example = escaped(texts[min(found)][: 3 * EXCERPT])
        self.found |= found

    def result(self, language: str) -> FoundText:
        return FoundText(
            language,
            self.evaluation.name,
            len(self.found),
            self._of,
            self.documents,
            self.example,
            self.evaluation.source,
            self.evaluation.warn_from,
        )
