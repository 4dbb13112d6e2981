"""Text health: what is in a corpus besides text in its language, and the settings that repair it.

The texts are made from the sentences below, so that each has one fault.
"""

from __future__ import annotations

import itertools
import json
import unicodedata

import pytest

from lingraft.corpus import (
    Corpus,
    CorpusSettings,
    build_corpus,
    identity_of,
    language_identifier,
    preview_text,
)
from lingraft.corpus.cut_lines import join_cut_lines
from lingraft.corpus.health import TextHealth
from lingraft.corpus.health_checks import CHECKS, REFUSING
from lingraft.corpus.markup import strip_html
from lingraft.corpus.shingles import hash_word
from lingraft.corpus.text_repairs import Cleaning, TextRepairs
from lingraft.errors import CorpusError
from lingraft.evaluation.score_model import heldout_documents
from lingraft.measurement import MIN_DOCUMENTS
from lingraft.pipeline.stage_warnings import ScoredText, few_scored_warning
from lingraft.pipeline.text_summary import health_lines
from lingraft.recipe import Text
from lingraft.store import Draft

RUSSIAN = [f"Утром дети идут к реке, номер {number}." for number in range(100)]
KOREAN = [f"아침에 아이들이 강으로 걸어갑니다. 번호 {number}" for number in range(100)]
HINDI = [f"सुबह बच्चे नदी की ओर चलते हैं, संख्या {number}" for number in range(100)]
ENGLISH = [f"In the morning {number} children walk down to the old river." for number in range(100)]
THAI = [f"ตอนเช้าเด็กเด็กเดินไปที่แม่น้ำ หมายเลข {number}" for number in range(100)]
PERSIAN = [f"صبح بچه‌ها به رودخانه می‌روند، شماره {number}" for number in range(100)]
FRENCH = [f"L’été {number} déjà fini — « voilà » dit-elle, à côté…" for number in range(100)]
CLEAN = {
    "ru": RUSSIAN,
    "ko": KOREAN,
    "hi": HINDI,
    "en": ENGLISH,
    "th": THAI,
    "fa": PERSIAN,
    "fr": FRENCH,
}


def built(folder, lines, language, **settings):
    """Build a corpus from these documents; return it and the notes."""
    folder.mkdir(exist_ok=True)
    path = folder / "text.jsonl"
    path.write_text("".join(json.dumps({"text": line}) + "\n" for line in lines), encoding="utf-8")
    draft = Draft(folder / "corpus")
    draft.folder.mkdir()
    build_corpus(CorpusSettings.model_validate({"sources": str(path), **settings}), language, draft)
    return Corpus.open(draft.folder), draft.notes


def documents_of(corpus):
    return sorted([*corpus.documents("train"), *corpus.documents("heldout")])


def levels(report):
    return {finding.check: finding.level for finding in report.findings if finding.level}


def cut(line):
    """Return a document of lines of a page, with a hyphen at the first break."""
    words = f"{line} Some of them carry water home and the others stay there until noon. " * 3
    page = [words[start : start + 60] for start in range(0, len(words), 60)]
    return "-\n".join([page[0] + "exam", "ple " + "\n".join(page[1:])])


FAULTS = {
    "nul": ("ru", [line.encode("utf-16-le").decode("latin-1") for line in RUSSIAN]),
    "wrong_script": ("te", HINDI),
    "replacement": ("hi", [line.replace("ब", "\ufffd") for line in HINDI]),
    "mojibake": ("hi", [*[line.encode().decode("latin-1") for line in HINDI[:10]], *HINDI[10:]]),
    "not_nfc": ("ko", [unicodedata.normalize("NFD", line) for line in KOREAN]),
    "controls": ("en", [line.replace(" ", "\x08", 1) for line in ENGLISH]),
    "soft_hyphens": ("hi", [line.replace("बच्चे", "बच्\u00adचे") for line in HINDI]),
    "no_break_spaces": ("hi", [line.replace(" ", "\u00a0") for line in HINDI]),
    "invisible": ("en", [line.replace("children", "chil\u200bdren\ufeff") for line in ENGLISH]),
    "bidi": ("en", [f"\u202b{line}\u202c" for line in ENGLISH]),
    "markup": ("hi", [f'<div class="post"><p>{line}&nbsp;</p></div>' for line in HINDI]),
    "urls": ("hi", [f"{line} https://example.org/{number}" for number, line in enumerate(HINDI)]),
    "cut_lines": ("en", [cut(line) for line in ENGLISH]),
    "subtokens": ("hi", ["▁" + line.replace(" ", " ▁") for line in HINDI]),
    "repeated_lines": ("hi", [f"{line}\nसभी अधिकार सुरक्षित हैं, संपर्क करें" for line in HINDI]),
    "duplicates": ("hi", HINDI[:3] * 100),
    "near_duplicates": (
        "en",
        [
            f"{number}: " + " ".join(a + b for a in "bdfgk" for b in "aeiou" * 3) + f" {number}"
            for number in range(100)
        ],
    ),
    "other_language": (
        "pt",
        [
            f"Los niños {number} caminan por la mañana hasta el río, donde juegan con el agua."
            for number in range(100)
        ],
    ),
}


def test_declared_scripts_are_no_other_scripts():
    """Code-switched text that declares its scripts has no finding; a third script still is one."""
    mixed = [f"कल office में meeting है और {number} लोग आएंगे" for number in range(30)]
    undeclared = {one.check: one for one in TextHealth.of("hi", mixed).findings}
    assert undeclared["wrong_script"].level == "warning"
    health = TextHealth("hi", scripts=("Deva", "Latn"))
    for text in mixed:
        health.add(text)
    report = health.report()
    assert not [found for found in report.findings if found.check == "wrong_script" and found.count]
    assert "Devanagari" in report.scripts
    for _ in range(60):
        health.add("Привет, как дела, это совсем другой язык и письмо")
    found = {one.check: one for one in health.report().findings}
    assert found["wrong_script"].level == "refused"


def test_word_boundaries_of_a_declared_script_are_no_invisible_characters(tmp_path):
    """In Thai text of a domain, zero width spaces are not removed; in English text they are."""
    cleaning = {"strip": ["invisible"]}
    lines = [f"{line}\u200b{number}" for number, line in enumerate(THAI)]
    corpus, notes = built(tmp_path / "th", lines, "domain:law", cleaning=cleaning, scripts=["Thai"])
    assert documents_of(corpus) == sorted(lines)
    assert notes["changed"]["invisible"]["documents"] == 0
    corpus, _ = built(tmp_path / "en", lines, "domain:law", cleaning=cleaning)
    assert not any("\u200b" in text for text in documents_of(corpus))


def test_every_check_has_a_case():
    """Each check of the table is found in a text of the next test."""
    assert set(FAULTS) == {check.name for check in CHECKS}


@pytest.mark.parametrize("check", FAULTS)
def test_a_fault_is_found_with_a_number_an_example_and_a_setting(check):
    """The finding has the documents, an example without invisible characters, and what helps."""
    language, texts = FAULTS[check]
    report = TextHealth.of(language, texts)
    (finding,) = [finding for finding in report.findings if finding.check == check]
    assert finding.level == (
        "refused" if check in {"nul", "wrong_script", "replacement"} else "warning"
    )
    least = 10 if check == "mojibake" else 0.15 * finding.of
    assert least <= finding.count <= finding.of
    assert finding.example
    assert not set(finding.example) & set("\0\u00ad\u00a0\u200b\u202b\n")
    (warning,) = [line for line in report.warnings() if finding.title in line]
    assert warning.startswith(f"text in {language}: {finding.title}: {finding.count:,} of ")
    assert "; " in warning


@pytest.mark.parametrize("language", CLEAN)
def test_plain_text_has_no_finding(language):
    """Joiners of Persian, accents and dashes of French, marks and scripts without spaces."""
    assert levels(TextHealth.of(language, CLEAN[language])) == {}


@pytest.mark.parametrize(
    "line",
    [
        "# Title ## not a mark",
        "write to me@@home or a@b",
        "the sign ▁ is U+2581",
        "if a < b and b > c & d",
        "<name> and <your key here>",
        "Ġ is a letter of Maltese: Ġgantija, in a sentence that has many words more",
    ],
)
def test_signs_of_ordinary_text_are_no_finding(line):
    """A mark here and there, a heading, an address, a comparison: nothing is reported."""
    report = TextHealth.of("hi", [*HINDI, *(f"{line} {text}" for text in HINDI)])
    assert {"subtokens", "markup", "urls"}.isdisjoint(levels(report))


def test_normal_characters_of_a_script_are_no_finding():
    """Zero-width spaces between Khmer words and direction marks in Arabic text are normal."""
    khmer = [f"ព្រឹក\u200bនេះ\u200bកុមារ\u200bទៅ\u200bទន្លេ {number}" for number in range(50)]
    assert levels(TextHealth.of("km", khmer)) == {}
    assert levels(TextHealth.of("fa", [f"{line}\u200f" for line in PERSIAN])) == {}
    verses = [
        f"Roses {n} are red\nviolets are blue\nsugar is sweet\nand so\nare you" for n in range(50)
    ]
    assert "cut_lines" not in levels(TextHealth.of("en", verses))


@pytest.mark.parametrize(
    ("cutter", "split"),
    [
        (
            "SentencePiece",
            lambda line: " ".join(f"▁{word[:3]} {word[3:]}" for word in line.split()),
        ),
        ("byte-level", lambda line: line.replace(" ", " Ġ")),
        ("subword-nmt", lambda line: " ".join(f"{word[:2]}@@ {word[2:]}" for word in line.split())),
        (
            "WordPiece",
            lambda line: " ".join(f"{word[:2]} ##{word[2:] or 'x'}" for word in line.split()),
        ),
    ],
)
def test_text_that_a_tokenizer_split_is_found(cutter, split):
    """The warning names the tokenizer, and has the command that joins the words."""
    warnings = TextHealth.of("hi", map(split, HINDI)).warnings()
    (warning,) = [warning for warning in warnings if "subtokens" in warning]
    assert "100 of 100 documents" in warning
    assert cutter in warning
    assert "sed '" in warning


def test_near_duplicates_of_one_template_are_all_counted():
    """Of 300 documents that differ in a name or only in numbers, all but the first are counted."""
    words = ["".join(pair) for pair in itertools.product("bdfgk", "aeiou")]
    template = " ".join(a + b for a in words[:5] for b in words[:9])
    names = [a + b + c for a in words for b in words[:4] for c in words[:3]]
    for texts in (
        [f"{number}: {template} {number * 7}" for number in range(300)],
        [f"{name} {template}" for name in names],
    ):
        report = TextHealth.of("en", texts)
        [found] = [finding for finding in report.findings if finding.check == "near_duplicates"]
        assert (found.count, found.of, found.level) == (299, 300, "warning")


def test_near_duplicates_are_those_of_any_process():
    """Words are hashed to fixed numbers, not by Python's random hashes: findings are stored."""
    assert hash_word("one") == 3815355558890182089


def test_copies_are_counted_before_they_are_dropped(tmp_path):
    """Three documents in 300 copies are three documents: the first warning says so."""
    _, notes = built(tmp_path / "a", HINDI[:3] * 100, "hi", heldout_share=0.5)
    assert notes["warnings"][0].startswith(
        "text in hi: copies of other documents: 297 of 300 documents (99%), such as "
    )


def test_windows_1251_is_found_and_repaired():
    """Cyrillic in UTF-8 that was read as Windows-1251 is found."""
    texts = [line.encode().decode("cp1251", errors="replace") for line in RUSSIAN]
    assert levels(TextHealth.of("ru", texts))["mojibake"] == "warning"


def test_mojibake_and_markup_are_the_only_findings_about_them():
    """Bytes read as controls, soft hyphens or Latin letters are mojibake, tags are markup."""
    texts = [f"{line} भी ऊ" for line in HINDI]
    misread = [line.encode().decode("latin-1") for line in texts]
    assert levels(TextHealth.of("hi", [*misread, *texts])) == {"mojibake": "warning"}
    assert levels(TextHealth.of("hi", misread)) == {"mojibake": "warning"}
    tagged = [f'<div class="column wide left">{line}</div>' for line in HINDI]
    report = TextHealth.of("hi", tagged)
    assert levels(report) == {"markup": "warning"}
    assert [f.count for f in report.findings if f.check == "wrong_script"] == [0]


def test_text_in_another_script_is_refused_with_markup_in_it():
    """English pages given as Hindi are in another script, whatever their tags are."""
    pages = [f"<p>{line}</p>" for line in ENGLISH]
    found = levels(TextHealth.of("hi", [*pages, "<p>&nbsp;</p>"]))
    assert found == {"wrong_script": "refused", "markup": "warning"}


def test_the_language_of_an_unusual_script_is_not_checked():
    """Lingua knows Hindi in Devanagari: romanised Hindi would be called Estonian or Swahili."""
    line = "yah ek kitaab hai aur hum sab kal dilli ja rahe hain, aap kaise hain, number"
    report = TextHealth.of("hi-Latn", [f"{line} {number}" for number in range(100)])
    assert levels(report) == {}
    assert report.unchecked.endswith("lingua does not know hi-Latn")


def test_unhealthy_text_is_refused_unless_it_is_allowed(tmp_path):
    """The error is one line with the setting that uses the text as it is; nothing is written."""
    with pytest.raises(CorpusError) as caught:
        built(tmp_path / "te", HINDI, "te")
    message = str(caught.value)
    assert "\n" not in message
    assert "2,900 letters (100%)" in message
    assert "most letters are Devanagari, not Telugu" in message
    assert message.endswith("set allow: [wrong_script]")
    _, notes = built(tmp_path / "allowed", HINDI, "te", allow=["wrong_script"])
    assert "Devanagari, not Telugu" in notes["warnings"][0]
    with pytest.raises(CorpusError, match="NUL characters: 100 of 100 documents"):
        built(tmp_path / "ru", FAULTS["nul"][1], "ru", allow=["wrong_script"])
    assert set(REFUSING) == {"nul", "wrong_script", "replacement"}


REPAIRS = {
    "mojibake": ({"unmojibake": True}, {"mojibake": 10}),
    "not_nfc": ({"normalise": "nfc"}, {"NFC": 100}),
    "controls": ({"strip": ["controls"]}, {"controls": 100}),
    "soft_hyphens": ({"strip": ["soft_hyphens"]}, {"soft_hyphens": 100}),
    "no_break_spaces": ({"strip": ["no_break_spaces"]}, {"no_break_spaces": 100}),
    "invisible": ({"strip": ["invisible"]}, {"invisible": 100}),
    "bidi": ({"strip": ["bidi"]}, {"bidi": 100}),
    "markup": ({"strip": ["html"]}, {"html": 100}),
    "urls": ({"strip": ["urls"]}, {"urls": 100}),
    "cut_lines": ({"join_lines": True}, {"joined lines": 100}),
    "replacement": ({"strip": ["replacement"]}, {"replacement": 100}),
}


@pytest.mark.parametrize("check", REPAIRS)
def test_the_setting_of_a_warning_repairs_the_text_and_counts_it(tmp_path, check):
    """After the repair nothing is found; the notes have the changed documents, in both splits."""
    cleaning, changed = REPAIRS[check]
    language, texts = FAULTS[check]
    heldout = tmp_path / "heldout.jsonl"
    heldout.write_text(json.dumps({"text": f"{texts[0]} 2"}) + "\n", encoding="utf-8")
    corpus, notes = built(tmp_path / "a", texts, language, cleaning=cleaning, heldout=str(heldout))
    assert check not in {f["check"] for f in notes["health"]["findings"] if f["level"]}
    counts = {name: count["documents"] for name, count in notes["changed"].items()}
    assert counts == {name: count + 1 for name, count in changed.items()}
    assert all(count["changes"] >= count["documents"] for count in notes["changed"].values())
    assert levels(TextHealth.of(language, corpus.documents("heldout"))).get(check, "") == ""


def test_named_held_out_text_is_checked_like_training_text(tmp_path):
    """Its faults are warned of as those of held-out text, and refused where they are too many."""
    held = tmp_path / "held.txt"
    misread = [f"{line} {n}".encode().decode("latin-1") for line in HINDI[:20] for n in range(10)]
    held.write_text("\n".join(line.replace("\x85", "") for line in misread), encoding="utf-8")
    _, notes = built(tmp_path / "a", HINDI, "hi", heldout=str(held))
    assert any(
        text.startswith("held-out text in hi:") and "mojibake" in text for text in notes["warnings"]
    )
    held.write_text("\n".join(f"{line} {n}" for line in ENGLISH for n in range(10)), "utf-8")
    with pytest.raises(CorpusError, match=r"^held-out text in hi: .*allow: \[wrong_script\]"):
        built(tmp_path / "b", HINDI, "hi", heldout=str(held))
    built(tmp_path / "c", HINDI, "hi", heldout=str(held), allow=["wrong_script"])


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("访问https://example.com/a?b=c。这是下一句", "访问。这是下一句"),
        ("ดูที่www.example.comภาษาไทยต่อไป", "ดูที่ภาษาไทยต่อไป"),
        ("देखें https://a.example/x। फिर", "देखें । फिर"),
        ("https://hi.wikipedia.org/wiki/मुखपृष्ठ है", " है"),
        ("https://en.wikipedia.org/wiki/Foo\u2013Bar and", " and"),
        ("看http://例え.jpを見て", "看を見て"),
        ("去http://www.中文2.中国。好", "去。好"),
        ("ดูhttp://รู้จัก.ไทยต่อไป", "ดูต่อไป"),
        ("https://サーバー.co.jp/a?b=c です", " です"),
        ("http://中文.中国/路径", "路径"),
        ("访问https://example.com这是node.js", "访问这是node.js"),
        ("输入http://后面的网址.然后", "输入http://后面的网址.然后"),
        ("See (https://a.example/b), or https://a.example/c_(d).", "See (), or ."),
    ],
)
def test_only_web_addresses_are_removed(text, rest):
    """The text after an address stays, also where no space or another full stop ends it."""
    assert TextRepairs(Cleaning(strip=("urls",)), "zh").repair(text) == rest


@pytest.mark.parametrize(
    ("text", "joined"),
    [
        (
            "这是一个很长的句子，\n它被分\n成三行。\n下一句",
            "这是一个很长的句子，它被分成三行。\n下一句",
        ),
        ("ภาษาไทยไม่มี \nเว้นวรรค", "ภาษาไทยไม่มีเว้นวรรค"),
        ("한국어 문장은\n띄어 쓴다", "한국어 문장은 띄어 쓴다"),
        ("The exam-\r\nple goes on\r\nhere.\r\nNext", "The example goes on here.\r\nNext"),
    ],
)
def test_lines_are_joined_as_their_script_is_written(text, joined):
    """Scripts without spaces between words get none, and line ends of Windows are line ends."""
    assert join_cut_lines(text) == joined


def test_cut_lines_are_found_with_line_ends_of_windows():
    """Documents of a page with carriage returns are found like those without."""
    texts = [cut(line).replace("\n", "\r\n") for line in ENGLISH]
    assert levels(TextHealth.of("en", texts))["cut_lines"] == "warning"


def test_paragraphs_stay_where_no_element_makes_lines():
    """A reference or a bold word does not remove the blank lines and indents of a document."""
    text = "A &amp; <b>B</b>\n\nnext\n\n    code"
    assert strip_html(text) == ("A & B\n\nnext\n\n    code", 3)
    assert strip_html("<p>A</p>\n\n <p>B</p>") == ("A\nB", 4)


def test_repairs_give_the_text_back(tmp_path):
    """Mojibake, decomposed letters and soft hyphens become the text that they were made from."""
    pairs = {
        "mojibake": HINDI,
        "not_nfc": KOREAN,
        "soft_hyphens": HINDI,
        "bidi": ENGLISH,
        "no_break_spaces": HINDI,
        "markup": HINDI,
    }
    for check, plain in pairs.items():
        language, texts = FAULTS[check]
        cleaning, _ = REPAIRS[check]
        corpus, _ = built(tmp_path / check, texts, language, cleaning=cleaning)
        assert [text.strip() for text in documents_of(corpus)] == sorted(plain), check


def test_a_corpus_without_repairs_keeps_its_key(tmp_path):
    """Only repairs that are asked for change the key; the normal form has its old name there."""
    path = tmp_path / "hi.txt"
    path.write_text("\n".join(HINDI), encoding="utf-8")

    def identity(**settings):
        return identity_of(CorpusSettings.model_validate({"sources": str(path), **settings}), "hi")

    plain = identity()
    assert "cleaning" not in plain
    assert "allow" not in plain
    assert plain == identity(cleaning={}) == identity(allow=["nul"])
    assert identity(cleaning={"normalise": "NFC"}) == plain | {"unicode_normalization": "NFC"}
    first, second = (
        identity(cleaning={"strip": names}) for names in (["html", "bidi"], ["bidi", "html"])
    )
    assert first == second != plain


def test_the_sample_before_a_run_reads_local_files_and_repairs_them(tmp_path):
    """The sample has the same findings as the corpus; text of the Hub is read for a plan only."""
    language, texts = FAULTS["soft_hyphens"]
    path = tmp_path / "hi.txt"
    path.write_text("\n".join(texts), encoding="utf-8")
    settings = CorpusSettings.model_validate({"sources": str(path)})
    report = preview_text(settings, language).health
    assert levels(report) == {"soft_hyphens": "warning"}
    assert report.documents == 100
    repaired = settings.model_copy(update={"cleaning": Cleaning(strip=("soft_hyphens",))})
    assert levels(preview_text(repaired, language).health) == {}
    hub = CorpusSettings.model_validate({"sources": "hf:owner/name"})
    assert preview_text(hub, language) is None


@pytest.mark.parametrize("settings", [{}, {"heldout_share": 0.5}, {"heldout": 7}, {"heldout": 100}])
@pytest.mark.parametrize("limit", [None, {"documents": 60}])
def test_a_plan_warns_of_few_held_out_documents(tmp_path, settings, limit):
    """The number is that of the corpus that a run builds from the files."""
    (tmp_path / "hi.txt").write_text("\n".join(HINDI), encoding="utf-8")
    if "heldout" in settings:
        lines = [f"{line}।" for line in HINDI[: settings["heldout"]]]
        (tmp_path / "held.txt").write_text("\n".join(lines), encoding="utf-8")
        settings = {"heldout": str(tmp_path / "held.txt")}
    source = {"path": str(tmp_path / "hi.txt"), "limit": limit}
    text = Text(language="hi", corpus=source, **settings)
    draft = Draft(tmp_path / "corpus")
    draft.folder.mkdir()
    build_corpus(text.corpus, "hi", draft)
    held_out = Corpus.open(draft.folder).counts("heldout").documents
    warnings = [line for line in health_lines(text) if "too few to judge" in line]
    assert len(warnings) == (held_out < MIN_DOCUMENTS)
    assert all(f"text in hi: {held_out} held-out document" in line for line in warnings)


def test_what_is_not_checked_is_reported():
    """A language that lingua does not know, and few documents, are named."""
    bhojpuri = TextHealth.of("bho", [line * 3 for line in HINDI])
    assert "does not know bho" in bhojpuri.unchecked
    assert "too few documents" in TextHealth.of("hi", HINDI[:5]).unchecked


def test_an_incomplete_model_of_fasttext_is_an_error(tmp_path):
    """A file that is shorter than its matrices is refused: fastText would read it without end."""
    path = tmp_path / "model_v3.bin"
    settings = [16, 5, 5, 1, 5, 1, 3, 3, 2000, 2, 4, 100]  # dimension 16, 2,000 buckets
    head = language_identifier._HEADER.pack(793712314, 12, *settings, 1e-4, 103, 100, 3, 999, -1)
    path.write_bytes(head + bytes(4 * 16 * 2103))
    language_identifier._check_size(str(path))
    path.write_bytes(head + bytes(4 * 16 * 2000))
    with pytest.raises(ValueError, match=r"^it is not complete: 128,0\d\d bytes$"):
        language_identifier._check_size(str(path))


def test_a_half_of_few_documents_is_too_few_to_judge(tmp_path):
    """20 held-out documents are enough for all, and too few if only one half of them is scored."""
    corpus, _ = built(tmp_path, ENGLISH, "en", heldout_share=0.25)
    assert MIN_DOCUMENTS <= corpus.counts("heldout").documents < 2 * MIN_DOCUMENTS
    scored = {"heldout_bytes": 100_000}
    assert few_scored_warning(corpus, ScoredText(scored)) == ""
    warning = few_scored_warning(corpus, ScoredText(scored, "reported"))
    assert "10 held-out documents in en are scored (evaluation.heldout_part: reported)" in warning
    assert "too few to judge (at least 20); give more held-out text" in warning


def test_where_the_setting_cuts_held_out_text_no_more_text_is_asked_for(tmp_path):
    """The warning and the error name evaluation.heldout_bytes."""
    corpus, _ = built(tmp_path, ENGLISH, "en", heldout_share=0.25)
    few = ScoredText({"heldout_bytes": 500}, "reported")
    assert few_scored_warning(corpus, few).endswith("; raise evaluation.heldout_bytes")
    with pytest.raises(CorpusError, match=r"raise evaluation\.heldout_bytes"):
        heldout_documents(corpus, 5, "reported")
