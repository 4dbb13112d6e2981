"""Evaluation documents that stand in the training text.

Text is compared as sequences of words: NFKC, case folded, letters, marks and digits only, so that punctuation and
spacing hide nothing. A document counts as seen where 13 words of it in a row stand in the training text in the same
order (the length that Brown et al. 2020 use), or, where it has fewer, all of its words. Below 5 words a match says
nothing, and the document is not looked for. In text without spaces between words every character counts as a word, and
50 of them make a match.

The SentencePiece model that spBLEU cuts text with: sacrebleu's `flores200`, fetched once, never replaced.

How answers become scores: ranked by log-probability for each byte, or written and compared with a reference.

An answer's log-probability is divided by the UTF-8 bytes that were scored, the delimiter before it among them, so that
neither a long answer nor a tokenizer that cuts it into many pieces is at a disadvantage. Answers that are equally
likely share the point: a model that gives every byte the same probability scores exactly chance, one in the number of
answers. (lm-eval's own acc_bytes leaves the delimiter out and gives a tie to the first answer.)
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import regex
from lm_eval.api.task import ConfigurableTask

from lingraft.errors import HubError
from lingraft.progress import progress

WORDS = 13
CHARACTERS = 50
FEWEST = 5
_WORD = regex.compile(r"[\p{L}\p{M}\p{N}]+")
_UNSPACED = regex.compile(
    r"[\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Han}\p{Hiragana}\p{Katakana}\p{Tibetan}]"
)
RULE = f"{WORDS} words in a row (or all of {FEWEST} to {WORDS - 1}), case and punctuation apart"


def words_of(text: str) -> list[str]:
    """Return the words of a text as they are compared.

    >>> words_of("The cat's “Mat” ﬁts!")
    ['the', 'cat', 's', 'mat', 'fits']
    """
    words: list[str] = []
    for word in _WORD.findall(unicodedata.normalize("NFKC", text).casefold()):
        words.extend(word if _UNSPACED.search(word) else (word,))
    return words


def seen_in(documents: Sequence[str], texts: Iterable[str]) -> list[int | None]:
    """Return for each document the number (from 1) of the first text that holds it; 0 where none does.

    `None` marks a document that is too short to be looked for. One pass over the texts; memory follows the documents.

    >>> seen_in(["one two three four five.", "six seven eight nine ten", "too short"], ["0 one, two three four FIVE"])
    [1, 0, None]
    """
    found: list[int | None] = []
    index: dict[tuple[str, str], list[tuple[tuple[str, ...], int]]] = defaultdict(list)
    for number, document in enumerate(documents):
        words = words_of(document)
        length = min(len(words), _length(words))
        found.append(0 if length >= FEWEST else None)
        for run in (
            {tuple(words[i : i + length]) for i in range(len(words) - length + 1)}
            if length >= FEWEST
            else ()
        ):
            index[run[0], run[1]].append((run, number))
    if not index:
        return found
    with progress("looking for evaluation documents", unit="texts") as advance:
        for place, text in enumerate(texts, start=1):
            words = words_of(text)
            for begin, start in enumerate(pairwise(words)):
                for run, number in index.get(start, ()):
                    if not found[number] and tuple(words[begin : begin + len(run)]) == run:
                        found[number] = place
            advance(1)
    return found


def _length(words: Sequence[str]) -> int:
    """Return how many words make a match: as many characters where most words are characters."""
    single = sum(len(word) == 1 and _UNSPACED.match(word) is not None for word in words)
    return CHARACTERS if 2 * single > len(words) else WORDS


NAME = "flores200"


def flores200_model() -> Path:
    """Return the path of the model; raises `HubError` where it is neither there nor to be had."""
    from sacrebleu.tokenizers import tokenizer_spm
    from sacrebleu.utils import download_file

    address = tokenizer_spm.SPM_MODELS[NAME]["url"]
    path = Path(tokenizer_spm.SACREBLEU_DIR) / "models" / Path(address).name
    if path.is_file():
        return path
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "TRUE", "YES", "ON"}
    reason = "HF_HUB_OFFLINE is set"
    if not offline:
        try:
            download_file(address, str(path))
        except (
            OSError,
            SystemExit,
        ) as error:  # sacrebleu ends the process where a certificate fails
            reason = " ".join(str(error).split()) or type(error).__name__
            path.unlink(missing_ok=True)
        else:
            return path
    msg = (
        f"spBLEU needs sacrebleu's tokenizer {NAME}: {path} is not there and {address} cannot be fetched "
        f"({reason}); put the file there (SACREBLEU names another folder than {path.parents[1]}), or set "
        f"evaluation.tasks.translation_metrics: [chrF++]"
    )
    raise HubError(msg)


NUMBER = re.compile(r"-?\d[\d.,]*")


class RankingTask(ConfigurableTask):  # type: ignore[misc]  # lm-eval is untyped
    """A task whose answers are ranked; `acc_bytes` is the share that went right."""

    def process_results(
        self, doc: Mapping[str, Any], results: Sequence[tuple[float, bool]]
    ) -> dict[str, float]:
        """Return the point, or part of it, of one document."""
        answers = [f"{self.config.target_delimiter}{choice}" for choice in self.doc_to_choice(doc)]
        return {
            "acc_bytes": point([nats for nats, _ in results], answers, int(self.doc_to_target(doc)))
        }


def point(log_probabilities: Sequence[float], answers: Sequence[str], right: int) -> float:
    """Return 1 where the right answer is the likeliest for each byte, a share of it in a tie, else 0.

    >>> point([-4.0, -6.0], ["aaaa", "bb"], 0), point([-4.0, -2.0], ["aaaa", "bb"], 0)
    (1.0, 0.5)
    """
    by_byte = np.array(log_probabilities) / [len(answer.encode()) for answer in answers]
    best = np.isclose(by_byte, by_byte.max(), rtol=1e-9, atol=0)
    return float(best[right] / best.sum())


def written(
    metrics: Sequence[str],
) -> Callable[[Mapping[str, Any], Sequence[str]], dict[str, tuple[str, str]]]:
    """Return what keeps (reference, answer) of each document under every metric."""

    def keep(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, tuple[str, str]]:
        return dict.fromkeys(metrics, (str(doc["target"]).strip(), results[0].strip()))

    return keep


def last_number(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Return 1 where the last number of what was written is the answer."""
    found = [number.rstrip(".,").replace(",", "") for number in NUMBER.findall(results[0])]
    return {
        "exact_match": float(
            bool(found) and found[-1].removesuffix(".0") == str(doc["answer"]).removesuffix(".0")
        )
    }


def shared_words(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Return SQuAD's scores of a short answer: whether it has the same words, and F1 over words.

    >>> shared_words({"answer": "The red apple"}, [" a red apple."])
    {'exact_match': 0.0, 'f1': 0.6666666666666666}
    """
    wanted, given = Counter(words_of(str(doc["answer"]))), Counter(words_of(results[0]))
    common = (wanted & given).total()
    return {
        "exact_match": float(wanted == given),
        "f1": 2 * common / max(1, wanted.total() + given.total()),
    }


def translation_metric(name: str) -> Any:
    """Return sacrebleu's metric: chrF++, or BLEU over the pieces of FLORES-200's SentencePiece model."""
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    if name == "chrF++":
        return CHRF(word_order=2)
    flores200_model()
    try:
        return BLEU(tokenize="flores200")
    except OSError as error:
        msg = f"spBLEU: {flores200_model()} is no SentencePiece model ({' '.join(str(error).split())}); fetch it again"
        raise HubError(msg) from None


def corpus_score(name: str) -> Callable[[Sequence[tuple[str, str]]], float]:
    """Return the score of all (reference, answer) pairs together."""

    def score(pairs: Sequence[tuple[str, str]]) -> float:
        references, answers = zip(*pairs, strict=True)
        return float(translation_metric(name).corpus_score(list(answers), [list(references)]).score)

    score.__name__ = name
    return score
