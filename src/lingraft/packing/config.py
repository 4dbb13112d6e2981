"""How documents become rows of tokens."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lingraft.errors import RecipeError
from lingraft.registry import Settings

DEFAULT_BLOCK = 1024


class PackingSettings(Settings):
    """How documents become rows of tokens."""

    block_size: int | None = Field(
        default=None,
        ge=2,
        description=f"tokens per row; default: the model's context, at most {DEFAULT_BLOCK}",
    )
    layout: Literal["stream", "documents"] = Field(
        default="stream",
        description="stream: documents one after another, cut into full rows, no text lost; "
        "documents: one document per row, cut at `block_size` tokens, the rest "
        "dropped and counted",
    )
    separator: str = Field(
        default="auto",
        min_length=1,
        description="token between documents; auto: the BOS and EOS of pretraining that the model "
        "has, never the mark of a chat turn; eos, bos or bos-eos: as the tokenizer "
        "names them; or the text of a token that ends each document: <|endoftext|>. "
        "Scoring puts the same token before a text",
    )

    def row_length(self, context: int | None) -> int:
        """Return the tokens of a row for a model of this context (None: unknown); raises `RecipeError` beyond it."""
        if self.block_size and context and self.block_size > context:
            msg = (
                f"training.packing.block_size is {self.block_size}, but the model sees {context} tokens at once; "
                f"name at most {context}, or leave it out"
            )
            raise RecipeError(msg)
        return self.block_size or min(context or DEFAULT_BLOCK, DEFAULT_BLOCK)
