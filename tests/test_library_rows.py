"""`lingraft.resize` and `lingraft.init_embeddings` on models and matrices in memory."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, LlamaForCausalLM

import lingraft
from lingraft.checkpoint import resize_embeddings
from lingraft.embeddings import INITS, Focus
from lingraft.library.example_model import example_model
from lingraft.library.given_texts import build_corpora, given_texts
from lingraft.library.tokenizer_splice import TokenizerSplice, splice_between
from lingraft.miniature import stories
from lingraft.splice import AddedToken, Splice
from lingraft.tokenizer import open_tokenizer
from lingraft.vocabulary.build_splice import spell_surfaces
from tests.conftest import ENGLISH, HINDI, ROOT
from tests.models import ARCHITECTURES, write_tokenizer
from tests.small_bases import BASES

TEXTS = [f"{sentence} {number}" for sentence in (*HINDI, *ENGLISH) for number in range(20)]


@dataclasses.dataclass(frozen=True)
class Case:
    """A model folder, its tokenizer and the extended one, with the splice between the two."""

    source: Path
    bare: Path
    tokenizer: Path
    splice: lingraft.Splice

    def model(self):
        return AutoModelForCausalLM.from_pretrained(self.source, dtype="auto")

    @property
    def tokenizers(self):
        return self.bare, self.tokenizer


@pytest.fixture(scope="module")
def extension(tmp_path_factory):
    write_tokenizer(folder := tmp_path_factory.mktemp("source") / "bare")
    return lingraft.extend_tokenizer(folder, TEXTS, size=7)


@pytest.fixture(scope="module")
def case_of(tmp_path_factory, extension):
    cases = {}
    extension.save(tokenizer := tmp_path_factory.mktemp("extended"))
    # As a splice that is read from a file: it does not know its tokenizers.
    splice = lingraft.Splice.from_json(extension.splice.to_json())

    def build(name, dtype="float32"):
        if (name, dtype) not in cases:
            folder = tmp_path_factory.mktemp(name) / "source"
            source = ARCHITECTURES[name].build(folder, dtype=dtype)
            cases[name, dtype] = Case(source, extension.splice.source.folder, tokenizer, splice)
        return cases[name, dtype]

    return build


def written(case, output, init, texts=None, **settings):
    corpus = None
    if texts:
        (corpus,) = build_corpora(given_texts(texts), output.parent / "corpus", print)
    method = INITS.parse(init)
    resize_embeddings(
        case.source,
        case.tokenizer,
        case.splice,
        input_init=method,
        output_init=method,
        output=output,
        corpus=corpus,
        **settings,
    )
    return AutoModelForCausalLM.from_pretrained(output, dtype="auto")


def same_model(model, expected):
    """Compare all weights bit for bit, and the settings that follow the vocabulary."""
    actual, wanted = model.state_dict(), expected.state_dict()
    assert actual.keys() == wanted.keys()
    for name, tensor in actual.items():
        assert tensor.dtype == wanted[name].dtype
        assert torch.equal(tensor, wanted[name]), name
    assert model.config.vocab_size == expected.config.vocab_size
    for key in ("suppress_tokens", "eos_token_id", "bos_token_id", "pad_token_id"):
        assert getattr(model.generation_config, key) == getattr(expected.generation_config, key)


@pytest.mark.parametrize(
    ("name", "dtype", "init"),
    [
        ("llama-tied", "float32", "calibrated"),
        ("llama-tied", "bfloat16", "random"),
        ("llama", "bfloat16", "calibrated"),
        ("neox", "float32", "mean"),
        ("qwen2", "bfloat16", {"mean": {"weights": "merges"}}),
        ("qwen2-tied", "float32", "mean_resizing"),
        ("gpt-j", "float32", "random_token"),
        ("gpt2", "float32", "calibrated"),
        ("llama", "float32", "align"),
        ("llama", "float32", {"distilled": {"windows_per_token": 1, "epochs": 1}}),
    ],
)
def test_a_model_in_memory_gets_the_rows_of_the_files(case_of, tmp_path, name, dtype, init):
    """`resize` gives, bit for bit, the weights that the resize of the model folder writes.

    gpt-j has a bias of the head, the Qwen and NeoX models have more rows than ids.
    """
    case = case_of(name, dtype)
    method = INITS.parse(init)
    texts = TEXTS if method.needs_corpus else None
    model = case.model()
    lingraft.resize(model, case.splice, init=init, texts=texts, tokenizers=case.tokenizers, seed=3)
    same_model(model, written(case, tmp_path / "out", init, texts, seed=3))
    ids = torch.tensor([[case.splice.added[0].id, 5, 6]])
    loss = model(input_ids=ids, labels=ids).loss
    assert torch.isfinite(loss)
    model.save_pretrained(tmp_path / "saved")
    same_model(AutoModelForCausalLM.from_pretrained(tmp_path / "saved", dtype="auto"), model)


def test_parameters_keep_their_identity(case_of):
    """Ties, `requires_grad` and an optimizer that has made no step still refer to the matrix."""
    model = case_of("llama-tied").model()
    table = model.get_input_embeddings().weight
    table.requires_grad_(False)
    optimizer = torch.optim.AdamW([table], lr=0.1)
    lingraft.resize(model, case_of("llama-tied").splice, init="mean")
    head = model.get_output_embeddings()
    assert head.weight is table is model.get_input_embeddings().weight
    assert not table.requires_grad
    assert head.out_features == model.get_input_embeddings().num_embeddings == len(table) == 384
    table.requires_grad_(True)
    model(input_ids=torch.tensor([[321, 4]]), labels=torch.tensor([[321, 4]])).loss.backward()
    before = table.detach().clone()
    optimizer.step()
    assert not torch.equal(before[321], table[321])


def test_padding_ids_are_suppressed_and_special_ids_stay(case_of):
    """Ids without a token are never generated; a second extension frees those that it uses."""
    case = case_of("llama")
    model = case.model()
    model.generation_config = GenerationConfig(eos_token_id=[319, 7], suppress_tokens=[9, 330])
    lingraft.resize(model, case.splice, init="mean")
    first = case.splice.target_size
    assert model.generation_config.suppress_tokens == [9, *range(first, 384)]
    assert model.generation_config.eos_token_id == [319, 7]
    assert model.config.eos_token_id == 319


@pytest.mark.parametrize("pad_id", [5, 319])
def test_the_padding_token_takes_its_row_without_gradient_along(case_of, pad_id):
    """Where ids close up, no gradient reaches the padding token's new id, and every other's.

    319 is more than the number of rows that are left.
    """
    config = case_of("llama").model().config
    config.pad_token_id = config.eos_token_id = pad_id
    config.bos_token_id = 2
    model = LlamaForCausalLM(config)
    kept = [2, 3, *range(100, 300), pad_id] if pad_id > 300 else [2, 3, pad_id, *range(100, 300)]
    dropped = tuple(sorted(set(range(320)).difference(kept)))
    splice = lingraft.Splice(320, dict(enumerate(kept)), dropped=dropped)
    lingraft.resize(model, splice, init="mean", pad_to=1)
    new_id = kept.index(pad_id)
    assert model.config.pad_token_id == model.get_input_embeddings().padding_idx == new_id
    ids = torch.tensor([[*range(len(kept)), 0]])  # no gradient reaches the last position
    model(input_ids=ids, labels=ids).loss.backward()
    has_gradient = model.get_input_embeddings().weight.grad.abs().sum(dim=1) > 0
    assert (~has_gradient).nonzero().flatten().tolist() == [new_id]


def test_the_origins_are_a_table(case_of):
    """The weights of a row over source ids give the row again."""
    case = case_of("llama")
    model = case.model()
    source = {"input": model.get_input_embeddings(), "output": model.get_output_embeddings()}
    before = {side: module.weight.detach().clone() for side, module in source.items()}
    origins = lingraft.resize(
        model, case.splice, init={"input": "calibrated", "output": "align"},
        tokenizers=case.tokenizers, texts=TEXTS,
    )  # fmt: skip
    records = origins.to_arrow().to_pylist()
    assert len(records) == 2 * len(case.splice.added) == len(origins.to_pandas())
    for record in records:
        weights = torch.tensor(record["weights"])
        row = weights @ before[record["side"]][record["source_ids"]]
        torch.testing.assert_close(row, source[record["side"]].weight[record["id"]].detach())
    assert origins.notes["base_rows"] == "bit-identical"
    drawn = lingraft.resize(case.model(), case.splice, init="random").to_arrow()
    assert drawn["source_ids"].null_count == len(drawn)


def test_results_show_the_numbers_of_rows_and_not_the_rows(case_of):
    """A notebook shows the result of a last line: numbers, however many rows there are."""
    case = case_of("llama")
    origins = lingraft.resize(case.model(), case.splice, init="mean")
    count = f"{{'subtoken mean': {len(case.splice.added)}}}"
    assert count in repr(origins)
    assert repr(origins).startswith(f"RowOrigins({origins.rows_before:,} rows before, ")
    assert count in repr(origins.sides["input"])
    assert len(repr(origins)) < 200


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": torch.nn.Linear(2, 2)}, "Linear: not a model of transformers; give AutoModel"),
        ({"init": "means"}, "did you mean 'mean'"),
        ({"init": "calibrated"}, r"the splice names none; give tokenizers=\(source, extended\)"),
        (
            {"init": "align", "tokenizers": "own"},
            "reads text, but there is none; give the argument `texts`",
        ),
        ({"init": "donor"}, "model: required"),
        ({"init": "distilled"}, r"give tokenizers=\(source, extended\)"),
        ({"splice": lingraft.Splice(999, {i: i for i in range(999)})}, "has 999 ids, while Llama"),
        ({"tokenizers": "swapped"}, "the source tokenizer has 327 ids"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_model_that_cannot_be_resized_stays_as_it_was(case_of, arguments, message):
    """The error is one line that names what to change, and no weight has changed."""
    case = case_of("llama")
    model = case.model()
    pairs = {"own": case.tokenizers, "swapped": case.tokenizers[::-1]}
    if "tokenizers" in arguments:
        arguments = {**arguments, "tokenizers": pairs[arguments["tokenizers"]]}
    with pytest.raises(lingraft.LingraftError, match=message) as caught:
        lingraft.resize(**{"model": model, "splice": case.splice, "init": "mean", **arguments})
    assert "\n" not in str(caught.value)
    for name, tensor in case.model().state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]), name


def test_a_model_is_not_resized_twice_by_one_splice(case_of, tmp_path):
    """The second resize would replace trained rows: it is refused, also after save and load."""
    case = case_of("llama")
    model = case.model()
    lingraft.resize(model, case.splice, init="mean")
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(lingraft.ModelError, match="was resized to 327 ids before, and this splice"):
        lingraft.resize(model, case.splice, init="random")
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, weights[name]), name
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    with pytest.raises(lingraft.ModelError, match="was resized to 327 ids before, and this splice"):
        lingraft.resize(again, case.splice, init="random")
    # A token that was added by other means since is no second resize.
    again.resize_token_embeddings(328, mean_resizing=False)
    further = Splice(328, {i: i for i in range(328)}, (AddedToken(328, b"xy", (5, 6)),))
    lingraft.resize(again, further, init="mean")
    assert again.config.lingraft_ids == 329
    # Another model with this configuration, but with its own rows, was not resized.
    other = case.model()
    other.config.lingraft_ids = 327
    lingraft.resize(other, case.splice, init="mean")


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_weights_that_are_elsewhere_or_wrapped_are_refused(case_of):
    """A model on the meta device, and one with adapters, are refused with what to do."""
    compiled = torch.compile(case_of("llama").model())
    advice = "give its attribute `_orig_mod`, and wrap the model after the resize"
    with pytest.raises(lingraft.ModelError, match=f"OptimizedModule: .*; {advice}"):
        lingraft.resize(compiled, case_of("llama").splice, init="mean")
    peft = pytest.importorskip("peft")
    model = case_of("llama").model()
    with torch.device("meta"):
        empty = type(model)(model.config)
    with pytest.raises(lingraft.ModelError, match="not in this process"):
        lingraft.resize(empty, case_of("llama").splice, init="mean")
    adapted = peft.get_peft_model(model, peft.LoraConfig(target_modules=["q_proj"]))
    with pytest.raises(lingraft.ModelError, match="before adapters are added, or call merge_and"):
        lingraft.resize(adapted, case_of("llama").splice, init="mean")


@pytest.mark.parametrize("init", ["calibrated", "align", {"mean": {"weights": "characters"}}])
def test_rows_from_a_matrix_are_those_of_a_resize(case_of, extension, init):
    """`init_embeddings` gives the rows that `resize` writes, from the matrix alone."""
    case = case_of("llama")
    model = case.model()
    matrix = model.get_input_embeddings().weight
    rows = lingraft.init_embeddings(
        case.splice, matrix, init, texts=TEXTS, tokenizers=case.tokenizers
    )
    lingraft.resize(model, extension, init=INITS.parse(init), texts=TEXTS)
    added = [token.id for token in case.splice.added]
    assert torch.equal(model.get_input_embeddings().weight[added], rows.rows)


def test_a_model_says_whether_its_matrices_are_tied(case_of):
    """Rows of a tied model are those that `resize` gives it; a wrong `tied` is an error."""
    distilled = {"distilled": {"epochs": 1, "windows_per_token": 1}}
    for name, is_tied in (("llama-tied", True), ("llama", False)):
        case = case_of(name)
        model = case.model()
        given = {"texts": TEXTS, "tokenizers": case.tokenizers, "model": model}
        matrix = model.get_input_embeddings().weight.detach().clone()
        rows = lingraft.init_embeddings(case.splice, matrix, distilled, **given)
        with pytest.raises(lingraft.ModelError, match=f"^tied: {not is_tied}, but Llama.*leave"):
            lingraft.init_embeddings(case.splice, matrix, distilled, tied=not is_tied, **given)
        lingraft.resize(model, case.splice, init=distilled, texts=TEXTS, tokenizers=case.tokenizers)
        added = [token.id for token in case.splice.added]
        assert torch.equal(model.get_input_embeddings().weight[added], rows.rows), name


def test_two_tokenizers_give_a_splice(case_of):
    """Tokens with the same bytes keep their row, all others are spelled in source ids."""
    case = case_of("llama")
    source, target = open_tokenizer(case.source), open_tokenizer(case.tokenizer)
    forward, backward = splice_between(source, target), splice_between(target, source)
    assert {t.id: (t.surface, t.pieces) for t in forward.added} == {
        t.id: (t.surface, t.pieces) for t in case.splice.added
    }
    assert forward.kept == case.splice.kept
    assert backward.dropped == tuple(token.id for token in case.splice.added)
    assert TokenizerSplice.of(forward, source, target).target_size == target.size


@pytest.mark.parametrize("name", ["SentencePiece BPE", "Gemma", "byte-level BPE"])
def test_every_token_of_a_tokenizer_is_its_own(tmp_path, name):
    """Compared with itself, a tokenizer keeps all rows: fallback bytes are not ASCII letters.

    In a tokenizer without fallback bytes, the letters keep their rows and not the bytes.
    """
    folder, other = tmp_path / "source", tmp_path / "llama-3"
    for place, base in ((folder, name), (other, "Llama-3")):
        place.mkdir()
        (place / "tokenizer.json").write_text(json.dumps(BASES[base]()), encoding="utf-8")
    source, target = open_tokenizer(folder), open_tokenizer(other)
    assert splice_between(source, source).kept == {i: i for i in range(source.size)}
    letter, other_letter = source.family.pieces["a"], target.family.pieces["a"]
    assert splice_between(source, target).kept[other_letter] == letter
    assert splice_between(target, source).kept[letter] == other_letter


def test_tokens_that_end_inside_a_character_are_spelled_by_bytes(tmp_path):
    """A source whose pieces are text has no such pieces; its fallback bytes spell them."""
    for name in ("SentencePiece BPE", "byte-level BPE"):
        (tmp_path / name).mkdir()
        data = json.dumps(BASES[name]())
        (tmp_path / name / "tokenizer.json").write_text(data, encoding="utf-8")
    source = open_tokenizer(tmp_path / "SentencePiece BPE")
    family = open_tokenizer(tmp_path / "byte-level BPE").family
    data = json.dumps(family.with_tokens([b" the\xe0\xa4"]))
    (tmp_path / "byte-level BPE" / "tokenizer.json").write_text(data, encoding="utf-8")
    splice = splice_between(source, open_tokenizer(tmp_path / "byte-level BPE"))
    (the,) = spell_surfaces(source.family, [b" the"])
    pieces = source.family.pieces
    assert splice.added[-1].pieces == (*the, pieces["<0xE0>"], pieces["<0xA4>"])


def test_focus_works_on_a_pair_of_tokenizers_and_a_matrix(case_of):
    """FOCUS trains its vectors on the texts that are given; without text it says so."""
    pytest.importorskip("gensim")
    case = case_of("llama")
    matrix = np.asarray(case.model().get_input_embeddings().weight.detach())
    focus = Focus(vector_size=8, epochs=1, min_count=2)
    rows = lingraft.init_embeddings(case.tokenizers, matrix, focus, texts=TEXTS)
    assert rows.origin_counts == {"mixture of anchors": 7}
    assert np.isfinite(rows.rows.numpy()).all()
    with pytest.raises(lingraft.ModelError, match="give the argument `texts`"):
        lingraft.init_embeddings(case.tokenizers, matrix, focus)


def test_a_matrix_or_model_that_is_missing_is_named(case_of):
    """The matrix needs a row for each source id, and a method that runs the model needs it."""
    case = case_of("llama")
    with pytest.raises(lingraft.ModelError, match="give one row for each id"):
        lingraft.init_embeddings(case.splice, np.zeros((3, 4)), "mean")
    with pytest.raises(lingraft.ModelError, match="give the argument `model`"):
        lingraft.init_embeddings(case.splice, np.zeros((320, 4)), "distilled", texts=TEXTS)


def test_a_number_that_is_not_finite_is_named_in_matrix_and_model(case_of):
    """The row is named, also where no new token is made from it; the model has no path."""
    case = case_of("llama")
    model = case.model()
    with torch.no_grad():
        model.get_input_embeddings().weight[7, 3] = float("nan")
    matrix = model.get_input_embeddings().weight
    with pytest.raises(lingraft.ModelError, match=r"^matrix holds NaN in row 7;"):
        lingraft.init_embeddings(case.splice, matrix, "mean")
    with pytest.raises(lingraft.ModelError, match=r"^LlamaForCausalLM: \S+ holds NaN in row 7;"):
        lingraft.resize(model, case.splice, init="mean", tokenizers=case.tokenizers)


def test_the_examples_of_the_page_run(tmp_path, monkeypatch):
    """The blocks of docs/library.md run one after the other, and the saved folder loads."""
    text = (ROOT / "docs" / "library.md").read_text(encoding="utf-8")
    model, tokenizer = example_model("en")
    model.save_pretrained(tmp_path / "path" / "to" / "model")
    tokenizer.save_pretrained(tmp_path / "path" / "to" / "model")
    monkeypatch.chdir(tmp_path)
    matrix = model.get_input_embeddings().weight.detach()
    given = {
        "hindi": list(stories("hi", count=60)),
        "english": iter(stories("en", count=30)),
        "hindi_heldout": list(stories("hi", count=3, seed=1)),
        "english_heldout": list(stories("en", count=3, seed=1)),
        "matrix": matrix,
    }
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 7
    for block in blocks:
        # Everything but the model, which the second block would extend again.
        if "focus" in block:
            given["model"] = AutoModelForCausalLM.from_pretrained("path/to/model")
        exec(compile(block, "library.md", "exec"), given)
    extended = AutoModelForCausalLM.from_pretrained("path/to/extended")
    assert torch.equal(extended.get_input_embeddings().weight[: len(matrix)], matrix)
    assert len(AutoTokenizer.from_pretrained("path/to/extended")) == len(matrix) + 300
