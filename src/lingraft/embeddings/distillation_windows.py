"""Windows of text for token distillation: the same text as source ids and as target ids.

A window ends where a source token and a target token end at the same byte, so both tokenizations of
a window spell the same text. Only windows that contain an added token are kept.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass

from lingraft.checkpoint.config_files import context_of
from lingraft.checkpoint.model_class import read_model_config
from lingraft.embeddings.align import read_text
from lingraft.embeddings.base import InitRequest
from lingraft.embeddings.token_ends import EndFinder, TokenEnds

MAX_TOKENS = 512
"""The longest window in tokens of either side: one makes every sequence of its batch as long."""


@dataclass(frozen=True)
class StudentWindow:
    """Text as ids of both tokenizers.

    `ends` are the pairs of positions (source, target) where two tokens end at the same byte.
    `first_added` is the target position of the first added token.
    """

    source: tuple[int, ...]
    target: tuple[int, ...]
    ends: tuple[tuple[int, int], ...]
    first_added: int


@dataclass(frozen=True)
class FoundWindows:
    """The windows of a text, the ids of the added tokens in them, and the skipped documents."""

    windows: list[StudentWindow]
    seen: set[int]
    documents_skipped: int


def find_windows(
    request: InitRequest, *, text_bytes: int, window_tokens: int, windows_per_token: int
) -> FoundWindows:
    """Split the text into windows and keep those with an added token that needs more windows.

    A document is skipped if the two tokenizations spell texts of different length. Stops reading
    once every added token has `windows_per_token` windows.
    """
    find_source = EndFinder(request.source_tokenizer).find
    find_target = EndFinder(request.target_tokenizer).find
    max_tokens = _max_tokens(request)
    wanted = dict.fromkeys((token.id for token in request.splice.added), windows_per_token)
    missing, seen, windows, skipped = set(wanted), set(), [], 0
    for texts in read_text(request, text_bytes):
        for source, target in zip(find_source(texts), find_target(texts), strict=True):
            # A normalizer changed the text for one of them, so bytes cannot be aligned.
            if source.size != target.size:
                skipped += 1
                continue
            for window in _split(
                source, target, wanted, length=window_tokens, max_tokens=max_tokens
            ):
                if not missing.intersection(window.target):
                    continue
                windows.append(window)
                for token_id in wanted.keys() & set(window.target):
                    seen.add(token_id)
                    wanted[token_id] -= 1
                    if wanted[token_id] <= 0:
                        missing.discard(token_id)
        if not missing:
            break
    return FoundWindows(windows, seen, skipped)


def _max_tokens(request: InitRequest) -> int:
    """Return how many tokens a window may have, so that the model can read it."""
    context = context_of(read_model_config(request.source_folder).get_text_config().to_dict())
    # Learned positions end with the context. One position is that of the start token.
    return min(MAX_TOKENS, context - 1) if context else MAX_TOKENS


def _split(
    source: TokenEnds,
    target: TokenEnds,
    added: Container[int],
    *,
    length: int,
    max_tokens: int,
) -> Iterator[StudentWindow]:
    """Yield the windows of a document that contain an added token.

    A window has at least `length` target tokens, except for the last one and those that would
    exceed `max_tokens` with the next common end. Text between two common ends that is longer than
    `max_tokens` is in no window.
    """
    source_ids, target_ids = source.ids.tolist(), target.ids.tolist()
    pairs = _common_ends(source, target)
    begin = (-1, -1)  # the last positions before the window, in the source and in the target
    first_pair = 0  # of the window
    for number, pair in enumerate(pairs):
        can_grow = number + 1 < len(pairs) and _tokens(begin, pairs[number + 1]) <= max_tokens
        if can_grow and pair[1] - begin[1] < length:
            continue
        of_target = tuple(target_ids[begin[1] + 1 : pair[1] + 1])
        first = next((place for place, i in enumerate(of_target) if i in added), None)
        if first is not None and _tokens(begin, pair) <= max_tokens:
            ends = []
            # Only the window's own pairs: over all pairs of a long document, time is quadratic.
            for source_end, target_end in pairs[first_pair : number + 1]:
                ends.append((source_end - begin[0] - 1, target_end - begin[1] - 1))
            of_source = tuple(source_ids[begin[0] + 1 : pair[0] + 1])
            yield StudentWindow(of_source, of_target, tuple(ends), first)
        begin, first_pair = pair, number + 1


def _tokens(begin: tuple[int, int], end: tuple[int, int]) -> int:
    """Return the number of tokens after `begin` up to `end`, in the longer tokenization."""
    return max(end[0] - begin[0], end[1] - begin[1])


def _common_ends(source: TokenEnds, target: TokenEnds) -> list[tuple[int, int]]:
    """Return the positions (source, target) of the tokens that end at the same byte."""
    # Tokens without bytes share their end with the token before; the last of them counts.
    source_place = {end: place for place, end in enumerate(source.ends.tolist())}
    pairs = []
    for place, end in enumerate(target.ends.tolist()):
        if end in source_place:
            pairs.append((source_place[end], place))
    return pairs
