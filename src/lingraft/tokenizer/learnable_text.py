"""The rules for characters of new tokens that are not letters of a language.

1. A token holds no control, private-use, unassigned or surrogate character. Nor does it hold an
   invisible character without an effect inside of words: soft hyphen, zero-width space, word
   joiner, byte order mark, direction marks, tags, fillers. White space is left to the
   pre-tokenizer. Signs that enclose what follows (the Arabic end of ayah, number signs) are
   visible, though Unicode lists them as format controls.
2. ZWNJ and ZWJ may only follow a letter or mark of a script in which they control joining (Arabic,
   Syriac, Mongolian, N'Ko, Adlam, the Indic scripts, Khmer, Myanmar, Javanese, Balinese), in any
   other script a letter that joins the following one, or a virama. ZWJ may also join two emoji.
3. A variation selector may follow a visible character, and the Mongolian vowel separator may
   follow a Mongolian letter.
4. Digits of other scripts follow the base's treatment of ASCII digits (`DigitRule`). Where the base
   splits digits singly, a token is one digit; where it groups them by three, up to three digits;
   where it keeps numbers whole, any number of digits. ASCII digits themselves are never learned.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import regex

# Nearly all texts hold none of these characters, and one search accepts them.
_VISIBLE = r"[\t\n\r\p{Prepended_Concatenation_Mark}]"
_NEEDS_A_RULE = regex.compile(rf"[\p{{C}}\p{{DI}}\p{{Nd}}--{_VISIBLE}]", regex.VERSION1)
_WITHOUT_EFFECT = regex.compile(rf"[\p{{C}}\p{{DI}}--{_VISIBLE}]", regex.VERSION1)
_JOINING_SCRIPTS = (
    r"[\p{Arabic}\p{Syriac}\p{Mongolian}\p{Nko}\p{Devanagari}\p{Bengali}\p{Gurmukhi}\p{Gujarati}"
    r"\p{Oriya}\p{Tamil}\p{Telugu}\p{Kannada}\p{Malayalam}\p{Sinhala}\p{Khmer}\p{Myanmar}"
    # Of scripts that are not named: letters with a form before another letter, and viramas.
    r"\p{Adlam}\p{Javanese}\p{Balinese}\p{Joining_Type=D}\p{Joining_Type=L}"
    r"\p{Canonical_Combining_Class=9}]"
)
JOINERS = "\u200c\u200d"
"""ZWNJ and ZWJ, which control joining and conjuncts."""

_SELECTORS = r"\p{Variation_Selector}"
# The joiners and selectors that rules 2 and 3 allow. At the end of a token they stay: after such a
# letter they change its form.
_ALLOWED_JOINERS = regex.compile(
    rf"(?<={_JOINING_SCRIPTS})(?<=[\p{{L}}\p{{M}}])[{JOINERS}]"
    rf"|(?<=\p{{Extended_Pictographic}}{_SELECTORS}?|\p{{Emoji_Modifier}})\u200d"
    r"(?=\p{Extended_Pictographic})"
    rf"|(?<=[^\p{{C}}\p{{Z}}\p{{DI}}]){_SELECTORS}"
    rf"|(?<=\p{{Mongolian}}{_SELECTORS}?)(?<!\u180e)\u180e"
)
_DIGIT = regex.compile(r"\p{Nd}")
_SAMPLES = 200


@dataclass(frozen=True)
class DigitRule:
    """How a tokenizer segments digits.

    `max_digits` is the highest number of digits in a token. `after_space` says whether such a token
    may begin with a space.
    """

    max_digits: int
    after_space: bool

    def allows(self, text: str) -> bool:
        """Whether a text with digits may be a token: only digits, at most `max_digits` of them."""
        digits = text.removeprefix(" ") if self.after_space else text
        return len(digits) <= self.max_digits and all(map(str.isdecimal, digits))

    def __str__(self) -> str:
        """The rule as a phrase."""
        if self.max_digits == 1:
            return "digits are split singly"
        return f"up to {self.max_digits} digits are one token"


def derive_digit_rule(cut: Callable[[Sequence[str]], list[list[bytes]]]) -> DigitRule:
    """Derive the rule from the tokens of numbers of 1 to 12 ASCII digits.

    `cut` returns the surfaces of the tokens of each text.

    >>> derive_digit_rule(lambda texts: [[b"1", b"2"] for text in texts])
    DigitRule(max_digits=1, after_space=False)
    """
    chance = random.Random(0)
    # Round numbers and years are more likely to be tokens of their own than random digits.
    numbers = ["10", "100", "123", "1000", "1999", "2000", "2023", "10000", "1000000"]
    for i in range(_SAMPLES):
        digits = [chance.choice("0123456789") for _ in range(1 + i % 12)]
        numbers.append("".join(digits))
    max_digits, after_space = 1, False
    for tokens in cut([f"a {number} b" for number in numbers]):
        for token in tokens:
            if not re.search(rb"[0-9]", token):
                continue
            max_digits = max(max_digits, len(re.findall(rb"[0-9]", token)))
            after_space = after_space or token.startswith(b" ")
    return DigitRule(max_digits, after_space)


def is_learnable(text: str, digits: Callable[[], DigitRule]) -> bool:
    r"""Whether a text may become a token by the rules of this module.

    `digits` is called only for a text with digits.

    >>> rule = lambda: DigitRule(12, after_space=True)
    >>> is_learnable("कमल", rule), is_learnable("gov\u00adern", rule)
    (True, False)
    >>> is_learnable("می\u200cخواهم", rule), is_learnable("\u200cها", rule)
    (True, False)
    """
    if _NEEDS_A_RULE.search(text) is None:
        return True
    if _WITHOUT_EFFECT.search(_ALLOWED_JOINERS.sub("", text)) is not None:
        return False
    return _DIGIT.search(text) is None or digits().allows(text)
