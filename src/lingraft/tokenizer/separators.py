"""The tokens before and after a document: those that separated documents in pretraining.

For a base model these are BOS and EOS. The EOS of a chat model is often a turn token
(`<|im_end|>`), and so may be its BOS (`<|im_start|>`); documents between them would be read as
chat. Its separator is then another special token (`<|endoftext|>`), which pretraining used and
which the chat template does not put between turns. Packing, scoring and generation use these
separators.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from lingraft.errors import TokenizerError
from lingraft.tokenizer.chat_template import ChatTemplate, TurnTokens, chat_template_of
from lingraft.tokenizer.json_format import read_object

if TYPE_CHECKING:
    from lingraft.tokenizer.model_tokenizer import ModelTokenizer

ROLES = ("auto", "eos", "bos", "bos-eos")
"""Separators by role; any other name is a special token to put after each document."""

# The names of end-of-text and start-of-text tokens in published tokenizers.
_TEXT = r"[_▁ -]?(text|sentence|document)"
_END = re.compile(rf"(?i)end[_▁ -]?of{_TEXT}|^</s>$|\beos(_token)?\b|\beod(_id)?\b")
_BEGIN = re.compile(rf"(?i)(begin|start)[_▁ -]?of{_TEXT}|^<s>$|\bbos(_token)?\b")


@dataclass(frozen=True)
class Separators:
    """The token before and the token after a document, by content, and the reason."""

    before: str | None
    after: str | None
    why: str

    @property
    def shown(self) -> str:
        """The separators and the reason as a phrase.

        >>> Separators("<s>", "</s>", "the tokenizer's own").shown
        "<s> document </s>: the tokenizer's own"
        """
        return " ".join(filter(None, (self.before, "document", self.after))) + f": {self.why}"

    def ids(self, tokenizer: ModelTokenizer) -> tuple[int | None, int | None]:
        """Return the ids of both tokens in this tokenizer."""
        id_of = tokenizer.backend.token_to_id
        before = id_of(self.before) if self.before else None
        after = id_of(self.after) if self.after else None
        return before, after


def separators_of(tokenizer: ModelTokenizer, wanted: str = "auto") -> Separators:
    """Return the separators of a tokenizer: automatic, by role, or as named.

    Raises `TokenizerError` where the tokenizer has no such special token.
    """
    bos = _content(tokenizer, tokenizer.bos_id)
    eos = _content(tokenizer, tokenizer.eos_id)
    if wanted == "auto":
        separators = _automatic(tokenizer, bos, eos)
    elif wanted in ROLES:
        separators = _by_role(wanted, bos, eos)
    else:
        named = tokenizer.backend.token_to_id(wanted)
        if named is None:
            msg = (
                f"training.packing.separator: the tokenizer has no token {wanted!r}; name one that "
                f"it has, or {', '.join(ROLES)}"
            )
            raise TokenizerError(msg)
        # Text contains other tokens, so that documents would begin and end in their middle.
        if named not in tokenizer.family.control:
            msg = (
                f"training.packing.separator: {wanted!r} is not a special token, so documents "
                f"can contain it; name a special token, or {', '.join(ROLES)}"
            )
            raise TokenizerError(msg)
        separators = Separators(None, wanted, "training.packing.separator names it")
    if separators.before == separators.after:
        if separators.after is None:
            _refuse("BOS or EOS")
        # One token between two documents is enough.
        return Separators(None, separators.after, separators.why)
    return separators


def _by_role(wanted: str, bos: str | None, eos: str | None) -> Separators:
    before = bos if "bos" in wanted else None
    after = eos if "eos" in wanted else None
    missing = []
    if "bos" in wanted and bos is None:
        missing.append("BOS")
    if "eos" in wanted and eos is None:
        missing.append("EOS")
    if missing:
        _refuse(" and ".join(missing))
    return Separators(before, after, f"training.packing.separator: {wanted}")


def start_of_document(tokenizer: ModelTokenizer, wanted: str = "auto") -> int | None:
    """Return the id from which a document's first token is predicted, `None` without one."""
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


def _automatic(tokenizer: ModelTokenizer, bos: str | None, eos: str | None) -> Separators:
    """Return BOS and EOS, except for those that are turn tokens of the chat template."""
    template = chat_template_of(tokenizer)
    if template is None:
        return Separators(bos, eos, "the tokenizer's BOS and EOS")
    turns = template.turn_tokens
    before, after = bos, eos
    reasons = []
    if eos is not None and _is_turn_token(eos, turns):
        # Without another end-of-text token the EOS stays, as in Llama-2-Chat (`</s>`).
        after = next(_ends_of_text(tokenizer, turns), eos)
        others = "" if after != eos else ", and there is no other end-of-text token"
        reasons.append(f"the EOS {eos} marks turns in the chat template{others}")
    if bos is not None and bos in turns.between and not _BEGIN.search(bos) and bos != after:
        before = None
        reasons.append(f"the BOS {bos} marks turns there")
    own = "the tokenizer's BOS and EOS, which its chat template does not put between turns"
    return Separators(before, after, "; ".join(reasons) or own)


def _is_turn_token(eos: str, turns: TurnTokens) -> bool:
    """Whether an EOS belongs to the chat: between turns, or last without the name of an end."""
    return eos in turns.between or (eos in turns.last and not _END.search(eos))


def _ends_of_text(tokenizer: ModelTokenizer, turns: TurnTokens) -> Iterator[str]:
    """Yield special tokens with the name of an end of text that are not between turns.

    Those that the model's own files list as an end or as padding come first, then lower ids.
    """
    listed = {*end_tokens(tokenizer), _content(tokenizer, tokenizer.pad_id)}
    control = tokenizer.family.control
    for _id, content in sorted(control.items(), key=lambda item: (item[1] not in listed, item)):
        if _END.search(content) and content not in turns.between:
            yield content


def end_tokens(tokenizer: ModelTokenizer) -> list[str]:
    """Return every token that ends generation, without duplicates.

    They are named by the tokenizer, config.json and generation_config.json.
    """
    ids = [tokenizer.eos_id]
    model_config = tokenizer.config.get("model_config") or {}
    for settings in (model_config, read_object(tokenizer.folder / "generation_config.json")):
        value = settings.get("eos_token_id")
        ids += value if isinstance(value, list) else [value]
    contents = [_content(tokenizer, token_id) for token_id in ids]
    return list(dict.fromkeys(filter(None, contents)))


@dataclass(frozen=True)
class ChatModel:
    """The parts of a chat model: a template, and the end token that ends an answer in it."""

    template: ChatTemplate
    ends: str


def chat_model_of(tokenizer: ModelTokenizer) -> ChatModel | None:
    """Return the chat template and the end of an answer, `None` for a base model."""
    template = chat_template_of(tokenizer)
    if template is None:
        return None
    # A template alone makes no chat model: base models of Qwen have one. Generation has to end
    # where the template ends an answer.
    for content in end_tokens(tokenizer):
        if content in template.turn_tokens.ends:
            return ChatModel(template, content)
    return None
