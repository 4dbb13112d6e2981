"""Training strategies: which parameters of a model train, and at which default learning rates.

Importing this package does not import torch, because recipes are read without it.
"""

from lingraft.strategies.base import STRATEGIES, ParameterGroup, Rates, Strategy
from lingraft.strategies.lora import Lora
from lingraft.strategies.shielded import Shielded
from lingraft.strategies.weight_strategies import Differential, Embeddings, Full, Layers, Rows

__all__ = [
    "STRATEGIES",
    "Differential",
    "Embeddings",
    "Full",
    "Layers",
    "Lora",
    "ParameterGroup",
    "Rates",
    "Rows",
    "Shielded",
    "Strategy",
]
