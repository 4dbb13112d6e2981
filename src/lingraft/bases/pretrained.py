"""A small base model that a run trains from scratch: its tokenizer and weights from the same text.

It is for the demo and for studies, which need a base whose training text is known and in one
language.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, PrivateAttr, field_validator
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from lingraft.bases.base import BASES, Base, BuildContext
from lingraft.bases.folder import read_config
from lingraft.bases.random_weights import (
    check_buildable,
    context_length,
    make_model,
    model_config,
    special_ids,
)
from lingraft.bases.tokenizer_files import write_tokenizer
from lingraft.corpus import Corpus, CorpusSettings, build_corpus, identity_of, list_files, look_at
from lingraft.corpus.listing import Listing
from lingraft.packing.blocks import Blocks
from lingraft.packing.pack import pack_corpus
from lingraft.store import Draft, atomic_folder, remove_drafts
from lingraft.tokenizer import open_tokenizer
from lingraft.tokenizer.convert import GPT2_REGEX
from lingraft.training import TrainingPlan
from lingraft.training.phase_steps import TrainingText

BEGIN, END = "<s>", "</s>"


def _as_settings(value: object) -> object:
    known = isinstance(value, Mapping) and "sources" in value
    return value if known or isinstance(value, CorpusSettings) else {"sources": value}


def _default_plan() -> TrainingPlan:
    """Full training for one pass, at ten times the learning rate of continued pretraining."""
    return TrainingPlan.model_validate(
        {"strategy": "full", "learning_rates": 3e-3, "batch_tokens": 8192, "heldout_points": 0}
    )


@BASES.register
class PretrainedHere(Base):
    """A model whose tokenizer and weights are trained on text in one language at the start."""

    name: ClassVar[str] = "pretrain"

    language: str = Field(default="en", description="BCP-47 tag of the text")
    corpus: Annotated[CorpusSettings, BeforeValidator(_as_settings)] = Field(
        description="training text: a path, owner/name, `miniature`, or settings of a corpus with "
        "`sources`"
    )
    vocabulary_size: int = Field(
        default=2000, ge=300, description="tokens of the tokenizer, including special tokens"
    )
    body: dict[str, Any] = Field(
        alias="config",
        default_factory=dict,
        description="settings of the transformers model; default: a small Llama",
    )
    training: TrainingPlan = Field(
        default_factory=_default_plan, description="how the weights are trained"
    )
    seed: int = Field(default=0, description="seed of the weights and of the order of the text")
    # The files of the identity: one that changes before it is read is refused, because the weights
    # would be stored as those of the former text.
    _listing: Listing | None = PrivateAttr(None)

    @field_validator("training")
    @classmethod
    def _merges_nothing(cls, value: TrainingPlan) -> TrainingPlan:
        if value.merge_back:
            msg = "merge_back: before this training the weights are random; leave it out"
            raise ValueError(msg)
        return value

    def chosen(self) -> dict[str, Any]:
        """Return the form in which recipes name it."""
        return {self.name: self.model_dump(mode="json", by_alias=True)}

    def identity(self) -> dict[str, Any]:
        """Return the identity of the text and all settings."""
        look_at(self.corpus, self.language)
        settings = self.model_dump(mode="json", by_alias=True, exclude={"corpus"})
        self._listing = list_files(self.corpus)
        corpus = identity_of(self.corpus, self.language, self._listing)
        return {"pretrain": 4, **settings, "corpus": corpus}

    def materialise(self, context: BuildContext) -> None:
        """Build the corpus, learn the tokenizer and train.

        A run that was interrupted reuses the finished parts in the scratch directory. Raises
        `ModelError` for settings of the model that transformers refuses, before any of it.
        """
        check_buildable(self._config())
        corpus = Corpus.open(_build_once(context.scratch_dir / "corpus", self._build_corpus))
        start = _build_once(context.scratch_dir / "start", lambda draft: self._begin(corpus, draft))
        packed = _build_once(
            context.scratch_dir / "packed", lambda draft: self._pack(corpus, start, draft)
        )
        context.draft.notes["from"] = f"trained here on {self.language} text"
        context.draft.notes["training"] = self._train(start, packed, context)
        for file in start.glob("tokenizer*.json"):
            shutil.copyfile(file, context.folder / file.name)

    def config(self) -> dict[str, Any]:
        """Return the settings of the model that are known before its tokenizer is learned."""
        content: dict[str, Any] = self._config().to_dict()
        return content

    def training_tokens(self) -> int:
        """Return the tokens of the phases whose budget counts tokens."""
        return sum(phase.budget.tokens or 0 for phase in self.training.phases)

    def _config(self) -> Any:
        """Return the configuration with a tokenizer of full size, which ends with BEGIN and END."""
        size = self.vocabulary_size
        ids = {"bos_token_id": size - 2, "eos_token_id": size - 1, "pad_token_id": None}
        return model_config(self.body, size, ids)

    def _build_corpus(self, draft: Draft) -> None:
        build_corpus(self.corpus, self.language, draft, self._listing)

    def _begin(self, corpus: Corpus, draft: Draft) -> None:
        learn_tokenizer(corpus, self.vocabulary_size, draft.folder)
        tokenizer = open_tokenizer(draft.folder)
        config = model_config(self.body, tokenizer.size, special_ids(tokenizer))
        write_tokenizer(tokenizer, draft.folder, context=context_length(config.to_dict()))
        make_model(config, self.seed).save_pretrained(draft.folder)

    def _pack(self, corpus: Corpus, start: Path, draft: Draft) -> None:
        context = context_length(read_config(start))
        pack_corpus(corpus, open_tokenizer(start), self.training.packing, draft, context=context)

    def _train(self, start: Path, packed: Path, context: BuildContext) -> dict[str, Any]:
        from lingraft.training.train import train  # imports torch

        return train(
            start,
            TrainingText.of(Blocks.open(packed)),
            self.training,
            output=context.draft.folder,
            seed=self.seed,
            scratch_dir=context.scratch_dir / "training",
            execution=context.execution,
        )


def learn_tokenizer(corpus: Corpus, size: int, folder: Path) -> None:
    """Learn and write a byte-level BPE with the regex of GPT-2, as most bases have."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(GPT2_REGEX), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    # `tokenizers` returns the alphabet in another order in each process.
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        # BEGIN and END are added after training.
        vocab_size=size - 2,
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus.batches("train"), trainer)
    tokenizer.add_special_tokens([AddedToken(BEGIN, special=True), AddedToken(END, special=True)])
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"bos_token": BEGIN, "eos_token": END}
    (folder / "tokenizer_config.json").write_text(json.dumps(names), encoding="utf-8")


def _build_once(folder: Path, make: Callable[[Draft], None]) -> Path:
    """Return a finished folder of the scratch directory; build it if it is missing."""
    if not folder.exists():
        # A process that was killed leaves its draft.
        remove_drafts(folder.parent, folder.name)
        with atomic_folder(folder) as draft:
            make(Draft(draft))
    return folder
