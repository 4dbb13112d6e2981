"""Ids from real llama.cpp, and vocabularies that show where a pre-tokenizer splits."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from gguf import GGUFWriter

from lingraft.tokenizer.byte_level_bpe import byte_characters

ROOT = Path(__file__).parent.parent
LLAMA_CPP = ROOT / ".venv" / "llama.cpp"
CHARACTERS = byte_characters()


def llama_cpp_ids(models: Mapping[str, Path], texts: Sequence[str], folder: Path) -> dict:
    """Return the ids of the texts by model; skips the test where llama.cpp is not installed."""
    if not (LLAMA_CPP / ".ready").is_file():
        pytest.skip("no .venv/llama.cpp: `make test` sets it up where there is npm")
    asked = {name: {"file": str(path), "texts": list(texts)} for name, path in models.items()}
    (folder / "models.json").write_text(json.dumps(asked), encoding="utf-8")
    script = ROOT / "benchmarks" / "llama_cpp_ids.mjs"
    subprocess.run(
        ["node", script, LLAMA_CPP, folder / "models.json", folder / "ids.json"],
        capture_output=True,
        check=True,
    )
    return json.loads((folder / "ids.json").read_text(encoding="utf-8"))


def mapped(data: bytes) -> str:
    """Return the characters that stand for bytes in a byte-level vocabulary."""
    return "".join(CHARACTERS[byte] for byte in data)


class RevealingVocabulary:
    """A vocabulary in which every part of the texts is one token: tokens are the pre-tokens.

    Every two neighbours merge, so only a split of the pre-tokenizer separates them.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        parts = {
            text[i:j]
            for text in texts
            for i in range(len(text))
            for j in range(i + 1, len(text) + 1)
        }
        self.merges: dict[tuple[str, str], None] = {}
        for character in sorted({character for part in parts for character in part}):
            data = character.encode()
            for end in range(1, len(data)):
                self.merges[mapped(data[:end]), mapped(data[end : end + 1])] = None
        for part in sorted(parts, key=lambda part: (len(part), part)):
            for cut in range(1, len(part)):
                self.merges[mapped(part[:cut].encode()), mapped(part[cut:].encode())] = None
        tokens = dict.fromkeys((*CHARACTERS, *map("".join, self.merges)))
        self.tokens = [*tokens, "<|endoftext|>"]
        self.byte_of = {character: byte for byte, character in enumerate(CHARACTERS)}

    def write(self, name: str, path: Path) -> Path:
        """Write a GGUF file without tensors, with a pre-tokenizer of this name."""
        writer = GGUFWriter(str(path), "llama")
        writer.add_context_length(64)
        writer.add_embedding_length(32)
        writer.add_block_count(1)
        writer.add_feed_forward_length(32)
        writer.add_head_count(2)
        writer.add_layer_norm_rms_eps(1e-5)
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(name)
        writer.add_token_list(self.tokens)
        writer.add_token_types([1] * (len(self.tokens) - 1) + [3])
        writer.add_token_merges([" ".join(pair) for pair in self.merges])
        writer.add_add_bos_token(False)
        writer.add_bos_token_id(len(self.tokens) - 1)
        writer.add_eos_token_id(len(self.tokens) - 1)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        writer.close()
        return path

    def parts(self, ids: Sequence[int]) -> list[str]:
        """Return the text of each token."""
        return [bytes(self.byte_of[c] for c in self.tokens[i]).decode() for i in ids]
