"""Runs in several processes: all of them train, and rank 0 builds every other stage.

The other ranks poll the store until it has the inputs of training. They need no lock, because a
stage output is complete or absent, and may be on other machines that share the folder of the store.
When training begins, rank 0 reports whether its output is cached. If it is not, all ranks train and
rank 0 stores the output. If a process fails, the launcher ends the others.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lingraft.pipeline.graph import Graph
from lingraft.pipeline.stage_node import StageNode
from lingraft.recipe import Recipe, Runtime
from lingraft.store import Draft, Store, temporary_folder

POLL_SECONDS = 0.2


@contextmanager
def training_group(node: StageNode, graph: Graph, runtime: Runtime, store: Store) -> Iterator[bool]:
    """Open the process group for the block if several processes train and `node` is the training.

    Yields whether the output of the node is cached; the value is the same on every rank.
    """
    if runtime.launch is None or node is not graph.training:
        yield node.is_cached(store)
        return
    # Imported here, because it imports torch.
    from lingraft.training.distributed import join_launched

    device = runtime.resolved_device()
    with join_launched(runtime.launch, device) as group:
        # The ranks must agree: on a shared file system one may see a new file later than another.
        yield group.any_rank(group.is_first and node.is_cached(store), device)


def train_as_worker(recipe: Recipe, runtime: Runtime, graph: Graph) -> None:
    """Wait for the inputs of training, then train on a rank other than 0."""
    store, training = Store(runtime.store), graph.training
    if training is None:
        return
    wait_until_cached(training.inputs.values(), store)
    with (
        training_group(training, graph, runtime, store) as is_cached,
        tempfile.TemporaryDirectory(dir=temporary_folder()) as folder,
    ):
        if not is_cached:
            # What this rank writes is discarded: rank 0 writes the output.
            draft = Draft(Path(folder), is_first=False)
            training.make(training.context(store, recipe, runtime, draft))


def wait_until_cached(nodes: Iterable[StageNode], store: Store) -> None:
    """Wait until the outputs of all nodes are stored.

    If the process that builds them fails, the launcher ends this one.
    """
    for node in nodes:
        while not node.is_cached(store):
            time.sleep(POLL_SECONDS)
