"""A page on this machine on which a source and its adapted model answer the same prompt, side by side.

`pair` finds the two models of a run, `writing` lets one of them write and times it token by token, `server` answers a
browser on the loopback address and nobody else, with Python's own http.server: there is one user and one page.
"""

from lingraft.serving.generator import TextGenerator, open_generators
from lingraft.serving.model_pair import ModelPair, find_pair
from lingraft.serving.server import DemoServer, open_server

__all__ = [
    "DemoServer",
    "ModelPair",
    "TextGenerator",
    "find_pair",
    "open_generators",
    "open_server",
]
