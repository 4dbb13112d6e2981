"""Tokenizer families: one module each, and `open_tokenizer` to read the tokenizer of any model folder or file."""

from lingraft.tokenizer.base import Family, ModelTokenizer
from lingraft.tokenizer.load_tokenizer import FAMILIES, family_of, open_tokenizer

__all__ = ["FAMILIES", "Family", "ModelTokenizer", "family_of", "open_tokenizer"]
