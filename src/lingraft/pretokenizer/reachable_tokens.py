"""Base tokens that a changed pre-tokenizer makes reachable: their rows were never trained.

A vocabulary may hold tokens that its own rules can never produce, because its expression cuts every text inside of
them: the vocabulary was learned with another expression. No text ever trained their rows. A changed expression that no
longer cuts there produces them, and they must then be treated as added tokens.

A token is reachable where two conditions hold. Its bytes may stand in one pre-token (`pieces`). And the model, given
these bytes alone, returns the token: merges within a token's borders happen in the same order whatever stands around
it, since no merge that is carried out crosses them. Both are exact for "unreachable"; the first allows a few strings
too many for "reachable", which can only add a token that no text uses.
"""

from __future__ import annotations

from lingraft.pretokenizer.pre_tokens import cutting_steps, may_be_whole, split_into_parts
from lingraft.pretokenizer.regex_syntax import UnknownSyntaxError
from lingraft.tokenizer.base import Family
from lingraft.tokenizer.byte_level_bpe import ByteLevel
from lingraft.tokenizer.json_format import Data, build_model_only


def newly_reachable(source: Family, target: Data | Family) -> frozenset[int]:
    """Return the ids of the source's tokens that the target produces and the source's own rules never do.

    `target` must give a token the id that it has in the source, where it has the token. Special tokens are left out.
    """
    data = target if isinstance(target, dict) else target.data
    lookup = bool(data["model"].get("ignore_merges")) and not source.data["model"].get(
        "ignore_merges"
    )
    same = source.data.get("pre_tokenizer") == data.get("pre_tokenizer")
    if not isinstance(source, ByteLevel) or (same and not lookup):
        return frozenset()
    before, after = cutting_steps(source.data), cutting_steps(data)
    found = []
    for token_id, surface in enumerate(source.vocabulary.surfaces):
        if (
            surface
            and (lookup or not may_be_whole(before, surface))
            and may_be_whole(after, surface)
        ):
            found.append(token_id)
    if (
        lookup
    ):  # words are looked up whole now: tokens may come into use that the merges do not lead to
        uncut = {i for i in found if may_be_whole(before, source.vocabulary.surfaces[i] or b"")}
        found = sorted(set(found) - (uncut & _produced(source, source, found)))
    return _produced(source, target, found)


def _produced(source: Family, target: Data | Family, token_ids: list[int]) -> frozenset[int]:
    """Return those of the source's tokens that a model makes of their own bytes."""
    vocab = (target if isinstance(target, dict) else target.data)["model"]["vocab"]
    bare = build_model_only(target) if isinstance(target, dict) else target.model_only
    pieces = [
        source.piece_of(source.vocabulary.surfaces[token_id] or b"") for token_id in token_ids
    ]
    encodings = bare.encode_batch_fast(pieces, add_special_tokens=False)
    return frozenset(
        token_id
        for token_id, piece, encoding in zip(token_ids, pieces, encodings, strict=True)
        if encoding.ids == [vocab.get(piece)]
    )


def split_where_always_cut(source: Family, surface: bytes) -> list[bytes]:
    """Cut bytes that are no text of their own where the source's pre-tokenizer cuts them in every text."""
    if not isinstance(source, ByteLevel):
        return [surface]
    try:
        return split_into_parts(cutting_steps(source.data), surface)
    except UnknownSyntaxError:
        return [surface]
