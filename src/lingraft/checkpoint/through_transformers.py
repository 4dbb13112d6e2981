"""Finding the embeddings of a checkpoint; where its files name them in another way, transformers saves it anew first.

Some checkpoints hold tensors under names, or in forms, that transformers translates while it loads (Gemma 3's larger
models). Those go once through memory, in their own dtype, into a folder in the names of transformers' own modules, and
the surgery goes on from there; kept rows stay bit-identical. The notes say that this way was taken, and why.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lingraft.checkpoint.names import EmbeddingNames, TensorsNotFound, embedding_names
from lingraft.checkpoint.tensor_files import Checkpoint
from lingraft.errors import ModelError
from lingraft.model_code import trust

BY_FILES = "on the safetensors files"


@contextmanager
def opened(folder: Path, beside: Path) -> Iterator[tuple[Checkpoint, EmbeddingNames, str]]:
    """Yield a checkpoint, the names of its embeddings, and how they were come by.

    What transformers had to save anew lies beside the output as long as the block runs. Raises `ModelError`.
    """
    checkpoint = Checkpoint.open(folder)
    try:
        names = embedding_names(checkpoint)
    except TensorsNotFound as error:
        place = next(parent for parent in beside.absolute().parents if parent.is_dir())
        with tempfile.TemporaryDirectory(prefix=f".{beside.name}-", dir=place) as draft:
            _save_anew(folder, Path(draft))
            anew = Checkpoint.open(Path(draft))
            yield anew, embedding_names(anew), f"through transformers, the whole model in memory: {error}"
        return
    yield checkpoint, names, BY_FILES


def _save_anew(folder: Path, output: Path) -> None:
    """Have transformers load a model in its own dtype and save it in the names of its own modules."""
    from transformers import AutoModelForCausalLM

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model, account = AutoModelForCausalLM.from_pretrained(folder, dtype="auto", output_loading_info=True,
                                                                  **trust(folder))
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        msg = f"{folder}: transformers cannot load it ({' '.join(str(error).split())[:200]})"
        raise ModelError(msg) from error
    if account["missing_keys"]:
        missing = ", ".join(sorted(account["missing_keys"])[:3])
        msg = f"{folder}: lacks {missing}; is it whole, and does config.json belong to it?"
        raise ModelError(msg)
    model.save_pretrained(output, save_original_format=False)
