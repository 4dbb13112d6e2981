"""Encoding text with the content of a tokenizer.json, without confusing text and control tokens.

A text that spells a control token, such as "</s>", is read as text (see `special_text`). Two other
ways of reading are separate methods: `encode_markup` reads every spelling as the token, and
`encode_with_placeholders` reads chosen placeholder names as the tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Self

from tokenizers import Tokenizer

from lingraft.tokenizer.json_format import Data, build_backend, copy_data
from lingraft.tokenizer.special_text import SpecialText, unspellable_name


class TextEncoder:
    """Encodes text with the content of one tokenizer.json; error messages name it as `where`."""

    def __init__(self, data: Data, where: object = "the tokenizer") -> None:
        self.data = data
        self.where = where

    def __getstate__(self) -> Data:
        """Leave out the cached properties: another process builds those that it needs."""
        return {"data": self.data, "where": self.where}

    @cached_property
    def special(self) -> dict[int, str]:
        """The content of every added token by id, with or without the flag `special`."""
        contents = {}
        for token in self.data.get("added_tokens") or []:
            contents[token["id"]] = token["content"]
        return contents

    @cached_property
    def control(self) -> dict[int, str]:
        """The content of the added tokens with the flag `special`, which no text produces."""
        contents = {}
        for token in self.data.get("added_tokens") or []:
            if token.get("special"):
                contents[token["id"]] = token["content"]
        return contents

    @cached_property
    def special_text(self) -> SpecialText:
        """The spellings that must not become control tokens when a text contains them."""
        return SpecialText(tuple(sorted(set(self.control.values()))), bool(self.fallback))

    @property
    def fallback(self) -> Mapping[int, int]:
        """The byte of each byte-fallback id; empty where the tokenizer has no byte fallback."""
        return {}

    @cached_property
    def backend(self) -> Tokenizer:
        """The `tokenizers` object, without truncation and padding; it reads every text as text."""
        return self._build(self.data)

    def _build(self, data: Data) -> Tokenizer:
        backend = build_backend(data, self.where)
        backend.no_truncation()
        backend.no_padding()
        backend.encode_special_tokens = True
        return backend

    @property
    def looks_up_pieces(self) -> bool:
        """Whether the model maps text to any piece with that spelling, control pieces included."""
        return bool(self.data["model"].get("ignore_merges"))

    @cached_property
    def _without_control(self) -> Tokenizer:
        """The `tokenizers` object in which control pieces have the names in `placeholders`."""
        data = copy_data(self.data)
        for token in data.get("added_tokens") or []:
            token["content"] = self.placeholders.get(token["content"], token["content"])
        self._rename_control(data["model"])
        backend = self._build(data)
        backend.encode_special_tokens = False
        return backend

    @cached_property
    def placeholders(self) -> dict[str, str]:
        """A name for each control token that no text can spell (see `encode_with_placeholders`)."""
        return {content: unspellable_name(content, i) for i, content in self.control.items()}

    def encode_with_placeholders(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of texts in which the names in `placeholders` are control tokens.

        The spelling of a control token is read as text.
        """
        backend = self._without_control
        # The renamed tokens may get other ids: `tokenizers` numbers added tokens itself.
        original_id = {}
        for token_id, content in self.control.items():
            original_id[backend.token_to_id(self.placeholders[content])] = token_id
        encoded = []
        for encoding in backend.encode_batch(list(texts), add_special_tokens=False):
            ids = self._ids(encoding)
            encoded.append([original_id.get(token_id, token_id) for token_id in ids])
        return encoded

    def _ids(self, encoding: Any) -> list[int]:
        """Return the ids of an encoding by `_without_control`."""
        return list(encoding.ids)

    def _rename_control(self, model: Data) -> None:
        """Rename the control pieces of a model to their placeholders."""
        rename = self.placeholders.get
        vocab = model["vocab"]
        model["vocab"] = {rename(piece, piece): token_id for piece, token_id in vocab.items()}
        unknown = model.get("unk_token")
        if unknown is not None and unknown in vocab:
            model["unk_token"] = rename(unknown, unknown)

    def encodings(self, texts: Sequence[str]) -> list[Any]:
        """Return the library's encoding of each text, without special tokens around it."""
        encodings = list(self.backend.encode_batch(list(texts), add_special_tokens=False))
        if self.looks_up_pieces:
            for i, encoding in self._encode_mentions(texts):
                encodings[i] = encoding
        return encodings

    def _encode_mentions(self, texts: Sequence[str]) -> Iterator[tuple[int, Any]]:
        """Yield index and encoding of the texts that spell special tokens, read as text."""
        # `encode_special_tokens` reads added tokens as text, but a model that looks up pieces takes
        # the control piece from its own vocabulary. There it must have another name.
        mentioning = []
        batch = []
        for i, text in enumerate(texts):
            if self.special_text.mentions(text):
                mentioning.append(i)
                batch.append(text)
        if not batch:
            return
        encodings = self._without_control.encode_batch(batch, add_special_tokens=False)
        yield from zip(mentioning, encodings, strict=True)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text; special tokens that it spells are read as text."""
        if self.looks_up_pieces and any(map(self.special_text.mentions, texts)):
            return _ids_of_each(self.encodings(texts))
        return self._ids_of_backend(texts)

    def encode_markup(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of texts in which the spelling of a special token is that token."""
        try:
            self.backend.encode_special_tokens = False
            return self._ids_of_backend(texts)
        finally:
            self.backend.encode_special_tokens = True

    def _ids_of_backend(self, texts: Sequence[str]) -> list[list[int]]:
        # The fast call computes no offsets.
        return _ids_of_each(self.backend.encode_batch_fast(list(texts), add_special_tokens=False))

    @cached_property
    def model_only(self) -> Tokenizer:
        """The model without normalizer, pre-tokenizer and added tokens; it takes units."""
        # The same model, not a copy: 0.02 ms instead of 450 ms for Qwen2.
        return Tokenizer(self.backend.model)

    def reuse_model_of(self, other: TextEncoder) -> Self:
        """Use the built model of `other`, which has the same vocabulary and merges; return self."""
        self.model_only = other.model_only
        return self

    def segment(self, units: Sequence[str]) -> list[list[int]]:
        """Return the ids of each unit by the model alone."""
        return _ids_of_each(
            self.model_only.encode_batch_fast(list(units), add_special_tokens=False)
        )


def _ids_of_each(encodings: Iterable[Any]) -> list[list[int]]:
    return [encoding.ids for encoding in encodings]
