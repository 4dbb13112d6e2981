"""Sample sentences that pre-tokenizers cut inside words, and the effect of a changed pre-tokenizer.

The sentences of scripts with combining marks have the same meaning in each language: a little
brother goes to school every day, and the water of the river is cold. Those with apostrophes,
joiners and the like inside words do not. All were written for lingraft.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from lingraft.tokenizer.base import Family

_COMPOSED = {
    "Devanagari (Hindi)": "मेरा छोटा भाई हर दिन स्कूल जाता है। नदी का पानी बहुत ठंडा है।",
    "Devanagari (Marathi)": "माझा लहान भाऊ रोज शाळेत जातो. नदीचे पाणी खूप थंड आहे.",
    "Bengali": "আমার ছোট ভাই প্রতিদিন স্কুলে যায়। নদীর জল খুব ঠান্ডা।",
    "Gurmukhi (Punjabi)": "ਮੇਰਾ ਛੋਟਾ ਭਰਾ ਹਰ ਰੋਜ਼ ਸਕੂਲ ਜਾਂਦਾ ਹੈ। ਨਦੀ ਦਾ ਪਾਣੀ ਬਹੁਤ ਠੰਢਾ ਹੈ।",
    "Gujarati": "મારો નાનો ભાઈ દરરોજ શાળાએ જાય છે. નદીનું પાણી ખૂબ ઠંડું છે.",
    "Oriya": "ମୋର ସାନ ଭାଇ ପ୍ରତିଦିନ ବିଦ୍ୟାଳୟକୁ ଯାଏ। ନଦୀର ପାଣି ବହୁତ ଥଣ୍ଡା।",
    "Tamil": "என் தம்பி தினமும் பள்ளிக்குச் செல்கிறான். ஆற்றின் நீர் மிகவும் குளிர்ச்சியாக இருக்கிறது.",
    "Telugu": "నా తమ్ముడు ప్రతి రోజూ బడికి వెళ్తాడు. నది నీరు చాలా చల్లగా ఉంది.",
    "Kannada": "ನನ್ನ ತಮ್ಮ ಪ್ರತಿದಿನ ಶಾಲೆಗೆ ಹೋಗುತ್ತಾನೆ. ನದಿಯ ನೀರು ತುಂಬಾ ತಂಪಾಗಿದೆ.",
    "Malayalam": "എന്റെ അനിയൻ എല്ലാ ദിവസവും സ്കൂളിൽ പോകുന്നു. പുഴയിലെ വെള്ളത്തിന് നല്ല തണുപ്പാണ്.",
    "Sinhala": "මගේ මල්ලී හැමදාම පාසල් යනවා. ගඟේ වතුර හරිම සීතලයි.",
    "Thai": "น้องชายของฉันไปโรงเรียนทุกวัน น้ำในแม่น้ำเย็นมาก",
    "Lao": "ນ້ອງຊາຍຂອງຂ້ອຍໄປໂຮງຮຽນທຸກມື້ ນ້ຳໃນແມ່ນ້ຳເຢັນຫຼາຍ",
    "Tibetan": "ངའི་ནུ་བོ་ཉིན་ལྟར་སློབ་གྲྭར་འགྲོ་གི་ཡོད། གཙང་པོའི་ཆུ་གྲང་མོ་འདུག",
    "Burmese": "ကျွန်တော့်ညီလေးက နေ့တိုင်း ကျောင်းသွားတယ်။ မြစ်ထဲက ရေက သိပ်အေးတယ်။",
    "Khmer": "ប្អូនប្រុសខ្ញុំទៅសាលារៀនរាល់ថ្ងៃ។ ទឹកទន្លេត្រជាក់ណាស់។",
    "Javanese": "ꦲꦢꦶꦏꦸ ꦱꦼꦏꦺꦴꦭꦃ ꦱꦧꦼꦤ꧀ ꦢꦶꦤ꧈ ꦧꦚꦸꦤꦺ ꦏꦭꦶ ꦲꦢꦼꦩ꧀꧉",
    "Thaana (Dhivehi)": "އަހަރެންގެ ކޮއްކޮ ކޮންމެ ދުވަހަކު ސްކޫލަށް ދެއެވެ. ކޯރުގެ ފެން ވަރަށް ފިނިއެވެ.",
    "Hebrew with points": "אָחִי הַקָּטָן הוֹלֵךְ לְבֵית הַסֵּפֶר כָּל יוֹם. הַמַּיִם בַּנָּהָר קָרִים מְאֹד.",
    "Arabic with vowel marks": "يَذْهَبُ أَخِي الصَّغِيرُ إِلَى المَدْرَسَةِ كُلَّ يَوْمٍ. مَاءُ النَّهْرِ بَارِدٌ جِدًّا.",
    "Cyrillic with stress marks": (
        "Мой мла́дший брат ка́ждый день хо́дит в шко́лу. Вода́ в реке́ о́чень холо́дная."
    ),
    "Latin (Yoruba)": "Àbúrò mi ọkùnrin ń lọ sí ilé-ẹ̀kọ́ lójoojúmọ́. Omi odò náà tutù púpọ̀.",
}
# Unicode composes the marks of these scripts with their letters (NFC). Only text in decomposed form
# (NFD) is affected by a change of the expression.
_DECOMPOSED = {
    "Latin, decomposed (Vietnamese)": "Em trai tôi đi học mỗi ngày. Nước sông rất lạnh.",
    "Kana, decomposed (Japanese)": (
        "おとうとは まいにち がっこうへ いきます。 かわの みずは つめたいです。"
    ),
}
SENTENCES = {
    **_COMPOSED,
    **{script: unicodedata.normalize("NFD", text) for script, text in _DECOMPOSED.items()},
}
"""Two sentences per script; the language is named where a script has several."""

WORD_INTERNAL_SENTENCES = {
    "Persian": "می\u200cخواهم کتاب\u200cهایم را بخوانم. بچه\u200cها به خانه\u200cشان می\u200cروند.",
    "Ukrainian": "Моє ім'я Дем'ян. У п'ятницю вся сім'я п'є чай.",
    "Belarusian": "Уся сям’я п’е чай. Брат з’еў яблык.",
    "Assamese": "এইটো হ'ব নে? তেওঁ ক'লৈ গ'ল?",
    "Odia": "ତୁମେ କ'ଣ କରୁଛ? ମୁଁ କ'ଣ କହିବି?",
    "Tigrinya": "እዚ'ውን ጽቡቕ እዩ። ንሱ'ውን መጺኡ።",
    "Hebrew with gershayim": 'צה״ל וארה״ב. ד"ר כהן גר בת"א.',
    "Armenian": "Ինչպե՞ս ես։ Ո՞ւր ես գնում այսօր։",
    "Western Armenian": "Մանուկը կ'երթայ դպրոց։ Ան կ'երգէ։",
    "Uzbek": "O‘zbek bolalari ko‘p kitob o‘qiydi. Yo‘lda o‘rik gullagan.",
    "Hawaiian": "Ua maika‘i ka ‘ōlelo. He po‘e hau‘oli lākou.",
    "Breton": "Va c'hoar a c'hoarzh. Ar c’hazh a c’hoari er c’harr.",
    "Catalan": "El col·legi és tranquil·lament il·luminat. La novel·la és excel·lent.",
}
"""Two sentences per language whose words hold characters that are no letters."""

SAMPLES = SENTENCES | WORD_INTERNAL_SENTENCES


@dataclass(frozen=True)
class ScriptChange:
    """The token counts of a script's sample before and after the change, without added tokens."""

    script: str
    tokens_before: int
    tokens_after: int

    def __str__(self) -> str:
        """Return the script with its tokens before and after."""
        return f"{self.script} {self.tokens_before} -> {self.tokens_after}"


def find_changed_scripts(before: Family, after: Family) -> tuple[ScriptChange, ...]:
    """Return the scripts whose sample sentences get other ids, with both token counts."""
    changes = []
    for script, text in SAMPLES.items():
        (old,), (new,) = before.encode([text]), after.encode([text])
        if old != new:
            changes.append(ScriptChange(script, len(old), len(new)))
    return tuple(changes)
