"""A demo page on which a source and its adapted model answer the same prompt, side by side.

Models with a chat template answer a conversation; other models continue a text.

`model_pair` finds the two models of a run, `generator` generates with one of them and times each
token, `page` is the HTML, and `server` serves it on the loopback address. It uses http.server of
the standard library, because there is one user and one page.
"""

from lingraft.serving.generator import TextGenerator, open_generators
from lingraft.serving.model_pair import ModelPair, find_pair
from lingraft.serving.page import ChatOffer
from lingraft.serving.server import DemoServer, open_server

__all__ = [
    "ChatOffer",
    "DemoServer",
    "ModelPair",
    "TextGenerator",
    "find_pair",
    "open_generators",
    "open_server",
]
