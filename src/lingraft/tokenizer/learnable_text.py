r"""Which texts may become tokens: the rules for characters that are no letters of a language.

1. A control, private-use, unassigned or surrogate character is never part of a token (white space
   is left to the pre-tokenizer), nor is one that is not shown and steers nothing in a word: soft
   hyphen, zero-width space, word joiner, byte order mark, direction marks, tags, fillers.
2. ZWNJ and ZWJ may only follow a letter or mark of a script that they act on (Arabic, Syriac,
   Mongolian, N'Ko, the Indic scripts, Khmer, Myanmar), or ZWJ an emoji that another one follows.
   So they never begin a token, stand alone or after a space, or follow each other. At the end of
   a token they stay where they carry something: after such a letter they end or keep its joining.
3. A variation selector may follow a visible character.
4. ASCII digits are the base's. Digits of other scripts follow what the base does with ASCII digits
   (`DigitRule`): where it splits them singly, a token holds one digit and nothing else; where it
   groups them by three, up to three; where it keeps numbers whole, any number of them.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import regex

_NOTEWORTHY = regex.compile(r"[\p{C}\p{DI}\p{Nd}--[\t\n\r]]", regex.VERSION1)
"""A text without any of these is not looked at further: nearly all of them."""
_ACTED_ON = (
    r"[\p{Arabic}\p{Syriac}\p{Mongolian}\p{Nko}\p{Devanagari}\p{Bengali}\p{Gurmukhi}\p{Gujarati}"
    r"\p{Oriya}\p{Tamil}\p{Telugu}\p{Kannada}\p{Malayalam}\p{Sinhala}\p{Khmer}\p{Myanmar}]"
)
_JOINERS = "\u200c\u200d"
_SELECTORS = r"\p{Variation_Selector}"
_JOINED = regex.compile(
    rf"(?<={_ACTED_ON})(?<=[\p{{L}}\p{{M}}])[{_JOINERS}]"
    rf"|(?<=\p{{Extended_Pictographic}}{_SELECTORS}?|\p{{Emoji_Modifier}})\u200d"
    r"(?=\p{Extended_Pictographic})"
    rf"|(?<=[^\p{{C}}\p{{Z}}\p{{DI}}]){_SELECTORS}"
)
_DIGIT = regex.compile(r"\p{Nd}")
_SAMPLES = 200


@dataclass(frozen=True)
class DigitRule:
    """What a tokenizer does with digits: at most `most` in a token, after a space or not."""

    most: int
    after_space: bool

    def allows(self, text: str) -> bool:
        """Say whether a text with digits may be a token: digits alone, no more than that."""
        digits = text.removeprefix(" ") if self.after_space else text
        return len(digits) <= self.most and all(character.isdecimal() for character in digits)

    def __str__(self) -> str:
        """The rule in words."""
        if self.most == 1:
            return "digits are split singly"
        return f"up to {self.most} digits are one token"


def derive_digit_rule(cut: Callable[[Sequence[str]], list[list[bytes]]]) -> DigitRule:
    """Derive the rule from how a tokenizer cuts numbers of 1 to 12 ASCII digits.

    `cut` gives the surfaces of the tokens of each text.

    >>> derive_digit_rule(lambda texts: [[bytes([byte]) for byte in text.encode()] for text in texts])
    DigitRule(most=1, after_space=False)
    """
    chance = random.Random(0)
    numbers = []
    for i in range(_SAMPLES):
        length = 1 + i % 12
        numbers.append("".join(chance.choice("0123456789") for _ in range(length)))
    numbers += [str(number) for number in (10, 100, 123, 1000, 1999, 2000, 2023, 10000, 1000000)]
    most, after_space = 1, False
    for tokens in cut([f"a {number} b" for number in numbers]):
        for token in tokens:
            if not re.search(rb"[0-9]", token):
                continue
            most = max(most, len(re.findall(rb"[0-9]", token)))
            after_space = after_space or token.startswith(b" ")
    return DigitRule(most, after_space)


@cache
def _steers_nothing() -> regex.Pattern[str]:
    return regex.compile(r"[\p{C}\p{DI}--[\t\n\r]]", regex.VERSION1)


def is_learnable(text: str, digits: Callable[[], DigitRule]) -> bool:
    r"""Say whether a text may become a token, by the rules of this module.

    >>> any_number = lambda: DigitRule(12, after_space=True)
    >>> [is_learnable(text, any_number) for text in ("कमल", "gov\u00adern", "می\u200cخواهم", "\u200cها")]
    [True, False, True, False]
    """
    if _NOTEWORTHY.search(text) is None:
        return True
    if _steers_nothing().search(_JOINED.sub("", text)) is not None:
        return False
    return _DIGIT.search(text) is None or digits().allows(text)
