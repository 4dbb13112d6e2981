"""From a source tokenizer and text to an extended tokenizer on disk: files, splice, certificate, samples."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

from lingraft.certificate import Evidence, certify, write_certificate
from lingraft.corpus import Corpus
from lingraft.families import Family, ModelTokenizer, open_tokenizer
from lingraft.families.saving import save_tokenizer
from lingraft.progress import progress
from lingraft.selection.base import Selected, Selection, SelectionRequest
from lingraft.selection.repairing import Decision, decide
from lingraft.store import Draft
from lingraft.vocabulary import AddedToken, Splice, identity

SAMPLES = 8
SAMPLE_CHARACTERS = 240


def extend_tokenizer(source_folder: Path, corpora: Sequence[Corpus], selection: Selection, *, size: int,
                     pretokenizer: str, draft: Draft, base: Corpus | None = None, protect: bool = False,
                     allow: Sequence[str] = ()) -> None:
    """Learn `size` tokens from the corpora and write tokenizer/, splice.json, certificate.json and samples.json.

    `base` is text of the base language: it is what the certificate checks for unchanged segmentation, and where
    `protect` is set, no token is added that would change it. `allow` waives claims of the certificate by name.
    Raises `TokenizerError` for a family that is not known, `CertificateError` where a claim fails.
    """
    source = open_tokenizer(source_folder)
    decision = decide(source.family, pretokenizer if size else "keep", texts=_texts(corpora), selection=selection, size=size,
                      base_texts=base.documents("heldout") if base else (), where=source_folder)
    selected = _select(decision.family, corpora, selection, size, base if protect else None)
    splice = splice_of(source.family, selected)
    folder = draft.folder / "tokenizer"
    save_tokenizer(source, decision.family.extended(selected.surfaces), selected.surfaces, folder)
    draft.path("splice.json").write_text(splice.dumps(), encoding="utf-8")
    _certify(source, open_tokenizer(folder), splice, corpora, base, draft, protect=protect, allow=allow)
    _write_samples(source, open_tokenizer(folder), corpora, draft.path("samples.json"))
    draft.path("curve.json").write_text(json.dumps(curve(selected)), encoding="utf-8")
    _note(draft, source, decision, selected, size)


def _texts(corpora: Sequence[Corpus]) -> Iterator[str]:
    return chain.from_iterable(corpus.documents("train") for corpus in corpora)


def _select(family: Family, corpora: Sequence[Corpus], selection: Selection, size: int, protected: Corpus | None) -> Selected:
    if not size:
        return Selected(())
    counts: Counter[str] = Counter()
    for corpus in corpora:
        with progress(f"counting {corpus.language} words", corpus.counts("train").documents) as advance:
            counts += family.units(_counted(corpus.documents("train"), advance))
    kept = frozenset(family.units(protected.documents("train"))) if protected else frozenset()
    return selection.select(SelectionRequest(family, counts, size, kept, lambda: _texts(corpora)))


def _counted(texts: Iterator[str], advance: object) -> Iterator[str]:
    for text in texts:
        yield text
        advance(1)  # type: ignore[operator]  # an Advance


def splice_of(family: Family, selected: Selected) -> Splice:
    """Return the splice of an extension: what the source tokenizer made of each added token, inside a text."""
    pieces = family.segment([family.piece_of(surface) for surface in selected.surfaces])
    saved = selected.saved or [0] * len(selected.surfaces)
    added = [AddedToken(family.size + i, surface, tuple(ids), count)
             for i, (surface, ids, count) in enumerate(zip(selected.surfaces, pieces, saved, strict=True))]
    return identity(family.size, added)


def curve(selected: Selected) -> dict[str, list[int]]:
    """Return the tokens of the text against the number of added tokens, at about 200 points."""
    if not selected.saved:
        return {"added": [], "tokens": []}
    step = max(len(selected.saved) // 200, 1)
    tokens, points = selected.tokens_before, [(0, selected.tokens_before)]
    for added, saved in enumerate(selected.saved, 1):
        tokens -= saved
        if added % step == 0 or added == len(selected.saved):
            points.append((added, tokens))
    return {"added": [added for added, _ in points], "tokens": [count for _, count in points]}


def _certify(source: ModelTokenizer, target: ModelTokenizer, splice: Splice, corpora: Sequence[Corpus],
             base: Corpus | None, draft: Draft, *, protect: bool, allow: Sequence[str]) -> None:
    evidence = Evidence(
        source, target, splice, protected=protect,
        target_train=lambda: _texts(corpora),
        target_heldout=lambda: chain.from_iterable(corpus.documents("heldout") for corpus in corpora),
        base_text=lambda: base.documents("heldout") if base else ())
    with progress("checking the certificate"):
        write_certificate(certify(evidence), draft.path("certificate.json"), waived=allow)


def _write_samples(source: ModelTokenizer, target: ModelTokenizer, corpora: Sequence[Corpus], path: Path) -> None:
    """Keep the first line of a few held-out documents, cut by both tokenizers."""
    samples = []
    for corpus in corpora:
        lines = (_first_line(text) for text in corpus.documents("heldout"))
        for text in islice((line for line in lines if line), max(SAMPLES // len(corpora), 2)):
            samples.append({"text": text, "language": corpus.language,
                            "source": _pieces(source, text), "target": _pieces(target, text)})
    path.write_text(json.dumps(samples, ensure_ascii=False), encoding="utf-8")


def _first_line(text: str) -> str:
    line = max(text.splitlines(), key=len, default="")
    return line if len(line) <= SAMPLE_CHARACTERS else line[:SAMPLE_CHARACTERS].rsplit(" ", 1)[0]


def _pieces(tokenizer: ModelTokenizer, text: str) -> list[tuple[int, str]]:
    (ids,) = tokenizer.ids([text])
    surfaces = tokenizer.vocabulary.surfaces
    return [(token_id, (surfaces[token_id] or b"").decode("utf-8", errors="backslashreplace")) for token_id in ids]


def _note(draft: Draft, source: ModelTokenizer, decision: Decision, selected: Selected, size: int) -> None:
    draft.notes |= {"family": source.family.name, "added": len(selected.surfaces), "requested": size,
                    "pre-tokenizer": decision.reason, "pre-tokenizer repaired": decision.repaired, **selected.notes}
    if len(selected.surfaces) < size:
        draft.notes["fewer than requested"] = f"the text holds {len(selected.surfaces)} tokens that save anything"
