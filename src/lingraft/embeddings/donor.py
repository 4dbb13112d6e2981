"""Rows written in the terms of another model that has the tokens already.

In the donor's matrix, a token's row is written as a combination of a few rows of tokens that both models have
(orthogonal matching pursuit). The same combination of the source's rows of those tokens is the new row. The two models
need not share width or training. Suffixes: A tokens to write, S shared tokens, E width of the donor, K terms.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from lingraft.checkpoint.find_embeddings import embedding_names
from lingraft.checkpoint.safetensors_files import Checkpoint
from lingraft.embeddings.base import INITS, EmbeddingInit, InitRequest, InitRows, digest_of
from lingraft.embeddings.subtoken_mean import SubtokenMean
from lingraft.errors import ModelError
from lingraft.splice import Vocabulary
from lingraft.tokenizer import open_tokenizer
from lingraft.tokenizer.load_tokenizer import tokenizer_file

if TYPE_CHECKING:
    from torch import Tensor

BLOCK_SCORES = 64 * 2**20
RIDGE = 1e-9
"""Keeps the normal equations solvable where two shared rows are equal."""


@INITS.register
class Donor(EmbeddingInit):
    """Combinations of shared tokens' rows that rebuild the token's row in a donor model."""

    name: ClassVar[str] = "donor"
    reference: ClassVar[str] = (
        "Goddard & Neto 2025, Training-Free Tokenizer Transplantation via Orthogonal Matching "
        "Pursuit (arXiv 2506.06607)"
    )

    model: str = Field(description="folder of the donor model with its tokenizer")
    max_terms: int = Field(
        default=8, gt=0, description="maximum number of shared tokens per combination"
    )

    def identity(self) -> dict[str, Any]:
        """Return the settings, the donor by its weights and its tokenizer."""
        folder = Path(self.model).expanduser()
        files = [tokenizer_file(folder), *sorted(folder.glob("*.safetensors"))]
        return {
            self.name: {
                "terms": self.max_terms,
                "model": {file.name: digest_of(file) for file in files},
            }
        }

    def rows(self, request: InitRequest) -> InitRows:
        """Write every token that the donor has; the others get their subtoken means."""
        import torch

        folder = Path(self.model).expanduser()
        donor_ids = open_tokenizer(folder).vocabulary.ids
        donor = _matrix(folder, request.side, len(open_tokenizer(folder).vocabulary))
        tokens = request.splice.added
        shared = _shared(donor_ids, request.source_tokenizer.vocabulary, request.splice.untrained)
        known = [number for number, token in enumerate(tokens) if token.surface in donor_ids]
        origins = ["fallback: the donor has no such token, subtoken mean"] * len(tokens)
        rows_AD = SubtokenMean().rows(request).rows
        notes = {"donor": folder.name, "shared_tokens": len(shared)}
        if not known or not shared:
            return InitRows(rows_AD, tuple(origins), notes)
        wanted_AE = donor[torch.tensor([donor_ids[tokens[i].surface] for i in known])].float()
        terms_AK, weights_AK = pursue(
            wanted_AE, donor[torch.tensor([d for d, _ in shared])].float(), self.max_terms
        )
        sources_S = torch.tensor([source for _, source in shared])
        combined_AD = torch.zeros((len(known), request.matrix.shape[1]), dtype=torch.float64)
        for places_A, weights_A in zip(terms_AK.T, weights_AK.T, strict=True):
            combined_AD += request.matrix[sources_S[places_A]].double() * weights_A[:, None]
        rows_AD[known] = combined_AD.float()
        for number in known:
            origins[number] = "donor's combination of shared tokens"
        return InitRows(rows_AD, tuple(origins), notes)


def _matrix(folder: Path, side: str, ids: int) -> Tensor:
    checkpoint = Checkpoint.open(folder)
    names = embedding_names(checkpoint)
    if ids > names.rows:
        msg = f"{folder}: the donor's tokenizer has {ids:,} ids, its model {names.rows:,} rows; give its own tokenizer"
        raise ModelError(msg)
    return checkpoint.tensor(
        (names.output if side == "output" and names.output else names.input)[0]
    )


def _shared(
    donor_ids: dict[bytes, int], source: Vocabulary, untrained: frozenset[int]
) -> list[tuple[int, int]]:
    """Return donor id and source id of every surface that both vocabularies have, and the source trained."""
    return [
        (donor_ids[surface], i)
        for surface, i in source.ids.items()
        if surface in donor_ids and i not in untrained
    ]


def pursue(wanted_AE: Tensor, shared_SE: Tensor, terms: int) -> tuple[Tensor, Tensor]:
    """Write each wanted row as a combination of at most `terms` shared rows; return their places and weights, [A, K].

    Orthogonal matching pursuit (Pati et al. 1993): take the shared row most aligned with what is left, then solve for
    all weights anew. Weights are in float64; memory is 256 MB of scores at a time.
    """
    import torch

    terms = min(terms, len(shared_SE))
    block = max(1, BLOCK_SCORES // len(shared_SE))
    parts = [
        _pursue(wanted_AE[begin : begin + block], shared_SE, terms)
        for begin in range(0, len(wanted_AE), block)
    ]
    return torch.cat([places for places, _ in parts]), torch.cat([weights for _, weights in parts])


def _pursue(wanted_AE: Tensor, shared_SE: Tensor, terms: int) -> tuple[Tensor, Tensor]:
    import torch

    directions_SE = torch.nn.functional.normalize(shared_SE, dim=1)
    count = len(wanted_AE)
    target_AE, left_AE = wanted_AE.double(), wanted_AE
    taken_AS = torch.zeros((count, len(shared_SE)), dtype=torch.bool)
    places_AK = torch.empty((count, 0), dtype=torch.long)
    weights_AK = torch.empty((count, 0), dtype=torch.float64)
    for _ in range(terms):
        scores_AS = (left_AE @ directions_SE.T).abs_().masked_fill_(taken_AS, -1)
        best_A = scores_AS.argmax(dim=1)
        taken_AS[torch.arange(count), best_A] = True
        places_AK = torch.cat([places_AK, best_A[:, None]], dim=1)
        chosen_AKE = shared_SE[places_AK].double()
        gram_AKK = chosen_AKE @ chosen_AKE.mT
        gram_AKK += (
            RIDGE
            * gram_AKK.diagonal(dim1=1, dim2=2).mean(dim=1)[:, None, None]
            * torch.eye(places_AK.shape[1])
        )
        weights_AK = torch.linalg.solve(gram_AKK, (chosen_AKE @ target_AE[:, :, None]))[:, :, 0]
        left_AE = (target_AE - (weights_AK[:, None, :] @ chosen_AKE)[:, 0]).float()
    return places_AK, weights_AK
