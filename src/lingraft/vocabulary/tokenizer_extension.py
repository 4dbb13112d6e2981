"""From a source tokenizer and text to an extended tokenizer on disk: files, splice, certificate, samples."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path

from lingraft.certificate import BASE_LOSS, Claim, Evidence, certify, write_certificate
from lingraft.certificate.text_claims import BASE_IDENTICAL
from lingraft.corpus import Corpus, first_documents
from lingraft.errors import RecipeError
from lingraft.pretokenizer.change import PRETOKENIZER, PretokenizerChange
from lingraft.progress import Advance, progress
from lingraft.splice import Splice
from lingraft.store import Draft
from lingraft.tokenizer import Family, ModelTokenizer, open_tokenizer
from lingraft.tokenizer.conversion_check import check_if_converted
from lingraft.tokenizer.edge_cases import code_texts, edge_case_texts
from lingraft.tokenizer.loaded_settings import with_loaded_settings
from lingraft.tokenizer.save_tokenizer import save_tokenizer
from lingraft.tokenizer.sentencepiece_model import CONVERTED_FROM
from lingraft.tokenizer.special_text import describe_mentions, most_frequent_first
from lingraft.tokenizer.unigram import Unigram
from lingraft.vocabulary.auto_size import AutoSize, ServingCost
from lingraft.vocabulary.base import Selected, Selection, SelectionRequest
from lingraft.vocabulary.build_splice import build_splice, cost_of_protecting, protect_text
from lingraft.vocabulary.language_shares import MAX_WORDS, mixed, most_frequent
from lingraft.vocabulary.pretokenizer_choice import SAMPLE_BYTES, choose_pretokenizer, kept
from lingraft.vocabulary.thin_evidence import changed_base_text, enough_texts, warn_of_thin_evidence
from lingraft.vocabulary.whole_words import Nothing
from lingraft.workers import HERE, Workers

COUNTED_AT_ONCE = 1000
MANY = 0.02
"""Where more than this share of base-language documents is tokenised differently, protecting them is suggested."""
COMPARED = 200
"""Held-out documents of each language on which a converted tokenizer is compared with SentencePiece."""
FEW = 0.9
"""A smaller share of the tokens asked for is warned of."""
SAMPLES = 24
SAMPLE_CHARACTERS = 240


@dataclass(frozen=True)
class Extension:
    """How a vocabulary is extended.

    `size` is a number of tokens or the rule that finds one; `temperature` and `weights` mix several languages;
    `protect` leaves out tokens that would change base-language text; `allow` waives claims of the certificate by name;
    `serving` is what the rule `serving` of `AutoSize` weighs; `workers` count words, whoever they are with one result.
    """

    selection: Selection
    size: int | AutoSize = 10_000
    pretokenizer: str = "auto"
    protect: bool = False
    temperature: float = 1.0
    weights: tuple[float, ...] | None = None
    allow: tuple[str, ...] = ()
    serving: ServingCost | None = None
    workers: Workers = HERE

    @property
    def most(self) -> int:
        """The greatest number of tokens that may be added."""
        return self.size.max_size if isinstance(self.size, AutoSize) else self.size


def extend_tokenizer(
    source_folder: Path,
    corpora: Sequence[Corpus],
    extension: Extension,
    draft: Draft,
    *,
    base: Corpus | None = None,
) -> None:
    """Learn tokens from the corpora (one a language) and write the target tokenizer with its evidence.

    Writes tokenizer/, splice.json, id_remap.json (where ids moved), certificate.json, samples.json, curve.json, and
    pretokenizer.json (what became of the pre-tokenizer). `base` is text of the base language, on which the certificate
    checks that segmentation stays. Raises `TokenizerError` for a family that is not known, `CertificateError` where a
    claim fails, `RecipeError` where settings contradict.
    """
    if extension.protect and base is None:
        msg = "vocabulary.protect_replay needs base-language text: name a replay corpus (its share may be 0)"
        raise RecipeError(msg)
    source = _opened(source_folder, corpora, base, draft)
    if extension.most and not isinstance(extension.selection, Nothing):
        decision = choose_pretokenizer(
            source.family,
            extension.pretokenizer,
            texts=_sample(corpora),
            base_texts=base.documents("heldout") if base else (),
            selection=extension.selection,
            size=extension.most,
            where=source_folder,
        )
        counted = [
            _bounded(_count(decision.family, corpus, extension.workers), draft)
            for corpus in corpora
        ]
        full, selected = _select(decision.family, counted, extension, base, source_folder)
        _report_mentions(counted, draft)
        _check_found(selected, extension, corpora, draft)
    else:
        counted = []
        decision = kept(source.family, "nothing is added")
        full = selected = Selected(())
    data, splice = build_splice(source.family, decision.family, selected, source_folder)
    change = replace(decision.change, reinitialised=len(splice.reinitialised))
    save_tokenizer(
        source, data, splice, draft.folder / "tokenizer", merges=not selected.whole_units
    )
    draft.path("splice.json").write_text(splice.dumps(), encoding="utf-8")
    if splice.dropped:
        remap = {
            str(source_id): target_id
            for target_id, source_id in sorted(splice.corresponding.items())
        }
        draft.path("id_remap.json").write_text(json.dumps(remap), encoding="utf-8")
    target = open_tokenizer(draft.folder / "tokenizer")
    evidence = _evidence(
        source,
        target,
        splice,
        corpora,
        base,
        protect=extension.protect,
        by_rules=not selected.whole_units,
    )
    with progress("checking the certificate"):
        claims = certify(evidence)
        write_certificate(claims, draft.path("certificate.json"), waived=extension.allow)
    _warn_of_losses(claims, draft)
    for corpus in (*corpora, *([base] if base else [])):
        warn_of_thin_evidence(corpus, draft)
    if base is not None and counted and not extension.protect:
        strict = replace(extension, protect=True)
        learn = partial(_select, decision.family, counted, strict, base, source_folder)
        _suggest_protection(claims, selected, learn, base, draft)
    _write_samples(source, target, corpora, draft.path("samples.json"))
    draft.path("curve.json").write_text(json.dumps(curve(full)), encoding="utf-8")
    text = json.dumps(change.as_json(), ensure_ascii=False, indent=1)
    draft.path(PRETOKENIZER).write_text(text + "\n", encoding="utf-8")
    _note(draft, source, change, selected, extension)


def _opened(
    folder: Path, corpora: Sequence[Corpus], base: Corpus | None, draft: Draft
) -> ModelTokenizer:
    """Open the source; what was converted is compared on real text before anything is learned on it."""
    source = open_tokenizer(folder)
    if CONVERTED_FROM in source.config:
        texts = [
            text
            for corpus in (*corpora, *([base] if base else []))
            for text in islice(corpus.documents("heldout"), COMPARED)
        ]
        if isinstance(
            source.family, Unigram
        ):  # sums over thousands of tokens differ in 32 and 64 bits
            texts = [line for text in texts for line in text.splitlines()]
        check_if_converted(source, [*edge_case_texts(), *code_texts()], texts, warn=draft.warn)
    source = with_loaded_settings(source, draft.warn)
    return replace(
        source, config={key: value for key, value in source.config.items() if key != CONVERTED_FROM}
    )


def _warn_of_losses(claims: Iterable[Claim], draft: Draft) -> None:
    """Warn of what the base tokenizer itself loses of the target's text."""
    for claim in claims:
        if claim.name == BASE_LOSS and claim.value:
            draft.warn(
                f"source tokenizer: {claim.detail}; tokens for the characters bring back those without a "
                "piece, not those that its normalizer takes out: for these choose another base"
            )


def _check_found(
    selected: Selected, extension: Extension, corpora: Sequence[Corpus], draft: Draft
) -> None:
    """Warn where clearly fewer tokens were found than asked for; raise `RecipeError` where none was."""
    found, asked = len(selected.surfaces), extension.size
    if isinstance(asked, AutoSize):
        if not found:
            draft.warn(
                "vocabulary: size auto adds 0 tokens, no number of them pays for itself; set vocabulary.size to "
                "a number to add tokens all the same"
            )
        return
    if found >= FEW * asked or selected.dropped:
        return
    counts = [corpus.counts("train") for corpus in corpora]
    text = f"{sum(count.documents for count in counts):,} documents, {sum(count.bytes for count in counts):,} bytes"
    left_out = "".join(
        f"; {reason}: {count:,}" for reason, count in selected.notes.items() if count
    )
    why = f"the training text ({text}) holds no more that save a token{left_out}"
    if not found:
        msg = f"vocabulary: 0 of {asked:,} tokens can be added, {why}; give more text, or set vocabulary.size: 0"
        raise RecipeError(msg)
    draft.warn(
        f"vocabulary: {found:,} of {asked:,} tokens were added ({found / asked:.0%}), {why}; give more text, or "
        f"set vocabulary.size: {found}"
    )


@dataclass(frozen=True)
class Counted:
    """The words of a corpus; `mentions` counts the special tokens that its text spells."""

    language: str
    bytes: int
    units: Counter[str]
    mentions: Counter[str]


def _bounded(counted: Counted, draft: Draft) -> Counted:
    """Keep the most frequent words, as many as the learner's memory allows; report what is left out."""
    kept, least = most_frequent(counted.units, MAX_WORDS)
    if len(kept) < len(counted.units):
        draft.warn(
            f"text in {counted.language}: tokens are learned from the {MAX_WORDS:,} most frequent of "
            f"{len(counted.units):,} distinct words; those left out occur at most {least:,} times each"
        )
    return replace(counted, units=kept)


def _report_mentions(counted: Sequence[Counted], draft: Draft) -> None:
    """Report the special tokens that the training text of each language spells."""
    together = sum((text.mentions for text in counted), Counter[str]())
    if together:
        draft.notes["special tokens spelled in the text"] = most_frequent_first(together)
    for text in counted:
        if text.mentions:
            draft.warn(f"text in {text.language}: {describe_mentions(text.mentions)}")


def _sample(corpora: Sequence[Corpus]) -> Iterator[str]:
    """Yield the first part of each corpus, as much of one as of another."""
    for corpus in corpora:
        yield from first_documents(corpus.documents("train"), SAMPLE_BYTES // len(corpora))


def _texts(corpora: Sequence[Corpus]) -> Iterator[str]:
    return chain.from_iterable(corpus.documents("train") for corpus in corpora)


def _select(
    family: Family,
    counted: Sequence[Counted],
    extension: Extension,
    base: Corpus | None,
    where: Path,
) -> tuple[Selected, Selected]:
    """Return everything that was learned, and what of it is taken."""
    counts = mixed(
        [text.units for text in counted],
        [text.bytes for text in counted],
        extension.temperature,
        extension.weights,
    )
    wanted = base if extension.protect or extension.selection.needs_base else None
    base_counts = _count(family, wanted, extension.workers).units if wanted else Counter()
    protected = frozenset(base_counts) if extension.protect else frozenset()
    request = SelectionRequest(family, counts, extension.most, protected, base_counts, where=where)
    full = protect_text(family, extension.selection.select(request), protected)
    if not isinstance(extension.size, AutoSize):
        return full, full
    if not full.saved or full.dropped:
        msg = (
            f"vocabulary.size: auto needs to know what each token saves; the method {extension.selection.name} does "
            "not say: give a number"
        )
        raise RecipeError(msg)
    return full, full.first(extension.size.choose(full, extension.serving))


def _count(family: Family, corpus: Corpus, workers: Workers) -> Counted:
    train = corpus.counts("train")
    mentions: Counter[str] = Counter()
    with progress(f"counting {corpus.language} words", train.documents) as advance:
        texts = _counted(corpus.documents("train"), advance, family, mentions)
        if workers.here:
            return Counted(corpus.language, train.bytes, family.units(texts), mentions)
        counts: Counter[str] = Counter()
        for found in workers.map(
            _units, family, iter(lambda: list(islice(texts, COUNTED_AT_ONCE)), [])
        ):
            counts.update(found)
        return Counted(corpus.language, train.bytes, counts, mentions)


def _units(family: Family, texts: Sequence[str]) -> Counter[str]:
    return family.units(texts)


def _counted(
    texts: Iterator[str], advance: Advance, family: Family, mentions: Counter[str]
) -> Iterator[str]:
    for text in texts:
        mentions.update(family.special_text.mentions(text))
        yield text
        advance(1)


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


def _evidence(
    source: ModelTokenizer,
    target: ModelTokenizer,
    splice: Splice,
    corpora: Sequence[Corpus],
    base: Corpus | None,
    *,
    protect: bool,
    by_rules: bool,
) -> Evidence:
    return Evidence(
        source,
        target,
        splice,
        by_rules=by_rules,
        target_train=lambda: _texts(corpora),
        target_heldout=lambda: chain.from_iterable(
            enough_texts(corpus.documents("heldout")) for corpus in corpora
        ),
        base_text=(lambda: enough_texts(base.documents("heldout"))) if base else None,
        protected_text=(lambda: base.documents("train")) if base and protect else None,
    )


def _suggest_protection(
    claims: Sequence[Claim],
    free: Selected,
    learn: Callable[[], tuple[Selected, Selected]],
    base: Corpus,
    draft: Draft,
) -> None:
    """Where much base-language text changes, say what `protect` would cost: `learn` with it, and compare."""
    changed = next(claim for claim in claims if claim.name == BASE_IDENTICAL)
    if changed.value > MANY * changed.of:
        _, strict = learn()
        draft.warn(changed_base_text(changed, base.language, cost_of_protecting(free, strict)))


def _write_samples(
    source: ModelTokenizer, target: ModelTokenizer, corpora: Sequence[Corpus], path: Path
) -> None:
    """Keep the first line of a few held-out documents, cut by both tokenizers."""
    samples = [
        {
            "text": line,
            "language": corpus.language,
            "source": _pieces(source, line),
            "target": _pieces(target, line),
        }
        for corpus in corpora
        for line in _sample_lines(corpus, max(SAMPLES // len(corpora), 2))
    ]
    path.write_text(json.dumps(samples, ensure_ascii=False), encoding="utf-8")


def _sample_lines(corpus: Corpus, count: int) -> Iterator[str]:
    lines = (_first_line(text) for text in corpus.documents("heldout"))
    return islice((line for line in lines if line), count)


def _first_line(text: str) -> str:
    line = max(text.splitlines(), key=len, default="")
    return line if len(line) <= SAMPLE_CHARACTERS else line[:SAMPLE_CHARACTERS].rsplit(" ", 1)[0]


def _pieces(tokenizer: ModelTokenizer, text: str) -> list[tuple[int, str]]:
    (ids,) = tokenizer.encode([text])
    surfaces = tokenizer.vocabulary.surfaces
    return [
        (token_id, (surfaces[token_id] or b"").decode("utf-8", errors="backslashreplace"))
        for token_id in ids
    ]


def _note(
    draft: Draft,
    source: ModelTokenizer,
    change: PretokenizerChange,
    selected: Selected,
    extension: Extension,
) -> None:
    size = extension.size
    rule = f"auto ({size.rule})" if isinstance(size, AutoSize) else size
    draft.notes |= {
        "family": source.family.name,
        "method": extension.selection.name,
        "requested": rule,
        "added": len(selected.surfaces),
        "dropped": len(selected.dropped),
        "reinitialised": change.reinitialised,
        "pre-tokenizer": str(change),
        "pre-tokenizer repaired": change.changed,
        "digits": f"as the base cuts ASCII digits: {source.family.digit_rule}",
        **selected.notes,
    }
    if change.scripts:
        draft.notes["scripts cut otherwise"] = "; ".join(map(str, change.scripts))
