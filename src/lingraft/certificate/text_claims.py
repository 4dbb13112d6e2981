"""Claims about texts: round trips, lengths, tokens that are used, and documents that keep their ids."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from lingraft.certificate.claims import Claim, Evidence
from lingraft.tokenizer.byte_level_bpe import BPE
from lingraft.tokenizer.edge_cases import broad_sample, edge_case_texts, word_without_spaces
from lingraft.tokenizer.unigram import Unigram
from lingraft.tokenizer.unknown_tokens import (
    count_tokens,
    is_as_faithful,
    measure_round_trip,
    unknown_piece,
)

BASE_IDENTICAL = "base-language documents identical"
"""The name of the claim about text that the base already knows."""

_BATCH = 512
BASE_LOSS = "round trip of the base itself"
_SAMPLED = 500
"""Documents of each given text that the claim about any text is checked on."""


def certify_texts(evidence: Evidence) -> list[Claim]:
    """Check the claims about the texts that were given."""
    return [*_on_target(evidence), *_used(evidence), *_on_base(evidence)]


def certify_awkward(evidence: Evidence) -> Claim:
    """decode(encode(x)) is what it was with the source (or more), on texts that tokenizers get wrong."""
    texts = [*edge_case_texts(), word_without_spaces(next(iter(evidence.target_heldout()), "x"))]
    before = [evidence.source.decode(ids) for ids in evidence.source.encode(texts)]
    after = [evidence.target.decode(ids) for ids in evidence.target.encode(texts)]
    unknown = unknown_piece(evidence.source)
    changed = 0
    for one, other in zip(before, after, strict=True):
        changed += not is_as_faithful(one, other, unknown)
    return Claim(
        "round trip on awkward text",
        changed,
        len(texts),
        "texts",
        f"decoding what was encoded gives what it gave with the base{_or_more(unknown)}: emoji, "
        "joiners, marks, controls, code, a megabyte without a space",
    )


def certify_any_text(evidence: Evidence) -> Claim:
    """Text of any kind needs no more tokens than before.

    For a BPE whose pre-tokenizer is kept this follows from "new tokens rank below the base": base
    merges involve base tokens only, so all of them are done before the first new one, and new
    merges only join what they leave. It is only counted where tokens were taken out, for a Unigram,
    which weighs whole segmentations, and where the pre-tokenizer is changed: even one that never
    cuts more lets base merges act across its former cuts, and the first of them may be a bad one
    (Llama-3, repaired for Tamil: of 271 built-in texts one in Hindi grows, from 33 to 35 tokens).
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
                parts = len([*target.family.cut(text)]), len([*source.family.cut(text)])
                finer += parts[0] > parts[1]
    why = _not_promised(evidence, same_cut=same_cut, finer=finer)
    return Claim(
        "no text of any kind longer",
        longer,
        texts,
        "texts",
        f"{why or 'promised for any text'}; checked on languages, code, markup, random Unicode, "
        "base-language and held-out documents",
        fatal=not why,
        exceptions=tuple(exceptions[:3]),
    )


def _not_promised(evidence: Evidence, *, same_cut: bool, finer: int) -> str:
    """Return why texts may grow, nothing where they may not."""
    if evidence.splice.dropped:
        return "not promised: tokens were taken out, their text is spelled by others"
    if isinstance(evidence.source.family, Unigram):
        return "not promised: a Unigram weighs whole segmentations by their scores"
    if not same_cut:
        return (
            f"not promised: the changed pre-tokenizer cuts {finer} texts into more parts, and lets "
            "base merges act across former cuts in others"
        )
    return ""


def _on_target(evidence: Evidence) -> Iterator[Claim]:
    """On held-out text of the target language: nothing grows, and everything comes back."""
    longer = changed = documents = size = 0
    source, target = evidence.source, evidence.target
    unknown = unknown_piece(source)
    for batch in _batches(evidence.target_heldout()):
        documents += len(batch)
        size += _bytes(batch)
        for size_before, size_after in zip(
            count_tokens(source, batch), count_tokens(target, batch), strict=True
        ):
            longer += size_after > size_before
        for before, after in zip(source.encode(batch), target.encode(batch), strict=True):
            changed += not is_as_faithful(source.decode(before), target.decode(after), unknown)
    lost = ", a lost character counted as one" if unknown else ""
    yield Claim(
        "no target document longer",
        longer,
        documents,
        "held-out texts",
        f"no held-out text of the target language needs more tokens than before{lost} "
        f"({size:,} bytes)",
        fatal=not evidence.splice.dropped,  # the text of a pruned token is spelled by its parts
    )
    yield from _of_the_base(evidence)
    yield Claim(
        "round trip on target text",
        changed,
        documents,
        "held-out texts",
        f"decoding what was encoded gives what it gave with the base{_or_more(unknown)} "
        f"({size:,} bytes)",
    )


def _of_the_base(evidence: Evidence) -> Iterator[Claim]:
    """State what the base itself loses of the target's text: the target can only do as well."""
    found = measure_round_trip(evidence.source, islice(evidence.target_heldout(), _SAMPLED))
    detail = f"the base itself: {found}" if found.changed else "the base gives every document back"
    if found.documents:
        yield Claim(
            BASE_LOSS, found.changed, found.documents, "held-out documents", detail, fatal=False
        )


def _used(evidence: Evidence) -> Iterator[Claim]:
    """Each new token occurs in the training text, or one that does is made of it.

    Tokens that the base had are not chosen for this text.
    """
    added = evidence.splice.new
    if not added:
        return
    unseen = {token.id for token in added}
    for batch in _batches(evidence.target_train()):
        if not unseen:
            break
        for ids in evidence.target.encode(batch):
            unseen.difference_update(ids)
    steps = _steps(evidence, unseen)
    lost = _were_lost(evidence, unseen)
    yield Claim(
        "added tokens used in running text",
        len(unseen - steps - lost),
        len(added),
        "tokens",
        f"{len(added) - len(unseen)} of {len(added)} added tokens occur in the training text; of the "
        f"others, {len(steps)} are steps, without which tokens that do occur could not be merged, "
        f"and {len(lost)} are characters that the base loses, which occur inside longer tokens",
        fatal=False,
    )


def _steps(evidence: Evidence, unseen: set[int]) -> set[int]:
    """Return the unseen tokens that merges of used ones need: no merge of theirs does without."""
    family = evidence.target.family
    if not isinstance(family, BPE):
        return set()
    ids = family.pieces
    added = {token.id for token in evidence.splice.new}
    parts_of: dict[int, list[tuple[int, int]]] = {}
    for left, right in family.merges:
        made = ids[left + right]
        if made in added:
            parts_of.setdefault(made, []).append((ids[left], ids[right]))
    steps: set[int] = set()
    waiting = list(added - unseen)
    while waiting:
        pairs = parts_of.get(waiting.pop(), [])
        if any(unseen.isdisjoint(pair) for pair in pairs):
            continue
        found = {part for pair in pairs for part in pair if part in unseen} - steps
        steps |= found
        waiting += found
    return steps


def _were_lost(evidence: Evidence, unseen: set[int]) -> set[int]:
    """Return the unseen tokens that are single characters which the base has no way to write."""
    if unknown_piece(evidence.source) is None:
        return set()
    added = evidence.splice.new
    return {token.id for token in added if token.id in unseen and len(token.text) == 1}


def _on_base(evidence: Evidence) -> Iterator[Claim]:
    """Base-language documents that are tokenised differently are counted; protected text has none."""
    for name, texts, fatal in (
        (BASE_IDENTICAL, evidence.base_text, False),
        ("protected documents identical", evidence.protected_text, True),
    ):
        if texts is not None:
            yield _identical(evidence, name, texts, fatal=fatal)


def _identical(
    evidence: Evidence, name: str, texts: Callable[[], Iterable[str]], *, fatal: bool
) -> Claim:
    """Count the documents whose ids change, and what that does to the number of tokens."""
    changed = documents = grew = tokens_before = tokens_after = size = 0
    kept = evidence.splice.kept
    for batch in _batches(texts()):
        size += _bytes(batch)
        for before, after in zip(
            evidence.source.encode(batch), evidence.target.encode(batch), strict=True
        ):
            documents += 1
            changed += [kept.get(token_id) for token_id in after] != before
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


def _bytes(texts: Iterable[str]) -> int:
    """Return the bytes of UTF-8 that texts have."""
    return sum(len(text.encode()) for text in texts)


def _or_more(unknown: str | None) -> str:
    return f", or text where the base gave {unknown}" if unknown else ""
