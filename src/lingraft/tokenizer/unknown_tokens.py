"""What a tokenizer loses of a text, and how to compare a Unigram with one that loses less.

Normalizers rewrite characters or take them out (T5's turns ZWNJ into a space), and characters without a piece become
"<unk>" where there are no bytes to fall back on. `measure_round_trip` counts both: a document comes back where decoding its
ids gives all its characters, white space aside.

Where the base writes "<unk>" for a run of characters, a target with pieces for them needs more tokens and gives more
text back. So two measures stand in for plain equality: a lost character costs one token, and a text comes back *as
faithfully* where it only differs in what stands in the place of "<unk>".
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from lingraft.tokenizer.model_tokenizer import ModelTokenizer
from lingraft.tokenizer.unigram import Unigram


def unknown_piece(tokenizer: ModelTokenizer) -> str | None:
    """Return how a tokenizer writes what it loses, `None` where it loses nothing."""
    family = tokenizer.family
    if not isinstance(family, Unigram) or not family.loses_characters or family.unknown is None:
        return None
    piece: str = family.data["model"]["vocab"][family.unknown][0]
    return piece


def count_lost_characters(tokenizer: ModelTokenizer, texts: Sequence[str]) -> list[int]:
    """Return how many characters of each text (after normalisation) are lost."""
    return [lost for _tokens, lost in _tokens_and_lost(tokenizer, texts)]


def count_tokens(tokenizer: ModelTokenizer, texts: Sequence[str]) -> list[int]:
    """Return the tokens of each text, where a lost character counts as one token."""
    return [tokens + lost for tokens, lost in _tokens_and_lost(tokenizer, texts)]


def _tokens_and_lost(tokenizer: ModelTokenizer, texts: Sequence[str]) -> list[tuple[int, int]]:
    """Return, for each text, the tokens that stand for something and the characters that are lost."""
    family = tokenizer.family
    if unknown_piece(tokenizer) is None or not isinstance(family, Unigram):
        return [(len(ids), 0) for ids in tokenizer.encode(texts)]
    found = []
    for encoding in family.encodings(texts):  # those of the fast call hold no tokens
        lost = 0
        if family.unknown in encoding.ids:
            lost = sum(
                len(token)
                for token, token_id in zip(encoding.tokens, encoding.ids, strict=True)
                if token_id == family.unknown
            )
        found.append((sum(token_id != family.unknown for token_id in encoding.ids), lost))
    return found


def is_as_faithful(before: str, after: str, unknown: str | None) -> bool:
    """Say whether `after` is `before`, or has text where `before` has the unknown piece.

    >>> is_as_faithful("a <unk> b", "a नमस्ते b", "<unk>"), is_as_faithful("a <unk> b", "a नमस्ते c", "<unk>")
    (True, False)
    """
    if before == after:
        return True
    if unknown is None:
        return False
    first, *rest = before.split(unknown)
    if not rest or not after.startswith(first) or not after.endswith(rest[-1]):
        return False
    place, end = len(first), len(after) - len(rest[-1])
    for part in rest[:-1]:
        place = after.find(part, place, end)
        if place < 0:
            return False
        place += len(part)
    return place <= end


@dataclass(frozen=True)
class RoundTrip:
    """How many documents a tokenizer changes, and how often it loses which character."""

    documents: int = 0
    changed: int = 0
    lost: Counter[str] = field(default_factory=Counter)

    def named(self, most: int = 5) -> dict[str, int]:
        """Return the characters that are lost most, by code point and name, with how often."""
        found = {}
        for character, count in sorted(self.lost.items(), key=lambda item: (-item[1], item[0]))[
            :most
        ]:
            name = unicodedata.name(character, "without a name")
            found[f"U+{ord(character):04X} {name}"] = count
        return found

    def __str__(self) -> str:
        """The loss in words."""
        characters = ", ".join(f"{name} ({count:,} times)" for name, count in self.named().items())
        more = f" and {len(self.lost) - 5:,} others" if len(self.lost) > 5 else ""
        return (
            f"{self.changed:,} of {self.documents:,} documents do not come back from its ids; "
            f"it loses {characters}{more}"
        )


def measure_round_trip(tokenizer: ModelTokenizer, documents: Iterable[str]) -> RoundTrip:
    """Encode and decode documents, and count what does not come back."""
    changed, lost = 0, Counter[str]()
    texts = list(documents)
    for text, ids in zip(texts, tokenizer.encode(texts), strict=True):
        decoded = tokenizer.decode(ids)
        if decoded == text:
            continue
        missing = Counter(text) - Counter(decoded)
        missing = Counter({one: count for one, count in missing.items() if not one.isspace()})
        changed += bool(missing)
        lost += missing
    return RoundTrip(len(texts), changed, lost)
