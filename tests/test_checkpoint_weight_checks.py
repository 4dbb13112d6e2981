"""Weights are checked before use: NaN and inf are refused, untrained rows give a warning."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lingraft.checkpoint import Checkpoint, embedding_names, load_model, resize_embeddings
from lingraft.checkpoint.load_model import load_for_training
from lingraft.checkpoint.weight_checks import check_finite, check_finite_tensor
from lingraft.embeddings import INITS
from lingraft.errors import ModelError
from lingraft.pipeline import extend, run
from lingraft.recipe import Runtime, parse_recipe
from lingraft.recipe.tree import Tree
from lingraft.splice import identity_splice
from lingraft.tokenizer import open_tokenizer
from lingraft.training.sharded_loading import MetaModel
from tests.chat_models import write_chat_model
from tests.conftest import make_tiny_model
from tests.models import ARCHITECTURES, extended_tokenizer
from tests.tiny_recipes import text_of, tiny_recipe

Tensors = dict[str, torch.Tensor]
MEAN = INITS.parse("mean")
INPUT, HEAD, NORM = (
    "model.embed_tokens.weight",
    "lm_head.weight",
    "model.layers.1.input_layernorm.weight",
)


def with_weights(source: Path, target: Path, change: Callable[[Tensors], None]) -> Path:
    """Copy a model folder, with its tensors changed in place."""
    shutil.copytree(source, target)
    tensors = load_file(target / "model.safetensors")
    change(tensors)
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    return target


def set_to(name: str, place: tuple[int, ...], value: float) -> Callable[[Tensors], None]:
    def change(tensors: Tensors) -> None:
        tensors[name][place] = value

    return change


def grafted(source: Path, root: Path) -> list[str]:
    """Extend a model by a few tokens and return the warnings."""
    splice = extended_tokenizer(source, root / "tokenizer")
    notes = resize_embeddings(
        source, root / "tokenizer", splice, input_init=MEAN, output_init=MEAN, output=root / "model"
    )
    return list(notes["warnings"])


@pytest.fixture
def recipe(hindi_file: Path) -> Callable[..., dict]:
    """Return the recipe of a short run from a model."""
    return partial(tiny_recipe, target=text_of("hi", hindi_file))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (set_to(HEAD, (300,), float("nan")), "lm_head.weight holds NaN in row 300"),
        (set_to(HEAD, (319, 31), float("-inf")), "lm_head.weight holds inf in row 319"),
        (set_to(INPUT, (0, 0), float("inf")), "model.embed_tokens.weight holds inf in row 0"),
    ],
)
def test_a_row_that_is_not_finite_is_refused_before_text_is_read(
    tiny_model, tmp_path, recipe, change, said
):
    """NaN and inf in embedding or head stop `extend`, with tensor and row; nothing is written."""
    source = with_weights(tiny_model, tmp_path / "source", change)
    runtime = Runtime(runs=tmp_path / "runs", store=tmp_path / "store", device="cpu")
    with pytest.raises(ModelError, match=rf"{source}.*{said}; "):
        extend(
            parse_recipe(Tree(recipe(source))), runtime, tmp_path / "out", log=lambda _line: None
        )
    assert not (tmp_path / "out").exists()
    assert not list((tmp_path / "store" / "answers").glob("*"))


@pytest.mark.parametrize("architecture", ["phi", "neox"])
def test_a_bias_of_the_head_is_looked_at_too(tmp_path, architecture):
    """Each tensor with a row for each id is: so is a head's bias, where there is one."""
    source = ARCHITECTURES[architecture].build(tmp_path / "source")
    names = embedding_names(Checkpoint.open(source))
    checked = names.output_bias or names.output[0]
    broken = with_weights(source, tmp_path / "broken", set_to(checked, (7,), float("nan")))
    with pytest.raises(ModelError, match=f"{checked} holds NaN in row 7"):
        grafted(broken, tmp_path)


def test_a_body_that_is_not_finite_is_refused_when_it_is_opened(tiny_model, tmp_path, recipe):
    """A damaged weight is reported in one line with tensor and row, however the model loads."""
    source = with_weights(tiny_model, tmp_path / "source", set_to(NORM, (3,), float("inf")))
    said = r"model\.layers\.1\.input_layernorm\.weight holds inf in row 3; the weights are damaged"
    for opened in (
        load_model,
        load_for_training,
        lambda folder: MetaModel.open(folder).materialize(),
    ):
        with pytest.raises(ModelError, match=said):
            opened(source)
    runtime = Runtime(runs=tmp_path / "runs", store=tmp_path / "store", device="cpu")
    with pytest.raises(ModelError, match=said):
        run(parse_recipe(Tree(recipe(source))), runtime, write_report=lambda _folder: None)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"num_hidden_layers": 9}, r"model\.layers\.\d\.\S+ is missing, and \d+ more"),
        ({"intermediate_size": 40}, r"has the shape \[.*\], not \[.*40.*\], and 5 more"),
        ({"hidden_size": "32"}, "hidden_size"),
    ],
)
def test_a_config_of_other_weights_is_refused(tiny_model, tmp_path, settings, said):
    """A weight that config.json asks for and the files lack is an error, never a random one."""
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, **settings}), encoding="utf-8")
    for opened in (load_model, load_for_training):
        with pytest.raises(ModelError, match=said):
            opened(folder)


def test_large_finite_numbers_are_no_fault(tmp_path):
    """A sum or norm that overflows is not reported: float16 and float32 rows near their limit."""
    save_file(
        {"half": torch.full((300, 64), 65504.0).half(), "single": torch.full((4, 8), 3e38)},
        tmp_path / "model.safetensors",
    )
    check_finite(Checkpoint.open(tmp_path), ["half", "single"])
    check_finite_tensor(torch.full((300, 64), 65504.0).half(), "x")
    check_finite_tensor(torch.full((4, 8), 3e38), "x")


def test_a_zero_row_of_the_separator_is_warned_of(tiny_model, tmp_path, recipe):
    """The warning is logged and stored in the manifest and the record, with token and row."""
    source = with_weights(tiny_model, tmp_path / "source", set_to(INPUT, (319,), 0.0))
    runtime = Runtime(runs=tmp_path / "runs", store=tmp_path / "store", device="cpu")
    extend(parse_recipe(Tree(recipe(source))), runtime, tmp_path / "out", log=lambda _line: None)
    warnings = json.loads((tmp_path / "out" / "run.json").read_text())["warnings"]
    assert [
        line
        for line in warnings
        if line.startswith(f"{INPUT}: the row of eos_token (id 319)") and "zero" in line
    ]
    manifest = next((tmp_path / "store" / "answers").glob("embeddings-*")) / "manifest.json"
    assert set(json.loads(manifest.read_text())["notes"]["warnings"]) <= set(warnings)


def test_a_separator_far_below_the_median_is_warned_of_with_its_norm(tiny_model, tmp_path):
    """Both matrices are checked for the end token; a row of a third of the median is accepted."""

    def change(tensors: Tensors) -> None:
        for name, norm in ((INPUT, 0.05), (HEAD, 0.01)):
            median = tensors[name].norm(dim=1).median()
            tensors[name][319] *= norm * median / tensors[name][319].norm()
        tensors[INPUT][318] *= (
            0.33 * tensors[INPUT].norm(dim=1).median() / tensors[INPUT][318].norm()
        )

    warnings = grafted(with_weights(tiny_model, tmp_path / "source", change), tmp_path)
    assert [line.partition(":")[0] for line in warnings] == [INPUT, HEAD]
    assert "eos_token (id 319)" in warnings[0]
    assert "5.0% of the median" in warnings[0]
    assert "1.0% of the median" in warnings[1]


def test_the_end_of_text_of_a_chat_model_is_looked_at(tmp_path):
    """A chat model's documents end with its end-of-text token: a zero row of it gives a warning."""
    (tmp_path / "base").mkdir()
    write_chat_model(tmp_path / "base")
    tokenizer = open_tokenizer(tmp_path / "base")
    end = tokenizer.backend.token_to_id("<|endoftext|>")
    assert end != tokenizer.eos_id
    source = with_weights(tmp_path / "base", tmp_path / "source", set_to(INPUT, (end,), 0.0))
    (warning,) = [line for line in grafted(source, tmp_path) if "which separates documents" in line]
    assert f"the token after documents (id {end})" in warning
    assert "is zero" in warning


@pytest.mark.parametrize("tied", [False, True])
def test_zero_rows_of_pieces_and_new_rows_of_zero_are_warned_of(tmp_path, tied):
    """Zero subtoken rows and the zero added rows that follow give one warning for a tied matrix."""
    (tmp_path / "base").mkdir()
    make_tiny_model(tmp_path / "base", tied=tied)
    splice = extended_tokenizer(tmp_path / "base", tmp_path / "probe")
    zero = sorted(set(splice.added[0].pieces))
    source = with_weights(
        tmp_path / "base", tmp_path / "source", set_to(INPUT, (torch.tensor(zero),), 0.0)
    )
    warnings = grafted(source, tmp_path)
    pieces = {piece for token in splice.added for piece in token.pieces}
    new = [token for token in splice.added if set(token.pieces) <= set(zero)]
    assert len(warnings) == 2
    assert (
        f"{len(zero)} of the {len(pieces)} base rows that new rows are averaged from are zero"
        in warnings[0]
    )
    assert f"ids {', '.join(map(str, zero))}" in warnings[0]
    assert (
        f"{len(new)} of {len(splice.added)} new rows are zero ({new[0].id} '{new[0].text}'"
        in warnings[1]
    )


def test_trained_models_are_warned_of_nothing(assets, tmp_path):
    """Two models that were really trained have no row that a warning is for."""
    for name in ("english-8m", "stories260K-hf"):
        source = assets / "models" / name
        unchanged = identity_splice(open_tokenizer(source).size, [])
        notes = resize_embeddings(
            source, source, unchanged, input_init=MEAN, output_init=MEAN, output=tmp_path / name
        )
        assert notes["warnings"] == []


def test_a_row_is_counted_from_the_start_of_its_tensor(tmp_path):
    """Tensors are read in pieces, and the row that is named is that of the whole."""
    save_file(
        {"x": torch.zeros(3000, 4).index_fill(0, torch.tensor([2500]), float("nan"))},
        tmp_path / "model.safetensors",
    )
    with pytest.raises(ModelError, match="x holds NaN in row 2500;"):
        check_finite(Checkpoint.open(tmp_path), ["x"])


def test_padding_of_a_biased_head_is_never_chosen_and_data_begin_on_eight_bytes(tmp_path):
    """Padding rows have a bias of -10,000, and the tensors of the file are aligned."""
    source = ARCHITECTURES["phi"].build(tmp_path / "source")
    grafted(source, tmp_path)
    written = Checkpoint.open(tmp_path / "model")
    bias = written.tensor("lm_head.bias")
    size = open_tokenizer(tmp_path / "tokenizer").size
    assert len(bias) > size
    assert bool((bias[size:] == -1e4).all())
    assert min(place.begin for place in written.tensors.values()) % 8 == 0
