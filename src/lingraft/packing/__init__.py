"""Packing: text becomes sequences of tokens, tokenised once and mapped from disk for training.

Importing this package gives the settings only. `blocks` (files) and `mixture` (order) import numpy.
"""

from lingraft.packing.config import PackingSettings

__all__ = ["PackingSettings"]
