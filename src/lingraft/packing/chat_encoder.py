"""Encode conversations with a chat template, so that message text never becomes a special token.

A message may contain the text `<|im_end|>`. If the rendered conversation were encoded directly,
this text would end the turn. Three steps prevent it:
1. In each message, special tokens, and text like numbered marks, are replaced by numbered marks.
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
# A numbered mark. U+FDD2 and U+FDD3 are noncharacters, which text should not contain.
_MARK = re.compile("\ufdd2(\\d+)\ufdd3")


@dataclass(frozen=True)
class ChatEncoder:
    """Renders conversations with a template and encodes them with a tokenizer."""

    tokenizer: ModelTokenizer
    template: ChatTemplate

    @cached_property
    def _special(self) -> SpecialText:
        return SpecialText(tuple(self.tokenizer.family.placeholders))

    def encode(
        self, messages: Sequence[Mapping[str, str]], *, add_generation_prompt: bool = False
    ) -> tuple[list[int], str | None]:
        """Return the ids of a conversation and None, or [] and why the template refuses it."""
        special_tokens = self._special.pattern or _MATCHES_NOTHING
        in_text: list[str] = []

        def replace_by_mark(match: re.Match[str]) -> str:
            in_text.append(match[0])
            return f"\ufdd2{len(in_text) - 1}\ufdd3"

        protected: list[dict[str, str]] = []
        for message in messages:
            content = _MARK.sub(replace_by_mark, message["content"])
            content = special_tokens.sub(replace_by_mark, content)
            protected.append({**message, "content": content})
        try:
            rendered = self.template.render(protected, add_generation_prompt=add_generation_prompt)
        except TokenizerError as error:
            return [], str(error)
        family = self.tokenizer.family
        marked = special_tokens.sub(lambda match: family.placeholders[match[0]], rendered)
        text = _MARK.sub(lambda match: in_text[int(match[1])], marked)
        return family.encode_with_placeholders([text])[0], None
