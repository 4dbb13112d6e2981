"""Conversion: a tokenizer.json from a SentencePiece file gives the ids of other libraries."""

from __future__ import annotations

import base64
import io
import itertools
import json
import random
import unicodedata

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from lingraft.corpus import Corpus, CorpusSettings, build_corpus
from lingraft.errors import TokenizerError
from lingraft.store import Draft
from lingraft.tokenizer import open_tokenizer
from lingraft.tokenizer.conversion_check import check_conversion, compare_with_sentencepiece
from lingraft.tokenizer.convert import LLAMA3_REGEX, QWEN_REGEX
from lingraft.tokenizer.edge_cases import edge_case_texts
from lingraft.tokenizer.save_tokenizer import save_tokenizer
from lingraft.tokenizer.sentencepiece_file import read_message
from lingraft.vocabulary import SELECTIONS, Extension, SelectionRequest, extend_tokenizer
from lingraft.vocabulary.base import Selected
from lingraft.vocabulary.build_splice import build_splice
from tests.conftest import ENGLISH, HINDI, write_lines
from tests.test_source_check import extended as extended_model

CODE = [
    "def f(x):\n    if x:\n        return x  # ok\n\n\nclass A:\n\tpass\n",
    "a  b",
    "  a",
    "a ",
    "x▁▁y",
    "a\r\n  b",
    "for i in range(10):\n  print(i)   \n",
    "<tool>a <tool> b<tool>",
    "<tool>",
    "   ",
]
TEXTS = [*(text for text in edge_case_texts() if text), *CODE, *ENGLISH, *HINDI]
LEARNED_FROM = [*ENGLISH, *HINDI, "def f(x):    return x", "for i in range(10):  print(i)"] * 3
USER_DEFINED = ["▁▁", "▁▁▁▁", "<tool>"]

SWITCHES = ("remove_extra_whitespaces", "byte_fallback", "add_dummy_prefix")
GRID = [
    {
        "model_type": kind,
        "user_defined_symbols": pieces,
        "normalization_rule_name": rule,
        **dict(zip(SWITCHES, values, strict=True)),
    }
    for kind, pieces, rule in itertools.product(
        ("bpe", "unigram"), ([], USER_DEFINED), ("nmt_nfkc", "identity")
    )
    for values in itertools.product((True, False), repeat=3)
]


def learn(folder, *, sentences=LEARNED_FROM, **settings):
    """Train a SentencePiece model on a few sentences, write it and return its processor."""
    written = io.BytesIO()
    size = 400 if settings.get("byte_fallback") else 220
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences),
        model_writer=written,
        minloglevel=2,
        **{"vocab_size": size, "hard_vocab_limit": False, "character_coverage": 0.98} | settings,
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.model").write_bytes(written.getvalue())
    return sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())


def name_of(cell):
    """Name a cell of the grid by what is on."""
    on = [switch for switch in SWITCHES if cell[switch]]
    symbols = ["user_defined"] if cell["user_defined_symbols"] else []
    return "-".join([cell["model_type"], cell["normalization_rule_name"], *symbols, *on])


def comparable(text, cell):
    """Compose what the library's character map does not compose."""
    return (
        unicodedata.normalize("NFKC", text)
        if cell["normalization_rule_name"] == "nmt_nfkc"
        else text
    )


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """Train each cell of the grid once."""
    made = {}

    def get(cell):
        name = name_of(cell)
        if name not in made:
            folder = tmp_path_factory.mktemp("sentencepiece") / name
            made[name] = (learn(folder, **cell), open_tokenizer(folder))
        return made[name]

    return get


@pytest.mark.parametrize("cell", GRID, ids=name_of)
def test_a_converted_model_gives_the_ids_of_sentencepiece_whatever_its_settings(cell, learned):
    """Edge cases, code and sentences have SentencePiece's ids for every combination of settings."""
    processor, tokenizer = learned(cell)
    texts = [comparable(text, cell) for text in TEXTS]
    assert {
        text: ids
        for text, ids in zip(texts, tokenizer.encode(texts), strict=True)
        if ids != processor.encode(text)
    } == {}


@pytest.mark.parametrize("cell", GRID[::5], ids=name_of)
@settings(max_examples=30, deadline=None)
@given(text=st.text("ab \n.▁<tol>fx(नि", max_size=30))
def test_any_text_of_spaces_code_and_letters_is_read_alike(cell, learned, text):
    """Runs of spaces, user-defined pieces and their parts, in any order."""
    processor, tokenizer = learned(cell)
    assert tokenizer.encode([text]) == [processor.encode(text)]


@pytest.mark.parametrize(
    ("prefix", "name", "model_type"),
    [(True, "LlamaTokenizer", "llama"), (False, "GemmaTokenizer", "gemma")],
)
def test_a_converted_model_gives_the_ids_of_transformers(prefix, name, model_type, tmp_path):
    """Where transformers converts the file by its class, code has the ids of AutoTokenizer."""
    from transformers import AutoTokenizer

    learn(
        tmp_path,
        model_type="bpe",
        user_defined_symbols=USER_DEFINED,
        remove_extra_whitespaces=False,
        byte_fallback=True,
        add_dummy_prefix=prefix,
        normalization_rule_name="identity",
    )
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": name}))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    loaded, tokenizer = AutoTokenizer.from_pretrained(tmp_path), open_tokenizer(tmp_path)
    # transformers puts no second space before a text that begins with one, and reads special
    # tokens in a text.
    texts = [text for text in TEXTS if not text.startswith((" ", "▁", "<"))]
    assert tokenizer.encode(texts) == loaded(texts, add_special_tokens=False)["input_ids"]


def test_python_files_are_read_as_by_sentencepiece(tmp_path):
    """A model with pieces for runs of spaces, as Yi has them, reads real code alike."""
    from pathlib import Path

    import lingraft

    processor = learn(
        tmp_path,
        model_type="bpe",
        user_defined_symbols=["▁▁", "▁▁▁▁", "▁▁▁▁▁▁▁▁"],
        byte_fallback=True,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
    )
    files = [
        path.read_text(encoding="utf-8")
        for path in sorted(Path(lingraft.__file__).parent.glob("*.py"))
    ]
    tokenizer = open_tokenizer(tmp_path)
    assert len(files) > 5
    assert tokenizer.encode(files) == processor.encode(files)


def test_a_piece_with_a_line_break_is_produced_where_the_line_break_is_a_byte(tmp_path):
    """An ASCII character without a piece takes the id of its byte, so that pieces with it merge."""
    learn(tmp_path, model_type="bpe", byte_fallback=True, normalization_rule_name="identity")
    message = read_message(tmp_path / "tokenizer.model")
    lowest = min(piece.score for piece in message.pieces)
    message.pieces.add(piece=")\n", score=lowest - 1, type=1)
    (tmp_path / "tokenizer.model").write_bytes(message.SerializeToString())
    tokenizer = open_tokenizer(tmp_path)
    (ids,) = tokenizer.encode(["f(x)\ny\n"])
    assert len(message.pieces) - 1 in ids
    assert tokenizer.decode(ids) == "f(x)\ny\n"
    assert not compare_with_sentencepiece(
        tokenizer, tmp_path / "tokenizer.model", [*TEXTS[:10], "f(x)\ny\n"]
    ).different


def test_pieces_that_tokenizers_cannot_produce_are_refused_by_name(assets):
    """A Hindi vocabulary that builds "और" from a character without a piece is refused with it."""
    path = assets / "tokenizers" / "hindi-llama-bpe1k" / "tokenizer.model"
    with pytest.raises(
        TokenizerError, match=r"such as 'और▁' \(2 in all\) hold a character"
    ) as caught:
        check_conversion(open_tokenizer(path), path, ["एक और किताब"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"treat_whitespace_as_suffix": True}, "treat_whitespace_as_suffix is on"),
        ({"model_type": "word"}, "type 3; known: Unigram"),
    ],
)
def test_settings_without_a_counterpart_are_refused_by_name(setting, message, tmp_path):
    """What tokenizer.json cannot say is an error that names the setting, in one line."""
    learn(tmp_path, **{"model_type": "bpe", **setting})
    with pytest.raises(TokenizerError, match=message):
        open_tokenizer(tmp_path)


@pytest.mark.parametrize(
    "name", ["llama2/tokenizer.model", "mistral/tokenizer.model.v1", "t5/spiece.model"]
)
def test_real_models_are_converted_exactly(assets, name, flores):
    """Every piece given as text, awkward text and seven languages: the ids of SentencePiece."""
    path = assets / "tokenizers" / name
    tokenizer = open_tokenizer(path)
    texts = [
        *TEXTS,
        *(
            row[language]
            for row in flores[:60]
            for language in ("en", "hi", "tr", "ar", "ta", "th", "bn")
        ),
    ]
    assert check_conversion(tokenizer, path, texts).texts > 400


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Build a corpus of Hindi lines, once."""
    folder = tmp_path_factory.mktemp("hindi")
    source = str(write_lines(folder / "hi.txt", HINDI, copies=40))
    (folder / "corpus").mkdir()
    settings = CorpusSettings.model_validate({"sources": [source], "heldout_share": 0.2})
    build_corpus(settings, "hi", Draft(folder / "corpus"))
    return Corpus.open(folder / "corpus")


def extended(source, corpus, folder, size=30):
    """Extend a tokenizer folder; return the result and the claims of its certificate."""
    folder.mkdir()
    extend_tokenizer(
        source, [corpus], Extension(SELECTIONS.parse("continued"), size), Draft(folder)
    )
    claims = {
        row["name"]: row for row in json.loads((folder / "certificate.json").read_text())["claims"]
    }
    return open_tokenizer(folder / "tokenizer"), claims


EXTENDED = [GRID[i] for i in (0, 3, 5, 14, 16, 23, 29, 30, 32, 39, 45, 54, 56, 61, 63)]


@pytest.mark.parametrize("cell", EXTENDED, ids=name_of)
def test_an_extended_model_is_read_alike_by_sentencepiece_and_transformers(cell, corpus, tmp_path):
    """The written tokenizer.model and AutoTokenizer give the ids of the written tokenizer.json."""
    from transformers import AutoTokenizer

    learn(tmp_path / "base", **cell)
    target, claims = extended(tmp_path / "base", corpus, tmp_path / "out")
    assert [row for row in claims.values() if row["fatal"] and not row["holds"]] == []
    assert claims["tokenizer.model agrees"]["of"] > 0
    processor = sentencepiece.SentencePieceProcessor(
        model_file=str(target.folder / "tokenizer.model")
    )
    texts = [comparable(text, cell) for text in TEXTS]
    assert target.encode(texts) == processor.encode(texts)
    loaded = AutoTokenizer.from_pretrained(target.folder)
    texts = [
        text for text in texts if "<s>" not in text
    ]  # which transformers reads as the special token
    assert loaded(texts, add_special_tokens=False)["input_ids"] == target.encode(texts)
    assert sum(map(len, target.encode(list(HINDI)))) < sum(
        map(len, open_tokenizer(tmp_path / "base").encode(list(HINDI)))
    )


def with_runs_of_spaces(folder):
    """Learn a model, and give it runs of spaces with the scores that they have in Llama-2."""
    learn(
        folder,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
    )
    message = read_message(folder / "tokenizer.model")
    for length in (2, 4, 3):
        message.pieces.add(piece="▁" * length, score=-1e9, type=1)
    (folder / "tokenizer.model").write_bytes(message.SerializeToString())
    return folder


@pytest.mark.parametrize("name", ["small", "llama2", "mistral"])
def test_new_pieces_rank_below_the_runs_of_spaces_of_a_base(name, corpus, tmp_path, request):
    """SentencePiece and tokenizer.json merge the spaces first, then what follows them."""
    if name == "small":
        source = with_runs_of_spaces(tmp_path / "base")
    else:
        source = request.getfixturevalue("assets") / "tokenizers" / name
    target, claims = extended(source, corpus, tmp_path / "out")
    assert claims["tokenizer.model agrees"]["holds"]
    processor = sentencepiece.SentencePieceProcessor(
        model_file=str(target.folder / "tokenizer.model")
    )
    texts = [spaces.join(text.split()) for text in HINDI for spaces in ("  ", "   ", "     ")]
    assert any("▁▁" in piece for text in texts for piece in processor.encode_as_pieces(text))
    assert target.encode(texts) == processor.encode(texts)
    before = target.size - 30
    assert any(token >= before for ids in target.encode(texts) for token in ids)


@pytest.mark.parametrize("removed", [2, 3, 4])
def test_runs_of_spaces_are_read_alike_if_some_of_them_are_removed(removed, tmp_path):
    """With equal scores SentencePiece takes the leftmost pair, whatever the order of merges is."""
    source = open_tokenizer(with_runs_of_spaces(tmp_path / "base"))
    gone = Selected((), dropped=(source.family.pieces["▁" * removed],))
    data, splice = build_splice(source.family, source.family, gone, tmp_path)
    save_tokenizer(source, data, splice, tmp_path / "out")
    target = open_tokenizer(tmp_path / "out")
    processor = sentencepiece.SentencePieceProcessor(
        model_file=str(tmp_path / "out" / "tokenizer.model")
    )
    texts = [f"if x:\n{' ' * length}return x" for length in range(30)]
    assert target.encode(texts) == processor.encode(texts)


def test_whole_words_do_not_make_names_of_bytes_and_control_pieces_readable(corpus, tmp_path):
    """A unit that spells "<0x41>" or "</s>" stays text, as in the base."""
    from transformers import AutoTokenizer

    learn(
        tmp_path / "base",
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
    )
    base = open_tokenizer(tmp_path / "base")
    (tmp_path / "out").mkdir()
    atomic = Extension(SELECTIONS.parse("atomic"), 30)
    extend_tokenizer(tmp_path / "base", [corpus], atomic, Draft(tmp_path / "out"))
    target = open_tokenizer(tmp_path / "out" / "tokenizer")
    names = [*(f"<0x{byte:02X}>" for byte in range(256)), "</s>", "<s>", "<unk>"]
    texts = [text for name in names for text in (name, f"a\n{name}\nb", f"x {name} y")]
    assert target.encode(texts) == base.encode(texts)
    loaded = AutoTokenizer.from_pretrained(target.folder)
    ids = loaded(texts, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    assert ids == base.encode(texts)


SETTINGS = [
    ({"tokenizer_class": "LlamaTokenizer"}, "llama"),
    (
        {
            "tokenizer_class": "LlamaTokenizer",
            "add_bos_token": False,
            "add_eos_token": True,
            "model_max_length": 77,
            "truncation_side": "left",
            "padding_side": "right",
        },
        "llama",
    ),
    ({"tokenizer_class": "GemmaTokenizer", "clean_up_tokenization_spaces": True}, "gemma"),
    (
        {"tokenizer_class": "PreTrainedTokenizerFast", "padding_side": "left", "bos_token": "<s>"},
        "gpt_neox",
    ),
]


@pytest.mark.parametrize(("config", "model_type"), SETTINGS)
def test_settings_survive_the_change_of_class(config, model_type, corpus, tmp_path):
    """What AutoTokenizer says of the source, named in the files or not, it says of the result."""
    from transformers import AutoTokenizer

    learn(
        tmp_path / "base",
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=model_type == "llama",
    )
    (tmp_path / "base" / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "base" / "config.json").write_text(json.dumps({"model_type": model_type}))
    target, claims = extended(tmp_path / "base", corpus, tmp_path / "out")
    assert claims["tokenizer settings kept"]["holds"]
    before, after = (
        AutoTokenizer.from_pretrained(folder) for folder in (tmp_path / "base", target.folder)
    )
    for name in (
        "padding_side",
        "truncation_side",
        "clean_up_tokenization_spaces",
        "model_max_length",
    ):
        assert getattr(after, name) == getattr(before, name)
    for texts in (("one",), ("one", "two"), ([("one", "two")],)):
        assert after(*texts)["input_ids"] == before(*texts)["input_ids"]


@pytest.mark.parametrize("prefix", [True, False])
def test_a_model_with_a_sentencepiece_file_alone_is_extended_as_its_class_reads_it(
    prefix, tmp_path
):
    """Transformers reads code, chat and text alike with a Llama tokenizer and its extension."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    processor = learn(
        tmp_path / "base",
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        user_defined_symbols=["▁▁", "▁▁▁▁"],
        add_dummy_prefix=prefix,
    )
    size = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(vocab_size=processor.get_piece_size(), **size)).save_pretrained(
        tmp_path / "base"
    )
    config = {"tokenizer_class": "LlamaTokenizer", "add_prefix_space": prefix}
    (tmp_path / "base" / "tokenizer_config.json").write_text(json.dumps(config))
    result, claims = extended_model(tmp_path / "base", tmp_path / "work")
    assert [row["name"] for row in claims.values() if row["fatal"] and not row["holds"]] == []
    before, after = (
        AutoTokenizer.from_pretrained(folder) for folder in (tmp_path / "base", result)
    )
    assert (before.padding_side, after.padding_side) == ("left", "left")
    texts = [
        text
        for text in [*CODE, *ENGLISH, "<s>[INST] hi</s>there", " a"]
        if not any(map(is_hindi, text))
    ]
    assert after(texts)["input_ids"] == before(texts)["input_ids"]
    code = [text for text in CODE if not text.startswith((" ", "<")) and "▁" not in text]
    assert after(code, add_special_tokens=False)["input_ids"] == processor.encode(code)


def is_hindi(character):
    """Say whether a character is of the script that the tokens were learned in."""
    return "\u0900" <= character < "\u0980"


CHAT = "<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n{text}<|im_end|>"
CHAT_TOKENS = ["<|im_start|>", "<|im_end|>"]


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
@pytest.mark.parametrize("place", ["control_symbols", "user_defined_symbols", "added_tokens"])
def test_special_tokens_in_the_text_are_cut_out_before_counting(kind, place, tmp_path):
    """No token learned from rendered chat holds a special token's spelling; source ids stay."""
    symbols = {} if place == "added_tokens" else {place: CHAT_TOKENS}
    learn(
        tmp_path / "base",
        model_type=kind,
        byte_fallback=True,
        normalization_rule_name="identity",
        **symbols,
    )
    source = open_tokenizer(tmp_path / "base")
    if place == "added_tokens":
        decoder = {
            str(source.size + i): {"content": content, "special": True}
            for i, content in enumerate(CHAT_TOKENS)
        }
        (tmp_path / "base" / "tokenizer_config.json").write_text(
            json.dumps({"added_tokens_decoder": decoder})
        )
        source = open_tokenizer(tmp_path / "base")
    rows = [CHAT.format(text=f"{sentence} {number}") for number in range(20) for sentence in HINDI]
    lines = [json.dumps({"text": row}) for row in rows]
    (tmp_path / "hi.jsonl").write_text("\n".join(lines))
    (tmp_path / "corpus").mkdir()
    settings = CorpusSettings.model_validate(
        {"sources": [str(tmp_path / "hi.jsonl")], "heldout_share": 0.2}
    )
    build_corpus(settings, "hi", Draft(tmp_path / "corpus"))
    target, claims = extended(tmp_path / "base", Corpus.open(tmp_path / "corpus"), tmp_path / "out")
    assert [row for row in claims.values() if row["fatal"] and not row["holds"]] == []
    learned = [surface.decode() for surface in target.vocabulary.surfaces[source.size :] if surface]
    assert learned
    assert [token for token in learned if "im_" in token or "<|" in token] == []
    assert [target.backend.id_to_token(i) for i in source.family.special] == list(
        source.family.special.values()
    )


def test_a_unigram_with_byte_fallback_learns_the_characters_that_cost_most(tmp_path):
    """Where words share only characters of three bytes, these characters are learned."""
    learn(tmp_path, model_type="unigram", byte_fallback=True, sentences=list(ENGLISH) * 5)
    family = open_tokenizer(tmp_path).family
    letters, draw = "कखगघचजटड", random.Random(3)
    texts = [" ".join("".join(draw.choices(letters, k=6)) for _ in range(10)) for _ in range(30)]
    chosen = SELECTIONS.parse("continued").select(
        SelectionRequest(family, family.units(texts), len(letters))
    )
    assert {surface.decode() for surface in chosen.surfaces} == set(letters)


def test_a_source_whose_own_files_disagree_is_extended_by_its_tokenizer_json(corpus, tmp_path):
    """Texts on which the source's own two files differ do not count against the result."""
    base = tmp_path / "base"
    learn(base, model_type="bpe", byte_fallback=True, normalization_rule_name="identity")
    tokenizer = open_tokenizer(base)
    data = json.loads(json.dumps(tokenizer.family.data))
    digits = {"type": "Replace", "pattern": {"Regex": "[0-4]"}, "content": "5"}
    data["normalizer"]["normalizers"].insert(0, digits)
    (base / "tokenizer.json").write_text(json.dumps(data))
    _, claims = extended(base, corpus, tmp_path / "out")
    claim = claims["tokenizer.model agrees"]
    assert claim["holds"]
    assert "on which the files of the source disagree" in claim["detail"]


def test_a_converted_tiktoken_file_gives_the_ids_of_tiktoken(assets, flores):
    """Converted Llama-3 and Qwen ranks give tiktoken's ids on edge cases, code and languages."""
    tiktoken = pytest.importorskip("tiktoken")
    files = {"llama3/tokenizer.model": LLAMA3_REGEX, "qwen2/qwen.tiktoken": QWEN_REGEX}
    texts = [
        *TEXTS,
        *(
            row[language]
            for row in flores[:40]
            for language in ("en", "hi", "tr", "ar", "ta", "th", "bn")
        ),
    ]
    for name, pattern in files.items():
        path = assets / "tokenizers" / name
        lines = [line.split() for line in path.read_bytes().splitlines()]
        ranks = {base64.b64decode(token): int(rank) for token, rank in lines}
        judge = tiktoken.Encoding(name, pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
        given = [
            unicodedata.normalize("NFC", text) for text in texts
        ]  # Qwen's own code normalizes first
        assert open_tokenizer(path).encode(given) == [
            judge.encode(text, disallowed_special=()) for text in given
        ]
