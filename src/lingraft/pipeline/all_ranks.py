"""Runs in several processes, for training only: the first process builds every other stage.

The other processes wait in the store for the inputs of training, by polling: a stage output is
complete or absent, so they need no lock, and may be on several machines that share the store's
folder. All processes meet when training begins. The first one says whether it is cached; if not,
all train, and the output of the first is kept. If a process fails, the launcher ends the others.
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
from lingraft.store import Draft, Store

POLL_SECONDS = 0.2


@contextmanager
def training_group(node: StageNode, graph: Graph, runtime: Runtime, store: Store) -> Iterator[bool]:
    """Open the process group while the block runs if the node is the training of several processes.

    Yields whether the output is cached, the same answer on every rank.
    """
    if runtime.launch is None or node is not graph.training:
        yield node.is_cached(store)
        return
    device = runtime.resolved_device()
    with runtime.launch.together(device) as group:
        # The ranks must agree: on a shared file system one may see a new file later than another.
        yield group.any_rank(group.is_first and node.is_cached(store), device)


def train_as_worker(recipe: Recipe, runtime: Runtime, graph: Graph) -> None:
    """Train in a process that is not the first; wait for the inputs of training before."""
    store, training = Store(runtime.store), graph.training
    if training is None:
        return
    wait_until_cached(training.inputs.values(), store)
    with (
        training_group(training, graph, runtime, store) as is_cached,
        tempfile.TemporaryDirectory() as folder,
    ):
        if not is_cached:
            draft = Draft(Path(folder), is_first=False)
            training.make(training.context(store, recipe, runtime, draft))


def wait_until_cached(nodes: Iterable[StageNode], store: Store) -> None:
    """Wait until the outputs of all nodes are stored.

    If the process that builds them fails, the launcher ends this one.
    """
    for node in nodes:
        while not node.is_cached(store):
            time.sleep(POLL_SECONDS)
