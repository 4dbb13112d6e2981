"""Initialisations: how the rows of added tokens are made. One class a method, with its reference; no torch at import.

Each works on one matrix at a time, so that a recipe may choose differently for input and output.
"""

from lingraft.inits.base import INITS, EmbeddingInit, InitRequest, InitRows
from lingraft.inits.drawn import RandomRows, RandomToken
from lingraft.inits.subtokens import SubtokenMean

__all__ = ["INITS", "EmbeddingInit", "InitRequest", "InitRows", "RandomRows", "RandomToken", "SubtokenMean"]
