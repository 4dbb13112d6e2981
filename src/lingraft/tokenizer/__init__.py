"""Tokenizer families, and `open_tokenizer` to read the tokenizer of a model folder or file."""

from lingraft.tokenizer.base import Family
from lingraft.tokenizer.load_tokenizer import FAMILIES, family_of, open_tokenizer
from lingraft.tokenizer.model_tokenizer import ModelTokenizer

__all__ = ["FAMILIES", "Family", "ModelTokenizer", "family_of", "open_tokenizer"]
