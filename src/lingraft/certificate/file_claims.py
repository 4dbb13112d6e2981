"""Claims about a source that transformers cannot open: a SentencePiece or tiktoken file alone.

SentencePiece reads its own files. A tiktoken file needs no library: each of its lines holds the
bytes of a token and its rank, which is the id.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lingraft.certificate.claims import Claim
from lingraft.certificate.readings import read_folder_with_transformers
from lingraft.tokenizer import ModelTokenizer
from lingraft.tokenizer.conversion_check import compare_with_sentencepiece
from lingraft.tokenizer.edge_cases import edge_case_texts
from lingraft.tokenizer.load_tokenizer import is_tiktoken, tokenizer_file

AS_SENTENCEPIECE = "source read as SentencePiece reads it"
AS_LISTED = "source read as its file lists it"

_EXAMPLES = 3  # exceptions that a message lists


def certify_file(
    tokenizer: ModelTokenizer, given: Path, texts: Sequence[str], *, reason: str
) -> Claim:
    """Compare our reading with the file itself; `reason` says why transformers cannot open it."""
    source = tokenizer_file(given)
    if is_tiktoken(source):
        return _check_with_tiktoken(tokenizer, source, reason)
    if ".model" in source.name:
        return _check_with_sentencepiece(tokenizer, source, texts, reason)
    return Claim(
        "source read as transformers reads it",
        0,
        0,
        "ids, flags and texts",
        f"nothing was compared ({reason})",
        exceptions=(reason,),
    )


def _check_with_sentencepiece(
    tokenizer: ModelTokenizer, source: Path, texts: Sequence[str], reason: str
) -> Claim:
    """Compare all pieces and ids, the special ids, and the ids of texts."""
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor(model_file=str(source))
    differences = list(_different_pieces(tokenizer, processor))
    roles = (("bos", processor.bos_id()), ("eos", processor.eos_id()))
    for role, theirs in roles:
        ours = getattr(tokenizer, f"{role}_id")
        # SentencePiece returns -1 for a role without a token.
        if theirs >= 0 and ours != theirs and not _names_role(source.parent, role):
            differences.append(f"{role} id: {ours}, not {theirs}")
    of = processor.get_piece_size() + len(roles)
    for content, token_id in _side_tokens(source.parent, processor.get_piece_size()).items():
        of += 1
        if tokenizer.family.special.get(token_id) != content:
            differences.append(f"id {token_id} of {content!r} in transformers is no token")
    compared = compare_with_sentencepiece(tokenizer, source, without_added_tokens(tokenizer, texts))
    differences += [f"ids of {text[:40]!r}" for text in compared.different]
    return Claim(
        AS_SENTENCEPIECE,
        len(differences),
        of + compared.texts,
        "ids and texts",
        f"compared with SentencePiece ({reason}): every id, bos and eos, edge cases and real texts",
        exceptions=tuple(differences[:_EXAMPLES]),
    )


def _different_pieces(tokenizer: ModelTokenizer, processor: Any) -> Iterator[str]:
    """Yield a message for each piece of a SentencePiece model that has another id in ours."""
    pieces = tokenizer.family.pieces
    for token_id in range(processor.get_piece_size()):
        piece = processor.id_to_piece(token_id)
        # A conversion may write the piece of a byte, <0xNN>, as the character of that byte.
        byte = bytes([int(piece[3:5], 16)]) if processor.is_byte(token_id) else None
        is_byte = byte is not None and tokenizer.vocabulary.surfaces[token_id] == byte
        if pieces.get(piece) != token_id and not is_byte:
            yield f"id of {piece!r}: {pieces.get(piece)}, not {token_id}"


def without_added_tokens(tokenizer: ModelTokenizer, texts: Sequence[str]) -> list[str]:
    """Return edge cases and the texts, except those that contain an added token.

    SentencePiece does not know tokens that other files add, and reads them as text.
    """
    special = tokenizer.family.special.values()
    kept = []
    for text in (*edge_case_texts(), *texts):
        mentions = any(token in text for token in special)
        if text and not mentions:
            kept.append(text)
    return kept


def sentencepiece_source(given: Path) -> Path | None:
    """Return the SentencePiece file that a tokenizer is read from, `None` if it is another file."""
    source = tokenizer_file(given)
    return source if ".model" in source.name and not is_tiktoken(source) else None


def _names_role(folder: Path, role: str) -> bool:
    """Return whether a file next to the model file names, and so overrides, a role's token."""
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        path = folder / name
        if path.is_file() and json.loads(path.read_bytes()).get(f"{role}_token"):
            return True
    return False


def _side_tokens(folder: Path, pieces: int) -> dict[str, int]:
    """Return the tokens after the pieces, which transformers reads from files next to the model.

    The class that transformers guesses may give texts other ids, but it reads these files.
    """
    config, added = folder / "tokenizer_config.json", folder / "added_tokens.json"
    if not config.is_file() and not added.is_file():
        return {}
    vocab = read_folder_with_transformers(folder).vocab
    return {content: token_id for content, token_id in vocab.items() if token_id >= pieces}


def _check_with_tiktoken(tokenizer: ModelTokenizer, source: Path, reason: str) -> Claim:
    """Compare every line of a tiktoken file with the token of its rank and with its encoding."""
    family = tokenizer.family
    listed: list[tuple[bytes, int]] = []
    for line in source.read_bytes().splitlines():
        content, number = line.split()
        listed.append((base64.b64decode(content), int(number)))
    encoded = family.segment([family.piece_of(surface) for surface, _ in listed])
    differences = []
    for (surface, rank), ids in zip(listed, encoded, strict=True):
        if ids != [rank] or family.vocabulary.surfaces[rank] != surface:
            differences.append(f"{surface!r} of rank {rank} is read as {ids}")
    return Claim(
        AS_LISTED,
        len(differences),
        len(listed),
        "lines",
        f"compared with the lines of {source.name} ({reason}): each token has its rank as id, and "
        "its own bytes are read as that token",
        exceptions=tuple(differences[:_EXAMPLES]),
    )
