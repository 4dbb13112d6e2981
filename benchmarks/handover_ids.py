"""Compare the ids of a hand-over with lingraft's own loop and packed text.

lingraft handover RECIPE --to hf --data megatron --data text -O FOLDER
python benchmarks/handover_ids.py FOLDER [--store STORE] [--megatron-core SITE_PACKAGES]

`--megatron-core` is a folder in which `pip install --no-deps megatron-core` has put the package;
`.bin` and `.idx` are then read by its IndexedDataset.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from lingraft.packing.mixture import IGNORED
from lingraft.pipeline import build_graph
from lingraft.pipeline.training_builders import training_text
from lingraft.pipeline.training_stages import training_inputs
from lingraft.recipe import Recipe, parse_recipe
from lingraft.recipe.tree import Tree
from lingraft.store import Store, checksums
from lingraft.trainers import Handover
from lingraft.trainers.manifest import MANIFEST
from lingraft.training import Execution
from lingraft.training.job import Job
from lingraft.training.phase_steps import TrainingText


def main() -> None:
    """Print what was compared; raises AssertionError at the first difference."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--store", type=Path, default=Path("runs/.store"))
    parser.add_argument("--megatron-core", default="")
    arguments = parser.parse_args()
    folder, handover = arguments.folder, Handover.read(arguments.folder)
    found = {name: state for name, state in checksums(folder).items() if name != MANIFEST}
    assert found == {name: (file.bytes, file.sha256) for name, file in handover.files.items()}
    print(f"{len(found)} files: as handover.json says")
    recipe = parse_recipe(Tree(dict(handover.origin.recipe)))
    graph, store = build_graph(recipe), Store(arguments.store)
    inputs = training_inputs(recipe, graph.packing)
    text = training_text(recipe, {role: store.folder(one.stage) for role, one in inputs.items()})
    compare_rows(folder, handover, recipe, text)
    if arguments.megatron_core:
        # After the packages of this environment, so that only megatron-core comes from there.
        sys.path.append(arguments.megatron_core)
        compare_indexed(folder, handover, text)


def compare_rows(folder: Path, handover: Handover, recipe: Recipe, text: TrainingText) -> None:
    """Compare every row with the sequence at its place in the batches of the loop."""
    job = Job(Path(), text, recipe.training, Path(), (), recipe.seed, Execution(), None)
    for number, phase in enumerate(job.steps(handover.model.parameters).phases):
        for record in handover.training_data("sequences", number):
            begun, rows = time.monotonic(), iter(datasets.load_from_disk(folder / record.path))
            for step in range(phase.steps):
                compare_batch(phase.batch(step), rows)
            assert next(rows, None) is None
            seconds = time.monotonic() - begun
            print(
                f"{record.path}: {phase.sequences:,} rows are those of {phase.steps:,} batches "
                f"({seconds:.0f} s)"
            )


def compare_batch(batch: Any, rows: Any) -> None:
    """Compare a batch with the next rows."""
    for inputs, labels in zip(batch.inputs, batch.labels, strict=True):
        row = next(rows)
        ids, named = np.array(row["input_ids"]), np.array(row["labels"])
        length = len(ids) - 1
        assert np.array_equal(ids[:-1], inputs[:length])
        assert np.array_equal(named[1:], labels[:length])
        assert named[0] == IGNORED
        assert (labels[length:] == IGNORED).all()


def compare_indexed(folder: Path, handover: Handover, text: TrainingText) -> None:
    """Compare the ids that megatron-core reads with the packed text."""
    from megatron.core.datasets.indexed_dataset import IndexedDataset

    for record in handover.training_data("megatron"):
        (blocks,) = (one.blocks for one in text.sources if one.name == record.language)
        read = IndexedDataset(str(folder / record.path))
        ids = np.concatenate([read[index] for index in range(len(read))])
        # Without BOS, the first id of the packed text is only the context of the next one.
        skipped = int(blocks.summary.before is None)
        assert np.array_equal(ids, blocks.tokens[skipped:])
        assert len(read.document_indices) - 1 == record.documents == blocks.summary.documents
        print(
            f"{record.path}: megatron-core reads the {len(ids):,} ids of {record.documents:,} "
            f"documents as {read.index.dtype.__name__}"
        )


if __name__ == "__main__":
    main()
