"""Checkpoints of several processes, written beside training.

Each process copies its shards into main memory and writes them as a safetensors file of its own while training goes on
(torch's distributed checkpoint: no process gathers, nothing is pickled). When all have written, the first one makes the
draft a checkpoint. One is under way at a time; an error of any process reaches all of them at the next save.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lingraft.errors import TrainingError
from lingraft.store import disk_errors
from lingraft.training.checkpointing import draft_folder, new_checkpoint
from lingraft.training.distributed import ProcessGroup

if TYPE_CHECKING:
    import torch


class Background:
    """Writes the checkpoints of a `world` of several processes; every process has to call every method."""

    def __init__(self, world: ProcessGroup) -> None:
        from torch.distributed import new_group

        self.world = world
        self.group = new_group(backend="gloo")  # of its own: training talks meanwhile
        self._pool = ThreadPoolExecutor(1, "checkpoint")
        self._under_way: Future[None] | None = None

    def begin(self, scratch_dir: Path, step: int, tensors: Mapping[str, torch.Tensor],
              state: Mapping[str, Any]) -> None:
        """Wait for the checkpoint before, then begin this one: `tensors` may change as soon as this returns."""
        from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
        from torch.distributed.checkpoint.state_dict_saver import async_save

        self.finish()
        left = ExitStack()
        if self.world.is_first:
            with disk_errors(scratch_dir):
                left.enter_context(new_checkpoint(scratch_dir, step, state))
        self.world.wait()
        kept = {name: tensor.clone() if tensor.device.type == "cpu" else tensor for name, tensor in tensors.items()}
        writer = HuggingFaceStorageWriter(str(draft_folder(scratch_dir, step)), save_distributed=True)
        with _plain_errors():
            written: Any = async_save(kept, storage_writer=writer, process_group=self.group)

        def finish() -> None:
            with disk_errors(scratch_dir), left, _plain_errors():
                written.result()

        self._under_way = self._pool.submit(finish)

    def finish(self) -> None:
        """Wait for the checkpoint that is under way; raises what went wrong with it, `StoreError` for a full disk."""
        under_way, self._under_way = self._under_way, None
        if under_way:
            under_way.result()
            self.world.wait()


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Raise what failed in the first process that failed, not torch's collection, which is no `Exception`."""
    from torch.distributed.checkpoint.api import CheckpointException

    try:
        yield
    except CheckpointException as error:
        rank, (failure, _) = next(iter(error.failures.items()))
        if isinstance(failure, OSError):
            raise failure from error
        msg = f"the checkpoint was not written: process {rank} says {failure!r}"
        raise TrainingError(msg) from error
