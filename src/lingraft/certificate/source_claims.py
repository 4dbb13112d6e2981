"""The first claim: transformers and lingraft read the source alike.

It is checked before anything is learned. A token that we do not see would lose its embedding row to
a learned token, and every later claim would hold, since both sides of it leave out the same token.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lingraft.certificate.claims import Claim
from lingraft.certificate.file_claims import certify_file, plain_texts, sentencepiece_source
from lingraft.certificate.readings import ROLES, Reading, our_reading, their_reading
from lingraft.tokenizer import ModelTokenizer
from lingraft.tokenizer.added_tokens import FLAGS
from lingraft.tokenizer.conversion_check import compare_with_sentencepiece
from lingraft.tokenizer.edge_cases import edge_case_texts

SOURCE_READ = "source read as transformers reads it"

_EXAMPLES = 3
_CONTENTS = 64  # added tokens that are also read inside a text, as flags act there
_SPENT = 60


@dataclass
class Differences:
    """Counts what was compared and keeps the first few exceptions in words."""

    of: int = 0
    value: int = 0
    examples: list[str] = field(default_factory=list)

    def compare(self, what: str, ours: object, theirs: object) -> None:
        """Compare one thing; `what` names it in a message."""
        same = ours == theirs
        self.check(same, "" if same else f"{what}: {_short(ours)}, not {_short(theirs)}")

    def check(self, holds: object, exception: str) -> None:
        """Count one thing that was checked; `exception` says what is wrong where it does not hold."""
        self.of += 1
        if not holds:
            self.value += 1
            if len(self.examples) < _EXAMPLES:
                self.examples.append(exception)


def certify_source(tokenizer: ModelTokenizer, given: Path, texts: Iterable[str] = ()) -> Claim:
    """Compare our reading of a source with the reading of another library.

    `tokenizer` is what lingraft works with, `given` the folder or file as the user gave it, `texts`
    are real ones. What transformers cannot open is compared with its own file, and the claim says
    so.
    """
    theirs = their_reading(given)
    if isinstance(theirs, Reading):
        model = sentencepiece_source(given)
        if model is not None:
            return _with_sentencepiece(tokenizer, theirs, model, list(texts))
        return compare_readings(our_reading(tokenizer), theirs, texts)
    return certify_file(tokenizer, given, list(texts), reason=theirs)


def compare_readings(ours: Reading, theirs: Reading, texts: Iterable[str] = ()) -> Claim:
    """Return the claim that two readings of one tokenizer agree in everything."""
    found = Differences()
    _compare_vocabulary(found, ours, theirs)
    _compare_texts(found, ours, theirs, [*_probes(theirs.flags), *texts])
    detail = (
        f"compared with {theirs.reader}: every id, the flags of added tokens, the special ids, and "
        "the ids of awkward and real texts, alone and in a plain call"
    )
    return _claim(SOURCE_READ, found, "ids, flags and texts", detail)


def _with_sentencepiece(
    tokenizer: ModelTokenizer, theirs: Reading, model: Path, texts: Sequence[str]
) -> Claim:
    """Compare tokens with transformers, and texts with SentencePiece, which wrote the file.

    A class of transformers converts the file too, and may give other ids than SentencePiece: those
    texts are counted in the detail.
    """
    ours, found = our_reading(tokenizer), Differences()
    _compare_vocabulary(found, ours, theirs)
    found.compare("ids around a text", ours.plain([""]), theirs.plain([""]))
    plain = plain_texts(tokenizer, texts)
    compared = compare_with_sentencepiece(tokenizer, model, plain)
    found.of += compared.texts - len(compared.different)
    for text in compared.different:
        found.check(holds=False, exception=f"ids of {text[:_SPENT]!r}")
    otherwise = 0
    for mine, other in zip(ours.ids(plain), theirs.ids(plain), strict=True):
        otherwise += mine != other
    detail = (
        f"ids, flags and special ids compared with {theirs.reader}, texts with SentencePiece, which "
        f"wrote {model.name}; the conversion of transformers gives other ids for {otherwise} of "
        f"{len(plain)} texts"
    )
    return _claim(SOURCE_READ, found, "ids, flags and texts", detail)


def _compare_vocabulary(found: Differences, ours: Reading, theirs: Reading) -> None:
    """Compare ids, flags and roles."""
    found.compare("number of ids", len(ours.vocab), len(theirs.vocab))
    _compare_tokens(found, ours.vocab, theirs.vocab)
    for content in theirs.flags.keys() | ours.flags.keys():
        mine, other = ours.flags.get(content), theirs.flags.get(content)
        found.compare(f"flags of {content!r}", _flags(mine), _flags(other))
    for role in ROLES:
        found.compare(f"{role} id", ours.roles[role], theirs.roles[role])


def _claim(name: str, found: Differences, unit: str, detail: str) -> Claim:
    return Claim(name, found.value, found.of, unit, detail, exceptions=tuple(found.examples))


def _compare_tokens(found: Differences, ours: Mapping[str, int], theirs: Mapping[str, int]) -> None:
    if ours == theirs:  # a large vocabulary is equal in most cases, and compared at once
        found.of += len(theirs)
        return
    for token in sorted(theirs.keys() | ours.keys(), key=lambda token: theirs.get(token, -1)):
        found.compare(f"id of {token!r}", ours.get(token), theirs.get(token))


def _compare_texts(
    found: Differences, ours: Reading, theirs: Reading, texts: Sequence[str]
) -> None:
    for text, mine, other in zip(texts, ours.ids(texts), theirs.ids(texts), strict=True):
        found.compare(f"ids of {text[:_SPENT]!r}", mine, other)
    around = [*texts[:3], *texts[-3:]]
    for text, mine, other in zip(around, ours.plain(around), theirs.plain(around), strict=True):
        found.compare(f"plain call on {text[:_SPENT]!r}", mine, other)


def _probes(flags: Mapping[str, object]) -> list[str]:
    """Return awkward texts, and texts that mention added tokens."""
    mentions = [f"one {content} two{content}" for content in list(flags)[:_CONTENTS]]
    return [text for text in (*edge_case_texts(), *mentions) if text]


def _flags(flags: Sequence[bool] | None) -> str:
    if flags is None:
        return "no added token"
    return " ".join(name for name, on in zip(FLAGS, flags, strict=True) if on) or "none"


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= _SPENT else f"{text[:_SPENT]}..."
