"""Packing: documents become sequences of tokens, which are tokenised once and mapped from disk.

`pack` writes the sequences, `blocks` reads them, and `mixture` gives their order in training. This
package exports the settings only, so importing it does not import numpy.
"""

from lingraft.packing.config import PackingSettings

__all__ = ["PackingSettings"]
