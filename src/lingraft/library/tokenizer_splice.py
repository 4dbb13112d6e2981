"""A splice that knows its two tokenizers, for initialisations that read surfaces or text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

from lingraft.splice import Splice
from lingraft.tokenizer import ModelTokenizer


@dataclass(frozen=True)
class TokenizerSplice(Splice):
    """The relation between two vocabularies, together with their tokenizers.

    `files` keeps the temporary folder of the tokenizers as long as the splice is in use.
    """

    source: ModelTokenizer | None = field(default=None, repr=False, compare=False)
    target: ModelTokenizer | None = field(default=None, repr=False, compare=False)
    files: object = field(default=None, repr=False, compare=False)

    @classmethod
    def of(
        cls, splice: Splice, source: ModelTokenizer, target: ModelTokenizer, files: object = None
    ) -> Self:
        """Return the splice with its tokenizers."""
        return cls(
            splice.source_size,
            splice.kept,
            splice.added,
            splice.dropped,
            splice.reinitialised,
            source,
            target,
            files,
        )
