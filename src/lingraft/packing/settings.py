"""How documents become rows of tokens."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lingraft.errors import RecipeError, TokenizerError
from lingraft.registry import Settings

DEFAULT_BLOCK = 1024


class PackingSettings(Settings):
    """How documents become rows of tokens."""

    block: int | None = Field(default=None, ge=2, description="tokens in a row; left out: the model's context, at most "
                                                              f"{DEFAULT_BLOCK}")
    pack: Literal["stream", "documents"] = Field(
        default="stream", description="stream: documents one after another, cut into full rows, no text lost; "
                                      "documents: a document a row, cut at `block` tokens, the rest dropped, counted")
    separator: Literal["auto", "eos", "bos", "bos-eos"] = Field(
        default="auto", description="what stands between documents; auto: BOS before and EOS after each document, as "
                                    "far as the model has them")

    def row_length(self, context: int | None) -> int:
        """Return the tokens of a row for a model of this context (None: unknown); raises `RecipeError` beyond it."""
        if self.block and context and self.block > context:
            msg = (f"training.packing.block is {self.block}, but the model sees {context} tokens at once; "
                   f"name at most {context}, or leave it out")
            raise RecipeError(msg)
        return self.block or min(context or DEFAULT_BLOCK, DEFAULT_BLOCK)

    def separators(self, bos: int | None, eos: int | None) -> tuple[int | None, int | None]:
        """Return the id before and the id after each document; raises `TokenizerError` where a named one is missing.

        >>> PackingSettings().separators(1, 2), PackingSettings().separators(7, 7)
        ((1, 2), (None, 7))
        """
        wanted = {"auto": (bos, eos), "eos": (None, eos), "bos": (bos, None), "bos-eos": (bos, eos)}[self.separator]
        missing = [role for role, found in (("bos", bos), ("eos", eos)) if role in self.separator and found is None]
        if missing or wanted == (None, None):
            names = " and ".join(missing or ["bos or eos"]).upper()
            msg = (f"the tokenizer names no {names} token, which training puts between documents; set bos_token or "
                   f"eos_token in its tokenizer_config.json, or choose training.packing.separator: auto, bos or eos")
            raise TokenizerError(msg)
        before, after = wanted
        return (None, after) if before == after else (before, after)
