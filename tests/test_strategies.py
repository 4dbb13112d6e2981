"""What trains and what does not: after a step, only the declared parameters have moved."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from lingraft.checkpoint import load_model
from lingraft.checkpoint.embed_rows import embed_rows
from lingraft.checkpoint.model_class import auto_class
from lingraft.errors import MissingExtraError, ModelError, RecipeError
from lingraft.strategies import (
    STRATEGIES,
    Differential,
    Embeddings,
    Full,
    Layers,
    Lora,
    Rows,
    Strategy,
)
from lingraft.strategies.model_parts import embedding_parameters, layer_stacks
from lingraft.strategies.row_modules import insert_row_modules, remove_row_modules
from lingraft.training import compiled_layers
from lingraft.training.loss import make_loss
from lingraft.training.merge_back import MergeSettings, set_merged
from tests.architecture_sweep import random_model
from tests.conftest import make_tiny_model
from tests.models import ARCHITECTURES as MODELS
from tests.tiny_configs import tiny_config
from tests.training_cases import ADDED, ARCHITECTURES, other_model

EMBEDDINGS = {"model.embed_tokens.weight", "lm_head.weight"}


@pytest.fixture(scope="module", params=[False, True], ids=["untied", "tied"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("model")
    make_tiny_model(made, tied=request.param)
    return made


def choice(name: str) -> Strategy:
    return STRATEGIES.parse({"layers": {"layers_per_end": 1}} if name == "layers" else name)


def step(model: Any, strategy: Strategy, decay: float = 0.1) -> list[Any]:
    """Do one optimiser step, weight decay included, as the loop does it."""
    groups = strategy.prepare(model, ADDED)
    ids = torch.tensor([[1, 2, 300, 305, 4, 306, 311, 9]])
    parameters = [parameter for group in groups for parameter in group.parameters.values()]
    optimiser = torch.optim.AdamW(parameters, lr=0.01, weight_decay=decay)
    model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    optimiser.step()
    strategy.finish(model)
    return groups


def moved(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    return {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}


def snapshot(model: Any) -> dict[str, Any]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("name", STRATEGIES.names())
def test_only_the_declared_parameters_move(folder: Path, name: str) -> None:
    """A step changes only what the strategy trains, and the finished model has plain modules."""
    model = load_model(folder, dtype="stored")
    before, layout = snapshot(model), str(model)
    step(model, choice(name))
    after = snapshot(model)
    own = EMBEDDINGS & set(after)
    expected = {
        "full": set(after),
        "differential": set(after),
        "embeddings": own,
        "rows": own,
        "layers": set(after) - {"model.norm.weight"},
    }.get(name)
    assert after.keys() == before.keys()
    assert str(model) == layout
    if expected is not None:
        assert moved(before, after) == expected


def test_rows_leaves_base_rows_bit_identical(folder: Path) -> None:
    """Under `rows` only the added rows change, tied or not, in spite of weight decay."""
    model = load_model(folder, dtype="stored")
    before = snapshot(model)
    step(model, Rows())
    for name in EMBEDDINGS & before.keys():
        changed = (model.state_dict()[name] != before[name]).any(dim=1).nonzero().flatten().tolist()
        assert changed == list(ADDED)


def test_differential_moves_the_bases_rows_like_the_body(folder: Path) -> None:
    """Base rows train at the rate of the body, added rows at their own.

    AdamW's first step is as large as the rate. Without added tokens there is only the body's rate.
    """
    rates = {"body": 1e-4, "added_rows": 1e-2}
    for strategy, base_rate in (
        (Differential(), 1e-4),
        (Differential(base_rows="added_rows"), 1e-2),
    ):
        model = load_model(folder, dtype="stored")
        before = snapshot(model)
        groups = strategy.prepare(model, ADDED)
        ids = torch.tensor([[1, 2, 300, 305, 4, 306, 311, 9]])
        optimiser = torch.optim.AdamW(
            [
                {"params": list(group.parameters.values()), "lr": rates[group.role]}
                for group in groups
            ],
            weight_decay=0.0,
        )
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        optimiser.step()
        strategy.finish(model)
        for name in EMBEDDINGS & before.keys():
            steps = (model.state_dict()[name] - before[name]).abs().max(dim=1).values
            assert steps[list(ADDED)].tolist() == pytest.approx([1e-2] * len(ADDED), rel=0.02)
            assert steps[[1, 2, 4]].tolist() == pytest.approx([base_rate] * 3, rel=0.02)
            assert float(steps[:300].max()) <= base_rate * 1.02
    assert [
        group.role for group in Differential().prepare(load_model(folder, dtype="stored"), ())
    ] == ["body"]


def test_rows_trains_as_if_the_whole_matrix_did(folder: Path) -> None:
    """Gradient and loss of separate added rows are those of the same rows in the full matrix."""
    ids = torch.tensor([[1, 300, 2, 305, 311, 306, 300]])
    plain, special = load_model(folder, dtype="stored"), load_model(folder, dtype="stored")
    parameters = Rows().prepare(special, ADDED)[0].parameters
    losses = [model(input_ids=ids, labels=ids, use_cache=False).loss for model in (plain, special)]
    for loss in losses:
        loss.backward()
    torch.testing.assert_close(losses[0], losses[1])
    torch.testing.assert_close(
        parameters["added_rows.input"].grad, plain.get_input_embeddings().weight.grad[list(ADDED)]
    )
    if "added_rows.output" in parameters:
        torch.testing.assert_close(
            parameters["added_rows.output"].grad,
            plain.get_output_embeddings().weight.grad[list(ADDED)],
        )


def test_rows_keeps_optimiser_state_for_the_added_rows_only(folder: Path) -> None:
    """What trains is [added rows, width] for each matrix; no gradient exists for the rest."""
    model = load_model(folder, dtype="stored")
    tied = model.get_input_embeddings().weight is model.get_output_embeddings().weight
    groups = Rows().prepare(model, ADDED)
    assert [tuple(p.shape) for g in groups for p in g.parameters.values()] == [(len(ADDED), 32)] * (
        1 if tied else 2
    )
    model(input_ids=torch.tensor([[1, 300]]), use_cache=False).logits.sum().backward()
    trained = {id(p) for p in groups[0].parameters.values()}
    assert all(p.grad is None for p in model.parameters() if id(p) not in trained)


def test_a_tied_model_stays_tied(folder: Path) -> None:
    """Input and output share their matrix after training exactly where they did before."""
    for name in STRATEGIES.names():
        model = load_model(folder, dtype="stored")
        tied = model.get_input_embeddings().weight is model.get_output_embeddings().weight
        step(model, choice(name))
        assert (model.get_input_embeddings().weight is model.get_output_embeddings().weight) == tied


@pytest.mark.parametrize("name", ["full", "rows", "layers", "lora"])
@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_strategies_know_other_architectures(kind: str, name: str) -> None:
    """Every strategy trains the paper's bases and others; `rows` and `lora` keep base rows."""
    model, added = other_model(kind, layers=2), (40, 50)
    before, layout = snapshot(model), str(model)
    tied = model.get_input_embeddings().weight is model.get_output_embeddings().weight
    strategy = choice(name)
    groups = strategy.prepare(model, added)
    loss = make_loss(model, "chunked", autocast=False)
    optimiser = torch.optim.AdamW(
        [p for group in groups for p in group.parameters.values()], lr=0.1
    )
    ids = torch.tensor([[1, 40, 50, 4, 9, 40]])
    loss.backward({"input_ids": ids}, ids, 1.0)
    optimiser.step()
    strategy.finish(model)
    after = snapshot(model)
    assert str(model) == layout
    assert (model.get_input_embeddings().weight is model.get_output_embeddings().weight) == tied
    assert moved(before, after)
    if name in {"rows", "lora"}:
        matrix = model.get_input_embeddings().weight
        old = next(tensor for key, tensor in before.items() if after[key].shape == matrix.shape)
        assert (matrix != old).any(dim=1).nonzero().flatten().tolist() == list(added)


def test_lora_merges_into_a_plain_model(folder: Path) -> None:
    """Logits before and after merging are equal; only linear layers and added rows change."""
    model = load_model(folder, dtype="stored")
    before, ids = snapshot(model), torch.tensor([[1, 2, 300, 305, 4]])
    strategy = Lora(rank=4)
    groups = {group.role: group.parameters for group in strategy.prepare(model, ADDED)}
    with torch.no_grad():
        for parameter in [*groups["body"].values(), *groups["added_rows"].values()]:
            parameter.add_(torch.randn_like(parameter) * 0.05)
    adapted = model(input_ids=ids, use_cache=False).logits
    strategy.finish(model)
    torch.testing.assert_close(model(input_ids=ids, use_cache=False).logits, adapted)
    after = snapshot(model)
    assert {
        name for name in moved(before, after) if "proj" not in name
    } == EMBEDDINGS & after.keys()
    assert len([name for name in moved(before, after) if "proj" in name]) == 2 * 7


def test_a_quantised_base_comes_back_as_it_was(folder: Path) -> None:
    """With frozen layers in 4 bits, the merged weights are the originals plus the low-rank product.

    During training the logits are those of the quantised model; the result has plain modules.
    """
    model = load_model(folder, dtype="stored")
    before, ids = snapshot(model), torch.tensor([[1, 2, 300, 305, 4]])
    plain = model(input_ids=ids, use_cache=False).logits.detach()
    strategy = Lora(rank=4, base_precision="nf4")
    strategy.move(model, "cpu")
    groups = {group.role: group.parameters for group in strategy.prepare(model, ())}
    rough = model(input_ids=ids, use_cache=False).logits.detach()
    assert 0 < float((rough - plain).norm() / plain.norm()) < 0.2
    factors = {name: parameter.detach() for name, parameter in groups["body"].items()}
    with torch.no_grad():
        for parameter in factors.values():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    strategy.finish(model)
    after = snapshot(model)
    assert after.keys() == before.keys()
    for name, weight in after.items():
        pair = [
            value for key, value in factors.items() if key.startswith(name.removesuffix("weight"))
        ]
        learned = pair[1] @ pair[0] * (64 / 4) if pair else 0
        torch.testing.assert_close(weight, before[name] + learned)
    assert {type(module).__module__.split(".")[0] for module in model.modules()} <= {
        "torch",
        "transformers",
    }


def test_a_base_that_cannot_be_quantised_is_named() -> None:
    """GPT-2 has no Linear layers: the error names the class and the setting."""
    with pytest.raises(
        RecipeError,
        match=r"c_attn is a Conv1D, and only Linear layers .* use base_precision: float32",
    ):
        Lora(base_precision="nf4").move(other_model("gpt2"), "cpu")


def test_the_papers_released_lora_leaves_the_embeddings_alone(folder: Path) -> None:
    """Rank 8 on query and value projections, rows frozen: nothing else trains."""
    model = load_model(folder, dtype="stored")
    before = snapshot(model)
    step(model, Lora(rank=8, alpha=16, target_modules=("q_proj", "v_proj"), rows="frozen"))
    assert all("q_proj" in name or "v_proj" in name for name in moved(before, snapshot(model)))


def test_lora_without_what_it_needs(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown layer name lists the known ones; a missing package names the install command."""
    model = load_model(tiny_model, dtype="stored")
    with pytest.raises(RecipeError, match=r"query.*it has down_proj.*q_proj"):
        Lora(target_modules=("query",)).prepare(model, ADDED)
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingExtraError, match=r"lingraft\[lora\]"):
        Lora().prepare(model, ADDED)


def test_roles_are_told_apart(folder: Path) -> None:
    """Embeddings and head are one group, everything else the other."""
    model = load_model(folder, dtype="stored")
    groups = {
        group.role: set(group.parameters)
        for group in Differential(base_rows="added_rows").prepare(model, ADDED)
    }
    assert groups["added_rows"] == EMBEDDINGS & set(dict(model.named_parameters()))
    assert groups["body"] == set(dict(model.named_parameters())) - EMBEDDINGS
    assert [group.role for group in Embeddings().prepare(model, ())] == ["added_rows"]


def test_what_cannot_train_is_refused(tiny_model: Path) -> None:
    """No added row, or too many layers, is an error that names an alternative."""
    model = load_model(tiny_model, dtype="stored")
    with pytest.raises(RecipeError, match="no token was added"):
        Rows().prepare(model, ())
    with pytest.raises(RecipeError, match="choose at most 1"):
        Layers(layers_per_end=2).prepare(model, ADDED)


@pytest.mark.parametrize("name", STRATEGIES.names())
def test_default_rates_follow_the_size_of_the_model(name: str) -> None:
    """Rates fall with the model's size, are constant outside the range, and name their source."""
    strategy = STRATEGIES.parse(name)
    rates = [strategy.default_rates(int(n)) for n in (1e5, 8e6, 1e8, 1e9, 7e9, 7e10)]
    assert [r.added_rows for r in rates] == sorted((r.added_rows for r in rates), reverse=True)
    assert rates[0].added_rows == rates[1].added_rows
    assert rates[-1].added_rows == rates[-2].added_rows
    assert "follows the model's size" in rates[0].why


def test_the_known_rates_are_met() -> None:
    """8M and 7B models get the known rates; the paper's are met within a factor of 2."""
    assert (
        Differential().default_rates(8_000_000).body,
        Differential().default_rates(7_000_000_000).added_rows,
    ) == (6e-4, 1e-4)
    assert 0.5 < Full().default_rates(2_500_000_000).body / 9e-5 < 2


@pytest.mark.parametrize("kind", ["phi", "gpt-j", "llama", "xglm"])
def test_rows_apart_compute_what_one_matrix_does(kind: str, tmp_path: Path) -> None:
    """With separate rows, added ids keep their embeddings, logits and a head's bias."""
    folder = MODELS[kind].build(tmp_path / "model")
    ids, added = torch.tensor([[5, 300, 7, 311, 12, 300]]), (300, 305, 311)
    with torch.no_grad():
        plain = load_model(folder)(ids).logits
        model = load_model(folder)
        insert_row_modules(model, added)
        assert torch.allclose(model(ids).logits, plain, atol=1e-6)
        remove_row_modules(model)
        assert torch.equal(model(ids).logits, plain)


NORMED = ["inkling_text", "inkling2_text", "muse_glimmer"]


@pytest.mark.parametrize("kind", [*NORMED, "gemma3_text", "xglm"])
def test_added_rows_are_read_in_training_as_in_the_saved_model(kind: str) -> None:
    """An embedding module that scales or normalises its output does so to separate rows, too."""
    config = tiny_config(kind)
    model = random_model(auto_class(config), config)
    ids = torch.tensor([[5, 300, 7, 311, 12, 305]])
    with torch.no_grad():
        plain = model(input_ids=ids, use_cache=False).logits
        insert_row_modules(model, ADDED)
        trained = model(input_ids=ids, use_cache=False).logits
    torch.testing.assert_close(trained, plain, rtol=1e-5, atol=1e-6)


def test_a_padding_id_keeps_no_added_row_from_training() -> None:
    """The row of the base's padding id gets no gradient, but added rows all do."""
    embedding = torch.nn.Embedding(8, 2, padding_idx=1)
    rows = torch.nn.Parameter(torch.ones(3, 2))
    embed_rows(embedding, rows, torch.tensor([0, 1, 2])).sum().backward()
    assert rows.grad is not None
    assert torch.equal(rows.grad, torch.ones(3, 2))
    assert embedding.padding_idx == 1
    assert list(embedding.state_dict()) == ["weight"]


class PlacedEmbedding(torch.nn.Embedding):
    """An embedding that gives more than a row: what it gives depends on the id itself."""

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return super().forward(ids) * (1 + ids.unsqueeze(-1))


def test_an_embedding_that_reads_more_than_rows_is_refused() -> None:
    """Where separate rows would be read differently, inserting them is an error, not a surprise."""
    config = tiny_config("llama")
    model = random_model(auto_class(config), config)
    model.set_input_embeddings(PlacedEmbedding(320, 32))
    with pytest.raises(ModelError, match=r"PlacedEmbedding: .* choose the training.strategy full"):
        insert_row_modules(model, ADDED)


@pytest.mark.parametrize("kind", NORMED)
def test_the_norm_of_an_embedding_module_is_a_weight_of_the_body(kind: str) -> None:
    """It has no rows: it trains at the body's rate, and merging back mixes it as a whole."""
    config = tiny_config(kind)
    model = random_model(auto_class(config), config)
    assert not any("norm" in name for name in embedding_parameters(model))
    trained = snapshot(model)
    before = {name: tensor + 1 for name, tensor in trained.items()}
    set_merged(model, trained, before, MergeSettings((0.5,), ADDED), 0.5, types={})
    for name, tensor in snapshot(model).items():
        expected = trained[name] + 0.5
        if name in embedding_parameters(model):
            expected[list(ADDED)] = trained[name][list(ADDED)]
        torch.testing.assert_close(tensor, expected)


def test_layers_are_counted_by_their_list() -> None:
    """LongCat-Flash counts two attention layers in each layer; its list says how many there are."""
    model = random_model(auto_class(config := tiny_config("longcat_flash")), config)
    assert config.num_hidden_layers == 4
    assert layer_stacks(model) == ["model.layers"]
    with pytest.raises(RecipeError, match="the model has 2 layers; choose at most 1"):
        Layers(layers_per_end=2).check(model)
    body, _ = Layers(layers_per_end=1).prepare(model, ADDED)
    of_layers = {name for name, _ in model.named_parameters() if ".layers." in name}
    assert body.parameters.keys() == of_layers
    # A model of one layer has lists of two in it, as many as its configuration counts.
    model = random_model(auto_class(config := tiny_config("longcat_flash", num_layers=1)), config)
    assert layer_stacks(model) == ["model.layers"]


def test_a_model_with_two_lists_of_layers_has_no_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """HRM-Text runs two lists in turns: `lora` adapts both, and `layers` says why it does not."""
    config = tiny_config("hrm_text")
    model = random_model(auto_class(config), config)
    assert layer_stacks(model) == ["model.L_module.layers", "model.H_module.layers"]
    with pytest.raises(RecipeError, match=r"2 lists of layers .* choose the .* differential"):
        Layers(layers_per_end=1).check(model)
    monkeypatch.setattr(compiled_layers, "BACKEND", "eager")
    assert len(compiled_layers.CompiledLayers(model).layers) == 4
    adapted = Lora(rank=2).prepare(model, [])[0].parameters
    assert {name.split(".")[1] for name in adapted} == {"L_module", "H_module"}
