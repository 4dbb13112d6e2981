"""What a recipe says about intrinsic evaluation."""

from __future__ import annotations

from pydantic import ByteSize, Field

from lingraft.registry import Settings


class BootstrapSettings(Settings):
    """How sure a number is: percentile intervals from documents drawn again with replacement."""

    resamples: int = Field(default=1000, ge=20, description="how often the documents are drawn again")
    confidence: float = Field(default=0.95, gt=0, lt=1, description="share of the resamples within the interval")
    seed: int = Field(default=0, description="seed of the draws; the same for every model, so differences are paired")


class GenerationSettings(Settings):
    """Generation: the same real text timed with the models in turns, and untimed samples of each model by itself."""

    bytes: int = Field(default=128, gt=0, description="timed: bytes of real text that each model writes after each "
                                                      "prompt")
    prompt_bytes: int = Field(default=128, gt=0, description="bytes of a held-out document that serve as the prompt")
    prompts: int = Field(default=3, gt=0, description="timed: how many prompts, one document each")
    repeats: int = Field(default=2, gt=0, description="timed: rounds over all models; the best one of each counts")
    samples: int = Field(default=8, gt=0, description="untimed: how many prompts are gone on from, to look for "
                                                      "repetition and for the use of new tokens")
    sample_bytes: int = Field(default=256, gt=0, description="untimed: bytes written after each of them")


class EvaluationSettings(Settings):
    """What is measured on the held-out text of each language."""

    heldout_bytes: ByteSize = Field(default=ByteSize(500_000), gt=0, description="held-out text used for each "
                                    "language: documents from the start, the last one cut, the same for every model")
    context: int | None = Field(default=None, gt=1, description="tokens that a model sees at once; by default its own "
                                "limit, at most 2,048")
    stride: int | None = Field(default=None, gt=0, description="tokens by which the window moves in longer documents; "
                               "by default half the context")
    parallel: str | None = Field(default=None, description="file of sentences in several languages, a column named "
                                 "by each tag (.jsonl .parquet), English among them: the premium over English")
    reference_tokenizer: str | None = Field(default=None, description="folder or file of a tokenizer that sequences "
                                            "are compared with: the normalised sequence length")
    bootstrap: BootstrapSettings = Field(default_factory=BootstrapSettings, description="the intervals")
    generation: GenerationSettings | None = Field(default_factory=GenerationSettings,
                                                  description="speed of generation; null leaves it out")
