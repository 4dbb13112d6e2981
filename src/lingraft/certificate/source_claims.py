"""The first claim: lingraft reads the source as transformers does.

It is checked before anything is learned. If lingraft overlooked a token, a learned token would get
its id and embedding row. No later claim would fail, because the source and the target as lingraft
reads them would both lack that token.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import compress
from pathlib import Path

from lingraft.certificate.claims import Claim
from lingraft.certificate.file_claims import (
    certify_file,
    sentencepiece_source,
    without_added_tokens,
)
from lingraft.certificate.readings import (
    ROLES,
    Reading,
    read_file_with_transformers,
    read_with_lingraft,
    read_with_transformers,
)
from lingraft.tokenizer import ModelTokenizer
from lingraft.tokenizer.added_tokens import FLAGS
from lingraft.tokenizer.conversion_check import compare_with_sentencepiece
from lingraft.tokenizer.edge_cases import edge_case_texts

SOURCE_READ = "source read as transformers reads it"

_EXAMPLES = 3
_MENTIONED = 64  # added tokens that are also read inside a text, where their flags matter
_SHOWN = 60  # characters of a value that a message shows


@dataclass
class Differences:
    """Counts what was compared, and keeps messages for the first few exceptions."""

    of: int = 0
    value: int = 0
    examples: list[str] = field(default_factory=list)

    def compare(self, what: str, actual: object, expected: object) -> None:
        """Compare two values; `what` names them in a message."""
        self.of += 1
        if actual != expected:
            start = _first_difference(actual, expected)
            self._add(f"{what}: {_short(actual, start)}, not {_short(expected, start)}")

    def check(self, holds: object, exception: str) -> None:
        """Count one check; `exception` is the message if it does not hold."""
        self.of += 1
        if not holds:
            self._add(exception)

    def claim(self, name: str, unit: str, detail: str, *, fatal: bool = True) -> Claim:
        """Return the claim that there are no differences."""
        examples = tuple(self.examples)
        return Claim(name, self.value, self.of, unit, detail, fatal, exceptions=examples)

    def _add(self, exception: str) -> None:
        self.value += 1
        if len(self.examples) < _EXAMPLES:
            self.examples.append(exception)


def certify_source(tokenizer: ModelTokenizer, given: Path, texts: Iterable[str] = ()) -> Claim:
    """Compare our reading of a source with the reading of another library.

    `tokenizer` is what lingraft works with. `given` is the folder or file as the user gave it. If
    transformers cannot open it, the reading is compared with the file itself, and the claim has
    another name.
    """
    theirs, texts = read_with_transformers(given), list(texts)
    if not isinstance(theirs, Reading):
        return certify_file(tokenizer, given, texts, reason=theirs)
    model = sentencepiece_source(given)
    if model is not None:
        return _check_with_sentencepiece(tokenizer, theirs, model, texts)
    ours = read_with_lingraft(tokenizer)
    claim = compare_readings(ours, theirs, texts)
    if not claim.holds and _class_ignores_file(ours, theirs, given, texts):
        reason = (
            f"{type(theirs.loaded).__name__} of transformers builds another tokenizer than "
            "tokenizer.json says, and lingraft follows the file"
        )
        return replace(claim, fatal=False, exceptions=(reason, *claim.exceptions))
    return claim


def _class_ignores_file(ours: Reading, theirs: Reading, given: Path, texts: Sequence[str]) -> bool:
    """Return whether only the named class keeps transformers from reading the file as lingraft.

    In transformers 5, some classes (GPT2Tokenizer of SmolLM2) build their own pre-tokenizer and
    ignore that of the file, with which the model was trained. transformers 4 followed the file. The
    ids of tokens must be the same: if the class adds tokens, rows could be given twice.
    """
    tokens = Differences()
    _compare_vocabulary(tokens, ours, theirs)
    if tokens.value:
        return False
    try:
        as_file = read_file_with_transformers(given)
    except Exception:  # noqa: BLE001 - the reason for a difference is then not known
        return False
    return compare_readings(ours, as_file, texts).holds


def compare_readings(ours: Reading, theirs: Reading, texts: Iterable[str] = ()) -> Claim:
    """Return the claim that two readings of one tokenizer agree."""
    differences = Differences()
    _compare_vocabulary(differences, ours, theirs)
    _compare_texts(differences, ours, theirs, [*_probes(theirs.flags), *texts])
    detail = (
        f"compared with {theirs.reader}: every id, the flags of added tokens, the special ids, and "
        "the ids of edge cases and real texts, alone and in a plain call"
    )
    return differences.claim(SOURCE_READ, "ids, flags and texts", detail)


def _check_with_sentencepiece(
    tokenizer: ModelTokenizer, theirs: Reading, model: Path, texts: Sequence[str]
) -> Claim:
    """Compare tokens with transformers, and texts with SentencePiece, which wrote the file.

    A class of transformers converts the file, and may give other ids than SentencePiece. The detail
    of the claim counts these texts.
    """
    ours = read_with_lingraft(tokenizer)
    differences = Differences()
    _compare_vocabulary(differences, ours, theirs)
    differences.compare("ids around a text", ours.plain([""]), theirs.plain([""]))
    plain = without_added_tokens(tokenizer, texts)
    compared = compare_with_sentencepiece(tokenizer, model, plain)
    differences.of += compared.texts - len(compared.different)
    for text in compared.different:
        differences.check(holds=False, exception=f"ids of {text[:_SHOWN]!r}")
    converted_differently = 0
    for our_ids, their_ids in zip(ours.ids(plain), theirs.ids(plain), strict=True):
        converted_differently += our_ids != their_ids
    detail = (
        f"ids, flags and special ids compared with {theirs.reader}, texts with SentencePiece, "
        f"which wrote {model.name}; the conversion of transformers gives other ids for "
        f"{converted_differently} of {len(plain)} texts"
    )
    return differences.claim(SOURCE_READ, "ids, flags and texts", detail)


def _compare_vocabulary(differences: Differences, ours: Reading, theirs: Reading) -> None:
    """Compare ids, flags and roles."""
    differences.compare("number of ids", len(ours.vocab), len(theirs.vocab))
    _compare_tokens(differences, ours.vocab, theirs.vocab)
    for content in theirs.flags.keys() | ours.flags.keys():
        our_flags, their_flags = ours.flags.get(content), theirs.flags.get(content)
        differences.compare(f"flags of {content!r}", _names(our_flags), _names(their_flags))
    for role in ROLES:
        differences.compare(f"{role} id", ours.roles[role], theirs.roles[role])


def _compare_tokens(
    differences: Differences, ours: Mapping[str, int], theirs: Mapping[str, int]
) -> None:
    # Most vocabularies are equal: one comparison spares a loop over 100,000 tokens or more.
    if ours == theirs:
        differences.of += len(theirs)
        return
    for token in sorted(theirs.keys() | ours.keys(), key=lambda token: theirs.get(token, -1)):
        differences.compare(f"id of {token!r}", ours.get(token), theirs.get(token))


def _compare_texts(
    differences: Differences, ours: Reading, theirs: Reading, texts: Sequence[str]
) -> None:
    for text, our_ids, their_ids in zip(texts, ours.ids(texts), theirs.ids(texts), strict=True):
        differences.compare(f"ids of {text[:_SHOWN]!r}", our_ids, their_ids)
    # A plain call differs only in the tokens around a text, so a few texts are enough.
    few = [*texts[:3], *texts[-3:]]
    for text, our_ids, their_ids in zip(few, ours.plain(few), theirs.plain(few), strict=True):
        differences.compare(f"plain call on {text[:_SHOWN]!r}", our_ids, their_ids)


def _probes(flags: Mapping[str, object]) -> list[str]:
    """Return edge cases, and texts that contain added tokens."""
    mentions = [f"one {content} two{content}" for content in list(flags)[:_MENTIONED]]
    return list(filter(None, (*edge_case_texts(), *mentions)))


def _names(flags: Sequence[bool] | None) -> str:
    """Return the names of the flags that are set."""
    if flags is None:
        return "no added token"
    return " ".join(compress(FLAGS, flags)) or "none"


def _first_difference(actual: object, expected: object) -> int:
    """Return how many first elements two lists share, less one; 0 for other values.

    >>> _first_difference([4, 5, 6, 7], [4, 5, 6, 8])
    2
    """
    if not isinstance(actual, list) or not isinstance(expected, list):
        return 0
    pairs = enumerate(zip(actual, expected, strict=False))
    differing = (index for index, (one, other) in pairs if one != other)
    return max(next(differing, min(len(actual), len(expected))) - 1, 0)


def _short(value: object, start: int = 0) -> str:
    """Return the text of a value, of a list from this element on, in few characters.

    >>> _short([4, 5, 6, 7], 2)
    '[..., 6, 7]'
    """
    text = f"[..., {str(value[start:])[1:]}" if start and isinstance(value, list) else str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
