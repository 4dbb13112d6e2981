"""The names of the files of a tokenizer, some of them as glob patterns."""

from __future__ import annotations

SENTENCEPIECE_FILES = (
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model.v*",
)

# In order of preference: tokenizer.json is the file that loaders use where there are several.
VOCABULARY_FILES = (
    "tokenizer.json",
    "tokenizer.json.gz",
    "vocab.json",
    "*.tiktoken",
    *SENTENCEPIECE_FILES,
)
"""The files that hold a vocabulary: a tokenizer is read from the first one that is there."""

TOKENIZER_FILES = (
    *VOCABULARY_FILES,
    "merges.txt",
    "vocab.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
)
"""All files of a tokenizer."""
