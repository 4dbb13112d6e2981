"""The results of extending a tokenizer from Python: plain values, and the files behind them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lingraft.certificate import Certificate
from lingraft.errors import StoreError
from lingraft.library.tokenizer_splice import TokenizerSplice
from lingraft.library.work_folder import RESULT, WorkFolder
from lingraft.model_code import OF_TOKENIZER
from lingraft.pretokenizer.change import PretokenizerChange
from lingraft.splice import AddedToken
from lingraft.store import disk_errors, expanded, is_valid_path, write_files
from lingraft.tokenizer.file_names import TOKENIZER_FILES
from lingraft.vocabulary import Selected
from lingraft.vocabulary.extension_files import savings_curve

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class TokenizerExtension:
    """An extended tokenizer with everything that is known about it.

    Attributes:
        tokenizer: the extended tokenizer, as `AutoTokenizer` loads it.
        splice: where the embedding row of every id comes from; `lingraft.resize` needs it.
        certificate: the claims about the tokenizer, each with the number of its exceptions.
        pretokenizer: what was decided about the pre-tokenizer, and why.
        warnings: what to know about the result, one line each.
        notes: the method and the numbers of tokens, as a run records them.
    """

    tokenizer: PreTrainedTokenizerBase
    splice: TokenizerSplice
    certificate: Certificate
    pretokenizer: PretokenizerChange
    warnings: tuple[str, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)
    files: WorkFolder = field(repr=False, compare=False, kw_only=True)

    def __repr__(self) -> str:
        """Return the numbers; `lingraft.extend_tokenizer` returns it to a notebook."""
        return (
            f"TokenizerExtension({len(self.tokenizer):,} tokens, {len(self.tokens):,} of them new; "
            f"{self.certificate!r}; {len(self.warnings)} warnings)"
        )

    @property
    def tokens(self) -> tuple[AddedToken, ...]:
        """The new tokens by rank: id, surface, source ids that spell it, tokens that it saved."""
        return self.splice.new

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the files of `lingraft extend`: the tokenizer, and its evidence in `lingraft/`.

        The evidence is splice.json, certificate.json, samples.json, curve.json and
        pretokenizer.json. Tokenizer files of another tokenizer that the folder holds are removed,
        because loaders would read them as well. Raises `StoreError` if the folder is not writable.
        """
        is_path = isinstance(folder, str | os.PathLike) and is_valid_path(Path(folder))
        if not is_path or expanded(Path(folder)).is_file():
            msg = f"folder: {folder!r} is no folder; give the path of one"
            raise StoreError(msg)
        folder, result = expanded(Path(folder)), self.files.path / RESULT
        if not result.is_dir():
            msg = (
                f"{self.files.path}: was removed, as happens to old temporary files; extend the "
                "tokenizer again, or use extension.tokenizer.save_pretrained(FOLDER)"
            )
            raise StoreError(msg)
        evidence = folder / "lingraft"
        content: dict[Path, str | bytes] = {}
        for file in filter(Path.is_file, (result / "tokenizer").rglob("*")):
            content[folder / file.relative_to(result / "tokenizer")] = file.read_bytes()
        for file in result.glob("*.json"):
            content[evidence / file.name] = file.read_bytes()
        with disk_errors(folder, option=""):
            write_files(content)
            self.certificate.write(evidence / "certificate.json")
            for pattern in (*TOKENIZER_FILES, OF_TOKENIZER):
                for file in set(folder.glob(pattern)).difference(content):
                    file.unlink()


@dataclass(frozen=True)
class LearnedTokens:
    """Tokens that were learned from text, in rank order, without a tokenizer that has them.

    Attributes:
        tokens: the tokens, with the ids that an extension would give them.
        saved: how many tokens of the text each saved when it was added; empty if unknown.
        tokens_before: the tokens of the training text under the source tokenizer.
        merges: the new merges of a BPE, in rank order; empty for a Unigram.
        pretokenizer: what was decided about the pre-tokenizer, and why.
        warnings: what to know about the result, one line each.
    """

    tokens: tuple[AddedToken, ...]
    saved: tuple[int, ...]
    tokens_before: int
    merges: tuple[tuple[str, str], ...]
    pretokenizer: PretokenizerChange
    warnings: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Return the numbers and the first tokens."""
        first = ", ".join(token.surface.decode(errors="replace") for token in self.tokens[:5])
        return f"LearnedTokens({len(self.tokens):,} tokens: {first}, ...)"

    @cached_property
    def curve(self) -> dict[str, list[int]]:
        """The tokens of the training text for each number of added tokens, at about 200 points."""
        surfaces = tuple(token.surface for token in self.tokens)
        return savings_curve(Selected(surfaces, self.saved, self.tokens_before))
