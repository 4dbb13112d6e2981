"""Collecting the added tokens that the files of a folder name, as transformers does.

Next to tokenizer.json, three files may name tokens. tokenizer_config.json names tokens with ids in
`added_tokens_decoder`, and tokens by role (`eos_token`, `extra_special_tokens`, `image_token`).
Where it has no `added_tokens_decoder`, transformers also reads added_tokens.json (tokens with ids)
and special_tokens_map.json (roles, which override those of tokenizer_config.json).

transformers adds missing tokens in a fixed order, and `tokenizers` numbers them: a token has its id
in the vocabulary, or else the next id after the last one. The ids in the files are not used. A file
with other ids is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any, NoReturn

from lingraft.errors import TokenizerError
from lingraft.tokenizer.json_format import Data

ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
"""The roles of special tokens, in the order in which transformers adds their tokens."""

FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


@dataclass(frozen=True)
class TokenFiles:
    """The contents of the files next to tokenizer.json."""

    folder: Path
    config: Mapping[str, Any] = field(default_factory=dict)
    special_map: Mapping[str, Any] = field(default_factory=dict)
    added: Mapping[str, Any] = field(default_factory=dict)

    @property
    def has_decoder(self) -> bool:
        """Whether transformers ignores special_tokens_map.json and added_tokens.json."""
        return "added_tokens_decoder" in self.config

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that transformers reads."""
        if self.has_decoder:
            return dict(self.config)
        return {**self.config, **self.special_map}


def complete_added_tokens(
    data: Data, settings: Mapping[str, Any], files: TokenFiles, where: Path
) -> None:
    """Put every token that the files name into `data["added_tokens"]`, with its id and flags.

    `settings` are those of `files`, with the roles of a converted file. Raises `TokenizerError`
    where a file gives a token another id than transformers does.
    """
    table = _AddedTokenTable(data, where)
    for token in data.get("added_tokens") or []:
        table.add(token["content"], token, token["id"], where.name)
    roles = dict(_named_by_role(settings, files.folder))
    extra = dict(_without_role(settings, files.folder))
    for content, flags, file_id, place in _numbered_tokens(files, roles, extra):
        table.add(content, flags, file_id, place)
    if not files.has_decoder:
        table.make_special(roles)
    # The order of transformers: it decides the ids of tokens that are not in the vocabulary.
    for content, flags in (*roles.items(), *extra.items()):
        if content not in table:
            table.add(content, flags)
    data["added_tokens"] = table.tokens()
    _check_unread_ids(files, table)


def content_of(token: Any) -> str | None:
    """Return the text of a token that a file stores as a string or as an object."""
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) and content else None


class _AddedTokenTable:
    """Added tokens by content, numbered as `tokenizers` numbers them."""

    def __init__(self, data: Data, where: Path) -> None:
        vocab = data["model"]["vocab"]
        self.pieces: dict[str, int] = {}
        if isinstance(vocab, list):
            # A Unigram's vocabulary is a list, in which the index of a piece is its id.
            for i, entry in enumerate(vocab):
                self.pieces[entry[0]] = i
        else:
            self.pieces = vocab
        self.size = len(vocab)
        self.where = where
        self.entries: dict[str, dict[str, Any]] = {}
        self.highest = -1

    def __contains__(self, content: str) -> bool:
        return content in self.entries

    def add(
        self,
        content: str,
        flags: Mapping[str, Any],
        file_id: int | None = None,
        place: str = "",
    ) -> None:
        """Add a token, or change the flags of an existing one; refuse a contradictory id."""
        if not content:  # `tokenizers` ignores it
            return
        token_id = self.id_of(content)
        if file_id is not None and file_id != token_id:
            # The embedding row of the token is at one of two ids, and no file says at which.
            _refuse(
                self.where.parent / place if place else self.where,
                f"{content!r} has the id {file_id} there, but transformers gives it "
                f"{token_id} (its id in the vocabulary, or the next one after the last); "
                "correct the id, or add the tokens that are missing between them",
            )
        self.highest = max(self.highest, token_id)
        known_flags = {name: bool(flags.get(name)) for name in FLAGS}
        self.entries[content] = {"id": token_id, "content": content, **known_flags}

    def make_special(self, contents: Mapping[str, Any]) -> None:
        """Mark these tokens as special, as far as they exist."""
        for content in contents:
            if content in self.entries:
                self.entries[content]["special"] = True

    def id_of(self, content: str) -> int:
        """Return the id of a token: the known one, or the next one after the last."""
        if content in self.entries:
            known: int = self.entries[content]["id"]
            return known
        if content in self.pieces:
            return self.pieces[content]
        # `tokenizers` numbers new tokens from the size of the vocabulary on.
        return self.highest + 1 if self.highest >= self.size else self.size

    def tokens(self) -> list[dict[str, Any]]:
        """Return the tokens as tokenizer.json lists them."""
        return sorted(self.entries.values(), key=itemgetter("id"))


def _numbered_tokens(
    files: TokenFiles, roles: Mapping[str, Any], extra: Mapping[str, Any]
) -> Iterator[tuple[str, dict[str, Any], int, str]]:
    """Yield content, flags, id and file of the tokens that a file names with an id."""
    place = "tokenizer_config.json" if files.has_decoder else "added_tokens.json"
    entries = _decoder_entries(files) if files.has_decoder else _added_entries(files)
    numbered = []
    for number, content, flags in entries:
        numbered.append((_parse_id(number, content, files.folder / place), content, flags))
    for token_id, content, flags in sorted(numbered, key=itemgetter(0)):
        special = bool(flags.get("special")) or content in roles
        special = special or (not files.has_decoder and content in extra)
        yield content, _with_defaults(flags, special=special), token_id, place


def _with_defaults(flags: Mapping[str, Any], *, special: bool) -> dict[str, Any]:
    """Return flags with the default of transformers for `normalized`: `not special`."""
    normalized = flags.get("normalized")
    normalized = not special if normalized is None else bool(normalized)
    return {**flags, "special": special, "normalized": normalized}


def _added_entries(files: TokenFiles) -> list[tuple[Any, str, dict[str, Any]]]:
    """Return id, content and flags of added_tokens.json, which has no flags."""
    entries: list[tuple[Any, str, dict[str, Any]]] = []
    for content, number in files.added.items():
        entries.append((number, content, {}))
    return entries


def _decoder_entries(files: TokenFiles) -> list[tuple[Any, str, dict[str, Any]]]:
    """Return id, content and flags of the entries of `added_tokens_decoder`."""
    decoder = files.config["added_tokens_decoder"]
    place = files.folder / "tokenizer_config.json"
    if not isinstance(decoder, dict):
        _refuse(place, f"added_tokens_decoder is a {type(decoder).__name__}; expected an object")
    entries = []
    for number, token in decoder.items():
        content = content_of(token)
        if content is None or not isinstance(token, dict):
            _refuse(
                place,
                f"added_tokens_decoder[{number!r}] is {str(token)[:60]}; expected an object "
                "with the content of a token",
            )
        entries.append((number, content, token))
    return entries


def _named_by_role(
    settings: Mapping[str, Any], folder: Path
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the tokens of the known roles, then those of roles that only this model has."""
    named = [(role, settings.get(role)) for role in ROLES]
    for key, token in settings.items():
        if key.endswith("_token") and key not in ROLES and isinstance(token, str):
            named.append((key, token))
    extra = settings.get("extra_special_tokens")
    named += extra.items() if isinstance(extra, dict) else []
    for key, token in named:
        content = content_of(token)
        if content is not None:
            yield content, _flags(token, special=True)
        elif token is not None and key in ROLES and token != "":
            _refuse(folder, f"{key} is {str(token)[:60]}; expected the text of a token")


def _without_role(
    settings: Mapping[str, Any], folder: Path
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the special tokens without a role."""
    extra = settings.get("extra_special_tokens")
    extra = extra or settings.get("additional_special_tokens") or []
    if isinstance(extra, dict):  # tokens with names, which `_named_by_role` yields
        return
    if not isinstance(extra, list):
        _refuse(folder, f"its extra special tokens are {str(extra)[:60]}; expected a list")
    for token in extra:
        content = content_of(token)
        if content is None:
            _refuse(folder, f"an extra special token is {str(token)[:60]}; expected a text")
        yield content, _flags(token, special=isinstance(token, str))


def _flags(token: Any, *, special: bool) -> dict[str, Any]:
    """Return the flags of a token; a text alone has the defaults."""
    flags = token if isinstance(token, dict) else {}
    return _with_defaults(flags, special=special or bool(flags.get("special")))


def _check_unread_ids(files: TokenFiles, table: _AddedTokenTable) -> None:
    """Refuse an added_tokens.json that transformers does not read and that names other ids."""
    if not files.has_decoder:
        return
    place = files.folder / "added_tokens.json"
    for content, number in files.added.items():
        token_id = _parse_id(number, content, place)
        is_known = content in table or content in table.pieces
        if is_known and table.id_of(content) == token_id:
            continue
        _refuse(
            place,
            f"{content!r} has the id {token_id} there, which transformers does not read, because "
            "tokenizer_config.json has an added_tokens_decoder; add the token to it as well",
        )


def _parse_id(number: Any, content: str, place: Path) -> int:
    try:
        token_id = int(number)
    except (TypeError, ValueError):
        token_id = -1
    if token_id < 0 or isinstance(number, bool | float):
        _refuse(place, f"{content!r} has the id {number!r}; expected a whole number from 0 on")
    return token_id


def _refuse(where: Path, what: str) -> NoReturn:
    msg = f"{where}: {what}"
    raise TokenizerError(msg)
