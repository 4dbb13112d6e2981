"""Resizing a checkpoint: rows follow the splice, other bytes stay, and the result loads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, Gemma3Config

from lingraft.checkpoint import Checkpoint, embedding_names, load_model, resize_embeddings
from lingraft.checkpoint.rewrite import NewTensor, Range, rewrite
from lingraft.checkpoint.row_layout import lay_out
from lingraft.embeddings import INITS
from lingraft.errors import ModelError
from lingraft.splice import AddedToken, Splice, identity_splice
from tests.commands import start
from tests.models import (
    ARCHITECTURES,
    IDS,
    SURFACES,
    extended_tokenizer,
    resize_with_mean,
    write_tokenizer,
)

MEAN = INITS.parse("mean")


@pytest.fixture(scope="module", params=ARCHITECTURES)
def resized(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """Return a model of each architecture before and after an extension, with the notes."""
    architecture, root = ARCHITECTURES[request.param], tmp_path_factory.mktemp(request.param)
    source = architecture.build(root / "source")
    splice = extended_tokenizer(source, root / "tokenizer")
    notes = resize_embeddings(
        source, root / "tokenizer", splice, input_init=MEAN, output_init=MEAN, output=root / "model"
    )
    before, after = load(source), load(root / "model")
    return {
        "architecture": architecture,
        "root": root,
        "splice": splice,
        "notes": notes,
        "before": before,
        "after": after,
    }


def load(folder: Path) -> Any:
    model, account = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(account.values()), account
    return model.eval()


def matrices(model: Any) -> list[torch.Tensor]:
    return [model.get_input_embeddings().weight, model.get_output_embeddings().weight]


def test_every_architecture_loads_plainly_with_kept_rows_bit_for_bit(
    resized: dict[str, Any],
) -> None:
    """A resized model has no missing or unexpected tensors, and its source rows are bit-equal."""
    for before, after in zip(matrices(resized["before"]), matrices(resized["after"]), strict=True):
        assert torch.equal(before[:IDS], after[:IDS])
        assert after.shape[0] % 64 == 0 or after.shape[0] == before.shape[0]
    assert AutoTokenizer.from_pretrained(resized["root"] / "model").vocab_size >= IDS


def test_added_rows_are_the_mean_of_their_pieces(resized: dict[str, Any]) -> None:
    """Added rows and the head's bias are the exact mean over the subtokens of each added token."""
    heads = [model.get_output_embeddings().bias for model in (resized["before"], resized["after"])]
    for token in resized["splice"].added:
        pieces = list(token.pieces)
        for before, after in zip(
            matrices(resized["before"]), matrices(resized["after"]), strict=True
        ):
            assert torch.equal(after[token.id], before[pieces].double().mean(dim=0).float())
        if heads[0] is not None:
            assert torch.equal(heads[1][token.id], heads[0][pieces].double().mean().float())


def test_text_without_added_tokens_has_the_same_logits(resized: dict[str, Any]) -> None:
    """For source ids, the resized model gives the logits of the source model."""
    ids = torch.tensor([[5, 70, 80, 290, 300, 7, 8]])
    with torch.inference_mode():
        before, after = (
            model(ids).logits[..., :IDS] for model in (resized["before"], resized["after"])
        )
    torch.testing.assert_close(after, before, rtol=0, atol=1e-6)


def test_tied_stays_tied(resized: dict[str, Any]) -> None:
    """A tied matrix stays tied and is stored as often as before, and the notes say so."""
    tied, model = resized["architecture"].tied, resized["after"]
    assert (model.get_input_embeddings().weight is model.get_output_embeddings().weight) == tied
    assert resized["notes"]["tied"] == tied
    assert (resized["notes"]["inits"]["output"]["method"] == "tied to input") == tied
    names = [
        Checkpoint.open(resized["root"] / which).tensors.keys() for which in ("source", "model")
    ]
    assert names[0] == names[1]


def test_rows_beyond_the_vocabulary_are_never_sampled(resized: dict[str, Any]) -> None:
    """Padding rows are zero in a separate input, never the highest logit, and suppressed."""
    model, notes, splice = resized["after"], resized["notes"], resized["splice"]
    beyond = list(range(splice.target_size, notes["rows"]))
    assert (model.generation_config.suppress_tokens or []) == beyond
    if resized["architecture"].rows > IDS:
        return  # the source's own padding keeps its rows
    separate = not resized["architecture"].tied
    assert bool((model.get_input_embeddings().weight[beyond] == 0).all()) == separate
    with torch.inference_mode():
        logits = model(
            torch.randint(IDS, (4, 32), generator=torch.Generator().manual_seed(0))
        ).logits
    assert int(logits.argmax(dim=-1).max()) < splice.target_size
    assert float(logits.softmax(dim=-1)[..., beyond].max()) <= 1 / IDS
    written = model.generate(
        torch.tensor([[5, 6]]), do_sample=True, max_new_tokens=20, pad_token_id=319
    )
    assert int(written.max()) < splice.target_size


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_dtype_stays(dtype: str, tmp_path: Path) -> None:
    """Rows keep the checkpoint's dtype; an added row is its float32 value, rounded once."""
    source = ARCHITECTURES["llama"].build(tmp_path / "source", dtype=dtype)
    splice = extended_tokenizer(source, tmp_path / "tokenizer")
    resize_with_mean(source, tmp_path, splice)
    before, after = (
        load_file(tmp_path / which / "model.safetensors") for which in ("source", "model")
    )
    for name, tensor in before.items():
        assert after[name].dtype == tensor.dtype
        assert torch.equal(after[name][: len(tensor)], tensor)
    token = splice.added[0]
    mean = before["lm_head.weight"][list(token.pieces)].double().mean(dim=0).float()
    assert torch.equal(after["lm_head.weight"][token.id], mean.to(getattr(torch, dtype)))


def test_shards_without_embeddings_are_linked_and_the_index_is_right(tmp_path: Path) -> None:
    """Only files that hold a changed tensor are written; the index names the new size."""
    source = ARCHITECTURES["llama"].build(tmp_path / "source", shards="45KB")
    splice = extended_tokenizer(source, tmp_path / "tokenizer")
    notes = resize_with_mean(source, tmp_path, splice)
    before, after = Checkpoint.open(source), Checkpoint.open(tmp_path / "model")
    untouched = {file.name for file in before.files} - {
        before.tensors[name].file.name for name in embedding_names(before).all
    }
    assert untouched
    assert notes["files_linked"] == len(untouched)
    assert all((tmp_path / "model" / name).samefile(source / name) for name in untouched)
    total = sum(place.end - place.begin for place in after.tensors.values())
    index = json.loads((tmp_path / "model" / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == total
    assert notes["parameters"] - notes["parameters_before"] == 2 * 32 * (notes["rows"] - IDS)
    load(tmp_path / "model")


def test_added_ids_use_the_source_models_own_padding_first(tmp_path: Path) -> None:
    """A model with more rows than ids keeps its size while the added tokens fit into the rest."""
    source = ARCHITECTURES["qwen3"].build(tmp_path / "source")
    splice = extended_tokenizer(source, tmp_path / "tokenizer")
    notes = resize_with_mean(source, tmp_path, splice)
    assert notes["rows"] == notes["rows_before"] == 384
    before, after = (
        load_file(tmp_path / which / "model.safetensors") for which in ("source", "model")
    )
    name = "model.embed_tokens.weight"
    assert torch.equal(before[name][splice.target_size :], after[name][splice.target_size :])


def test_a_splice_that_drops_and_moves_rows(tmp_path: Path) -> None:
    """Kept rows follow their ids wherever the splice puts them, and special ids are renumbered."""
    source = ARCHITECTURES["llama"].build(tmp_path / "source")
    write_tokenizer(tmp_path / "tokenizer")
    kept = {0: 318, 1: 319, **{i: i + 3 for i in range(2, 300)}}
    dropped = tuple(sorted(set(range(IDS)) - set(kept.values())))
    added = tuple(AddedToken(i, b"ab", (70, 71)) for i in range(300, IDS))
    splice = Splice(IDS, kept, added, dropped)
    resize_embeddings(
        source,
        tmp_path / "tokenizer",
        splice,
        input_init=MEAN,
        output_init=MEAN,
        output=tmp_path / "model",
        pad_to=1,
    )
    before, after = (
        load_file(tmp_path / which / "model.safetensors") for which in ("source", "model")
    )
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        assert all(
            torch.equal(after[name][target], before[name][origin])
            for target, origin in kept.items()
        )
    assert load(tmp_path / "model").config.bos_token_id == 0
    config = json.loads((tmp_path / "model" / "generation_config.json").read_text())
    assert (config["bos_token_id"], config["eos_token_id"]) == (0, 1)


@pytest.mark.parametrize("prefixed", [True, False])
def test_names_without_the_prefix_of_the_body_are_found(prefixed: bool, tmp_path: Path) -> None:
    """`wte.weight` and `transformer.wte.weight` are both found, and the files keep their names."""
    source = ARCHITECTURES["gpt2"].build(tmp_path / "source")
    if not prefixed:
        tensors = load_file(source / "model.safetensors")
        save_file(
            {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()},
            source / "model.safetensors",
            metadata={"format": "pt"},
        )
    splice = extended_tokenizer(source, tmp_path / "tokenizer")
    resize_with_mean(source, tmp_path, splice)
    names = [set(Checkpoint.open(tmp_path / which).tensors) for which in ("source", "model")]
    assert names[0] == names[1]
    assert ("transformer.wte.weight" in names[1]) == prefixed
    load(tmp_path / "model")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_files_keep_the_names_they_were_published_with(dtype: str, tmp_path: Path) -> None:
    """Names that transformers translates (Gemma 3) are found and stay in the files."""
    source = Path(ARCHITECTURES["gemma"].build(tmp_path / "source"))
    text = {
        "vocab_size": IDS,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "head_dim": 8,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
    }
    vision = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
    }
    config = Gemma3Config(text_config=text, vision_config=vision)
    AutoModelForCausalLM.from_config(config).to(getattr(torch, dtype)).save_pretrained(source)
    assert "language_model.model.embed_tokens.weight" in Checkpoint.open(source).tensors
    splice = extended_tokenizer(source, tmp_path / "tokenizer")
    notes = resize_with_mean(source, tmp_path, splice)
    assert notes["architecture"] == "Gemma3ForConditionalGeneration"
    assert (
        Checkpoint.open(source).tensors.keys() == Checkpoint.open(tmp_path / "model").tensors.keys()
    )
    before, after = load(source), load(tmp_path / "model")
    old, new = (model.get_input_embeddings().weight for model in (before, after))
    assert new.dtype == old.dtype == getattr(torch, dtype)
    assert torch.equal(new[:IDS], old)
    for token in splice.added:
        assert torch.equal(
            new[token.id], old[list(token.pieces)].double().mean(dim=0).float().to(old.dtype)
        )
    rest = [dict(model.named_parameters()) for model in (before, after)]
    assert all(
        torch.equal(rest[1][name][: len(tensor)], tensor) for name, tensor in rest[0].items()
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "source", "tokenizer"]


def test_a_checkpoint_without_its_embeddings_is_no_model(tmp_path: Path) -> None:
    """The error names the embedding that no file holds, and nothing is written."""
    source = ARCHITECTURES["llama"].build(tmp_path / "source")
    tensors = load_file(source / "model.safetensors")
    del tensors["model.embed_tokens.weight"]
    save_file(tensors, source / "model.safetensors", metadata={"format": "pt"})
    splice = extended_tokenizer(source, tmp_path / "tokenizer")
    with pytest.raises(
        ModelError,
        match=r"input embedding of LlamaForCausalLM, 320 rows of 32, is in none of 1 files",
    ):
        resize_with_mean(source, tmp_path, splice)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "tokenizer"]


def test_pickled_weights_are_refused_with_the_command_that_converts_them(tmp_path: Path) -> None:
    """A folder with only a .bin file is never read."""
    (tmp_path / "pytorch_model.bin").write_bytes(b"not even a pickle")
    with pytest.raises(ModelError, match=r"pytorch_model.bin.*save_pretrained"):
        Checkpoint.open(tmp_path)


def test_a_model_that_needs_another_package_is_refused_in_one_line(tmp_path: Path) -> None:
    """A quantised model whose library is not installed gives an error with its advice."""
    path = next(iter(ARCHITECTURES.values())).build(tmp_path) / "config.json"
    content = json.loads(path.read_text())
    content["quantization_config"] = {"quant_method": "awq", "bits": 4, "group_size": 128}
    path.write_text(json.dumps(content))
    with pytest.raises(ModelError, match=r"cannot be loaded .*requires gptqmodel"):
        load_model(tmp_path)


def test_a_file_cut_short_is_named(tmp_path: Path) -> None:
    """A download that stopped is an error with both sizes, not a model with noise in it."""
    source = ARCHITECTURES["llama"].build(tmp_path / "source")
    file = source / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(
        ModelError, match=r"model.safetensors: has [\d,]+ bytes, but its header describes"
    ):
        Checkpoint.open(source)


def test_a_whole_file_next_to_shards_is_the_model_as_in_transformers(tmp_path: Path) -> None:
    """Where a folder has the shards of another save, the tensors are those that are loaded."""
    source = ARCHITECTURES["llama"].build(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(source)
    whole = (source / "model.safetensors").read_bytes()
    with torch.no_grad():
        model.model.norm.weight.mul_(2)
    model.save_pretrained(source, max_shard_size="30KB")
    (source / "model.safetensors").write_bytes(whole)
    checkpoint = Checkpoint.open(source)
    loaded = AutoModelForCausalLM.from_pretrained(source).model.norm.weight
    assert checkpoint.tensor("model.norm.weight").equal(loaded)
    assert [file.name for file in checkpoint.files] == ["model.safetensors"]


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/passwd", "a/b.safetensors", 7])
def test_an_index_cannot_point_out_of_its_folder(tmp_path: Path, name: object) -> None:
    """A shard is a file next to its index; any other path is named and not opened."""
    source = ARCHITECTURES["llama"].build(tmp_path / "source")
    index = {"metadata": {}, "weight_map": {"lm_head.weight": name}}
    (source / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(
        ModelError, match=r"weight_map .*download or save the model again|no weight_map"
    ):
        Checkpoint.open(source)


def test_a_tokenizer_with_more_ids_than_the_model_has_rows_is_refused(tmp_path: Path) -> None:
    """The error names both numbers and where they come from."""
    source = ARCHITECTURES["llama"].build(tmp_path / "source")
    write_tokenizer(tmp_path / "tokenizer")
    with pytest.raises(ModelError, match=r"400 ids.*320 rows"):
        resize_embeddings(
            source,
            tmp_path / "tokenizer",
            identity_splice(400),
            input_init=MEAN,
            output_init=MEAN,
            output=tmp_path / "m",
        )
    with pytest.raises(ModelError, match=r"320 ids.*319"):
        resize_embeddings(
            source,
            tmp_path / "tokenizer",
            identity_splice(319),
            input_init=MEAN,
            output_init=MEAN,
            output=tmp_path / "m",
        )
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("error", [-4, 4])
def test_content_that_does_not_have_the_size_of_its_shape_is_not_written(
    tmp_path: Path, error: int
) -> None:
    """A tensor with too few or too many bytes is refused, even if another one makes up for it."""
    source, target = tmp_path / "source.safetensors", tmp_path / "target.safetensors"
    save_file({"a": torch.zeros(4), "b": torch.ones(4)}, source)
    places = Checkpoint.open_files([source])
    first = NewTensor((4,), [memoryview(bytes(16 + error))])
    begin, end = places["b"].begin, places["b"].end
    second = NewTensor(
        (4,), [Range(begin, end - error) if error > 0 else Range(begin + error, end)]
    )
    with pytest.raises(ModelError, match=r"a of shape \[4\] has 16 bytes, and (12|20) were given"):
        rewrite(source, target, {"a": first, "b": second})
    assert list(tmp_path.iterdir()) == [source]
    whole = NewTensor((4,), [memoryview(bytes(16))])
    assert rewrite(source, target, {"a": whole}) == 32
    assert torch.equal(load_file(target)["b"], torch.ones(4))


def test_every_target_row_has_one_place() -> None:
    """The spans of a layout cover the rows once, in order."""
    layout = lay_out(
        identity_splice(10, [AddedToken(10, b"a", (1,)), AddedToken(11, b"b", (2,))]), 11, 8
    )
    assert [(span.origin, span.start, span.length) for span in layout.spans] == [
        ("source", 0, 10),
        ("added", 0, 2),
        ("padding", 0, 4),
    ]
    assert sum(span.length for span in layout.spans) == layout.rows == 16
    assert len(SURFACES) == 7


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="peak memory is read from Linux' /proc"
)
def test_memory_follows_the_embedding_and_not_the_model(tmp_path: Path) -> None:
    """Peak memory stays under 2.5 times the embedding matrix + 1 GB, for a model of any size."""
    source, rows, width = tmp_path / "source", 64_000, 256
    ARCHITECTURES["llama"].build(source)
    config = json.loads((source / "config.json").read_text())
    config.update(
        vocab_size=rows,
        hidden_size=width,
        head_dim=64,
        num_hidden_layers=1,
        intermediate_size=250_000,
    )
    (source / "config.json").write_text(json.dumps(config))
    shapes = {
        "model.embed_tokens.weight": rows,
        "lm_head.weight": rows,
        "model.layers.0.mlp.up_proj.weight": 250_000,
    }
    save_file(
        {name: torch.zeros((count, width)) for name, count in shapes.items()},
        source / "model.safetensors",
    )
    splice = extended_tokenizer(source, tmp_path / "tokenizer")
    (tmp_path / "splice.json").write_text(splice.dumps())
    code = f"""
import json
from pathlib import Path
from lingraft.checkpoint import resize_embeddings
from lingraft.embeddings import INITS
from lingraft.splice import Splice
root, mean = Path({str(tmp_path)!r}), INITS.parse("mean")
splice = Splice.from_json(json.loads((root / "splice.json").read_text()))
folders = root / "source", root / "tokenizer"
resize_embeddings(*folders, splice, input_init=mean, output_init=mean, output=root / "model")
status = Path("/proc/self/status").read_text()  # getrusage counts the peak of the parent as well
print(int(status.split("VmHWM:")[1].split()[0]) * 1024)
"""
    done = start("-c", code, cwd=tmp_path).finish()
    assert done.returncode == 0, done.stderr
    peak = int(done.stdout)
    assert peak < 2.5 * rows * width * 4 + 1e9, f"{peak:,}"
    assert (tmp_path / "model" / "model.safetensors").stat().st_size > 3.8e8
