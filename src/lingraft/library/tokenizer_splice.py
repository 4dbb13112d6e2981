"""A splice that knows its two tokenizers, for initialisations that read surfaces or text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

from lingraft.library.work_folder import WorkFolder
from lingraft.splice import AddedToken, Splice, Vocabulary
from lingraft.tokenizer import ModelTokenizer
from lingraft.tokenizer.base import Family
from lingraft.vocabulary.build_splice import can_spell, spell_surfaces

# A byte that is no part of a whole character, as `surrogateescape` writes it, or text.
_BYTE_OR_TEXT = re.compile("[\udc80-\udcff]|[^\udc80-\udcff]+")


@dataclass(frozen=True, repr=False)
class TokenizerSplice(Splice):
    """The relation between two vocabularies, together with their tokenizers.

    `files` keeps the temporary folder of the tokenizers as long as the splice is in use.
    """

    source: ModelTokenizer | None = field(default=None, repr=False, compare=False)
    target: ModelTokenizer | None = field(default=None, repr=False, compare=False)
    files: WorkFolder | None = field(default=None, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields; the folders of the tokenizers are relative to `files`."""
        state = dict(self.__dict__)
        for name in ("source", "target"):
            tokenizer = state[name]
            if self.files and tokenizer and tokenizer.folder.is_relative_to(self.files.path):
                folder = tokenizer.folder.relative_to(self.files.path)
                state[name] = replace(tokenizer, folder=folder)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Set the fields; `files` of a copy is another folder than that of the original."""
        self.__dict__.update(state)
        for name in ("source", "target"):
            tokenizer = state[name]
            if self.files and tokenizer and not tokenizer.folder.is_absolute():
                folder = self.files.path / tokenizer.folder
                self.__dict__[name] = replace(tokenizer, folder=folder)

    @classmethod
    def of(
        cls,
        splice: Splice,
        source: ModelTokenizer,
        target: ModelTokenizer,
        files: WorkFolder | None = None,
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


def splice_between(source: ModelTokenizer, target: ModelTokenizer) -> Splice:
    """Return the relation between any two tokenizers, by the bytes of their tokens.

    A target token whose bytes are those of a source token keeps its row; a special token keeps it
    if the source has one of the same content. Every other target token is added, with the source
    ids that spell it.
    """
    kept = _same_tokens(source.vocabulary, target.vocabulary)
    contents = {}
    for token_id, surface in enumerate(target.vocabulary.surfaces):
        if token_id not in kept:
            contents[token_id] = surface or target.vocabulary.special.get(token_id, "").encode()
    spellings = _spellings(source.family, list(contents.values()))
    # An id without a token, or with bytes that the source cannot spell, gets one piece as well.
    unknown = (source.eos_id or 0,)
    added = []
    for (token_id, surface), pieces in zip(contents.items(), spellings, strict=True):
        added.append(AddedToken(token_id, surface, pieces or unknown))
    dropped = sorted(set(range(source.size)).difference(kept.values()))
    return Splice(source.size, kept, tuple(added), tuple(dropped))


def _spellings(source: Family, surfaces: Sequence[bytes]) -> list[tuple[int, ...]]:
    """Return the source ids that spell each surface; none where the source has no such bytes.

    Byte-level tokens may end inside a character, which is no text. Such bytes are fallback bytes
    of a source whose pieces are text.
    """
    spelled = [surface for surface in surfaces if can_spell(source, surface)]
    spelling_of = dict(zip(spelled, spell_surfaces(source, spelled), strict=True))
    for surface in set(surfaces).difference(spelling_of):
        ids: list[int] = []
        for part in _BYTE_OR_TEXT.findall(surface.decode(errors="surrogateescape")):
            raw = part.encode(errors="surrogateescape")
            if can_spell(source, raw):
                ids += spell_surfaces(source, [raw])[0]
            elif raw in source.vocabulary.fallback_ids:
                ids.append(source.vocabulary.fallback_ids[raw])
        spelling_of[surface] = tuple(ids)
    return [spelling_of[surface] for surface in surfaces]


def _same_tokens(source: Vocabulary, target: Vocabulary) -> dict[int, int]:
    """Return the source id of each target id whose token the source has; each source id once."""
    special_ids = {content: token_id for token_id, content in source.special.items()}
    same: dict[int, int] = {}
    used: set[int] = set()
    # A fallback byte may have the bytes of another token, which comes first.
    for token_id in sorted(range(len(target)), key=target.fallback.__contains__):
        surface = target.surfaces[token_id]
        source_id = source.ids.get(surface) if surface else None
        if surface and token_id in target.fallback:
            source_id = source.fallback_ids.get(surface, source_id)
        if token_id in target.special:
            source_id = special_ids.get(target.special[token_id])
        if source_id is not None and source_id not in used:
            same[token_id] = source_id
            used.add(source_id)
    return same
