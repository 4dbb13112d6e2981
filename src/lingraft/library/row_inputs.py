"""What an initialisation works with: the splice, its tokenizers, text, and a saved model."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from lingraft.checkpoint.row_request import InitRequest, Side, tokenizer_key
from lingraft.corpus import Corpus
from lingraft.embeddings import EmbeddingInit
from lingraft.errors import ModelError
from lingraft.library.extension_results import TokenizerExtension
from lingraft.library.given_texts import Texts, build_corpora, given_texts, only_corpus
from lingraft.library.given_tokenizer import TokenizerLike, write_given_tokenizer
from lingraft.library.tokenizer_splice import TokenizerSplice, splice_between
from lingraft.library.work_folder import WorkFolder
from lingraft.splice import Splice
from lingraft.store import Draft
from lingraft.tokenizer import ModelTokenizer, open_tokenizer

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

TokenizerPair: TypeAlias = tuple[TokenizerLike, TokenizerLike]
"""The source tokenizer and the extended one."""

AnySplice: TypeAlias = Splice | TokenizerExtension | TokenizerPair
"""A splice, an extension, or two tokenizers, whose tokens are compared by their bytes."""


@dataclass
class RowInputs:
    """The inputs of an initialisation.

    `files` holds what methods read from files, `draft` prints warnings and keeps them.
    """

    splice: Splice
    source: ModelTokenizer | None
    target: ModelTokenizer | None
    files: WorkFolder
    draft: Draft
    corpus: Corpus | None = None
    model_folder: Path | None = None
    scratch: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        splice: AnySplice,
        *,
        tokenizers: TokenizerPair | None,
        texts: Texts | None,
    ) -> RowInputs:
        """Open the inputs.

        Raises `ModelError` where tokenizers do not fit the splice, and the errors of texts and
        tokenizers.
        """
        files = WorkFolder()
        draft = Draft(files.path)
        warn = draft.warn
        source = target = None
        pair: Any = tokenizers
        if not isinstance(splice, Splice | TokenizerExtension):
            _check_pair(splice, "splice")
            pair = splice
        if tokenizers is not None:
            _check_pair(tokenizers, "tokenizers")
            if pair is splice:
                msg = "tokenizers: `splice` names two tokenizers already; leave out `tokenizers`"
                raise ModelError(msg)
        if pair is not None:
            source = _open(pair[0], files.path / "source", warn)
            target = _open(pair[1], files.path / "target", warn)
        if isinstance(splice, TokenizerExtension):
            known: Splice = splice.splice
        elif isinstance(splice, Splice):
            known = splice
        elif source is not None and target is not None:
            known = splice_between(source, target)
        if source is not None and target is not None:
            _check_sizes(known, source, target)
        elif isinstance(known, TokenizerSplice):
            source, target = known.source, known.target
        corpus = None
        if texts is not None:
            corpus = only_corpus(build_corpora(given_texts(texts), files.path, warn), "texts")
        return cls(known, source, target, files, draft, corpus)

    @property
    def knows_tokenizers(self) -> bool:
        """Whether both tokenizers are known."""
        return self.source is not None and self.target is not None

    def save_model(self, model: PreTrainedModel | None, method: EmbeddingInit) -> None:
        """Save the source model for a method that runs it; it trains or runs a copy of its own."""
        if model is None:
            msg = f"embeddings: {method.name} runs the source model; give the argument `model`"
            raise ModelError(msg)
        if self.source is None:
            return  # the method's first look at a token says what is missing
        folder = self.files.path / "source-model"
        shutil.copytree(self.source.folder, folder)
        generation = model.generation_config
        # save_pretrained refuses settings of generation that contradict each other, as those of
        # some checkpoints do. Rows do not depend on them.
        model.generation_config = type(generation)() if generation is not None else None
        try:
            model.save_pretrained(folder)
        finally:
            model.generation_config = generation
        self.model_folder = folder

    def request(
        self,
        matrix: torch.Tensor,
        *,
        side: Side = "input",
        tied: bool = False,
        seed: int = 0,
        device: str = "cpu",
    ) -> InitRequest:
        """Return the request for the rows of one matrix."""
        source_folder = tokenizer_folder = Path()
        if self.source is not None and self.target is not None:
            source_folder = self.model_folder or self.source.folder
            tokenizer_folder = self.target.folder
            self.scratch[tokenizer_key(tokenizer_folder)] = self.target
            # With the model, its configuration names special tokens as well.
            if self.model_folder is None:
                self.scratch[tokenizer_key(source_folder)] = self.source
        return InitRequest(
            matrix=matrix,
            splice=self.splice,
            side=side,
            tied=tied,
            source_folder=source_folder,
            tokenizer_folder=tokenizer_folder,
            corpus=self.corpus,
            seed=seed,
            device=device,
            scratch_dir=None,
            scratch=self.scratch,
        )


def _open(tokenizer: TokenizerLike, folder: Path, warn: Callable[[str], None]) -> ModelTokenizer:
    folder.mkdir()
    write_given_tokenizer(tokenizer, folder, warn=warn)
    return open_tokenizer(folder / "model")


def _check_pair(pair: Any, name: str) -> None:
    """Raise `ModelError` for anything but two tokenizers."""
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        other = "`extension.splice`, or " if name == "splice" else ""
        msg = (
            f"{name}: of type {type(pair).__name__}; give {other}two tokenizers: (source, extended)"
        )
        raise ModelError(msg)


def _check_sizes(splice: Splice, source: ModelTokenizer, target: ModelTokenizer) -> None:
    """Raise `ModelError` where tokenizers have other numbers of ids than the splice."""
    for name, tokenizer, size in (
        ("source", source, splice.source_size),
        ("extended", target, splice.target_size),
    ):
        if tokenizer.size != size:
            msg = (
                f"tokenizers: the {name} tokenizer has {tokenizer.size:,} ids, while the splice "
                f"names {size:,}; both must come from the same extension"
            )
            raise ModelError(msg)
