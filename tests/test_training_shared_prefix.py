"""Shared prefixes: a longer run resumes from a shorter one, and nothing else changes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from lingraft.strategies import Full
from lingraft.training import Execution
from lingraft.training.checkpointing import STATE, new_checkpoint, valid_checkpoints
from lingraft.training.column_shield import SHIELD, read_frozen, write_frozen
from lingraft.training.job import Job
from lingraft.training.phase_steps import TrainingText
from lingraft.training.shared_prefix import prefix_checkpoint
from tests.training_cases import ADDED, Killed, log_of, plan_of, run, two_streams, weights_of

WSD = {"wsd": {"warmup": 2, "decay_share": 0.4}}
BEGINNINGS: dict[str, dict[str, Any]] = {
    "wsd": {"schedule": WSD},
    "constant": {"schedule": {"constant": {"warmup": 2}}},
    "differential": {"schedule": WSD, "strategy": "differential"},
    "shielded": {"schedule": WSD, "strategy": "shielded", "replay_share": 0.2},
    "lora": {"schedule": WSD, "strategy": {"lora": {"dropout": 0.3, "rank": 2}}},
}


def of(steps: int, **settings: Any) -> dict[str, Any]:
    return {"strategy": "full", "batch_tokens": 128, "budget": f"{steps} steps", **settings}


def in_two(steps: int) -> dict[str, Any]:
    return {"phases": [of(3, strategy="rows"), of(steps, schedule=WSD)]}


@pytest.fixture(scope="module")
def text(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainingText:
    return two_streams(tiny_model, tmp_path_factory.mktemp("text"))


def trained(
    model: Path, text: TrainingText, settings: dict[str, Any], folder: Path, **more: Any
) -> dict[str, Any]:
    """Train with the prefixes of `folder`'s parent; return the notes."""
    return run(
        model, text, plan_of(**settings), folder, prefix_dir=folder.parent / "trunks", **more
    )


def same(one: Path, other: Path) -> bool:
    first, second = weights_of(one / "output" / "model"), weights_of(other / "output" / "model")
    return first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) for name in first
    )


@pytest.mark.parametrize("name", [*BEGINNINGS, "two phases"])
def test_a_longer_run_goes_on_and_ends_bit_identical(
    name: str, tiny_model: Path, text: TrainingText, tmp_path: Path
) -> None:
    """The steps of a shorter run are not repeated, and weights and log are those of a full run."""
    short, long = (
        (in_two(8), in_two(14))
        if name == "two phases"
        else (of(8, **BEGINNINGS[name]), of(14, **BEGINNINGS[name]))
    )
    run(tiny_model, text, plan_of(**long), tmp_path / "alone")
    first = trained(tiny_model, text, short, tmp_path / "short")
    second = trained(tiny_model, text, long, tmp_path / "long")
    assert "trunk_steps" not in first
    assert second["trunk_steps"] == {"constant": 8, "two phases": 3 + 6}.get(name, 6)
    assert same(tmp_path / "alone", tmp_path / "long")
    assert log_of(tmp_path / "alone") == log_of(tmp_path / "long")


def test_a_longer_run_freezes_the_columns_that_the_prefix_has_frozen(
    tiny_model: Path, text: TrainingText, tmp_path: Path
) -> None:
    """Even where it would measure others: here the stored choice is turned round."""
    settings = {"schedule": WSD, "strategy": "shielded", "replay_share": 0.2}
    trained(tiny_model, text, of(8, **settings), tmp_path / "short")
    (prefix,) = tmp_path.glob("trunks/*/step-*")
    (found,) = valid_checkpoints(prefix.parent)
    shutil.move(prefix, tmp_path / "moved")
    shield = f"phase-0/{SHIELD.format(0)}"
    other = {name: ~mask for name, mask in read_frozen(tmp_path / "moved" / shield).items()}
    with new_checkpoint(prefix.parent, 6, found.state) as draft:
        shutil.copytree(
            tmp_path / "moved", draft, dirs_exist_ok=True, ignore=shutil.ignore_patterns(STATE)
        )
        write_frozen(other, draft / shield, "")
    assert trained(tiny_model, text, of(14, **settings), tmp_path / "long")["trunk_steps"] == 6
    taken = read_frozen(tmp_path / "long" / "work" / SHIELD.format(0))
    assert all(torch.equal(taken[name], mask) for name, mask in other.items())


@pytest.mark.parametrize(
    "changed",
    [
        {"schedule": "cosine"},
        {"schedule": {"wsd": {"warmup": 0.25}}},
        {"average_share": 0.5},
        {"learning_rates": 1e-4},
        {"weight_decay": 0.1},
        {"replay_share": 0.4},
    ],
    ids=str,
)
def test_nothing_is_taken_over_that_would_have_been_otherwise(
    changed: dict[str, Any], tiny_model: Path, text: TrainingText, tmp_path: Path
) -> None:
    """A schedule that depends on the length, averaging, or any other setting shares no prefix."""
    trained(tiny_model, text, of(8, schedule=WSD), tmp_path / "short")
    trained(tiny_model, text, of(8, **{"schedule": WSD, **changed}), tmp_path / "changed")
    notes = trained(tiny_model, text, of(14, **{"schedule": WSD, **changed}), tmp_path / "long")
    if "schedule" in changed or "average_share" in changed:
        assert "trunk_steps" not in notes
    else:  # its own shorter run it does go on from
        run(tiny_model, text, plan_of(**of(14, **{"schedule": WSD, **changed})), tmp_path / "alone")
        assert notes["trunk_steps"] == 6
        assert same(tmp_path / "alone", tmp_path / "long")
    assert "trunk_steps" not in trained(
        tiny_model, text, of(14, schedule=WSD), tmp_path / "seed", seed=1
    )


def test_the_batch_of_an_earlier_phase_is_part_of_the_key(
    tiny_model: Path, text: TrainingText, tmp_path: Path
) -> None:
    """The default batch follows the budget of all phases: a longer run may begin otherwise."""

    def of_length(tokens: int, **first: Any) -> tuple[str, list[int]]:
        begin = {"strategy": "full", "budget": "1000 tokens", **first}
        plan = plan_of(phases=[begin, {**of(1, schedule=WSD), "budget": f"{tokens} tokens"}])
        job = Job(
            tiny_model, text, plan, tmp_path, ADDED, 0, Execution(), None, prefix_dir=tmp_path
        )
        phases = job.steps(10**6).phases
        prefix = prefix_checkpoint(job, phases, 10**6)
        assert prefix is not None
        return prefix.folder.name, [phase.sequences_per_step for phase in phases]

    short, long, longer = map(of_length, (6_000, 14_000, 16_000))
    assert [batches for _, batches in (short, long, longer)] == [[1, 4], [2, 4], [2, 4]]
    assert long[0] == longer[0] != short[0]
    assert of_length(6_000, batch_tokens=64)[0] == of_length(14_000, batch_tokens=64)[0]


def test_the_tables_of_default_rates_are_part_of_the_key(
    tiny_model: Path, text: TrainingText, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A release with other defaults continues neither a prefix nor a checkpoint of an earlier one.

    Rates that the recipe sets do not depend on the tables.
    """

    def keys(**settings: Any) -> tuple[str, str]:
        plan = plan_of(**of(8, schedule=WSD, **settings))
        job = Job(
            tiny_model, text, plan, tmp_path, ADDED, 0, Execution(), None, prefix_dir=tmp_path
        )
        phases = job.steps(10**6).phases
        prefix = prefix_checkpoint(job, phases, 10**6)
        assert prefix is not None
        return prefix.folder.name, job.fingerprint(10**6, phases)

    default, told = keys(), keys(learning_rates=1e-4)
    monkeypatch.setattr(Full, "small_rates", (1e-9, 1e-9))
    assert all(before != after for before, after in zip(default, keys(), strict=True))
    assert told == keys(learning_rates=1e-4)


def test_a_checkpoint_belongs_to_one_model(
    tiny_model: Path, text: TrainingText, tmp_path: Path
) -> None:
    """Models that differ in any byte of their weights do not continue each other's training."""
    weights = tmp_path / "model.safetensors"

    def fingerprint(changed: int) -> str:
        content = bytearray(4 * 2**20)
        content[changed] = 1
        weights.write_bytes(content)
        job = Job(tmp_path, text, plan_of(**of(8)), tmp_path, ADDED, 0, Execution(), None)
        return job.fingerprint(10**6, job.steps(10**6).phases)

    places = (0, 100_000, 3 * 2**20 + 200_000, 4 * 2**20 - 1)
    assert len({*map(fingerprint, places)}) == len(places)
    assert fingerprint(places[1]) == fingerprint(places[1])


def test_the_decay_may_differ_and_the_longest_prefix_that_fits_is_taken(
    tiny_model: Path, text: TrainingText, tmp_path: Path
) -> None:
    """Of several prefixes, a run takes the longest one that ends before its own decay."""
    for steps in (8, 14):
        trained(tiny_model, text, of(steps, schedule=WSD), tmp_path / str(steps))
    late = {"wsd": {"warmup": 2, "decay_share": 0.3, "final_factor": 0.1}}
    assert trained(tiny_model, text, of(10, schedule=late), tmp_path / "10")["trunk_steps"] == 6
    assert trained(tiny_model, text, of(20, schedule=late), tmp_path / "20")["trunk_steps"] == 10
    assert "trunk_steps" not in trained(tiny_model, text, of(4, schedule=WSD), tmp_path / "4")


def test_a_prefix_that_is_shorter_than_the_stored_ones_is_kept(
    tiny_model: Path, text: TrainingText, tmp_path: Path
) -> None:
    """Two prefixes are stored: the last one, and the longest of the others."""
    for steps in (20, 15, 5):
        trained(tiny_model, text, of(steps, schedule=WSD), tmp_path / str(steps))
    (stored,) = (tmp_path / "trunks").glob("*/")
    assert [found.state["step"] for found in valid_checkpoints(stored)] == [13, 4]
    notes = trained(tiny_model, text, of(7, schedule=WSD), tmp_path / "7")
    assert notes["trunk_steps"] == 4


def test_a_damaged_prefix_is_passed_over_and_made_again(
    tiny_model: Path, text: TrainingText, tmp_path: Path
) -> None:
    """A prefix that does not match its hashes is not used, and a later run replaces it."""
    trained(tiny_model, text, of(8, schedule=WSD), tmp_path / "short")
    (tensors,) = (tmp_path / "trunks").rglob("*.safetensors")
    tensors.chmod(0o644)
    tensors.write_bytes(tensors.read_bytes()[:-1] + b"?")
    assert "trunk_steps" not in trained(
        tiny_model, text, of(8, schedule=WSD), tmp_path / "again", seed=0
    )
    assert trained(tiny_model, text, of(14, schedule=WSD), tmp_path / "long")["trunk_steps"] == 6


def test_a_run_killed_after_its_prefix_still_leaves_it(
    tiny_model: Path, text: TrainingText, tmp_path: Path
) -> None:
    """A killed run resumes, reports the steps of the shorter run, and saves its own prefix."""
    trained(tiny_model, text, of(8, schedule=WSD), tmp_path / "short")
    calls = iter(range(100))

    def heldout(_: Any) -> dict[str, float]:
        if next(calls) == 6:
            raise Killed
        return {"hi": 1.0}

    settings = of(20, schedule=WSD)
    with pytest.raises(Killed):
        trained(
            tiny_model,
            text,
            settings,
            tmp_path / "long",
            heldout=heldout,
            execution=Execution(checkpoint_steps=2),
        )
    notes = trained(tiny_model, text, settings, tmp_path / "long", heldout=lambda _: {"hi": 1.0})
    assert notes["trunk_steps"] == 6
    assert trained(tiny_model, text, of(30, schedule=WSD), tmp_path / "longer")["trunk_steps"] == 13
