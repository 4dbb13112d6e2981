"""Counting the characters that a tokenizer loses, and comparing it with one that loses fewer.

Normalizers rewrite or remove characters (T5's normalizer replaces ZWNJ by a space). Without byte
fallback, characters without a piece become "<unk>", and a byte-level BPE leaves out bytes without a
piece. `measure_round_trip` counts all of them: a document is unchanged where decoding its ids gives
all of its characters, apart from white space.

A target with pieces for characters that the base loses needs more tokens, because it preserves more
text. To compare both fairly, `count_tokens` counts each lost character as one token, and
`is_as_faithful` accepts any text in the place of "<unk>".
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice

from lingraft.tokenizer.base import Family
from lingraft.tokenizer.byte_level_bpe import ByteLevel, byte_characters
from lingraft.tokenizer.model_tokenizer import ModelTokenizer
from lingraft.tokenizer.unigram import Unigram

LOST_SHARE = 0.01
"""Share of lost characters above which numbers of a tokenizer are of another text."""

_SHOWN = 5
_UNITS_AT_ONCE = 10_000
_UTF8_BYTES = (*range(0xC0), *range(0xC2, 0xF5))  # the others occur in no text


def unknown_piece(tokenizer: ModelTokenizer) -> str | None:
    """Return the piece that stands for lost characters, `None` where none are lost."""
    family = tokenizer.family
    if family.unknown is None or not can_lose_text(family):
        return None
    return tokenizer.backend.id_to_token(family.unknown)


def count_tokens(tokenizer: ModelTokenizer, texts: Sequence[str]) -> list[int]:
    """Return the number of tokens of each text; a lost character counts as one token."""
    return list(map(sum, count_tokens_and_lost(tokenizer, texts)))


def count_tokens_and_lost(tokenizer: ModelTokenizer, texts: Sequence[str]) -> list[tuple[int, int]]:
    """Return the number of known tokens and of lost characters of each text.

    Of a character that a byte-level BPE loses, tokens of other bytes may be left.
    """
    family, unknown = tokenizer.family, tokenizer.family.unknown
    encoded = tokenizer.encode(texts)
    counts = [(len(ids), 0) for ids in encoded]
    if not can_lose_text(family):
        return counts
    if isinstance(family, ByteLevel):
        kept = [len(ids) - ids.count(-1 if unknown is None else unknown) for ids in encoded]
        return list(zip(kept, _count_torn_characters(family, texts), strict=True))
    if unknown is None:
        return counts
    lossy = [number for number, ids in enumerate(encoded) if unknown in ids]
    # Encodings of the fast call do not hold the text of a token.
    lost_text = unknown_text(tokenizer, [texts[number] for number in lossy])
    for number, parts in zip(lossy, lost_text, strict=True):
        known = counts[number][0] - len(parts)
        counts[number] = known, sum(len(part.decode()) for part in parts)
    return counts


def lost_share(tokenizer: ModelTokenizer, texts: Sequence[str]) -> float:
    """Return the share of the characters of these texts that a tokenizer loses."""
    if not can_lose_text(tokenizer.family):
        return 0.0
    lost = sum(count for _, count in count_tokens_and_lost(tokenizer, texts))
    return lost / max(sum(map(len, texts)), 1)


def _count_torn_characters(family: ByteLevel, texts: Sequence[str]) -> list[int]:
    """Return the number of characters of each text of which bytes have no piece."""
    count = family.unit_counter.count_whole
    units_of_texts = [count(family.between_added_tokens([text])) for text in texts]
    characters = byte_characters()
    missing = {byte for byte in range(256) if characters[byte] not in family.pieces}
    every: set[str] = set()
    every.update(*units_of_texts)
    torn: dict[str, int] = {}
    for unit in find_lost_units(family, every):
        text = family.surface_of(unit).decode(errors="ignore")
        torn[unit] = sum(not missing.isdisjoint(character.encode()) for character in text)
    return [sum(n * torn.get(unit, 0) for unit, n in units.items()) for units in units_of_texts]


def find_lost_units(family: Family, units: Iterable[str]) -> dict[str, int]:
    """Return the number of bytes that a tokenizer loses in each unit in which it loses some.

    Besides "<unk>", these are bytes without a piece in a byte-level BPE, which leaves them out.
    """
    if not can_lose_text(family):
        return {}
    sizes = [len(surface or b"") for surface in family.vocabulary.surfaces]
    if family.unknown is not None:
        sizes[family.unknown] = 0
    lost = {}
    stream = iter(units)
    while batch := list(islice(stream, _UNITS_AT_ONCE)):
        for unit, ids in zip(batch, family.segment(batch), strict=True):
            missing = len(family.surface_of(unit)) - sum(sizes[token_id] for token_id in ids)
            if missing > 0:
                lost[unit] = missing
    return lost


def can_lose_text(family: Family) -> bool:
    """Return whether a character or byte may have no token."""
    if isinstance(family, ByteLevel):
        return any(byte_characters()[byte] not in family.pieces for byte in _UTF8_BYTES)
    return len(family.fallback) < len(byte_characters())


def unknown_text(tokenizer: ModelTokenizer, texts: Sequence[str]) -> list[list[bytes]]:
    """Return the text of each unknown token in each text, in bytes."""
    family = tokenizer.family
    parts_of_texts = []
    for text, encoding in zip(texts, family.encodings(texts), strict=True):
        parts = []
        for token_id, token, (begin, end) in zip(
            encoding.ids, encoding.tokens, encoding.offsets, strict=True
        ):
            if token_id == family.unknown:
                # A Unigram names the token by the text; BPE does so by the unknown piece.
                is_text = isinstance(family, Unigram)
                parts.append(family.surface_of(token) if is_text else text[begin:end].encode())
        parts_of_texts.append(parts)
    return parts_of_texts


def is_as_faithful(before: str, after: str, unknown: str | None) -> bool:
    """Whether `after` equals `before`, apart from any text in place of the unknown piece.

    >>> is_as_faithful("a <unk> b", "a नमस्ते b", "<unk>")
    True
    >>> is_as_faithful("a <unk> b", "a नमस्ते c", "<unk>")
    False
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
    """The number of documents that a tokenizer changes, and the counts of lost characters."""

    documents: int = 0
    changed: int = 0
    lost: Counter[str] = field(default_factory=Counter)

    def most_lost(self, limit: int = _SHOWN) -> dict[str, int]:
        """Return the counts of the most frequent losses, by code point and name."""
        ordered = sorted(self.lost.items(), key=lambda item: (-item[1], item[0]))
        counts = {}
        for character, count in ordered[:limit]:
            name = unicodedata.name(character, "without a name")
            counts[f"U+{ord(character):04X} {name}"] = count
        return counts

    def __str__(self) -> str:
        """The loss as one sentence."""
        losses = self.most_lost().items()
        characters = ", ".join(f"{name} ({count:,} times)" for name, count in losses)
        more = f" and {len(self.lost) - _SHOWN:,} others" if len(self.lost) > _SHOWN else ""
        return (
            f"{self.changed:,} of {self.documents:,} documents change when encoded and decoded; "
            f"they lose {characters}{more}"
        )


def measure_round_trip(tokenizer: ModelTokenizer, documents: Iterable[str]) -> RoundTrip:
    """Encode and decode documents, and count the lost characters."""
    changed, lost = 0, Counter[str]()
    texts = list(documents)
    for text, ids in zip(texts, tokenizer.encode(texts), strict=True):
        decoded = tokenizer.decode(ids)
        if decoded == text:
            continue
        missing = Counter(text) - Counter(decoded)
        for character in list(filter(str.isspace, missing)):
            del missing[character]
        changed += bool(missing)
        lost += missing
    return RoundTrip(len(texts), changed, lost)
