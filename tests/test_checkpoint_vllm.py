"""The vLLM checks of a model folder: resized models pass, and each fault is found."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, Gemma3Config, Gemma3ForConditionalGeneration

from lingraft.checkpoint import resize_embeddings
from lingraft.checkpoint.vllm_check import CHECKS, LayoutCheck, check_vllm_layout, vllm_faults
from lingraft.embeddings import INITS
from tests.conftest import ROOT
from tests.models import ARCHITECTURES, extended_tokenizer

GEMMA_3 = {
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_attention_heads": 2,
}
MEAN = INITS.parse("mean")


def resized(kind: str, folder: Path, shards: str | None = None) -> Path:
    """Return a resized model of a kind."""
    base = ARCHITECTURES[kind].build(folder / "base", dtype="bfloat16", shards=shards)
    splice = extended_tokenizer(base, folder / "tokenizer")
    resize_embeddings(
        base,
        folder / "tokenizer",
        splice,
        input_init=MEAN,
        output_init=MEAN,
        output=folder / "model",
    )
    return folder / "model"


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_a_resized_model_has_what_vllm_asks(kind, tmp_path):
    """Resized models of every architecture pass every check, in one file and in shards."""
    for shards in (None, "20KB"):
        found = check_vllm_layout(resized(kind, tmp_path / str(shards), shards))
        assert {one.what for one in found} == set(CHECKS)
        rebuilt = (
            {"tokenizer"} if kind.startswith("qwen2") else set()
        )  # whatever class is named, by transformers 5
        assert {one.what for one in found if one.holds == "no"} == rebuilt
        assert not [
            one for one in found if one.what in {"ids", "files", "data type"} and one.holds != "yes"
        ]


def test_a_size_that_config_json_leaves_to_the_type_is_known(tmp_path):
    """google/gemma-3 states no vocab_size: it is the default of the type, as in transformers."""
    config = Gemma3Config(
        text_config={**GEMMA_3, "num_hidden_layers": 1, "head_dim": 4},
        vision_config={**GEMMA_3, "num_hidden_layers": 1, "image_size": 28, "patch_size": 14},
        mm_tokens_per_image=4,
    )
    Gemma3ForConditionalGeneration(config).save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert written["text_config"].pop("vocab_size") == 262_208
    written.pop("vocab_size", None)
    (tmp_path / "config.json").write_text(json.dumps(written))
    rows = [one for one in check_vllm_layout(tmp_path) if one.what == "rows"]
    assert {one.holds for one in rows} == {"yes"}, rows


def test_a_model_with_code_is_not_called_incomplete(sound, tmp_path):
    """What only its code can say is not checked here, and the reason is said."""
    shutil.copytree(sound, tmp_path / "own")
    set_json("config.json", model_type="own", auto_map={"AutoConfig": "own.Own"})(tmp_path / "own")
    found = {one.what: one for one in check_vllm_layout(tmp_path / "own")}
    assert (found["rows"].holds, found["rows"].found) == ("note", "needs the model's own code")
    assert not any("incomplete" in one.advice for one in found.values())


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    return resized("llama", tmp_path_factory.mktemp("sound"))


def set_json(name: str, **values: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / name
        content = json.loads(path.read_text()) if path.is_file() else {}
        path.write_text(
            json.dumps(
                {key: value for key, value in {**content, **values}.items() if value is not None}
            )
        )

    return change


def set_tensors(change: Callable[[dict[str, torch.Tensor]], None]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        (folder / "model.safetensors").unlink()
        save_file(tensors, folder / "model.safetensors")

    return write


def shorter_head(tensors: dict[str, torch.Tensor]) -> None:
    tensors["lm_head.weight"] = tensors["lm_head.weight"][:-1].clone()


def fewer_rows(folder: Path) -> None:
    def cut(tensors: dict[str, torch.Tensor]) -> None:
        tensors.update(
            {
                name: tensors[name][:320].clone()
                for name in ("model.embed_tokens.weight", "lm_head.weight")
            }
        )

    set_tensors(cut)(folder)
    set_json("config.json", vocab_size=320)(folder)


def more_rows(folder: Path) -> None:
    def fill(tensors: dict[str, torch.Tensor]) -> None:
        for name in ("model.embed_tokens.weight", "lm_head.weight"):
            tensors[name] = torch.cat([tensors[name], tensors[name][:1]])

    set_tensors(fill)(folder)
    set_json("config.json", vocab_size=385)(folder)


def wrong_index(folder: Path) -> None:
    names = load_file(folder / "model.safetensors")
    content = {"weight_map": {name: "model.safetensors" for name in names if "norm" not in name}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(content))


def another_file(folder: Path) -> None:
    save_file({"lm_head.weight": torch.zeros(1)}, folder / "adapter.safetensors")


def shards_of_another_save(folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.save_pretrained(folder, max_shard_size="30KB")
    (folder / "model.safetensors").write_bytes(whole)


def other_class(folder: Path) -> None:
    set_json("tokenizer_config.json", tokenizer_class="GPT2Tokenizer")(folder)


def own_class(folder: Path) -> None:
    other_class(folder)
    set_json("tokenizer_config.json", auto_map={"AutoTokenizer": [None, "tokenizer_lingraft.Own"]})(
        folder
    )


def another_end(folder: Path) -> None:
    for name in ("config.json", "generation_config.json"):
        set_json(name, eos_token_id=3)(folder)


FAULTS: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "no architecture": ("architecture", set_json("config.json", architectures=None), "names none"),
    "architecture, no list": (
        "architecture",
        set_json("config.json", architectures="LlamaForCausalLM"),
        "names none in a list",
    ),
    "end in words": (
        "end of text",
        set_json("generation_config.json", eos_token_id="319"),
        '"319" in generation_config.json',
    ),
    "generation_config.json, no object": (
        "end of text",
        lambda folder: (folder / "generation_config.json").write_text("[319]"),
        "not a JSON object",
    ),
    "setting of another type": ("rows", set_json("config.json", hidden_size="32"), "hidden_size"),
    "missing layer": (
        "weights",
        set_json("config.json", num_hidden_layers=3),
        "model.layers.2.input_layernorm.weight is missing, and 8 more",
    ),
    "other widths": (
        "weights",
        set_json("config.json", intermediate_size=40),
        "mlp.down_proj.weight has the shape [32, 48], not [32, 40]",
    ),
    "own code": (
        "architecture",
        set_json("config.json", auto_map={"AutoModel": "model.py"}),
        "code of its own",
    ),
    "vocab_size": (
        "rows",
        set_json("config.json", vocab_size=500),
        "model.embed_tokens.weight has 384 rows, and config.json asks for 500",
    ),
    "short head": (
        "rows",
        set_tensors(shorter_head),
        "lm_head.weight has 383 rows, and config.json asks for 384",
    ),
    "tied in words": ("head", set_json("config.json", tie_word_embeddings=True), "differ"),
    "no head": (
        "head",
        set_tensors(lambda tensors: tensors.pop("lm_head.weight")),
        "the output embedding",
    ),
    "few rows": ("ids", fewer_rows, "327 ids, 320 rows"),
    "no tokenizer": ("tokenizer", lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer"),
    "type": (
        "data type",
        set_json("config.json", dtype="float16"),
        "BF16, while config.json says float16",
    ),
    "end": (
        "end of text",
        set_json("generation_config.json", eos_token_id=[319, 9000]),
        "9000 in generation_config.json",
    ),
    "index": (
        "files",
        wrong_index,
        "0 tensors not where model.safetensors.index.json says, 5 not in it",
    ),
    "another file": ("files", another_file, "adapter.safetensors next to the weights"),
    "two models": ("files", shards_of_another_save, "model.safetensors and the shards of another"),
    "broken config": (
        "rows",
        lambda folder: (folder / "config.json").write_text("{"),
        "config.json",
    ),
}


def found_in(
    sound: Path, change: Callable[[Path], None], what: str, folder: Path
) -> list[LayoutCheck]:
    folder.mkdir()
    for file in sound.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    change(folder)
    return [one for one in check_vllm_layout(folder) if one.what == what]


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found(name, sound, tmp_path):
    """Each fault is found, with what is there and what to do."""
    what, change, words = FAULTS[name]
    found = [one for one in found_in(sound, change, what, tmp_path / "m") if one.holds == "no"]
    assert any(words in one.found for one in found), found
    assert all(one.advice for one in found)
    assert any(what in line for line in vllm_faults(tmp_path / "m"))


NOTES: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "padding": ("rows", more_rows, "385, not a multiple of 64"),
    "no template": ("chat template", set_json("config.json"), "none"),
    "other end": ("end of text", another_end, "the tokenizer's own is 319"),
    "own class": ("tokenizer", own_class, "other ids for"),
}


@pytest.mark.parametrize("name", NOTES)
def test_what_is_no_fault_is_a_note(name, sound, tmp_path):
    """Padded rows, a missing chat template, another end token and an own class are notes."""
    what, change, words = NOTES[name]
    found = found_in(sound, change, what, tmp_path / "m")
    assert any(one.holds == "note" and words in one.found for one in found), found
    assert vllm_faults(tmp_path / "m") == []


def test_a_class_that_cuts_otherwise_is_found(sound, tmp_path):
    """A class that builds another pre-tokenizer is found by comparing ids with AutoTokenizer."""
    found = found_in(sound, other_class, "tokenizer", tmp_path / "m")
    assert [one.holds for one in found] == ["no"]


def test_the_doctor_looks_at_a_model(sound, tmp_path):
    """`lingraft doctor --model` lists the vLLM checks; its exit code is 2 for a fault."""
    from typer.testing import CliRunner

    from lingraft.cli import app

    answer = CliRunner().invoke(app, ["doctor", "--model", str(sound), "--json"])
    assert answer.exit_code == 0
    both = CliRunner().invoke(app, ["doctor", str(sound), "--verify"])
    assert "leave out the model or --verify" in str(both.exception)
    assert {one["what"] for one in json.loads(answer.stdout)} == set(CHECKS)
    found_in(sound, set_json("config.json", vocab_size=500), "rows", tmp_path / "m")
    assert CliRunner().invoke(app, ["doctor", "--model", str(tmp_path / "m")]).exit_code == 2


def test_the_page_has_the_names_of_the_checks():
    """docs/serving.md lists every check under the name that `lingraft doctor` prints."""
    page = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    assert [name for name in CHECKS if f"\n| {name} |" not in page] == []
