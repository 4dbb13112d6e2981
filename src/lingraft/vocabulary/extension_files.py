"""Files and notes that describe an extension: splice, samples, savings curve, summary."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from lingraft.corpus import Corpus
from lingraft.pretokenizer.change import PretokenizerChange
from lingraft.splice import Splice
from lingraft.store import Draft, write_json
from lingraft.tokenizer import ModelTokenizer
from lingraft.vocabulary.base import Selected
from lingraft.vocabulary.learn_tokens import Extension

SAMPLES = 24
SAMPLE_CHARACTERS = 240
CURVE_POINTS = 200


def write_splice(splice: Splice, draft: Draft) -> None:
    """Write splice.json, and id_remap.json (source id to target id) if ids are dropped."""
    draft.path("splice.json").write_text(splice.dumps(), encoding="utf-8")
    if not splice.dropped:
        return
    remap = {}
    for target_id, source_id in sorted(splice.corresponding.items()):
        remap[str(source_id)] = target_id
    draft.path("id_remap.json").write_text(json.dumps(remap), encoding="utf-8")


def write_samples(
    source: ModelTokenizer, target: ModelTokenizer, corpora: Sequence[Corpus], path: Path
) -> None:
    """Write the longest line of a few held-out documents, as both tokenizers segment it."""
    samples = []
    per_language = max(SAMPLES // len(corpora), 2)
    for corpus in corpora:
        for line in islice(_sample_lines(corpus), per_language):
            segmented = {"source": _pieces(source, line), "target": _pieces(target, line)}
            samples.append({"text": line, "language": corpus.language, **segmented})
    path.write_text(json.dumps(samples, ensure_ascii=False), encoding="utf-8")


def _sample_lines(corpus: Corpus) -> Iterator[str]:
    """Yield the longest line of each held-out document, cut at a space if it is too long."""
    for text in corpus.documents("heldout"):
        line = max(text.splitlines(), key=len, default="")
        if len(line) > SAMPLE_CHARACTERS:
            line = line[:SAMPLE_CHARACTERS].rsplit(" ", 1)[0]
        if line:
            yield line


def _pieces(tokenizer: ModelTokenizer, text: str) -> list[tuple[int, str]]:
    """Return the id and the text of each token."""
    (ids,) = tokenizer.encode([text])
    pieces = []
    for token_id in ids:
        surface = tokenizer.vocabulary.surfaces[token_id] or b""
        # A token may hold part of a character: its bytes are shown as \xNN then.
        pieces.append((token_id, surface.decode("utf-8", errors="backslashreplace")))
    return pieces


def write_curve(selected: Selected, path: Path) -> None:
    """Write the savings curve."""
    path.write_text(json.dumps(savings_curve(selected)), encoding="utf-8")


def savings_curve(selected: Selected) -> dict[str, list[int]]:
    """Return the tokens of the text for each number of added tokens, at about 200 points.

    >>> savings_curve(Selected((b"ab", b"cd"), (30, 10), 100))
    {'added': [0, 1, 2], 'tokens': [100, 70, 60]}
    """
    if not selected.saved:
        return {"added": [], "tokens": []}
    last = len(selected.saved)
    step = max(last // CURVE_POINTS, 1)
    tokens = selected.tokens_before
    curve = {"added": [0], "tokens": [tokens]}
    for added, saved in enumerate(selected.saved, 1):
        tokens -= saved
        if added % step == 0 or added == last:
            curve["added"].append(added)
            curve["tokens"].append(tokens)
    return curve


def write_pretokenizer_change(change: PretokenizerChange, path: Path) -> None:
    """Write what was decided about the pre-tokenizer."""
    write_json(path, change.as_json())


def summarize(
    source: ModelTokenizer,
    change: PretokenizerChange,
    selected: Selected,
    extension: Extension,
) -> dict[str, Any]:
    """Return the notes of the stage: family, method, numbers of tokens and the pre-tokenizer."""
    notes = {
        "family": source.family.name,
        "method": extension.selection.name,
        "requested": extension.requested,
        "added": len(selected.surfaces),
        "dropped": len(selected.dropped),
        "reinitialised": change.reinitialised,
        "pre-tokenizer": str(change),
        "pre-tokenizer repaired": change.changed,
        "digits": f"as the base cuts ASCII digits: {source.family.digit_rule}",
        **selected.notes,
    }
    if change.scripts:
        notes["scripts cut otherwise"] = "; ".join(map(str, change.scripts))
    return notes
