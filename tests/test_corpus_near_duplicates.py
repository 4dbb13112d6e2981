"""`cleaning: {near_duplicates: T}`: documents that are like an earlier one are dropped.

These tests need rensa, from the extra `near-duplicates`.
"""

from __future__ import annotations

import json
import random

import pytest

pytest.importorskip("rensa", reason="the extra near-duplicates is not installed")

from lingraft.corpus import Corpus, CorpusSettings, build_corpus
from lingraft.corpus import near_duplicates as module
from lingraft.corpus.near_duplicates import NearDuplicates
from lingraft.corpus.shingles import jaccard, shingles
from lingraft.errors import CorpusError, MissingExtraError
from lingraft.store import Draft

WORDS = ["नदी", "सुबह", "बच्चे", "पानी", "घर", "पेड़", "रास्ता", "गाँव", "खेत", "आकाश", "बाज़ार", "कहानी"]


def document(number: int, *, changed: int = 0) -> str:
    """Return a document of 60 random words, of which the last ones are changed."""
    words = random.Random(number).choices(WORDS, k=60)
    return " ".join([*words[: 60 - changed], *("अलग" for _ in range(changed))])


DOCUMENTS = [document(number) for number in range(150)]
COPIES = [document(number, changed=5) for number in range(0, 150, 3)]


def built(folder, texts, heldout=(), **settings):
    """Build a corpus; return it and the notes."""
    draft = Draft(folder / "corpus")
    draft.folder.mkdir(parents=True)
    places = {}
    for name, lines in (("sources", texts), ("heldout", heldout)):
        if lines:
            path = places[name] = folder / f"{name}.jsonl"
            path.write_text("".join(json.dumps({"text": line}) + "\n" for line in lines))
    content = {name: str(path) for name, path in places.items()}
    share = {} if heldout else {"heldout_share": 0.3}
    build_corpus(CorpusSettings.model_validate(content | share | settings), "hi", draft)
    return Corpus.open(draft.folder), draft.notes


def test_near_duplicates_are_dropped_counted_and_shown(tmp_path):
    """The first of a pair stays; without the setting, all stay and a warning names it."""
    settings = {"cleaning": {"near_duplicates": 0.8}}
    corpus, notes = built(tmp_path / "on", DOCUMENTS + COPIES, **settings)
    kept = {split: list(corpus.documents(split)) for split in ("train", "heldout")}
    assert sorted([*kept["train"], *kept["heldout"]]) == sorted(DOCUMENTS)
    assert notes["dropped"]["near-duplicate"]["documents"] == len(COPIES)
    example = notes["near_duplicates"]
    assert example["such as"] == example["like"] == COPIES[0][:80]
    assert example["similarity"] == round(jaccard(shingles(DOCUMENTS[0]), shingles(COPIES[0])), 3)
    again, _ = built(tmp_path / "again", DOCUMENTS + COPIES, **settings)
    assert list(again.documents("train")) == kept["train"]
    corpus, notes = built(tmp_path / "off", DOCUMENTS + COPIES)
    assert corpus.counts("train").documents + corpus.counts("heldout").documents == 200
    assert any("cleaning: {near_duplicates: 0.8}" in warning for warning in notes["warnings"])


@pytest.mark.parametrize("letters", ["ꦲꦤꦕꦫꦏ", "ꀀꀁꀂꀃꀄ", "ᦀᦁᦂᦃᦄ", "กขคงจ"])
def test_a_text_without_spaces_has_shingles_of_characters(letters):
    """In every script without spaces, such as Javanese and Yi, a character is a word."""
    text = "".join(random.Random(1).choices(letters, k=200))
    assert len(shingles(text)) == len({text[start : start + 5] for start in range(196)})


def test_held_out_sources_have_no_near_duplicate_in_training(tmp_path):
    """A training document that is like a held-out one is dropped and counted apart."""
    corpus, notes = built(
        tmp_path, DOCUMENTS + COPIES[:20], COPIES[20:], cleaning={"near_duplicates": 0.8}
    )
    assert sorted(corpus.documents("heldout")) == sorted(COPIES[20:])
    originals = set(DOCUMENTS[60::3])
    assert sorted(corpus.documents("train")) == sorted(set(DOCUMENTS) - originals)
    assert notes["dropped"]["near-duplicate of the held-out set"]["documents"] == 30
    assert notes["dropped"]["near-duplicate"]["documents"] == 20


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.9])
def test_the_threshold_is_exact(tmp_path, threshold):
    """No pair below it is dropped, and nearly all above it are: the similarity is computed."""
    pairs = [
        (document(number), document(number, changed=changed))
        for number in range(60)
        for changed in range(2, 26, 3)
    ]
    missed = above = 0
    for number, (first, second) in enumerate(pairs):
        with NearDuplicates(threshold, tmp_path / str(number)) as compared:
            assert compared.add(first, "a") is None
            match = compared.add(second, "a")
        similarity = jaccard(shingles(first), shingles(second))
        assert match is None or match.similarity == similarity >= threshold
        above += similarity >= threshold
        missed += similarity >= threshold and match is None
    assert above >= 60
    assert missed <= 0.005 * above + 1


def test_short_documents_are_not_compared(tmp_path):
    """Greetings are alike by chance; equal ones are dropped as duplicates, as always."""
    texts = ["नमस्ते, आप कैसे हैं?", "नमस्ते, आप कैसे हैं!", "नमस्ते, आप कैसे हैं?", "नमस्ते"]
    _, notes = built(tmp_path, texts, cleaning={"near_duplicates": 0.5})
    assert {reason: count["documents"] for reason, count in notes["dropped"].items()} == {
        "duplicate": 1
    }


def test_more_documents_than_memory_allows_are_refused(tmp_path, monkeypatch):
    """In one line, which names the recipe that has no such bound."""
    monkeypatch.setattr(module, "MAX_DOCUMENTS", 100)
    with pytest.raises(CorpusError, match=r"up to 100 documents, .*recipes/datatrove_hindi.py"):
        built(tmp_path, DOCUMENTS, cleaning={"near_duplicates": 0.8})


def test_the_extra_is_named(tmp_path, monkeypatch):
    """Where rensa is not installed, nothing is read."""
    monkeypatch.setattr(module, "find_spec", lambda _name: None)
    with pytest.raises(MissingExtraError, match=r"lingraft\[near-duplicates\]"):
        built(tmp_path, DOCUMENTS, cleaning={"near_duplicates": 0.8})
