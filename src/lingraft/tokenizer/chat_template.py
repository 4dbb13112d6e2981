"""The chat template of a model folder: how conversations are written, and which tokens mark turns.

Templates are rendered by transformers, as `apply_chat_template` does. What a template does with its
special tokens is read off a rendered conversation of two turns, not off its source: a token that
stands between turns is a turn's mark, one that stands only after the last turn ends the text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lingraft.errors import TokenizerError
from lingraft.tokenizer.added_tokens import content_of

if TYPE_CHECKING:
    from lingraft.tokenizer.model_tokenizer import ModelTokenizer

Message = Mapping[str, str]

TEMPLATE_FILES = ("chat_template.jinja", "chat_template.json")
_PROBE = ("first question", "first answer", "second question", "second answer")
"""Contents of the conversation that is rendered to see what a template puts around turns."""


@dataclass(frozen=True)
class ChatTemplate:
    """A template and the special tokens that it may name: `bos_token`, `eos_token` and so on."""

    source: str
    variables: Mapping[str, str]
    special: frozenset[str]

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = False) -> str:
        """Return the conversation as the model reads it.

        Raises `TokenizerError` where the template refuses the conversation (some take no system
        message, most want user and assistant in turns) or cannot be rendered at all.
        """
        from jinja2 import TemplateError
        from transformers.utils.chat_template_utils import render_jinja_template

        try:
            rendered, _ = render_jinja_template(
                conversations=[[dict(message) for message in messages]],
                chat_template=self.source,
                add_generation_prompt=add_generation_prompt,
                **self.variables,
            )
        except (TemplateError, TypeError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())[:200]
            msg = f"the chat template refuses the conversation ({reason})"
            raise TokenizerError(msg) from error
        return str(rendered[0])

    @cached_property
    def turn_tokens(self) -> TurnTokens:
        """The special tokens around the turns of a rendered conversation."""
        roles = ("user", "assistant", "user", "assistant")
        messages = [
            {"role": role, "content": text} for role, text in zip(roles, _PROBE, strict=True)
        ]
        try:
            rendered = self.render(messages)
        except TokenizerError:
            return TurnTokens.named_in(self.source, self.variables, self.special)
        gaps = _gaps(rendered)
        if gaps is None:
            return TurnTokens.named_in(self.source, self.variables, self.special)
        found = [frozenset(content for content in self.special if content in gap) for gap in gaps]
        after_answer = [gap for gap in (gaps[2], gaps[4]) if gap]
        ends = {first for gap in after_answer if (first := _first_of(gap, self.special))}
        return TurnTokens(frozenset().union(*found[1:4]), found[4], frozenset(ends))


@dataclass(frozen=True)
class TurnTokens:
    """Special tokens of a template: `between` turns, after the `last` one, what `ends` an answer."""

    between: frozenset[str]
    last: frozenset[str]
    ends: frozenset[str]

    @classmethod
    def named_in(
        cls, source: str, variables: Mapping[str, str], special: frozenset[str]
    ) -> TurnTokens:
        """Take every special token that a template names for a mark: it could not be rendered."""
        named = {content for content in special if content in source}
        named |= {content for name, content in variables.items() if name in source}
        return cls(frozenset(named), frozenset(), frozenset(named))


def _gaps(rendered: str) -> list[str] | None:
    """Return what stands before, between and after the contents; `None` where one is missing."""
    gaps = []
    place = 0
    for content in _PROBE:
        found = rendered.find(content, place)
        if found < 0:
            return None
        gaps.append(rendered[place:found])
        place = found + len(content)
    return [*gaps, rendered[place:]]


def _first_of(text: str, special: frozenset[str]) -> str | None:
    """Return the special token that comes first in a text, the longest where two begin there."""
    places = [(text.find(content), -len(content), content) for content in special]
    return min((place for place in places if place[0] >= 0), default=(0, 0, None))[2]


def chat_template_of(tokenizer: ModelTokenizer) -> ChatTemplate | None:
    """Return the chat template of a model folder, `None` where there is none.

    Of several named ones, the `default` is taken, as transformers does.
    """
    source = _source(tokenizer.folder, tokenizer.config.get("chat_template"))
    if source is None:
        return None
    variables = {
        name: content
        for name, value in tokenizer.config.items()
        if name.endswith("_token") and (content := content_of(value))
    }
    return ChatTemplate(source, variables, frozenset(tokenizer.family.special.values()))


def _source(folder: Path, configured: Any) -> str | None:
    jinja = folder / "chat_template.jinja"
    if jinja.is_file():
        return jinja.read_text(encoding="utf-8")
    older = folder / "chat_template.json"
    if older.is_file():
        try:
            configured = json.loads(older.read_text(encoding="utf-8"))["chat_template"]
        except (ValueError, KeyError, TypeError) as error:
            msg = f"{older}: holds no chat template ({error}); fetch or save it again"
            raise TokenizerError(msg) from error
    if isinstance(configured, list):
        named = {entry.get("name"): entry.get("template") for entry in configured}
        configured = named.get("default")
    if isinstance(configured, Mapping):
        configured = configured.get("default")
    return configured if isinstance(configured, str) and configured else None
