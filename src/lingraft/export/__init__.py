"""Models for other programs: a GGUF file that llama.cpp reads, with the same ids and the same numbers.

llama.cpp knows a tokenizer's regular expression by a name, and has a model's mathematics built in. What it cannot name
or compute exactly is refused with the reason: a file that loads and cuts text in another way would be worse than none.
"""

from lingraft.export.gguf_file import Exported, export_gguf

__all__ = ["Exported", "export_gguf"]
