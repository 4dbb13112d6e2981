"""Intrinsic evaluation: how a tokenizer cuts text, how well a model predicts it, and how fast it writes it.

Every model sees the same documents and is scored on the same bytes, so that vocabularies of different size can be
compared. Every number carries how many units it averages over and a bootstrap interval over documents. No torch at
import.
"""

from lingraft.intrinsic.bits import DocumentScores, bits_per_byte
from lingraft.intrinsic.evaluation import Entrant, Evaluation, compare, evaluate
from lingraft.intrinsic.fertility import fertility
from lingraft.intrinsic.forgetting import Forgotten, forgetting
from lingraft.intrinsic.generation import GenerationSpeed, generation_speed
from lingraft.intrinsic.scores import TextScores
from lingraft.intrinsic.scoring import Scored, score_folder, score_text
from lingraft.intrinsic.settings import BootstrapSettings, EvaluationSettings, GenerationSettings
from lingraft.intrinsic.words import sentences_in, words_in

__all__ = ["BootstrapSettings", "DocumentScores", "Entrant", "Evaluation", "EvaluationSettings", "Forgotten",
           "GenerationSettings", "GenerationSpeed", "Scored", "TextScores", "bits_per_byte", "compare", "evaluate",
           "fertility", "forgetting", "generation_speed", "score_folder", "score_text", "sentences_in", "words_in"]
