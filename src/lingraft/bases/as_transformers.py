"""Bringing our reading of a model's tokenizer into line with that of transformers.

The class that a model names may add what no file says: T5 has 100 `<extra_id_N>` after its pieces,
GPT-2 an end-of-text token with three roles, Llama a begin token in a plain call. Only the class
knows, so it is asked once, when the model is fetched, and the answer is written into the stored
tokenizer.json. What cannot be brought into line (the ids of pieces and texts) stays as it is: the
first claim of the certificate then names the difference.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from lingraft.certificate.readings import Reading, read_with_lingraft, read_with_transformers
from lingraft.tokenizer import ModelTokenizer, family_of
from lingraft.tokenizer.added_tokens import FLAGS
from lingraft.tokenizer.edge_cases import code_texts, edge_case_texts
from lingraft.tokenizer.json_format import Data
from lingraft.tokenizer.sentencepiece_model import CONVERTED_FROM, with_prefix_once

_TEXTS = ("one two", "  Three\n4 & fünf's", "एक और किताब")


def as_transformers_reads(tokenizer: ModelTokenizer, folder: Path) -> ModelTokenizer:
    """Return the tokenizer as transformers reads it; the same object where nothing differs.

    Whatever is no tokenizer to transformers is left as it is.
    """
    theirs = read_with_transformers(folder)
    if not isinstance(theirs, Reading):
        return tokenizer
    ours = read_with_lingraft(tokenizer)
    if not (folder / "tokenizer.json").is_file() and ours.ids(_TEXTS) != theirs.ids(_TEXTS):
        tokenizer = _taken_over(tokenizer, theirs, folder)
    if CONVERTED_FROM in tokenizer.config:
        tokenizer = _prefixed_alike(tokenizer, theirs)
    ours = read_with_lingraft(tokenizer)
    data: Data = {}
    if _holds(ours, theirs) and (ours.flags != theirs.flags or ours.vocab != theirs.vocab):
        data["added_tokens"] = _added_tokens(theirs)
    if ours.plain(_TEXTS) != theirs.plain(_TEXTS) and theirs.loaded is not None:
        data["post_processor"] = _state(theirs.loaded.backend_tokenizer.post_processor)
    roles = _roles(ours, theirs)
    if data:
        family = family_of({**tokenizer.family.data, **data}, folder)
        tokenizer = replace(tokenizer, family=family)
    if roles:
        tokenizer = replace(tokenizer, config={**tokenizer.config, **roles})
    return tokenizer


def _prefixed_alike(tokenizer: ModelTokenizer, theirs: Reading) -> ModelTokenizer:
    """Put the dummy prefix of a converted SentencePiece file where the named class puts it."""
    data = with_prefix_once(tokenizer.family.data)
    if data is None:
        return tokenizer
    once = replace(tokenizer, family=family_of(data, tokenizer.folder))
    texts = [f"one{content}two" for content in tokenizer.family.control.values()]
    texts += [text for text in (*edge_case_texts(), *code_texts()) if text]
    wanted = theirs.ids(texts)
    differing = []
    for candidate in (tokenizer, once):
        found = read_with_lingraft(candidate).ids(texts)
        differing.append(sum(ids != other for ids, other in zip(found, wanted, strict=True)))
    return once if differing[1] < differing[0] else tokenizer


def _holds(ours: Reading, theirs: Reading) -> bool:
    """Say whether every token that we read has the same id in transformers."""
    return ours.vocab.items() <= theirs.vocab.items()


def _added_tokens(theirs: Reading) -> list[dict[str, Any]]:
    """Return the added tokens of transformers as tokenizer.json lists them."""
    tokens: list[dict[str, Any]] = []
    for content, flags in theirs.flags.items():
        named = dict(zip(FLAGS, flags, strict=True))
        tokens.append({"id": theirs.vocab[content], "content": content, **named})
    tokens.sort(key=lambda token: theirs.vocab[token["content"]])
    return tokens


def _roles(ours: Reading, theirs: Reading) -> dict[str, str]:
    """Return the special tokens that the class names and no file does."""
    spelled = {token_id: content for content, token_id in theirs.vocab.items()}
    found = {}
    for role, token_id in theirs.roles.items():
        if token_id is not None and ours.roles[role] is None:
            found[f"{role}_token"] = spelled[token_id]
    return found


def _taken_over(tokenizer: ModelTokenizer, theirs: Reading, folder: Path) -> ModelTokenizer:
    """Take over a tokenizer that only its class can build, such as Qwen's from vocab.json."""
    if theirs.loaded is None or not (folder / "vocab.json").is_file():
        return tokenizer
    data = json.loads(theirs.loaded.backend_tokenizer.to_str())
    return replace(tokenizer, family=family_of(data, folder))


def _state(part: Any) -> Any:
    """Return a part of a `tokenizers` object as tokenizer.json holds it."""
    return None if part is None else json.loads(part.__getstate__())
