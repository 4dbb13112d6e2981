"""Training strategies: which parameters train, at which learning rate.

Importing this package does not import torch; preparing a model does.
"""

from lingraft.strategies.base import STRATEGIES, ParameterGroup, Rates, Strategy
from lingraft.strategies.lora import Lora
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
    "Strategy",
]
