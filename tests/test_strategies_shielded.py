"""The strategy `shielded`: which columns are frozen, and that they stay bit-identical."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import GPT2Config, GPT2LMHeadModel

from lingraft.checkpoint import load_model
from lingraft.errors import ModelError, RecipeError
from lingraft.packing.blocks import Blocks
from lingraft.recipe import Recipe
from lingraft.strategies import Shielded
from lingraft.strategies.base import Rates
from lingraft.trainers.engines.transformers_settings import refuse_own_loop
from lingraft.trainers.role_rates import RoleRates
from lingraft.training.column_shield import (
    SHIELD,
    calibration_sequences,
    frozen_masks,
    importance,
)
from lingraft.training.merge_back import MergeSettings, merge_models
from lingraft.training.phase_steps import TrainingText
from tests.conftest import ENGLISH, HINDI
from tests.training_cases import ADDED, other_model, packed, plan_of, run, weights_of


@pytest.fixture(scope="module")
def texts(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Blocks, Blocks]:
    folder = tmp_path_factory.mktemp("text")
    return packed(tiny_model, folder / "hi", HINDI), packed(tiny_model, folder / "en", ENGLISH)


def slow_scores(weight: torch.Tensor, inputs: list[torch.Tensor]) -> list[float]:
    """Return sum_i |w_ij| * sqrt(sum_t x_tj^2) for each column j, one number after another."""
    tokens = torch.cat([values.flatten(0, -2) for values in inputs])
    scores = []
    for column in range(weight.shape[1]):
        norm = sum(float(value) ** 2 for value in tokens[:, column]) ** 0.5
        scores.append(sum(abs(float(value)) * norm for value in weight[:, column]))
    return scores


@pytest.mark.parametrize("kind", ["mistral", "gpt2"])
def test_the_columns_with_the_largest_score_are_frozen(kind: str) -> None:
    """In each matrix, they are the top half by the sum of |weight| times the norm of the input.

    GPT-2 stores its matrices the other way round, and has biases and position embeddings.
    """
    model = other_model(kind, layers=2)
    names = [name for name, _ in model.named_parameters()]
    sequences = [torch.tensor([1, 9, 30, 4, 17]), torch.tensor([2, 7, 60])]
    seen: dict[str, list[torch.Tensor]] = {}
    for name, module in model.named_modules():
        if getattr(module, "weight", None) is not None:
            module.register_forward_pre_hook(
                lambda _, args, name=name: seen.setdefault(name, []).append(args[0])
            )
    masks = frozen_masks(model, names, 0.5, sequences, autocast=False)
    embeddings = {model.get_input_embeddings().weight, model.get_output_embeddings().weight}
    shielded = {name for name, p in model.named_parameters() if p not in embeddings}
    assert masks.keys() == shielded - {"transformer.wpe.weight"}
    matrices = 0
    for name, mask in masks.items():
        assert int(mask.sum()) == round(mask.numel() / 2)
        weight = model.get_parameter(name).detach()
        if weight.ndim == 1:
            continue
        matrices += 1
        scores = slow_scores(weight.T if kind == "gpt2" else weight, seen[name[: -len(".weight")]])
        chosen = mask.flatten().tolist()
        assert min(s for s, c in zip(scores, chosen, strict=True) if c) > max(
            s for s, c in zip(scores, chosen, strict=True) if not c
        )
        columns = mask.expand_as(weight).T if kind == "gpt2" else mask.expand_as(weight)
        assert torch.equal(columns.all(0), columns.any(0))
    assert matrices == (14 if kind == "mistral" else 8)


@pytest.mark.parametrize(
    ("kind", "shift"), [("gemma", 1), ("gemma2", 1), ("mistral", 0), ("gpt2", 0), ("phi", 0)]
)
def test_a_normalisation_is_scored_by_its_scale(kind: str, shift: int) -> None:
    """Gemma multiplies by 1 + weight, so a weight of -0.9 scales by a tenth."""
    model = other_model(kind, layers=2)
    norms = 0
    with torch.no_grad():
        for name, module in model.named_modules():
            if "norm" not in type(module).__name__.lower():
                continue
            weight = torch.linspace(-0.9, 0.3, len(module.weight))
            module.weight.copy_(weight)
            norms += 1
            inputs = torch.ones(len(weight))
            assert torch.equal(importance(module.weight, module, inputs), (weight + shift).abs()), (
                name
            )
    assert norms >= 3


@pytest.mark.parametrize("optimizer", ["adamw", "adamw8bit"])
def test_frozen_columns_stay_bit_identical(
    optimizer: str, tiny_model: Path, texts: tuple[Blocks, Blocks], tmp_path: Path
) -> None:
    """In spite of weight decay, averages and merging they do not move, and all other columns do.

    No replay text is trained on: its share is 0.
    """
    plan = plan_of(
        strategy="shielded",
        budget="6 steps",
        batch_tokens=128,
        optimizer=optimizer,
        weight_decay=0.1,
        average_share=0.5,
    )
    notes = run(tiny_model, TrainingText.of(*texts), plan, tmp_path)
    assert notes["replay_share"] == 0
    trained, merged = tmp_path / "output" / "model", tmp_path / "merged"
    merge_models(trained, tiny_model, merged, MergeSettings((0.1,)))
    before, after = weights_of(tiny_model), weights_of(merged)
    masks = load_file(tmp_path / "work" / SHIELD.format(0))
    assert len(masks) == len(before) - 2
    for name, weight in before.items():
        mask = masks.get(name, torch.zeros(1, dtype=torch.bool)).expand_as(weight)
        assert torch.equal(weight[mask], after[name][mask])
        assert bool((weight != after[name])[~mask].float().mean() > 0.9), name


def test_weights_in_bfloat16_decay_except_for_what_is_frozen(
    tiny_model: Path, texts: tuple[Blocks, Blocks], tmp_path: Path
) -> None:
    """A decay below half of the distance of two numbers shrinks weights on average."""
    pytest.importorskip("torchao", reason="the extra torchao is not installed")
    source = tmp_path / "source"
    shutil.copytree(tiny_model, source)
    load_model(tiny_model).bfloat16().save_pretrained(source)
    plan = plan_of(
        strategy={"shielded": {"base_rows": "frozen"}},
        budget="4 steps",
        batch_tokens=128,
        optimizer="adamw8bit_bfloat16",
        # The decay of a step is 0.001, while bfloat16 rounds by up to 0.004.
        learning_rates={"body": 1e-12, "added_rows": 0},
        schedule={"constant": {"warmup": 0}},
        weight_decay=1e9,
    )
    run(source, TrainingText.of(*texts), plan, tmp_path)
    before, after = weights_of(source), weights_of(tmp_path / "output" / "model")
    sizes = torch.zeros(2, dtype=torch.float64)
    for name, mask in load_file(tmp_path / "work" / SHIELD.format(0)).items():
        frozen = mask.expand_as(before[name])
        assert torch.equal(before[name][frozen], after[name][frozen])
        for index, weights in enumerate((before, after)):
            sizes[index] += weights[name][~frozen].double().abs().sum()
    # Rounding by chance leaves a standard deviation of about 0.00005.
    assert (sizes[1] / sizes[0]).item() == pytest.approx(0.999**4, abs=2e-4)


def test_base_rows_can_be_frozen_too(
    tiny_model: Path, texts: tuple[Blocks, Blocks], tmp_path: Path
) -> None:
    """With `base_rows: frozen`, only the added rows of embeddings and head change."""
    strategy = {"shielded": {"base_rows": "frozen", "frozen_share": 0.25}}
    plan = plan_of(strategy=strategy, budget="2 steps", batch_tokens=128, weight_decay=0.1)
    run(tiny_model, TrainingText.of(*texts), plan, tmp_path)
    before, after = weights_of(tiny_model), weights_of(tmp_path / "output" / "model")
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        changed = (before[name] != after[name]).any(dim=1).nonzero().flatten().tolist()
        assert changed == list(ADDED)


def test_a_calibration_sample_is_spread_over_the_text(texts: tuple[Blocks, Blocks]) -> None:
    """Sequences are evenly spaced, and all are read where there are fewer than asked for."""
    english = texts[1]
    few = [ids.tolist() for ids in calibration_sequences(english, 3)]
    indexes = [0, len(english) // 3, 2 * len(english) // 3]
    assert few == [english.sequence(index)[:-1].tolist() for index in indexes]
    assert len(list(calibration_sequences(english, 10**6))) == len(english)


def test_sequences_may_be_as_long_as_learned_positions(tiny_model: Path, tmp_path: Path) -> None:
    """GPT-2 has no position for a token more than the sequences of training have."""
    model = tmp_path / "gpt2"
    shutil.copytree(tiny_model, model)
    sizes = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 32}
    GPT2LMHeadModel(GPT2Config(vocab_size=320, **sizes)).save_pretrained(model)
    texts = packed(model, tmp_path / "hi", HINDI), packed(model, tmp_path / "en", ENGLISH)
    assert texts[1].summary.block == sizes["n_positions"]
    plan = plan_of(strategy="shielded", budget="1 steps", batch_tokens=128)
    assert run(model, TrainingText.of(*texts), plan, tmp_path)["steps"] == 1


def test_what_cannot_be_shielded_is_refused(
    tiny_model: Path, texts: tuple[Blocks, Blocks], tmp_path: Path
) -> None:
    """Without base-language text, in a model of fused experts, and in other trainers."""
    plan = plan_of(strategy="shielded", budget="2 steps", batch_tokens=128)
    with pytest.raises(RecipeError, match="no replay text; name some under replay"):
        run(tiny_model, TrainingText.of(texts[0]), plan, tmp_path)
    recipe: dict[str, Any] = {
        "name": "x",
        "model": "miniature",
        "target": {"language": "hi", "corpus": "text.txt"},
        "training": {"strategy": "shielded"},
    }
    with pytest.raises(ValueError, match="shielded reads base-language text, but the recipe names"):
        Recipe.model_validate(recipe)
    assert Recipe.model_validate(
        {**recipe, "replay": {"language": "en", "corpus": "en.txt", "share": 0}}
    )
    assert "shielded, which only lingraft itself trains" in refuse_own_loop(plan)
    model = load_model(tiny_model)
    with pytest.raises(RecipeError, match="is shielded, which only lingraft itself trains"):
        RoleRates(model, Shielded(), ADDED, Rates(1e-3, 1e-2))
    experts = other_model("qwen3_moe")
    names = [name for name, _ in experts.named_parameters()]
    with pytest.raises(RecipeError, match=r"experts.\w+ belongs to a Qwen3MoeExperts; set"):
        frozen_masks(experts, names, 0.5, [], autocast=False)
    with pytest.raises(ModelError, match="no calibration sequence was routed to model"):
        frozen_masks(model, dict(model.named_parameters()), 0.5, [], autocast=False)
