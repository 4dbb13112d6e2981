"""Receive a model that another engine trained: check it, measure it, write it as a run.

The checkpoint takes the place of the training stage. All other stages are those of the run or
recipe that was handed over, so that measurements, report and exports are the same as if lingraft
had trained the model. Finished stages are stored: a stopped command continues.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from lingraft.errors import ModelError, RecipeError, StoreError
from lingraft.model_code import permit, recipe_permits
from lingraft.pipeline import Run, build_graph, run
from lingraft.pipeline.build_stage import build_node, quiet_libraries
from lingraft.pipeline.received import FINDINGS, ReceivedModel, frozen_part
from lingraft.pipeline.run_folder import RUN, read_record
from lingraft.pipeline.runner import WriteReport
from lingraft.pipeline.stage_builders import warn_if_not_servable
from lingraft.pipeline.stage_node import StageContext, StageNode, must_build
from lingraft.progress import LogLine, discard_line, warn
from lingraft.recipe import Recipe, Runtime, parse_recipe, recipe_values
from lingraft.recipe.load import missing_paths
from lingraft.recipe.overrides import Assignment, override
from lingraft.recipe.tree import Tree
from lingraft.splice import Splice
from lingraft.store import Store, cached_sha256, digest
from lingraft.trainers.engine_log import write_engine_log
from lingraft.trainers.engines import ENGINES
from lingraft.trainers.manifest import MANIFEST, Handover
from lingraft.trainers.origin import find_recipe, locate_paths, recorded_keys
from lingraft.trainers.returned_folder import check_format, find_trainer_state, returned_digests
from lingraft.trainers.returned_model import ReturnedModel, check_returned, write_received

SUFFIX = "-received"
"""What the name of a run gets if no other name is given."""

OTHER_MODEL = (
    "run: this version, or the text as it is now, gives another extended model than the run had; "
    "the checkpoint is compared with the new one: receive it with the version that made the run"
)


@dataclass(frozen=True)
class Origin:
    """What a checkpoint was trained from.

    - `recipe`: that of the hand-over, the run, or the file.
    - `handover`: the folder of the hand-over, if there is one.
    - `run_keys`: the keys of a run's stages by title.
    """

    recipe: Recipe
    handover: Path | None = None
    run_keys: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def find(cls, path: Path, overrides: Sequence[str | Assignment] = ()) -> Origin:
        """Return the origin that a path names: a hand-over folder, a finished run, or a recipe.

        Raises `RecipeError` for overrides of anything but a recipe.
        """
        if not (path / MANIFEST).is_file():
            return cls(find_recipe(path, overrides), run_keys=recorded_keys(path))
        if overrides:
            msg = f"{path}: a hand-over has its settings; give its recipe to change one"
            raise RecipeError(msg)
        values = locate_paths(Handover.read(path).origin.recipe, path)
        return cls(parse_recipe(Tree(values)), path)

    @property
    def engine(self) -> str:
        """The engine that was handed over to, as its authors write it, "" if it is not known."""
        if self.handover is None:
            return ""
        name = Handover.read(self.handover).engine
        return ENGINES[name].title if name in ENGINES else name

    def check_paths(self) -> None:
        """Raise `RecipeError` if a file of the recipe of a hand-over is not found from here."""
        path = next(missing_paths(recipe_values(self.recipe)), None)
        if self.handover is not None and path is not None:
            msg = (
                f"{self.handover / MANIFEST}: {path}: not found from {Path.cwd()} or from a folder "
                "above the hand-over; run `lingraft receive` where `lingraft handover` ran"
            )
            raise RecipeError(msg)

    def check_stage(self, embeddings: StageNode) -> None:
        """Compare the extended model with the one that was handed over.

        Raises `ModelError` if a hand-over had another one; of a run, warns.
        """
        key = embeddings.stage.key
        if self.handover is None:
            if self.run_keys and self.run_keys.get(embeddings.title) != key:
                warn(OTHER_MODEL)
            return
        manifest = Handover.read(self.handover)
        handed = manifest.origin.stages.get("embeddings")
        if handed != key:
            msg = (
                f"{self.handover / MANIFEST}: the model was handed over by lingraft "
                f"{manifest.lingraft} as {handed}, and the same recipe gives {key} now; use that "
                "version, and text and source as they were"
            )
            raise ModelError(msg)


def receive_model(
    folder: Path,
    origin: Origin,
    runtime: Runtime,
    *,
    write_report: WriteReport,
    name: str | None = None,
    log: LogLine = discard_line,
) -> Run:
    """Receive the checkpoint in `folder` and return the finished run.

    Raises `ModelError` if the checkpoint has a fault that cannot be repaired. The folder is only
    read.
    """
    recipe = name_received(origin, runtime, name)
    received = find_received(folder, origin, runtime)
    return run(recipe, runtime, write_report=write_report, log=log, received=received)


def name_received(origin: Origin, runtime: Runtime, name: str | None) -> Recipe:
    """Return the recipe with the name of the run that is received.

    Raises `RecipeError` for a name that no folder can have, and `StoreError` if the new run would
    replace one that was trained here.
    """
    given = Assignment("name", name or f"{origin.recipe.run_name}{SUFFIX}", "--name")
    recipe = parse_recipe(override(Tree(recipe_values(origin.recipe)), [given]))
    folder = runtime.runs / recipe.run_name
    if (folder / RUN).is_file() and "received" not in read_record(folder):
        msg = f"{folder}: a run that was not received; choose another name with --name"
        raise StoreError(msg)
    return recipe


def find_received(folder: Path, origin: Origin, runtime: Runtime) -> ReceivedModel:
    """Return the checkpoint in a folder; raises `ModelError` if it has another format."""
    origin.check_paths()
    graph = build_graph(origin.recipe)
    origin.check_stage(graph.embeddings)
    extended = Store(runtime.store).folder(graph.embeddings.stage) / "model"
    check_format(folder, origin.handover / "model" if origin.handover else extended)
    digests = returned_digests(folder)
    engine = origin.engine
    if not engine and find_trainer_state(folder):
        engine = "the Trainer of transformers"
    record = {
        "folder": str(folder),
        "digest": digest(digests)[:20],
        "files": len(digests),
        "engine": engine,
    }
    make = partial(make_received, folder, digests)
    return ReceivedModel(digests, make, record)


def make_received(folder: Path, digests: Mapping[str, str], context: StageContext) -> None:
    """Check a checkpoint and write it as a model of the run."""
    recipe = context.recipe
    returned = check_returned(
        folder,
        context.folders["model"] / "model",
        Splice.read(context.folders["vocabulary"]),
        separator=recipe.training.packing.separator,
        masked=recipe.training.may_mask_documents,
        frozen=frozen_part(recipe),
    )
    for finding in returned.findings:
        if finding.outcome != "refused":  # the error names the others
            context.draft.warn(finding.warning)
    returned.check()
    write_received(returned, context.draft.folder / "model")
    if returned_digests(folder) != digests:
        msg = f"{folder}: changed while it was read; receive it again when the engine has finished"
        raise StoreError(msg)
    context.draft.notes["from"] = str(folder)
    context.draft.notes[FINDINGS] = [finding.as_json for finding in returned.findings]
    context.draft.notes.update(_counts(returned))
    write_engine_log(find_trainer_state(folder), context.draft.folder)
    warn_if_not_servable(context)


def _counts(returned: ReturnedModel) -> dict[str, int]:
    """Return how many tensors and rows training changed."""
    weights = returned.weights
    rows = [int(mask.sum()) for mask in weights.changed_rows.values()]
    return {
        "changed_tensors": len(weights.changed),
        "unchanged_tensors": len(weights.unchanged),
        "changed_rows": max(rows, default=0),
    }


def check_unchanged(handover: Path) -> None:
    """Raise `ModelError` if the model of a hand-over folder is not the one that was handed over."""
    manifest = Handover.read(handover)
    for name, record in manifest.files.items():
        if not name.startswith((f"{manifest.model.folder}/", "splice.json")):
            continue
        path = handover / name
        if not path.is_file() or cached_sha256(path) != record.sha256:
            state = "changed since it was handed over" if path.exists() else "missing"
            msg = (
                f"{path}: {state}, so that nothing can be compared with it; receive without "
                "--dry-run, which compares with the store, or hand over again into another folder"
            )
            raise ModelError(msg)


def check_folder(
    folder: Path, origin: Origin, runtime: Runtime, *, log: LogLine = discard_line
) -> ReturnedModel:
    """Check a returned folder and write nothing; stages before training are built if needed."""
    recipe = origin.recipe
    extended, splice_folder = None, None
    if origin.handover:
        check_unchanged(origin.handover)
        extended, splice_folder = origin.handover / "model", origin.handover
        if recipe_permits(Handover.read(origin.handover).origin.recipe["model"]):
            permit(extended)  # its files were just compared with what was handed over
    else:
        graph, store = build_graph(recipe), Store(runtime.store)
        nodes = graph.before(graph.result_checks[0])
        if must_build(nodes, runtime, store):
            quiet_libraries()
        for node in nodes:
            build_node(node, recipe, runtime, store, log)
        extended = store.folder(graph.embeddings.stage) / "model"
        splice_folder = store.folder(graph.vocabulary.stage)
    check_format(folder, extended)
    return check_returned(
        folder,
        extended,
        Splice.read(splice_folder),
        separator=recipe.training.packing.separator,
        masked=recipe.training.may_mask_documents,
        frozen=frozen_part(recipe),
    )
