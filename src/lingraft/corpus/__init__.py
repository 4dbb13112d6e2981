"""Read, filter, split, shuffle and count text, without torch.

`build_corpus` turns `CorpusSettings` into a folder with train.parquet, heldout.parquet (with the
column `text`) and counts.json; `Corpus` opens that folder. Every document that was read is either
in a split or counted under the reason to drop it, by source, in documents and bytes.
"""

from lingraft.corpus.build import build_corpus
from lingraft.corpus.column_sample import column_lines
from lingraft.corpus.config import CorpusSettings, LanguageCheck
from lingraft.corpus.corpus import Corpus, Counts, first_documents
from lingraft.corpus.first_look import look_at, look_at_hub
from lingraft.corpus.identity import identity_of, list_files, unread_identity_of
from lingraft.corpus.language import is_domain, parse_language
from lingraft.corpus.listing import Listing
from lingraft.corpus.script_check import script_of
from lingraft.corpus.source import Limit, Miniature, Source
from lingraft.corpus.text_preview import preview_text

__all__ = [
    "Corpus",
    "CorpusSettings",
    "Counts",
    "LanguageCheck",
    "Limit",
    "Listing",
    "Miniature",
    "Source",
    "build_corpus",
    "column_lines",
    "first_documents",
    "identity_of",
    "is_domain",
    "list_files",
    "look_at",
    "look_at_hub",
    "parse_language",
    "preview_text",
    "script_of",
    "unread_identity_of",
]
