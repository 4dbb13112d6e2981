"""Write the checkpoints of several processes while training continues.

Each process copies its shards into main memory and writes them to its own safetensors file, with
torch's distributed checkpoint. No process gathers the whole model, and nothing is pickled. When all
processes have written, rank 0 renames the temporary folder to the name of the checkpoint. Only one
checkpoint is in progress at a time. An error of any process is raised in all of them at the next
save.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.distributed import new_group
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_saver import async_save

from lingraft.errors import TrainingError
from lingraft.store import disk_errors
from lingraft.training.checkpointing import draft_folder, new_checkpoint
from lingraft.training.distributed import ProcessGroup


class AsyncCheckpointWriter:
    """Writes the checkpoints of several processes; every process has to call every method."""

    def __init__(self, world: ProcessGroup) -> None:
        self.world = world
        # A separate group, because training communicates at the same time. `async_save` needs a
        # backend for the CPU.
        self.group = new_group(backend="gloo")
        self._pool = ThreadPoolExecutor(1, "checkpoint")
        self._in_progress: Future[None] | None = None

    def begin(
        self,
        scratch_dir: Path,
        step: int,
        tensors: Mapping[str, torch.Tensor],
        state: Mapping[str, Any],
    ) -> None:
        """Wait for the previous checkpoint, then start this one.

        The caller may change `tensors` as soon as this returns. Raises `DiskError` in all processes
        if rank 0 cannot create the folder.
        """
        self.finish()
        checkpoint = ExitStack()

        def create() -> None:
            with disk_errors(scratch_dir):
                checkpoint.enter_context(new_checkpoint(scratch_dir, step, state))

        self.world.compute_once(create)
        # torch stages all tensors in main memory, but fails on the shards of FSDP on a CPU (2.13:
        # "Attempted to call copy_() on an invalid python storage"). Their clones can be staged.
        copies = {
            name: tensor.clone() if tensor.device.type == "cpu" else tensor
            for name, tensor in tensors.items()
        }
        draft = str(draft_folder(scratch_dir, step))
        writer = HuggingFaceStorageWriter(draft, save_distributed=True)
        with _first_failure():
            written: Any = async_save(copies, storage_writer=writer, process_group=self.group)

        def finish() -> None:
            with disk_errors(scratch_dir), checkpoint, _first_failure():
                written.result()

        self._in_progress = self._pool.submit(finish)

    def finish(self) -> None:
        """Wait for the checkpoint in progress; raises its error, `DiskError` for a full disk."""
        in_progress, self._in_progress = self._in_progress, None
        if in_progress:
            # Only rank 0 renames the folder: a failure of that is an error of all processes.
            self.world.compute_once(in_progress.result)
            in_progress.result()


@contextmanager
def _first_failure() -> Iterator[None]:
    """Raise the error of the first process that failed.

    torch collects the errors of all processes in a `BaseException`, which callers do not catch.
    """
    try:
        yield
    except CheckpointException as error:
        rank, (failure, _) = next(iter(error.failures.items()))
        if isinstance(failure, OSError):
            raise failure from error
        msg = f"the checkpoint was not written: process {rank} failed with {failure!r}"
        raise TrainingError(msg) from error
