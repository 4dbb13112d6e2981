"""Export models: a GGUF file for llama.cpp, a PEFT adapter, and an upload to the hub.

Token ids and weights stay the same. A model that the format cannot represent exactly is an error
with the reason, because a file that loads but tokenises or computes differently is worse than none.
"""

from lingraft.export.gguf import Exported, export_gguf
from lingraft.export.peft import Adapter, export_peft

__all__ = ["Adapter", "Exported", "export_gguf", "export_peft"]
