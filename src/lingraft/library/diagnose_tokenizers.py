"""`lingraft.diagnose`: measures tokenizers in memory on text in memory."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from lingraft.advice import diagnose as diagnose_samples
from lingraft.advice import diagnosis_json, diagnosis_tables
from lingraft.advice.diagnosis import Diagnosis, health_of_samples
from lingraft.advice.text_sample import SAMPLE_BYTES, draw_sample
from lingraft.errors import named_errors
from lingraft.library.arguments import check_number
from lingraft.library.given_texts import read_documents, read_sentences, texts_by_tag
from lingraft.library.given_tokenizer import TokenizerLike
from lingraft.library.open_models import named_tokenizers
from lingraft.progress import LogLine, send_lines_to
from lingraft.store import temporary_folder
from lingraft.table_display import as_html, as_text

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class TokenizerDiagnosis(Diagnosis):
    """A diagnosis; `print(diagnosis)` shows the tables of `lingraft diagnose`.

    `finding("hi").recommendation` is what to do for a language, with the number of tokens to add.
    """

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON, as `lingraft diagnose --json` prints it."""
        return diagnosis_json(self)

    def to_pandas(self) -> pd.DataFrame:
        """Return a data frame with a row for each tokenizer and language; needs pandas.

        Its columns are those of the JSON, without the predicted curves.
        """
        import pandas as pd

        lines = []
        for tokenizer in self.as_json()["tokenizers"]:
            for finding in tokenizer["languages"]:
                line = {"tokenizer": tokenizer["name"], "vocabulary": tokenizer["size"]}
                line |= {key: value for key, value in finding.items() if _is_plain(value)}
                line |= {key: finding["advice"][key] for key in ("action", "size")}
                lines.append(line)
        return pd.DataFrame(lines)

    def __str__(self) -> str:
        return as_text(diagnosis_tables(self))

    def _repr_html_(self) -> str:
        """Return the tables that notebooks show."""
        return as_html(diagnosis_tables(self))


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float)


def diagnose(
    tokenizer: TokenizerLike | Mapping[str, TokenizerLike],
    texts: Mapping[str, Iterable[str] | os.PathLike[str]],
    *,
    parallel: Mapping[str, Sequence[str]] | None = None,
    sample_bytes: int = SAMPLE_BYTES,
    learned_from: int | None = None,
    log: LogLine | None = None,
) -> TokenizerDiagnosis:
    """Measure how well a tokenizer fits a language, and predict what added tokens would save.

    The numbers are those of `lingraft diagnose`. It takes seconds, reads no weights, and trains or
    changes nothing. Predictions are made on text that the tokens were not learned from, and have
    95% intervals.

    Args:
        tokenizer: a tokenizer of transformers or of `tokenizers`, a model folder, a tokenizer file,
            or owner/name on the Hub; or several of them by name, to compare them.
        texts: documents, or the path of a file, by language.
        parallel: the same sentences by language, with `en` among them, to measure the premium: the
            number of tokens divided by that of English.
        sample_bytes: bytes of text per language that are measured; a random sample of all text.
        learned_from: bytes of text that tokens would be learned from. By default all given text.
        log: receives the lines of progress. By default, they go to standard error.

    Raises:
        LingraftError: with one line that says what is wrong and what to do.

    >>> from lingraft.library.example_model import example_model
    >>> from lingraft.miniature import stories
    >>> _, tokenizer = example_model("en")
    >>> diagnosis = diagnose(tokenizer, {"hi": stories("hi", count=200)})
    >>> finding = diagnosis.finding("hi")
    >>> finding.recommendation.action, finding.measures.tokens_per_word > 5
    ('repair and extend', True)
    """
    for name, number in (("sample_bytes", sample_bytes), ("learned_from", learned_from)):
        if number is not None:
            check_number(number, name, at_least=1)
    with (
        send_lines_to(log),
        TemporaryDirectory(prefix="lingraft-", dir=temporary_folder()) as scratch,
    ):
        started = time.monotonic()
        # Errors name the tokenizers of the caller instead of temporary folders.
        with named_errors(Path(scratch), "tokenizer"):
            tokenizers = named_tokenizers(tokenizer, Path(scratch))
        samples = []
        for tag, given in texts_by_tag(texts, "texts").items():
            documents = read_documents(given, f"texts: {tag}")
            samples.append(draw_sample(tag, documents, sample_bytes))
        languages = [sample.language for sample in samples]
        sentences = None if parallel is None else read_sentences(parallel, languages)
        health = health_of_samples(samples)
        found = diagnose_samples(
            tokenizers, samples, sentences, learned_from=learned_from, health=health
        )
    seconds = time.monotonic() - started
    return TokenizerDiagnosis(found.tokenizers, found.samples, found.notes, seconds, health)
