"""How documents become rows of tokens."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lingraft.errors import RecipeError
from lingraft.registry import Settings

DEFAULT_BLOCK = 1024


class PackingSettings(Settings):
    """How documents become rows of tokens."""

    block: int | None = Field(default=None, ge=2, description="tokens in a row; left out: the model's context, at most "
                                                              f"{DEFAULT_BLOCK}")
    pack: Literal["stream", "documents"] = Field(
        default="stream", description="stream: documents one after another, cut into full rows, no text lost; "
                                      "documents: a document a row, cut at `block` tokens, the rest dropped, counted")
    separator: str = Field(
        default="auto",
        min_length=1,
        description="what stands between documents; auto: the BOS and EOS of pretraining, as far as the model has "
        "them, never a chat turn's mark; eos, bos or bos-eos: as the tokenizer names them; or the spelling of a token, "
        "which then ends each document: <|endoftext|>. Scoring begins texts behind the same token",
    )

    def row_length(self, context: int | None) -> int:
        """Return the tokens of a row for a model of this context (None: unknown); raises `RecipeError` beyond it."""
        if self.block and context and self.block > context:
            msg = (f"training.packing.block is {self.block}, but the model sees {context} tokens at once; "
                   f"name at most {context}, or leave it out")
            raise RecipeError(msg)
        return self.block or min(context or DEFAULT_BLOCK, DEFAULT_BLOCK)
