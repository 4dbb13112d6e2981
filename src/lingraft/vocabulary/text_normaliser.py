"""Whether the tokenizer gets the Unicode normaliser that the text was converted with.

Tokens that were learned from text in NFC do not match the same text in NFD. A normaliser in the
tokenizer helps, but it would also change how the model reads base-language text, so the tokenizer
gets it only if it leaves all base-language text that is checked as it is. A text that a normaliser
does not change has the same ids with and without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from tokenizers import normalizers

from lingraft.certificate import NORMALISER, Claim
from lingraft.corpus import Corpus, first_documents
from lingraft.corpus.corpus import SPLITS
from lingraft.corpus.excerpts import escaped
from lingraft.formatting import counted
from lingraft.store import Draft
from lingraft.tokenizer import ModelTokenizer
from lingraft.tokenizer.byte_level_bpe import ByteLevel
from lingraft.tokenizer.edge_cases import code_texts
from lingraft.tokenizer.json_format import Data

CHECKED_BYTES = 50_000_000
"""Base-language text that is checked: a few seconds."""
_PROBES = ("e\u0301", "\u1112\u1161\u11ab", "\u0e4d\u0e32", "\ufb01")


@dataclass(frozen=True)
class TextNormaliser:
    """The normal form of the text, and whether the tokenizer gets it; `reason` says why.

    `changed` of the `checked` base-language documents and code samples would be changed by it.
    """

    form: str
    reason: str
    checked: int = 0
    changed: int = 0
    example: str = ""
    given: bool = False

    def claim(self) -> Claim:
        """The claim of the certificate."""
        decision = "gets it" if self.given else "does not get it"
        return Claim(
            NORMALISER,
            self.changed,
            self.checked,
            "texts",
            f"the text was converted to {self.form}; the tokenizer {decision}: {self.reason}",
            fatal=False,
            exceptions=(self.example,) if self.example else (),
        )

    def report(self, draft: Draft) -> None:
        """Note the decision, and warn if the tokenizer does not read text in other forms."""
        given = f"{self.form}, {'given' if self.given else 'not given'}: {self.reason}"
        draft.note({"normaliser": given})
        if not self.given and self.reason != _ITSELF:
            draft.warn(
                f"tokenizer: the text was converted to {self.form}, and the tokenizer does not do "
                f"that, because {self.reason}; convert what the model reads to {self.form}"
            )

    def added_to(self, data: Data) -> Data:
        """Return a tokenizer.json with the normaliser in front of its other ones."""
        if not self.given:
            return data
        present = data.get("normalizer")
        first: Data = {"type": self.form}
        if present is None:
            return {**data, "normalizer": first}
        parts = present["normalizers"] if present["type"] == "Sequence" else [present]
        return {**data, "normalizer": {"type": "Sequence", "normalizers": [first, *parts]}}


_ITSELF = "the tokenizer of the base converts text itself"


def choose_normaliser(
    source: ModelTokenizer, corpora: Sequence[Corpus], base: Corpus | None
) -> TextNormaliser | None:
    """Return the decision, `None` if no text was converted."""
    forms = {corpus.normal_form for corpus in corpora}
    if forms <= {None}:
        return None
    form = " and ".join(sorted(filter(None, forms)))
    if len(forms) > 1:
        return TextNormaliser(form, "not all target texts have the same cleaning.normalise")
    convert: Callable[[str], str] = getattr(normalizers, form)().normalize_str
    reason = _reason_against(source, convert, base)
    if reason or base is None:
        return TextNormaliser(form, reason)
    if converted := base.converted_documents(form):
        documents = sum(base.counts(split).documents for split in SPLITS)
        reason = f"it changes base-language text ({counted(converted, 'document')})"
        return TextNormaliser(form, reason, documents, converted)
    return _check(form, convert, _base_documents(base))


def _reason_against(
    source: ModelTokenizer, convert: Callable[[str], str], base: Corpus | None
) -> str:
    """Return why no text needs to be checked, "" if it does."""
    own = source.backend.normalizer
    if own is not None and all(own.normalize_str(text) == convert(text) for text in _PROBES):
        return _ITSELF
    if not isinstance(source.family, ByteLevel):
        # tokenizer.model would need the form in its table of characters.
        return "a SentencePiece tokenizer has its own table of characters"
    return "" if base else "there is no base-language text (replay) to check it on"


def _check(form: str, convert: Callable[[str], str], documents: Iterable[str]) -> TextNormaliser:
    """Check documents, and samples of code: base-language text may have none."""
    checked = changed = size = 0
    example = ""
    code = code_texts()
    for text in chain(code, documents):
        checked, size = checked + 1, size + len(text.encode())
        if convert(text) != text:
            changed += 1
            example = example or _first_changed_word(text, convert)
    read = (
        f"{counted(checked - len(code), 'base-language document')} and "
        f"{counted(len(code), 'code sample')} ({size:,} bytes)"
    )
    reason = f"it changes {changed:,} of {read}" if changed else f"it leaves {read} as they are"
    return TextNormaliser(form, reason, checked, changed, example, given=not changed)


def _base_documents(base: Corpus) -> Iterator[str]:
    documents = chain(base.documents("heldout"), base.documents("train"))
    return first_documents(documents, CHECKED_BYTES)


def _first_changed_word(text: str, convert: Callable[[str], str]) -> str:
    words = (word for word in text.split() if convert(word) != word)
    return escaped(next(words, text)[:40])
