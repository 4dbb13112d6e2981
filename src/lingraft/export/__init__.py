"""Models for other programs: a GGUF file for llama.cpp, an adapter for PEFT, with the same ids and numbers.

llama.cpp knows a tokenizer's regular expression by a name, and has a model's mathematics built in; an adapter holds
low-rank matrices and rows. What cannot be named, computed or held exactly is refused with the reason: a file that
loads and cuts text in another way would be worse than none.
"""

from lingraft.export.gguf import Exported, export_gguf
from lingraft.export.peft import Adapter, export_peft

__all__ = ["Adapter", "Exported", "export_gguf", "export_peft"]
