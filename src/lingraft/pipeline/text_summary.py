"""Says which files and data sets of the Hub a recipe reads, and what a sample of them contains.

The plan shows these lines. A run logs them before it reads anything, without the warnings about the
sample: the stage that reads all of the text gives exact ones.
"""

from __future__ import annotations

from lingraft.corpus import Limit, Source, column_lines, look_at, preview_text
from lingraft.corpus.evaluation_sources import check_searchable
from lingraft.corpus.health_checks import refuse
from lingraft.corpus.presets import preset_of
from lingraft.corpus.text_preview import TextPreview
from lingraft.formatting import counted, size
from lingraft.measurement import MIN_DOCUMENTS
from lingraft.recipe import Recipe, Replay, Text


def recipe_text_lines(recipe: Recipe) -> list[str]:
    """Return the lines of all texts of a recipe.

    Raises `CorpusError` for local text that cannot be read, or of which a sample is refused.
    """
    lines = []
    for text in recipe.texts:
        lines += text_lines(text)
        _checked_preview(text, identify=False)
    return lines


def health_lines(text: Text) -> list[str]:
    """Return what a sample of a text contains, as lines of the plan; raises as above.

    Of text on the Hub or at a URL, the first documents are downloaded.
    """
    preview = _checked_preview(text, identify=True, remote=True)
    if preview is None:
        return []
    lines = []
    for sample in preview.remote:
        read = f"the first {counted(sample.documents, 'document')} of {sample.source}"
        if sample.dropped:
            read += f", of which its condition drops {sample.dropped:,}"
        if sample.error:
            lines.append(f"only {read} can be read now, so health is not known: {sample.error}")
        else:
            lines.append(f"health of {read}: the beginning, not a random sample of the text")
    warnings = preview.health.warnings()
    if preview.health.scripts:
        lines.append(f"letters of a sample: {preview.health.scripts}")
    if preview.remote and preview.health.documents and not warnings:
        lines.append("health: no finding")
    lines = [f"text in {text.language}: {line}" for line in lines]
    if preview.heldout is not None and preview.heldout < MIN_DOCUMENTS:
        warnings.append(_few_heldout(text, preview.heldout))
    return [*lines, *(f"warning: {warning}" for warning in warnings)]


def _few_heldout(text: Text, documents: int) -> str:
    remedy = "give more of it" if text.heldout else "give more text, or raise heldout_share"
    return (
        f"text in {text.language}: {counted(documents, 'held-out document')}, too few to judge an "
        f"improvement or a loss (at least {MIN_DOCUMENTS}); {remedy}"
    )


def _checked_preview(text: Text, *, identify: bool, remote: bool = False) -> TextPreview | None:
    preview = preview_text(text.corpus, text.language, identify=identify, remote=remote)
    if preview is not None:
        refuse(preview.health.findings, f"text in {text.language}", text.allow)
    return preview


def text_lines(text: Text) -> list[str]:
    """Return a line for each folder, pattern and source on the Hub.

    It has the files and their size, or data set, configuration, licence and limit. Raises
    `CorpusError` for local text that cannot be read, and for evaluation text without words.
    """
    role = "replay" if isinstance(text, Replay) else "text"
    lines = look_at(text.corpus, text.language)
    for source in text.all_sources:
        if source.hub:
            lines.append(describe_source(source, text.limit))
    lines += column_lines(text.corpus)
    check_searchable(text.corpus, text.language)
    return [f"{role} in {text.language}: {line}" for line in lines]


def describe_source(source: Source, limit: Limit | None = None) -> str:
    """Return the data set of a source on the Hub, and how much is read if its text has a limit.

    >>> describe_source(Source(hub="allenai/c4", config="te"))
    'c4 (allenai/c4, te, licence odc-by), all of it'
    """
    known = preset_of(source.hub)
    parts = [source.hub, source.config, source.revision]
    if known:
        parts.append(f"licence {known.licence}")
    name = ", ".join(part for part in parts if part)
    name = f"{known.name} ({name})" if known else name
    return f"{name}, {_amount(source.limit or limit)}"


def _amount(limit: Limit | None) -> str:
    """Return how much is read.

    >>> _amount(Limit(bytes=100_000_000)), _amount(Limit(documents=50)), _amount(None)
    ('at most 100 MB', 'at most 50 documents', 'all of it')
    """
    if limit is None:
        return "all of it"
    parts = []
    if limit.documents is not None:
        parts.append(f"{limit.documents:,} documents")
    if limit.bytes is not None:
        parts.append(size(limit.bytes))
    return f"at most {' or '.join(parts)}"
