"""Whether NVIDIA GPUs may multiply float32 matrices in TF32, which keeps 10 bits of the mantissa.

TF32 is off in training and in scoring, except in a training with `--precision tf32`. torch's own
default is off too, but images of NVIDIA turn it on (TORCH_ALLOW_TF32_CUBLAS_OVERRIDE), and a
program that uses lingraft may have done so. Only this module sets torch's flags.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def tf32_products(*, allowed: bool) -> Iterator[None]:
    """Allow TF32 in matrix products and convolutions in this block, or forbid it.

    The flags of before are set again at its end.
    """
    # Recipes and runs are read without torch.
    import torch

    # torch has two interfaces for these flags, and fails where they disagree. Reading the newer one
    # never fails, and setting the older one sets both.
    products = torch.backends.cuda.matmul.fp32_precision
    convolutions = torch.backends.cudnn.conv.fp32_precision == "tf32"  # type: ignore[attr-defined]
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        names = {"tf32": "high", "bf16": "medium"}
        torch.set_float32_matmul_precision(names.get(products, "highest"))
        torch.backends.cudnn.allow_tf32 = convolutions
