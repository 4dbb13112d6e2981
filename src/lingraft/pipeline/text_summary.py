"""Says which files and data sets of the Hub a recipe reads, and what a sample of them contains.

The plan shows these lines. A run logs them before it reads anything, without the warnings about the
sample: the stage that reads all of the text gives exact ones.
"""

from __future__ import annotations

from lingraft.corpus import Limit, Source, look_at, sample_health
from lingraft.corpus.health import HealthReport
from lingraft.corpus.health_checks import refuse
from lingraft.corpus.presets import preset_of
from lingraft.formatting import size
from lingraft.recipe import Recipe, Replay, Text


def recipe_text_lines(recipe: Recipe) -> list[str]:
    """Return the lines of all texts of a recipe.

    Raises `CorpusError` for local text that cannot be read, or of which a sample is refused.
    """
    lines = []
    for text in (*recipe.targets, *([recipe.replay] if recipe.replay else [])):
        lines += text_lines(text)
        _checked_sample(text, identify=False)
    return lines


def health_lines(text: Text) -> list[str]:
    """Return a warning for each finding in a sample of local text; raises as above."""
    report = _checked_sample(text, identify=True)
    return [f"warning: {warning}" for warning in report.warnings()] if report else []


def _checked_sample(text: Text, *, identify: bool) -> HealthReport | None:
    report = sample_health(text.corpus, text.language, identify=identify)
    if report is not None:
        refuse(report.findings, f"text in {text.language}", text.allow)
    return report


def text_lines(text: Text) -> list[str]:
    """Return a line for each folder, pattern and source on the Hub.

    It has the files and their size, or data set, configuration, licence and limit. Raises
    `CorpusError` for local text that cannot be read.
    """
    role = "replay" if isinstance(text, Replay) else "text"
    lines = look_at(text.corpus, text.language)
    for source in (*text.sources, *(text.heldout or ())):
        if source.hub:
            lines.append(describe_source(source, text.limit))
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
