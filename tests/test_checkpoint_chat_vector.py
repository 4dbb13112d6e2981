"""A chat vector: what an instruct model has beyond its base, added to the adapted base."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lingraft import pipeline
from lingraft.checkpoint.chat_vector import add_chat_vector
from lingraft.errors import ModelError
from lingraft.recipe import Recipe, Runtime, parse_recipe
from lingraft.recipe.tree import Tree
from lingraft.splice import AddedToken, Splice, identity_splice
from lingraft.store import Store
from lingraft.tokenizer import open_tokenizer
from tests.conftest import make_tiny_model
from tests.tiny_recipes import quick_evaluation, quick_training, tiny_recipe

SPECIAL = (318, 319)


def changed(source: Path, target: Path, by: float, rows: int | None = None) -> Path:
    """Copy a model, adding exact multiples of `by` to every number and rows to the embeddings."""
    shutil.copytree(source, target)
    tensors = load_file(target / "model.safetensors")
    for number, (name, tensor) in enumerate(sorted(tensors.items())):
        moved = torch.round(tensor * 64) / 64 + by * (number + 1)
        if rows and ("embed" in name or "lm_head" in name):
            moved = torch.cat([moved, torch.full((rows, moved.shape[1]), 0.25)])
        tensors[name] = moved
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    return target


@pytest.fixture(params=[False, True], ids=["untied", "tied"])
def models(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Path]:
    """Return a base, an instruct model made from it, and the base adapted with two more rows."""
    (tmp_path / "tiny").mkdir()
    make_tiny_model(tmp_path / "tiny", tied=request.param)
    base = changed(tmp_path / "tiny", tmp_path / "base", 0.0)
    instruct = changed(base, tmp_path / "instruct", 0.5)
    (instruct / "chat_template.jinja").write_text("{{ messages }}", encoding="utf-8")
    adapted = changed(base, tmp_path / "adapted", 2.0, rows=2)
    config = json.loads((adapted / "config.json").read_text())
    (adapted / "config.json").write_text(json.dumps({**config, "vocab_size": 322}))
    return {"adapted": adapted, "base": base, "instruct": instruct}


SPLICE = identity_splice(320, [AddedToken(320, b"ab", (0, 1)), AddedToken(321, b"cd", (2, 3))])


@pytest.mark.parametrize("weight", [1.0, 0.5])
def test_the_difference_is_added_exactly(
    models: dict[str, Path], tmp_path: Path, weight: float
) -> None:
    """Shared weights are adapted + weight * (instruct - base); added rows do not change."""
    notes = add_chat_vector(**models, splice=SPLICE, weight=weight, output=tmp_path / "out")
    adapted, base, instruct, result = (
        load_file(folder / "model.safetensors") for folder in (*models.values(), tmp_path / "out")
    )
    assert result.keys() == adapted.keys()
    for name, tensor in result.items():
        expected = adapted[name].clone()
        if "embed" in name or "lm_head" in name:
            expected[:320] += weight * (instruct[name] - base[name])
            expected[list(SPECIAL)] = instruct[name][list(SPECIAL)]
        else:
            expected += weight * (instruct[name] - base[name])
        assert torch.equal(tensor, expected), name
    assert notes["special tokens copied"] == ["<s>", "</s>"]
    assert (tmp_path / "out" / "chat_template.jinja").read_text() == "{{ messages }}"


def test_rows_follow_the_splice(models: dict[str, Path], tmp_path: Path) -> None:
    """Where ids move, each kept row gets the difference of the source row that it came from."""
    kept = {0: 1, 1: 0} | {one: one for one in range(2, 320)}
    splice = Splice(320, kept, SPLICE.added)
    add_chat_vector(**models, splice=splice, weight=1.0, output=tmp_path / "out")
    name = "model.embed_tokens.weight"
    adapted, base, instruct, result = (
        load_file(folder / "model.safetensors")[name]
        for folder in (*models.values(), tmp_path / "out")
    )
    assert torch.equal(result[0], adapted[0] + instruct[1] - base[1])


def test_an_instruct_model_of_another_base_is_refused(
    models: dict[str, Path], tmp_path: Path
) -> None:
    """Other shapes or tokens are an error that names the tensor or token; nothing is written."""
    tensors = load_file(models["instruct"] / "model.safetensors")
    save_file(
        {**tensors, "model.norm.weight": torch.ones(31)}, models["instruct"] / "model.safetensors"
    )
    with pytest.raises(
        ModelError, match=r"model.norm.weight has the shape \(31,\), the adapted model's \(32,\)"
    ):
        add_chat_vector(**models, splice=SPLICE, weight=1.0, output=tmp_path / "out")
    path = models["instruct"] / "tokenizer.json"
    data = json.loads(path.read_text())
    data["added_tokens"].append({**data["added_tokens"][-1], "id": 320, "content": "<|turn|>"})
    path.write_text(json.dumps(data))
    with pytest.raises(ModelError, match=r"special tokens that the base .* lacks \('<\|turn\|>'\)"):
        add_chat_vector(**models, splice=SPLICE, weight=1.0, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("owner", ["adapted", "instruct"])
def test_named_chat_templates_are_those_of_the_default_one(
    models: dict[str, Path], tmp_path: Path, owner: str
) -> None:
    """The instruct model's templates replace all of the base; without any, those of the base stay.

    A template of one model would otherwise be rendered with the special tokens of the other.
    """
    for kind in ("adapted", "instruct"):
        named = models[kind] / "additional_chat_templates" / f"{kind}.jinja"
        named.parent.mkdir()
        named.write_text("{{ tools }}", encoding="utf-8")
    if owner == "adapted":
        (models["instruct"] / "chat_template.jinja").unlink()
        shutil.rmtree(models["instruct"] / "additional_chat_templates")
    add_chat_vector(**models, splice=SPLICE, weight=1.0, output=tmp_path / "out")
    found = [path.stem for path in (tmp_path / "out").glob("additional_chat_templates/*")]
    assert found == [owner]


@pytest.mark.parametrize("has_decoder", [False, True])
def test_the_result_reads_chats_as_the_instruct_model_does(
    models: dict[str, Path], tmp_path: Path, has_decoder: bool
) -> None:
    """A reserved token that the instruct model names, its template and its EOS are those of it.

    transformers reads the same ids and the same chat from both, whichever files hold the settings.
    """
    from transformers import AutoTokenizer

    def settings(folder: Path, name: str, **values: object) -> None:
        path = folder / name
        known = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(known | values))

    template = "{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}"
    for folder in models.values():
        name = "<|im_end|>" if folder == models["instruct"] else "<|reserved_0|>"
        (folder / "chat_template.jinja").unlink(missing_ok=True)
        data = json.loads((folder / "tokenizer.json").read_text())
        entry = next(token for token in data["added_tokens"] if token["id"] == SPECIAL[1])
        entry["content"] = name
        data["model"]["vocab"] = {
            name if number == SPECIAL[1] else piece: number
            for piece, number in data["model"]["vocab"].items()
        }
        (folder / "tokenizer.json").write_text(json.dumps(data))
        lists = {"extra_special_tokens": [name]}
        settings(folder, "tokenizer_config.json", eos_token=name, **lists)
        if has_decoder:
            decoder = {str(token["id"]): token for token in data["added_tokens"]}
            settings(folder, "tokenizer_config.json", added_tokens_decoder=decoder)
        else:
            settings(folder, "special_tokens_map.json", eos_token=name)
    settings(models["instruct"], "tokenizer_config.json", chat_template=template)
    (models["adapted"] / "chat_template.jinja").write_text("of the base")
    add_chat_vector(**models, splice=SPLICE, weight=1.0, output=tmp_path / "out")
    made, expected = (
        AutoTokenizer.from_pretrained(folder) for folder in (tmp_path / "out", models["instruct"])
    )
    chat = [{"role": "user", "content": "ab"}]
    assert made.eos_token_id == expected.eos_token_id == SPECIAL[1]
    assert "<|reserved_0|>" not in made.get_vocab()
    assert made.apply_chat_template(chat) == expected.apply_chat_template(chat)


def test_a_recipe_ends_with_the_chat_vector(
    tiny_model: Path, hindi_file: Path, tmp_path: Path
) -> None:
    """With `chat_vector` in a recipe, the run's model has the difference and is measured."""
    instruct = changed(tiny_model, tmp_path / "instruct", 1 / 64)
    # It has a name of its own for a special token of the base.
    path = instruct / "tokenizer.json"
    data = json.loads(path.read_text())
    entry = next(token for token in data["added_tokens"] if token["id"] == SPECIAL[0])
    vocab = data["model"]["vocab"]
    if entry["content"] in vocab:
        vocab["<|turn|>"] = vocab.pop(entry["content"])
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (instruct / name).exists():
            text = (instruct / name).read_text()
            (instruct / name).write_text(text.replace(f'"{entry["content"]}"', '"<|turn|>"'))
    entry["content"] = "<|turn|>"
    path.write_text(json.dumps(data))
    values = tiny_recipe(
        tiny_model,
        target={"language": "hi", "corpus": str(hindi_file)},
        vocabulary={"size": 5},
        training=quick_training(2, batch_tokens=64),
        chat_vector={"instruct": str(instruct), "weight": 0.5},
        evaluation=quick_evaluation(300),
    )
    recipe = parse_recipe(Tree(values, {}))
    assert isinstance(recipe, Recipe)
    runtime = Runtime(tmp_path / "runs", device="cpu")
    assert "chat vector" in [row.title for row in pipeline.plan(recipe, runtime)]
    run = pipeline.run(recipe, runtime, write_report=lambda _: None)
    graph = pipeline.build_graph(recipe)
    assert graph.training is not None
    answer = Store(runtime.store).folder(graph.training.stage)
    trained = load_file(answer / "model" / "model.safetensors")
    assert open_tokenizer(run.model_path).vocabulary.special[SPECIAL[0]] == "<|turn|>"
    kept, before, after = (
        load_file(folder / "model.safetensors") for folder in (run.model_path, tiny_model, instruct)
    )
    name = "model.norm.weight"
    torch.testing.assert_close(
        kept[name], trained[name] + 0.5 * (after[name] - before[name]), rtol=0, atol=1e-6
    )
    assert {row.subject for row in run.measurements} == {"source", "spliced", "adapted"}
    assert run.folder.joinpath("training.jsonl").is_file()
