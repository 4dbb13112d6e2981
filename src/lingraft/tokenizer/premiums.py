"""Premiums: the tokens that languages need for the same content, and how unequal they are.

The *premium* of a language is the number of tokens of sentences in it, divided by that of the same
sentences in a reference language (Petrov et al. 2023, arXiv 2305.15425). The *Gini coefficient* of
the tokens of several languages says how unequal they are: 0 if all need the same number of tokens
(Foroutan et al. 2025, arXiv 2508.04796, "tokenizer fairness Gini"). It has no unit, so it is the
same for tokens and for premiums over any reference.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from lingraft.formatting import percent
from lingraft.tokenizer.model_tokenizer import ModelTokenizer
from lingraft.tokenizer.unknown_tokens import LOST_SHARE, lost_share

REFERENCE = "en"
"""The language that premiums are relative to."""


def gini(costs: Sequence[float]) -> float:
    """Return the Gini coefficient of the costs c of n languages.

    G = sum over all pairs (i, j) of |c_i - c_j| / (2 n sum of c_i), the mean difference of two
    languages over twice the mean cost. It is 0 for equal costs and at most 1 - 1 / n.

    >>> gini([2.0, 2.0, 2.0])
    0.0
    >>> gini([1.0, 3.0])
    0.25
    """
    total = sum(costs)
    if not total:
        return 0.0
    differences = 0.0
    for cost in costs:
        differences += sum(abs(cost - other) for other in costs)
    return differences / (2 * len(costs) * total)


def lost_text_warnings(
    tokenizers: Mapping[str, ModelTokenizer], parallel: Mapping[str, Sequence[str]]
) -> Iterator[str]:
    """Yield a warning for each tokenizer, by name, that loses much of the sentences in a language.

    `parallel` has the sentences by language.
    """
    for language, sentences in parallel.items():
        for name, tokenizer in tokenizers.items():
            share = lost_share(tokenizer, sentences)
            if share > LOST_SHARE:
                yield (
                    f"parallel sentences in {language}: {name} loses {percent(share)} of the "
                    "characters, each counted as one token; compare its premiums only with those "
                    "of the same tokenizer"
                )
