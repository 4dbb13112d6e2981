"""Rows as linear combinations of shared tokens' rows, with weights found in a donor model.

The donor is another model, whose vocabulary has the added tokens. In its matrix, the row of an
added token is approximated by a combination of a few rows of tokens that both models have
(orthogonal matching pursuit). The new row is the same combination of the source's rows of those
tokens, so the two models need not share width or training. Suffixes: A added tokens, S shared
tokens, E width of the donor, D width of the source, K terms of a combination.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from lingraft.checkpoint.find_embeddings import embedding_names
from lingraft.checkpoint.safetensors_files import Checkpoint
from lingraft.embeddings.base import INITS, EmbeddingInit, InitRequest, InitRows, Side, digest_file
from lingraft.embeddings.subtoken_mean import SubtokenMean
from lingraft.errors import ModelError
from lingraft.splice import Vocabulary
from lingraft.store import expanded
from lingraft.tokenizer import open_tokenizer
from lingraft.tokenizer.load_tokenizer import tokenizer_file

if TYPE_CHECKING:
    from torch import Tensor


@INITS.register
class Donor(EmbeddingInit):
    """Combinations of source rows, with the weights that give the token's row in a donor model."""

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
        folder = expanded(self.model)
        files = [tokenizer_file(folder), *sorted(folder.glob("*.safetensors"))]
        digests = {file.name: digest_file(file) for file in files}
        # `terms` is the stored key of `max_terms`: another key would rebuild every cached stage.
        return {self.name: {"terms": self.max_terms, "model": digests}}

    def rows(self, request: InitRequest) -> InitRows:
        """Combine source rows; an added token that the donor lacks gets its subtoken mean."""
        from lingraft.embeddings.matching_pursuit import combine_rows, matching_pursuit

        folder = expanded(self.model)
        donor = open_tokenizer(folder).vocabulary
        donor_VE = _read_matrix(folder, request.side, len(donor))
        tokens = request.splice.added
        # A row of zeros was never trained: it has no direction, so it says nothing of its token.
        donor_ids = _without_zero_rows(donor.ids, donor_VE)
        donor_shared, source_shared = _shared_ids(
            donor_ids, request.source_tokenizer.vocabulary, request.splice.untrained
        )
        origins = ["fallback: the donor has no such token, subtoken mean"] * len(tokens)
        known, donor_added = [], []
        for number, token in enumerate(tokens):
            if token.surface in donor_ids:
                known.append(number)
                donor_added.append(donor_ids[token.surface])
            elif token.surface in donor.ids:
                origins[number] = "fallback: the donor's row is zero, subtoken mean"
        rows_AD = SubtokenMean().rows(request).rows
        notes = {"donor": folder.name, "shared_tokens": len(donor_shared)}
        if not known or not donor_shared:
            return InitRows(rows_AD, tuple(origins), notes)
        terms_AK, weights_AK = matching_pursuit(
            donor_VE[donor_added].float(), donor_VE[donor_shared].float(), self.max_terms
        )
        rows_AD[known] = combine_rows(request.matrix, source_shared, terms_AK, weights_AK)
        for number in known:
            origins[number] = "donor's combination of shared tokens"
        return InitRows(rows_AD, tuple(origins), notes)


def _read_matrix(folder: Path, side: Side, ids: int) -> Tensor:
    """Return the donor's matrix of a side; raises `ModelError` if it has fewer rows than ids."""
    checkpoint = Checkpoint.open(folder)
    names = embedding_names(checkpoint)
    if ids > names.rows:
        msg = (
            f"{folder}: the donor's tokenizer has {ids:,} ids, but its model has "
            f"{names.rows:,} rows; put the tokenizer that belongs to the model into the folder"
        )
        raise ModelError(msg)
    return checkpoint.tensor(names.matrix(side))


def _without_zero_rows(ids: Mapping[bytes, int], matrix_VE: Tensor) -> dict[bytes, int]:
    """Return the ids by surface without those whose row is all zeros."""
    zero_rows = set((~matrix_VE.any(dim=1)).nonzero()[:, 0].tolist())
    return {surface: token_id for surface, token_id in ids.items() if token_id not in zero_rows}


def _shared_ids(
    donor_ids_of: Mapping[bytes, int], source: Vocabulary, untrained: frozenset[int]
) -> tuple[list[int], list[int]]:
    """Return the donor ids and the source ids of the surfaces that both have.

    Source ids whose rows were never trained are left out.
    """
    donor_ids, source_ids = [], []
    for surface, source_id in source.ids.items():
        if surface in donor_ids_of and source_id not in untrained:
            donor_ids.append(donor_ids_of[surface])
            source_ids.append(source_id)
    return donor_ids, source_ids
