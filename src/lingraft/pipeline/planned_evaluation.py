"""The measuring of a recipe before it has run: what its models read, and how much they write.

Text is written token by token, and a step reads all weights for one token. A step therefore takes
far longer than its operations would (`run_estimates.writing_seconds`).
"""

from __future__ import annotations

from dataclasses import dataclass

from lingraft.evaluation.added_token_choice import READ_DOCUMENTS, READ_TOKENS
from lingraft.pipeline.run_estimates import BYTES_PER_TOKEN
from lingraft.recipe import Recipe

PROBE_TOKENS = 63
"""Tokens of a text of the in-context probes: english-8m reads 3,020 in its 48 texts."""


@dataclass(frozen=True)
class PlannedEvaluation:
    """What measuring reads and writes, in tokens.

    `adds` says whether the recipe adds tokens, and `models` counts the models of the run, with the
    source. `target_bytes` and `base_bytes` are the held-out text that is scored, of all targets and
    of the base language.
    """

    recipe: Recipe
    adds: bool
    models: int
    target_bytes: int
    base_bytes: int

    def scored_tokens(self, *, is_source: bool = False) -> int:
        """Return about how many tokens of held-out text a model is scored on."""
        target = self.target_bytes / self._bytes_per_token(is_source=is_source)
        return round(target + self.base_bytes / BYTES_PER_TOKEN["base"])

    def sample_steps(self, *, is_source: bool) -> int:
        """Return the steps that a model takes to write its samples, all of a language at once."""
        generation = self.recipe.evaluation.generation
        return self._tokens(generation.sample_bytes, is_source=is_source) if generation else 0

    @property
    def compared_tokens(self) -> int:
        """The tokens that models read to be compared with each other, in addition to their scores.

        Those with added tokens read some held-out text again, to see how often they prefer them.
        All read the in-context probes, and the source reads what all have written.
        """
        settings = self.recipe.evaluation
        read = READ_DOCUMENTS * READ_TOKENS * len(self.recipe.texts)
        again = min(self.scored_tokens(), read)
        tokens = again * (self.models - 1) if self.adds else 0
        if settings.in_context:
            tokens += 2 * settings.in_context.texts * PROBE_TOKENS * self.models
        if settings.generation:
            written = settings.generation.samples * settings.generation.sample_bytes
            tokens += self._tokens(written, is_source=True) * self.models
        return tokens

    @property
    def timed_steps(self) -> int:
        """The steps of all models that are timed."""
        generation = self.recipe.evaluation.generation
        if not generation:
            return 0
        written = generation.timed_prompts * generation.timed_bytes * generation.timed_repeats
        source = self._tokens(written, is_source=True)
        return source + (self.models - 1) * self._tokens(written, is_source=False)

    def _tokens(self, size: int, *, is_source: bool) -> int:
        """Return about how many tokens of text a model has for `size` bytes in each language."""
        others = 1 if self.recipe.replay else 0
        target = len(self.recipe.targets) * size / self._bytes_per_token(is_source=is_source)
        return round(target + others * size / BYTES_PER_TOKEN["base"])

    def _bytes_per_token(self, *, is_source: bool) -> float:
        return BYTES_PER_TOKEN["after" if self.adds and not is_source else "before"]
