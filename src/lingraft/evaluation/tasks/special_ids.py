"""The special ids that lm-eval needs of a tokenizer: BOS, EOS and the prefix of a prompt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lingraft.errors import TokenizerError

PROBE = "a"
"""A text that is encoded to find the ids that a tokenizer puts before a text."""


def set_bos_and_eos(tokenizer: Any, config: Any) -> None:
    """Set BOS and EOS from the model's config if the tokenizer has none."""
    for role in ("bos", "eos"):
        configured = getattr(config, f"{role}_token_id", None)  # one id or several
        token_id = configured[0] if isinstance(configured, list) and configured else configured
        is_missing = getattr(tokenizer, f"{role}_token_id") is None
        # The config may name an id that only a padded row of the matrix has.
        if is_missing and isinstance(token_id, int) and token_id < len(tokenizer):
            setattr(tokenizer, f"{role}_token", tokenizer.convert_ids_to_tokens(token_id))


def prompt_prefix(tokenizer: Any, folder: Path) -> list[int]:
    """Return the ids that the tokenizer puts before a text."""
    bare = tokenizer.encode(PROBE, add_special_tokens=False)
    whole = tokenizer.encode(PROBE)
    for begin in range(len(whole) - len(bare) + 1):
        if whole[begin : begin + len(bare)] == bare:
            return list(whole[:begin])
    msg = (
        f"{folder}: the ids of {PROBE!r} with special tokens, {whole}, do not contain those "
        f"without, {bare}; check the post-processor of the tokenizer"
    )
    raise TokenizerError(msg)
