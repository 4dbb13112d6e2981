"""Chat vector: add what an instruct model learned beyond its base to the adapted base.

    result = adapted + weight * (instruct - base)

The sum is computed in float32, for every tensor and for the embedding rows of the base's own
tokens. Added rows do not change. Rows of the instruct model's special tokens are copied, because
the base was hardly trained with these tokens. Memory holds one tensor at a time.

Source: Huang et al. 2024, arXiv 2310.04799.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lingraft.checkpoint.chat_settings import copy_chat_settings, rename_special
from lingraft.checkpoint.find_embeddings import embedding_names
from lingraft.checkpoint.rewrite import NewTensor, bytes_of, rewrite
from lingraft.checkpoint.safetensors_files import Checkpoint, TensorPlace, blocks
from lingraft.checkpoint.weight_checks import check_finite_tensor
from lingraft.errors import ModelError
from lingraft.splice import Splice
from lingraft.store import copy_matching
from lingraft.tokenizer import open_tokenizer
from lingraft.tokenizer.file_names import CHAT_TEMPLATE_FILES

if TYPE_CHECKING:
    from torch import Tensor

# Numbers of a tensor that are added at a time: 2^24 in float32 are 64 MB for each of three models.
BLOCK = 2**24


@dataclass(frozen=True)
class _ChatVectorSum:
    """Computes tensors of the result, from three models and the correspondence of their rows.

    `embeddings` maps the name of such a tensor in the adapted model to its names in base and
    instruct model. `special` are the ids, in the base, of the instruct model's special tokens.
    """

    adapted: Checkpoint
    base: Checkpoint
    instruct: Checkpoint
    embeddings: Mapping[str, tuple[str, str]]
    splice: Splice
    special: frozenset[int]
    weight: float

    def compute(self, name: str) -> Tensor:
        """Return a tensor of the result, in the dtype of the adapted model."""
        result = self.adapted.tensor(name).clone()
        base_name, instruct_name = self.embeddings.get(name, (name, name))
        base, instruct = self.base.tensor(base_name), self.instruct.tensor(instruct_name)
        if name in self.embeddings:
            self._add_to_rows(result, base, instruct)
            return result
        parts = (blocks(tensor.reshape(-1), BLOCK) for tensor in (result, base, instruct))
        for result_part, base_part, instruct_part in zip(*parts, strict=True):
            difference = instruct_part.float() - base_part.float()
            result_part.copy_(result_part.float() + self.weight * difference)
        return result

    def _add_to_rows(self, result: Tensor, base: Tensor, instruct: Tensor) -> None:
        """Add the difference to the kept rows; copy those of the instruct model's special tokens.

        Added rows stay, because neither base nor instruct model has them.
        """
        for pairs in blocks(torch.tensor(sorted(self.splice.kept.items()))):
            targets, sources = pairs.unbind(1)
            difference = instruct[sources].float() - base[sources].float()
            rows = result[targets].float() + self.weight * difference
            result[targets] = rows.to(result.dtype)
        for target, source in self.splice.kept.items():
            if source in self.special:
                result[target] = instruct[source].to(result.dtype)


def _bytes(models: _ChatVectorSum, name: str) -> Iterator[memoryview]:
    """Yield the bytes of a tensor of the result, computed when they are written."""
    tensor = models.compute(name)
    check_finite_tensor(
        tensor,
        f"{models.instruct.folder}: the sum of its {name} with the adapted model's",
        advice="one of its weights is damaged, or chat_vector.weight is too high",
    )
    yield bytes_of(tensor)


def add_chat_vector(
    adapted: Path, base: Path, instruct: Path, splice: Splice, *, weight: float, output: Path
) -> dict[str, Any]:
    """Write the adapted model with weight * (instruct - base) added to `output`; return notes.

    `splice` relates the tokenizer of `base` to that of `adapted`. The result gets the chat template
    of the instruct model, the names of its special tokens and the ids that end a turn there. Raises
    `ModelError` where the instruct model was not trained from this base: other tensors, other
    shapes, or other tokens.
    """
    special, renamed = _special_tokens(base, instruct)
    ours, before, after = map(Checkpoint.open, (adapted, base, instruct))
    embeddings = _matching_embeddings(ours, before, after)
    models = _ChatVectorSum(ours, before, after, embeddings, splice, frozenset(special), weight)
    _check_shapes(models)
    output.mkdir(parents=True, exist_ok=True)
    # Configuration, tokenizer and code are those of the adapted model.
    for file in adapted.iterdir():
        if file.is_file() and file.suffix != ".safetensors":
            shutil.copyfile(file, output / file.name)
    copy_matching(adapted, output, CHAT_TEMPLATE_FILES)
    changed: dict[Path, dict[str, NewTensor]] = {}
    for name, place in models.adapted.tensors.items():
        tensor = NewTensor(place.shape, _bytes(models, name))
        changed.setdefault(place.file, {})[name] = tensor
    for path, tensors in changed.items():
        rewrite(path, output / path.name, tensors)
    targets = {source: target for target, source in splice.corresponding.items()}
    rename_special(output, {targets[i]: text for i, text in renamed.items() if i in targets})
    copy_chat_settings(instruct, output, targets)
    return {
        "weight": weight,
        "tensors": len(models.adapted.tensors),
        "kept rows": len(splice.kept),
        "added rows left": len(splice.added),
        "special tokens copied": [special[number] for number in sorted(special)],
        "reference": "Huang et al. 2024, arXiv 2310.04799",
    }


def _special_tokens(base: Path, instruct: Path) -> tuple[dict[int, str], dict[int, str]]:
    """Return the instruct model's special tokens by id, and those that the base calls otherwise.

    Raises `ModelError` where any other token differs from the base's, or where the base has no id
    for a special token.
    """
    base_vocabulary = open_tokenizer(base).vocabulary
    vocabulary = open_tokenizer(instruct).vocabulary
    size, base_size = len(vocabulary.surfaces), len(base_vocabulary.surfaces)
    unknown: list[str] = []
    for number, text in vocabulary.special.items():
        if number >= base_size:
            unknown.append(repr(text))
    if unknown:
        msg = (
            f"{instruct}: has special tokens that the base {base} lacks "
            f"({', '.join(unknown[:4])}); a chat vector needs both with the same ids: start from a "
            f"base that has them"
        )
        raise ModelError(msg)
    differing = 0
    pairs = zip(base_vocabulary.surfaces, vocabulary.surfaces, strict=False)
    for number, (base_surface, surface) in enumerate(pairs):
        # A base often has reserved ids that its instruct model renames to special tokens.
        differing += base_surface != surface and number not in vocabulary.special
    if differing or base_size != size:
        msg = (
            f"{instruct}: its tokens differ from those of the base {base} ({size:,} and "
            f"{base_size:,} ids, {differing:,} differ); name the instruct model that was trained "
            f"from this base"
        )
        raise ModelError(msg)
    special = dict(vocabulary.special)
    named = base_vocabulary.special
    return special, {i: text for i, text in special.items() if named.get(i) != text}


def _matching_embeddings(
    adapted: Checkpoint, base: Checkpoint, instruct: Checkpoint
) -> dict[str, tuple[str, str]]:
    """Return, for each embedding tensor of the adapted model, its names in base and instruct."""
    names, base_names, instruct_names = map(embedding_names, (adapted, base, instruct))
    if not names.tied == base_names.tied == instruct_names.tied:
        msg = (
            f"{instruct.folder}: input and output embeddings are tied in it and not in "
            f"{base.folder}, or the other way round; name the instruct model of this base"
        )
        raise ModelError(msg)
    matching = dict.fromkeys(names.input, (base_names.input[0], instruct_names.input[0]))
    if names.output:
        matching |= dict.fromkeys(names.output, (base_names.output[0], instruct_names.output[0]))
    if names.output_bias and base_names.output_bias and instruct_names.output_bias:
        matching[names.output_bias] = (base_names.output_bias, instruct_names.output_bias)
    return matching


def _check_shapes(models: _ChatVectorSum) -> None:
    """Raise `ModelError` where a model lacks a tensor or has it in another shape."""
    for name, place in models.adapted.tensors.items():
        base_name, instruct_name = models.embeddings.get(name, (name, name))
        min_rows = models.splice.source_size if name in models.embeddings else None
        _check_shape(models.base, base_name, place, min_rows)
        _check_shape(models.instruct, instruct_name, place, min_rows)


def _check_shape(
    checkpoint: Checkpoint, name: str, adapted: TensorPlace, min_rows: int | None
) -> None:
    """Compare the shape of a tensor with the adapted model's; `min_rows` is set for embeddings."""
    place = checkpoint.tensors.get(name)
    if place is None:
        msg = (
            f"{checkpoint.folder}: has no tensor {name}; a chat vector needs models of one "
            f"architecture"
        )
        raise ModelError(msg)
    if min_rows is None:
        fits = place.shape == adapted.shape
    else:
        fits = place.shape[1:] == adapted.shape[1:] and place.shape[0] >= min_rows
    if not fits:
        msg = (
            f"{checkpoint.folder}: {name} has the shape {place.shape}, the adapted model's "
            f"{adapted.shape}; a chat vector needs an instruct model trained from this base"
        )
        raise ModelError(msg)
