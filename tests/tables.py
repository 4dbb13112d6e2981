"""Imported by fork servers: builds the tables that every command needs and would build."""

from lingraft.corpus.character_kinds import kinds_of, letters_of
from lingraft.display_text import language_name

for language in ("en", "hi"):
    kinds_of(language)
    letters_of(language)
    language_name(language)
