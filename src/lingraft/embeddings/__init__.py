"""Embedding initialisations: methods that compute the rows of added tokens, one class per method.

A method works on one matrix at a time, so a recipe can choose different methods for the input and
the output matrix. Importing this package does not import torch.
"""

from lingraft.embeddings.align import Align
from lingraft.embeddings.base import INITS, EmbeddingInit, InitRequest, InitRows
from lingraft.embeddings.calibrated import Calibrated
from lingraft.embeddings.distilled import Distilled
from lingraft.embeddings.donor import Donor
from lingraft.embeddings.focus import Focus
from lingraft.embeddings.learned import LearnedInit
from lingraft.embeddings.random import MeanResizing, RandomRows, RandomToken
from lingraft.embeddings.subtoken_mean import SubtokenMean
from lingraft.embeddings.wechsel import Wechsel

__all__ = [
    "INITS",
    "Align",
    "Calibrated",
    "Distilled",
    "Donor",
    "EmbeddingInit",
    "Focus",
    "InitRequest",
    "InitRows",
    "LearnedInit",
    "MeanResizing",
    "RandomRows",
    "RandomToken",
    "SubtokenMean",
    "Wechsel",
]
