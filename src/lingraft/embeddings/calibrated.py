"""Subtoken means, with input rows rescaled to the norm of the source's rows in the same script.

A mean of rows is shorter than the rows themselves, because their differences cancel, so the model
would receive an added token as a weak input. Input rows are rescaled to the median norm of the
source's own rows in the token's script. Output rows are never rescaled: logits grow with them, and
the first losses explode. A tied matrix is also an output matrix, so its rows are not rescaled
either. Rows that are not rescaled are means weighted by characters. The notes give the reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from lingraft.corpus import script_of
from lingraft.embeddings.base import INITS, EmbeddingInit, InitRequest, InitRows
from lingraft.embeddings.subtoken_mean import mean_mixture, piece_weights, weighted_means

if TYPE_CHECKING:
    from torch import Tensor


@INITS.register
class Calibrated(EmbeddingInit):
    """Input: subtoken mean at the script's median norm; output: mean weighted by characters.

    In a tied model, input and output are one matrix. Its rows are those of the output.
    """

    name: ClassVar[str] = "calibrated"
    reference: ClassVar[str] = "Joshi et al. 2026, Beyond Initialization Loss (arXiv 2608.03494)"

    min_rows: int = Field(
        default=20,
        gt=0,
        description="with fewer source rows in the target's script, the norm comes from the rows "
        "of the subtokens",
    )

    def rows(self, request: InitRequest) -> InitRows:
        """Average the subtokens' rows; rescale those of a separate input matrix."""
        pieces = [token.pieces for token in request.splice.added]
        if request.side == "output" or request.tied:
            weights, origins = piece_weights(request, "characters")
            reason = "no: logits"
            if request.tied:
                reason = "no: one matrix for input and output, whose rows make the logits"
            means_AD = weighted_means(request.matrix, pieces, weights)
            mixture = mean_mixture(pieces, weights)
            return InitRows(means_AD, origins, {"rescaled": reason}, mixture=mixture)
        weights, _ = piece_weights(request, "uniform")
        means_AD = weighted_means(request.matrix, pieces, weights)
        norms_A, origins, notes = self._target_norms(request)
        lengths_A = means_AD.norm(dim=1)
        # A mean of length 0 has no direction to rescale; its factor is 1.
        scales_A = (norms_A / lengths_A).where(lengths_A > 0, lengths_A.new_ones(()))
        final_origins = list(origins)
        for number, length in enumerate(lengths_A.tolist()):
            # `not >`, because a comparison with NaN is false.
            if not length > 0:
                final_origins[number] = "fallback: a mean of length zero, left as it is"
        mixture = mean_mixture(pieces, weights, scales_A.tolist())
        return InitRows(means_AD * scales_A[:, None], tuple(final_origins), notes, mixture=mixture)

    def _target_norms(
        self, request: InitRequest
    ) -> tuple[Tensor, tuple[str, ...], dict[str, object]]:
        """Return the norm for each row, the origin of each row, and the norms by script as notes.

        A token without letters, such as a part of a character, gets the most common script of the
        added tokens.
        """
        import torch

        tokens = request.splice.added
        own_scripts = [detect_script(token.surface) for token in tokens]
        main_script = _most_common(own_scripts)
        scripts = [script or main_script for script in own_scripts]
        source_ids = _ids_by_script(request)
        norms, origins, notes = {}, {}, {}
        # Each script has its own norm: for a Latin word among Hindi ones, that of Devanagari would
        # be wrong.
        for script in sorted(set(scripts), key=str):
            ids = source_ids.get(script, []) if script else []
            origins[script] = "subtoken mean at the norm of the script"
            # The median of a few rows depends on which tokens happen to exist.
            if len(ids) < self.min_rows:
                pieces: set[int] = set()
                for token, token_script in zip(tokens, scripts, strict=True):
                    if token_script == script:
                        pieces.update(token.pieces)
                ids = sorted(pieces)
                origins[script] = "fallback: subtoken mean at the norm of its pieces"
            norms[script] = median_norm(request.matrix, ids)
            notes[script or "no script"] = {"norm": norms[script], "rows": len(ids)}
        norms_A = torch.tensor([norms[script] for script in scripts])
        return norms_A, tuple(map(origins.__getitem__, scripts)), {"norms": notes}


def _ids_by_script(request: InitRequest) -> dict[str | None, list[int]]:
    """Return the source ids by script, without those whose rows were never trained."""
    untrained = request.splice.untrained  # their rows still have their initial norm
    ids: dict[str | None, list[int]] = {}
    for token_id, surface in enumerate(request.source_tokenizer.vocabulary.surfaces):
        if token_id not in untrained:
            script = detect_script(surface) if surface else None
            ids.setdefault(script, []).append(token_id)
    return ids


def detect_script(surface: bytes) -> str | None:
    """Return the script of most letters of a surface; `None` without letters or valid UTF-8."""
    try:
        text = surface.decode()
    except UnicodeDecodeError:
        return None
    return _most_common(map(script_of, text))


def _most_common(scripts: Iterable[str | None]) -> str | None:
    """Return the most common script; of equally common ones, the one that comes first."""
    counts = Counter(scripts)
    del counts[None]
    return counts.most_common(1)[0][0] if counts else None


def median_norm(matrix_VD: Tensor, ids: Sequence[int]) -> float:
    """Return the median Euclidean norm of these rows, 0 if there are none."""
    import torch

    if not ids:
        return 0.0
    norms = []
    # In parts, because each row is copied to float32.
    for begin in range(0, len(ids), 8192):
        part = torch.tensor(ids[begin : begin + 8192])
        norms.append(matrix_VD[part].float().norm(dim=1))
    return float(torch.cat(norms).median())
