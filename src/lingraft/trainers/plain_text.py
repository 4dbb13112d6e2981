"""Plain text as JSON lines, for trainers that tokenise themselves.

A line has the field `text`, or `messages` for a conversation. Documents are in the order of the
corpus, which is shuffled. Replay documents are spread evenly. Each phase has as many bytes of
target and replay text as the sequences of lingraft's loop, up to the end of a document, and begins
where the previous phase ended.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lingraft.corpus import Corpus
from lingraft.corpus.chat import Conversation


@dataclass(frozen=True)
class TextCounts:
    """The documents and bytes that were written."""

    documents: int
    bytes: int


@dataclass
class TextMixture:
    """Reads the documents of training; a text that ends begins again."""

    target: Corpus
    replay: Corpus | None = None
    _streams: dict[str, Iterator[str]] = field(default_factory=dict)

    def documents(self, target_bytes: int, replay_bytes: int) -> Iterator[str]:
        """Yield the documents of a phase with these amounts of text."""
        wanted = {"target": target_bytes, "replay": replay_bytes if self.replay else 0}
        used = dict.fromkeys(wanted, 0)
        while unfinished := [name for name in wanted if used[name] < wanted[name]]:
            # The text that is further behind comes next.
            name = min(unfinished, key=lambda name: used[name] / wanted[name])
            text = next(self._stream(name))
            used[name] += len(text.encode())
            yield text

    def _stream(self, name: str) -> Iterator[str]:
        if name not in self._streams:
            corpus = self.replay if name == "replay" and self.replay else self.target
            self._streams[name] = _repeat(corpus)
        return self._streams[name]


def _repeat(corpus: Corpus) -> Iterator[str]:
    while True:
        yield from filter(None, corpus.documents("train"))


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
