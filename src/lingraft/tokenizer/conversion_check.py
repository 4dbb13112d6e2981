"""Comparing a converted tokenizer.json with SentencePiece itself, on texts and on all pieces.

`sentencepiece_model` converts every setting that `tokenizers` supports. Remaining differences show
only in the ids: pieces with a character that has no piece of its own, pieces of equal scores
(SentencePiece merges the leftmost, `tokenizers` the one that ranks first), rules of a custom
character map. Both libraries are run, and a conversion that differs is refused.

Two differences are accepted: near ties of Unigram scores, and decomposed characters (NFD), which
the character map of `tokenizers` does not compose. Texts with the latter are counted.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lingraft.errors import TokenizerError
from lingraft.tokenizer.model_tokenizer import ModelTokenizer
from lingraft.tokenizer.sentencepiece_bpe import SPACE
from lingraft.tokenizer.sentencepiece_file import (
    BPE,
    NORMAL,
    piece_names,
    pieces_of_type,
    read_message,
    user_defined,
)
from lingraft.tokenizer.sentencepiece_model import CONVERTED_FROM, has_prefix_once
from lingraft.tokenizer.unigram import Unigram

# SentencePiece sums the scores of a Unigram in 32 bits and `tokenizers` in 64. In a long text two
# segmentations of equal score are then ordered differently.
_NEAR_TIE = 1e-3
_EXAMPLES = 3


@dataclass(frozen=True)
class ConversionCheck:
    """The result of a comparison.

    `texts` is the number of texts that were compared. `different` holds those whose ids differ.
    `decomposed` counts the texts that differ only because of decomposed characters (NFD), which are
    not in `different`.
    """

    texts: int
    different: tuple[str, ...]
    decomposed: int


def check_if_converted(
    tokenizer: ModelTokenizer,
    probes: Iterable[str],
    texts: Iterable[str] = (),
    *,
    warn: Callable[[str], None],
) -> None:
    """Compare a tokenizer with the SentencePiece file that it was converted from, if any.

    Raises `TokenizerError` where the ids of probes or texts differ. Warns of texts that differ only
    by decomposed characters.
    """
    name = tokenizer.config.get(CONVERTED_FROM)
    if name is None:
        return
    model = tokenizer.folder / str(name)
    check_conversion(tokenizer, model, probes)
    result = compare_with_sentencepiece(tokenizer, model, texts)
    if result.different:
        raise TokenizerError(_refusal(model, read_message(model), result, "texts"))
    if result.decomposed:
        warn(
            f"{name}: {result.decomposed} of {result.texts} texts hold characters in decomposed "
            "form (NFD), which SentencePiece composes and tokenizers and transformers do not; "
            "write the text in NFC"
        )


def check_conversion(
    tokenizer: ModelTokenizer, model: Path, texts: Iterable[str]
) -> ConversionCheck:
    """Compare a converted tokenizer with its SentencePiece file on these texts and all pieces.

    Raises `TokenizerError` where ids differ, with the model's setting that is the likely cause.
    """
    message = read_message(model)
    surface_of = tokenizer.family.surface_of
    spellings = [surface_of(piece).decode() for piece in pieces_of_type(message, NORMAL)]
    by_texts = compare_with_sentencepiece(tokenizer, model, texts)
    by_pieces = compare_with_sentencepiece(tokenizer, model, spellings)
    if by_texts.different:
        raise TokenizerError(_refusal(model, message, by_texts, "texts"))
    if by_pieces.different:
        raise TokenizerError(_refusal(model, message, by_pieces, "pieces, given as text,"))
    return by_texts


def _refusal(model: Path, message: Any, result: ConversionCheck, kind: str) -> str:
    """Return the message for a conversion that differs."""
    examples = ", ".join(repr(text[:40]) for text in result.different[:_EXAMPLES])
    return (
        f"{model.name}: tokenizers cannot give the ids of SentencePiece "
        f"({len(result.different)} of {result.texts} {kind} differ, such as {examples}); "
        f"{_cause(message, result.different)}; "
        "give the model's own tokenizer.json instead, if there is one"
    )


def compare_with_sentencepiece(
    tokenizer: ModelTokenizer, model: Path, texts: Iterable[str]
) -> ConversionCheck:
    """Compare the ids of a tokenizer with those of a SentencePiece file."""
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor(model_file=str(model))
    # Special tokens that a text spells are plain text to both. Other added tokens are known to only
    # one of them, so the parts between them are compared.
    parts = list(tokenizer.family.between_added_tokens(texts))
    if has_prefix_once(tokenizer.family.data):
        # LlamaTokenizer puts no second space before a leading one; SentencePiece does.
        parts = [text for text in parts if not text.startswith((" ", SPACE))]
    different: list[str] = []
    decomposed = 0
    encoded = zip(parts, tokenizer.encode(parts), processor.encode(parts), strict=True)
    for text, ours, theirs in encoded:
        if ours == theirs or _is_near_tie(tokenizer, ours, theirs):
            continue
        if _differs_by_composition(tokenizer, processor, text):
            decomposed += 1
        else:
            different.append(text)
    return ConversionCheck(len(parts), tuple(different), decomposed)


def _is_near_tie(tokenizer: ModelTokenizer, ours: Sequence[int], theirs: Sequence[int]) -> bool:
    """Whether the scores of two segmentations by a Unigram differ by no more than rounding."""
    family = tokenizer.family
    if not isinstance(family, Unigram) or not ours or not theirs:
        return False
    vocab = family.data["model"]["vocab"]
    our_score = sum(vocab[token_id][1] for token_id in ours)
    their_score = sum(vocab[token_id][1] for token_id in theirs)
    return bool(abs(our_score - their_score) < _NEAR_TIE * max(1.0, abs(our_score) / 100))


def _differs_by_composition(tokenizer: ModelTokenizer, processor: Any, text: str) -> bool:
    """Whether both libraries give the same ids once the characters of a text are composed."""
    parts = (tokenizer.family.data.get("normalizer") or {}).get("normalizers", ())
    if not any(part["type"] == "Precompiled" for part in parts):
        return False
    composed = unicodedata.normalize("NFKC", text)
    theirs: list[int] = processor.encode(composed)
    return composed != text and tokenizer.encode([composed])[0] == theirs


def _cause(message: Any, texts: Sequence[str]) -> str:
    """Return the likely cause of a difference, the most likely one first."""
    known = set(piece_names(message))
    if message.trainer_spec.byte_fallback:
        # The conversion gives ASCII characters the pieces of their bytes.
        known |= set(map(chr, range(128)))
    lacking = [piece for piece in pieces_of_type(message, NORMAL) if not known.issuperset(piece)]
    if _occurs(lacking, texts):
        return (
            f"pieces such as {lacking[0]!r} ({len(lacking)} in all) hold a character without a "
            "piece of its own, which SentencePiece merges and tokenizers does not"
        )
    is_bpe = message.trainer_spec.model_type == BPE
    scores = [piece.score for piece in message.pieces if piece.type == NORMAL]
    if is_bpe and len(set(scores)) < len(scores):
        return "pieces have the same score, of which SentencePiece merges the leftmost first"
    if user_defined(message):
        symbols = ", ".join(user_defined(message)[:_EXAMPLES])
        return f"its user-defined pieces (user_defined_symbols: {symbols}) are the likely cause"
    rule = message.normalizer_spec.name or "custom"
    return f"its normalization ({rule}) or its merges are the likely cause"


def _occurs(pieces: Sequence[str], texts: Sequence[str]) -> bool:
    """Whether one of the texts contains one of the pieces."""
    for piece in pieces:
        spelling = piece.replace(SPACE, " ").strip()
        if any(spelling in text for text in texts):
            return True
    return False
