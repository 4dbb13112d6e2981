"""Encode conversations with a chat template, so that message text never becomes a special token.

A message may contain the text `<|im_end|>`. If the rendered conversation were encoded directly,
this text would end the turn. Three steps prevent it:
1. In each message, special tokens, and the character that begins a mark, are replaced by numbered
   marks.
2. The template renders the conversation. All special tokens in the result are from the template;
   they are replaced by the placeholders of the tokenizer family, which become their ids.
3. The numbered marks are replaced by the original text, which is encoded as text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from lingraft.errors import TokenizerError
from lingraft.tokenizer import ModelTokenizer
from lingraft.tokenizer.chat_template import ChatTemplate
from lingraft.tokenizer.special_text import SpecialText

NO_TEMPLATE = (
    "the model has no chat template to write them with; start from an instruct model, or give the "
    "text as plain text (format: text)"
)
_MATCHES_NOTHING = re.compile(r"(?!)")
# A numbered mark is between U+FDD2 and U+FDD3: noncharacters, which text should not contain.
_BEGIN = "\ufdd2"
_MARK = re.compile(f"{_BEGIN}(\\d+)\ufdd3")


@dataclass(frozen=True)
class ChatEncoder:
    """Renders conversations with a template and encodes them with a tokenizer."""

    tokenizer: ModelTokenizer
    template: ChatTemplate

    @cached_property
    def _numbers(self) -> dict[str, int]:
        """The texts that get a mark in a message, with its number."""
        replaced = (*self.tokenizer.family.placeholders, _BEGIN)
        return {text: number for number, text in enumerate(replaced)}

    @cached_property
    def _replaced(self) -> re.Pattern[str]:
        return SpecialText(tuple(self._numbers)).pattern or _MATCHES_NOTHING

    @cached_property
    def _special(self) -> re.Pattern[str]:
        contents = tuple(self.tokenizer.family.placeholders)
        return SpecialText(contents).pattern or _MATCHES_NOTHING

    def encode(
        self, messages: Sequence[Mapping[str, str]], *, add_generation_prompt: bool = False
    ) -> tuple[list[int], str | None]:
        """Return the ids of a conversation and None, or [] and why the template refuses it."""
        try:
            rendered = self.render(messages, add_generation_prompt=add_generation_prompt)
        except TokenizerError as error:
            return [], str(error)
        return self.encode_rendered(rendered), None

    def render(
        self,
        messages: Sequence[Mapping[str, str]],
        *,
        add_generation_prompt: bool = False,
        continue_final_message: bool = False,
    ) -> str:
        """Return the rendered conversation, in which messages have marks for special tokens.

        Raises `TokenizerError` where the template refuses it.
        """
        protected = [
            {**message, "content": self.protect(message["content"])} for message in messages
        ]
        return self.template.render(
            protected,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=continue_final_message,
        )

    def protect(self, text: str) -> str:
        """Return a text with marks for the special tokens that it spells."""
        return self._replaced.sub(lambda match: f"{_BEGIN}{self._numbers[match[0]]}\ufdd3", text)

    def encode_rendered(self, rendered: str) -> list[int]:
        """Return the ids of what `render` returned, also with protected text after it."""
        family, texts = self.tokenizer.family, list(self._numbers)
        marked = self._special.sub(lambda match: family.placeholders[match[0]], rendered)
        text = _MARK.sub(lambda match: texts[int(match[1])], marked)
        return family.encode_with_placeholders([text])[0]
