"""`lingraft diagnose`: from command-line arguments to a diagnosis and its files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from lingraft.advice.diagnosis import REFERENCE, Diagnosis, diagnose
from lingraft.advice.measures import SAMPLE_BYTES, TextSample, language_and_place, read_sample
from lingraft.advice.render import diagnosis_page
from lingraft.bases.hub_model import HubBase
from lingraft.corpus.readers import read_parallel
from lingraft.errors import CorpusError, RecipeError, StoreError
from lingraft.hub_client import HUB_ID
from lingraft.store import write_files
from lingraft.tokenizer import ModelTokenizer, open_tokenizer


def diagnose_command(
    models: Sequence[str],
    *,
    text: Sequence[str],
    parallel: str | None = None,
    compare: bool = False,
    html: Path | None = None,
    sample_bytes: int = SAMPLE_BYTES,
    learned_from: int | None = None,
) -> Diagnosis:
    """Diagnose tokenizers on text given as [LANG=]FILE, and write the page where `html` names one.

    Raises a `LingraftError` where something is missing.
    """
    if compare and len(models) < 2:
        msg = (
            f"--compare needs two tokenizers or more, got {len(models)}; "
            "name the others too, or leave it out"
        )
        raise RecipeError(msg)
    if sample_bytes < 1:
        msg = f"--sample-bytes {sample_bytes}: expected a number of bytes above 0"
        raise RecipeError(msg)
    if not text:
        msg = (
            "there is no text to diagnose on; "
            "give --text LANG=FILE, for example --text hi=news.jsonl.gz"
        )
        raise CorpusError(msg)
    places: dict[str, list[str]] = {}
    for argument in text:
        language, place = language_and_place(argument)
        places.setdefault(language, []).append(place)
    tokenizers = {name: _open(place) for name, place in _named(models).items()}
    samples = [read_sample(language, files, sample_bytes) for language, files in places.items()]
    sentences = _parallel(parallel, samples)
    diagnosis = diagnose(tokenizers, samples, sentences, learned_from=learned_from)
    if html is not None:
        _write(html, diagnosis_page(diagnosis))
    return diagnosis


def _open(place: str) -> ModelTokenizer:
    """Open a folder or file, or fetch the tokenizer of owner/name from the hub."""
    path = Path(place).expanduser()
    name, _, revision = place.partition("@")
    if path.exists() or not HUB_ID.fullmatch(name):
        return open_tokenizer(path)
    return open_tokenizer(HubBase(id=name, revision=revision or "main").tokenizer_folder())


def _parallel(
    path: str | None, samples: Sequence[TextSample]
) -> Mapping[str, Sequence[str]] | None:
    languages = [sample.language for sample in samples if sample.language != REFERENCE]
    return read_parallel(path, languages, REFERENCE) if path and languages else None


def _named(models: Sequence[str]) -> dict[str, str]:
    """Give each tokenizer the shortest end of its path that is unique.

    >>> _named(["a/llama/tokenizer.json", "b/qwen"])
    {'llama': 'a/llama/tokenizer.json', 'qwen': 'b/qwen'}
    >>> list(_named(["a/base", "b/base"]))
    ['a/base', 'b/base']
    """
    folders = {
        model: (
            Path(model).parent
            if Path(model).is_file() or Path(model).suffix in {".json", ".gz"}
            else Path(model)
        ).parts
        for model in dict.fromkeys(models)
    }
    for length in range(1, max(map(len, folders.values()), default=1) + 1):
        names = {"/".join(parts[-length:]): model for model, parts in folders.items()}
        if len(names) == len(folders):
            return names
    return {model: model for model in folders}


def _write(path: Path, page: str) -> None:
    try:
        write_files({path: page})
    except OSError as error:
        msg = f"--html {path}: cannot be written ({error.strerror}); choose another location"
        raise StoreError(msg) from error
