"""A page on this machine on which a source and its adapted model answer the same prompt, side by side.

`pair` finds the two models of a run, `writing` lets one of them write and times it token by token, `server` answers a
browser on the loopback address and nobody else, with Python's own http.server: there is one user and one page.
"""

from lingraft.serving.pair import Pair, find_pair
from lingraft.serving.server import Desk, open_desk
from lingraft.serving.writing import Writer, open_writers

__all__ = ["Desk", "Pair", "Writer", "find_pair", "open_desk", "open_writers"]
