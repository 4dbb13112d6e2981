"""Subtoken means, input rows brought to the length that rows of the target's script have.

A mean of rows is shorter than the rows themselves (their differences cancel), so the body meets an added token as
something faint. Input rows are rescaled to the median norm of the source's own rows in the token's script. Output rows
are never rescaled: logits grow with them and the first losses explode. A tied matrix is an output matrix too, so its
rows are not rescaled either: they are character-weighted means, and the notes say so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, ClassVar

import regex
from pydantic import Field

from lingraft.embeddings.base import INITS, EmbeddingInit, InitRequest, InitRows
from lingraft.embeddings.subtoken_mean import piece_weights, weighted_means

if TYPE_CHECKING:
    from torch import Tensor

SCRIPTS = (
    "Latin",
    "Cyrillic",
    "Greek",
    "Arabic",
    "Hebrew",
    "Devanagari",
    "Bengali",
    "Gurmukhi",
    "Gujarati",
    "Oriya",
    "Tamil",
    "Telugu",
    "Kannada",
    "Malayalam",
    "Sinhala",
    "Thai",
    "Lao",
    "Tibetan",
    "Myanmar",
    "Khmer",
    "Ethiopic",
    "Georgian",
    "Armenian",
    "Hangul",
    "Hiragana",
    "Katakana",
    "Han",
    "Mongolian",
    "Thaana",
    "Cherokee",
    "Tifinagh",
    "Nko",
    "Syriac",
    "Javanese",
    "Balinese",
    "Sundanese",
    "Ol_Chiki",
    "Meetei_Mayek",
    "Adlam",
    "Yi",
)
SCRIPT = regex.compile("|".join(rf"(?P<{name}>\p{{Script={name}}})" for name in SCRIPTS))


@INITS.register
class Calibrated(EmbeddingInit):
    """Input: the subtoken mean at the median norm of the script's rows; output: the mean weighted by characters."""

    name: ClassVar[str] = "calibrated"
    reference: ClassVar[str] = "Joshi et al. 2026, Beyond Initialization Loss (arXiv 2608.03494)"

    min_rows: int = Field(
        default=20,
        gt=0,
        description="with fewer source rows in the target's script, the norm comes from the rows "
        "of the subtokens",
    )

    def rows(self, request: InitRequest) -> InitRows:
        """Average the pieces' rows; rescale those of a separate input matrix."""
        tokens = request.splice.added
        pieces = [token.pieces for token in tokens]
        if request.side == "output" or request.tied:
            shares, origins = piece_weights(request, "characters")
            why = (
                "no: one matrix for input and output, whose rows make the logits"
                if request.tied
                else "no: logits"
            )
            return InitRows(
                weighted_means(request.matrix, pieces, shares), origins, {"rescaled": why}
            )
        shares, _ = piece_weights(request, "uniform")
        means_AD = weighted_means(request.matrix, pieces, shares)
        norms_A, origins, notes = self._norms(request)
        lengths_A = means_AD.norm(dim=1)
        scales_A = (norms_A / lengths_A).where(lengths_A > 0, lengths_A.new_ones(()))
        origins = tuple(
            origin if length > 0 else "fallback: a mean of length zero, left as it is"
            for origin, length in zip(origins, lengths_A.tolist(), strict=True)
        )
        return InitRows(means_AD * scales_A[:, None], origins, notes)

    def _norms(self, request: InitRequest) -> tuple[Tensor, tuple[str, ...], dict[str, object]]:
        """Return the norm to bring each row to, how it is called, and what each script's norm was taken from.

        A token without letters of its own, such as a part of a character, goes with most of the others.
        """
        import torch

        tokens = request.splice.added
        most = main_script([token.surface for token in tokens])
        script_of_token = [script_of(token.surface) or most for token in tokens]
        of_script: dict[str | None, list[int]] = {}
        untrained = request.splice.untrained  # their rows have whatever norm they began with
        for i, surface in enumerate(request.source_tokenizer.vocabulary.surfaces):
            if i in untrained:
                continue
            of_script.setdefault(script_of(surface) if surface else None, []).append(i)
        norms, origins, notes = {}, {}, {}
        for script in sorted(set(script_of_token), key=str):
            ids = of_script.get(script, []) if script else []
            origins[script] = "subtoken mean at the norm of the script"
            if len(ids) < self.min_rows:
                ids = sorted(
                    {
                        piece
                        for token, own in zip(tokens, script_of_token, strict=True)
                        if own == script
                        for piece in token.pieces
                    }
                )
                origins[script] = "fallback: subtoken mean at the norm of its pieces"
            norms[script] = median_norm(request.matrix, ids)
            notes[script or "no script"] = {"norm": norms[script], "rows": len(ids)}
        return (
            torch.tensor([norms[script] for script in script_of_token]),
            tuple(origins[script] for script in script_of_token),
            {"norms": notes},
        )


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
    norms = torch.cat(
        [
            matrix_VD[torch.tensor(ids[begin : begin + 8192])].float().norm(dim=1)
            for begin in range(0, len(ids), 8192)
        ]
    )
    return float(norms.median())
