"""The relation between a source and a target vocabulary, as plain values.

A `Vocabulary` maps each id to its bytes. A `Splice` records where the embedding row of every target
id comes from. A *kept* row is copied from a source id. An *added* row is computed by an
initialisation from `pieces`, the source ids that spell the same bytes. An added token that the
source also has is *reinitialised*: the source's own pre-tokenizer never produces it, so its row was
never trained.

Vocabulary building produces a splice; the initialisations, the resizing of checkpoints and the
report use it. This module needs neither a tokenizer library nor torch.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from lingraft.errors import StoreError


@dataclass(frozen=True)
class Vocabulary:
    """The bytes and the special tokens of a tokenizer, by id.

    `surfaces[id]` holds the bytes that a token adds to a text. It is `None` for a special token and
    for an id without a token. `special` maps the id of every added token to its content.
    `fallback` holds the ids of byte tokens, such as <0x41>, which occur only where no other token
    spells the text.
    """

    surfaces: tuple[bytes | None, ...]
    special: Mapping[int, str] = field(default_factory=dict)
    fallback: Collection[int] = frozenset()

    def __len__(self) -> int:
        return len(self.surfaces)

    @cached_property
    def ids(self) -> dict[bytes, int]:
        """The lowest id of each surface; that of a fallback byte only where there is no other."""
        # Llama-2 has <0x41> and, after it, "A": only the second one occurs in text.
        fallback = self.fallback_ids
        lowest: dict[bytes, int] = {}
        for token_id, surface in enumerate(self.surfaces):
            if surface is not None and fallback.get(surface) != token_id:
                lowest.setdefault(surface, token_id)
        return {**fallback, **lowest}

    @cached_property
    def fallback_ids(self) -> dict[bytes, int]:
        """The id of each fallback byte."""
        return {self.surfaces[i] or b"": i for i in self.fallback}


@dataclass(frozen=True)
class AddedToken:
    """A token whose embedding row is initialised instead of copied.

    `pieces` are the source ids by which the source tokenizer spells `surface` inside a text,
    without an extra word start. `count` is the number of occurrences in the text that the token was
    learned from.
    """

    id: int
    surface: bytes
    pieces: tuple[int, ...]
    count: int = 0

    @property
    def text(self) -> str:
        r"""The surface as text; bytes that are not UTF-8 are shown as `\\xNN`."""
        return self.surface.decode("utf-8", errors="backslashreplace")

    def to_list(self) -> list[Any]:
        """Return the fields as plain JSON, with the surface in hexadecimal digits."""
        return [self.id, self.surface.hex(), list(self.pieces), self.count]


@dataclass(frozen=True)
class Splice:
    """The complete relation between a source and a target vocabulary.

    `kept` maps target ids to source ids, `added` lists the other target tokens. Together they name
    every target id from 0 to `target_size` - 1 exactly once.

    `reinitialised` maps added ids to the source id of the same token: its merges stay, its row does
    not. `dropped` lists the source ids that the target lacks. Together, `kept`, `reinitialised` and
    `dropped` name every source id exactly once.

    `source_size` counts the ids of the source tokenizer. A model may have more rows than that
    (padding), which are not part of the relation.

    >>> splice = Splice(source_size=2, kept={0: 0, 1: 1}, added=(AddedToken(2, b"ab", (0, 1)),))
    >>> splice.target_size, splice.is_extension
    (3, True)
    >>> splice
    Splice(2 source ids: 2 kept; 1 added)
    >>> added = (AddedToken(1, b"b", (0,)), AddedToken(2, b"ab", (0, 0)))
    >>> changed = Splice(2, {0: 0}, added, reinitialised={1: 1})
    >>> [token.id for token in changed.new], changed.corresponding
    ([2], {0: 0, 1: 1})
    """

    source_size: int
    kept: Mapping[int, int]
    added: tuple[AddedToken, ...] = ()
    dropped: tuple[int, ...] = ()
    reinitialised: Mapping[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        added_ids = [token.id for token in self.added]
        target_ids = sorted([*self.kept, *added_ids])
        if target_ids != list(range(len(target_ids))):
            msg = (
                "a splice must name every target id from 0 on exactly once; got "
                f"{len(target_ids)} ids, {_first_gap(target_ids)}"
            )
            raise ValueError(msg)
        source_ids = [*self.kept.values(), *self.reinitialised.values(), *self.dropped]
        if sorted(source_ids) != list(range(self.source_size)):
            msg = (
                f"a splice must keep, reinitialise or drop each of {self.source_size} source ids "
                f"exactly once; got {len(source_ids)}"
            )
            raise ValueError(msg)
        not_added = self.reinitialised.keys() - set(added_ids)
        if not_added:
            msg = (
                "reinitialised ids must be ids of added tokens; these are not: "
                f"{sorted(not_added)[:4]}"
            )
            raise ValueError(msg)
        self._check_pieces()

    def _check_pieces(self) -> None:
        # A row that is computed from an untrained row would start as noise.
        untrained = self.untrained
        for token in self.added:
            where = f"added token {token.id} ({token.text!r}) has pieces {token.pieces}"
            if not token.pieces or min(token.pieces) < 0 or max(token.pieces) >= self.source_size:
                msg = f"{where}: not ids of the source"
                raise ValueError(msg)
            if not untrained.isdisjoint(token.pieces):
                msg = (
                    f"{where}, of which {sorted(untrained.intersection(token.pieces))} are "
                    "reinitialised: the source tokenizer never produces them"
                )
                raise ValueError(msg)

    def __repr__(self) -> str:
        """Return the numbers of ids: vocabularies have hundreds of thousands."""
        parts = {
            "kept": self.kept,
            "reinitialised": self.reinitialised,
            "dropped": self.dropped,
        }
        counts = [f"{len(ids):,} {name}" for name, ids in parts.items() if ids]
        source = f"{self.source_size:,} source ids: {', '.join(counts)}"
        return f"{type(self).__name__}({source}; {len(self.added):,} added)"

    @property
    def target_size(self) -> int:
        """The number of ids in the target vocabulary."""
        return len(self.kept) + len(self.added)

    @property
    def is_extension(self) -> bool:
        """Whether every source token has the same id in the target."""
        if self.dropped:
            return False
        return all(target == source for target, source in self.corresponding.items())

    @property
    def new(self) -> tuple[AddedToken, ...]:
        """The added tokens that the source vocabulary does not have."""
        return tuple(token for token in self.added if token.id not in self.reinitialised)

    @property
    def corresponding(self) -> dict[int, int]:
        """The source id of every target id with the same token, kept or reinitialised."""
        return {**self.kept, **self.reinitialised}

    @property
    def untrained(self) -> frozenset[int]:
        """The source ids whose rows were never trained; no row may be computed from theirs."""
        return frozenset(self.reinitialised.values())

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON; runs of kept ids are stored as [target, source, length]."""
        added = [token.to_list() for token in self.added]
        data: dict[str, Any] = {
            "format": 1,
            "source_size": self.source_size,
            # A vocabulary of 150,000 kept ids is usually one run: a line instead of a megabyte.
            "kept": list(map(list, _runs(sorted(self.kept.items())))),
            "added": added,
            "dropped": list(self.dropped),
        }
        # Left out where it is empty, so that splices without it keep the text of format 1.
        if self.reinitialised:
            data["reinitialised"] = sorted(self.reinitialised.items())
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Splice:
        """Read the output of `to_json`; raises `ValueError` where ids are missing or repeated."""
        kept: dict[int, int] = {}
        for target, source, length in data["kept"]:
            for offset in range(length):
                kept[target + offset] = source + offset
        added = []
        for token_id, surface, pieces, count in data["added"]:
            added.append(AddedToken(token_id, bytes.fromhex(surface), tuple(pieces), count))
        reinitialised = dict(data.get("reinitialised", ()))
        return cls(data["source_size"], kept, tuple(added), tuple(data["dropped"]), reinitialised)

    @classmethod
    def read(cls, folder: str | os.PathLike[str]) -> Splice:
        """Read splice.json of a run, an extension or the output of the vocabulary stage.

        Raises `StoreError` if it is missing or damaged.
        """
        path = Path(folder) / "splice.json"
        try:
            return cls.from_json(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError as error:
            msg = f"{path}: missing; make the folder again"
            raise StoreError(msg) from error
        except (KeyError, TypeError, ValueError) as error:
            msg = f"{path}: damaged ({error!r}); make the folder again"
            raise StoreError(msg) from error

    def dumps(self) -> str:
        """Return the JSON text of the splice, with each added token on its own line."""
        data = self.to_json()
        added = ",\n  ".join(map(json.dumps, data.pop("added")))
        head = json.dumps(data)[:-1]
        return f'{head}, "added": [\n  {added}\n]}}\n' if added else f'{head}, "added": []}}\n'


def identity_splice(size: int, added: Sequence[AddedToken] = ()) -> Splice:
    """Return the splice that keeps `size` source ids in place and appends `added`."""
    kept = dict(zip(range(size), range(size), strict=True))
    return Splice(size, kept, tuple(added))


def _runs(pairs: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
    """Yield (target, source, length) for each run of pairs in which both ids count up by 1."""
    start, length = 0, 0
    for i, (target, source) in enumerate(pairs):
        first_target, first_source = pairs[start]
        if length and (target, source) == (first_target + length, first_source + length):
            length += 1
            continue
        if length:
            yield first_target, first_source, length
        start, length = i, 1
    if length:
        yield *pairs[start], length


def _first_gap(ids: Sequence[int]) -> str:
    for expected, got in enumerate(ids):
        if got != expected:
            return f"with {got} in place of id {expected}"
    return "none missing"
