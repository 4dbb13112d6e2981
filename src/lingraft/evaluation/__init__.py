"""Intrinsic evaluation: how a tokenizer cuts text, how well a model predicts it, and how fast it writes it.

Every model sees the same documents and is scored on the same bytes, so that vocabularies of different size can be
compared. Every number carries how many units it averages over and a bootstrap interval over documents. No torch at
import.
"""

from lingraft.evaluation.bits_per_byte import DocumentScores, bits_per_byte
from lingraft.evaluation.compare_models import EvaluationResult, ScoredModel, compare, evaluate
from lingraft.evaluation.config import BootstrapSettings, EvaluationSettings, GenerationSettings
from lingraft.evaluation.fertility import fertility
from lingraft.evaluation.forgetting import Forgotten, forgetting
from lingraft.evaluation.generation import GenerationSpeed, generation_speed
from lingraft.evaluation.score_model import FolderScores, score_folder, score_text
from lingraft.evaluation.text_scores import TextScores
from lingraft.evaluation.words import sentences_in, words_in

__all__ = [
    "BootstrapSettings",
    "DocumentScores",
    "EvaluationResult",
    "EvaluationSettings",
    "FolderScores",
    "Forgotten",
    "GenerationSettings",
    "GenerationSpeed",
    "ScoredModel",
    "TextScores",
    "bits_per_byte",
    "compare",
    "evaluate",
    "fertility",
    "forgetting",
    "generation_speed",
    "score_folder",
    "score_text",
    "sentences_in",
    "words_in",
]
