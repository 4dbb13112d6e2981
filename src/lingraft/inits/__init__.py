"""Initialisations: how the rows of added tokens are made. One class a method, with its reference; no torch at import.

Each works on one matrix at a time, so that a recipe may choose differently for input and output.
"""

from lingraft.inits.align import Align
from lingraft.inits.base import INITS, EmbeddingInit, InitRequest, InitRows
from lingraft.inits.calibrated import Calibrated
from lingraft.inits.distilled import Distilled
from lingraft.inits.donor import Donor
from lingraft.inits.drawn import MeanResizing, RandomRows, RandomToken
from lingraft.inits.focus import Focus
from lingraft.inits.learned import LearnedInit
from lingraft.inits.subtokens import SubtokenMean
from lingraft.inits.wechsel import Wechsel

__all__ = ["INITS", "Align", "Calibrated", "Distilled", "Donor", "EmbeddingInit", "Focus", "InitRequest", "InitRows",
           "LearnedInit", "MeanResizing", "RandomRows", "RandomToken", "SubtokenMean", "Wechsel"]
