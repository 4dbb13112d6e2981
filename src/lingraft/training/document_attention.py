"""Attention within documents: each token attends to the tokens of its own document only.

transformers derives the mask from position ids that start again at 0 in each document. Two
implementations compute the same attention, except for rounding:

- the model's own one (SDPA) with a dense mask, which works everywhere. Its memory grows with the
  square of the sequence's length, and it also computes the products that are masked.
- flex attention, which skips blocks of the mask in which nothing is attended to. It is compiled
  code and has a backward pass on GPUs only. There it is used where the model supports it.

The implementation is no part of a recipe; whether documents are masked is (`document_mask`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.flex_attention import flex_attention_forward
from transformers.masking_utils import flex_attention_mask

from lingraft.errors import one_line
from lingraft.packing.mixture import document_positions
from lingraft.packing.shards import Integers
from lingraft.training.compiled_layers import compile_problem
from lingraft.training.document_mask import masked_influence, trial_logits
from lingraft.training.execution import Execution

FLEX = "flex_attention_autocast"
"""The name under which transformers knows `flex_attention_autocast`."""
BFLOAT16_ROUNDING = 0.05
"""The largest `masked_influence` that is taken for rounding in bfloat16, which has 8 bits."""


def flex_attention_autocast(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **settings: Any
) -> Any:
    """Call the flex attention of transformers with inputs of one data type.

    Autocast does not convert its inputs in all versions of torch: after rotary positions in
    float32, queries and keys would be in float32, and values in bfloat16.
    """
    kind = query.device.type
    if torch.is_autocast_enabled(kind):
        dtype = torch.get_autocast_dtype(kind)
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    return flex_attention_forward(module, query, key, value, attention_mask, **settings)


AttentionInterface.register(FLEX, flex_attention_autocast)
AttentionMaskInterface.register(FLEX, flex_attention_mask)


def flex_problem(model: Any, execution: Execution) -> str:
    """Return why flex attention cannot train a model; "" where it can."""
    device = execution.device
    if not device.startswith("cuda"):
        return f"flex attention has no backward pass on {device.split(':')[0]}"
    if execution.compile == "false":
        return "flex attention is compiled code, and --compile is false"
    problem = compile_problem(device)
    if problem:
        return f"flex attention is compiled code: {problem}"
    # In float32, its backward pass can need more shared memory than a GPU has.
    if not execution.computes_in_bfloat16():
        return "flex attention is used in bfloat16 only"
    settable = model._can_set_attn_implementation()  # noqa: SLF001 - the public setter only warns
    if not (settable and model._supports_flex_attn):  # noqa: SLF001 - as transformers checks it
        return f"{type(model).__name__} does not support flex attention"
    config = model.config.get_text_config()
    dropout = max(getattr(config, name, 0.0) or 0.0 for name in ("attention_dropout", "attn_pdrop"))
    return "flex attention has no dropout, and the model has" if dropout else ""


@dataclass(frozen=True)
class DocumentAttention:
    """How the documents of a sequence are kept apart.

    `implementation` is the name that transformers has for it, and `why_not_flex` the reason if it
    is not flex attention.
    """

    model: Any
    document_start: int
    implementation: str
    why_not_flex: str = ""

    @classmethod
    def of(cls, model: Any, document_start: int, execution: Execution) -> DocumentAttention:
        """Choose the implementation for a model that masks documents (`DocumentMask`)."""
        own = str(model.config._attn_implementation)  # noqa: SLF001 - has no public name
        problem = flex_problem(model, execution)
        if not problem:
            flex = cls(model, document_start, FLEX)
            problem = flex.failure()
            # The short sequences of the trial would make torch compile for any length.
            torch.compiler.reset()
            if not problem:
                return flex
        return cls(model, document_start, own, problem)

    @property
    def note(self) -> str:
        """The implementation, and why it is not flex attention."""
        if self.why_not_flex:
            return f"{self.implementation} ({self.why_not_flex})"
        return "flex_attention"

    def positions(self, ids_BT: Integers) -> Tensor:
        """Return position ids that start again at 0 in each document, on the CPU."""
        return torch.from_numpy(document_positions(ids_BT, self.document_start))

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Use the implementation in this block, for forward and backward passes."""
        config = self.model.config
        before = str(config._attn_implementation)  # noqa: SLF001 - has no public name
        if before == self.implementation:
            yield
            return
        self.model.set_attn_implementation(self.implementation)
        try:
            yield
        finally:
            self.model.set_attn_implementation(before)

    def failure(self) -> str:
        """Return why the implementation cannot train the model, in one line; "" if it can.

        A forward and a backward pass are tried, and whether documents are kept apart. Gradients are
        dropped.
        """
        model, training = self.model, self.model.training
        model.eval()
        try:
            with self.applied(), torch.autocast(model.device.type, torch.bfloat16):
                trial_logits(model, apart=True).sum().backward()  # type: ignore[no-untyped-call]
                # NaN, too, is not at most that.
                is_kept_apart = masked_influence(model) <= BFLOAT16_ROUNDING
        except Exception as error:  # noqa: BLE001 - whatever fails, the dense mask works
            return f"flex attention failed: {type(error).__name__}: {one_line(error)}"
        finally:
            model.zero_grad(set_to_none=True)
            model.train(training)
        return "" if is_kept_apart else "flex attention did not keep documents apart"
