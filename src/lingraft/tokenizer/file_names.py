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

CHAT_TEMPLATE_FILES = (
    "chat_template.jinja",
    "chat_template.json",
    "additional_chat_templates/*.jinja",
)
"""The files that hold chat templates: the default one in either form, and the named ones."""

TOKENIZER_FILES = (
    *VOCABULARY_FILES,
    "merges.txt",
    "vocab.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    *CHAT_TEMPLATE_FILES,
)
"""All files of a tokenizer."""
