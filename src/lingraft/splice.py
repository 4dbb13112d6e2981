"""Vocabularies and the splice between two of them. Plain values: no tokenizer library, no torch.

A `Vocabulary` says which bytes each id stands for. A `Splice` says, for every id of the target vocabulary, where its
row comes from: *kept* (the row of a source id) or *added* (made by an initialisation from `pieces`, the source ids
that spelled the same bytes before). An added row may belong to a token that the source has: *reinitialised*, because
the source's own pre-tokenizer could never produce the token and nothing trained its row. Selection and families end in
a splice; initialisations and checkpoint surgery begin from it; the report explains it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any


@dataclass(frozen=True)
class Vocabulary:
    """What each id stands for.

    `surfaces[id]` are the bytes that the token adds to a text, `None` for a special token or an id without a token.
    `special` maps the id of every added or control token to its content.
    """

    surfaces: tuple[bytes | None, ...]
    special: Mapping[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.surfaces)

    @cached_property
    def ids(self) -> dict[bytes, int]:
        """The lowest id of each surface."""
        found: dict[bytes, int] = {}
        for token_id, surface in enumerate(self.surfaces):
            if surface is not None:
                found.setdefault(surface, token_id)
        return found


@dataclass(frozen=True)
class AddedToken:
    """A token whose row is made: one that the source vocabulary did not have, or one that it could not produce.

    `pieces` are the source ids by which the source tokenizer spells `surface`, as the model meets them inside a text
    (no spurious word start); `count` is how often the token occurred in the text that it was learned from.
    """

    id: int
    surface: bytes
    pieces: tuple[int, ...]
    count: int = 0

    @property
    def text(self) -> str:
        r"""The surface for people; bytes that are no UTF-8 are shown as `\\xNN`."""
        return self.surface.decode("utf-8", errors="backslashreplace")


@dataclass(frozen=True)
class Splice:
    """The whole relation between a source and a target vocabulary.

    `kept` maps target ids to source ids, `added` lists the others, `dropped` the source ids that have no successor.
    Together, kept and added name every target id from 0 to `target_size` - 1 exactly once. `reinitialised` maps those
    added ids whose token the source has to the source id: number, spelling and merges stay, the row does not. Together,
    kept, reinitialised and dropped name every source id exactly once. No pieces name a reinitialised source id, whose
    row was never trained. `source_size` counts the ids of the source tokenizer; a model may have more rows than that
    (padding), which are no part of the relation.

    >>> splice = Splice(source_size=2, kept={0: 0, 1: 1}, added=(AddedToken(2, b"ab", (0, 1)),))
    >>> splice.target_size, splice.is_extension
    (3, True)
    >>> again = Splice(2, {0: 0}, (AddedToken(1, b"b", (0,)), AddedToken(2, b"ab", (0, 0))), reinitialised={1: 1})
    >>> [token.id for token in again.new], again.corresponding
    ([2], {0: 0, 1: 1})
    """

    source_size: int
    kept: Mapping[int, int]
    added: tuple[AddedToken, ...] = ()
    dropped: tuple[int, ...] = ()
    reinitialised: Mapping[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        named = sorted([*self.kept, *(token.id for token in self.added)])
        if named != list(range(len(named))):
            msg = f"a splice names every target id once, from 0 on; got {len(named)} ids, {_first_gap(named)}"
            raise ValueError(msg)
        sources = [*self.kept.values(), *self.reinitialised.values(), *self.dropped]
        if sorted(sources) != list(range(self.source_size)):
            msg = (
                f"a splice keeps, reinitialises or drops every one of {self.source_size} source ids once; got "
                f"{len(sources)}"
            )
            raise ValueError(msg)
        strange = self.reinitialised.keys() - {token.id for token in self.added}
        if strange:
            msg = f"a reinitialised id is an added one with pieces; {sorted(strange)[:4]} are not"
            raise ValueError(msg)
        self._check_pieces()

    def _check_pieces(self) -> None:
        untrained = self.untrained
        for token in self.added:
            if not token.pieces or not all(0 <= piece < self.source_size for piece in token.pieces):
                msg = f"added token {token.id} ({token.text!r}) has pieces {token.pieces}: not ids of the source"
                raise ValueError(msg)
            if not untrained.isdisjoint(token.pieces):
                msg = (
                    f"added token {token.id} ({token.text!r}) has pieces {token.pieces}, of which "
                    f"{sorted(untrained.intersection(token.pieces))} are reinitialised: the source never cut so"
                )
                raise ValueError(msg)

    @property
    def target_size(self) -> int:
        """The number of ids in the target vocabulary."""
        return len(self.kept) + len(self.added)

    @property
    def is_extension(self) -> bool:
        """Whether every source id kept its number."""
        return not self.dropped and all(
            target == source for target, source in self.corresponding.items()
        )

    @property
    def new(self) -> tuple[AddedToken, ...]:
        """The added tokens that the source vocabulary did not have."""
        return tuple(token for token in self.added if token.id not in self.reinitialised)

    @property
    def corresponding(self) -> dict[int, int]:
        """The source id of every target id that stands for the same token, whether its row is kept or made."""
        return {**self.kept, **self.reinitialised}

    @property
    def untrained(self) -> frozenset[int]:
        """The source ids whose rows nothing trained; no row may be made from theirs."""
        return frozenset(self.reinitialised.values())

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON; runs of kept ids are stored as [target, source, length]."""
        return {
            "format": 1,
            "source_size": self.source_size,
            "kept": [list(run) for run in _runs(sorted(self.kept.items()))],
            "added": [[t.id, t.surface.hex(), list(t.pieces), t.count] for t in self.added],
            "dropped": list(self.dropped),
            **({"reinitialised": sorted(self.reinitialised.items())} if self.reinitialised else {}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Splice:
        """Read what `to_json` wrote; raises `ValueError` where the relation does not hold.

        A splice without `reinitialised` is of a version that had none, or of a pre-tokenizer that was not changed.
        """
        kept = {t + i: s + i for t, s, length in data["kept"] for i in range(length)}
        added = tuple(AddedToken(i, bytes.fromhex(s), tuple(p), n) for i, s, p, n in data["added"])
        again = dict(data.get("reinitialised", ()))
        return cls(data["source_size"], kept, added, tuple(data["dropped"]), again)

    def dumps(self) -> str:
        """Return the JSON text of the splice, one added token a line."""
        data = self.to_json()
        added = ",\n  ".join(json.dumps(row) for row in data.pop("added"))
        head = json.dumps(data)[:-1]
        return f'{head}, "added": [\n  {added}\n]}}\n' if added else f'{head}, "added": []}}\n'


def identity_splice(size: int, added: Sequence[AddedToken] = ()) -> Splice:
    """Return the splice that keeps `size` source ids as they are and appends `added`."""
    return Splice(size, {i: i for i in range(size)}, tuple(added))


def _runs(pairs: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
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


def _first_gap(named: Sequence[int]) -> str:
    for expected, got in enumerate(named):
        if got != expected:
            return f"where id {expected} should be there is {got}"
    return "none missing"
