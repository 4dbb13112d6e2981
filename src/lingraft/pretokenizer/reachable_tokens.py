"""Base tokens that only a changed pre-tokenizer produces, so that their rows were never trained.

A vocabulary may hold tokens that its own pre-tokenizer splits in every text, because it was learned
with another expression. A changed expression may produce them. They are then treated as added
tokens.

A token is called reachable where two conditions hold. First, its bytes may be in one pre-token
(`pre_tokens`). Second, the model returns the token for these bytes alone: merges inside a token
happen in the same order in any context, because no merge crosses the boundaries of the token. A
token that fails a condition is never produced. A few tokens that meet both are not produced either,
because the first condition accepts too many strings. Treating these as added tokens does no harm:
no text uses them.
"""

from __future__ import annotations

from lingraft.pretokenizer.pre_tokens import cutting_steps, may_be_whole, split_into_parts
from lingraft.pretokenizer.regex_syntax import UnknownSyntaxError
from lingraft.tokenizer.base import Family
from lingraft.tokenizer.byte_level_bpe import ByteLevel
from lingraft.tokenizer.json_format import Data, build_model_only


def newly_reachable(source: Family, target: Data | Family) -> frozenset[int]:
    """Return the ids of the source's tokens that the target produces and the source never does.

    Tokens that both have must have the same id in both. Special tokens are left out. A target of
    another family has other pieces for the same bytes, so it produces none of the source's tokens.
    """
    data = target if isinstance(target, dict) else target.data
    if not ByteLevel.recognises(data):
        return frozenset()
    source_looks_up = bool(source.data["model"].get("ignore_merges"))
    lookup = bool(data["model"].get("ignore_merges")) and not source_looks_up
    same = source.data.get("pre_tokenizer") == data.get("pre_tokenizer")
    if not isinstance(source, ByteLevel) or (same and not lookup):
        return frozenset()
    before, after = cutting_steps(source.data), cutting_steps(data)
    candidates, whole_before = [], set()
    for token_id, surface in enumerate(source.vocabulary.surfaces):
        if not surface:
            continue
        was_whole = may_be_whole(before, surface)
        if (lookup or not was_whole) and may_be_whole(after, surface):
            candidates.append(token_id)
            if was_whole:
                whole_before.add(token_id)
    if whole_before:
        # With a lookup of whole words the target also produces tokens that no merges lead to. Those
        # that the source's merges produce were trained.
        trained = whole_before & _find_produced(source, source, candidates)
        candidates = sorted(set(candidates) - trained)
    return _find_produced(source, target, candidates)


def _find_produced(source: Family, target: Data | Family, token_ids: list[int]) -> frozenset[int]:
    """Return those of the source's tokens that the target's model returns for their own bytes."""
    data = target if isinstance(target, dict) else target.data
    model = build_model_only(target) if isinstance(target, dict) else target.model_only
    surfaces = source.vocabulary.surfaces
    pieces = [source.piece_of(surfaces[token_id] or b"") for token_id in token_ids]
    encodings = model.encode_batch_fast(pieces, add_special_tokens=False)
    produced = set()
    for token_id, piece, encoding in zip(token_ids, pieces, encodings, strict=True):
        if encoding.ids == [data["model"]["vocab"].get(piece)]:
            produced.add(token_id)
    return frozenset(produced)


def split_where_always_cut(source: Family, surface: bytes) -> list[bytes]:
    """Split bytes where the source's pre-tokenizer splits them in every text."""
    if not isinstance(source, ByteLevel):
        return [surface]
    try:
        return split_into_parts(cutting_steps(source.data), surface)
    except UnknownSyntaxError:
        # Without knowledge of the splits, the bytes are segmented as one text.
        return [surface]
