"""Subtoken means, input rows brought to the length that rows of the target's script have.

A mean of rows is shorter than the rows themselves (their differences cancel), so the body meets an added token as
something faint. Input rows are rescaled to the median norm of the source's own rows in the target's script. Output rows
are never rescaled: logits grow with them and the first losses explode. A tied matrix is an output matrix too, so its
rows are not rescaled either: they are character-weighted means.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, ClassVar

import regex
from pydantic import Field

from lingraft.inits.base import INITS, EmbeddingInit, InitRequest, InitRows
from lingraft.inits.subtokens import piece_weights, weighted_means

if TYPE_CHECKING:
    from torch import Tensor

SCRIPTS = ("Latin", "Cyrillic", "Greek", "Arabic", "Hebrew", "Devanagari", "Bengali", "Gurmukhi", "Gujarati", "Oriya",
           "Tamil", "Telugu", "Kannada", "Malayalam", "Sinhala", "Thai", "Lao", "Tibetan", "Myanmar", "Khmer",
           "Ethiopic", "Georgian", "Armenian", "Hangul", "Hiragana", "Katakana", "Han", "Mongolian", "Thaana",
           "Cherokee", "Tifinagh", "Nko", "Syriac", "Javanese", "Balinese", "Sundanese", "Ol_Chiki", "Meetei_Mayek",
           "Adlam", "Yi")
SCRIPT = regex.compile("|".join(rf"(?P<{name}>\p{{Script={name}}})" for name in SCRIPTS))


@INITS.register
class Calibrated(EmbeddingInit):
    """Input: the subtoken mean at the median norm of the script's rows; output: the mean weighted by characters."""

    name: ClassVar[str] = "calibrated"
    reference: ClassVar[str] = "Joshi et al. 2026, Beyond Initialization Loss (arXiv 2608.03494)"

    least_rows: int = Field(default=20, gt=0, description="with fewer source rows in the target's script than this, "
                            "the rows of the pieces themselves give the norm")

    def rows(self, request: InitRequest) -> InitRows:
        """Average the pieces' rows; rescale those of a separate input matrix."""
        tokens = request.splice.added
        pieces = [token.pieces for token in tokens]
        if request.side == "output" or request.tied:
            shares, origins = piece_weights(request, "characters")
            return InitRows(weighted_means(request.matrix, pieces, shares), origins)
        shares, _ = piece_weights(request, "uniform")
        means_AD = weighted_means(request.matrix, pieces, shares)
        norm, origin, notes = self._norm(request)
        lengths_A = means_AD.norm(dim=1)
        scales_A = (norm / lengths_A).where(lengths_A > 0, lengths_A.new_ones(()))
        origins = tuple(origin if length > 0 else "fallback: a mean of length zero, left as it is"
                        for length in lengths_A.tolist())
        return InitRows(means_AD * scales_A[:, None], origins, notes)

    def _norm(self, request: InitRequest) -> tuple[float, str, dict[str, object]]:
        """Return the norm to bring rows to, how rows made with it are called, and what it was taken from."""
        tokens = request.splice.added
        script = main_script([token.surface for token in tokens])
        surfaces = request.source_tokenizer.vocabulary.surfaces
        ids = [i for i, surface in enumerate(surfaces) if surface and script_of(surface) == script]
        origin = "subtoken mean at the norm of the script"
        if len(ids) < self.least_rows:
            origin = "fallback: subtoken mean at the norm of its pieces"
            ids = sorted({piece for token in tokens for piece in token.pieces})
        norm = median_norm(request.matrix, ids)
        return norm, origin, {"script": script, "norm": norm, "norm_of_rows": len(ids)}


@cache
def _script_of_character(character: str) -> str | None:
    found = SCRIPT.match(character)
    return found.lastgroup if found else None


def script_of(surface: bytes) -> str | None:
    """Return the script of most letters of a surface; `None` where it has none, or is no UTF-8."""
    try:
        text = surface.decode()
    except UnicodeDecodeError:
        return None
    counts = Counter(script for character in text if (script := _script_of_character(character)))
    return counts.most_common(1)[0][0] if counts else None


def main_script(surfaces: Sequence[bytes]) -> str | None:
    """Return the script that most surfaces are written in.

    >>> main_script(["की".encode(), "में".encode(), b"the"])
    'Devanagari'
    """
    counts = Counter(script for surface in surfaces if (script := script_of(surface)))
    return counts.most_common(1)[0][0] if counts else None


def median_norm(matrix_VD: Tensor, ids: Sequence[int]) -> float:
    """Return the median Euclidean norm of these rows, 0 where there are none."""
    import torch

    if not ids:
        return 0.0
    norms = torch.cat([matrix_VD[torch.tensor(ids[begin:begin + 8192])].float().norm(dim=1)
                       for begin in range(0, len(ids), 8192)])
    return float(norms.median())
