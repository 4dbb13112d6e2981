"""Complete a tokenizer with the settings that only its class in transformers defines.

The tokenizer class that a model names may add tokens and settings that no file contains: T5 has 100
`<extra_id_N>` tokens, GPT-2 an end-of-text token with three roles, Llama a BOS token in a plain
call. The class is loaded once, when the model is fetched, and its settings are written into the
stored tokenizer.json. Other differences (the ids of pieces and texts) are not changed here: the
first claim of the certificate reports them.
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

# Words, a line break, a number, punctuation, and a script outside ASCII. A class that builds its
# own pre-tokenizer or adds special tokens gives other ids for them.
_TEXTS = ("one two", "  Three\n4 & fünf's", "एक और किताब")


def add_class_settings(tokenizer: ModelTokenizer, folder: Path) -> ModelTokenizer:
    """Return the tokenizer with the added tokens, roles and post-processor of its class.

    It is the same object if nothing is missing, or if transformers cannot load the tokenizer.
    """
    theirs = read_with_transformers(folder)
    if not isinstance(theirs, Reading):
        return tokenizer
    ours = read_with_lingraft(tokenizer)
    # tokenizer.json states the whole tokenizer. Other files leave parts of it to the class.
    if not (folder / "tokenizer.json").is_file() and ours.ids(_TEXTS) != theirs.ids(_TEXTS):
        tokenizer = _build_from_class(tokenizer, theirs, folder)
    if CONVERTED_FROM in tokenizer.config:
        tokenizer = _choose_dummy_prefix(tokenizer, theirs)
    # The steps above can change the vocabulary and the flags.
    ours = read_with_lingraft(tokenizer)
    data: Data = {}
    # If an id contradicts that of transformers, a row could belong to either token. The tokens are
    # then left as they are, and the first claim of the certificate refuses the source.
    if _has_same_ids(ours, theirs) and (ours.flags != theirs.flags or ours.vocab != theirs.vocab):
        data["added_tokens"] = _added_tokens(theirs)
    if ours.plain(_TEXTS) != theirs.plain(_TEXTS) and theirs.loaded is not None:
        data["post_processor"] = _part_as_json(theirs.loaded.backend_tokenizer.post_processor)
    roles = {**_missing_roles(ours, theirs), **_missing_list(tokenizer, theirs)}
    if data:
        family = family_of({**tokenizer.family.data, **data}, folder)
        tokenizer = replace(tokenizer, family=family)
    if roles:
        tokenizer = replace(tokenizer, config={**tokenizer.config, **roles})
    return tokenizer


def _choose_dummy_prefix(tokenizer: ModelTokenizer, theirs: Reading) -> ModelTokenizer:
    """Return the converted SentencePiece tokenizer with the dummy prefix of its class.

    The dummy prefix is the space in front of a text. The conversion also adds it after every
    special token, as SentencePiece adds it to every text. LlamaTokenizer adds it once, at the start
    of a text. The variant that gives the ids of the class more often is used.
    """
    data = with_prefix_once(tokenizer.family.data)
    if data is None:
        return tokenizer
    once = replace(tokenizer, family=family_of(data, tokenizer.folder))
    # Text after a special token shows whether the prefix is repeated there.
    texts = [f"one{content}two" for content in tokenizer.family.control.values()]
    texts += filter(None, (*edge_case_texts(), *code_texts()))
    wanted = theirs.ids(texts)
    differing = []
    for candidate in (tokenizer, once):
        found = read_with_lingraft(candidate).ids(texts)
        differing.append(sum(ids != other for ids, other in zip(found, wanted, strict=True)))
    return once if differing[1] < differing[0] else tokenizer


def _has_same_ids(ours: Reading, theirs: Reading) -> bool:
    """Return whether every token that lingraft reads has the same id in transformers."""
    return ours.vocab.items() <= theirs.vocab.items()


def _added_tokens(theirs: Reading) -> list[dict[str, Any]]:
    """Return the added tokens of transformers as tokenizer.json lists them."""
    tokens: list[dict[str, Any]] = []
    for content, flags in theirs.flags.items():
        named = dict(zip(FLAGS, flags, strict=True))
        tokens.append({"id": theirs.vocab[content], "content": content, **named})
    tokens.sort(key=lambda token: theirs.vocab[token["content"]])
    return tokens


def _missing_roles(ours: Reading, theirs: Reading) -> dict[str, str]:
    """Return the special tokens whose role is named by the class but by no file."""
    contents = {token_id: content for content, token_id in theirs.vocab.items()}
    roles = {}
    for role, token_id in theirs.roles.items():
        if token_id is not None and ours.roles[role] is None:
            roles[f"{role}_token"] = contents[token_id]
    return roles


def _missing_list(tokenizer: ModelTokenizer, theirs: Reading) -> dict[str, list[str]]:
    """Return the setting `additional_special_tokens`, if the class defines it and no file does.

    T5's has the 100 `<extra_id_N>`. Tokens with a role, such as EOS, are left out. transformers 4
    knows the setting by this name, and transformers 5 reads it as well.
    """
    if {"additional_special_tokens", "extra_special_tokens"} & tokenizer.config.keys():
        return {}
    listed = getattr(theirs.loaded, "extra_special_tokens", None)
    if not isinstance(listed, list):  # transformers 4 has names for some, and a list of the rest
        listed = getattr(theirs.loaded, "additional_special_tokens", None) or []
    in_roles = {*theirs.roles.values()}
    missing = [str(content) for content in listed if theirs.vocab[str(content)] not in in_roles]
    return {"additional_special_tokens": missing} if missing else {}


def _build_from_class(tokenizer: ModelTokenizer, theirs: Reading, folder: Path) -> ModelTokenizer:
    """Return the tokenizer that the class builds from vocab.json, such as that of Qwen."""
    # For tokenizer.model, SentencePiece is the reference and not the class: the conversion in
    # transformers 5 does not always give SentencePiece's ids.
    if theirs.loaded is None or not (folder / "vocab.json").is_file():
        return tokenizer
    data = json.loads(theirs.loaded.backend_tokenizer.to_str())
    return replace(tokenizer, family=family_of(data, folder))


def _part_as_json(part: Any) -> Any:
    """Return a part of a `tokenizers` object in the form of tokenizer.json."""
    return None if part is None else json.loads(part.__getstate__())
