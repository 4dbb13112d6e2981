"""The proof of a splice: what an extended tokenizer promises, each promise as a number, measured on the saved files.

A claim counts its exceptions: it holds where there are none. Fatal claims stop the run unless the recipe waives them
by name; the others inform.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from lingraft.awkward import awkward_texts, endless_word
from lingraft.errors import CertificateError
from lingraft.families import ModelTokenizer
from lingraft.families.content import bare_of
from lingraft.families.losing import as_faithful, lengths, unknown_piece
from lingraft.families.sentencepiece import SpaceMarked
from lingraft.families.unigram import Unigram
from lingraft.vocabulary import Splice

_BATCH = 512


@dataclass(frozen=True)
class Claim:
    """A promise with the number of its exceptions: `value` of `of` `unit`; it holds where there are none."""

    name: str
    value: int
    of: int
    unit: str
    detail: str
    fatal: bool = True

    @property
    def holds(self) -> bool:
        """Whether there is no exception."""
        return self.value == 0


@dataclass(frozen=True)
class Evidence:
    """What claims are checked on: both tokenizers, the relation between them, and texts (read anew at each call)."""

    source: ModelTokenizer
    target: ModelTokenizer
    splice: Splice
    target_train: Callable[[], Iterable[str]]
    target_heldout: Callable[[], Iterable[str]]
    base_text: Callable[[], Iterable[str]]
    protected_text: Callable[[], Iterable[str]] = tuple
    by_rules: bool = True  # new tokens are produced by merges, not only looked up whole


def certify(evidence: Evidence) -> list[Claim]:
    """Check every claim."""
    claims = [*certify_rules(evidence), *certify_texts(evidence), _awkward(evidence), _same_in_transformers(evidence)]
    if isinstance(evidence.source.family, SpaceMarked) and (evidence.target.folder / "tokenizer.model").is_file():
        claims.append(_same_in_sentencepiece(evidence))
    return claims


def certify_rules(evidence: Evidence) -> list[Claim]:
    """Check the claims about the vocabulary itself."""
    return [_base_ids(evidence), _special_tokens(evidence), _ranks(evidence), *_reachable(evidence)]


def certify_texts(evidence: Evidence) -> list[Claim]:
    """Check the claims about the texts that were given."""
    return [*_on_target(evidence), *_on_base(evidence)]


def write_certificate(claims: Sequence[Claim], path: Path, *, waived: Sequence[str] = ()) -> None:
    """Write certificate.json; raises `CertificateError` where a fatal claim that is not waived does not hold."""
    rows = [{**dataclasses.asdict(claim), "holds": claim.holds, "waived": claim.name in waived} for claim in claims]
    path.write_text(json.dumps({"format": 1, "claims": rows}, ensure_ascii=False, indent=1), encoding="utf-8")
    broken = [claim for claim in claims if claim.fatal and not claim.holds and claim.name not in waived]
    if broken:
        facts = "; ".join(f"{claim.name}: {claim.value} of {claim.of} {claim.unit}" for claim in broken)
        msg = (f"the extended tokenizer breaks what it promises ({facts}); "
               f"vocabulary.allow: [{broken[0].name!r}] accepts it by name")
        raise CertificateError(msg)


def _base_ids(evidence: Evidence) -> Claim:
    """Every piece of the source stands in the target under the id that the splice gives it."""
    mine, theirs = evidence.source.family.pieces, evidence.target.family.pieces
    by_source = {source: target for target, source in evidence.splice.kept.items()}
    moved = sum(1 for piece, token_id in mine.items()
                if token_id in by_source and theirs.get(piece) != by_source[token_id])
    return Claim("base ids kept", moved, len(mine), "tokens",
                 "every token of the base keeps its place and its spelling")


def _special_tokens(evidence: Evidence) -> Claim:
    """Added tokens keep id, content and flags; a chat template is the same, byte for byte."""
    before = {token["content"]: token for token in evidence.source.family.data.get("added_tokens") or []}
    after = {token["content"]: token for token in evidence.target.family.data.get("added_tokens") or []}
    by_source = {source: target for target, source in evidence.splice.kept.items()}
    changed = sum(1 for content, token in before.items()
                  if after.get(content) != {**token, "id": by_source.get(token["id"])})
    changed += len(after.keys() - before.keys())
    changed += sum(1 for content, token in after.items()
                   if evidence.target.backend.token_to_id(content) != token["id"])
    names = [name for name in ("chat_template.jinja", "chat_template.json")
             if (evidence.source.folder / name).is_file()]
    changed += sum((evidence.source.folder / name).read_bytes() != (evidence.target.folder / name).read_bytes()
                   for name in names)
    changed += evidence.source.config.get("chat_template") != evidence.target.config.get("chat_template")
    return Claim("special tokens and chat template kept", changed, len(before) + len(names), "tokens and templates",
                 "special and added tokens keep their ids and flags, also after saving and loading")


def _ranks(evidence: Evidence) -> Claim:
    """The base's merges stand unchanged before all others (a Unigram base keeps its scores)."""
    before, after = (t.family.data["model"].get("merges") or t.family.data["model"]["vocab"]
                     for t in (evidence.source, evidence.target))
    if evidence.splice.dropped:  # what was pruned took its rules along: compare those that are left
        left = {tuple(rule) for rule in after}
        before = [rule for rule in before if tuple(rule) in left]
    changed = sum(a != b for a, b in zip(before, after, strict=False)) + max(len(before) - len(after), 0)
    return Claim("new tokens rank below the base", changed, len(before), "rules",
                 "every rule of the base comes before every new one, unchanged")


def _reachable(evidence: Evidence) -> Iterator[Claim]:
    """The surface of each added token, given to the model alone, becomes that token; whole-word lookup off and on."""
    family = evidence.target.family
    model = family.data["model"]
    for lookup in (False, True) if model["type"] == "BPE" else (False,):
        as_it_is = lookup == bool(model.get("ignore_merges"))
        bare = family.bare if as_it_is else bare_of({**family.data, "model": {**model, "ignore_merges": lookup}})
        added = evidence.splice.added
        units = [family.piece_of(token.surface) for token in added]
        encodings = bare.encode_batch_fast(units, add_special_tokens=False) if units else []
        lost = sum(encoding.ids != [token.id] for encoding, token in zip(encodings, added, strict=True))
        how = " by whole-word lookup" if lookup else ""
        yield Claim(f"added tokens reachable{how}", lost, len(added), "tokens",
                    f"each added token is what the model makes of its own spelling{how or ' by its rules'}",
                    fatal=evidence.by_rules or lookup)


def _awkward(evidence: Evidence) -> Claim:
    """decode(encode(x)) is what it was with the source (or more), on texts that tokenizers stumble over."""
    texts = [*awkward_texts(), endless_word(next(iter(evidence.target_heldout()), "x"))]
    before = [evidence.source.text(ids) for ids in evidence.source.ids(texts)]
    after = [evidence.target.text(ids) for ids in evidence.target.ids(texts)]
    unknown = unknown_piece(evidence.source)
    changed = sum(not as_faithful(a, b, unknown) for a, b in zip(before, after, strict=True))
    return Claim("round trip on awkward text", changed, len(texts), "texts",
                 f"decoding what was encoded gives what it gave with the base{_or_more(unknown)}: emoji, joiners, "
                 "marks, controls, code, a megabyte without a space")


def _or_more(unknown: str | None) -> str:
    return f", or text where the base gave {unknown}" if unknown else ""


def _same_in_transformers(evidence: Evidence) -> Claim:
    """The saved folder, loaded by transformers, gives the same ids and the same special tokens."""
    from transformers import AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()
    loaded = AutoTokenizer.from_pretrained(str(evidence.target.folder), trust_remote_code=False, use_fast=True)
    texts = [text for text in (*awkward_texts(), *islice(evidence.target_heldout(), 200)) if text]
    other = loaded(texts, add_special_tokens=False)["input_ids"]
    changed = sum(mine != theirs for mine, theirs in zip(evidence.target.ids(texts), other, strict=True))
    for role in ("bos", "eos", "pad"):
        changed += getattr(evidence.target, f"{role}_id") not in {getattr(loaded, f"{role}_token_id"), None} and bool(
            evidence.target.config.get(f"{role}_token"))
    return Claim("same ids in transformers", changed, len(texts), "texts",
                 "AutoTokenizer loads the saved folder and cuts every text alike")


def _same_in_sentencepiece(evidence: Evidence) -> Claim:
    """tokenizer.model, read by SentencePiece itself, gives the ids of tokenizer.json."""
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor(model_file=str(evidence.target.folder / "tokenizer.model"))
    texts = [text for text in islice(_sentencepiece_texts(evidence), 500) if not _holds_special(text, evidence.target)]
    changed = sum(processor.encode(text) != ids for text, ids in zip(texts, evidence.target.ids(texts), strict=True))
    return Claim("tokenizer.model agrees", changed, len(texts), "texts",
                 "SentencePiece reads the saved tokenizer.model and cuts every text as tokenizer.json does")


def _sentencepiece_texts(evidence: Evidence) -> Iterator[str]:
    """Return whole documents, for a Unigram lines.

    SentencePiece sums scores in 32 bits, and in a text of thousands of tokens near ties fall otherwise than in 64 bits,
    with the base too (T5: 6 of 500 Turkish documents).
    """
    if not isinstance(evidence.source.family, Unigram):
        yield from evidence.target_heldout()
        return
    for text in evidence.target_heldout():
        yield from filter(None, text.splitlines())


def _holds_special(text: str, tokenizer: ModelTokenizer) -> bool:
    return any(content in text for content in tokenizer.family.special.values())


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    stream = iter(texts)
    while batch := list(islice(stream, _BATCH)):
        yield batch


def _on_target(evidence: Evidence) -> Iterator[Claim]:
    """On target-language text: nothing grows, everything comes back, and the added tokens are used."""
    longer = changed = documents = 0
    unknown = unknown_piece(evidence.source)
    lost = ", a lost character counted as one" if unknown else ""
    for batch in _batches(evidence.target_heldout()):
        before, after = evidence.source.ids(batch), evidence.target.ids(batch)
        documents += len(batch)
        sizes = zip(lengths(evidence.source, batch), lengths(evidence.target, batch), strict=True)
        longer += sum(b > a for a, b in sizes)
        changed += sum(not as_faithful(evidence.source.text(a), evidence.target.text(b), unknown)
                       for a, b in zip(before, after, strict=True))
    yield Claim("no target document longer", longer, documents, "held-out documents",
                f"no held-out document of the target language needs more tokens than before{lost}",
                fatal=not evidence.splice.dropped)  # a pruned token's text is spelled by its parts
    yield Claim("round trip on target text", changed, documents, "held-out documents",
                f"decoding what was encoded gives what it gave with the base{_or_more(unknown)}")
    unseen = {token.id for token in evidence.splice.added}
    for batch in _batches(evidence.target_train()):
        if not unseen:
            break
        for ids in evidence.target.ids(batch):
            unseen.difference_update(ids)
    yield Claim("added tokens used in running text", len(unseen), len(evidence.splice.added), "tokens", fatal=False,
                detail="each added token occurs in the training text; others are steps on the way to longer tokens")


def _on_base(evidence: Evidence) -> Iterator[Claim]:
    """On base-language text: how many documents are cut otherwise than before; on protected text there are none."""
    for name, texts, fatal in (("base-language documents identical", evidence.base_text, False),
                               ("protected documents identical", evidence.protected_text, True)):
        changed = documents = grew = before_tokens = after_tokens = 0
        for batch in _batches(texts()):
            for a, b in zip(evidence.source.ids(batch), evidence.target.ids(batch), strict=True):
                documents += 1
                changed += [evidence.splice.kept.get(token_id) for token_id in b] != a
                grew += len(b) > len(a)
                before_tokens += len(a)
                after_tokens += len(b)
        if documents:
            detail = (f"{documents - changed} of {documents} documents keep their ids; over all of them tokens went "
                      f"from {before_tokens} to {after_tokens}, {grew} documents grew")
            yield Claim(name, changed, documents, "documents", detail, fatal=fatal)
