"""How often a model takes the chance to write an added token.

The same text can be written with an added token or with the base's pieces of it. A model that keeps
to the pieces gains no speed from its new vocabulary. Two measures say how often it does:

- *Preferred*, on given text (teacher forcing): at each added token of the text, the model gives
  that token a higher probability than the first of the base's pieces that spell it. Greedy decoding
  then does not begin with the pieces.
- *Written*, in texts that the model generated: of the places where the tokenizer writes an added
  token for the generated text, the share at which the model wrote this token.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lingraft.evaluation.bits_per_byte import batch_size, start_id
from lingraft.evaluation.bootstrap import Floats, measure_ratio
from lingraft.evaluation.config import BootstrapSettings
from lingraft.evaluation.samples import GeneratedSample
from lingraft.evaluation.text_scores import Integers
from lingraft.evaluation.window_scorer import ScoringWindow, WindowScorer, batch_windows
from lingraft.evaluation.words_kept_whole import TokenPlaces
from lingraft.measurement import Measurement
from lingraft.tokenizer import ModelTokenizer
from lingraft.vocabulary.build_splice import can_spell, spell_surfaces

PREFERRED = "added tokens preferred to their pieces"
WRITTEN = "added tokens written where possible"
READ_DOCUMENTS, READ_TOKENS = 50, 256
"""The text of the first measure: the first tokens of the first documents."""


def first_pieces(
    source: ModelTokenizer, tokenizer: ModelTokenizer, added: Iterable[int]
) -> dict[int, int]:
    """Return for each added id the id of the first of the source's pieces that spell the token.

    Both ids are those of `tokenizer`. Tokens that the source cannot spell, such as a part of a
    character where its pieces are text, and those whose first piece is not in `tokenizer` are left
    out.
    """
    surfaces = {token_id: tokenizer.vocabulary.surfaces[token_id] or b"" for token_id in added}
    chosen = [
        token_id for token_id in sorted(added) if can_spell(source.family, surfaces[token_id])
    ]
    spellings = spell_surfaces(source.family, [surfaces[token_id] for token_id in chosen])
    firsts = {}
    for token_id, pieces in zip(chosen, spellings, strict=True):
        first = source.vocabulary.surfaces[pieces[0]] if len(pieces) > 1 else None
        piece = tokenizer.vocabulary.ids.get(first) if first else None
        if piece is not None and piece != token_id:
            firsts[token_id] = piece
    return firsts


@dataclass(frozen=True)
class Chances:
    """Places at which an added token can be written, and those at which it is, by document."""

    taken: Floats
    places: Floats

    def measure(
        self,
        metric: str,
        language: str,
        subject: str,
        bootstrap: BootstrapSettings,
        *,
        per: str = "document",
        split: str = "heldout",
    ) -> list[Measurement]:
        """Measure the share of the chances that are taken; without chances there is none."""
        return measure_ratio(
            metric,
            "share",
            self.taken,
            self.places,
            subject=subject,
            language=language,
            bootstrap=bootstrap,
            note=f"of {int(self.places.sum()):,} places",
            per=per,
            split=split,
        )


def count_preferred(
    model: Any,
    tokenizer: ModelTokenizer,
    documents: Sequence[Integers],
    pieces: Mapping[int, int],
    context: int,
) -> Chances:
    """Count where a model prefers an added token of a text to the first of its pieces.

    `documents` are the ids of each document, `pieces` is the result of `first_pieces`, and
    `context` the number of tokens that the model reads.
    """
    length = min(context, READ_TOKENS)
    start = start_id(tokenizer)
    read = documents[:READ_DOCUMENTS]
    sequences = [np.array([start, *ids[:length]], dtype=np.int64) for ids in read]
    windows = []
    for number, sequence in enumerate(sequences):
        if len(sequence) > 1:
            windows.append(ScoringWindow(number, 0, 1, len(sequence) - 1))
    piece_of = np.full(tokenizer.size, -1, dtype=np.int64)
    piece_of[list(pieces)] = list(pieces.values())
    scorer = WindowScorer.of(model, windows, sequences)
    taken, places = np.zeros(len(sequences)), np.zeros(len(sequences))
    for batch in batch_windows(windows, batch_size(model, scorer, context)):
        documents_of, margins = scorer.margins(batch, sequences, piece_of)
        places += np.bincount(documents_of, minlength=len(places))
        taken += np.bincount(documents_of, weights=margins > 0, minlength=len(taken))
    return Chances(taken, places)


def count_written(
    samples: Sequence[GeneratedSample], tokenizer: ModelTokenizer, added: frozenset[int]
) -> Chances:
    """Count where added tokens could stand in generated texts, and where they do."""
    places = TokenPlaces.of(tokenizer)
    taken, possible = [], []
    for sample in samples:
        prompt, written = sample.prompt.encode(), written_text(sample, places)
        (canonical,) = tokenizer.encode([sample.prompt + written])
        ends = places.ends(canonical, sample.prompt + written)
        # A normalizer that changes the text leaves no places that could be compared.
        if ends is None:
            continue
        sample_ends = np.cumsum(places.sizes[list(sample.ids)]) + len(prompt)
        in_sample = set(zip(sample_ends.tolist(), sample.ids, strict=True))
        expected = []
        for end, token_id in zip(ends.tolist(), canonical, strict=True):
            if token_id in added and end - places.sizes[token_id] >= len(prompt):
                expected.append((end, token_id))
        possible.append(len(expected))
        taken.append(len(in_sample.intersection(expected)))
    return Chances(np.array(taken, dtype=np.float64), np.array(possible, dtype=np.float64))


def written_text(sample: GeneratedSample, places: TokenPlaces) -> str:
    """Return a generated text up to its first byte that is not UTF-8: no tokenizer writes those."""
    return valid_beginning(b"".join([places.surfaces[token_id] for token_id in sample.ids]))


def valid_beginning(data: bytes) -> str:
    r"""Return the text up to the first byte that is not UTF-8.

    >>> valid_beginning("aé".encode() + b"\xff b")
    'aé'
    """
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        return data[: error.start].decode()
