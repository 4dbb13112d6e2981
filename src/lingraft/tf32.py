"""Whether NVIDIA GPUs may multiply float32 matrices in TF32, which keeps 10 bits of the mantissa.

TF32 is off in training and in scoring, except in a training with `--precision tf32`. torch's own
default is off too, but images of NVIDIA turn it on (TORCH_ALLOW_TF32_CUBLAS_OVERRIDE), and a
program that uses lingraft may have done so. Only this module sets torch's flags.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def tf32_products(*, allowed: bool) -> Iterator[None]:
    """Allow TF32 in matrix products and convolutions in this block, or forbid it.

    The flags of before are set again at its end.
    """
    # Recipes and runs are read without torch.
    import torch

    backends: Any = torch.backends
    # torch has two interfaces for these flags, and the older getters fail where they disagree.
    # Reading the newer ones never fails, and setting the older ones sets both.
    products = backends.cuda.matmul.fp32_precision
    if backends.mkldnn.matmul.fp32_precision == "bf16":
        products = "bf16"  # "medium" of the older interface; GPUs then use TF32
    convolutions, recurrent = (
        backends.cudnn.conv.fp32_precision,
        backends.cudnn.rnn.fp32_precision,
    )
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        names = {"tf32": "high", "bf16": "medium"}
        torch.set_float32_matmul_precision(names.get(products, "highest"))
        backends.cudnn.allow_tf32 = convolutions == "tf32"
        backends.cudnn.rnn.fp32_precision = recurrent
