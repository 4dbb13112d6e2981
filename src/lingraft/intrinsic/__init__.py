"""Intrinsic evaluation: how a tokenizer cuts text, how well a model predicts it, and how fast it writes it.

Every model sees the same documents and is scored on the same bytes, so that vocabularies of different size can be
compared. Every number carries how many units it averages over and a bootstrap interval over documents. No torch at
import.
"""

from lingraft.intrinsic.bits import DocumentScores, bits_per_byte
from lingraft.intrinsic.evaluation import Evaluation, evaluate
from lingraft.intrinsic.fertility import fertility, words_in
from lingraft.intrinsic.generation import GenerationSpeed, generation_speed
from lingraft.intrinsic.settings import BootstrapSettings, EvaluationSettings, GenerationSettings

__all__ = ["BootstrapSettings", "DocumentScores", "Evaluation", "EvaluationSettings", "GenerationSettings",
           "GenerationSpeed", "bits_per_byte", "evaluate", "fertility", "generation_speed", "words_in"]
