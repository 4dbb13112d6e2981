"""Checkpoints that come back from other engines: every fault is found, repaired or refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from lingraft.checkpoint.safetensors_files import Checkpoint
from lingraft.errors import ModelError
from lingraft.splice import identity_splice
from lingraft.trainers.returned_configs import compare_configs
from lingraft.trainers.returned_faults import FAULTS, REPORTED, Finding
from lingraft.trainers.returned_folder import check_format
from lingraft.trainers.returned_model import check_returned, write_received
from tests.returned_checkpoints import (
    BREAKS,
    EMBEDDING,
    HEAD,
    WEIGHTS,
    HandedOver,
    edit,
    hand_over,
)


@pytest.fixture(scope="module")
def handed(tmp_path_factory: pytest.TempPathFactory) -> HandedOver:
    """A tied model that was handed over, and trained."""
    return hand_over(tmp_path_factory.mktemp("handed"))


def _cases() -> Iterator[object]:
    for name, breaks in BREAKS.items():
        for break_files, outcome in breaks:
            yield pytest.param(
                name, break_files, outcome, id=f"{name}-{break_files.__name__.strip('_')}"
            )


@pytest.mark.parametrize(("name", "break_files", "outcome"), list(_cases()))
def test_a_fault_is_found_with_its_outcome_and_a_repaired_model_has_it_no_more(
    handed: HandedOver,
    tmp_path: Path,
    name: str,
    break_files: Callable[[Path, HandedOver], None],
    outcome: str,
) -> None:
    """A fault is found; refused, or the result is the hand-over with the trained weights."""
    folder = tmp_path / "returned"
    shutil.copytree(handed.trained, folder)
    break_files(folder, handed)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    returned = check_returned(folder, handed.extended, handed.splice)

    outcomes = {finding.name: finding.outcome for finding in returned.findings}
    assert outcomes.get(name) == outcome, outcomes
    if outcome == "refused":
        with pytest.raises(ModelError, match=r"not received: [^(]+\("):
            returned.check()
        return
    returned.check()
    write_received(returned, tmp_path / "model")
    assert before == {path.name: path.read_bytes() for path in folder.iterdir()}
    _assert_as_handed_over(handed, tmp_path / "model")


def _assert_as_handed_over(handed: HandedOver, model: Path) -> None:
    """A received model has the rows, the tokenizer and the settings of the hand-over."""
    assert Checkpoint.open(model).tensors[EMBEDDING].shape == (384, 32)
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        assert (model / name).read_bytes() == (handed.extended / name).read_bytes()
    config, expected = (
        json.loads((folder / "config.json").read_text(encoding="utf-8"))
        for folder in (model, handed.extended)
    )
    assert config["tie_word_embeddings"] is (HEAD not in Checkpoint.open(model).tensors)
    for name in ("dtype", "tie_word_embeddings"):
        config.pop(name), expected.pop(name)
    assert config == expected


def test_a_clean_checkpoint_has_no_findings(handed: HandedOver, tmp_path: Path) -> None:
    """What save_pretrained wrote after training has no finding, and its weights are kept."""
    returned = check_returned(handed.trained, handed.extended, handed.splice)
    assert not returned.findings
    write_received(returned, tmp_path / "model")
    expected = load_file(handed.trained / WEIGHTS)
    for name, tensor in load_file(tmp_path / "model" / WEIGHTS).items():
        assert torch.equal(tensor, expected[name])


def test_settings_that_no_code_reads_make_no_other_model(
    handed: HandedOver, tmp_path: Path
) -> None:
    """Engines write settings of their own, and other releases those of their own code."""
    folder = tmp_path / "returned"
    shutil.copytree(handed.trained, folder)
    edit(folder / "config.json", unsloth_version="2026.1", do_sample=True)
    assert not check_returned(folder, handed.extended, handed.splice).findings
    edit(folder / "config.json", head_dim=4)
    (finding,) = check_returned(folder, handed.extended, handed.splice).findings
    assert finding.outcome == "refused"
    assert "head_dim" in finding.what


FUYU = {
    "text_config": {
        "model_type": "persimmon",
        "hidden_size": 256,
        "num_hidden_layers": 2,
        "rope_theta": 25000.0,
        "partial_rotary_factor": 0.5,
    }
}
FUYU_TEXT = {
    "hidden_size": 256,
    "intermediate_size": 16384,
    "num_attention_heads": 64,
    "hidden_act": "relu2",
    "layer_norm_eps": 1e-5,
    "qk_layernorm": True,
    "rope_theta": 25000.0,
    "partial_rotary_factor": 0.5,
}
"""Settings of its language model that transformers 4 writes for the whole model, too."""


@pytest.mark.parametrize(
    ("kind", "handed_over", "returned"),
    [
        ("lfm2", {"full_attn_idxs": [1]}, {}),
        ("modernbert-decoder", {}, {"global_attn_every_n_layers": 3, "reference_compile": False}),
        ("deepseek_v2", {}, {"aux_loss_alpha": 0.001, "seq_aux": True}),
        ("granitemoe", {}, {"position_embedding_type": "rope"}),
        ("emu3", {}, {"text_config": {"attention_bias": False, "mlp_bias": False}}),
        ("blt", {}, {"encoder_config": {"head_dim": 64}}),
        ("fuyu", FUYU, FUYU | FUYU_TEXT),
    ],
)
def test_settings_of_transformers_4_make_no_other_model(
    kind: str, handed_over: dict[str, object], returned: dict[str, object], tmp_path: Path
) -> None:
    """It writes settings that transformers 5 no longer has, and leaves out others."""
    assert not _differing_settings(kind, handed_over, returned, tmp_path)


@pytest.mark.parametrize(
    ("kind", "handed_over", "returned", "named"),
    [
        ("emu3", {}, {"text_config": {"attention_bias": True}}, "attention_bias False became True"),
        ("blt", {}, {"encoder_config": {"head_dim": 32}}, "head_dim 64 became 32"),
        ("fuyu", FUYU, {**FUYU, "hidden_act": "silu"}, "hidden_act relu2 became silu"),
    ],
)
def test_other_values_of_settings_that_were_left_out_make_another_model(
    kind: str,
    handed_over: dict[str, object],
    returned: dict[str, object],
    named: str,
    tmp_path: Path,
) -> None:
    """A setting that one side leaves out is compared with what is computed without it."""
    (finding,) = _differing_settings(kind, handed_over, returned, tmp_path)
    assert finding.outcome == "refused"
    assert named in finding.what


def _differing_settings(
    kind: str, handed_over: dict[str, object], returned: dict[str, object], folder: Path
) -> list[Finding]:
    """Write both config.json and compare them."""
    types = {"lfm2": ["conv", "full_attention"], "modernbert-decoder": ["full_attention"] * 2}
    sizes = {"num_hidden_layers": 2, **({"layer_types": types[kind]} if kind in types else {})}
    for name, settings in (("extended", handed_over), ("returned", returned)):
        content = {"model_type": kind, **sizes, **settings}
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps(content), encoding="utf-8")
    folders = folder / "returned", folder / "extended"
    weights = Checkpoint(folders[0], {}, None)
    return list(compare_configs(*folders, identity_splice(2), weights, "none"))


def test_names_of_a_publication_and_of_transformers_are_the_same_tensors(tmp_path: Path) -> None:
    """GPT-2 is published without the prefix with which transformers saves it."""

    def publish(folder: Path) -> None:
        names = load_file(folder / WEIGHTS)
        plain = {name.removeprefix("transformer."): tensor for name, tensor in names.items()}
        save_file(plain, folder / WEIGHTS, {"format": "pt"})

    handed = hand_over(tmp_path, "gpt2")
    publish(handed.extended)
    returned = check_returned(handed.trained, handed.extended, handed.splice)
    assert not returned.findings
    assert returned.weights.renamed["transformer.wte.weight"] == "wte.weight"
    write_received(returned, tmp_path / "received")


def test_each_of_the_reported_faults_has_a_fixture() -> None:
    """The 14 faults of issue trackers all have a checkpoint that shows them."""
    assert {*list(FAULTS)[:REPORTED]} - {*BREAKS} == {"adapter"}
    assert {*FAULTS} - {*BREAKS} == {"adapter", "frozen part changed"}


def test_a_body_that_changed_under_frozen_weights_is_named(handed: HandedOver) -> None:
    """Where the recipe trains added rows only, changed base rows and tensors are counted."""
    returned = check_returned(
        handed.trained, handed.extended, handed.splice, frozen="body and base rows"
    )
    rows, body = returned.findings
    assert {rows.name, body.name} == {"frozen part changed"}
    assert rows.what == "320 of 320 rows of the base changed"
    assert body.what.startswith("19 of 19 tensors")


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (None, "an adapter, not a model .*merge it, then receive .*merge_and_unload"),
        (320, r"320 embedding rows, while .* has 384 \(adapter before the resize\)"),
    ],
)
def test_an_adapter_is_refused_with_the_call_that_merges_it(
    handed: HandedOver, tmp_path: Path, rows: int | None, expected: str
) -> None:
    """An adapter names its merging; one of the model before the resize cannot be merged."""
    (tmp_path / "adapter_config.json").write_text("{}", encoding="utf-8")
    tensors = {"base_model.model.model.layers.0.q_proj.lora_A.weight": torch.zeros(4, 32)}
    if rows:
        tensors["base_model.model.model.embed_tokens.weight"] = torch.zeros(rows, 32)
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    with pytest.raises(ModelError, match=expected):
        check_format(tmp_path, handed.extended)


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("iter_0000100/mp_rank_00/model_optim_rng.pt", "Megatron, .*AutoBridge"),
        ("pytorch_model_fsdp_0/__0_0.distcp", "FSDP, .*accelerate merge-weights"),
        ("global_step10/mp_rank_00_model_states.pt", "DeepSpeed, .*zero_to_fp32.py"),
        ("step-100/__0_0.distcp", "torchtitan.*convert_to_hf.py"),
        (
            "checkpoint-200/config.json",
            "holds 1 checkpoint of .* name one, such as .*checkpoint-200",
        ),
        ("pytorch_model.bin", "only pickled weights .*save_pretrained"),
        ("notes.txt", r"no weights; expected \*\.safetensors"),
    ],
)
def test_other_formats_are_refused_with_what_converts_them(
    tmp_path: Path, file: str, expected: str
) -> None:
    """A checkpoint of an engine is named, with the call that makes a Hugging Face one of it."""
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text("", encoding="utf-8")
    with pytest.raises(ModelError, match=expected):
        check_format(tmp_path, Path("handover/model"))


def test_a_missing_shard_is_named(handed: HandedOver, tmp_path: Path) -> None:
    """Shards without an index are received only if all of them are there."""
    shutil.copytree(handed.trained, tmp_path / "returned")
    weights = tmp_path / "returned" / WEIGHTS
    weights.rename(weights.with_name("model-00001-of-00003.safetensors"))
    shutil.copyfile(
        weights.with_name("model-00001-of-00003.safetensors"),
        weights.with_name("model-00002-of-00003.safetensors"),
    )
    with pytest.raises(ModelError, match="shard 3 of 3 is missing"):
        check_returned(tmp_path / "returned", handed.extended, handed.splice)


def test_a_whole_model_next_to_shards_is_refused(handed: HandedOver, tmp_path: Path) -> None:
    """Shards of one save and the file of another are two models, of which one was trained."""
    folder = tmp_path / "returned"
    shutil.copytree(handed.trained, folder)
    AutoModelForCausalLM.from_pretrained(folder).save_pretrained(folder, max_shard_size="30KB")
    shutil.copyfile(handed.extended / WEIGHTS, folder / WEIGHTS)
    with pytest.raises(ModelError, match=r"two models, .*only the first; remove the one"):
        check_returned(folder, handed.extended, handed.splice)


@pytest.mark.parametrize("content", ["{", "[]"])
@pytest.mark.parametrize("name", ["config.json", "generation_config.json"])
def test_a_damaged_configuration_is_an_error_with_its_file(
    handed: HandedOver, tmp_path: Path, name: str, content: str
) -> None:
    """A configuration that was cut while it was written is named, and what to do."""
    folder = tmp_path / "returned"
    shutil.copytree(handed.trained, folder)
    (folder / name).write_text(content, encoding="utf-8")
    with pytest.raises(ModelError, match=f"/{name}: .*; "):
        check_format(folder, handed.extended)


def test_a_finding_is_plain_json(handed: HandedOver) -> None:
    """A finding carries its cause and cure, for programs and reports."""
    returned = check_returned(handed.extended, handed.extended, handed.splice)
    (finding,) = returned.findings
    assert json.loads(json.dumps(finding.as_json))["cause"] == FAULTS["nothing trained"].cause
