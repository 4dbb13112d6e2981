"""What trains when. Importing this needs no torch; preparing a model does."""

from lingraft.strategies.base import STRATEGIES, Group, Rates, Strategy
from lingraft.strategies.lora import Lora
from lingraft.strategies.parts import Differential, Embeddings, Full, Layers
from lingraft.strategies.rows import Rows

__all__ = ["STRATEGIES", "Differential", "Embeddings", "Full", "Group", "Layers", "Lora", "Rates", "Rows",
           "Strategy"]
