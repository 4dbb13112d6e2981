"""The chat template of a model folder: how conversations are rendered, and which tokens it uses.

transformers renders the template, as `apply_chat_template` does. The role of each special token is
read from a rendered conversation of two turns, not from the template's source. A token between
turns is a turn token. A token only after the last turn ends the text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lingraft.errors import TokenizerError, one_line
from lingraft.tokenizer.added_tokens import content_of
from lingraft.tokenizer.file_names import CHAT_TEMPLATE_FILES

if TYPE_CHECKING:
    from lingraft.tokenizer.model_tokenizer import ModelTokenizer

Message = Mapping[str, str]

_PROBE = (
    ("user", "first question"),
    ("assistant", "first answer"),
    ("user", "second question"),
    ("assistant", "second answer"),
)
"""The conversation that is rendered to find the tokens around turns: roles and contents."""
TRAINING_DATE = date(2024, 7, 26)
"""The current date in training text: the one that Llama's templates have if they get none."""


def _strftime_macro(day: date) -> str:
    """Return a Jinja macro that takes the place of transformers' function `strftime_now`.

    It is part of the template, because transformers passes no functions to a template.
    """
    # Written here, because Windows has no `%-d`: the number without zeros before it.
    values = {f"-{code}": str(int(day.strftime(f"%{code}"))) for code in "dmHIMSj"}
    # `%%` is last: its result would be read as the start of another.
    values |= {code: day.strftime(f"%{code}") for code in "aAwdbBmyYHIpMSfjUWcxXGuVFDTRe%"}
    formatted = "format"
    for code, value in values.items():
        formatted += f".replace({f'%{code}'!r}, {value!r})"
    # The line end, which Jinja removes, makes the template begin on a line of its own, as before.
    return f"{{%- macro strftime_now(format) %}}{{{{ {formatted} }}}}{{% endmacro %}}\n"


_CONSTANT_DATE = _strftime_macro(TRAINING_DATE)


@dataclass(frozen=True)
class ChatTemplate:
    """A template, the variables that it may use (`bos_token` etc.), and all special tokens."""

    source: str
    variables: Mapping[str, str]
    special: frozenset[str]

    def render(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = False,
        continue_final_message: bool = False,
    ) -> str:
        """Return the conversation as the model reads it.

        With `continue_final_message`, it ends with the text of the last message, which the model
        continues. Raises `TokenizerError` where the template refuses the conversation (some accept
        no system message, most expect user and assistant to alternate) or cannot be rendered.
        """
        # Imported here: this module is loaded with every tokenizer, and transformers is slow.
        from jinja2 import TemplateError
        from transformers.utils.chat_template_utils import render_jinja_template

        try:
            rendered, _ = render_jinja_template(
                conversations=[list(map(dict, messages))],
                chat_template=self.source,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=continue_final_message,
                **self.variables,
            )
        except (TemplateError, TypeError, ValueError, KeyError) as error:
            msg = f"the chat template refuses the conversation ({one_line(error)})"
            raise TokenizerError(msg) from error
        return str(rendered[0])

    def at_training_date(self) -> ChatTemplate:
        """Return the template with `TRAINING_DATE` as the current date, if it asks for the date.

        The text of a training must not depend on the day of packing, which is not in its key.
        """
        if "strftime_now" not in self.source:
            return self
        return replace(self, source=_CONSTANT_DATE + self.source)

    @cached_property
    def turn_tokens(self) -> TurnTokens:
        """The special tokens around the turns of a rendered conversation."""
        messages = [{"role": role, "content": content} for role, content in _PROBE]
        try:
            gaps = _gaps(self.render(messages))
        except TokenizerError:
            gaps = None
        if gaps is None:
            return TurnTokens.named_in(self.source, self.variables, self.special)
        _first, *between, after_last = map(self._special_in, gaps)
        # Gaps 2 and 4 follow the two answers of the probe.
        ends = {_first_of(gaps[2], self.special), _first_of(gaps[4], self.special)}
        return TurnTokens(frozenset().union(*between), after_last, frozenset(filter(None, ends)))

    def _special_in(self, text: str) -> frozenset[str]:
        return frozenset(filter(text.__contains__, self.special))


@dataclass(frozen=True)
class TurnTokens:
    """The special tokens of a template by their place in a conversation.

    `between` holds those between turns, `last` those after the last turn. `ends` holds the first
    token after each answer, which ends it.
    """

    between: frozenset[str]
    last: frozenset[str]
    ends: frozenset[str]

    @classmethod
    def named_in(
        cls, source: str, variables: Mapping[str, str], special: frozenset[str]
    ) -> TurnTokens:
        """Return every special token in the source, for a template that cannot be rendered."""
        named = set(filter(source.__contains__, special))
        for name, content in variables.items():
            if name in source:
                named.add(content)
        return cls(frozenset(named), frozenset(), frozenset(named))


def _gaps(rendered: str) -> list[str] | None:
    """Return the text before, between and after the probe's contents; `None` if one is missing."""
    gaps = []
    place = 0
    for _role, content in _PROBE:
        start = rendered.find(content, place)
        if start < 0:
            return None
        gaps.append(rendered[place:start])
        place = start + len(content)
    return [*gaps, rendered[place:]]


def _first_of(text: str, special: frozenset[str]) -> str | None:
    """Return the first special token in a text, the longest one where two begin there."""
    places = []
    for content in special:
        start = text.find(content)
        if start >= 0:
            places.append((start, -len(content), content))
    return min(places)[2] if places else None


def chat_template_of(tokenizer: ModelTokenizer) -> ChatTemplate | None:
    """Return the chat template of a model folder, `None` where there is none.

    Of several named templates the `default` one is used, as in transformers.
    """
    source = _source(tokenizer.folder, tokenizer.config.get("chat_template"))
    if source is None:
        return None
    variables = {}
    for name, value in tokenizer.config.items():
        content = content_of(value)
        if name.endswith("_token") and content:
            variables[name] = content
    return ChatTemplate(source, variables, frozenset(tokenizer.family.special.values()))


def _source(folder: Path, configured: Any) -> str | None:
    """Return the source of the template; the files take precedence over tokenizer_config.json."""
    jinja, older = folder / CHAT_TEMPLATE_FILES[0], folder / CHAT_TEMPLATE_FILES[1]
    if jinja.is_file():
        return jinja.read_text(encoding="utf-8")
    if older.is_file():
        try:
            configured = json.loads(older.read_text(encoding="utf-8"))["chat_template"]
        except (ValueError, KeyError, TypeError) as error:
            msg = f"{older}: holds no chat template ({error}); fetch or save it again"
            raise TokenizerError(msg) from error
    if isinstance(configured, list):
        configured = {entry.get("name"): entry.get("template") for entry in configured}
    if isinstance(configured, Mapping):
        configured = configured.get("default")
    return configured if isinstance(configured, str) and configured else None
