"""The checks of a run, in which other libraries are the judge.

The source is checked before anything is learned: transformers and lingraft read it alike. The
result is checked before it is trained, and again afterwards: what the source had, as transformers
reads it, is where it was. The answers are claims, which the certificate of a run begins and ends
with. They are part of no other stage's key: an upgrade of transformers repeats the checks, a second
or two each, and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

from lingraft.bases.tokenizer_files import given_folder
from lingraft.corpus import Corpus
from lingraft.pipeline.stage_node import StageContext, StageNode, stage_node
from lingraft.recipe import Recipe
from lingraft.splice import Splice
from lingraft.store import Store

CLAIMS = "claims.json"

_DOCUMENTS = 40
_CHARACTERS = 2_000


def source_check(
    recipe: Recipe, source: StageNode, targets: dict[str, StageNode], replay: StageNode | None
) -> StageNode:
    """Return the node that compares our reading of the source with that of transformers."""
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
    """Return the node that looks for the source's tokens in a result; in its rows too with `rows`."""
    return stage_node(
        title, "result-check", {**_settings(recipe), "rows": rows},
        partial(check_result, rows=rows), source=source, vocabulary=vocabulary, model=model,
    )  # fmt: skip


def check_source(context: StageContext) -> None:
    """Check the source on awkward texts and on the first held-out documents of each language."""
    from lingraft.certificate import write_certificate
    from lingraft.certificate.result_claims import certify_source_ids
    from lingraft.certificate.source_claims import certify_source
    from lingraft.tokenizer import open_tokenizer

    model = context.folders["source"] / "model"
    given = given_folder(model)
    corpora = [Corpus.open(context.folders[role]) for role in context.folders if role != "source"]
    texts = [text for corpus in corpora for text in _first_texts(corpus)]
    claims = [certify_source(open_tokenizer(model), given, texts), *certify_source_ids(given)]
    write_certificate(
        claims,
        context.draft.path(CLAIMS),
        waived=context.recipe.vocabulary.allow,
        broken="the source is not read as others read it",
    )


def check_result(context: StageContext, *, rows: bool) -> None:
    """Check a result against the source as it was given."""
    from lingraft.certificate import write_certificate
    from lingraft.certificate.readings import Reading, their_reading
    from lingraft.certificate.result_claims import certify_named_ids, certify_rows, certify_tokens

    source, vocabulary = context.folders["source"] / "model", context.folders["vocabulary"]
    model = context.folders["model"] / "model" if "model" in context.folders else None
    target = model or vocabulary / "tokenizer"
    given = given_folder(source)
    if not isinstance(their_reading(given), Reading):
        given = source  # a lone tokenizer file: what it was converted to is read instead
    splice = Splice.from_json(json.loads((vocabulary / "splice.json").read_text(encoding="utf-8")))
    claims = [certify_tokens(given, target, splice)]
    if rows and model is not None:
        claims.append(certify_rows(source, model, splice, changed_by=_method(context)))
    if model is not None:
        claims += certify_named_ids(source, model)
    write_certificate(claims, context.draft.path(CLAIMS), waived=context.recipe.vocabulary.allow)


def run_certificate(
    store: Store, before: StageNode, vocabulary: StageNode, *after: StageNode
) -> dict[str, Any]:
    """Return the whole certificate: of the source, of the vocabulary, of the results."""
    paths = [store.folder(before.stage) / CLAIMS]
    paths.append(store.folder(vocabulary.stage) / "certificate.json")
    paths += [store.folder(one.stage) / CLAIMS for one in after]
    parts = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    claims = [claim for part in parts for claim in part["claims"]]
    return {**parts[1], "claims": claims}


def _settings(recipe: Recipe) -> dict[str, Any]:
    versions = {name: version(name) for name in ("transformers", "tokenizers")}
    return {**versions, "allow": list(recipe.vocabulary.allow)}


def _first_texts(corpus: Corpus) -> Iterator[str]:
    for text in islice(corpus.documents("heldout"), _DOCUMENTS):
        yield text[:_CHARACTERS]


def _method(context: StageContext) -> str:
    """Return which matrices the initialisation changed on purpose, if any."""
    from lingraft.checkpoint.embedding_resize import BIT_IDENTICAL
    from lingraft.store import Manifest

    said = str(Manifest.read(context.folders["model"]).notes.get("base_rows", BIT_IDENTICAL))
    return "" if said.startswith(BIT_IDENTICAL) else said


def write_run_certificate(path: Path, certificate: dict[str, Any]) -> None:
    """Write a certificate into a folder of results."""
    path.write_text(json.dumps(certificate, ensure_ascii=False, indent=1), encoding="utf-8")
