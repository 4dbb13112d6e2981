"""`lingraft.evaluate`, `diagnose` and `pack` in memory give the numbers of the commands."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders
from tokenizers.models import Unigram
from tokenizers.pre_tokenizers import Metaspace
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

import lingraft
from lingraft.errors import CorpusError, LingraftError, ModelError, RecipeError, TokenizerError
from lingraft.library.example_model import example_model
from lingraft.miniature import stories
from lingraft.packing import PackingSettings
from lingraft.packing.blocks import Blocks
from lingraft.packing.mixture import Mixture
from lingraft.packing.pack import pack_texts
from lingraft.tokenizer import open_tokenizer
from tests.commands import lingraft as command
from tests.conftest import ENGLISH, HINDI, make_tiny_model

QUICK = {"bootstrap.resamples": 20}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two model folders with one tokenizer: the second has other rows."""
    made = {}
    for name, tied in (("one", False), ("two", True)):
        made[name] = tmp_path_factory.mktemp("models") / name
        made[name].mkdir()
        make_tiny_model(made[name], tied=tied)
    return made


def load(folder: Path) -> tuple[object, object]:
    return AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


def test_evaluate_gives_the_numbers_of_the_command(folders, tmp_path):
    """Models in memory, or named by their folders, are measured as `lingraft evaluate` does."""
    files = {}
    for language, documents in (("hi", HINDI), ("en", ENGLISH)):
        files[language] = tmp_path / f"{language}.txt"
        files[language].write_text("\n".join(documents), encoding="utf-8")
    done = command(
        "evaluate",
        *folders.values(),
        *(f"--text={language}={file}" for language, file in files.items()),
        *(f"-oevaluation.{name}={value}" for name, value in QUICK.items()),
        "-oevaluation.generation=null",
        "--output", tmp_path / "out",
        "--store", tmp_path / "store",
        cwd=tmp_path,
    )  # fmt: skip
    expected = pq.read_table(tmp_path / "out" / "measurements.parquet").to_pylist()
    loaded = {name: load(folder) for name, folder in folders.items()}
    loaded["two"][0].train()
    for models in (loaded, folders):
        report = lingraft.evaluate(
            models, {"hi": iter(HINDI), "en": ["", *ENGLISH, " \n"]}, settings=QUICK, device="cpu"
        )
        assert report.to_arrow().to_pylist() == expected
    assert loaded["two"][0].training
    assert not loaded["one"][0].training
    printed = [line.rstrip() for line in done.stdout.split("\n")]
    assert str(report).split("\n") == printed[: str(report).count("\n") + 1]
    assert report.notes["hi"]["documents"] == len(HINDI)


def test_text_that_a_tokenizer_loses_is_warned_of(tmp_path):
    """A text of which most is "<unk>" is easy to predict: command and library do not keep quiet."""
    models = {}
    for name, letters in (
        ("lossy", "abc"),
        ("whole", "abc" + "".join(sorted(set("".join(HINDI))))),
    ):
        vocabulary = [("<unk>", 0.0), ("</s>", 0.0), ("▁", -2.0), *((c, -3.0) for c in letters)]
        tokenizer = Tokenizer(Unigram(vocabulary, unk_id=0, byte_fallback=False))
        tokenizer.pre_tokenizer, tokenizer.decoder = Metaspace(), decoders.Metaspace()
        fast = PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, eos_token="</s>", unk_token="<unk>"
        )
        config = LlamaConfig(
            vocab_size=len(vocabulary),
            hidden_size=8,
            intermediate_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=64,
            bos_token_id=None,
            eos_token_id=1,
        )
        models[name] = (LlamaForCausalLM(config).eval(), fast)
        for part in models[name]:
            part.save_pretrained(tmp_path / name)
    report = lingraft.evaluate(models, {"hi": HINDI}, settings=QUICK, device="cpu")
    warned = [warning for warning in report.warnings if "loses" in warning]
    assert len(warned) == 1
    assert warned[0].startswith("text in hi: the tokenizer of lossy loses 80.1%")
    assert warned[0] in str(report)
    (tmp_path / "hi.txt").write_text("\n".join(HINDI), encoding="utf-8")
    done = command(
        "evaluate", tmp_path / "lossy", tmp_path / "whole",
        f"--text=hi={tmp_path / 'hi.txt'}",
        "-oevaluation.generation=null",
        "--output", tmp_path / "out",
        "--store", tmp_path / "store",
        cwd=tmp_path,
    )  # fmt: skip
    assert warned[0] in done.stdout


def test_a_report_is_a_table_for_notebooks_and_data_frames(folders):
    """Its HTML is the printed table, escaped; generation is measured only where it is asked for."""
    small = {
        **QUICK,
        "generation": {"timed_bytes": 8, "timed_prompts": 1, "samples": 1, "sample_bytes": 8},
    }
    report = lingraft.evaluate(
        {"<one>": load(folders["one"])}, {"en": ENGLISH}, settings=small, device="cpu"
    )
    assert {row.unit for row in report.select(metric="generation speed")} == {"bytes/s"}
    assert [sample["subject"] for sample in report.samples] == ["<one>"]
    html = report._repr_html_()
    assert "compared with &lt;one&gt;" in html
    assert html.count("<tr>") == str(report).count("\n") - len(report.warnings)
    (few,) = report.warnings
    assert "4 documents" in few
    assert few in html
    frame = report.to_pandas()
    assert list(frame.metric) == [row.metric for row in report.rows]


def test_rows_that_training_moved_are_measured_in_memory():
    """The rotation of added rows is that between the models before and after training."""
    trained, longer = example_model(vocabulary=516)
    (added,) = {*longer.get_vocab()} - {*example_model(vocabulary=515)[1].get_vocab()}
    with torch.no_grad():
        trained.get_input_embeddings().weight[longer.get_vocab()[added]] = torch.randn(32)
    models = {
        "source": example_model(vocabulary=512),
        "spliced": (example_model(vocabulary=516)[0], longer),
        "adapted": (trained, longer),
    }
    report = lingraft.evaluate(models, {"en": ["It rains.", "A bird."]}, settings=QUICK)
    (row,) = report.select(metric="under-trained added tokens")
    assert (row.subject, row.value, row.n) == ("adapted", 3 / 4, 4)


# A property that PEFT reads.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_adapters_are_measured_as_a_part_of_the_model():
    """A model with LoRA adapters of PEFT is measured with them, its generation included."""
    model, tokenizer = example_model()
    lora = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    adapted = get_peft_model(example_model()[0], lora)
    texts = {"en": [*ENGLISH]}

    def compare() -> lingraft.EvaluationReport:
        models = {"plain": (model, tokenizer), "adapted": (adapted, tokenizer)}
        return lingraft.evaluate(models, texts, settings=QUICK, generation=True)

    (change,) = compare().select(metric="bits per byte change")
    assert change.value == 0
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.ones_(parameter)
    report = compare()
    (change,) = report.select(metric="bits per byte change")
    assert change.value != 0
    assert len(report.select(metric="generation speed")) == 2


def without_roles() -> tuple[object, object]:
    """Return a model and a tokenizer that name no BOS or EOS."""
    model, tokenizer = example_model()
    model.config.bos_token_id = model.config.eos_token_id = None
    model.generation_config.bos_token_id = model.generation_config.eos_token_id = None
    tokenizer.bos_token = tokenizer.eos_token = None
    return model, tokenizer


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"texts": {"en": "one string"}}, CorpusError, "texts: en: one string"),
        ({"texts": {"en": ["  "]}}, CorpusError, "no text to evaluate on"),
        ({"texts": {}}, CorpusError, "give the documents by language"),
        ({"models": {}}, RecipeError, "give at least one by name"),
        ({"models": {"m": "no/where/at/all"}}, ModelError, "no such folder"),
        ({"models": {"m": object()}}, ModelError, r"expected \(model, tokenizer\)"),
        ({"models": {"m": ("a", "b")}}, ModelError, "in this order"),
        ({"models": {"m": without_roles()}}, ModelError, "^models/m: neither a BOS nor an EOS"),
        ({"settings": {"contxt": 8}}, RecipeError, "context"),
        ({"settings": {"context": 10_000}}, ModelError, "lower evaluation.context"),
        ({"settings": {"tasks": ["x"]}, "tasks": ["y"]}, RecipeError, "given twice"),
    ],
)
def test_wrong_input_is_one_line(change, error, message):
    """What cannot be measured is refused in one line that names the argument."""
    given = {"models": {"tiny": example_model()}, "texts": {"en": ["A bird."]}, **change}
    with pytest.raises(error, match=message) as raised:
        lingraft.evaluate(**given)
    assert "\n" not in str(raised.value)
    assert "/lingraft-" not in str(raised.value)


def test_a_tokenizer_with_more_ids_than_rows_is_refused():
    """A token without an embedding row is an error that names the cure, not an index error."""
    model, tokenizer = example_model()
    tokenizer.add_tokens(["rains"])
    with pytest.raises(ModelError, match="512 embedding rows; add rows first"):
        lingraft.evaluate({"m": (model, tokenizer)}, {"en": ["It rains."]})


def test_diagnose_gives_the_json_of_the_command(folders, tmp_path):
    """A tokenizer in memory is diagnosed as `lingraft diagnose --json` does it from files."""
    documents = list(stories("hi", count=150))
    file = tmp_path / "hi.txt"
    file.write_text("\n".join(documents), encoding="utf-8")
    done = command("diagnose", folders["one"], f"--text=hi={file}", "--json", cwd=tmp_path)
    expected = json.loads(done.stdout)
    diagnosis = lingraft.diagnose(
        {"one": AutoTokenizer.from_pretrained(folders["one"])}, {"hi": documents}
    )
    found = json.loads(json.dumps(diagnosis.as_json()))
    assert {**found, "seconds": 0} == {**expected, "seconds": 0}
    assert "one: byte-level BPE, 320 tokens" in str(diagnosis)
    frame = diagnosis.to_pandas()
    assert frame.tokens_per_word[0] == diagnosis.finding("hi").measures.tokens_per_word
    assert diagnosis.finding("hi").recommendation.headline in diagnosis._repr_html_()


def test_diagnose_compares_tokenizers_of_any_kind(folders):
    """A backend, an object of transformers and a folder may be compared by name."""
    _, tokenizer = example_model("hi")
    named = {"backend": tokenizer.backend_tokenizer, "hindi": tokenizer, "folder": folders["one"]}
    texts = {"hi": list(stories("hi", count=30))}
    ranked = lingraft.diagnose(named, texts).ranking("hi")
    assert [rank.name for rank in ranked] == ["backend", "hindi", "folder"]
    with pytest.raises(TokenizerError, match="int is no tokenizer"):
        lingraft.diagnose(7, texts)


@pytest.mark.parametrize("layout", ["stream", "documents"])
def test_pack_gives_the_blocks_of_training(folders, tmp_path, layout):
    """Blocks are the sequences of the packing stage, with the labels of a training batch."""
    documents = [*HINDI, "", *ENGLISH]
    settings = PackingSettings(block_size=31, layout=layout)
    pack_texts([documents], open_tokenizer(folders["one"]), settings, tmp_path)
    blocks = Blocks.open(tmp_path)
    packed = lingraft.pack(load(folders["one"])[1], iter(documents), 32, layout=layout)
    assert len(packed) == len(blocks)
    assert packed.text == blocks.summary
    batch = Mixture.of([(blocks, 1.0)]).batch(0, len(blocks))
    order = Mixture.of([(blocks, 1.0)]).draw(0, len(blocks))[1]
    for place, index in enumerate(order.tolist()):
        block, size = packed[index], len(packed[index]["input_ids"])
        assert block["input_ids"].tolist() == blocks.sequence(index).tolist()
        # transformers shifts labels by one, a training batch holds them shifted.
        assert block["labels"][1:].tolist() == batch.labels[place, : size - 1].tolist()
        assert block["position_ids"][0] == 0


def test_documents_are_apart_and_every_token_is_predicted_once(folders):
    """Positions restart at every document, and labels of all blocks are the text, each id once."""
    model, tokenizer = load(folders["one"])
    packed = lingraft.pack(tokenizer, HINDI, 32)
    predicted = packed.labels[packed.labels >= 0]
    assert predicted.tolist() == [
        token for text in HINDI for token in (*tokenizer(text)["input_ids"], tokenizer.eos_token_id)
    ]
    begins = packed.ids == tokenizer.bos_token_id
    assert begins.sum() == len(HINDI)
    assert (packed.position_ids[begins] == 0).all()
    rows = packed.to_dataset(position_ids=True)
    assert rows[1]["position_ids"] == packed[1]["position_ids"].tolist()
    arrays = packed.to_numpy()
    assert arrays["input_ids"].shape == (len(packed), 32)
    assert arrays["attention_mask"].sum() == len(packed.ids)
    batch = packed.collate([rows[0], rows[len(packed) - 1]])
    with torch.no_grad():
        loss = model(**batch).loss
        last = model(**packed.collate([rows[len(packed) - 1]])).loss
    assert torch.isfinite(loss)
    assert loss != last


def test_replay_is_mixed_in_by_bytes(folders):
    """The order is that of training: each target block once, replay in the share of the bytes."""
    tokenizer = load(folders["one"])[1]
    packed = lingraft.pack(
        tokenizer,
        stories("hi", count=40),
        64,
        replay=stories("en", count=40),
        replay_share=0.3,
        seed=5,
    )
    of_text = len(packed) - int(packed.replayed.sum())
    assert repr(packed) == (
        f"PackedText({len(packed)} blocks, {len(packed) - of_text} of them replay; "
        f"{len(packed.ids):,} ids, at most 64 in a block)"
    )
    assert of_text == packed.text.rows
    bytes_of = [packed.text.bytes / packed.text.rows, packed.replay.bytes / packed.replay.rows]
    of_replay = packed.replayed.sum() * bytes_of[1]
    assert of_replay / (of_replay + of_text * bytes_of[0]) == pytest.approx(0.3, abs=0.01)
    assert np.diff(np.flatnonzero(packed.replayed)).max() <= 8


@pytest.mark.parametrize(
    "change", [{"length": 2}, {"replay": ["a"], "replay_share": 1.0}, {"texts": "x"}, {"texts": []}]
)
def test_text_that_cannot_be_packed_is_one_line(change):
    """Wrong lengths, shares and texts are refused in one line."""
    with pytest.raises(LingraftError) as raised:
        lingraft.pack(**{"tokenizer": example_model()[1], "texts": ["A bird."], **change})
    assert "\n" not in str(raised.value)


def test_progress_goes_to_the_given_function(capfd):
    """`log` receives the lines; nothing is printed then."""
    lines: list[str] = []
    report = lingraft.evaluate(
        {"m": example_model()}, {"te": ["नमस्ते दुनिया " * 20]}, log=lines.append
    )
    assert lines == [f"warning: {warning}" for warning in report.warnings]
    assert "Devanagari, not Telugu" in lines[0]
    assert capfd.readouterr() == ("", "")
