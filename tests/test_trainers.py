"""Hand-over folders: token ids in the order of training, the model, and the manifest."""

from __future__ import annotations

import csv
import json
import re
import runpy
import shutil
import struct
import subprocess
import sys
from collections import Counter
from copy import deepcopy
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import datasets
import numpy as np
import pytest
import torch
from accelerate.data_loader import BatchSamplerShard
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    TrainerState,
    TrainingArguments,
    get_scheduler,
)
from transformers.trainer_pt_utils import LengthGroupedSampler
from typer.testing import CliRunner

import lingraft
from lingraft.bases.folder import read_config
from lingraft.checkpoint import load_model
from lingraft.cli.app import app
from lingraft.errors import RecipeError, StoreError
from lingraft.packing import PackingSettings
from lingraft.packing.blocks import Blocks
from lingraft.packing.mixture import IGNORED, document_positions
from lingraft.packing.pack import pack_shards
from lingraft.packing.shards import Shard, tokenise_in_shards
from lingraft.pipeline import Run
from lingraft.recipe import Runtime
from lingraft.recipe.load import parse_recipe
from lingraft.recipe.tree import Tree
from lingraft.store import Store, checksums
from lingraft.tokenizer import ModelTokenizer, open_tokenizer
from lingraft.trainers import Handover, indexed_files
from lingraft.trainers.callback import ignore_router_loss, turn_cache_off
from lingraft.trainers.engine import Engine, EngineFiles
from lingraft.trainers.engines import megatron, torchtitan
from lingraft.trainers.engines.transformers_settings import schedule_settings
from lingraft.trainers.handover_checks import check_plan, check_row_length, find_engine
from lingraft.trainers.indexed_files import write_indexed
from lingraft.trainers.origin import recorded_keys
from lingraft.trainers.readme import readme
from lingraft.trainers.write_folder import OTHER_MODEL
from lingraft.trainers.write_folder import hand_over as hand_over_stages
from lingraft.training.phase_steps import PhaseSteps
from lingraft.training.schedules import SCHEDULES
from tests.architecture_sweep import build
from tests.conftest import ENGLISH, HINDI, make_tiny_model
from tests.models import ARCHITECTURES
from tests.short_adapt import short_adapt
from tests.training_cases import other_model

FORMS = ["sequences", "megatron", "text"]
PHASES = (
    'training.phases=[{"strategy": "rows", "budget": "3 steps", "batch_tokens": 128}, '
    '{"budget": "1.5 epochs", "batch_tokens": 160, "schedule": {"wsd": {"warmup": 2}}}]'
)


@pytest.fixture(scope="module")
def run(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return a finished run of two phases, more than one epoch, with replay."""
    root = tmp_path_factory.mktemp("trainers")
    return short_adapt(tiny_model, root, PHASES)


@pytest.fixture(scope="module")
def folder(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of that run handed over in every form."""
    output = tmp_path_factory.mktemp("handed") / "over"
    hand_over(run, output, data=FORMS)
    return output


def store_of(run: Run) -> Path:
    return run.folder.parent.parent / "store"


def hand_over(run: Run, output: Path, source: Path | None = None, **more: object) -> Handover:
    more = {"to": "hf", "store": store_of(run), "log": lambda _line: None, **more}
    return lingraft.handover(source or run, output=output, **more)


def phases_of(run: Run) -> list[PhaseSteps]:
    """Return the steps of lingraft's own loop for the run."""
    from lingraft.pipeline import build_graph
    from lingraft.pipeline.training_builders import training_text
    from lingraft.pipeline.training_stages import training_inputs
    from lingraft.training import Execution
    from lingraft.training.job import Job

    store, graph = Store(store_of(run)), build_graph(run.recipe)
    inputs = training_inputs(run.recipe, graph.packing)
    places = {role: store.folder(node.stage) for role, node in inputs.items()}
    recipe, text = run.recipe, training_text(run.recipe, places)
    job = Job(Path(), text, recipe.training, Path(), (), recipe.seed, Execution(), None)
    return job.steps(run.notes["training"]["parameters"]).phases


def check_rows(run: Run, folder: Path) -> None:
    """Check that each step's batch is the next rows: inputs and labels, in every phase."""
    parts = sorted((folder / "data/sequences").glob("train*"))
    for part, phase in zip(parts, phases_of(run), strict=True):
        rows = iter(datasets.load_from_disk(part))
        for step in range(phase.steps):
            batch = phase.batch(step)
            for inputs, labels in zip(batch.inputs, batch.labels, strict=True):
                row = next(rows)
                length = len(row["input_ids"]) - 1
                assert row["input_ids"][:-1] == inputs[:length].tolist()
                # Models of transformers compare the label at i + 1 with the logits at i.
                assert row["labels"][1:] == labels[:length].tolist()
                assert row["labels"][0] == IGNORED
                assert (labels[length:] == IGNORED).all()
        assert next(rows, None) is None


def test_rows_are_the_sequences_of_our_loop_in_its_order(run, folder):
    """Each step's batch is the next rows, with replay and epochs."""
    check_rows(run, folder)


def test_a_hand_over_has_every_language_in_the_order_of_our_loop(tiny_model, tmp_path):
    """With two languages, of which one is repeated, rows are our batches; each has its files."""
    files = {"hi": tmp_path / "hi.jsonl", "hi-Latn": tmp_path / "en.jsonl"}
    targets = [
        {"language": tag, "corpus": str(file), "heldout_share": 0.1} for tag, file in files.items()
    ]
    targets[1]["weight"] = 4
    overrides = (f"target={json.dumps(targets)}", "training.budget=40 steps")
    run = short_adapt(tiny_model, tmp_path, *overrides)
    folder = tmp_path / "over"
    hand_over(run, folder, data=["sequences", "megatron"])
    check_rows(run, folder)
    assert Handover.read(folder).plan.phases[0].epochs["hi-Latn"] > 1
    phase = phases_of(run)[0]
    names = ("target-hi", "target-hi-Latn", "replay")
    for name, text in zip(names, phase.mixture.texts, strict=True):
        documents = read_indexed(folder / "data/megatron" / name)
        assert np.concatenate(documents).tolist() == text.blocks.tokens.tolist()


def read_indexed(prefix: Path) -> list[list[int]]:
    """Read an indexed data set, as its format is described, one number at a time."""
    index, ids = prefix.with_suffix(".idx").read_bytes(), prefix.with_suffix(".bin").read_bytes()
    assert index[:9] == b"MMIDIDX\x00\x00"
    version, code, count, boundaries = struct.unpack_from("<QBQQ", index, 9)
    assert (version, boundaries) == (1, count + 1)
    item = {8: "H", 4: "i"}[code]
    place = 9 + 25
    lengths = struct.unpack_from(f"<{count}i", index, place)
    offsets = struct.unpack_from(f"<{count}q", index, place + 4 * count)
    bounds = struct.unpack_from(f"<{count + 1}q", index, place + 12 * count)
    assert len(index) == place + 12 * count + 8 * (count + 1)
    assert bounds == tuple(range(count + 1))
    documents = []
    for length, offset in zip(lengths, offsets, strict=True):
        documents.append(list(struct.unpack_from(f"<{length}{item}", ids, offset)))
    assert len(ids) == sum(lengths) * struct.calcsize(item)
    return documents


def test_megatron_files_have_the_packed_ids(run, folder):
    """The documents of `.bin` and `.idx` are the packed text; weights are shares of samples."""
    phase = phases_of(run)[0]
    for name, text in zip(("target", "replay"), phase.mixture.texts, strict=True):
        blocks = text.blocks
        documents = read_indexed(folder / "data/megatron" / name)
        assert len(documents) == blocks.summary.documents
        assert np.concatenate(documents).tolist() == blocks.tokens.tolist()
        assert all((ids[0], ids[-1]) == blocks.separators for ids in documents)
    target, replay = Handover.read(folder).training_data("megatron", 1)
    assert (target.dtype, target.path) == ("uint16", "data/megatron/target")
    assert target.weights[1] + replay.weights[1] == 1
    plan = Handover.read(folder).plan.phases[1]
    assert abs(replay.weights[1] * plan.sequences - plan.replay_sequences) < 1


TEXTS = [*HINDI, "", *ENGLISH, "a", "b", *HINDI]


@pytest.mark.parametrize("chunk", [1, 40, 10**6])
@pytest.mark.parametrize("separator", ["bos-eos", "eos", "bos"])
@pytest.mark.parametrize("layout", ["stream", "documents"])
def test_documents_are_found_in_packed_text(  # noqa: PLR0917
    layout, separator, chunk, tiny_model, tmp_path, monkeypatch
):
    """Each document has its separators, for every layout, and however much is read at a time."""
    monkeypatch.setattr(indexed_files, "CHUNK_IDS", chunk)
    tokenizer = open_tokenizer(tiny_model)
    packing = PackingSettings(block_size=19, layout=layout, separator=separator)
    shards = tokenise_in_shards([list(filter(None, TEXTS))], tokenizer)
    pack_shards(shards, tokenizer, packing, tmp_path)
    blocks = Blocks.open(tmp_path)
    before = [] if blocks.summary.before is None else [blocks.summary.before]
    after = [] if blocks.summary.after is None else [blocks.summary.after]
    expected = [[*ids, *after] for ids in tokenizer.encode(list(filter(None, TEXTS)))]
    if layout == "documents":
        expected = [ids[:19] for ids in expected]
    counts = write_indexed(blocks, 70_000, tmp_path / "out")
    assert read_indexed(tmp_path / "out") == [[*before, *ids] for ids in expected]
    assert (counts.documents, counts.dtype) == (len(expected), "int32")


@settings(max_examples=30)
@given(
    documents=st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=12), min_size=1),
    block=st.integers(2, 9),
)
def test_a_conversation_is_not_cut_at_its_own_separators(documents, block):
    """A template may write separators inside; documents then stay together where it is unclear."""
    text = {0: 318, 1: 319}  # BOS and EOS of the tokenizer
    documents = [[5, *(text.get(token, token) for token in ids), 6] for ids in documents]
    with TemporaryDirectory() as name:
        folder = Path(name)
        ids = np.concatenate(documents)
        shard = Shard(ids, np.ones_like(ids), np.array(list(map(len, documents))))
        pack_shards([shard], small_tokenizer(), PackingSettings(block_size=block), folder)
        write_indexed(Blocks.open(folder), 320, folder / "out")
        written = read_indexed(folder / "out")
        stream = Blocks.open(folder).tokens.tolist()
    assert np.concatenate(written).tolist() == stream
    ends = set(np.cumsum([len(ids) + 2 for ids in documents]).tolist())
    assert set(np.cumsum(list(map(len, written))).tolist()) <= ends


@cache
def small_tokenizer() -> ModelTokenizer:
    with TemporaryDirectory() as folder:
        make_tiny_model(Path(folder))
        return open_tokenizer(Path(folder))


def test_plain_text_has_the_amounts_of_each_phase(run, folder):
    """Each phase has the bytes of its sequences; no held-out document is in training text."""
    handover, seen = Handover.read(folder), Counter()
    for number, phase in enumerate(handover.plan.phases):
        (record,) = handover.training_data("text", number)
        lines = (folder / record.path).read_text(encoding="utf-8").splitlines()
        texts = [json.loads(line)["text"] for line in lines]
        longest = max(len(text.encode()) for text in texts)
        assert 0 <= record.bytes - phase.bytes < 2 * longest
        seen.update(texts)
    assert max(seen.values()) == 2  # 1.5 epochs after a few steps
    heldout_texts = [one for one in handover.data if (one.kind, one.use) == ("text", "heldout")]
    assert heldout_texts
    for record in heldout_texts:
        lines = (folder / record.path).read_text(encoding="utf-8").splitlines()
        heldout = [json.loads(line)["text"] for line in lines]
        assert not seen.keys() & set(heldout)
        assert sum(len(text.encode()) for text in heldout) == 400


def test_the_model_is_what_training_starts_from(run, folder):
    """model/ has the files of the stage `embeddings`; the manifest has its sizes and ids."""
    key = next(stage["key"] for stage in run.record["stages"] if stage["name"] == "embeddings")
    (stored,) = store_of(run).glob(f"**/*{key}*/model")
    assert checksums(folder / "model") == checksums(stored)


def test_the_manifest_reads_back_and_names_every_file(run, folder):
    """handover.json has the hash of each other file, and the plan that the run trained by."""
    handover, notes = Handover.read(folder), run.notes["training"]
    found = {name: (file.bytes, file.sha256) for name, file in handover.files.items()}
    assert found == {k: v for k, v in checksums(folder).items() if k != "handover.json"}
    assert handover.plan.phases[0].trained_parameters == {"added_rows": 20 * 32 * 2}
    assert handover.plan.steps == notes["steps"]
    assert sum(phase.tokens for phase in handover.plan.phases) == notes["tokens"]
    assert sum(phase.target_bytes for phase in handover.plan.phases) == notes["target_bytes"]
    assert handover.model.parameters == notes["parameters"]
    assert handover.model.rows % 64 == 0
    assert handover.model.added_ids == tuple(range(320, handover.model.tokens))
    log = (run.folder / "training.jsonl").read_text().splitlines()
    trained = [record for record in map(json.loads, log) if "learning_rate" in record]
    with (folder / "learning_rates.csv").open() as file:
        rates = list(csv.DictReader(file))
    assert [float(row["body"]) for row in rates] == [row["learning_rate"] for row in trained]
    added = [row["learning_rate_added_rows"] for row in trained]
    assert [float(row["added_rows"]) for row in rates] == added
    phase = handover.plan.phases[1]
    assert [phase.factor(step) for step in range(phase.steps)] == [
        float(row["factor"]) for row in rates if row["phase"] == "2"
    ]


def test_the_same_recipe_gives_the_same_bytes(run, folder, tmp_path):
    """A second hand-over has the same files, handover.json included."""
    hand_over(run, tmp_path / "again", data=FORMS)
    assert checksums(tmp_path / "again") == checksums(folder)


def test_position_ids_keep_documents_apart_as_in_training(run, folder, tmp_path):
    """Positions start at 0 in each document, by default; without the mask there are none."""
    done = Handover.read(folder)
    assert done.plan.document_attention_mask
    (record,) = done.training_data("sequences", 0)
    before = done.model.separators.before_id
    for row in datasets.load_from_disk(folder / record.path):
        positions = document_positions(np.array([row["input_ids"]]), before)[0]
        assert row["position_ids"] == positions.tolist()
    off = {"training.document_attention_mask": False}
    mixed = hand_over(run, tmp_path / "off", run.folder / "recipe.yaml", overrides=off)
    assert not mixed.plan.document_attention_mask
    assert "position_ids" not in mixed.training_data("sequences", 0)[0].columns


@pytest.mark.parametrize("name", ["axolotl", "llama-factory", "megatron"])
def test_a_trainer_that_mixes_documents_says_so(name, run, tmp_path):
    """A mask that a recipe asks for is refused; one that is a default is told as a limit."""
    recipe = run.folder / "recipe.yaml"
    one_phase = {"training.phases": [{"budget": "3 steps", "strategy": "full"}]}
    asked = {"training.document_attention_mask": True, **one_phase}
    with pytest.raises(RecipeError, match=r"attention_mask is true, and .* auto or false"):
        hand_over(run, tmp_path / "asked", recipe, to=name, overrides=asked)
    assert not (tmp_path / "asked").exists()
    done = hand_over(run, tmp_path / "out", recipe, to=name, overrides=one_phase)
    assert done.plan.document_attention_mask
    assert done.limits[0].startswith("attention is not kept within documents: ")
    assert done.limits[0] in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert all("position_ids" not in (one.columns or ()) for one in done.data)


def test_position_ids_are_of_no_use_beside_an_attention_mask():
    """The models of transformers then let a document see the one before it, and with a cache, too.

    Axolotl passes on a mask, and the Trainer of transformers 4 leaves the cache on.
    """
    model = other_model("llama")
    ids = torch.tensor([[1, 2, 3, 1, 4, 5], [1, 6, 7, 1, 4, 5]])
    places = torch.tensor([[0, 1, 2, 0, 1, 2]] * 2)
    with torch.no_grad():
        shared = {"input_ids": ids, "position_ids": places}
        alone = model(**shared, use_cache=False).logits[:, 3:]
        masked = model(**shared, use_cache=False, attention_mask=torch.ones_like(ids)).logits[:, 3:]
        cached = model(**shared, use_cache=True).logits[:, 3:]
    assert torch.equal(alone[0], alone[1])
    for mixed in (masked, cached):
        assert not torch.allclose(mixed[0], mixed[1], atol=1e-3)


@pytest.mark.parametrize("kind", ["llama", "llava", "qwen3_vl"])
def test_the_callback_turns_the_cache_off_where_the_model_reads_it(kind, tmp_path):
    """The language model of a multimodal one has settings of its own."""
    model = load_model(build(kind, tmp_path))
    turn_cache_off(model)
    ids = torch.tensor([[1, 2, 3, 1, 4, 5], [1, 6, 7, 1, 4, 5]])
    with torch.no_grad():
        logits = model(input_ids=ids, position_ids=torch.tensor([[0, 1, 2, 0, 1, 2]] * 2)).logits
    assert torch.equal(logits[0, 3:], logits[1, 3:])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"to": "axolotol"}, "to axolotol: no such engine; did you mean 'axolotl'?"),
        ({"data": "sequence"}, "data sequence: no such form; did you mean 'sequences'?"),
        ({"to": 3}, "to 3: no such engine; known: axolotl, hf"),
        ({"data": 3}, "data: of type int; give a form, or a list of them"),
        ({"data": [3]}, "data: of type list; give a form, or a list of them"),
        ({"store": 3}, "store: of type int; give a path"),
        ({"output": None}, "output: of type NoneType; give a path"),
        ({"overrides": {"seed": 1}}, "a finished run has its settings; change those of"),
    ],
)
def test_what_cannot_be_handed_over_is_refused(arguments, message, run, tmp_path):
    """An error is one line that says what to do, and nothing is written."""
    with pytest.raises(RecipeError, match=message):
        hand_over(run, **{"output": tmp_path / "out", **arguments})
    assert not list(tmp_path.iterdir())


def test_a_folder_with_content_is_not_replaced(run, folder, tmp_path):
    """A folder that is not empty, and a file, are refused; so is a folder that is no run."""
    content = checksums(folder)
    with pytest.raises(StoreError, match="over: is not empty; choose another folder"):
        hand_over(run, folder)
    assert checksums(folder) == content
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="file: is a file; choose another folder"):
        hand_over(run, tmp_path / "file")
    with pytest.raises(StoreError, match="file is a file; choose another folder with output"):
        hand_over(run, tmp_path / "file" / "over")
    with pytest.raises(StoreError, match="inside the run short, which `lingraft adapt` replaces"):
        hand_over(run, run.folder / "over")
    with pytest.raises(StoreError, match="not a finished run"):
        hand_over(run, tmp_path / "out", folder)
    with pytest.raises(StoreError, match="not a hand-over folder"):
        Handover.read(tmp_path)
    newer = json.loads((folder / "handover.json").read_text(encoding="utf-8")) | {"format": 2}
    (tmp_path / "handover.json").write_text(json.dumps(newer), encoding="utf-8")
    with pytest.raises(StoreError, match="a format that this version does not know; install"):
        Handover.read(tmp_path)


def test_a_trainer_that_refuses_a_model_leaves_no_folder(run, tmp_path):
    """A refusal before anything is built, or after the data was written, leaves nothing."""

    def refuse(*_arguments: object) -> EngineFiles:
        msg = "it cannot train this"
        raise RecipeError(msg)

    runtime = Runtime(store=store_of(run))
    early = Engine("x", "X", ("text",), refuse, refusal=lambda _plan: "no phases of rows")
    for engine, message in (
        (early, "--to x: no phases"),
        (Engine("x", "X", ("text",), refuse, refusal=lambda _plan: ""), "it"),
    ):
        with pytest.raises(RecipeError, match=message):
            hand_over_stages(run.recipe, runtime, engine, tmp_path / "out")
        assert list(tmp_path.iterdir()) == []


def test_a_recipe_that_trains_nothing_is_refused(run, tmp_path):
    """There is nothing to hand over to a trainer; the message names the command that fits."""
    with pytest.raises(RecipeError, match=r"trains nothing .* `lingraft extend`"):
        hand_over(
            run,
            tmp_path / "out",
            run.folder / "recipe.yaml",
            overrides={"training": {"phases": []}},
        )


def test_weights_in_bfloat16_are_not_handed_over(run, tmp_path):
    """No configuration would round as lingraft does, so the optimizer is refused."""
    with pytest.raises(RecipeError, match="adamw8bit_bfloat16 cannot be handed over; set adamw"):
        hand_over(
            run,
            tmp_path / "out",
            run.folder / "recipe.yaml",
            overrides={"training": {"optimizer": "adamw8bit_bfloat16", "budget": "1 steps"}},
        )


@pytest.mark.parametrize(
    ("to", "advice"), [("hf", "set adamw or adamw8bit"), ("megatron", "has adamw")]
)
def test_the_optimizer_to_set_is_one_of_the_trainer(to, advice):
    """The refusal of an optimizer names one with which the trainer does not refuse the plan."""
    target = {"language": "hi", "corpus": "hindi.txt"}
    training = {"optimizer": "adamw8bit_bfloat16"}
    recipe = {"name": "x", "model": "m", "target": target, "training": training}
    with pytest.raises(RecipeError, match=advice):
        check_plan(parse_recipe(Tree(recipe)), find_engine(to))


def test_the_command_shows_and_writes_a_hand_over(run, tmp_path, monkeypatch):
    """--dry-run writes nothing; the command says what is there, and how to start."""
    monkeypatch.chdir(tmp_path)
    arguments = ["handover", str(run.folder), "--to", "llama-factory", "-O", "over"]
    missing = CliRunner().invoke(app, [*arguments, "--device", "cuda:99", "--store", "empty"])
    assert "--device cuda:99: this machine has" in str(missing.exception)
    # With all stages stored, nothing is computed, and the device is not asked for.
    arguments += ["--store", str(store_of(run)), "--device", "cuda:99"]
    shown = CliRunner().invoke(app, [*arguments, "--dry-run"])
    assert shown.exit_code == 0
    assert "data/sequences: about" in shown.output
    assert not list(tmp_path.iterdir())
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "handed over  over" in done.output
    assert "different  exact with train.py" in done.output
    assert "data/sequences/train-2" in done.output
    readme = (tmp_path / "over" / "README.md").read_text(encoding="utf-8")
    assert "lingraft receive " in readme
    assert {path.name for path in (tmp_path / "over" / "data").iterdir()} == {"sequences"}


def test_a_trainer_that_cannot_freeze_weights_refuses_a_plan_that_does(run, tmp_path):
    """Before anything is built, the message names the strategy and what to set."""
    for engine in ("megatron", "torchtitan"):
        with pytest.raises(RecipeError, match=f"to {engine}: .* is rows, which freezes"):
            hand_over(run, tmp_path / "out", to=engine)


def test_a_trainer_that_fills_every_sequence_refuses_documents_apart(run):
    """With one document for each sequence, its steps would train on more than the budget."""
    plan = run.recipe.training
    packing = plan.packing.model_copy(update={"layout": "documents"})
    reason = find_engine("megatron").refusal(plan.model_copy(update={"packing": packing}))
    assert reason.endswith("set training.packing.layout: stream")


def test_a_run_whose_stages_changed_is_named(run, tmp_path):
    """If the recipe gives another model today, the hand-over says that it differs from the run."""
    said: list[str] = []
    runtime = Runtime(store=store_of(run))
    hand_over_recipe = partial(hand_over_stages, run.recipe, runtime, find_engine("hf"))
    hand_over_recipe(tmp_path / "a", recorded=recorded_keys(run.folder), log=said.append)
    assert not [line for line in said if OTHER_MODEL in line]
    hand_over_recipe(tmp_path / "b", recorded={"embeddings": "0"}, log=said.append)
    assert [line for line in said if OTHER_MODEL in line]


def test_learned_positions_need_room_for_the_label(folder, tmp_path):
    """A model with a table of positions has none for the further id of a row."""
    gpt2 = ARCHITECTURES["gpt2"].build(tmp_path / "gpt2")
    context, handover = read_config(gpt2)["n_positions"], Handover.read(folder)
    model = replace(handover.model, context=context)
    whole = replace(handover.plan, sequence_length=context)
    with pytest.raises(RecipeError, match=f"set training.packing.block_size: {context - 1}"):
        check_row_length(model, whole, gpt2)
    check_row_length(model, replace(whole, sequence_length=context - 1), gpt2)
    check_row_length(model, whole, folder / "model")  # rotary positions have no end


def test_transformers_trainer_trains_as_our_loop(run, folder, tmp_path):
    """The written script repeats our loop to rounding: every gradient, every rate, all weights."""
    shutil.copytree(folder, tmp_path / "over")
    run_script(tmp_path / "over/train.py")
    theirs = []
    for number in (1, 2):
        states = (tmp_path / f"over/checkpoints-{number}").glob("*/trainer_state.json")
        state = max(states, key=lambda file: step_of(file.parent))
        theirs += [log for log in json.loads(state.read_text())["log_history"] if "loss" in log]
    ours = list(map(json.loads, (run.folder / "training.jsonl").read_text().splitlines()))
    ours = [record for record in ours if "gradient_norm" in record]
    assert len(ours) == len(theirs) == sum(phase.steps for phase in phases_of(run))
    for record, log in zip(ours, theirs, strict=True):
        assert log["grad_norm"] == pytest.approx(record["gradient_norm"], rel=1e-5)
        # The first phase trains the added rows only.
        rate = record["learning_rate"] or record["learning_rate_added_rows"]
        assert log["learning_rate"] == pytest.approx(rate)
    before, trained = load_file(folder / "model/model.safetensors"), {}
    for name, model in (("ours", run.model_path), ("theirs", tmp_path / "over/trained")):
        trained[name] = load_file(model / "model.safetensors")
    for name, tensor in trained["ours"].items():
        assert (tensor - before[name]).abs().max() > 1e-3
        assert (tensor - trained["theirs"][name]).abs().max() < 1e-5
    written = model_text(tmp_path / "over/trained")
    log = json.loads(written.pop("trainer_state.json"))["log_history"]
    assert log[-2]["loss"] == theirs[-1]["loss"]
    assert model_text(folder / "model") == written

    # A script that was stopped continues: without its last checkpoint and an incomplete one.
    *_, last = sorted((tmp_path / "over/checkpoints-2").iterdir(), key=step_of)
    (last / "trainer_state.json").unlink()
    run_script(tmp_path / "over/train.py")
    repeated = load_file(tmp_path / "over/trained/model.safetensors")
    assert all(tensor.equal(repeated[name]) for name, tensor in trained["theirs"].items())


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.partition("-")[2])


def run_script(script: Path) -> None:
    """Run a written script, with a checkpoint every second step."""
    text = re.sub(r'"save_steps": \d+', '"save_steps": 2', script.read_text(encoding="utf-8"))
    script.write_text(text, encoding="utf-8")
    runpy.run_path(str(script))


def model_text(folder: Path) -> dict[str, bytes]:
    """Return the files of a model besides its weights and config.json."""
    files = [file for file in folder.iterdir() if "model.safetensors" not in file.name]
    return {file.name: file.read_bytes() for file in files if file.name != "config.json"}


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_the_callback_refuses_a_trainer_that_differs_from_the_plan(folder, tmp_path):
    """A number of steps, a batch size or a clipping that differs is an error with both values."""
    plan = lingraft.HandoverCallback(folder, phase=2)
    right = {
        "max_steps": plan.phase.steps,
        "max_grad_norm": 1.0,
        "per_device_train_batch_size": plan.phase.sequences_per_step,
        "output_dir": str(tmp_path),
        "use_cpu": True,
    }
    model = AutoModelForCausalLM.from_pretrained(folder / "model")
    for name, value in (("max_steps", 1), ("max_grad_norm", 2.0), ("output_dir", "")):
        batch = 2 if name == "output_dir" else 1
        arguments = TrainingArguments(
            **{**right, name: value or str(tmp_path)}, gradient_accumulation_steps=batch
        )
        with pytest.raises(RecipeError, match=r"the trainer has .*; set "):
            plan.on_init_end(arguments, None, None, model=model)
    arguments = TrainingArguments(**right)
    arguments._n_gpu = 2  # as a machine with two GPUs sets it
    with pytest.raises(RecipeError, match=r"torchrun --nproc-per-node 2, or set CUDA_VISIBLE"):
        plan.on_init_end(arguments, None, None, model=model)
    with pytest.raises(RecipeError, match="has no phase 3"):
        lingraft.HandoverCallback(folder, phase=3)
    arguments = TrainingArguments(**right)
    assert model.config.use_cache
    plan.on_init_end(arguments, None, None, model=model)
    assert not model.config.use_cache, "with a cache, position ids do not keep documents apart"
    with pytest.raises(RecipeError, match=r"is trained in bfloat16, .* with dtype=torch.float32"):
        plan.on_init_end(arguments, None, None, model=model.bfloat16())
    adapted = get_peft_model(deepcopy(model), LoraConfig(target_modules=["q_proj"]))
    with pytest.raises(RecipeError, match=r"has an adapter of PEFT, .* the plain model"):
        plan.on_init_end(arguments, None, None, model=adapted)
    plan.phase = replace(plan.phase, average_steps=4)
    arguments.load_best_model_at_end = True
    with pytest.raises(RecipeError, match=r"would replace the best model; set load_best_model_at"):
        plan.on_init_end(arguments, None, None, model=model)


@pytest.mark.parametrize("variable", ["ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"])
def test_the_callback_refuses_a_model_that_the_launcher_shards(
    variable, folder, tmp_path, monkeypatch
):
    """`accelerate launch` says so by a variable, and not in the arguments of the trainer."""
    plan = lingraft.HandoverCallback(folder)
    arguments = SimpleNamespace(fsdp=None, deepspeed=None)
    monkeypatch.setenv(variable, "true")
    with pytest.raises(RecipeError, match="train without FSDP and DeepSpeed"):
        plan.on_init_end(arguments, None, None, model=None)


@pytest.mark.parametrize("processes", [1, 2, 3, 4])
def test_the_batch_is_divided_among_the_processes(processes, folder, monkeypatch):
    """Wherever the processes divide a step, its passes have all of its sequences, and no others."""
    plan = lingraft.HandoverCallback(folder, phase=2)
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    for own in range(1, 30):
        plan.phase = replace(plan.phase, sequences_per_step=own * processes)
        for at_once in range(1, 12):
            given = plan.batch_settings(at_once)
            size, passes = (
                given["per_device_train_batch_size"],
                given["gradient_accumulation_steps"],
            )
            assert size * passes == own
            assert size == max(one for one in range(1, at_once + 1) if own % one == 0)


def test_llama_factory_trains_a_step_on_several_processes(folder, tmp_path, monkeypatch):
    """Each process reads its part of a step, and one of them writes the tokenizer."""
    shutil.copytree(folder, tmp_path / "over")
    handover = Handover.read(folder)
    phases = tuple(replace(phase, sequences_per_step=24) for phase in handover.plan.phases)
    handover = replace(handover, plan=replace(handover.plan, phases=phases))
    handover.write(tmp_path / "over")
    for name, text in find_engine("llama-factory").configure(handover, folder).files.items():
        (tmp_path / "over" / name).write_text(text, encoding="utf-8")
    given = []
    tuner = SimpleNamespace(run_exp=lambda settings, **_callbacks: given.append(settings))
    for name in ("llamafactory", "llamafactory.train", "llamafactory.train.tuner"):
        monkeypatch.setitem(sys.modules, name, tuner)
    monkeypatch.chdir(tmp_path / "over")
    monkeypatch.setattr(sys, "argv", ["train.py", "llama_factory-2.yaml", "2"])
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in ("1", "0"):
        monkeypatch.setenv("RANK", rank)
        runpy.run_path("train.py")
        assert (tmp_path / "over/trained/tokenizer.json").exists() == (rank == "0")
    for one in given:
        assert one["per_device_train_batch_size"] * one["gradient_accumulation_steps"] == 12


def test_the_plugin_lets_axolotl_divide_a_loss_by_the_tokens_of_its_step(
    folder, tmp_path, monkeypatch
):
    """Axolotl turns that off, which the Trainer of transformers decides by the model."""
    files = find_engine("axolotl").configure(Handover.read(folder), folder).files
    (tmp_path / "handover_plugin.py").write_text(files["handover_plugin.py"], encoding="utf-8")
    base = SimpleNamespace(BasePlugin=object)
    for name in ("axolotl", "axolotl.integrations", "axolotl.integrations.base"):
        monkeypatch.setitem(sys.modules, name, base)
    plugin = runpy.run_path(str(tmp_path / "handover_plugin.py"))["Phase2"]()
    model = other_model("llama")
    trainer = SimpleNamespace(model=model, model_accepts_loss_kwargs=False)
    assert plugin.add_callbacks_post_trainer(None, trainer) == []
    assert trainer.model_accepts_loss_kwargs
    model.accepts_loss_kwargs = False
    plugin.add_callbacks_post_trainer(None, trainer)
    assert not trainer.model_accepts_loss_kwargs


def test_trl_computes_the_loss_as_the_model_does(folder):
    """Its own loss leaves out what a model does after its head, and adds one of the routers."""
    script = find_engine("trl").configure(Handover.read(folder), folder).files["train.py"]
    assert '"loss_type": "nll"' in script
    assert '"router_aux_loss_coef": 0.0' in script


def test_the_loss_of_a_mixture_is_that_of_its_tokens(tmp_path):
    """Where a configuration adds a loss of the routers, the callback leaves it out."""
    model = load_model(build("mixtral", tmp_path))
    ids = torch.tensor([[1, 2, 3, 4]])
    with torch.no_grad():
        alone = model(input_ids=ids, labels=ids).loss
        model.config.output_router_logits = True
        assert model(input_ids=ids, labels=ids).loss > alone
        ignore_router_loss(model)
        assert model(input_ids=ids, labels=ids).loss == alone


@pytest.mark.parametrize("name", ["hf", "trl", "axolotl", "llama-factory"])
def test_what_the_optimizer_needs_is_installed(name, folder):
    """`adamw8bit` is bitsandbytes in every trainer."""
    handover = Handover.read(folder)
    for optimizer, package in (("adamw", "lingraft"), ("adamw8bit", "'lingraft[bits]'")):
        phases = tuple(replace(phase, optimizer=optimizer) for phase in handover.plan.phases)
        with_it = replace(handover, plan=replace(handover.plan, phases=phases))
        install, *_ = find_engine(name).configure(with_it, folder).launch
        assert install.split()[-1] == package


@pytest.mark.parametrize("processes", [1, 2])
def test_the_callback_refuses_another_order_of_the_data(folder, processes):
    """Only a sequential order is that of the plan, also where accelerate divides it by process."""
    rows = [{"input_ids": [1] * length} for length in (3, 1, 2)]
    orders = {
        "sequential": SequentialSampler(rows),
        "random": RandomSampler(rows),
        "group_by_length": LengthGroupedSampler(1, rows),
    }
    for name, order in orders.items():
        plan = lingraft.HandoverCallback(folder, phase=2)
        batches = BatchSampler(order, 1, drop_last=False)
        if processes > 1:
            batches = BatchSamplerShard(batches, processes)
        loader = DataLoader(rows, batch_sampler=batches)
        adamw = torch.optim.AdamW([torch.nn.Parameter(torch.ones(1))], betas=plan.phase.betas)
        begin = partial(
            plan.on_train_begin,
            SimpleNamespace(),
            TrainerState(global_step=0),
            None,
            optimizer=adamw,
            train_dataloader=loader,
        )
        if name == "sequential":
            begin()
            continue
        with pytest.raises(RecipeError, match=r"shuffles the sequences.*sequential"):
            begin()


def test_training_does_not_continue_without_the_state_of_the_optimizer(folder):
    """A checkpoint of save_only_model has no moments, so that its next steps are not the plan's."""
    plan = lingraft.HandoverCallback(folder, phase=2)
    adamw = torch.optim.AdamW([torch.nn.Parameter(torch.ones(1))], betas=plan.phase.betas)
    with pytest.raises(RecipeError, match=r"step 7 has no optimizer state.*save_only_model=False"):
        plan.on_train_begin(None, TrainerState(global_step=7), None, optimizer=adamw)


def test_the_tokenizer_of_the_hand_over_is_restored_with_its_chat_templates(folder, tmp_path):
    """Named chat templates of the hand-over come along; a template that the trainer made goes."""
    handed_over = tmp_path / "handed-over"
    shutil.copytree(folder, handed_over)
    named = "additional_chat_templates/tools.jinja"
    (handed_over / "model" / named).parent.mkdir()
    (handed_over / "model" / named).write_text("{{ tools }}")
    (tmp_path / "trained").mkdir()
    (tmp_path / "trained" / "chat_template.jinja").write_text("of the trainer")
    lingraft.HandoverCallback(handed_over).restore_tokenizer(tmp_path / "trained")
    assert (tmp_path / "trained" / named).read_text() == "{{ tools }}"
    assert not (tmp_path / "trained" / "chat_template.jinja").exists()
    ids = [open_tokenizer(one).family.pieces for one in (folder / "model", tmp_path / "trained")]
    assert ids[0] == ids[1]


def test_an_average_of_weights_continues_from_a_checkpoint(folder, tmp_path):
    """The average of the steps before a stop is in the checkpoint, and its absence is an error."""
    model = AutoModelForCausalLM.from_pretrained(folder / "model")
    plan = lingraft.HandoverCallback(folder, phase=2)
    plan.phase = replace(plan.phase, average_steps=4)
    adamw = torch.optim.AdamW(model.parameters(), betas=plan.phase.betas)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    adamw.step()
    of_trainer = {"optimizer": adamw, "train_dataloader": None, "model": model}
    arguments, state = SimpleNamespace(output_dir=tmp_path), TrainerState(global_step=0)
    plan.on_train_begin(arguments, state, None, **of_trainer)
    state.global_step = 1
    (tmp_path / "checkpoint-1").mkdir()
    plan.on_save(arguments, state, None)
    means = {name: mean.clone() for name, mean in plan._average.means.items()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    plan.on_train_begin(arguments, state, None, **of_trainer)
    assert all(mean.equal(means[name]) for name, mean in plan._average.means.items())
    state.global_step = 2
    with pytest.raises(RecipeError, match=r"weight_average\.safetensors: missing, and without"):
        plan.on_train_begin(arguments, state, None, **of_trainer)


def test_the_result_of_torchtitan_gets_every_file_but_the_weights(folder, tmp_path):
    """The written lines copy named chat templates, too, which are in a folder of the model."""
    over = Path(shutil.copytree(folder, tmp_path / "over"))
    named = over / "model/additional_chat_templates/tools.jinja"
    named.parent.mkdir()
    named.write_text("{{ tools }}")
    lines = find_engine("torchtitan").configure(Handover.read(over), over).launch
    copies = [line for line in lines if line.startswith(("mkdir ", "cp "))]
    for line in copies:
        if line.startswith("cp "):
            saved = (over / line.split()[1]).parent
            saved.mkdir(parents=True)
            (saved / "model.safetensors").write_bytes(b"trained")
    for _ in range(2):
        subprocess.run(["bash", "-euc", "\n".join(copies)], cwd=over, check=True)
    expected = {
        str(path.relative_to(over / "model"))
        for path in (over / "model").rglob("*")
        if path.is_file()
    }
    found = {str(path.relative_to(over / "trained")) for path in (over / "trained").rglob("*.*")}
    assert expected == found
    assert (over / "trained/model.safetensors").read_bytes() == b"trained"


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"model_type": "gpt2"}, "it has no module model.embed_tokens"),
        ({"attention_bias": True}, "attention_bias is true"),
        ({"mlp_bias": True}, "mlp_bias is true"),
        ({"model_type": "granite", "logits_scaling": 8.0}, "logits_scaling is 8"),
        ({"model_type": "granite", "embedding_multiplier": 12.0}, "embedding_multiplier is 12"),
        ({"model_type": "gemma2", "head_dim": 8}, "final_logit_softcapping is 30"),
        ({"model_type": "mistral", "sliding_window": 128}, "sliding_window is 128"),
        ({"model_type": "olmo3", "sliding_window": 128}, "sliding_window is 128"),
    ],
)
def test_torchtitan_is_not_given_a_model_that_it_would_compute_otherwise(
    settings, reason, tmp_path
):
    """Its backend calls layers and head by itself, and drops what the class does besides."""
    config = {"model_type": "llama", "vocab_size": 64, **DENSE_SIZES, **settings}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert torchtitan.why_other_model(tmp_path, 256).startswith(reason)


def test_torchtitan_is_given_models_whose_names_it_reads(folder, tmp_path):
    """A model like Llama is; the files of a mixture name each expert, and its class does not."""
    assert not torchtitan.why_other_model(folder / "model", 256)
    assert torchtitan.why_other_model(build("mixtral", tmp_path), 32).startswith("its files name")
    handover = Handover.read(folder)
    scaled = Path(shutil.copytree(folder, tmp_path / "over"))
    config = json.loads((scaled / "model/config.json").read_text(encoding="utf-8"))
    text = json.dumps({**config, "mlp_bias": True})
    (scaled / "model/config.json").write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError, match=r"--to torchtitan: .*: mlp_bias is true.*; use --to hf"):
        find_engine("torchtitan").configure(handover, scaled)


DENSE_SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 5e5,
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"rope_scaling": {"type": "linear", "factor": 4.0}}, "rope_type linear"),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 4.0}}, "rope_type dynamic"),
        ({"rope_parameters": {**LLAMA3, "low_freq_factor": 2.0}}, "low_freq_factor 2 of"),
        ({"rope_theta": 10000.5}, "rope_theta 10000.5"),
        ({"attention_bias": True}, "attention_bias true"),
        ({"mlp_bias": True}, "mlp_bias true"),
        ({"hidden_act": "gelu"}, "hidden_act gelu"),
        (
            {"model_type": "qwen2", "use_sliding_window": True, "max_window_layers": 1},
            "use_sliding_window true",
        ),
        ({"model_type": "gemma2"}, "gemma2"),
    ],
)
def test_megatron_gets_no_flags_that_leave_something_out(settings, reason):
    """A setting without a flag would be dropped silently: no flags are written, and it is named."""
    config = {"model_type": "llama", **DENSE_SIZES, **settings}
    assert not megatron.architecture_flags(config, tied=True)
    assert megatron.why_no_flags(config).startswith(reason)


def test_megatron_gets_the_flags_of_a_configuration_with_its_defaults():
    """What config.json leaves to transformers, and settings that do not act, are understood."""
    config = {"model_type": "llama", **DENSE_SIZES}
    flags = megatron.architecture_flags(config, tied=False)
    assert (flags["norm-epsilon"], flags["max-position-embeddings"]) == (1e-6, 2048)
    assert (flags["num-query-groups"], flags["kv-channels"], flags["rotary-base"]) == (4, 8, 10_000)
    scaled = megatron.architecture_flags({**config, "rope_parameters": LLAMA3}, tied=False)
    assert (scaled["use-rope-scaling"], scaled["rope-scaling-factor"]) == (True, 32.0)
    mistral = {**config, "model_type": "mistral", "sliding_window": 16}
    # transformers: 16 tokens with the token itself; Megatron-LM: 15 before it.
    assert megatron.architecture_flags(mistral, tied=False)["window-size"] == "15,0"
    qwen = {**config, "model_type": "qwen2", "sliding_window": 16, "use_sliding_window": False}
    assert "window-size" not in megatron.architecture_flags(qwen, tied=False)


def test_megatron_gets_a_tokenizer_whose_pad_is_no_id_of_the_text(folder, tmp_path, monkeypatch):
    """Megatron-LM has no label for PAD and ends documents at EOS: both are roles that text has."""
    handover = Handover.read(folder)
    separators = replace(handover.model.separators, after="<s>", after_id=0)
    handover = replace(handover, model=replace(handover.model, separators=separators))
    written = find_engine("megatron").configure(handover, folder).files
    assert "--tokenizer-model megatron-tokenizer\n" in written["megatron-2.sh"]
    shutil.copytree(folder / "model", tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.save_pretrained(tmp_path / "model")
    (tmp_path / "convert.py").write_text(written["convert.py"], encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["convert.py", "import", "model"])
    bridge = SimpleNamespace(AutoBridge=SimpleNamespace(import_ckpt=lambda *_names: None))
    monkeypatch.setitem(sys.modules, "megatron", SimpleNamespace(bridge=bridge))
    monkeypatch.setitem(sys.modules, "megatron.bridge", bridge)
    runpy.run_path("convert.py")
    found = AutoTokenizer.from_pretrained("megatron-tokenizer")
    assert found.pad_token is None
    assert found.eos_token == "<s>"
    assert found.get_vocab() == tokenizer.get_vocab()


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("axolotl", "max_grad_norm: 0.0"),
        ("llama-factory", "max_grad_norm: 0.0"),
        ("megatron", "clip-grad 0.0"),
        ("torchtitan", "max_grad_norm=None"),
    ],
)
def test_every_trainer_is_told_that_gradients_are_not_clipped(name, setting, folder):
    """`max_grad_norm: null` is written as the trainer spells it, and in words in the README."""
    handover = Handover.read(folder)
    phases = tuple(replace(phase, max_grad_norm=None) for phase in handover.plan.phases)
    handover = replace(handover, plan=replace(handover.plan, phases=phases))
    written = find_engine(name).configure(handover, folder)
    assert any(setting in text for text in written.files.values())
    assert "gradients not clipped" in readme(handover, written)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("megatron", "the warm-up is one step late"),
        ("megatron", "the trained weights are in bfloat16, and those of the source in float32"),
        ("llama-factory", "averages the losses of the forward passes of a step"),
        ("torchtitan", "saves the embeddings alone: train on one"),
    ],
)
def test_limits_name_what_a_trainer_does_otherwise(name, line, folder):
    """What no setting of the trainer changes is a line in the README and on the terminal."""
    handover = Handover.read(folder)
    multimodal = replace(handover.model, tied=True, loads_with="AutoModelForImageTextToText")
    written = find_engine(name).configure(replace(handover, model=multimodal), folder)
    assert any(line in limit for limit in written.limits)


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
@pytest.mark.parametrize("final", [0.0, 0.1, 1.0])
def test_the_scheduler_of_transformers_has_the_rates_of_the_plan(schedule, final, folder):
    """It can be made, and its rates are those of the plan, one step of warm-up later."""
    record = Handover.read(folder).plan.phases[1]
    chosen = SCHEDULES.parse({schedule: {"final_factor": final, "warmup": 3}})
    rates = replace(record.learning_rates, body=1e-3)
    phase = replace(
        record, schedule=chosen.chosen(), learning_rates=rates, steps=20, warmup_steps=3
    )
    settings = schedule_settings(phase)
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(1))], lr=1e-3)
    scheduler = get_scheduler(
        settings["lr_scheduler_type"],
        optimizer,
        num_warmup_steps=settings["warmup_steps"],
        num_training_steps=phase.steps,
        scheduler_specific_kwargs=settings.get("lr_scheduler_kwargs"),
    )
    for step in range(phase.steps):
        late = step < phase.warmup_steps
        expected = step / phase.warmup_steps if late else phase.factor(step)
        assert scheduler.get_last_lr()[0] == pytest.approx(1e-3 * expected, abs=1e-9)
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize("name", ["axolotl", "llama-factory"])
def test_a_trainer_that_would_train_frozen_weights_without_the_callback_says_so(name, folder):
    """Where the plan freezes weights, no setting of the trainer is near to it."""
    written = find_engine(name).configure(Handover.read(folder), folder)
    assert any("those that training.strategy freezes too" in line for line in written.limits)
    assert any("all weights" in text for text in written.files.values())
