"""The settings of intrinsic evaluation."""

from __future__ import annotations

from typing import Literal

from pydantic import ByteSize, Field

from lingraft.errors import RecipeError
from lingraft.measurement import MIN_DOCUMENTS
from lingraft.registry import Settings


class BootstrapSettings(Settings):
    """Bootstrap percentile intervals: documents are resampled with replacement."""

    resamples: int = Field(
        default=1000, ge=20, description="number of bootstrap resamples of the documents"
    )
    confidence: float = Field(
        default=0.95, gt=0, lt=1, description="confidence level of the intervals"
    )
    seed: int = Field(
        default=0,
        description="seed of the resamples; all models share them, so differences are paired",
    )


class GenerationSettings(Settings):
    """Generation: speed on the same real text, with models taking turns, and untimed samples."""

    timed_bytes: int = Field(
        default=128,
        gt=0,
        description="bytes of real text that each model writes after each timed prompt",
    )
    prompt_bytes: int = Field(
        default=128, gt=0, description="bytes of a held-out document that form a prompt"
    )
    timed_prompts: int = Field(
        default=3, gt=0, description="number of timed prompts, one document each"
    )
    timed_repeats: int = Field(
        default=2, gt=0, description="timed rounds over all models; the fastest one counts"
    )
    samples: int = Field(
        default=8,
        gt=0,
        description="number of prompts for untimed samples, in which repetition and the use of "
        "new tokens are counted",
    )
    sample_bytes: int = Field(default=256, gt=0, description="bytes written per untimed sample")


class InContextSettings(Settings):
    """Probes of in-context learning: random words that come again in the same text."""

    texts: int = Field(
        default=24,
        ge=MIN_DOCUMENTS,
        description="number of texts of each probe; from fewer than 20, no loss would be claimed",
    )
    copied_words: int = Field(
        default=24, ge=3, description="words of the list that a text of the copying probe has twice"
    )
    mapped_pairs: int = Field(
        default=4, ge=2, description="pairs `x: y` in a text of the mapping probe"
    )
    mapping_rounds: int = Field(
        default=4, ge=2, description="how often a text of the mapping probe has each pair"
    )
    seed: int = Field(default=0, ge=0, description="seed of the random words")

    @property
    def words_needed(self) -> int:
        """The words that a vocabulary must have: twice as many as one text."""
        return 2 * max(self.copied_words, 2 * self.mapped_pairs)


HeldoutPart = Literal["all", "chosen on", "reported"]
"""The held-out documents that are scored: all, or one half if a run chooses something by them.

What is chosen by a number on held-out text is the best of several on just this text. So the choice
uses every second document, and only the others are reported.
"""


class EvaluationSettings(Settings):
    """The measurements on the held-out text of each language."""

    heldout_bytes: ByteSize = Field(
        default=ByteSize(500_000),
        gt=0,
        description="bytes of held-out text per language: documents from the start, the last one "
        "cut, the same for every model",
    )
    heldout_part: HeldoutPart = Field(
        default="all",
        description="held-out documents to score: `all`, or every second one: `chosen on` (the "
        "first, the third and so on) or `reported` (the others); a run in which "
        "`training.merge_back` chooses among several shares scores `reported`, and so do all runs "
        "of a study with such a run",
    )
    context: int | None = Field(
        default=None,
        gt=1,
        description="window size in tokens; default: the model's limit, at most 2,048",
    )
    stride: int | None = Field(
        default=None,
        gt=0,
        description="tokens by which the window moves in longer documents; default: half the "
        "context",
    )
    parallel_file: str | None = Field(
        default=None,
        description="file of parallel sentences, one column per language tag, including en "
        "(.jsonl .parquet): measures the token premium over English",
    )
    reference_tokenizer: str | None = Field(
        default=None,
        description="folder or file of a reference tokenizer: measures the normalised sequence "
        "length",
    )
    bootstrap: BootstrapSettings = Field(
        default_factory=BootstrapSettings, description="bootstrap intervals"
    )
    generation: GenerationSettings | None = Field(
        default_factory=GenerationSettings,
        description="speed and samples of generation; null: not measured",
    )
    in_context: InContextSettings | None = Field(
        default_factory=InContextSettings,
        description="probes of in-context learning in the final table and on the held-out curve; "
        "null: not measured",
    )

    def check_context(self, limit: int | None) -> None:
        """Raise `RecipeError` if the window exceeds the context of a model (None: unknown)."""
        if self.context and limit and self.context > limit:
            msg = (
                f"evaluation.context is {self.context}, but the model's context is {limit} tokens; "
                f"set at most {limit}, or leave it out"
            )
            raise RecipeError(msg)
