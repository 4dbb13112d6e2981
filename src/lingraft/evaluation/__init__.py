"""Intrinsic evaluation: fertility of tokenizers, bits per byte of models, and speed of generation.

All models see the same documents and are scored on the same bytes, so models with different
vocabularies are comparable. Every measurement holds the number of units that it averages over.
Ratios over documents have a bootstrap interval; speeds have none. Importing this package does not
import torch.
"""

from lingraft.evaluation.bits_per_byte import bits_per_byte
from lingraft.evaluation.compare_models import EvaluationResult, compare, evaluate
from lingraft.evaluation.config import BootstrapSettings, EvaluationSettings, GenerationSettings
from lingraft.evaluation.fertility import fertility
from lingraft.evaluation.forgetting import Forgotten, forgetting
from lingraft.evaluation.generation import GenerationSpeed, generation_speed
from lingraft.evaluation.score_model import ModelScores, score_folder, score_text
from lingraft.evaluation.scored_model import ScoredModel
from lingraft.evaluation.text_scores import DocumentScores, TextScores
from lingraft.text_units import count_sentences, count_words

__all__ = [
    "BootstrapSettings",
    "DocumentScores",
    "EvaluationResult",
    "EvaluationSettings",
    "Forgotten",
    "GenerationSettings",
    "GenerationSpeed",
    "ModelScores",
    "ScoredModel",
    "TextScores",
    "bits_per_byte",
    "compare",
    "count_sentences",
    "count_words",
    "evaluate",
    "fertility",
    "forgetting",
    "generation_speed",
    "score_folder",
    "score_text",
]
