"""Resizing in every architecture: all tables with a row for each id, under the names in the files.

Source and result are loaded by transformers, with the class that they name. `make architectures`
runs every architecture (`LINGRAFT_ARCHITECTURES=all`), `make test` the kinds below.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lingraft.checkpoint.find_embeddings import embedding_names
from lingraft.checkpoint.safetensors_files import Checkpoint
from lingraft.errors import ModelError
from lingraft.splice import AddedToken, Splice, identity_splice
from lingraft.tokenizer import open_tokenizer
from tests.architecture_sweep import build, extend, extend_folder, load, problems, run
from tests.models import IDS, SURFACES, extended_tokenizer, resize_with_mean

EVERY = os.environ.get("LINGRAFT_ARCHITECTURES") == "all"
KINDS = (
    "llama",
    "qwen3_moe",
    "gemma3_text",
    "gemma3n_text",
    "gemma4_text",
    "deepseek_v4",
    "phi3",
    "mamba2",
    "nemotron_h",
    "gpt_oss",
    "qwen3_5_text",
    "gemma3",
    "gemma4",
    "qwen3_5",
    "qwen2_5_vl",
    "mistral3",
    "llava",
)


@pytest.mark.parametrize("kind", KINDS)
def test_an_extended_model_is_the_source_with_more_rows(kind: str, tmp_path: Path) -> None:
    """The result loads, gives base ids bit-equal logits, and has a row for each new id."""
    assert list(problems(extend(kind, tmp_path))) == []


def test_per_layer_embeddings_get_the_mean_of_the_pieces(tmp_path: Path) -> None:
    """Gemma 4 reads a second embedding table in every layer; new ids have rows there too."""
    found = extend("gemma4_text", tmp_path)
    tables = [
        dict(model.named_parameters())["model.embed_tokens_per_layer.weight"]
        for model in (found.before, found.after)
    ]
    assert found.notes["tables"] == {"model.embed_tokens_per_layer.weight": "mean of the pieces"}
    for token in found.splice.added:
        wanted = tables[0][list(token.pieces)].double().mean(dim=0).float()
        assert torch.equal(tables[1][token.id], wanted)


def test_ids_beyond_a_smaller_per_layer_table_read_what_they_read(tmp_path: Path) -> None:
    """Gemma 3n reads row 0 for ids beyond its per-layer table, so padding copies row 0."""
    found = extend("gemma3n_text", tmp_path, vocab_size_per_layer_input=280)
    assert list(problems(found)) == []


def test_a_routing_table_sends_new_tokens_where_most_of_their_pieces_go(tmp_path: Path) -> None:
    """DeepSeek-V4 routes by id: a new token gets its subtokens' most frequent distinct experts."""
    found = extend("deepseek_v4", tmp_path)
    name = next(name for name in found.notes["tables"] if name.endswith("tid2eid"))
    before, after = (
        Checkpoint.open(folder).tensor(name) for folder in (found.source, found.result)
    )
    for token in found.splice.added:
        votes = before[list(token.pieces)].flatten().bincount(minlength=4)
        chosen = after[token.id].tolist()
        assert len(set(chosen)) == len(chosen)
        others = set(range(4)) - set(chosen)
        assert min(int(votes[i]) for i in chosen) >= max((int(votes[i]) for i in others), default=0)


@pytest.mark.parametrize("equal", [True, False])
def test_layers_of_multi_token_prediction_get_rows_too(equal: bool, tmp_path: Path) -> None:
    """DeepSeek-V3 stores a second embedding and head in a layer that transformers does not load."""
    source = build("deepseek_v3", tmp_path / "source")
    more = {
        name: load_file(source / file)[name].clone()
        for name, file in json.loads((source / "model.safetensors.index.json").read_text())[
            "weight_map"
        ].items()
        if name in {"model.embed_tokens.weight", "lm_head.weight"}
    }
    embedding, head = more["model.embed_tokens.weight"], more["lm_head.weight"]
    add_tensors(
        source,
        {
            "model.layers.2.embed_tokens.weight": embedding if equal else embedding * 2,
            "model.layers.2.shared_head.head.weight": head if equal else head * 2,
            "model.layers.2.eh_proj.weight": torch.zeros(32, 64),
        },
    )
    found = extend_folder(source, tmp_path)
    tensors = Checkpoint.open(found.result)
    for name, main in (
        ("model.layers.2.embed_tokens.weight", "model.embed_tokens.weight"),
        ("model.layers.2.shared_head.head.weight", "lm_head.weight"),
    ):
        factor = 1 if equal else 2
        new = slice(IDS, found.splice.target_size)
        assert tensors.tensors[name].shape == tensors.tensors[main].shape
        assert torch.equal(tensors.tensor(name)[new], tensors.tensor(main)[new] * factor)
    assert found.notes["tables"]["model.layers.2.embed_tokens.weight"] == (
        "the rows of the input embedding" if equal else "mean of the pieces"
    )


def add_tensors(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Add a shard to a model folder."""
    save_file(
        {name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "more.safetensors"
    )
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    index["weight_map"] |= dict.fromkeys(tensors, "more.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def test_a_table_without_a_rule_is_refused_by_name(tmp_path: Path) -> None:
    """A table with an entry for each id and no known rule is an error; nothing is written."""
    source = build("deepseek_v3", tmp_path / "source")
    add_tensors(source, {"model.layers.2.mystery.weight": torch.zeros(IDS, 32)})
    with pytest.raises(
        ModelError, match=r"model.layers.2.mystery.weight .*has an entry for each id"
    ):
        embedding_names(Checkpoint.open(source))


def test_mllamas_image_rows_stay_where_they_are(tmp_path: Path) -> None:
    """Mllama's embedding has 8 more rows than its head; new ids follow the image token."""
    source = build("mllama", tmp_path / "source")
    data = json.loads((source / "tokenizer.json").read_text())
    data["added_tokens"].append({**data["added_tokens"][-1], "id": IDS, "content": "<|image|>"})
    (source / "tokenizer.json").write_text(json.dumps(data))
    before = open_tokenizer(source)
    shutil.copytree(
        source,
        tmp_path / "tokenizer",
        ignore=shutil.ignore_patterns("*.safetensors*", "config.json"),
    )
    extended = before.family.with_tokens([surface.encode() for surface in SURFACES])
    (tmp_path / "tokenizer" / "tokenizer.json").write_text(json.dumps(extended, ensure_ascii=False))
    after = open_tokenizer(tmp_path / "tokenizer")
    added = [
        AddedToken(
            after.vocabulary.ids[text.encode()], text.encode(), tuple(before.encode([text])[0])
        )
        for text in SURFACES
    ]
    splice = identity_splice(before.size, sorted(added, key=lambda token: token.id))
    assert before.size == IDS + 1 == splice.added[0].id
    resize_with_mean(source, tmp_path, splice)
    (one, _), (other, account) = load(source), load(tmp_path / "model")
    assert not any(account.values())
    ids = [[5, 6, IDS, 7]]
    assert torch.equal(run(one, ids), run(other, ids)[..., :IDS])
    assert (
        other.get_input_embeddings().weight.shape[0]
        == other.get_output_embeddings().weight.shape[0] + 8
    )
    assert bool(run(other, [[token.id for token in splice.added]]).isfinite().all())


def test_rows_that_config_json_does_not_promise_are_refused(tmp_path: Path) -> None:
    """A vocab_size that differs from the stored rows is an error with both numbers and the fix."""
    source = build("llama", tmp_path / "source")
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, "vocab_size": 420}))
    splice: Splice = extended_tokenizer(source, tmp_path / "tokenizer")
    with pytest.raises(
        ModelError, match=r"embed_tokens.weight has 320 rows, and config.json asks for 420"
    ):
        resize_with_mean(source, tmp_path, splice)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("bart", "an encoder-decoder"),
        ("mbart", "an encoder-decoder"),
        ("bert", "an encoder"),
        ("whisper", "a speech recognition model"),
        ("moshi", "a model that generates audio"),
        ("diffusion_gemma", "a diffusion model"),
        ("xlnet", "in both directions"),
        ("blip", "needs pixel_values in every call"),
    ],
)
def test_other_kinds_of_model_are_refused_with_the_reason(
    kind: str, reason: str, tmp_path: Path
) -> None:
    """Encoder-decoders, encoders, speech models: one line that says why not."""
    from tests.tiny_configs import tiny_config

    tiny_config(kind).save_pretrained(tmp_path)
    save_file({"some.weight": torch.zeros(2)}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=reason) as caught:
        embedding_names(Checkpoint.open(tmp_path))
    assert "\n" not in str(caught.value)


def test_ids_that_a_model_takes_for_images_are_not_given_to_tokens(tmp_path: Path) -> None:
    """Gemma 3n reserves ids from an offset on for images; a new token there is an error."""
    import dataclasses

    source = build("gemma3_text", tmp_path / "source")
    splice = extended_tokenizer(source, tmp_path / "tokenizer")
    names = dataclasses.replace(embedding_names(Checkpoint.open(source)), first_reserved=IDS)
    from lingraft.checkpoint.resize_checks import check_fit

    with pytest.raises(ModelError, match=r"reserves the ids from 320 on for images and sound"):
        check_fit(names, splice, source)
