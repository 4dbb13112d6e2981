"""What stands before and after a document: the tokens that did so in pretraining.

A base model's BOS and EOS are these tokens. A chat model often names a turn's mark as its EOS
(`<|im_end|>`) and as its BOS (`<|im_start|>`); documents between such marks would be read as chat.
Its end of text is then another special token (`<|endoftext|>`), which pretraining used and the chat
template does not put between turns. Packing, scoring and generation all take their tokens from here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from lingraft.errors import TokenizerError
from lingraft.tokenizer.chat_template import ChatTemplate, TurnTokens, chat_template_of

if TYPE_CHECKING:
    from lingraft.tokenizer.model_tokenizer import ModelTokenizer

ROLES = ("auto", "eos", "bos", "bos-eos")
"""Separators by role; any other name is the spelling of a token that stands after each document."""

_TEXT = r"[_▁ -]?(text|sentence|document)"
_END = re.compile(rf"(?i)end[_▁ -]?of{_TEXT}|^</s>$|\beos(_token)?\b|\beod(_id)?\b")
_BEGIN = re.compile(rf"(?i)(begin|start)[_▁ -]?of{_TEXT}|^<s>$|\bbos(_token)?\b")


@dataclass(frozen=True)
class Separators:
    """The token before and the token after a document, by content, and why these."""

    before: str | None
    after: str | None
    why: str

    @property
    def shown(self) -> str:
        """How people read it.

        >>> Separators("<s>", "</s>", "the tokenizer's own").shown
        "<s> document </s>: the tokenizer's own"
        """
        return " ".join(filter(None, (self.before, "document", self.after))) + f": {self.why}"

    def ids(self, tokenizer: ModelTokenizer) -> tuple[int | None, int | None]:
        """Return their ids in this tokenizer."""
        before, after = (
            tokenizer.backend.token_to_id(content) if content else None
            for content in (self.before, self.after)
        )
        return before, after


def separators_of(tokenizer: ModelTokenizer, wanted: str = "auto") -> Separators:
    """Return the separators of a tokenizer: found (`auto`), by role, or as named.

    Raises `TokenizerError` where the tokenizer has no such token.
    """
    bos, eos = (_content(tokenizer, token_id) for token_id in (tokenizer.bos_id, tokenizer.eos_id))
    if wanted == "auto":
        found = _found(tokenizer, bos, eos)
    elif wanted in ROLES:
        chosen = {"eos": (None, eos), "bos": (bos, None), "bos-eos": (bos, eos)}[wanted]
        missing = [
            role
            for role, content in (("bos", bos), ("eos", eos))
            if role in wanted and content is None
        ]
        if missing:
            _refuse(" and ".join(missing).upper())
        found = Separators(*chosen, f"training.packing.separator: {wanted}")
    else:
        if tokenizer.backend.token_to_id(wanted) is None:
            msg = (
                f"training.packing.separator: the tokenizer has no token {wanted!r}; name one that "
                f"it has, or {', '.join(ROLES)}"
            )
            raise TokenizerError(msg)
        found = Separators(None, wanted, "training.packing.separator names it")
    if found.before == found.after:
        if found.after is None:
            _refuse("BOS or EOS")
        return Separators(None, found.after, found.why)
    return found


def start_of_document(tokenizer: ModelTokenizer, wanted: str = "auto") -> int | None:
    """Return the id that a document's first token is predicted from, `None` where there is none."""
    try:
        before, after = separators_of(tokenizer, wanted).ids(tokenizer)
    except TokenizerError:
        if wanted != "auto":
            raise
        return None
    return before if before is not None else after


def _refuse(names: str) -> NoReturn:
    msg = (
        f"the tokenizer names no {names} token, which training puts between documents; set "
        "bos_token or eos_token in its tokenizer_config.json, or name a token that it has in "
        "training.packing.separator"
    )
    raise TokenizerError(msg)


def _content(tokenizer: ModelTokenizer, token_id: int | None) -> str | None:
    return None if token_id is None else tokenizer.backend.id_to_token(token_id)


def _found(tokenizer: ModelTokenizer, bos: str | None, eos: str | None) -> Separators:
    template = chat_template_of(tokenizer)
    if template is None:
        return Separators(bos, eos, "the tokenizer's BOS and EOS")
    marks = template.turn_tokens
    before, after = bos, eos
    reasons = []
    if eos is not None and _is_mark(eos, marks):
        after = next(_ends_of_text(tokenizer, marks), eos)
        others = "" if after != eos else ", and there is no other end-of-text token"
        reasons.append(f"the EOS {eos} marks turns in the chat template{others}")
    if bos is not None and bos in marks.between and not _BEGIN.search(bos) and bos != after:
        before = None
        reasons.append(f"the BOS {bos} marks turns there")
    own = "the tokenizer's BOS and EOS, which its chat template does not put between turns"
    return Separators(before, after, "; ".join(reasons) or own)


def _is_mark(eos: str, marks: TurnTokens) -> bool:
    """Say whether an EOS belongs to the chat: between turns, or at its end under a name of its own."""
    return eos in marks.between or (eos in marks.last and not _END.search(eos))


def _ends_of_text(tokenizer: ModelTokenizer, marks: TurnTokens) -> Iterator[str]:
    """Yield special tokens that are named for the end of a text and are no turn's mark.

    Those that the model's own files list as an end or as padding come first, then lower ids.
    """
    listed = {*end_tokens(tokenizer), _content(tokenizer, tokenizer.pad_id)}
    known = sorted(tokenizer.family.control.items(), key=lambda item: (item[1] not in listed, item))
    for _token_id, content in known:
        if _END.search(content) and content not in marks.between:
            yield content


def end_tokens(tokenizer: ModelTokenizer) -> list[str]:
    """Return every token that ends generation: of the tokenizer, config.json, generation_config.json."""
    generation = _generation_config(tokenizer.folder)
    numbers: list[int] = []
    for settings in (tokenizer.config.get("model_config") or {}, generation):
        value = settings.get("eos_token_id")
        numbers += value if isinstance(value, list) else [value] if value is not None else []
    ids = [tokenizer.eos_id, *numbers]
    return list(dict.fromkeys(filter(None, (_content(tokenizer, number) for number in ids))))


def _generation_config(folder: Path) -> dict[str, Any]:
    path = folder / "generation_config.json"
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        msg = f"{path}: not readable JSON ({error}); fetch or save it again"
        raise TokenizerError(msg) from error
    return content if isinstance(content, dict) else {}


@dataclass(frozen=True)
class ChatModel:
    """What makes a model a chat model: a template, and an end token that ends an answer there."""

    template: ChatTemplate
    ends: str


def chat_model_of(tokenizer: ModelTokenizer) -> ChatModel | None:
    """Return how a model chats, `None` for a base model.

    A template alone makes no chat model: base models of Qwen ship one. Generation has to end where
    the template ends an answer.
    """
    template = chat_template_of(tokenizer)
    if template is None:
        return None
    ends = [content for content in end_tokens(tokenizer) if content in template.turn_tokens.ends]
    return ChatModel(template, ends[0]) if ends else None
