"""Text becomes rows of tokens: tokenised once, mapped from disk, mixed in a stated proportion of bytes.

Settings only; the work is in `blocks` (files) and `mixture` (order), which import numpy.
"""

from lingraft.packing.config import PackingSettings

__all__ = ["PackingSettings"]
