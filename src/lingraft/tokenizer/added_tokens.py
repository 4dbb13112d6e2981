"""Every place where a folder names tokens, read as transformers reads them.

tokenizer.json is one place of four. `tokenizer_config.json` names tokens with ids in
`added_tokens_decoder`, and tokens by role (`eos_token`, `extra_special_tokens`, `image_token`).
Where it has no `added_tokens_decoder`, transformers also reads `added_tokens.json` (tokens with
ids) and `special_tokens_map.json` (roles, which win over those of tokenizer_config.json).

transformers adds what is missing in a fixed order and lets `tokenizers` number it: the id of a
token is its id in the vocabulary, else the next one after the last. The ids in the files are not
used. A file whose ids differ from those is refused here: the embedding row that belongs to such a
token is at one of two places, and nothing says which.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from lingraft.errors import TokenizerError
from lingraft.tokenizer.json_format import Data

ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
"""The roles of special tokens, in the order in which transformers adds their tokens."""

FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


@dataclass(frozen=True)
class TokenFiles:
    """What the files next to tokenizer.json say."""

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

    `settings` are those of `files`, with the roles that a converted file states itself. Raises
    `TokenizerError` where a file gives a token another id than transformers does.
    """
    table = _Table(data, where)
    for token in data.get("added_tokens") or []:
        table.add(token["content"], token, token["id"], where.name)
    roles = dict(_named_by_role(settings, files.folder))
    extra = dict(_extra(settings, files.folder))
    for content, flags, named_id, place in _numbered(files, roles, extra):
        table.add(content, flags, named_id, place)
    if not files.has_decoder:
        table.make_special(roles)
    for content, flags in (*roles.items(), *extra.items()):
        if content not in table:
            table.add(content, flags)
    data["added_tokens"] = table.tokens()
    _check_ignored(files, table)


def content_of(token: Any) -> str | None:
    """Return the text of a token that a file writes as a string or as an object."""
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) and content else None


class _Table:
    """Added tokens by content, numbered as `tokenizers` numbers them."""

    def __init__(self, data: Data, where: Path) -> None:
        vocab = data["model"]["vocab"]
        is_list = isinstance(vocab, list)  # a Unigram: an id is the index of its piece
        self.pieces = {entry[0]: i for i, entry in enumerate(vocab)} if is_list else vocab
        self.size = len(vocab)
        self.where = where
        self.found: dict[str, dict[str, Any]] = {}
        self.highest = -1

    def __contains__(self, content: str) -> bool:
        return content in self.found

    def add(
        self,
        content: str,
        flags: Mapping[str, Any],
        named_id: int | None = None,
        place: str = "",
    ) -> None:
        """Add a token, or change the flags of one that is there; refuse a contradictory id."""
        if not content:  # `tokenizers` leaves it out
            return
        token_id = self.id_of(content)
        if named_id is not None and named_id != token_id:
            _refuse(
                self.where.parent / place if place else self.where,
                f"{content!r} has the id {named_id} there, but transformers gives it "
                f"{token_id} (its id in the vocabulary, or the next one after the last); "
                "correct the id, or add the tokens that are missing between them",
            )
        self.highest = max(self.highest, token_id)
        kept = {name: bool(flags.get(name)) for name in FLAGS}
        self.found[content] = {"id": token_id, "content": content, **kept}

    def make_special(self, contents: Mapping[str, Any]) -> None:
        """Mark those of these tokens that are there as special."""
        for content in contents:
            if content in self.found:
                self.found[content]["special"] = True

    def id_of(self, content: str) -> int:
        """Return the id of a token; `tokenizers` counts on from the last one."""
        if content in self.found:
            known: int = self.found[content]["id"]
            return known
        if content in self.pieces:
            piece_id: int = self.pieces[content]
            return piece_id
        return self.highest + 1 if self.highest >= self.size else self.size

    def tokens(self) -> list[dict[str, Any]]:
        """Return the tokens as tokenizer.json lists them."""
        return sorted(self.found.values(), key=_id)


def _numbered(
    files: TokenFiles, roles: Mapping[str, Any], extra: Mapping[str, Any]
) -> Iterator[tuple[str, dict[str, Any], int, str]]:
    """Yield content, flags, id and file of the tokens that a side file names with an id."""
    place = "tokenizer_config.json" if files.has_decoder else "added_tokens.json"
    entries = _decoder(files) if files.has_decoder else _listed(files)
    numbered = []
    for number, content, flags in entries:
        numbered.append((_id_number(number, content, files.folder / place), content, flags))
    for token_id, content, flags in sorted(numbered, key=_first):
        special = bool(flags.get("special")) or content in roles
        special = special or (not files.has_decoder and content in extra)
        normalized = flags.get("normalized")
        normalized = not special if normalized is None else bool(normalized)
        yield content, {**flags, "special": special, "normalized": normalized}, token_id, place


def _listed(files: TokenFiles) -> list[tuple[Any, str, dict[str, Any]]]:
    """Return the entries of added_tokens.json, which have no flags."""
    return [(number, content, {}) for content, number in files.added.items()]


def _decoder(files: TokenFiles) -> list[tuple[Any, str, dict[str, Any]]]:
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
    extra = settings.get("extra_special_tokens")
    own = [key for key in settings if key.endswith("_token") and key not in ROLES]
    named = [(key, settings.get(key)) for key in ROLES]
    named += [(key, settings[key]) for key in own if isinstance(settings[key], str)]
    named += list(extra.items()) if isinstance(extra, dict) else []
    for key, token in named:
        content = content_of(token)
        if content is not None:
            yield content, _flags(token, special=True)
        elif token is not None and key in ROLES and token != "":
            _refuse(folder, f"{key} is {str(token)[:60]}; expected the text of a token")


def _extra(settings: Mapping[str, Any], folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the special tokens without a role."""
    extra = settings.get("extra_special_tokens")
    extra = extra or settings.get("additional_special_tokens") or []
    if isinstance(extra, dict):  # named ones, which `_named_by_role` yields
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
    flags = dict(token) if isinstance(token, dict) else {}
    special = special or bool(flags.get("special"))
    normalized = flags.get("normalized")
    normalized = not special if normalized is None else bool(normalized)
    return {**flags, "special": special, "normalized": normalized}


def _check_ignored(files: TokenFiles, table: _Table) -> None:
    """Refuse ids of added_tokens.json that contradict what transformers reads in its place."""
    if not files.has_decoder:
        return
    place = files.folder / "added_tokens.json"
    for content, number in files.added.items():
        token_id = _id_number(number, content, place)
        known = content in table or content in table.pieces
        if known and table.id_of(content) == token_id:
            continue
        _refuse(
            place,
            f"{content!r} has the id {token_id} there, which transformers does not read, because "
            "tokenizer_config.json has an added_tokens_decoder; name the token in that one as well",
        )


def _id_number(number: Any, content: str, place: Path) -> int:
    try:
        found = int(number)
    except (TypeError, ValueError):
        found = -1
    if found < 0 or isinstance(number, bool | float):
        _refuse(place, f"{content!r} has the id {number!r}; expected a whole number from 0 on")
    return found


def _id(token: Mapping[str, Any]) -> int:
    found: int = token["id"]
    return found


def _first(entry: tuple[int, str, dict[str, Any]]) -> int:
    return entry[0]


def _refuse(where: Path, what: str) -> NoReturn:
    msg = f"{where}: {what}"
    raise TokenizerError(msg)
