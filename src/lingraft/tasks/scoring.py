"""How answers become scores: ranked by log-probability for each byte, or written and compared with a reference.

An answer's log-probability is divided by the UTF-8 bytes that were scored, the delimiter before it among them, so that
neither a long answer nor a tokenizer that cuts it into many pieces is at a disadvantage. Answers that are equally
likely share the point: a model that gives every byte the same probability scores exactly chance, one in the number of
answers. (lm-eval's own acc_bytes leaves the delimiter out and gives a tie to the first answer.)
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from lm_eval.api.task import ConfigurableTask

from lingraft.errors import HubError
from lingraft.tasks.contamination import words_of
from lingraft.tasks.spm import flores200_model

NUMBER = re.compile(r"-?\d[\d.,]*")


class Ranking(ConfigurableTask):  # type: ignore[misc]  # lm-eval is untyped
    """A task whose answers are ranked; `acc_bytes` is the share that went right."""

    def process_results(self, doc: Mapping[str, Any], results: Sequence[tuple[float, bool]]) -> dict[str, float]:
        """Return the point, or part of it, of one document."""
        answers = [f"{self.config.target_delimiter}{choice}" for choice in self.doc_to_choice(doc)]
        return {"acc_bytes": point([nats for nats, _ in results], answers, int(self.doc_to_target(doc)))}


def point(log_probabilities: Sequence[float], answers: Sequence[str], right: int) -> float:
    """Return 1 where the right answer is the likeliest for each byte, a share of it in a tie, else 0.

    >>> point([-4.0, -6.0], ["aaaa", "bb"], 0), point([-4.0, -2.0], ["aaaa", "bb"], 0)
    (1.0, 0.5)
    """
    by_byte = np.array(log_probabilities) / [len(answer.encode()) for answer in answers]
    best = np.isclose(by_byte, by_byte.max(), rtol=1e-9, atol=0)
    return float(best[right] / best.sum())


def written(metrics: Sequence[str]) -> Callable[[Mapping[str, Any], Sequence[str]], dict[str, tuple[str, str]]]:
    """Return what keeps (reference, answer) of each document under every metric."""
    def keep(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, tuple[str, str]]:
        return dict.fromkeys(metrics, (str(doc["target"]).strip(), results[0].strip()))

    return keep


def last_number(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Return 1 where the last number of what was written is the answer."""
    found = [number.rstrip(".,").replace(",", "") for number in NUMBER.findall(results[0])]
    return {"exact_match": float(bool(found) and found[-1].removesuffix(".0") == str(doc["answer"]).removesuffix(".0"))}


def shared_words(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Return SQuAD's scores of a short answer: whether it has the same words, and F1 over words.

    >>> shared_words({"answer": "The red apple"}, [" a red apple."])
    {'exact_match': 0.0, 'f1': 0.6666666666666666}
    """
    wanted, given = Counter(words_of(str(doc["answer"]))), Counter(words_of(results[0]))
    common = (wanted & given).total()
    return {"exact_match": float(wanted == given), "f1": 2 * common / max(1, wanted.total() + given.total())}


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
