"""Texts on which the certificate checks claims about all texts: edge cases and a broad sample.

The broad sample holds languages, code, markup, numbers and random Unicode.
"""

from __future__ import annotations

import random
import sys
import unicodedata

_MIN_WORD_BYTES = 1_000_000


def edge_case_texts() -> list[str]:
    """Return texts with emoji, joiners, unordered marks, mixed scripts, controls, digits, code."""
    return [
        "",
        " ",
        "  ",
        "\n",
        "\r\n\t",
        "\u00a0\u2003\u3000",
        "a  b   c    d",
        "👩‍👩‍👧‍👦🏳️‍🌈👍🏽",
        "क्‍ष क्‌ष श्री",
        "ക്‍ര ന്‍",
        "می‌خواهم",
        "é e\u0301 \u0301e",
        "क\u0941\u093c क\u093c\u0941",
        "ａｂｃ１２３",
        "ﬁ ﬂ ½ ²",
        "ẛ̣ ẛ̣",
        "नमस्ते, world! مرحبا 123 வணக்கம் สวัสดี",
        "Türkçe İıŞşĞğ",
        "\u0000\u0001\u001f\u007f\ufeff",
        "\u202e\u2066abc\u2069",
        "\ufffd\U0010ffff\ue000",
        "\\ud83d\\ude00 \\x00",
        "<s></s><unk><pad><|endoftext|>[INST]",
        "▁▁ ▁a",
        "Ġhello ĊĊ",
        "<0x0A><0xE0>",
        "<0x41>",
        "a\n<0x41>\nb\n\n<0xE0>\n",
        "0 1 12 123 1234 12345 3.14159 1,000,000 -7e-10 0x1F",
        "१२३४५६७८९० ١٢٣٤ ௧௨௩",
        "def f(x):\n    return {'a': [1, 2], \"b\": x**2}  # ok\n\n\n",
        "https://example.org/a?b=c&d=%20#e",
        "don't WON'T I'll",
        "कखगघङ" * 400,
        "ab" * 400,
        "ـــــ",
        "。、「」",
        "한국어 日本語 中文",
        "𝒳𝔂𝓏 𐍈 𒀀",
    ]


def code_texts() -> list[str]:
    """Return code with indentation, line ends and runs of spaces."""
    return [
        "def f(x):\n    if x:\n        return x  # ok\n\n\nclass A:\n\tpass\n",
        "for i in range(10):\n  print(i)   \n\n",
        "    return {'a': [1, 2]}\n",
        "if (a  &&  b) {\r\n    c();\r\n}\r\n",
        "a  b",
        "a   b",
        "  a",
        "a ",
        "a\n  b",
        "f(x)\ny\n",
        "x▁▁y",
    ]


def word_without_spaces(seed_text: str) -> str:
    """Return at least a megabyte of the letters of a text, without white space."""
    letters = "".join(seed_text.split()) or "x"
    size = len(letters.encode())
    return letters * (_MIN_WORD_BYTES // size + 1)


SENTENCES = (
    "The committee hadn't finished its report, so they'll meet again on Thursday at 9:30.",
    "Der Wasserkraftwerksbetreiber überprüft täglich die Messgeräte an der Straße.",
    "L'été dernier, nous avons mangé des crêpes à la crème près de l'église.",
    "El niño pequeño comió piñones; ¿quién se los dio?",
    "Öğretmenler çocuklara İstanbul'un ışıklarını gösterdi.",
    "Сегодня утром дети пошли к реке, а потом вернулись домой.",
    "Η θάλασσα ήταν ήρεμη και ο ουρανός καταγάλανος.",
    "सुबह बच्चे नदी की ओर चलते हैं, और शाम को लौट आते हैं।",
    "காலையில் குழந்தைகள் ஆற்றுக்குச் செல்கிறார்கள்.",
    "সকালে শিশুরা নদীর দিকে হাঁটে এবং গান গায়।",
    "ตอนเช้าเด็กๆ เดินไปที่แม่น้ำแล้วกลับบ้าน",
    "ຕອນເຊົ້າເດັກນ້ອຍຍ່າງໄປແມ່ນ້ຳ",
    "في الصباح يمشي الأطفالُ إلى النهر ثم يعودون.",
    "صبح‌ها بچه‌ها به کنار رودخانه می‌روند.",
    "בבוקר הילדים הולכים אל הנהר.",
    "朝、子どもたちは川まで歩いて行きます。",
    "早上孩子们走到河边，然后回家。",
    "아침에 아이들이 강으로 걸어갑니다.",
    "Buổi sáng, bọn trẻ đi bộ ra bờ sông.",
    "ጠዋት ላይ ልጆቹ ወደ ወንዙ ይሄዳሉ።",
    "Դիլիջանի անտառում առավոտյան մառախուղ է։",
    "დილით ბავშვები მდინარისკენ მიდიან.",
    "မနက်ခင်းမှာ ကလေးတွေ မြစ်ဆီ လမ်းလျှောက်သွားကြတယ်။",
    "ព្រឹកឡើងក្មេងៗដើរទៅទន្លេ។",
)
CODE = (
    "def mean(xs: list[float]) -> float:\n    return sum(xs) / len(xs) if xs else 0.0  # empty\n",
    "for (let i = 0; i < 10; ++i) { console.log(`${i}: ${a[i] ?? 'none'}`); }",
    '#include <stdio.h>\nint main(void) {\n\tprintf("%d\\n", 0x1F & ~7);\n\treturn 0;\n}\n',
    "SELECT name, COUNT(*) AS n FROM users WHERE age >= 18 GROUP BY name ORDER BY n DESC;",
    "grep -rn 'TODO' src/ | awk -F: '{print $1}' | sort | uniq -c > /tmp/out_2024-01-31.txt",
    '{"id": 17, "tags": ["a", "b"], "nested": {"x": null, "y": -1.5e-7}}',
    '<div class="row"><a href="https://example.org/?q=%E2%9C%85&lang=hi">&nbsp;x&lt;y</a></div>',
    "\\begin{equation}\n  E = mc^2 + \\sum_{i=1}^{n} \\frac{x_i}{2}\n\\end{equation}",
    "    indented\n\n\n\ttabs\tand  double  spaces   \r\nWindows lines\r\n",
    "HTTPServerError camelCaseName snake_case_name kebab-case-name SCREAMING_CASE v2.10.3-rc1",
)
RANDOM_TEXTS = 200
# Blocks of Latin, Greek, Cyrillic, Semitic and Indic scripts, symbols, CJK, emoji; then all.
_ALPHABETS = (
    (0x20, 0x7F),
    (0xA0, 0x250),
    (0x370, 0x530),
    (0x590, 0x700),
    (0x900, 0xE00),
    (0xE00, 0x1100),
    (0x1E00, 0x2000),
    (0x2000, 0x2C00),
    (0x3040, 0x3100),
    (0x4E00, 0x9FFF),
    (0xAC00, 0xD7A4),
    (0x1F300, 0x1FB00),
    (0, sys.maxunicode + 1),
)


def broad_sample() -> list[str]:
    """Return about 300 texts, the same ones at every call."""
    return [*edge_case_texts(), *SENTENCES, *CODE, *random_texts(RANDOM_TEXTS)]


def random_texts(count: int, seed: int = 0) -> list[str]:
    """Return texts of random characters with spaces, each from one block or from all."""
    chance = random.Random(seed)
    texts = []
    for i in range(count):
        low, high = _ALPHABETS[i % len(_ALPHABETS)]
        characters: list[str] = []
        while len(characters) < 30:
            character = chr(chance.randrange(low, high))
            # Surrogates cannot be encoded, and unassigned code points are not text.
            if unicodedata.category(character) in {"Cs", "Cn"}:
                continue
            characters.append(character if chance.random() > 0.15 else " ")
        texts.append("".join(characters))
    return texts
