"""The call of llama.cpp's own converter, for what this package does not export.

The converter recognises a byte-level pre-tokenizer by the hash of the ids of a test text. Added
tokens and changed merges change the hash, and the converter has no option for the name. So the call
runs it with a function that returns the name.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from lingraft.pretokenizer.llama_cpp_names import llama_cpp_name
from lingraft.tokenizer import open_tokenizer
from lingraft.tokenizer.byte_level_bpe import ByteLevel

SCRIPT = "convert_hf_to_gguf.py"


def converter_call(model: Path, output: Path) -> str:
    """Return the shell command that converts a model in a clone of llama.cpp.

    Raises `ModelError` if the pre-tokenizer has no name in llama.cpp.
    """
    family = open_tokenizer(model).family
    program = f"python {SCRIPT}"
    if isinstance(family, ByteLevel):
        # `conversion` imports gguf, which the script looks for in its own folder first.
        code = (
            "import convert_hf_to_gguf as c; from conversion.base import TextModel as t; "
            f't.get_vocab_base_pre = lambda *_: "{llama_cpp_name(family.data)}"; c.main()'
        )
        program = f"python -c {shlex.quote(code)}"
    paths = (shlex.quote(str(path.absolute())) for path in (model, output))
    return f"{program} {' --outfile '.join(paths)} --outtype auto"


def converter_advice(model: Path, output: Path) -> str:
    """Return what to do with a model that this package does not export."""
    return (
        f"if llama.cpp has it, convert it in a clone of llama.cpp: {converter_call(model, output)}"
    )
