"""Base models: a folder, the hub, random weights, or a small model trained from scratch.

`parse_model` reads the setting `model` of a recipe and returns a `Base`. A base knows the identity
of its model, which is part of the store's keys, and writes the model as a transformers folder.
"""

# Importing a module registers its base under the name that recipes use.
from lingraft.bases import folder as _folder  # noqa: F401
from lingraft.bases import hub_model as _hub_model  # noqa: F401
from lingraft.bases import pretrained as _pretrained  # noqa: F401
from lingraft.bases import random_weights as _random_weights  # noqa: F401
from lingraft.bases.base import BASES, Base, BuildContext, parse_model

__all__ = ["BASES", "Base", "BuildContext", "parse_model"]
