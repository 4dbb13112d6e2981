"""Claims about the saved files as other libraries read them: transformers and SentencePiece."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from lingraft.certificate.claims import Claim, Evidence
from lingraft.errors import TokenizerError
from lingraft.tokenizer.conversion_check import compare_with_sentencepiece
from lingraft.tokenizer.edge_cases import edge_case_texts
from lingraft.tokenizer.loaded_settings import NAMES, names_tokenizer_class, read_loaded_settings
from lingraft.tokenizer.sentencepiece_bpe import SpaceMarked
from lingraft.tokenizer.sentencepiece_file import sentencepiece_file
from lingraft.tokenizer.unigram import Unigram

_ROLES = ("bos", "eos", "pad")
_EXAMPLES = 3
_COMPARED = 500


def certify_loading(evidence: Evidence) -> list[Claim]:
    """Check that transformers, and SentencePiece where it can, read the saved files alike."""
    claims = [_same_in_transformers(evidence)]
    if names_tokenizer_class(evidence.source.folder):
        claims += _settings_kept(evidence)
    is_sentencepiece = isinstance(evidence.source.family, SpaceMarked)
    if is_sentencepiece and (evidence.target.folder / "tokenizer.model").is_file():
        claims.append(_same_in_sentencepiece(evidence))
    return claims


def _same_in_transformers(evidence: Evidence) -> Claim:
    """The saved folder, loaded by transformers, gives the same ids and the same special tokens."""
    from transformers import AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()
    target = evidence.target
    loaded = AutoTokenizer.from_pretrained(
        str(target.folder), trust_remote_code=False, use_fast=True
    )
    candidates = (*edge_case_texts(), *islice(evidence.target_heldout(), 200))
    texts = [text for text in candidates if text]
    changed = 0
    other = loaded(texts, add_special_tokens=False)["input_ids"]
    for ours, theirs in zip(target.encode_markup(texts), other, strict=True):
        changed += ours != theirs
    roles = [role for role in _ROLES if target.config.get(f"{role}_token")]
    for role in roles:
        theirs = getattr(loaded, f"{role}_token_id")
        changed += theirs is not None and theirs != getattr(target, f"{role}_id")
    return Claim(
        "same ids in transformers",
        changed,
        len(texts) + len(roles),
        "texts and special tokens",
        "AutoTokenizer loads the saved folder and gives every text the same ids",
    )


def _settings_kept(evidence: Evidence) -> Iterator[Claim]:
    """What AutoTokenizer says of the source beyond ids, it says of the saved folder."""
    try:
        before = read_loaded_settings(evidence.source.folder)
    except TokenizerError:  # the extension warned of it: nothing can be compared
        return
    after = read_loaded_settings(evidence.target.folder)
    target_of = {source: target for target, source in evidence.splice.corresponding.items()}
    different: list[str] = []
    for name in NAMES:
        ours, theirs = (settings.values.get(name) for settings in (before, after))
        if ours is not None and ours != theirs:  # transformers knows no longest input for some
            different.append(f"{name} {ours!r} became {theirs!r}")
    around = {
        "tokens before a text": (before.before, after.before),
        "tokens after a text": (before.after, after.after),
        "tokens around a pair of texts": (before.pair, after.pair),
    }
    for name, (source_ids, target_ids) in around.items():
        if tuple(target_of.get(token_id) for token_id in source_ids) != target_ids:
            different.append(f"{name} {source_ids} became {target_ids}")
    yield Claim(
        "tokenizer settings kept",
        len(different),
        len(NAMES) + len(around),
        "settings",
        "AutoTokenizer pads, truncates and cleans up alike, and puts the same tokens around a text",
        exceptions=tuple(different[:_EXAMPLES]),
    )


def _same_in_sentencepiece(evidence: Evidence) -> Claim:
    """tokenizer.model, read by SentencePiece itself, gives the ids of tokenizer.json."""
    texts = list(islice(_sentencepiece_texts(evidence), _COMPARED))
    found = compare_with_sentencepiece(
        evidence.target, evidence.target.folder / "tokenizer.model", texts
    )
    different = list(found.different)
    before = sentencepiece_file(evidence.source)
    apart: set[str] = set()
    if different and before is not None:
        apart = set(compare_with_sentencepiece(evidence.source, before, different).different)
        different = [text for text in different if text not in apart]
    left_out = ""
    if apart:
        left_out = f"; {len(apart)} texts are left out, on which the files of the source disagree"
    return Claim(
        "tokenizer.model agrees",
        len(different),
        found.texts - len(apart),
        "texts",
        "SentencePiece reads the saved tokenizer.model and gives the ids of tokenizer.json"
        + left_out,
        exceptions=tuple(repr(text[:40]) for text in different[:_EXAMPLES]),
    )


def _sentencepiece_texts(evidence: Evidence) -> Iterator[str]:
    """Return whole documents, for a Unigram lines.

    SentencePiece sums scores in 32 bits, and in a text of thousands of tokens near ties are decided
    differently than in 64 bits, with the base too (T5: 6 of 500 Turkish documents).
    """
    if not isinstance(evidence.source.family, Unigram):
        yield from evidence.target_heldout()
        return
    for text in evidence.target_heldout():
        yield from text.splitlines()
