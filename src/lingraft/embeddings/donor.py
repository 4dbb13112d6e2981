"""Rows that copy how another model, the donor, composes them from rows of shared tokens.

In the donor's matrix, the row of a token is approximated by a combination of a few rows of tokens
that both models have (orthogonal matching pursuit). The new row is the same combination of the
source's rows of those tokens, so the two models need not share width or training. Suffixes: A added
tokens, S shared tokens, E width of the donor, D width of the source, K terms of a combination.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from lingraft.checkpoint.find_embeddings import embedding_names
from lingraft.checkpoint.safetensors_files import Checkpoint
from lingraft.embeddings.base import INITS, EmbeddingInit, InitRequest, InitRows, digest_file
from lingraft.embeddings.subtoken_mean import SubtokenMean
from lingraft.errors import ModelError
from lingraft.splice import Vocabulary
from lingraft.tokenizer import open_tokenizer
from lingraft.tokenizer.load_tokenizer import tokenizer_file

if TYPE_CHECKING:
    from torch import Tensor

BLOCK_SCORES = 64 * 2**20
"""Scores in memory at a time: 256 MB in float32."""

RIDGE = 1e-9
"""Keeps the normal equations solvable if two shared rows are equal."""


@INITS.register
class Donor(EmbeddingInit):
    """Combinations of shared tokens' rows that approximate the token's row in a donor model."""

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
        """Return the settings; the donor counts by its weights and its tokenizer."""
        folder = Path(self.model).expanduser()
        files = [tokenizer_file(folder), *sorted(folder.glob("*.safetensors"))]
        digests = {file.name: digest_file(file) for file in files}
        # `terms` is the stored key of `max_terms`: another key would rebuild every cached stage.
        return {self.name: {"terms": self.max_terms, "model": digests}}

    def rows(self, request: InitRequest) -> InitRows:
        """Combine source rows for every token of the donor; others get their subtoken means."""
        import torch

        folder = Path(self.model).expanduser()
        donor = open_tokenizer(folder).vocabulary
        donor_VE = _read_matrix(folder, request.side, len(donor))
        tokens = request.splice.added
        donor_shared, source_shared = _shared_ids(
            donor, request.source_tokenizer.vocabulary, request.splice.untrained
        )
        known = [number for number, token in enumerate(tokens) if token.surface in donor.ids]
        origins = ["fallback: the donor has no such token, subtoken mean"] * len(tokens)
        rows_AD = SubtokenMean().rows(request).rows
        notes = {"donor": folder.name, "shared_tokens": len(donor_shared)}
        if not known or not donor_shared:
            return InitRows(rows_AD, tuple(origins), notes)
        wanted_AE = donor_VE[[donor.ids[tokens[number].surface] for number in known]].float()
        terms_AK, weights_AK = matching_pursuit(
            wanted_AE, donor_VE[donor_shared].float(), self.max_terms
        )
        source_S = torch.tensor(source_shared)
        combined_AD = torch.zeros((len(known), request.matrix.shape[1]), dtype=torch.float64)
        # One term at a time: all K rows of every token at once would need K times the memory.
        for terms_A, weights_A in zip(terms_AK.T, weights_AK.T, strict=True):
            combined_AD += request.matrix[source_S[terms_A]].double() * weights_A[:, None]
        rows_AD[known] = combined_AD.float()
        for number in known:
            origins[number] = "donor's combination of shared tokens"
        return InitRows(rows_AD, tuple(origins), notes)


def _read_matrix(folder: Path, side: str, ids: int) -> Tensor:
    """Return the donor's matrix of a side; raises `ModelError` if it has fewer rows than ids."""
    checkpoint = Checkpoint.open(folder)
    names = embedding_names(checkpoint)
    if ids > names.rows:
        msg = (
            f"{folder}: the donor's tokenizer has {ids:,} ids, but its model has "
            f"{names.rows:,} rows; give the tokenizer that belongs to the model"
        )
        raise ModelError(msg)
    tensors = names.output if side == "output" and names.output else names.input
    return checkpoint.tensor(tensors[0])


def _shared_ids(
    donor: Vocabulary, source: Vocabulary, untrained: frozenset[int]
) -> tuple[list[int], list[int]]:
    """Return the donor ids and the source ids of the surfaces that both vocabularies have.

    Source ids whose rows nothing trained are left out.
    """
    donor_ids, source_ids = [], []
    for surface, source_id in source.ids.items():
        if surface in donor.ids and source_id not in untrained:
            donor_ids.append(donor.ids[surface])
            source_ids.append(source_id)
    return donor_ids, source_ids


def matching_pursuit(wanted_AE: Tensor, shared_SE: Tensor, max_terms: int) -> tuple[Tensor, Tensor]:
    """Approximate each wanted row by a combination of at most `max_terms` shared rows.

    Returns the indices of the shared rows and their weights in float64, [A, K] each. Orthogonal
    matching pursuit (Pati et al. 1993): take the shared row most aligned with the residual, solve
    for all weights again, and repeat.
    """
    import torch

    terms = min(max_terms, len(shared_SE))
    block = max(1, BLOCK_SCORES // len(shared_SE))
    indices, weights = [], []
    for begin in range(0, len(wanted_AE), block):
        indices_AK, weights_AK = _pursue_block(wanted_AE[begin : begin + block], shared_SE, terms)
        indices.append(indices_AK)
        weights.append(weights_AK)
    return torch.cat(indices), torch.cat(weights)


def _pursue_block(wanted_AE: Tensor, shared_SE: Tensor, terms: int) -> tuple[Tensor, Tensor]:
    import torch

    directions_SE = torch.nn.functional.normalize(shared_SE, dim=1)
    count = len(wanted_AE)
    target_AE, residual_AE = wanted_AE.double(), wanted_AE
    taken_AS = torch.zeros((count, len(shared_SE)), dtype=torch.bool)
    indices_AK = torch.empty((count, 0), dtype=torch.long)
    weights_AK = torch.empty((count, 0), dtype=torch.float64)
    for _ in range(terms):
        # Rounding can leave a row that is already taken as the best again; -1 excludes it.
        scores_AS = (residual_AE @ directions_SE.T).abs_().masked_fill_(taken_AS, -1)
        best_A = scores_AS.argmax(dim=1)
        taken_AS[torch.arange(count), best_A] = True
        indices_AK = torch.cat([indices_AK, best_A[:, None]], dim=1)
        chosen_AKE = shared_SE[indices_AK].double()
        gram_AKK = chosen_AKE @ chosen_AKE.mT
        mean_A = gram_AKK.diagonal(dim1=1, dim2=2).mean(dim=1)
        gram_AKK += RIDGE * mean_A[:, None, None] * torch.eye(indices_AK.shape[1])
        weights_AK = torch.linalg.solve(gram_AKK, (chosen_AKE @ target_AE[:, :, None]))[:, :, 0]
        residual_AE = (target_AE - (weights_AK[:, None, :] @ chosen_AKE)[:, 0]).float()
    return indices_AK, weights_AK
