"""Texts that tokenizers stumble over: every round trip is tried on them."""

from __future__ import annotations

_WITHOUT_SPACE = 1_000_000


def awkward_texts() -> list[str]:
    """Return texts with emoji, joiners, marks out of order, mixed scripts, controls, digits, code, long stretches."""
    return [
        "", " ", "  ", "\n", "\r\n\t", "\u00a0\u2003\u3000", "a  b   c    d",
        "👩‍👩‍👧‍👦🏳️‍🌈👍🏽", "क्‍ष क्‌ष श्री", "ക്‍ര ന്‍", "می‌خواهم", "é e\u0301 \u0301e", "क\u0941\u093c क\u093c\u0941",
        "ａｂｃ１２３", "ﬁ ﬂ ½ ²", "ẛ̣ ẛ̣", "नमस्ते, world! مرحبا 123 வணக்கம் สวัสดี",
        "Türkçe İıŞşĞğ",
        "\u0000\u0001\u001f\u007f\ufeff", "\u202e\u2066abc\u2069", "\ufffd\U0010ffff\ue000", "\\ud83d\\ude00 \\x00",
        "<s></s><unk><pad><|endoftext|>[INST]", "▁▁ ▁a", "Ġhello ĊĊ", "<0x0A><0xE0>",
        "0 1 12 123 1234 12345 3.14159 1,000,000 -7e-10 0x1F", "१२३४५६७८९० ١٢٣٤ ௧௨௩",
        "def f(x):\n    return {'a': [1, 2], \"b\": x**2}  # ok\n\n\n",
        "https://example.org/a?b=c&d=%20#e", "don't WON'T I'll",
        "कखगघङ" * 400, "ab" * 400, "ـــــ", "。、「」", "한국어 日本語 中文", "𝒳𝔂𝓏 𐍈 𒀀",
    ]


def code_texts() -> list[str]:
    """Return code with the indentation, line ends and spaces that code has."""
    return [
        "def f(x):\n    if x:\n        return x  # ok\n\n\nclass A:\n\tpass\n",
        "for i in range(10):\n  print(i)   \n\n",
        "    return {'a': [1, 2]}\n",
        "if (a  &&  b) {\r\n    c();\r\n}\r\n",
        "a  b", "a   b", "  a", "a ", "a\n  b", "f(x)\ny\n", "x▁▁y",
    ]


def endless_word(seed_text: str) -> str:
    """Return a megabyte without a single white space, made from the letters of a text."""
    letters = "".join(seed_text.split()) or "x"
    size = len(letters.encode())
    return letters * (_WITHOUT_SPACE // size + 1)
