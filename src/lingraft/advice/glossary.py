"""The words of the page of a diagnosis, each with its meaning in a line."""

from __future__ import annotations

from lingraft.advice.diagnosis import Diagnosis, TokenizerFindings
from lingraft.text_units import TextUnit

FERTILITY = {
    TextUnit.WORD: "Fertility: the mean number of tokens of a word. Lower is better.",
    TextUnit.SYLLABLE: "Fertility in a script without spaces: the mean number of tokens of a "
    "syllable, as the spelling shows it. Lower is better.",
    TextUnit.CHARACTER: "Fertility in a script without spaces: the mean number of tokens of a "
    "character (Unicode code point; marks, spaces and punctuation count). Lower is better.",
}
"""The meaning of tokens per unit, by the unit."""
WORDS = (
    (
        "whole",
        "The share of {unit}s that no token splits (single token retention rate). More is better.",
    ),
    ("frequent words whole", "The share of the 1,000 most frequent words that are one token."),
    ("bytes/token, chars/token", "How much text one token holds. Higher is better."),
    (
        "Rényi efficiency",
        "How evenly the text uses its tokens; 100% if all that occur are equally frequent.",
    ),
    ("tokens in use", "Different tokens that occur in the text, and those that occur 10 times."),
    ("premium", "The tokens of the same sentences compared with English; 2x costs twice as much."),
    ("byte fallback", "The share of tokens that are single bytes of characters without a token."),
    ("one character", "The share of tokens that are a single character."),
    ("partial character", "The share of tokens that begin or end inside a character."),
    ("unknown", "The share of tokens that lose the text they stand for."),
    ("pre-tokenizer", "The rule that cuts text before any merge; no token crosses its cuts."),
    (
        "lower bound",
        "Tokens per {unit} if each piece of the pre-tokenizer were one token: a floor.",
    ),
    ("repaired", "The lower bound with a pre-tokenizer that does not split {these}."),
    ("mark-aware", "A pre-tokenizer that keeps combining marks (vowel signs) with their letters."),
    ("letter-aware", "A pre-tokenizer that keeps apostrophes and joiners inside words."),
    ("reduction", "The tokens before divided by those after; 2x means half the tokens."),
    ("95% interval", "The range of a prediction over held-out documents like these."),
)
"""The words of the page, each with its meaning in a line. `words_of` names the unit in them."""


def words_of(diagnosis: Diagnosis) -> list[tuple[str, str]]:
    """Return the words of the page with their meanings: first tokens per unit, for each unit."""
    units = units_of(*diagnosis.tokenizers)
    lines = [(unit.ratio, FERTILITY[unit]) for unit in units]
    unit = units[0] if len(units) == 1 else "unit"
    these = "these words" if units == [TextUnit.WORD] else "the text there"
    return [*lines, *((word, meaning.format(unit=unit, these=these)) for word, meaning in WORDS)]


def units_of(*tokenizers: TokenizerFindings) -> list[TextUnit]:
    """Return the units of the measured texts, each once."""
    units: dict[TextUnit, None] = {}
    for tokenizer in tokenizers:
        units |= dict.fromkeys(finding.measures.unit for finding in tokenizer.findings)
    return list(units)
