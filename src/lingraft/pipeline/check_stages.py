"""The stages that check tokenizers and models with transformers.

The source is checked before anything is learned: transformers and lingraft must give the same
tokens for it. The result is checked before and after training: the tokens of the source, as
transformers reads them, must have kept their ids. The checks produce the first and the last claims
of the certificate of a run. No other stage depends on a check: after an upgrade of transformers,
only the checks run again, which takes a second or two each.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import partial
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

from lingraft.bases.tokenizer_files import given_folder
from lingraft.certificate import Claim, write_certificate
from lingraft.certificate.readings import Reading, read_with_transformers
from lingraft.certificate.result_claims import (
    certify_named_ids,
    certify_rows,
    certify_source_ids,
    certify_tokens,
)
from lingraft.certificate.source_claims import certify_source
from lingraft.checkpoint.embedding_resize import BIT_IDENTICAL
from lingraft.corpus import Corpus
from lingraft.pipeline.stage_node import StageContext, StageNode, stage_node
from lingraft.recipe import Recipe
from lingraft.splice import Splice
from lingraft.store import Manifest, Store
from lingraft.tokenizer import open_tokenizer

CLAIMS = "claims.json"
SOURCE_BROKEN = "the source is not read as others read it"

_DOCUMENTS, _CHARACTERS = 40, 2_000
"""Held-out documents of each language that are checked, and characters of each: few, for speed."""


def source_check(
    recipe: Recipe, source: StageNode, targets: dict[str, StageNode], replay: StageNode | None
) -> StageNode:
    """Return the stage that compares how lingraft and transformers read the source."""
    return stage_node(
        "source tokenizer check", "source-check", _settings(recipe),
        check_source, source=source, replay=replay, **targets,
    )  # fmt: skip


def result_check(
    title: str,
    recipe: Recipe,
    source: StageNode,
    vocabulary: StageNode,
    model: StageNode | None,
    *,
    rows: bool,
) -> StageNode:
    """Return the stage that checks the source's tokens in a result; with `rows`, their rows too."""
    return stage_node(
        title, "result-check", {**_settings(recipe), "rows": rows},
        partial(check_result, rows=rows), source=source, vocabulary=vocabulary, model=model,
    )  # fmt: skip


def check_source(context: StageContext) -> None:
    """Check the source on edge cases and on the first held-out documents of each language."""
    roles = (role for role in context.folders if role != "source")
    corpora = [Corpus.open(context.folders[role]) for role in roles]
    write_certificate(
        certify_source_folder(context.folders["source"] / "model", corpora),
        context.draft.path(CLAIMS),
        waived=context.recipe.vocabulary.allow,
        broken=SOURCE_BROKEN,
    )


def certify_source_folder(model: Path, corpora: Sequence[Corpus]) -> list[Claim]:
    """Return the claims about a source, read as it was given before it was converted."""
    given = given_folder(model)
    texts: list[str] = []
    for corpus in corpora:
        texts += _first_texts(corpus)
    return [certify_source(open_tokenizer(model), given, texts), *certify_source_ids(given)]


def certify_kept_tokens(source: Path, target: Path, splice: Splice) -> Claim:
    """Return the claim that a result has the tokens of the source as it was given."""
    given = given_folder(source)
    if not isinstance(read_with_transformers(given), Reading):
        # A tokenizer file without a model: read what it was converted to instead.
        given = source
    return certify_tokens(given, target, splice)


def check_result(context: StageContext, *, rows: bool) -> None:
    """Compare a result with the source as it was given, before its tokenizer was converted."""
    source, vocabulary = context.folders["source"] / "model", context.folders["vocabulary"]
    model = context.folders["model"] / "model" if "model" in context.folders else None
    target = model or vocabulary / "tokenizer"
    splice = Splice.read(vocabulary)
    claims = [certify_kept_tokens(source, target, splice)]
    if rows and model is not None:
        claims.append(certify_rows(source, model, splice, changed_by=_changed_base_rows(context)))
    if model is not None:
        claims += certify_named_ids(source, model)
    write_certificate(claims, context.draft.path(CLAIMS), waived=context.recipe.vocabulary.allow)


def run_certificate(
    store: Store, before: StageNode, vocabulary: StageNode, *after: StageNode
) -> dict[str, Any]:
    """Return the certificate of a run: claims about source, vocabulary and results, in order."""
    certificate_path = store.folder(vocabulary.stage) / "certificate.json"
    paths = [store.folder(before.stage) / CLAIMS, certificate_path]
    paths += [store.folder(node.stage) / CLAIMS for node in after]
    parts = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    claims: list[Any] = []
    for part in parts:
        claims += part["claims"]
    # Everything but the claims is that of the vocabulary's certificate.
    return {**parts[1], "claims": claims}


def _settings(recipe: Recipe) -> dict[str, Any]:
    # The versions are part of the key: a check is only valid for the libraries that it used.
    versions = {name: version(name) for name in ("transformers", "tokenizers")}
    return {**versions, "allow": list(recipe.vocabulary.allow)}


def _first_texts(corpus: Corpus) -> Iterator[str]:
    for text in islice(corpus.documents("heldout"), _DOCUMENTS):
        yield text[:_CHARACTERS]


def _changed_base_rows(context: StageContext) -> str:
    """Return which base rows the initialisation changed on purpose, "" if none."""
    notes = Manifest.read(context.folders["model"]).notes
    base_rows = str(notes.get("base_rows", BIT_IDENTICAL))
    return "" if base_rows.startswith(BIT_IDENTICAL) else base_rows
