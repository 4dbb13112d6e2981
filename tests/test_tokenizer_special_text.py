"""Documents that mention special tokens are text: in ids, in packing, in learning, in scoring."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from lingraft.corpus import Corpus, CorpusSettings, build_corpus
from lingraft.packing import PackingSettings
from lingraft.packing.pack import pack_corpus
from lingraft.store import Draft
from lingraft.tokenizer import Family, ModelTokenizer, family_of, open_tokenizer
from lingraft.tokenizer.special_text import SpecialText
from lingraft.vocabulary import ContinuedBPE, Extension, SelectionRequest, extend_tokenizer
from lingraft.vocabulary.append import Append
from lingraft.vocabulary.whole_words import WholeWords
from tests.conftest import HINDI
from tests.small_bases import BASES, byte_level, sentencepiece

CHATML = ("<|im_start|>", "<|im_end|>")


def with_added(data: dict[str, Any], contents: tuple[str, ...], *, special: bool) -> dict[str, Any]:
    """Add tokens behind the vocabulary."""
    tokenizer = Tokenizer.from_str(json.dumps(data))
    first = tokenizer.get_vocab_size()
    flags = {
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": special,
    }
    added = [{"id": first + i, "content": content, **flags} for i, content in enumerate(contents)]
    return {**data, "added_tokens": [*data["added_tokens"], *added]}


def unigram(*, byte_fallback: bool) -> dict[str, Any]:
    """Return a Unigram with control pieces and byte names in its vocabulary, as in real files."""
    pieces = [["<pad>", 0.0], ["</s>", 0.0], ["<unk>", 0.0]]
    if byte_fallback:
        pieces += [[f"<0x{byte:02X}>", 0.0] for byte in range(256)]
    pieces += [
        [piece, -2.0 - i / 10] for i, piece in enumerate(["▁", "▁the", "▁closes", "it", "</", "s>"])
    ]
    pieces += [
        [character, -6.0] for character in "abcdefghijklmnopqrstuvwxyzABCDEF0123456789<>/|_."
    ]
    special = [
        {
            "id": i,
            "content": pieces[i][0],
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for i in range(3)
    ]
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    decoders = [{"type": "ByteFallback"}] if byte_fallback else []
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special,
        "normalizer": None,
        "pre_tokenizer": metaspace,
        "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": [*decoders, metaspace]},
        "model": {"type": "Unigram", "unk_id": 2, "vocab": pieces, "byte_fallback": byte_fallback},
    }


EVERY = {
    **BASES,
    "Unigram": lambda: unigram(byte_fallback=False),
    "Unigram with bytes": lambda: unigram(byte_fallback=True),
}


def mentioning(family: Family) -> list[str]:
    contents = [*family.control.values(), *CHATML, "<0x0A>", "</s>"]
    texts = [f"the manual{content}closes {content} it" for content in contents]
    return [*texts, "".join(contents), *contents]


@pytest.mark.parametrize("base", EVERY)
def test_no_text_gives_the_id_of_a_special_token(base: str) -> None:
    """Whatever the family: no text holds a control id or a byte that it does not contain."""
    family = family_of(with_added(EVERY[base](), CHATML, special=True), Path())
    tokenizer = ModelTokenizer(Path(), family, {})
    unknown = family.data["model"].get("unk_id")
    for text, ids in zip(mentioning(family), tokenizer.encode(mentioning(family)), strict=True):
        assert not (family.control.keys() - {unknown}) & set(ids), text
        assert 10 not in {family.fallback.get(token_id) for token_id in ids}, (
            text
        )  # <0x0A> is no line break
        if unknown is None or unknown not in ids:
            assert tokenizer.decode(ids).lstrip(" ") == text.lstrip(" ")


@pytest.mark.parametrize("base", BASES)
def test_text_is_read_as_transformers_reads_it_with_split_special_tokens(base: str) -> None:
    """Ids are those of transformers with `split_special_tokens=True`, as markup of its default."""
    data = with_added(
        with_added(BASES[base](), CHATML, special=True), ("<tool_call>", "    "), special=False
    )
    family = family_of(data, Path())
    theirs = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(data)))
    ours = ModelTokenizer(Path(), family, {})
    texts = [*mentioning(family), "a <tool_call> b      c", "if x:\n        return </s>"]
    split = [
        theirs.encode(text, add_special_tokens=False, split_special_tokens=True) for text in texts
    ]
    assert ours.encode(texts) == split
    assert ours.encode_markup(texts) == [
        theirs.encode(text, add_special_tokens=False) for text in texts
    ]
    assert ours.encode(texts) == split  # and reading markup leaves nothing behind


def test_tokens_that_are_added_but_not_special_stay_as_the_base_reads_them() -> None:
    """`<tool_call>` without the flag is part of text in the base, and is read as its own token."""
    data = with_added(byte_level(), ("<tool_call>",), special=False)
    tokenizer = ModelTokenizer(Path(), family_of(data, Path()), {})
    (added,) = [token["id"] for token in data["added_tokens"] if not token["special"]]
    assert added in tokenizer.encode(["call <tool_call> now"])[0]


def test_t5_reads_control_pieces_as_sentencepiece_does(assets: Path) -> None:
    """`</s>` in a text is not read as the control piece, although `tokenizers` would."""
    import sentencepiece

    path = assets / "tokenizers" / "t5" / "spiece.model"
    processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
    texts = ["The </s> closes it.", "a <unk> b <pad>", "</s>", "x </s></s>y", "no mention at all"]
    assert open_tokenizer(path).encode(texts) == [processor.encode(text) for text in texts]


@pytest.mark.parametrize("base", EVERY)
@pytest.mark.parametrize("method", [ContinuedBPE(), Append(), WholeWords()])
def test_no_token_is_learned_that_holds_the_spelling_of_a_special_token(
    base: str, method: Any
) -> None:
    """No method learns a token that contains `</s>` or `<|im_end|>` from Hindi full of them."""
    if "Unigram" in base and isinstance(method, WholeWords):
        pytest.skip("a Unigram adds no whole words")
    family = family_of(with_added(EVERY[base](), CHATML, special=True), Path())
    special = [*family.control.values(), "<0x0A>"]
    texts = [
        f"{HINDI[i % 4]}{one} {one}{HINDI[i % 3]}\n{one}\n" for i in range(40) for one in special
    ]
    chosen = method.select(SelectionRequest(family, family.units(texts), 80))
    assert chosen.surfaces
    spelled = SpecialText(tuple(special)).mentions(
        " | ".join(surface.decode(errors="replace") for surface in chosen.surfaces)
    )
    assert not spelled
    assert not [surface for surface in chosen.surfaces if b"</s" in surface]


def manual(folder: Path) -> Path:
    """Write Hindi with 300 lines of a manual that mentions `</s>`."""
    lines = [f"{HINDI[i % 4]} {i}" for i in range(300)] + [
        f"The manual {i} says </s> closes it." for i in range(300)
    ]
    path = folder / "text.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    draft = Draft(tmp_path / "corpus")
    draft.folder.mkdir()
    build_corpus(
        CorpusSettings.model_validate({"sources": [str(manual(tmp_path))], "heldout_share": 0.1}),
        "hi",
        draft,
    )
    return Corpus.open(draft.folder)


def test_a_manual_that_mentions_the_end_token_is_packed_as_text_and_counted(
    tiny_model: Path, corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every `</s>` in packed blocks ends a document; those that the text spells are counted."""
    from lingraft.packing.blocks import Blocks

    draft = Draft(tmp_path / "packed")
    draft.folder.mkdir()
    tokenizer = open_tokenizer(tiny_model)
    pack_corpus(corpus, tokenizer, PackingSettings(block_size=32), draft)
    blocks = Blocks.open(draft.folder)
    spelled = sum(text.count("</s>") for text in corpus.documents("train"))
    assert spelled > 200
    assert np.count_nonzero(blocks.tokens == tokenizer.eos_id) == blocks.summary.documents
    assert blocks.summary.mentions == {"</s>": spelled}
    assert draft.notes["mentions"] == {"</s>": spelled}
    assert f"</s> {spelled}" in draft.notes["warnings"][0]
    assert f"</s> {spelled}" in capsys.readouterr().err


def test_scoring_and_packing_read_a_mention_alike(tiny_model: Path, corpus: Corpus) -> None:
    """Held-out text that mentions `</s>` is scored in the very ids that packing would teach."""
    from lingraft.checkpoint import load_model
    from lingraft.evaluation.config import EvaluationSettings
    from lingraft.evaluation.score_model import score_text
    from lingraft.packing.shards import surface_sizes, tokenise_documents

    tokenizer = open_tokenizer(tiny_model)
    documents = [text for text in corpus.documents("heldout") if "</s>" in text][:5]
    scores = score_text(
        load_model(tiny_model, "cpu", "auto"), tokenizer, documents, EvaluationSettings()
    )
    assert (
        scores.ids.tolist()
        == tokenise_documents(documents, tokenizer, surface_sizes(tokenizer)).ids.tolist()
    )
    assert tokenizer.eos_id not in scores.ids


@pytest.mark.parametrize("build", [sentencepiece, BASES["Gemma"]])
def test_text_full_of_chat_marks_is_extended_without_moving_special_tokens(
    build: Any, tmp_path: Path
) -> None:
    """A SentencePiece BPE with ChatML tokens, extended on ChatML as text, passes every claim."""
    folder, draft = tmp_path / "base", Draft(tmp_path / "extended")
    for path in (folder, draft.folder):
        path.mkdir()
    data = with_added(build(), CHATML, special=True)
    (folder / "tokenizer.json").write_text(json.dumps(data), encoding="utf-8")
    rows = [
        f"<|im_start|>user\n{HINDI[i % 4]} {i}<|im_end|>\n"
        f"<|im_start|>assistant\n{HINDI[i % 3]}<|im_end|>"
        for i in range(300)
    ]
    path = tmp_path / "chat.jsonl"
    path.write_text("\n".join(json.dumps({"text": row}) for row in rows), encoding="utf-8")
    texts = Draft(tmp_path / "corpus")
    texts.folder.mkdir()
    build_corpus(
        CorpusSettings.model_validate({"sources": [str(path)], "heldout_share": 0.1}), "hi", texts
    )
    corpus = Corpus.open(texts.folder)
    extend_tokenizer(folder, [corpus], Extension(ContinuedBPE(), 60), draft)
    target = open_tokenizer(draft.folder / "tokenizer")
    before = {token["content"]: token["id"] for token in data["added_tokens"]}
    assert {content: target.backend.token_to_id(content) for content in before} == before
    train = sum(text.count("<|im_end|>") for text in corpus.documents("train"))
    assert draft.notes["special tokens spelled in the text"] == {
        "<|im_end|>": train,
        "<|im_start|>": train,
    }
