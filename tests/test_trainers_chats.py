"""Conversations in a hand-over: which template a trainer needs for the text of lingraft's loop."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from lingraft.corpus import Corpus, CorpusSettings
from lingraft.corpus.build import build_corpus
from lingraft.packing.chat_encoder import ChatEncoder
from lingraft.store import Draft
from lingraft.tokenizer import open_tokenizer
from lingraft.tokenizer.chat_template import chat_template_of
from lingraft.trainers.engine import EngineFiles
from lingraft.trainers.plain_text import DATED_TEMPLATE, with_dated_template
from tests.chat_models import CHATML, write_chat_tokenizer

DATE = "{{ strftime_now('%d %b %Y') }}"
TURNS = [{"role": "user", "content": "What?"}, {"role": "assistant", "content": "A number."}]
ROWS = {
    "chat": [{"messages": [*TURNS, {"role": "user", "content": f"{n}?"}]} for n in range(10)],
    "text": [{"text": f"A number: {n}."} for n in range(10)],
}


def corpus_of(folder: Path, form: str) -> Corpus:
    path = folder / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, ROWS[form])), encoding="utf-8")
    draft = Draft(folder / "corpus")
    draft.folder.mkdir()
    settings = {"sources": {"path": str(path), "format": form}, "heldout_share": 0.1}
    build_corpus(CorpusSettings.model_validate(settings), "en", draft)
    return Corpus.open(draft.folder)


def test_conversations_come_with_a_template_of_the_day_of_training_text(tmp_path: Path) -> None:
    """A trainer that renders them with it trains on the ids of lingraft's loop."""
    write_chat_tokenizer(tmp_path, template=DATE + CHATML)
    template = chat_template_of(open_tokenizer(tmp_path))
    assert template is not None
    before = EngineFiles(limits=("another",))
    written = with_dated_template(before, [corpus_of(tmp_path, "chat")], template)
    assert written.limits[0] == "another"
    assert "writes the day of training, and lingraft's text has 26 July 2024" in written.limits[1]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.chat_template = written.files[DATED_TEMPLATE]
    assert tokenizer.apply_chat_template(TURNS, tokenize=False).startswith(
        "26 Jul 2024<|im_start|>"
    )
    encoder = ChatEncoder(open_tokenizer(tmp_path), template.at_training_date())
    assert tokenizer.apply_chat_template(TURNS)["input_ids"] == encoder.encode(TURNS)[0]


@pytest.mark.parametrize(("form", "source"), [("chat", CHATML), ("text", DATE), ("text", None)])
def test_no_other_template_is_written(tmp_path: Path, form: str, source: str | None) -> None:
    """A template without the date is the same on every day, and plain text has none."""
    write_chat_tokenizer(tmp_path, template=source)
    template = chat_template_of(open_tokenizer(tmp_path))
    before = EngineFiles()
    assert with_dated_template(before, [corpus_of(tmp_path, form)], template) is before
