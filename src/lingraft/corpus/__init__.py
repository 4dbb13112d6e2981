"""A language's text on disk: read, cleaned, split, shuffled and counted. No torch, and nothing heavy at import.

`build_corpus` turns `CorpusSettings` into a folder with train.parquet, heldout.parquet (one column, `text`) and
counts.json; `Corpus` is that folder as a value. Every document that was read ends in one place: a split, or a reason
for which it was dropped; both are counted by source, in documents and bytes.
"""

from lingraft.corpus.build import build_corpus
from lingraft.corpus.config import CorpusSettings, LanguageCheck, Limit, Miniature, Source
from lingraft.corpus.corpus import Corpus, Counts, first_documents
from lingraft.corpus.identity import identity_of
from lingraft.corpus.language import is_domain, parse_language

__all__ = ["Corpus", "CorpusSettings", "Counts", "LanguageCheck", "Limit", "Miniature", "Source", "build_corpus",
           "first_documents", "identity_of", "is_domain", "parse_language"]
