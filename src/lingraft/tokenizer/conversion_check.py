"""Comparing a converted tokenizer.json with SentencePiece itself, on texts and on all pieces.

`sentencepiece_model` converts what `tokenizers` has a counterpart for. What it cannot express shows
only in the ids: pieces that hold a character without a piece of its own, pieces of equal scores
(SentencePiece merges the leftmost, `tokenizers` the one that ranks first), rules of a custom
character map. Both libraries are asked, and a conversion that differs is refused before anything is
learned on it.

Two differences are not held against a conversion. SentencePiece adds the scores of a Unigram in 32
bits and `tokenizers` in 64, so that two segmentations of equal score are told apart differently in
a long text. And the character map of `tokenizers`, which transformers uses too, does not compose
characters that a text writes in parts (NFD); those texts are counted.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lingraft.errors import TokenizerError
from lingraft.tokenizer.model_tokenizer import ModelTokenizer
from lingraft.tokenizer.sentencepiece_model import (
    BPE,
    CONVERTED_FROM,
    NORMAL,
    SPACE,
    has_prefix_once,
    read_message,
    user_defined,
)
from lingraft.tokenizer.unigram import Unigram

_NEAR_TIE = 1e-3
"""Sums of scores closer than this are equal in 32 bits."""
_EXAMPLES = 3


@dataclass(frozen=True)
class ConversionCheck:
    """Texts compared, those that differ, and how many differ by decomposed characters only."""

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
    """Compare a tokenizer with the SentencePiece file that it was converted from, if it was.

    Raises `TokenizerError` where the ids of probes or texts differ; warns of texts that differ by
    decomposed characters only.
    """
    name = tokenizer.config.get(CONVERTED_FROM)
    if name is None:
        return
    model = tokenizer.folder / str(name)
    check_conversion(tokenizer, model, probes)
    found = compare_with_sentencepiece(tokenizer, model, texts)
    if found.different:
        raise TokenizerError(_refusal(model, read_message(model), found, "texts"))
    if found.decomposed:
        warn(
            f"{name}: {found.decomposed} of {found.texts} texts hold characters in decomposed "
            "form (NFD), which SentencePiece composes and tokenizers and transformers do not; "
            "write the text in NFC"
        )


def check_conversion(
    tokenizer: ModelTokenizer, model: Path, texts: Iterable[str]
) -> ConversionCheck:
    """Compare a converted tokenizer with its SentencePiece file on these texts and all pieces.

    Raises `TokenizerError` where ids differ, with the setting of the model that is the likely
    cause.
    """
    message = read_message(model)
    pieces = [piece.piece for piece in message.pieces if piece.type == NORMAL]
    spellings = [tokenizer.family.surface_of(piece).decode() for piece in pieces]
    by_texts = compare_with_sentencepiece(tokenizer, model, texts)
    by_pieces = compare_with_sentencepiece(tokenizer, model, spellings)
    if by_texts.different:
        raise TokenizerError(_refusal(model, message, by_texts, "texts"))
    if by_pieces.different:
        raise TokenizerError(_refusal(model, message, by_pieces, "pieces, given as text,"))
    return by_texts


def _refusal(model: Path, message: Any, found: ConversionCheck, kind: str) -> str:
    """Return the message for a conversion that differs."""
    examples = ", ".join(repr(text[:40]) for text in found.different[:_EXAMPLES])
    return (
        f"{model.name}: tokenizers cannot give the ids of SentencePiece ({len(found.different)} of "
        f"{found.texts} {kind} differ, such as {examples}); {_cause(message, found.different)}; "
        "give the model's own tokenizer.json instead, if there is one"
    )


def compare_with_sentencepiece(
    tokenizer: ModelTokenizer, model: Path, texts: Iterable[str]
) -> ConversionCheck:
    """Compare the ids of a tokenizer with those of a SentencePiece file.

    Special tokens that a text spells are plain text to both. Other added tokens are known to one of
    them only: what lies between them is compared. Where the tokenizer follows LlamaTokenizer
    (`with_prefix_once`), texts that begin with a space are left out, which it reads differently.
    """
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor(model_file=str(model))
    given = list(tokenizer.family.between_added_tokens(texts))
    if has_prefix_once(tokenizer.family.data):
        given = [text for text in given if not text.startswith((" ", SPACE))]
    different: list[str] = []
    decomposed = 0
    for text, ours, theirs in zip(
        given, tokenizer.encode(given), processor.encode(given), strict=True
    ):
        if ours == theirs or _near_tie(tokenizer, ours, theirs):
            continue
        if _composed_alike(tokenizer, processor, text):
            decomposed += 1
        else:
            different.append(text)
    return ConversionCheck(len(given), tuple(different), decomposed)


def _near_tie(tokenizer: ModelTokenizer, ours: Sequence[int], theirs: Sequence[int]) -> bool:
    """Say whether two segmentations by a Unigram score the same, as far as 32 bits can tell."""
    family = tokenizer.family
    if not isinstance(family, Unigram) or not ours or not theirs:
        return False
    scores = [score for _piece, score in family.data["model"]["vocab"]]
    mine, others = (sum(scores[token_id] for token_id in ids) for ids in (ours, theirs))
    return bool(abs(mine - others) < _NEAR_TIE * max(1.0, abs(mine) / 100))


def _composed_alike(tokenizer: ModelTokenizer, processor: Any, text: str) -> bool:
    """Say whether a character map is the difference: composed characters are read alike."""
    parts = (tokenizer.family.data.get("normalizer") or {}).get("normalizers", ())
    if not any(part["type"] == "Precompiled" for part in parts):
        return False
    composed = unicodedata.normalize("NFKC", text)
    theirs: list[int] = processor.encode(composed)
    return composed != text and tokenizer.encode([composed])[0] == theirs


def _cause(message: Any, texts: Sequence[str]) -> str:
    """Name the setting of a SentencePiece model that makes the difference, most likely first."""
    own = {piece.piece for piece in message.pieces}
    if message.trainer_spec.byte_fallback:  # the conversion makes pieces of these
        own |= {chr(byte) for byte in range(128)}
    normal = [piece for piece in message.pieces if piece.type == NORMAL]
    lacking = [piece.piece for piece in normal if not own.issuperset(piece.piece)]
    if any(piece.replace("▁", " ").strip() in text for piece in lacking for text in texts):
        return (
            f"pieces such as {lacking[0]!r} ({len(lacking)} in all) hold a character without a piece "
            "of its own, from which SentencePiece merges and tokenizers does not"
        )
    is_bpe = message.trainer_spec.model_type == BPE
    if is_bpe and len({piece.score for piece in normal}) < len(normal):
        return "pieces have the same score, of which SentencePiece merges the leftmost first"
    if user_defined(message):
        symbols = ", ".join(user_defined(message)[:_EXAMPLES])
        return f"its user-defined pieces (user_defined_symbols: {symbols}) are the likely cause"
    rule = message.normalizer_spec.name or "custom"
    return f"its normalization ({rule}) or its merges are the likely cause"
