"""Which base-language text a changed pre-tokenizer must tokenise as before."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import regex

from lingraft.corpus import Corpus
from lingraft.corpus.script_check import scripts_of
from lingraft.text_units import letters_in

_SPACE = regex.compile(r"(\s+)")


@dataclass(frozen=True)
class BaseText:
    """The base-language documents in which a changed pre-tokenizer must move no id.

    `kind` says what they are, in messages.
    """

    documents: Iterable[str] = ()
    kind: str = "base-language documents"


def unchanged_text(base: Corpus | None, corpora: Sequence[Corpus], *, protect: bool) -> BaseText:
    """Return the base-language text that `auto` must not change: protected text, or held-out text.

    Held-out text is read without the words in the scripts of the target languages, unless the base
    language has the same script or is not known. New tokens change these words, too, and a Hindi
    word in one of thousands of English documents would otherwise keep all Hindi words cut.
    """
    if base is None:
        return BaseText()
    heldout = base.documents("heldout")
    if protect:
        return BaseText(chain(heldout, base.documents("train")), "protected documents")
    own = scripts_of(base.language, base.scripts)
    others: set[str] = set()
    for corpus in corpora:
        others.update(scripts_of(corpus.language, corpus.scripts))
    others.difference_update(own)
    if not own or not others:
        return BaseText(heldout)
    letters = regex.compile(letters_in(frozenset(others)))
    kind = "base-language documents (without words in the target's script)"
    return BaseText((_without_words(text, letters) for text in heldout), kind)


def _without_words(text: str, letters: regex.Pattern[str]) -> str:
    """Return a text without the words that have one of these letters.

    >>> _without_words("say नमस्ते, twice", regex.compile(letters_in(frozenset({"Deva"}))))
    'say  twice'
    """
    if not letters.search(text):
        return text
    return "".join(part for part in _SPACE.split(text) if not letters.search(part))
