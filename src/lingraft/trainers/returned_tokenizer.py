"""Compare the tokenizer of a returned folder with the one that was handed over.

Both are read by transformers, as a user or a server reads them. The received model gets the files
of the hand-over, for which the certificate holds, so that every difference is repaired. Only tokens
that the engine added refuse the checkpoint: their rows are trained, and the splice does not know
them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lingraft.certificate.readings import ROLES, Reading, read_with_transformers
from lingraft.errors import LingraftError
from lingraft.pretokenizer.llama_cpp_names import find_llama_cpp_name
from lingraft.splice import Splice
from lingraft.tokenizer import ModelTokenizer, open_tokenizer
from lingraft.tokenizer.byte_level_bpe import ByteLevel
from lingraft.tokenizer.chat_template import chat_template_of
from lingraft.tokenizer.edge_cases import code_texts, edge_case_texts
from lingraft.trainers.returned_faults import Finding, Outcome

TOKENIZER, SETTINGS = "tokenizer.json", "tokenizer_config.json"

_ADDED_TEXTS, _WORDS = 40, 8
"""Texts of added tokens that are compared, and tokens in each."""

_SHOWN = 3


def compare_tokenizers(returned: Path, extended: Path, splice: Splice) -> Iterator[Finding]:
    """Yield the findings in the tokenizer of a returned folder."""
    before, after = read_with_transformers(extended), None
    if (returned / TOKENIZER).is_file() or (returned / SETTINGS).is_file():
        after = _read(returned)
    if after is None:
        yield Finding("missing files", TOKENIZER, "no tokenizer", "repaired")
    elif isinstance(after, str) or isinstance(before, str):
        reason = after if isinstance(after, str) else str(before)
        yield Finding("missing files", TOKENIZER, reason, "repaired")
    else:
        yield from _compare_tokens(before, after, splice)
        yield from _compare_texts(before, after, splice)
        yield from _compare_roles(before, after)
        yield from _compare_starts(before, after, extended)
    yield from _compare_files(returned, extended)
    yield from _compare_gguf(returned, extended)


def _read(folder: Path) -> Reading | str:
    """Return how transformers reads a folder, or the reason why it cannot."""
    try:
        return read_with_transformers(folder)
    except LingraftError as error:
        return str(error)


def _compare_tokens(before: Reading, after: Reading, splice: Splice) -> Iterator[Finding]:
    """Yield tokens that are lost or have another id, and those that the engine added."""
    lost = [token for token, number in before.vocab.items() if after.vocab.get(token) != number]
    if lost:
        added_ids = {token.id for token in splice.added}
        of_added = sum(before.vocab[token] in added_ids for token in lost)
        what = f"{len(lost):,} of {len(before.vocab):,} tokens are missing or have another id"
        what += f", {of_added:,} of them added ones"
        if of_added == len(added_ids) and of_added:
            what += " (the tokenizer of the source)"
        yield Finding("lost added tokens", TOKENIZER, what, "repaired")
    known = set(before.vocab)
    new = [token for token in after.vocab if token not in known]
    roles = set(after.roles.values())
    # A class adds the tokens of its roles by default (PAD, <|endoftext|>): no text has them.
    others = [token for token in new if after.vocab[token] not in roles]
    if new and not lost:
        what = f"{len(new):,} tokens that were not handed over: {_listed(new)}"
        outcome: Outcome = "refused" if others else "repaired"
        yield Finding("tokens of the engine", TOKENIZER, what, outcome)


def _compare_texts(before: Reading, after: Reading, splice: Splice) -> Iterator[Finding]:
    """Yield texts that the returned tokenizer cuts otherwise, although it has the same tokens."""
    if dict(before.vocab).items() - dict(after.vocab).items():
        return  # reported as lost tokens
    texts = [*filter(None, edge_case_texts()), *code_texts(), *_added_texts(splice)]
    expected, found = before.ids(texts), after.ids(texts)
    different = [
        text for text, ids, other in zip(texts, expected, found, strict=True) if ids != other
    ]
    if different:
        what = (
            f"{after.reader} gives other ids for {len(different)} of {len(texts)} texts, such as "
            f"{different[0][:20]!r}"
        )
        yield Finding("changed pre-tokenizer", SETTINGS, what, "repaired")


def _added_texts(splice: Splice) -> list[str]:
    """Return texts of added tokens: words of the target language, with spaces between them."""
    words = []
    for token in splice.new:
        try:
            words.append(token.surface.decode("utf-8").strip())
        except UnicodeDecodeError:
            continue
    words = list(filter(None, words))[: _ADDED_TEXTS * _WORDS]
    return [" ".join(words[begin : begin + _WORDS]) for begin in range(0, len(words), _WORDS)]


def _compare_roles(before: Reading, after: Reading) -> Iterator[Finding]:
    """Yield special tokens with another role."""
    for role in ROLES:
        old, new = before.roles[role], after.roles[role]
        if old == new:
            continue
        what = f"{role.upper()} {_token(before, old)} became {_token(after, new)}"
        masks = role == "pad" and new is not None and new == after.roles["eos"]
        fault = "PAD is EOS" if masks else "changed special ids"
        yield Finding(fault, SETTINGS, what, "repaired")


def _token(reading: Reading, number: int | None) -> str:
    names = [token for token, token_id in reading.vocab.items() if token_id == number]
    return repr(names[0]) if names else "none"


def _compare_starts(before: Reading, after: Reading, extended: Path) -> Iterator[Finding]:
    """Yield special tokens that a plain call puts around a text, and did not before."""
    old, new = before.plain(["a"])[0], after.plain(["a"])[0]
    bos = after.roles["bos"]
    if old == new:
        return
    if bos is not None and new[:1] == [bos] and old[:1] != [bos]:
        what = f"a plain call starts with {_token(after, bos)}, which it did not"
        template = chat_template_of(open_tokenizer(extended))
        if template is not None and _starts_with_bos(template.source, _token(after, bos)):
            what += ", and so does the chat template"
        yield Finding("doubled BOS", SETTINGS, what, "repaired")
    elif before.ids(["a"])[0] == after.ids(["a"])[0]:
        what = f"a plain call gives {new} for 'a', before {old}"
        yield Finding("changed special ids", SETTINGS, what, "repaired")


def _starts_with_bos(template: str, bos: str) -> bool:
    return "bos_token" in template or bos.strip("'") in template


def _compare_files(returned: Path, extended: Path) -> Iterator[Finding]:
    """Yield another chat template, and merges in another form."""
    before, after = _open(extended), _open(returned)
    if before is None or after is None:
        return
    old, new = chat_template_of(before), chat_template_of(after)
    if (old and old.source) != (new and new.source):
        lengths = [
            f"{len(template.source):,} characters" if template else "none"
            for template in (old, new)
        ]
        what = f"template handed over: {lengths[0]}, returned: {lengths[1]}"
        yield Finding("lost chat template", "chat_template.jinja", what, "repaired")
    forms = [_form_of_merges(folder) for folder in (extended, returned)]
    if "" not in forms and forms[0] != forms[1]:
        what = f"merges as {forms[1]}, handed over as {forms[0]}"
        yield Finding("form of merges", TOKENIZER, what, "repaired")


def _open(folder: Path) -> ModelTokenizer | None:
    """Return the tokenizer of a folder, `None` if it cannot be read."""
    try:
        return open_tokenizer(folder)
    except LingraftError:
        return None


def _form_of_merges(folder: Path) -> str:
    path = folder / TOKENIZER
    if not path.is_file():
        return ""
    merges = json.loads(path.read_text(encoding="utf-8"))["model"].get("merges")
    if not merges:
        return ""
    return "text" if isinstance(merges[0], str) else "pairs"


def _compare_gguf(returned: Path, extended: Path) -> Iterator[Finding]:
    """Yield a GGUF file next to the weights that names another pre-tokenizer."""
    name, named = (_llama_cpp_name(folder) for folder in (extended, returned))
    if name != named and (returned / TOKENIZER).is_file():
        what = f"llama.cpp's name for its pre-tokenizer: {named or 'none'}, handed over: "
        what += name or "none"
        yield Finding("name in GGUF", TOKENIZER, what, "repaired")
    for path in sorted(returned.glob("*.gguf")):
        found = _name_in_gguf(path)
        if found is None:
            what = "its pre-tokenizer was not compared: pip install 'lingraft[gguf]'"
            yield Finding("name in GGUF", path.name, what, "kept")
        elif found != name:
            what = f"tokenizer.ggml.pre is {found or 'missing'}, not {name or 'one with a name'}"
            yield Finding("name in GGUF", path.name, what, "kept")


def _llama_cpp_name(folder: Path) -> str | None:
    """Return llama.cpp's name for the pre-tokenizer of a folder, `None` where it has none."""
    tokenizer = _open(folder)
    if tokenizer is None or not isinstance(tokenizer.family, ByteLevel):
        return None
    return find_llama_cpp_name(tokenizer.family.data)


def _name_in_gguf(path: Path) -> str | None:
    """Return the name of the pre-tokenizer in a GGUF file; `None` without the package `gguf`."""
    if find_spec("gguf") is None:
        return None
    from gguf import GGUFReader

    field: Any = GGUFReader(path).get_field("tokenizer.ggml.pre")
    return str(field.contents()) if field is not None else ""


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:_SHOWN])) + (", ..." if len(names) > _SHOWN else "")
