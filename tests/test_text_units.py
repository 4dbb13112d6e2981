"""The unit of a text: words where spaces separate them, otherwise syllables or characters."""

from __future__ import annotations

import pytest

from lingraft.text_units import TextUnit, unit_of

# The first article of the Universal Declaration of Human Rights, or its beginning.
ENGLISH = "All human beings are born free and equal in dignity and rights."
TEXTS = {
    "en": (ENGLISH, "word"),
    "hi": ("सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता प्राप्त है।", "word"),
    "ko": ("모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.", "word"),
    "am": ("የሰው፡ልጅ፡ሁሉ፡ሲወለድ፡ነጻና፡በክብርና፡በመብትም፡እኩልነት፡ያለው፡ነው።", "word"),
    "bo": ("འགྲོ་བ་མིའི་རིགས་རྒྱུད་ཡོངས་ལ་སྐྱེས་ཙམ་ཉིད་ནས་ཆེ་མཐོངས་དང༌།", "syllable"),
    "my": ("လူတိုင်းသည် တူညီ လွတ်လပ်သော ဂုဏ်သိက္ခာဖြင့် မွေးဖွားလာသူများ ဖြစ်သည်။", "syllable"),
    "th": ("มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกัน", "character"),
    "lo": ("ມະນຸດທຸກຄົນເກີດມາມີກຽດສັກສີ, ສິດທິ, ເສລີພາບ", "character"),
    "km": ("មនុស្សទាំងអស់ កើតមកមានសេរីភាព", "character"),
    "ja": ("すべての人間は、生まれながらにして自由であり", "character"),
    "zh": ("人人生而自由,在尊严和权利上一律平等。", "character"),
}


@pytest.mark.parametrize("language", TEXTS)
def test_the_script_decides_the_unit(language: str) -> None:
    """Words are counted where spaces or wordspaces separate them, and nowhere else."""
    text, unit = TEXTS[language]
    assert unit_of([text]) is TextUnit(unit)


def test_a_mixed_text_has_words_only_if_few_letters_have_none() -> None:
    """An English text with a Chinese name has words; half Chinese, it has characters."""
    chinese = TEXTS["zh"][0]
    assert unit_of([ENGLISH * 5, chinese[:4]]) is TextUnit.WORD
    assert unit_of([ENGLISH, chinese]) is TextUnit.CHARACTER
    assert unit_of([TEXTS["bo"][0] * 3, chinese, ENGLISH]) is TextUnit.SYLLABLE


def test_marks_do_not_count_in_the_share_of_a_script() -> None:
    """Thai writes many vowels and all tones as marks, and English none: only letters count."""
    thai = "น้ำในแม่น้ำเย็นมากและเราเดินเล่นที่ริมตลิ่งจนถึงเย็น"
    assert (sum(map(str.isalpha, thai)), len(thai)) == (39, 52)
    assert unit_of([ENGLISH * 4, thai]) is TextUnit.WORD
    assert unit_of([ENGLISH * 4, thai, thai]) is TextUnit.CHARACTER


def test_the_unit_does_not_depend_on_the_order_of_sources() -> None:
    """Documents are looked at in all of the text, not only in its first file."""
    documents = [ENGLISH] * 150 + [TEXTS["th"][0]] * 150
    assert unit_of(documents) is unit_of(documents[::-1]) is TextUnit.CHARACTER


def test_an_empty_text_has_words() -> None:
    """Without letters, nothing speaks against words."""
    assert unit_of([]) is unit_of(["", "… 1"]) is TextUnit.WORD


@pytest.mark.parametrize(
    ("text", "syllables"),
    [
        ("བཀྲ་ཤིས་བདེ་ལེགས།", ["བཀྲ", "ཤིས", "བདེ", "ལེགས"]),
        ("ལོ་༢༠༢༤ Lhasa", ["ལོ", "༢༠༢༤", "Lhasa"]),
        ("မြန်မာနိုင်ငံ", ["မြန်", "မာ", "နိုင်", "ငံ"]),
        # The dot below stands before the asat in NFC, and after it as it is often typed.
        ("\u1001\u1014\u1037\u103a", ["\u1001\u1014\u1037\u103a"]),
        ("\u1001\u1014\u103a\u1037", ["\u1001\u1014\u103a\u1037"]),
        # A letter over another one ends the syllable before it.
        ("အင်္ဂလိပ်", ["အင်္", "ဂ", "လိပ်"]),
        ("သိက္ခာ", ["သိက္", "ခာ"]),
        ("中文 ABC", ["中", "文", "ABC"]),
        ("… །", []),
        ("", []),
    ],
)
def test_syllables_are_those_of_the_spelling(text: str, syllables: list[str]) -> None:
    """Tibetan syllables end at a tsheg; Burmese ones begin at a letter that ends none."""
    assert TextUnit.SYLLABLE.split_text(text) == syllables
    assert TextUnit.SYLLABLE.count_in(text) == len(syllables)


@pytest.mark.parametrize("unit", TextUnit)
def test_the_count_is_that_of_the_parts(unit: TextUnit) -> None:
    """In every unit, a text has as many units as it is split into."""
    for text, _ in TEXTS.values():
        assert unit.count_in(text) == len(unit.split_text(text))
