"""What each model went on to write after the same prompts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lingraft.report.words import direction


@dataclass(frozen=True)
class Continued:
    """A prompt from held-out text, and what each model wrote after it, by subject."""

    language: str
    prompt: str
    direction: str
    texts: Sequence[tuple[str, str]]


def written(rows: Iterable[Mapping[str, str]]) -> list[Continued]:
    """Return the prompts of generated.json in their order, each with all that was written after it.

    >>> written([{"subject": "source", "language": "hi", "prompt": "a", "text": "b"},
    ...          {"subject": "adapted", "language": "hi", "prompt": "a", "text": "c"}])[0].texts
    [('source', 'b'), ('adapted', 'c')]
    """
    texts: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for row in rows:
        texts.setdefault((row["language"], row["prompt"]), []).append((row["subject"], row["text"]))
    return [Continued(language, prompt, direction(prompt), found) for (language, prompt), found in texts.items()]
