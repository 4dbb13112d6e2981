"""A model that came back from another engine becomes a run like one that lingraft trained."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import lingraft
from lingraft.errors import LingraftError, ModelError, RecipeError, StoreError
from lingraft.export.trained_delta import read_trained_delta
from lingraft.measurement import Measurement
from lingraft.pipeline import Run, build_graph, load_run
from lingraft.recipe import Runtime
from lingraft.report import write_report
from lingraft.splice import Splice
from lingraft.store import Store
from lingraft.trainers.engine_log import read_engine_log
from lingraft.trainers.origin import locate_paths, store_of
from lingraft.trainers.receive_model import Origin, check_folder, find_received, receive_model
from tests.commands import lingraft as lingraft_command
from tests.conftest import make_tiny_model
from tests.returned_checkpoints import edit, resize_rows
from tests.short_adapt import short_adapt

STATE = {
    "log_history": [
        {"step": 2, "loss": 5.5, "learning_rate": 1e-3, "grad_norm": 2.0, "epoch": 0.5},
        {"step": 4, "loss": 5.25, "learning_rate": 0.0, "grad_norm": float("nan"), "epoch": 1.0},
        {"step": 4, "eval_loss": 5.3, "epoch": 1.0},
        {"step": 4, "train_runtime": 3.2},
    ]
}


@dataclass(frozen=True)
class Returned:
    """A run of lingraft, its model as an engine returns it, and the run that received it."""

    trained: Run
    folder: Path
    received: Run
    log: list[str]

    @property
    def runtime(self) -> Runtime:
        """Where both runs are."""
        return Runtime(self.trained.folder.parent, self.trained.folder.parents[1] / "store", "cpu")


@pytest.fixture(scope="module")
def returned(tmp_path_factory: pytest.TempPathFactory) -> Returned:
    """Return a model as Megatron and a Trainer leave it: padded, with another EOS, and a log.

    The first attempt to receive it fails when the report is written.
    """
    root = tmp_path_factory.mktemp("receive")
    source = root / "source"
    source.mkdir()
    make_tiny_model(source)
    trained = short_adapt(source, root)
    folder = root / "trained"
    shutil.copytree(trained.model_path, folder)
    resize_rows(folder, 512)
    edit(folder / "generation_config.json", eos_token_id=3, suppress_tokens=None)
    (folder / "trainer_state.json").write_text(json.dumps(STATE), encoding="utf-8")
    value = Returned(trained, folder, Run(root / "runs" / "short-received"), [])
    origin = Origin.find(trained.folder)
    with pytest.raises(RuntimeError):
        receive_model(folder, origin, value.runtime, write_report=_fail)
    assert not value.received.folder.exists()
    receive_model(folder, origin, value.runtime, write_report=write_report, log=value.log.append)
    return value


def _fail(_folder: Path) -> None:
    raise RuntimeError


def _comparable(run: Run) -> list[Measurement]:
    """Return the measurements that do not depend on the speed of the machine."""
    return [row for row in run.measurements.rows if row.split != "generated"]


def test_equal_weights_give_equal_measurements(returned: Returned) -> None:
    """Padding and changed settings are repaired, so that every number is that of the run itself."""
    assert _comparable(returned.received) == _comparable(returned.trained)
    assert len(_comparable(returned.received)) > 50


def test_an_interrupted_receive_goes_on_with_stored_stages(returned: Returned) -> None:
    """The second attempt takes the checked checkpoint and its scores from the store."""
    done = [line for line in returned.log if line.startswith(("received model", "scoring adapted"))]
    assert len(done) == 2
    assert all(line.endswith("from the store") for line in done)


def test_a_received_run_says_who_trained_it_and_what_was_repaired(returned: Returned) -> None:
    """run.json, report, card and summary name engine, folder, digest and faults."""
    run = load_run(returned.received.folder)
    assert run.received is not None
    assert run.received["engine"] == "the Trainer of transformers"
    assert run.received["folder"] == str(returned.folder)
    found = run.notes["received model"]["findings"]
    assert {finding["name"] for finding in found} == {
        "padded rows",
        "changed EOS in generation_config",
        "size larger than the tokenizer",
    }
    assert {finding["outcome"] for finding in found} == {"repaired"}
    assert any("512 rows, handed over with" in warning for warning in run.warnings)
    page = run.report.read_text(encoding="utf-8")
    assert '<a href="#received">Received checkpoint</a>' in page
    assert '<h2 id="received-title">' in page
    assert "make-vocab-size-divisible-by" in page
    statement = f"received from trained (6 files, digest {run.received['digest']}; 3 faults"
    assert statement in run.summary
    assert statement in (run.model_path / "README.md").read_text(encoding="utf-8")
    assert returned.trained.received is None


def test_the_log_of_the_engine_is_the_curve(returned: Returned) -> None:
    """The losses of trainer_state.json are in training.jsonl and in a chart of their own."""
    text = (returned.received.folder / "training.jsonl").read_text(encoding="utf-8")
    records: list[dict[str, Any]] = list(map(json.loads, text.splitlines()))
    assert [record.get("loss") for record in records] == [5.5, 5.25, None]
    assert "gradient_norm" not in records[1]  # NaN is no JSON
    assert records[2]["heldout_loss"] == 5.3
    chart = (returned.received.folder / "charts" / "loss.svg").read_text(encoding="utf-8")
    assert "training text 5.50 at step 2, 5.25 at step 4; held-out text of the engine" in chart


def test_a_log_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """A damaged trainer_state.json is an error with its path."""
    (tmp_path / "trainer_state.json").write_text("[]", encoding="utf-8")
    with pytest.raises(ModelError, match=r"trainer_state\.json: not the log of a Trainer"):
        list(read_engine_log(tmp_path / "trainer_state.json"))


def test_a_received_run_does_not_replace_one_that_was_trained(returned: Returned) -> None:
    """The name of a run that lingraft trained is refused."""
    with pytest.raises(StoreError, match=r"short: a run that was not received; .* --name"):
        receive_model(
            returned.folder,
            Origin.find(returned.trained.folder),
            returned.runtime,
            write_report=write_report,
            name="short",
        )


def test_a_received_run_is_in_the_folder_of_runs(returned: Returned) -> None:
    """A name that leaves the folder of all runs is refused, as in a recipe."""
    with pytest.raises(RecipeError, match=r"^name: .*'../x' cannot be the name of a folder"):
        lingraft.receive(returned.folder, returned.trained, name="../x")
    with pytest.raises(RecipeError, match="name: of type int; give the name of a run"):
        lingraft.receive(returned.folder, returned.trained, name=3)  # type: ignore[arg-type]


def test_a_received_run_is_no_adapter(returned: Returned) -> None:
    """What another engine trained is not known, so that no adapter can be written."""
    folder = returned.received.folder
    with pytest.raises(ModelError, match="another engine trained it"):
        read_trained_delta(folder, Splice.read(folder))


def test_a_dry_run_only_lists_the_faults(returned: Returned) -> None:
    """The check gives the same findings and writes no run; an untrained model is refused."""
    origin = Origin.find(returned.trained.folder)
    checked = check_folder(returned.folder, origin, returned.runtime)
    found = returned.received.notes["received model"]["findings"]
    assert [finding.as_json for finding in checked.findings] == found
    spliced = next(
        stage["key"] for stage in returned.trained.record["stages"] if stage["name"] == "embeddings"
    )
    folder = returned.runtime.store / "answers" / f"embeddings-{spliced}" / "model"
    with pytest.raises(LingraftError, match="nothing trained"):
        check_folder(folder, origin, returned.runtime).check()


def test_a_hand_over_names_the_same_model_as_its_run(returned: Returned, tmp_path: Path) -> None:
    """The folder of a hand-over has recipe, model and splice; only the engine is known besides."""
    store = returned.runtime.store
    lingraft.handover(
        returned.trained, to="hf", output=tmp_path / "handed", store=store, log=lambda _line: None
    )
    origin = Origin.find(tmp_path / "handed")
    received = find_received(returned.folder, origin, returned.runtime)
    assert received.record["engine"] == "the Trainer of transformers"
    keys = {stage["name"]: stage["key"] for stage in returned.received.record["stages"]}
    graph = build_graph(origin.recipe, received=received)
    assert graph.received is not None
    assert graph.received.stage.key == keys["received"]
    checked = check_folder(returned.folder, origin, Runtime(tmp_path / "elsewhere"))
    assert len(checked.findings) == 3
    assert store_of(tmp_path / "handed") == Path()
    (tmp_path / "runs" / ".store").mkdir(parents=True)
    assert store_of(tmp_path / "handed") == tmp_path.resolve() / "runs" / ".store"
    manifest = tmp_path / "handed" / "handover.json"
    changed = manifest.read_text(encoding="utf-8").replace(keys["embeddings"], "0" * 20)
    manifest.write_text(changed, encoding="utf-8")
    with pytest.raises(ModelError, match=r"handed over by lingraft .* as 0+, and .* gives"):
        find_received(returned.folder, origin, returned.runtime)


def test_a_hand_over_is_received_from_anywhere_below_where_it_was_made(
    returned: Returned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Relative paths and the store are found from every folder above; otherwise it is said."""
    root = returned.trained.folder.parents[1]
    monkeypatch.chdir(root)
    handed = Path("engines/hf/handed")
    store = returned.runtime.store
    recipe = returned.trained.folder / "recipe.yaml"
    text = recipe.read_text(encoding="utf-8").replace(f"{root}/", "")
    Path("relative.yaml").write_text(text, encoding="utf-8")
    lingraft.handover("relative.yaml", to="hf", output=handed, store=store, log=lambda _line: None)
    (root / "runs" / ".store").mkdir()
    kept = json.loads((handed / "handover.json").read_text(encoding="utf-8"))["origin"]["recipe"]
    assert kept["model"]["folder"]["path"] == "source"
    monkeypatch.chdir(tmp_path)
    origin = Origin.find(root / handed)
    assert find_received(returned.folder, origin, returned.runtime).record["files"]
    assert store_of(root / handed) == root.resolve() / "runs" / ".store"
    (root / "runs" / ".store").rmdir()

    moved = shutil.copytree(root / handed, tmp_path / "moved")
    with pytest.raises(
        RecipeError, match=r"source: not found from .*where `lingraft handover` ran"
    ):
        find_received(returned.folder, Origin.find(moved), returned.runtime)
    # A check alone reads none of them.
    check_folder(returned.folder, Origin.find(moved), returned.runtime).check()


def test_every_path_of_a_hand_over_is_found_from_the_folders_above_it(tmp_path: Path) -> None:
    """Not only corpora: a tokenizer and parallel sentences are files of the recipe, too."""
    for name in ("tok/tokenizer.json", "flores.tsv", "a/over/handover.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    recipe = {
        "model": {"random": {"tokenizer": "tok/tokenizer.json"}},
        "target": {"corpus": [{"path": "/etc/hostname"}]},
        "evaluation": {"parallel_file": "flores.tsv"},
    }
    found = locate_paths(recipe, tmp_path / "a" / "over")
    assert found["model"]["random"]["tokenizer"] == str(tmp_path / "tok/tokenizer.json")
    assert found["evaluation"]["parallel_file"] == str(tmp_path / "flores.tsv")
    assert found["target"] == recipe["target"]


def test_a_checkpoint_is_not_compared_with_a_model_that_it_replaced(
    returned: Returned, tmp_path: Path
) -> None:
    """An engine may save over model/: the check says so, the store still has what was trained."""
    handed, runtime = tmp_path / "handed", returned.runtime
    lingraft.handover(
        returned.trained, to="hf", output=handed, store=runtime.store, log=lambda _line: None
    )
    (trained,) = returned.trained.model_path.glob("*.safetensors")
    (handed / "model" / trained.name).unlink()
    shutil.copyfile(trained, handed / "model" / trained.name)
    (handed / "model" / "tokenizer_config.json").write_text("{}", encoding="utf-8")
    origin = Origin.find(handed)
    with pytest.raises(ModelError, match=r"changed since it was handed over, .*without --dry-run"):
        check_folder(handed / "model", origin, runtime)
    extended = Store(runtime.store).folder(build_graph(origin.recipe).embeddings.stage) / "model"
    assert (extended / "tokenizer_config.json").read_text(encoding="utf-8") != "{}"


def test_the_command_lists_faults_and_refuses_in_one_line(
    returned: Returned, tmp_path: Path
) -> None:
    """--dry-run prints each fault with cause and cure; a folder of another kind has exit code 2."""
    run = (returned.trained.folder, "--store", returned.runtime.store)
    checked = lingraft_command("receive", returned.folder, "--run", *run, "--dry-run", cwd=tmp_path)
    assert checked.returncode == 0, checked.stderr
    assert "3 repaired, 0 kept, 0 refused" in checked.stdout
    assert "padded rows: the engine pads the vocabulary" in checked.stdout
    other = ("--name", "a/b", "--dry-run")
    misnamed = lingraft_command("receive", returned.folder, "--run", *run, *other, cwd=tmp_path)
    assert misnamed.returncode == 2
    assert "--name" in misnamed.stderr.splitlines()[-1]
    (tmp_path / "iter_100").mkdir()
    refused = lingraft_command("receive", tmp_path, "--run", *run, cwd=tmp_path)
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[-1].startswith("error: ")
    assert "Megatron Bridge" in refused.stderr
