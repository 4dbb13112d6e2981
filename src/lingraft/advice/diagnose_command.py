"""`lingraft diagnose`: reads its arguments, runs the diagnosis and writes the HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lingraft.advice.diagnosis import Diagnosis, diagnose, health_of_samples
from lingraft.advice.render import diagnosis_page
from lingraft.advice.text_sample import SAMPLE_BYTES, TextSample, read_sample
from lingraft.bases.hub_model import HubBase
from lingraft.corpus import parse_language
from lingraft.corpus.readers import read_parallel
from lingraft.corpus.text_arguments import texts_by_language
from lingraft.corpus.text_fields import with_where
from lingraft.errors import CorpusError, RecipeError
from lingraft.hub_client import HUB_ID
from lingraft.pipeline.model_evaluation import shortest_names
from lingraft.recipe import Given
from lingraft.recipe.default_text import with_default_text
from lingraft.store import atomic_file, check_creatable_file, expanded
from lingraft.tokenizer import ModelTokenizer, open_tokenizer
from lingraft.tokenizer.premiums import REFERENCE


def diagnose_command(
    models: Sequence[str],
    *,
    text: Sequence[str],
    language: str | None = None,
    text_field: str | None = None,
    where: str | None = None,
    parallel: str | None = None,
    compare: bool = False,
    html: Path | None = None,
    sample_bytes: int = SAMPLE_BYTES,
    learned_from: int | None = None,
) -> Diagnosis:
    """Diagnose tokenizers on text given as [LANG=]FILE, and write the HTML page to `html`.

    `language` is that of text without LANG=. Without text, it is diagnosed on a sample of a preset
    of the Hub. `where` is the condition on the columns of the text.
    `compare` requires at least two tokenizers. Raises a `LingraftError` if an argument is wrong or
    a file is missing.
    """
    if compare and len(models) < 2:
        msg = (
            f"--compare needs two tokenizers or more, got {len(models)}; "
            "name the others too, or leave out --compare"
        )
        raise RecipeError(msg)
    for option, size in (("--sample-bytes", sample_bytes), ("--learned-from", learned_from)):
        if size is not None and size < 1:
            msg = f"{option} {size}: expected a number of bytes above 0"
            raise RecipeError(msg)
    if html is not None:
        check_creatable_file(html, option="--html")
    places = _text_places(text, text_field, language, where)
    # Text first: an error in it must not wait for a download.
    samples = [read_sample(tag, files, sample_bytes) for tag, files in places.items()]
    tokenizers: dict[str, ModelTokenizer] = {}
    for name, model in shortest_names(models).items():
        tokenizers[name] = open_named_tokenizer(model)
    sentences = _read_parallel(parallel, samples)
    health = health_of_samples(samples)
    diagnosis = diagnose(tokenizers, samples, sentences, learned_from=learned_from, health=health)
    if html is not None:
        with atomic_file(html, option="--html") as draft:
            draft.write_text(diagnosis_page(diagnosis), encoding="utf-8")
    return diagnosis


def _text_places(
    text: Sequence[str], text_field: str | None, language: str | None, where: str | None
) -> dict[str, list[Any]]:
    """Return the sources of each language; those of a preset of the Hub if no text is given."""
    places = texts_by_language(text, text_field, language)
    if not places:
        if language is None:
            msg = (
                "there is no text to diagnose on; give --text LANG=FILE, for example --text "
                "hi=news.jsonl.gz, or --language hi for web text from the Hub"
            )
            raise CorpusError(msg)
        given = with_default_text(Given(language=language))
        places[parse_language(language)] = list(given.text)
    if where is not None:
        return {tag: with_where(files, where) for tag, files in places.items()}
    return places


def open_named_tokenizer(model: str) -> ModelTokenizer:
    """Open a folder or file, or download the tokenizer of owner/name[@revision] from the Hub."""
    return open_tokenizer(named_tokenizer_folder(model))


def named_tokenizer_folder(model: str) -> Path:
    """Return a folder or file, or the snapshot of the tokenizer of owner/name[@revision]."""
    path = expanded(model)
    name, _, revision = model.partition("@")
    # A path that is not a Hub id is opened as well, for the error message about a missing file.
    if path.exists() or not HUB_ID.fullmatch(name):
        return path
    return HubBase(id=name, revision=revision or "main").tokenizer_folder()


def _read_parallel(
    path: str | None, samples: Sequence[TextSample]
) -> Mapping[str, Sequence[str]] | None:
    """Read the parallel sentences of the sampled languages and of `REFERENCE`, by language."""
    languages = [sample.language for sample in samples if sample.language != REFERENCE]
    return read_parallel(path, languages, REFERENCE) if path and languages else None
