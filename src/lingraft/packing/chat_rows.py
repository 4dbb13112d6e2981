"""Conversations as ids: the chat template's own special tokens are special, spellings in messages are text.

A message may spell `<|im_end|>`. Rendered and read whole, that spelling would end the turn. So the
special tokens that messages spell are set aside before the template runs; those that the template
then writes become names that no text spells; and the spellings come back as text.
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
_NOTHING = re.compile(r"(?!)")
_ASIDE = re.compile("\ufdd2(\\d+)\ufdd3")


@dataclass(frozen=True)
class ChatEncoder:
    """Writes conversations with a template and reads them with a tokenizer."""

    tokenizer: ModelTokenizer
    template: ChatTemplate

    @cached_property
    def _special(self) -> SpecialText:
        return SpecialText(tuple(self.tokenizer.family.placeholders))

    def encode(self, messages: Sequence[Mapping[str, str]]) -> tuple[list[int], str | None]:
        """Return the ids of a conversation; none, and the reason, where the template refuses it."""
        pattern = self._special.pattern or _NOTHING
        spelled: list[str] = []

        def aside(found: re.Match[str]) -> str:
            spelled.append(found[0])
            return f"\ufdd2{len(spelled) - 1}\ufdd3"

        kept = [{**one, "content": pattern.sub(aside, one["content"])} for one in messages]
        try:
            rendered = self.template.render(kept)
        except TokenizerError as error:
            return [], str(error)
        family = self.tokenizer.family
        marked = pattern.sub(lambda found: family.placeholders[found[0]], rendered)
        text = _ASIDE.sub(lambda found: spelled[int(found[1])], marked)
        return family.encode_with_placeholders([text])[0], None
