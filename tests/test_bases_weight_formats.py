"""Weight formats to which rows cannot be added are refused, by `adapt` and by `extend`."""

from __future__ import annotations

import json
import runpy
import shlex
import shutil
from pathlib import Path

import pytest
import torch

from lingraft.bases import parse_model
from lingraft.bases.weight_formats import check_weight_format
from lingraft.errors import LingraftError, ModelError
from lingraft.pipeline import extend, plan
from lingraft.recipe import Runtime, parse_recipe
from lingraft.recipe.tree import Tree

METHODS = ("bitsandbytes", "gptq", "awq", "compressed-tensors", "mlx")


@pytest.fixture
def model(tiny_model, tmp_path) -> Path:
    """Return a copy of the tiny model."""
    folder = tmp_path / "base"
    shutil.copytree(tiny_model, folder)
    return folder


def pickle_only(folder: Path) -> Path:
    from safetensors.torch import load_file

    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    return folder


def gguf_only(folder: Path) -> Path:
    (folder / "model.safetensors").unlink()
    (folder / "model-Q8_0.gguf").write_bytes(b"GGUF")
    return folder


def gguf_file(folder: Path) -> Path:
    return gguf_only(folder) / "model-Q8_0.gguf"


def adapter(folder: Path) -> Path:
    (folder / "config.json").unlink()
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(
        json.dumps({"base_model_name_or_path": "owner/base"})
    )
    return folder


def other_framework(folder: Path) -> Path:
    (folder / "model.safetensors").rename(folder / "tf_model.h5")
    return folder


def shards_missing(folder: Path) -> Path:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text("{}")
    return folder


def quantised(method: str):
    def change(folder: Path) -> Path:
        config = json.loads((folder / "config.json").read_text())
        stated = (
            {"quantization": {"bits": 4}}
            if method == "mlx"
            else {"quantization_config": {"quant_method": method}}
        )
        config.update(stated)
        (folder / "config.json").write_text(json.dumps(config))
        return folder

    return change


UNREADABLE = [
    (pickle_only, "pytorch_model.bin", "save_pretrained"),
    (gguf_only, "Q8_0.gguf", "gguf_file="),
    (gguf_file, "Q8_0.gguf", "gguf_file="),
    (adapter, "an adapter of owner/base", "merge_and_unload"),
    (other_framework, "tf_model.h5", "save them as such"),
    (shards_missing, "index.json", "fetch the model again"),
    *((quantised(method), f"quantised ({method})", "dequantize") for method in METHODS),
]
NAMES = ["pickle", "gguf", "gguf file", "adapter", "TensorFlow", "index without shards", *METHODS]


@pytest.mark.parametrize("case", UNREADABLE, ids=NAMES)
def test_what_rows_cannot_be_added_to_is_refused_at_once(model, tmp_path, hindi_file, case):
    """`adapt` and `extend` give the same message, with the reason and a command."""
    change, what, command = case
    named = change(model)
    recipe = parse_recipe(
        Tree(
            {
                "name": "x",
                "model": str(named),
                "vocabulary": {"size": 10},
                "target": {"language": "hi", "corpus": str(hindi_file)},
            }
        )
    )
    runtime = Runtime(runs=tmp_path / "runs", store=tmp_path / "store", device="cpu")
    said = []
    for use in (
        lambda: extend(recipe, runtime, tmp_path / "out", log=said.append),
        lambda: plan(recipe, runtime),
    ):
        with pytest.raises(LingraftError) as caught:
            use()
        said.append(str(caught.value))
    assert said[0] == said[1]
    assert what in said[0]
    assert "{" not in said[0]
    assert command in said[0]
    assert "\n" not in said[0]
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "store" / "answers").exists()


def test_what_training_leaves_behind_is_no_model(model):
    """A folder with a tokenizer and files such as optimizer.pt has no weights, and passes."""
    (model / "model.safetensors").unlink()
    for name in ("training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state_0.pth"):
        (model / name).write_bytes(b"")
    check_weight_format(model)


def test_an_adapter_next_to_a_model_is_not_left_out_silently(model):
    """A folder with both is refused: transformers would load the adapter and the model."""
    (model / "adapter_config.json").write_text("{}")
    (model / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match=r"holds a model \(model.safetensors\) and an adapter"):
        parse_model(str(model)).identity()


def test_the_card_says_what_a_quantised_model_was_made_from(model):
    """`base_model` of README.md is what the refusal points to."""
    quantised("quanto")(model)
    (model / "README.md").write_text("---\nbase_model:\n- owner/unquantised\n---\n# A model\n")
    with pytest.raises(ModelError, match=r"the model that was quantised \(owner/unquantised\)$"):
        parse_model(str(model)).identity()


def code_in(message: str) -> str:
    """Return the Python code of the command in a message, as a shell passes it to Python."""
    return shlex.split(message[message.index("python -c ") :])[2]


def merged_adapter(folder: Path) -> Path:
    """Write an adapter of a model next to it."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    output = folder.with_name("adapter")
    settings = LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    get_peft_model(AutoModelForCausalLM.from_pretrained(folder), settings).save_pretrained(output)
    return output


def in_eight_bits(folder: Path) -> Path:
    """Quantise a model with bitsandbytes, in place."""
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    model = AutoModelForCausalLM.from_pretrained(
        folder, quantization_config=BitsAndBytesConfig(load_in_8bit=True)
    )
    model.save_pretrained(folder)
    return folder


@pytest.mark.filterwarnings(
    "ignore::FutureWarning"
)  # PEFT asks a model for what has another name since
@pytest.mark.parametrize(
    ("change", "ending"),
    [(pickle_only, ""), (merged_adapter, "-merged"), (in_eight_bits, "-dequantized")],
    ids=["pickle", "adapter", "bitsandbytes"],
)
def test_the_commands_do_what_they_say(model, tmp_path, change, ending):
    """Run as it is printed, the command of a refusal leaves a folder that is a base."""
    pytest.importorskip(
        "peft"
        if change is merged_adapter
        else "bitsandbytes"
        if change is in_eight_bits
        else "torch"
    )
    folder = change(model)
    with pytest.raises(ModelError) as caught:
        parse_model(str(folder)).identity()
    script = tmp_path / "command.py"
    script.write_text(code_in(str(caught.value)))
    runpy.run_path(str(script))
    converted = folder.with_name(folder.name + ending)
    assert "model.safetensors" in parse_model(str(converted)).identity()["files"]
    assert (converted / "tokenizer.json").is_file()


ASK_ALL = """
import json, sys
from pathlib import Path
from lingraft.bases import BASES, BuildContext
from lingraft.errors import ModelError
from lingraft.store import Draft
answers = {}
for name in sys.argv[2:]:
    draft = Draft(Path(sys.argv[1]) / name)
    draft.folder.mkdir()
    try:
        BASES.parse({"hub": {"id": f"owner/{name}"}}).materialise(BuildContext(draft, draft.folder))
    except ModelError as error:
        answers[name] = str(error)
print(json.dumps(answers))
"""


def test_a_hub_refuses_before_weights_are_fetched(tiny_model, hub_commands, tmp_path):
    """A hub model is refused by its JSON files or file names, before weights are fetched."""
    changes = {"adapter": adapter, "quantised": quantised("gptq"), "pickled": pickle_only}
    for name, change in changes.items():
        folder = tmp_path / "served" / "models" / "owner" / name
        shutil.copytree(tiny_model, folder)
        change(folder)
    with hub_commands.serve(tmp_path / "served") as hub:
        command = ["-c", ASK_ALL, tmp_path, *changes]
        done = hub_commands.ask(*command, home=tmp_path / "home", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout.splitlines()[-1])
    assert answers["adapter"].startswith("owner/adapter: an adapter of owner/base")
    assert "owner/quantised: its weights are quantised (gptq)" in answers["quantised"]
    assert "owner/pickled: only pickled weights (pytorch_model.bin)" in answers["pickled"]
    assert not any("model.safetensors" in request or ".bin" in request for request in hub.requests)
