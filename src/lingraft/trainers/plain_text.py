"""Plain text as JSON lines, for trainers that tokenise themselves.

A line has the field `text`, or `messages` for a conversation. Documents are in the order of the
corpus, which is shuffled. The documents of each text are spread evenly. Each phase has as many
bytes of each text as the sequences of lingraft's loop, up to the end of a document, and begins
where the previous phase ended.

Conversations are rendered by the trainer. Where their chat template writes the current date, the
template with the date of lingraft's text is written next to them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lingraft.corpus import Corpus
from lingraft.corpus.chat import Conversation
from lingraft.tokenizer.chat_template import TRAINING_DATE, ChatTemplate
from lingraft.trainers.engine import EngineFiles

DATED_TEMPLATE = "data/text/chat_template.jinja"
DATE_LIMIT = (
    "`messages` in data/text: the chat template of the model writes the day of training, and "
    f"lingraft's text has {TRAINING_DATE:%d %B %Y}; for the same text, let the trainer render them "
    f"with {DATED_TEMPLATE}"
)
"""The limit of a trainer that renders conversations with the template of the model."""


@dataclass(frozen=True)
class TextCounts:
    """The documents and bytes that were written."""

    documents: int
    bytes: int


@dataclass
class TextMixture:
    """Reads the documents of training, by the language of each corpus; a text begins again."""

    corpora: Mapping[str, Corpus]
    _streams: dict[str, Iterator[str]] = field(default_factory=dict)

    def documents(self, wanted: Mapping[str, int]) -> Iterator[str]:
        """Yield the documents of a phase with these bytes of each text."""
        used = dict.fromkeys(wanted, 0)
        while unfinished := [name for name in wanted if used[name] < wanted[name]]:
            # The text that is furthest behind comes next.
            name = min(unfinished, key=lambda name: used[name] / wanted[name])
            if name not in self._streams:
                self._streams[name] = _repeat(self.corpora[name])
            text = next(self._streams[name])
            used[name] += len(text.encode())
            yield text


def _repeat(corpus: Corpus) -> Iterator[str]:
    while True:
        yield from filter(None, corpus.documents("train"))


def with_dated_template(
    written: EngineFiles, corpora: Iterable[Corpus], template: ChatTemplate | None
) -> EngineFiles:
    """Add the template with the date of training text, if conversations would have another."""
    dated = template.at_training_date() if template else None
    if dated is None or dated is template or not any(corpus.has_chats for corpus in corpora):
        return written
    files = {**written.files, DATED_TEMPLATE: dated.source}
    return replace(written, files=files, limits=(*written.limits, DATE_LIMIT))


def write_text(documents: Iterable[str], path: Path) -> TextCounts:
    """Write documents as JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count = size = 0
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for text in documents:
            line: dict[str, Any] = {"text": text}
            if isinstance(text, Conversation):
                line = {"messages": text.messages}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
            count += 1
            size += len(text.encode())
    return TextCounts(count, size)
