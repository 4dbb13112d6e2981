"""Continuing a Unigram: characters first, then pieces, each kept for the tokens that it really saves.

A piece of a Unigram needs no merge that leads to it, so steps on the way to longer pieces are dead weight, and the
tokenizer itself picks the best segmentation. Hence three steps. Characters without a piece come first where the base
has no bytes for them: they are lost otherwise. The learner of continued BPE then proposes more pieces than wanted, on
the base's segmentation. Last, the extended tokenizer cuts the text, each piece is weighed by the tokens that its
absence would cost, the lightest go, and the rest is weighed anew, until the wanted number is left (Kudo 2018, with
tokens in place of likelihood). What would change protected text is left out, checked on that text itself.
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

COVERAGE = 0.9999
"""Characters get pieces of their own, most frequent first, until they cover this share of the letters that are lost."""
SURPLUS = 2.0
"""Candidates for each wanted piece."""
REFILLS = 4
"""How often pieces without a use in the text are replaced by the next ones."""
SHRINK = 0.8
"""At most a fifth goes in one round: weights of pieces depend on each other."""
_SLICE = 50_000

Allowed = Callable[[bytes], bool]


def continue_unigram(request: SelectionRequest, *, allowed: Allowed, minimum: int) -> Selected:
    """Return up to `size` pieces, characters first, then those that save most."""
    family = request.family
    assert isinstance(family, Unigram)  # noqa: S101 - the caller asked
    characters = lost_alphabet(family, request, allowed)[: request.size]
    grown = Unigram(family.with_tokens(characters))
    own = _own_script(request.counts, allowed)
    words = cut_words(grown, request.counts, request.protected)
    learner = BPELearner(words, allowed=own, cut_alone=_anything, minimum=minimum)
    search = _Search(request, family, characters, minimum)
    wanted = request.size - len(characters)
    with progress("learning tokens", int(wanted * SURPLUS)) as advance:

        def more(count: int) -> list[bytes]:
            found = []
            for surface in islice(learner.run(count), count):
                found.append(surface)
                advance(1)
            return found

        kept = search.shrink(more(int(wanted * SURPLUS)), wanted)
        while len(kept) < wanted and (
            extra := more(max((wanted - len(kept)) * 2, wanted // 10, 100))
        ):
            kept = search.shrink([*kept, *extra], wanted)
    saved = search.attributed(grown, kept, words.tokens)
    kept.sort(key=lambda surface: (-saved[surface], surface))
    for _ in range(REFILLS):  # ranks moved, scores and uses with them
        idle = search.idle(kept)
        if not idle:
            break
        left = [surface for surface in kept if surface not in idle]
        kept = search.shrink([*left, *more(2 * len(idle))], wanted)
        saved = search.attributed(grown, kept, words.tokens)
        kept.sort(key=lambda surface: (-saved[surface], surface))
    kept = search.without_protected(kept)
    notes = Counter(
        {f"left out: {reason}": count for reason, count in learner.learned.left_out.items()}
    )
    notes.update(search.notes)
    if characters:
        notes["characters that were lost before"] = len(characters)
        uses = search.uses([*characters, *kept])
        notes["characters: only in longer tokens, kept so that none is lost"] = sum(
            not uses[surface] for surface in characters
        )
    return Selected(
        (*characters, *kept),
        (0,) * len(characters) + tuple(saved[surface] for surface in kept),
        words.tokens,
        dict(notes),
    )


def _anything(surface: bytes) -> list[bytes]:
    """A Unigram needs no merge: whatever is spelled by two pieces can be reached."""
    return [surface[:1], surface[1:]]


def _own_script(counts: Counter[str], allowed: Allowed) -> Allowed:
    """Leave out ASCII alone where less than half of the letters are ASCII: names and English words in the text.

    They would change base text for little: 3,000 Hindi pieces on T5 hold "▁a", which is two pieces there, and change
    328 of 1,638 English documents.
    """
    letters: Counter[bool] = Counter()
    for unit, count in counts.items():
        ascii_letters = sum(character.isascii() and character.isalpha() for character in unit)
        letters[True] += count * ascii_letters
        letters[False] += count * sum(
            character > "\x7f" and character != SPACE for character in unit
        )
    if letters[True] > letters[False]:
        return allowed
    return lambda surface: not surface.isascii() and allowed(surface)


def lost_alphabet(family: Unigram, request: SelectionRequest, allowed: Allowed) -> list[bytes]:
    """Return the characters without a piece that are worth one, most frequent first."""
    if not family.loses_characters:
        return []
    kept = {character for unit in request.protected for character in unit}
    counts: Counter[str] = Counter()
    for unit, count in request.counts.items():
        for character in unit:
            counts[character] += count
    lost = {
        family.surface_of(character): count
        for character, count in counts.items()
        if character not in family.pieces and character not in kept
    }
    lost = {surface: count for surface, count in lost.items() if allowed(surface)}
    left = sum(lost.values()) * (1 - COVERAGE)
    ranked = sorted(lost, key=lambda surface: (-lost[surface], surface))
    while ranked and (left := left - lost[ranked[-1]]) >= 0:
        ranked.pop()
    return ranked


@dataclass
class _Search:
    """Weighs pieces on the text, with the tokenizer that they make."""

    request: SelectionRequest
    family: Unigram
    characters: Sequence[bytes]
    minimum: int
    notes: Counter[str] = field(default_factory=Counter)
    tokens: int = 0  # of the text, when it was cut last

    def shrink(self, candidates: Sequence[bytes], wanted: int) -> list[bytes]:
        """Return the `wanted` candidates that save most together; fewer where the others save too little."""
        kept = list(candidates)
        while True:
            kept = self.without_protected(kept)
            weights = self.weights(kept)
            useful = [surface for surface in kept if weights[surface] >= self.minimum]
            settled = len(useful) == len(kept) <= wanted
            if settled:
                return kept
            useful.sort(key=lambda surface: -weights[surface])
            kept = useful[: max(wanted, int(len(kept) * SHRINK))]

    def weights(self, kept: Sequence[bytes]) -> dict[bytes, int]:
        """Return the tokens that the text would need more without each piece."""
        surfaces = [*self.characters, *kept]
        pieces = [self.family.piece_of(surface) for surface in surfaces]
        uses = self.uses(surfaces)
        scores = score_pieces(
            pieces, self.family.scores, byte_fallback=not self.family.loses_characters
        )
        return {
            surface: uses[surface] * (score.others - 1)
            for surface, score in zip(surfaces, scores, strict=True)
        }

    def idle(self, kept: Sequence[bytes]) -> set[bytes]:
        """Return the pieces that the text does not use, with ranks as they are in `kept`."""
        uses = self.uses([*self.characters, *kept])
        return {surface for surface in kept if not uses[surface]}

    def uses(self, surfaces: Sequence[bytes]) -> Counter[bytes]:
        """Count each new piece in the text."""
        extended = Unigram(self.family.with_tokens(surfaces))
        found: Counter[int] = Counter()
        for unit, ids in _cut(extended, list(self.request.counts)):
            count = self.request.counts[unit]
            for token_id in ids:
                found[token_id] += count
        self.tokens = found.total()
        return Counter({surface: found[self.family.size + i] for i, surface in enumerate(surfaces)})

    def attributed(
        self, grown: Unigram, kept: Sequence[bytes], tokens_before: int
    ) -> dict[bytes, int]:
        """Return what each piece saves: its uses times the base tokens that it stands for, less one.

        Other base pieces may meet at its borders than alone; the shares are scaled to what all save together.
        """
        uses = self.uses([*self.characters, *kept])
        before = grown.segment([grown.piece_of(surface) for surface in kept])
        raw = {
            surface: uses[surface] * (len(ids) - 1)
            for surface, ids in zip(kept, before, strict=True)
        }
        factor = (tokens_before - self.tokens) / max(sum(raw.values()), 1)
        return {surface: int(share * factor) for surface, share in raw.items()}

    def without_protected(self, kept: list[bytes]) -> list[bytes]:
        """Leave out pieces that occur in protected text, until none does."""
        units = list(self.request.protected)
        if not units:
            return kept
        left_out = 0
        before = dict(_cut(self.family, units))
        while True:
            surfaces = [*self.characters, *kept]
            firing = {
                token_id - self.family.size
                for unit, ids in _cut(Unigram(self.family.with_tokens(surfaces)), units)
                if ids != before[unit]
                for token_id in ids
                if token_id >= self.family.size
            }
            if not firing:
                break
            gone = {surfaces[i] for i in firing}
            kept = [surface for surface in kept if surface not in gone]
            left_out += len(gone)
        self.notes["left out: it would change protected text"] += left_out
        return kept


def _cut(family: Unigram, units: Sequence[str]) -> Iterator[tuple[str, list[int]]]:
    for start in range(0, len(units), _SLICE):
        chunk = units[start : start + _SLICE]
        yield from zip(chunk, family.segment(chunk), strict=True)
