"""Extend a Unigram: lost characters first, then the pieces that save most tokens.

A piece of a Unigram needs no merges, and the tokenizer itself finds the best segmentation. So the
intermediate tokens of BPE would be useless here. The search has three steps:

1. Characters without a piece become pieces, if the base has no bytes for them and loses them.
2. The BPE learner proposes more pieces than wanted, on the segmentation of the base.
3. The extended tokenizer segments the text. The weight of a piece is the number of extra tokens
   that the text would need without it. The lightest pieces are removed and the others weighted
   again, until the wanted number is left (Kudo 2018, with the number of tokens in place of the
   likelihood).

Pieces that would change protected text are removed, checked on that text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from lingraft.progress import progress
from lingraft.tokenizer.sentencepiece_bpe import SPACE
from lingraft.tokenizer.unigram import Unigram, score_pieces
from lingraft.vocabulary.base import Selected, SelectionRequest
from lingraft.vocabulary.bpe_learner import BPELearner
from lingraft.vocabulary.word_counts import cut_words

# Lost characters become pieces, most frequent first, until this share of their uses is covered.
COVERAGE = 0.9999
# Candidates for each wanted piece.
SURPLUS = 2.0
# Rounds in which pieces that the text does not use are replaced by new candidates.
REFILLS = 4
# At most a fifth of the pieces is removed in one round, because their weights depend on each other.
SHRINK = 0.8
# Units segmented at a time, which bounds the memory of the result.
_UNITS_AT_ONCE = 50_000

Allowed = Callable[[bytes], bool]


def continue_unigram(request: SelectionRequest, *, allowed: Allowed, minimum: int) -> Selected:
    """Return up to `size` pieces: characters first, then the pieces that save most tokens."""
    family = request.family
    assert isinstance(family, Unigram)  # noqa: S101 - the caller asked
    characters = find_lost_characters(family, request, allowed)[: request.size]
    base = Unigram(family.with_tokens(characters))
    learner = BPELearner(
        cut_words(base, request.counts, request.protected),
        allowed=_without_foreign_ascii(request.counts, allowed),
        cut_alone=_two_parts,
        minimum=minimum,
    )
    search = _PieceSearch(request, family, characters, minimum)
    tokens_before = learner.words.tokens
    wanted = request.size - len(characters)
    with progress("learning tokens", int(wanted * SURPLUS)) as advance:

        def learn(count: int) -> list[bytes]:
            surfaces = []
            for surface in islice(learner.run(count), count):
                surfaces.append(surface)
                advance(1)
            return surfaces

        kept = search.shrink(learn(int(wanted * SURPLUS)), wanted)
        while len(kept) < wanted:
            extra = learn(max((wanted - len(kept)) * 2, wanted // 10, 100))
            if not extra:
                break
            kept = search.shrink([*kept, *extra], wanted)
    saved = search.sort_by_savings(kept, base, tokens_before)
    # The sort changes ranks, and with them scores and uses: some pieces may be unused now.
    for _ in range(REFILLS):
        unused = search.find_unused(kept)
        if not unused:
            break
        used = [surface for surface in kept if surface not in unused]
        kept = search.shrink([*used, *learn(2 * len(unused))], wanted)
        saved = search.sort_by_savings(kept, base, tokens_before)
    kept = search.remove_protected(kept)
    return Selected(
        (*characters, *kept),
        (0,) * len(characters) + tuple(saved[surface] for surface in kept),
        tokens_before,
        search.summarize(learner.learned.left_out, kept),
    )


def _two_parts(surface: bytes) -> list[bytes]:
    """Cut every surface into two parts, so that the learner finds it reachable without merges."""
    return [surface[:1], surface[1:]]


def _without_foreign_ascii(counts: Counter[str], allowed: Allowed) -> Allowed:
    """Refuse ASCII surfaces if most letters of the text are not ASCII.

    Such surfaces are names and English words in the text. They save little and change base text:
    3,000 Hindi pieces on T5 include "▁a", which is two pieces there, and change 328 of 1,638
    English documents.
    """
    ascii_letters = other_letters = 0
    for unit, count in counts.items():
        for character in unit:
            if character > "\x7f":
                other_letters += count * (character != SPACE)
            elif character.isalpha():
                ascii_letters += count
    if ascii_letters > other_letters:
        return allowed
    return lambda surface: not surface.isascii() and allowed(surface)


def find_lost_characters(
    family: Unigram, request: SelectionRequest, allowed: Allowed
) -> list[bytes]:
    """Return the characters of the text that the base loses, most frequent first.

    The rarest ones, beyond a share of `COVERAGE` of all uses, are left out.
    """
    if not family.loses_characters:
        return []
    protected: set[str] = set()
    for unit in request.protected:
        protected.update(unit)
    counts: Counter[str] = Counter()
    for unit, count in request.counts.items():
        for character in unit:
            counts[character] += count
    lost: dict[bytes, int] = {}
    for character, count in counts.items():
        if character in family.pieces or character in protected:
            continue
        surface = family.surface_of(character)
        if allowed(surface):
            lost[surface] = count
    ranked = sorted(lost, key=lambda surface: (-lost[surface], surface))
    may_be_left_out = sum(lost.values()) * (1 - COVERAGE)
    while ranked:
        may_be_left_out -= lost[ranked[-1]]
        if may_be_left_out < 0:
            break
        ranked.pop()
    return ranked


@dataclass
class _PieceSearch:
    """Weights pieces by segmenting the text with the tokenizer that they make."""

    request: SelectionRequest
    family: Unigram
    characters: Sequence[bytes]
    minimum: int
    notes: Counter[str] = field(default_factory=Counter)

    def shrink(self, candidates: Sequence[bytes], wanted: int) -> list[bytes]:
        """Return the `wanted` candidates of the highest weight, found by removing the lightest.

        Every returned piece saves at least `minimum` tokens, so there may be fewer.
        """
        kept = list(candidates)
        while True:
            kept = self.remove_protected(kept)
            weights = self.weigh(kept)
            useful = [surface for surface in kept if weights[surface] >= self.minimum]
            if len(useful) == len(kept) <= wanted:
                return kept
            useful.sort(key=lambda surface: -weights[surface])
            kept = useful[: max(wanted, int(len(kept) * SHRINK))]

    def weigh(self, kept: Sequence[bytes]) -> dict[bytes, int]:
        """Return the number of extra tokens that the text would need without each piece."""
        surfaces = [*self.characters, *kept]
        pieces = [self.family.piece_of(surface) for surface in surfaces]
        uses, _ = self.count_uses(surfaces)
        scores = score_pieces(
            pieces, self.family.scores, byte_fallback=not self.family.loses_characters
        )
        weights = {}
        for surface, score in zip(surfaces, scores, strict=True):
            weights[surface] = uses[surface] * (score.others - 1)
        return weights

    def find_unused(self, kept: Sequence[bytes]) -> set[bytes]:
        """Return the pieces that the text does not use, with the ranks of `kept`."""
        uses, _ = self.count_uses([*self.characters, *kept])
        return {surface for surface in kept if not uses[surface]}

    def count_uses(self, surfaces: Sequence[bytes]) -> tuple[Counter[bytes], int]:
        """Return the uses of each new piece in the text, and the number of all its tokens."""
        extended = Unigram(self.family.with_tokens(surfaces))
        by_id: Counter[int] = Counter()
        for unit, ids in _segment(extended, list(self.request.counts)):
            count = self.request.counts[unit]
            for token_id in ids:
                by_id[token_id] += count
        uses: Counter[bytes] = Counter()
        for position, surface in enumerate(surfaces):
            uses[surface] = by_id[self.family.size + position]
        return uses, by_id.total()

    def sort_by_savings(
        self, kept: list[bytes], base: Unigram, tokens_before: int
    ) -> dict[bytes, int]:
        """Sort pieces by what each saves, in place, and return the savings.

        The saving of a piece is its uses x (base tokens that it replaces - 1). Next to other
        pieces the base may cut it differently, so savings are scaled to the total saving.
        """
        uses, tokens = self.count_uses([*self.characters, *kept])
        raw = {}
        segmented = base.segment([base.piece_of(surface) for surface in kept])
        for surface, ids in zip(kept, segmented, strict=True):
            raw[surface] = uses[surface] * (len(ids) - 1)
        factor = (tokens_before - tokens) / max(sum(raw.values()), 1)
        saved = {surface: int(saving * factor) for surface, saving in raw.items()}
        kept.sort(key=lambda surface: (-saved[surface], surface))
        return saved

    def remove_protected(self, kept: list[bytes]) -> list[bytes]:
        """Remove pieces that change protected text until none does."""
        units = list(self.request.protected)
        if not units:
            return kept
        left_out = 0
        before = dict(_segment(self.family, units))
        while True:
            surfaces = [*self.characters, *kept]
            used: set[bytes] = set()
            for unit, ids in _segment(Unigram(self.family.with_tokens(surfaces)), units):
                if ids != before[unit]:
                    used.update(self._new_surfaces(ids, surfaces))
            if not used:
                break
            kept = [surface for surface in kept if surface not in used]
            left_out += len(used)
        self.notes["left out: it would change protected text"] += left_out
        return kept

    def _new_surfaces(self, ids: Sequence[int], surfaces: Sequence[bytes]) -> Iterator[bytes]:
        """Yield the surfaces of the new pieces among some ids."""
        for token_id in ids:
            if token_id >= self.family.size:
                yield surfaces[token_id - self.family.size]

    def summarize(self, left_out: Counter[str], kept: Sequence[bytes]) -> dict[str, int]:
        """Return the counts of what was left out and of lost characters, by reason."""
        notes: Counter[str] = Counter()
        for reason, count in left_out.items():
            notes[f"left out: {reason}"] = count
        notes.update(self.notes)
        if self.characters:
            notes["characters that were lost before"] = len(self.characters)
            uses, _ = self.count_uses([*self.characters, *kept])
            unused = sum(not uses[surface] for surface in self.characters)
            notes["characters: only in longer tokens, kept so that none is lost"] = unused
        return dict(notes)


def _segment(family: Unigram, units: Sequence[str]) -> Iterator[tuple[str, list[int]]]:
    """Yield each unit with its ids."""
    for start in range(0, len(units), _UNITS_AT_ONCE):
        chunk = units[start : start + _UNITS_AT_ONCE]
        yield from zip(chunk, family.segment(chunk), strict=True)
