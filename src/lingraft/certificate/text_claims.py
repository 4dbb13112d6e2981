"""Claims about texts: round trips, lengths, tokens in use, and documents that keep their ids.

The claims compare the target with the source. A property that the source itself lacks on a text is
not expected of the target.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from tokenizers import normalizers

from lingraft.certificate.claims import Claim, Evidence
from lingraft.tokenizer.byte_level_bpe import BPE
from lingraft.tokenizer.edge_cases import broad_sample, edge_case_texts, word_without_spaces
from lingraft.tokenizer.unigram import Unigram
from lingraft.tokenizer.unknown_tokens import (
    can_lose_text,
    count_tokens,
    is_as_faithful,
    measure_round_trip,
    unknown_piece,
)

BASE_IDENTICAL = "base-language documents identical"
BASE_LOSS = "round trip of the base itself"

# Texts encoded at a time: enough for the threads of `tokenizers`, few enough for memory.
_BATCH = 512
# Documents of each given text for the claims that are checked on a sample.
_SAMPLED = 500
_EXAMPLES = 3


def certify_texts(evidence: Evidence) -> list[Claim]:
    """Check the claims about the given texts."""
    return [*_check_target_text(evidence), *_check_use(evidence), *_check_base_text(evidence)]


def certify_edge_cases(evidence: Evidence) -> Claim:
    """Check that texts that tokenizers often get wrong decode as with the source."""
    texts = [*edge_case_texts(), word_without_spaces(next(iter(evidence.target_heldout()), "x"))]
    unknown = unknown_piece(evidence.source)
    return Claim(
        "round trip on awkward text",
        _count_lossy(evidence, texts, unknown),
        len(texts),
        "texts",
        f"encoding and decoding gives the same text as with the base{_or_text(unknown)}: emoji, "
        "joiners, marks, control characters, code, a megabyte without a space",
    )


def certify_any_text(evidence: Evidence) -> Claim:
    """Check that text of any kind needs no more tokens than before.

    For a BPE with the pre-tokenizer of the base this follows from "new tokens rank below the base".
    Base merges join base tokens only, so all of them come before the first new merge, and new
    merges only join what they leave. In three cases the claim does not follow and is not fatal: if
    tokens were removed, for a Unigram, which compares whole segmentations, and if the pre-tokenizer
    was changed. Even a pre-tokenizer that never cuts more lets base merges apply across its former
    cuts, and the first of these merges may be a bad one (Llama-3, changed for Tamil: 1 of 271
    built-in texts grows, a Hindi one from 33 to 35 tokens).
    """
    source, target = evidence.source, evidence.target
    given = [*islice(evidence.target_heldout(), _SAMPLED)]
    if evidence.base_text is not None:
        given += islice(evidence.base_text(), _SAMPLED)
    longer = finer = texts = 0
    exceptions: list[str] = []
    same_cut = source.family.data.get("pre_tokenizer") == target.family.data.get("pre_tokenizer")
    for batch in _batches([*broad_sample(), *given]):
        texts += len(batch)
        sizes = zip(count_tokens(source, batch), count_tokens(target, batch), batch, strict=True)
        for before, after, text in sizes:
            if after > before:
                longer += 1
                exceptions.append(repr(text[:40]))
            if not same_cut:
                parts_before = len([*source.family.cut(text)])
                finer += len([*target.family.cut(text)]) > parts_before
    reason = _why_not_guaranteed(evidence, same_cut=same_cut, finer=finer)
    return Claim(
        "no text of any kind longer",
        longer,
        texts,
        "texts",
        f"{reason or 'promised for any text'}; checked on languages, code, markup, random Unicode, "
        "base-language and held-out documents",
        fatal=not reason,
        exceptions=tuple(exceptions[:_EXAMPLES]),
    )


def _why_not_guaranteed(evidence: Evidence, *, same_cut: bool, finer: int) -> str:
    """Return why texts may become longer, or an empty string if they cannot."""
    if evidence.splice.dropped:
        return "not promised: tokens were taken out, other tokens spell their text"
    if isinstance(evidence.source.family, Unigram):
        return "not promised: a Unigram compares whole segmentations by their scores"
    if evidence.normal_form:
        return f"not promised: {evidence.normal_form} writes some characters as two"
    if not same_cut:
        return (
            f"not promised: the changed pre-tokenizer cuts {finer} texts into more parts, and lets "
            "base merges apply across former cuts in others"
        )
    return ""


def _check_target_text(evidence: Evidence) -> Iterator[Claim]:
    """Check that held-out target text needs no more tokens than before, and decodes as before."""
    longer = lossy = documents = size = 0
    source, target = evidence.source, evidence.target
    unknown = unknown_piece(source)
    for batch in _batches(evidence.target_heldout()):
        documents += len(batch)
        size += _count_bytes(batch)
        lengths = zip(count_tokens(source, batch), count_tokens(target, batch), strict=True)
        for before, after in lengths:
            longer += after > before
        lossy += _count_lossy(evidence, batch, unknown)
    lost = ", a lost character counted as one" if can_lose_text(source.family) else ""
    yield Claim(
        "no target document longer",
        longer,
        documents,
        "held-out texts",
        f"no held-out text of the target language needs more tokens than before{lost} "
        f"({size:,} bytes)",
        fatal=not evidence.splice.dropped,  # other tokens spell the text of a removed token
    )
    yield from _report_base_loss(evidence)
    yield Claim(
        "round trip on target text",
        lossy,
        documents,
        "held-out texts",
        f"encoding and decoding gives the same text as with the base{_or_text(unknown)} "
        f"({size:,} bytes)",
    )


def _count_lossy(evidence: Evidence, texts: list[str], unknown: str | None) -> int:
    """Count the texts that decode less faithfully with the target than with the source."""
    source, target, form = evidence.source, evidence.target, evidence.normal_form
    # A text that the target gives back exactly needs no comparison; most texts are.
    changed = []
    for text, ids in zip(texts, target.encode(texts), strict=True):
        decoded = target.decode(ids)
        if decoded != text:
            changed.append((text, decoded))
    lossy = 0
    before = source.encode([text for text, _ in changed])
    for ids, (_, decoded) in zip(before, changed, strict=True):
        expected = source.decode(ids)
        if form is not None:
            expected = getattr(normalizers, form)().normalize_str(expected)
        lossy += not is_as_faithful(expected, decoded, unknown)
    return lossy


def _report_base_loss(evidence: Evidence) -> Iterator[Claim]:
    """Report the target-language documents that the base itself changes in a round trip."""
    loss = measure_round_trip(evidence.source, islice(evidence.target_heldout(), _SAMPLED))
    detail = f"the base itself: {loss}" if loss.changed else "the base gives every document back"
    if loss.documents:
        yield Claim(
            BASE_LOSS, loss.changed, loss.documents, "held-out documents", detail, fatal=False
        )


def _check_use(evidence: Evidence) -> Iterator[Claim]:
    """Check that each new token occurs in the training text, or is needed to merge one that does.

    Reinitialised tokens of the base do not count: they were not selected for this text.
    """
    added = evidence.splice.new
    if not added:
        return
    unseen = {token.id for token in added}
    # Reading stops as soon as every token was seen.
    for batch in _batches(evidence.target_train()):
        if not unseen:
            break
        for ids in evidence.target.encode(batch):
            unseen.difference_update(ids)
    intermediate = _find_intermediate(evidence, unseen)
    lost = _find_lost_characters(evidence, unseen)
    yield Claim(
        "added tokens used in running text",
        len(unseen - intermediate - lost),
        len(added),
        "tokens",
        f"{len(added) - len(unseen)} of {len(added)} added tokens occur in the training text; of "
        f"the others, {len(intermediate)} are intermediate tokens, without which tokens that do "
        f"occur could not be merged, and {len(lost)} are characters that the base loses, which "
        "occur inside longer tokens",
        fatal=False,
    )


def _find_intermediate(evidence: Evidence, unseen: set[int]) -> set[int]:
    """Return the unseen tokens that the merges of used tokens need.

    A used token needs them if each of its merges joins at least one token that was not seen.
    """
    family = evidence.target.family
    if not isinstance(family, BPE):
        return set()
    ids = family.pieces
    added = {token.id for token in evidence.splice.new}
    parts_of: dict[int, list[tuple[int, int]]] = {}
    for left, right in family.merges:
        merged = ids[left + right]
        if merged in added:
            parts_of.setdefault(merged, []).append((ids[left], ids[right]))
    intermediate: set[int] = set()
    waiting = list(added - unseen)
    while waiting:
        pairs = parts_of.get(waiting.pop(), [])
        if any(unseen.isdisjoint(pair) for pair in pairs):
            continue
        for pair in pairs:
            for part in pair:
                if part in unseen and part not in intermediate:
                    intermediate.add(part)
                    waiting.append(part)
    return intermediate


def _find_lost_characters(evidence: Evidence, unseen: set[int]) -> set[int]:
    """Return the unseen tokens that are single characters which the base cannot represent."""
    if unknown_piece(evidence.source) is None:
        return set()
    added = evidence.splice.new
    lost = set()
    for token in added:
        if token.id in unseen and len(token.text) == 1:
            lost.add(token.id)
    return lost


def _check_base_text(evidence: Evidence) -> Iterator[Claim]:
    """Count changed base-language documents; protected documents must not change."""
    if evidence.base_text is not None:
        yield _check_identical(evidence, BASE_IDENTICAL, evidence.base_text, fatal=False)
    if evidence.protected_text is not None:
        name = "protected documents identical"
        yield _check_identical(evidence, name, evidence.protected_text, fatal=True)


def _check_identical(
    evidence: Evidence, name: str, texts: Callable[[], Iterable[str]], *, fatal: bool
) -> Claim:
    """Count the documents whose ids change, and how the number of tokens changes."""
    changed = documents = grew = tokens_before = tokens_after = size = 0
    kept = evidence.splice.kept
    for batch in _batches(texts()):
        size += _count_bytes(batch)
        encoded = zip(evidence.source.encode(batch), evidence.target.encode(batch), strict=True)
        for before, after in encoded:
            documents += 1
            # Compare source ids: pruning renumbers tokens without changing the segmentation.
            changed += list(map(kept.get, after)) != before
            grew += len(after) > len(before)
            tokens_before += len(before)
            tokens_after += len(after)
    detail = (
        f"{documents - changed} of {documents} documents ({size:,} bytes) keep their ids; over all "
        f"of them tokens went from {tokens_before} to {tokens_after}, {grew} documents grew"
    )
    return Claim(name, changed, documents, "documents", detail, fatal=fatal)


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    stream = iter(texts)
    while batch := list(islice(stream, _BATCH)):
        yield batch


def _count_bytes(texts: Iterable[str]) -> int:
    """Return the UTF-8 bytes of texts."""
    return sum(len(text.encode()) for text in texts)


def _or_text(unknown: str | None) -> str:
    return f", or text where the base gave {unknown}" if unknown else ""
