"""Models for other programs: a GGUF file for llama.cpp, a PEFT adapter, and upload to the hub.

Ids and weights stay the same. llama.cpp knows a tokenizer's regular expression by name and has the
architectures built in; an adapter holds low-rank matrices and embedding rows. A model that cannot
be represented exactly is refused with the reason, because a file that loads and tokenises
differently would be worse than none.
"""

from lingraft.export.gguf import Exported, export_gguf
from lingraft.export.peft import Adapter, export_peft

__all__ = ["Adapter", "Exported", "export_gguf", "export_peft"]
