"""Where the source model comes from: a folder, a hub, a fresh body under a real tokenizer, or one trained here."""

from lingraft.bases import folder as _folder  # noqa: F401 - registers
from lingraft.bases import hub_model as _hub_model  # noqa: F401
from lingraft.bases import pretrained as _pretrained  # noqa: F401
from lingraft.bases import random_weights as _random_weights  # noqa: F401
from lingraft.bases.base import BASES, Base, BuildContext, parse_model

__all__ = ["BASES", "Base", "BuildContext", "parse_model"]
