"""The settings of packing: how documents become sequences of tokens."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lingraft.errors import RecipeError
from lingraft.registry import Settings

DEFAULT_BLOCK = {"stream": 2048, "documents": 1024}
"""The maximum tokens per sequence if the recipe sets none, by layout.

Documents are cut at 1,024 tokens as in Tejaswi et al. 2024; longer ones would mostly be padding.
"""


class PackingSettings(Settings):
    """How documents become sequences of tokens."""

    block_size: int | None = Field(
        default=None,
        ge=2,
        description="tokens per sequence; default: the model's context, at most 2048, or 1024 "
        "where a sequence is a document",
    )
    layout: Literal["stream", "documents"] = Field(
        default="stream",
        description="stream: documents one after another, cut into full sequences, no text lost; "
        "documents: one document per sequence, cut at `block_size` tokens, the rest dropped and "
        "counted",
    )
    separator: str = Field(
        default="auto",
        min_length=1,
        description="token between documents; auto: the BOS and EOS that the model was pretrained "
        "with, never the mark of a chat turn; eos, bos or bos-eos: as the tokenizer names them; or "
        "a special token that ends each document: <|endoftext|>. Scoring puts the same token "
        "before a text",
    )

    def sequence_length(self, context: int | None) -> int:
        """Return the tokens per sequence for a model with this context length (None: unknown).

        Raises `RecipeError` if `block_size` exceeds the context.
        """
        if self.block_size and context and self.block_size > context:
            msg = (
                f"training.packing.block_size is {self.block_size}, but the model's context is "
                f"{context} tokens; set at most {context}, or leave it out"
            )
            raise RecipeError(msg)
        most = DEFAULT_BLOCK[self.layout]
        return self.block_size or min(context or most, most)
