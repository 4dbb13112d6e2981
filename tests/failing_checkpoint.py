"""One of several processes that write a checkpoint, of which the first cannot write.

Arguments: a folder, and where the first process fails: `begin` or `end`. Prints the error.
"""

from __future__ import annotations

import errno
import os
import resource
import sys
from pathlib import Path

import torch

from lingraft.errors import LingraftError
from lingraft.training.async_checkpoints import AsyncCheckpointWriter
from lingraft.training.distributed import init_process_group


def no_space(folder: Path, *_: object, **_options: object) -> None:
    """Fail as on a full disk."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


def main(folder: Path, where: str) -> None:
    """Write the checkpoint, and print the error of this process."""
    with init_process_group(sharded=True, device="cpu") as world:
        writer = AsyncCheckpointWriter(world)
        if world.is_first and where == "begin":
            Path.mkdir = no_space  # type: ignore[method-assign]
        elif world.is_first:
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        try:
            # The state is written last, by the first process.
            writer.begin(folder, 1, {f"w{world.rank}": torch.ones(2)}, {"text": "x" * 5000})
            writer.finish()
        except LingraftError as error:
            sys.stdout.write(f"{type(error).__name__} {error}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
