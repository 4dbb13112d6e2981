"""Claims about the saved files: transformers and SentencePiece read them as lingraft does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import cycle, islice

from lingraft.certificate.claims import Claim, Evidence, map_to_target
from lingraft.errors import TokenizerError
from lingraft.tokenizer.conversion_check import compare_with_sentencepiece
from lingraft.tokenizer.edge_cases import edge_case_texts
from lingraft.tokenizer.loaded_settings import (
    NAMES,
    load_auto_tokenizer,
    names_tokenizer_class,
    read_loaded_settings,
)
from lingraft.tokenizer.sentencepiece_bpe import SpaceMarked
from lingraft.tokenizer.sentencepiece_file import sentencepiece_file
from lingraft.tokenizer.unigram import Unigram

_ROLES = ("bos", "eos", "pad")
_EXAMPLES = 3
# Texts that are compared: held-out documents in transformers, documents or lines in SentencePiece,
# and there the lines of some documents with runs of spaces.
_TRANSFORMERS_TEXTS = 200
_SENTENCEPIECE_TEXTS = 500
_DOCUMENTS_WITH_RUNS = 30
_INDENTED = [f"if x:\n{' ' * length}return x" for length in range(1, 41)]


def certify_loading(evidence: Evidence) -> list[Claim]:
    """Check that transformers, and SentencePiece if it has a file, read the saved files alike."""
    claims = [_check_transformers(evidence)]
    if names_tokenizer_class(evidence.source.folder):
        claims += _check_settings(evidence)
    is_sentencepiece = isinstance(evidence.source.family, SpaceMarked)
    if is_sentencepiece and (evidence.target.folder / "tokenizer.model").is_file():
        claims.append(_check_sentencepiece(evidence))
    return claims


def _check_transformers(evidence: Evidence) -> Claim:
    """Check that AutoTokenizer gives the same ids and special tokens from the saved folder."""
    target = evidence.target
    # The result must load as most users load it: without remote code.
    loaded = load_auto_tokenizer(target.folder)
    candidates = (*edge_case_texts(), *islice(evidence.target_heldout(), _TRANSFORMERS_TEXTS))
    texts = list(filter(None, candidates))
    changed = 0
    # A call of transformers reads special tokens in a text as such, hence `encode_markup`.
    other = loaded(texts, add_special_tokens=False, verbose=False)["input_ids"]
    for ours, theirs in zip(target.encode_markup(texts), other, strict=True):
        changed += ours != theirs
    roles = 0
    for role in _ROLES:
        if not target.config.get(f"{role}_token"):
            continue
        roles += 1
        theirs = getattr(loaded, f"{role}_token_id")
        changed += theirs is not None and theirs != getattr(target, f"{role}_id")
    return Claim(
        "same ids in transformers",
        changed,
        len(texts) + roles,
        "texts and special tokens",
        "AutoTokenizer loads the saved folder and gives every text the same ids",
    )


def _check_settings(evidence: Evidence) -> Iterator[Claim]:
    """Check that AutoTokenizer reads the same settings from the saved folder as from the source."""
    try:
        before = read_loaded_settings(evidence.source.folder)
    except TokenizerError:  # nothing can be compared; the extension has warned of this
        return
    after = read_loaded_settings(evidence.target.folder)
    target_of = map_to_target(evidence.splice)
    different: list[str] = []
    for name in NAMES:
        old, new = before.values.get(name), after.values.get(name)
        # For some tokenizers transformers has no maximum length, so `None` is not compared.
        if old is not None and old != new:
            different.append(f"{name} {old!r} became {new!r}")
    around = {
        "tokens before a text": (before.before, after.before),
        "tokens after a text": (before.after, after.after),
        "tokens around a pair of texts": (before.pair, after.pair),
    }
    for name, (source_ids, target_ids) in around.items():
        if tuple(map(target_of.get, source_ids)) != target_ids:
            different.append(f"{name} {source_ids} became {target_ids}")
    yield Claim(
        "tokenizer settings kept",
        len(different),
        len(NAMES) + len(around),
        "settings",
        "AutoTokenizer pads, truncates and cleans up alike, and puts the same tokens around a text",
        exceptions=tuple(different[:_EXAMPLES]),
    )


def _check_sentencepiece(evidence: Evidence) -> Claim:
    """Check that SentencePiece gives the ids of tokenizer.json from tokenizer.model.

    Texts on which the two files of the source already disagree are left out.
    """
    texts = [*filter(None, edge_case_texts()), *_INDENTED, *_space_runs(evidence)]
    texts += islice(_sentencepiece_texts(evidence), _SENTENCEPIECE_TEXTS)
    compared = compare_with_sentencepiece(
        evidence.target, evidence.target.folder / "tokenizer.model", texts
    )
    different = list(compared.different)
    source_model = sentencepiece_file(evidence.source)
    ignored: set[str] = set()
    if different and source_model is not None:
        in_source = compare_with_sentencepiece(evidence.source, source_model, different)
        ignored.update(in_source.different)
        different = [text for text in different if text not in ignored]
    left_out = ""
    if ignored:
        left_out = f"; {len(ignored)} texts are left out, on which the files of the source disagree"
    return Claim(
        "tokenizer.model agrees",
        len(different),
        compared.texts - len(ignored),
        "texts",
        "SentencePiece reads the saved tokenizer.model and gives the ids of tokenizer.json"
        + left_out,
        exceptions=tuple(repr(text[:40]) for text in different[:_EXAMPLES]),
    )


def _space_runs(evidence: Evidence) -> Iterator[str]:
    """Yield lines of the target language with one to four spaces after each word.

    Runs of spaces are often the base's last merges, which new ones must not precede. Text without
    spaces gets them after every 12 characters.
    """
    for text in islice(evidence.target_heldout(), _DOCUMENTS_WITH_RUNS):
        for line in text.splitlines():
            spaces = cycle((" ", "  ", "   ", "    "))
            yield "".join(word + next(spaces) for word in re.findall(r"\S{1,12}", line))


def _sentencepiece_texts(evidence: Evidence) -> Iterator[str]:
    """Yield whole documents, or lines for a Unigram."""
    # SentencePiece sums scores in 32 bits and `tokenizers` in 64. In a text of thousands of tokens
    # near ties are decided differently, with the base too (T5: 6 of 500 Turkish documents).
    if not isinstance(evidence.source.family, Unigram):
        yield from evidence.target_heldout()
        return
    for text in evidence.target_heldout():
        yield from text.splitlines()
