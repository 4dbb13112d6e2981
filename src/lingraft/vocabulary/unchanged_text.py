"""Which base-language text a changed pre-tokenizer must tokenise as before."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import regex

from lingraft.corpus import Corpus
from lingraft.corpus.script_check import most_used_scripts, scripts_of
from lingraft.formatting import counted
from lingraft.text_units import letters_in

_SPACE = regex.compile(r"(\s+)")


@dataclass(frozen=True)
class BaseText:
    """The base-language documents in which a changed pre-tokenizer must move no id.

    `kind` and `note` say what they are, in messages.
    """

    documents: Iterable[str] = ()
    kind: str = "base-language document"
    note: str = ""

    def count(self, documents: int) -> str:
        """Return how many documents were compared, in words."""
        return f"{counted(documents, self.kind)}{self.note}"


def unchanged_text(base: Corpus | None, corpora: Sequence[Corpus], *, protect: bool) -> BaseText:
    """Return the base-language text whose ids must stay the same for `auto` to take a new regex.

    With `protect` these are all documents; protected text is checked in full. From held-out text,
    words in a script of the target languages are removed first, unless the base language has that
    script, too. Added tokens change the ids of these words anyway, and one Hindi word among
    thousands of English documents would make `auto` keep a regex that splits every Hindi word.
    """
    if base is None:
        return BaseText()
    heldout, note = base.documents("heldout"), ""
    own = _scripts(base)
    others = set(chain.from_iterable(map(_scripts, corpora))).difference(own)
    if own and others:
        letters = regex.compile(letters_in(frozenset(others)))
        heldout = (_without_words(text, letters) for text in heldout)
        note = " (without words in the script of the target text)"
    if not protect:
        return BaseText(heldout, note=note)
    documents = chain(base.documents("train"), heldout)
    return BaseText(documents, "protected or held-out document")


def _scripts(corpus: Corpus) -> tuple[str, ...]:
    """Return the scripts of a text; those of most letters if its language is not known."""
    known = scripts_of(corpus.language, corpus.scripts)
    return known or most_used_scripts(corpus.documents("train"))


def _without_words(text: str, letters: regex.Pattern[str]) -> str:
    """Return a text without the words that have one of these letters.

    >>> _without_words("say नमस्ते, twice", regex.compile(letters_in(frozenset({"Deva"}))))
    'say  twice'
    """
    if not letters.search(text):
        return text
    return "".join(part for part in _SPACE.split(text) if not letters.search(part))
