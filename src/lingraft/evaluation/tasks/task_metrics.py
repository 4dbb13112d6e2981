"""Scores of answers: by log-probability if they are ranked, by a reference if they are written.

The log-probability of an answer is divided by its scored UTF-8 bytes, including the delimiter
before it, so that neither long answers nor tokenizers with many pieces are at a disadvantage.
Answers that are equally likely share the point: a model that gives every byte the same probability
scores exactly chance, which is 1 / the number of answers. lm-eval's own `acc_bytes` leaves the
delimiter out, and in a tie the first answer counts as the model's choice.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import numpy as np
from lm_eval.api.task import ConfigurableTask
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.tokenizers import tokenizer_spm
from sacrebleu.utils import download_file

from lingraft.corpus.contamination import normalised_words
from lingraft.errors import HubError, one_line

NAME = "flores200"
"""The SentencePiece model of spBLEU, by sacrebleu's name."""


def flores200_model() -> Path:
    """Return the path of spBLEU's SentencePiece model; download it if it is not there.

    Raises `HubError` if it is unavailable.
    """
    url = tokenizer_spm.SPM_MODELS[NAME]["url"]
    path = Path(tokenizer_spm.SACREBLEU_DIR) / "models" / Path(url).name
    if path.is_file():
        return path
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "TRUE", "YES", "ON"}
    reason = "HF_HUB_OFFLINE is set"
    if not offline:
        try:
            download_file(url, str(path))
        # sacrebleu exits the process if the certificate of the server is not accepted.
        except (OSError, SystemExit) as error:
            reason = one_line(error)
            path.unlink(missing_ok=True)  # a part of the file would be taken for the whole
        else:
            return path
    msg = (
        f"spBLEU needs sacrebleu's tokenizer {NAME}: {path} does not exist and {url} cannot be "
        f"fetched ({reason}); put the file there (or set SACREBLEU to a folder other than "
        f"{path.parents[1]}), or set evaluation.tasks.translation_metrics: [chrF++]"
    )
    raise HubError(msg)


NUMBER = re.compile(r"-?\d[\d.,]*")


class RankingTask(ConfigurableTask):  # type: ignore[misc]  # lm-eval is untyped
    """A task whose answers are ranked; its metric `acc_bytes` is the share of right answers."""

    answer_delimiter = ""
    """What precedes each answer: nothing after the end of a chat prompt.

    lingraft's tasks have no `gen_prefix`, after which lm-eval would write one.
    """

    def construct_requests(self, doc: Mapping[str, Any], ctx: str, **kwargs: Any) -> Any:
        """Return the requests of a document; remember the delimiter of its answers."""
        is_chat = kwargs.get("apply_chat_template")
        self.answer_delimiter = "" if is_chat else self.config.target_delimiter
        return super().construct_requests(doc, ctx, **kwargs)

    def process_results(
        self, doc: Mapping[str, Any], results: Sequence[tuple[float, bool]]
    ) -> dict[str, float]:
        """Return the score of one document; see `point`."""
        answers = [f"{self.answer_delimiter}{choice}" for choice in self.doc_to_choice(doc)]
        log_probabilities, _ = zip(*results, strict=True)
        return {"acc_bytes": point(log_probabilities, answers, int(self.doc_to_target(doc)))}


def point(log_probabilities: Sequence[float], answers: Sequence[str], right: int) -> float:
    """Return 1 if answer `right` has the highest log-probability per byte, and 0 if it has not.

    In a tie of n answers, each of them gets 1 / n.

    >>> point([-4.0, -6.0], ["aaaa", "bb"], 0), point([-4.0, -2.0], ["aaaa", "bb"], 0)
    (1.0, 0.5)
    """
    by_byte = np.array(log_probabilities) / [len(answer.encode()) for answer in answers]
    # Rounding must not break a tie.
    best = np.isclose(by_byte, by_byte.max(), rtol=1e-9, atol=0)
    return float(best[right] / best.sum())


def keep_answers(
    metrics: Sequence[str],
) -> Callable[[Mapping[str, Any], Sequence[str]], dict[str, tuple[str, str]]]:
    """Return a `process_results` that keeps (reference, answer) for every metric.

    A corpus score needs all pairs together, so nothing is scored per document.
    """

    def keep(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, tuple[str, str]]:
        return dict.fromkeys(metrics, (str(doc["target"]).strip(), results[0].strip()))

    return keep


def last_number(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Return 1 if the last number in the written text is the answer, else 0.

    Commas group thousands, and a point is that of a decimal. Digits may be those of any script.

    >>> last_number({"answer": 18}, ["3 x 6 = 18.00."]), last_number({"answer": "5.0"}, ["५"])
    ({'exact_match': 1.0}, {'exact_match': 1.0})
    """
    numbers = NUMBER.findall(results[0])
    last = _value_of(numbers[-1]) if numbers else None
    return {"exact_match": float(last is not None and last == _value_of(str(doc["answer"])))}


def _value_of(number: str) -> Decimal | None:
    try:
        return Decimal(number.rstrip(".,").replace(",", ""))
    except InvalidOperation:  # such as 1.2.3
        return None


def shared_words(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Return the scores of SQuAD for a short answer: exact match of its words, and F1 over words.

    >>> shared_words({"answer": "The red apple"}, [" a red apple."])
    {'exact_match': 0.0, 'f1': 0.6666666666666666}
    """
    wanted, given = (
        Counter(normalised_words(str(doc["answer"]))),
        Counter(normalised_words(results[0])),
    )
    common = (wanted & given).total()
    return {
        "exact_match": float(wanted == given),
        "f1": 2 * common / max(1, wanted.total() + given.total()),
    }


def translation_metric(name: str) -> Any:
    """Return sacrebleu's chrF++, or BLEU over the pieces of FLORES-200's SentencePiece model."""
    # chrF++ is chrF with word n-grams up to 2.
    if name == "chrF++":
        return CHRF(word_order=2)
    flores200_model()
    try:
        return BLEU(tokenize="flores200")
    except OSError as error:
        msg = (
            f"spBLEU: {flores200_model()} is not a SentencePiece model ({one_line(error)}); "
            "delete it, so that it is fetched again"
        )
        raise HubError(msg) from None


def corpus_score(name: str) -> Callable[[Sequence[tuple[str, str]]], float]:
    """Return a function that computes the corpus score of all (reference, answer) pairs."""

    def score(pairs: Sequence[tuple[str, str]]) -> float:
        references, answers = zip(*pairs, strict=True)
        return float(translation_metric(name).corpus_score(list(answers), [list(references)]).score)

    score.__name__ = name
    return score
