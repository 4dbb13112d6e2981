"""What an instruct model learned beyond its base, added to the base adapted to a language.

result = adapted + weight * (instruct - base), in float32, for every tensor, and for the embedding rows of the base's
own tokens; added rows stay as they are. Rows of the instruct model's special tokens, which the base hardly knows, are
taken over as they are. (Chat vector: Huang et al. 2024, arXiv 2310.04799.) Memory holds one tensor at a time.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from lingraft.checkpoint.find_embeddings import EmbeddingNames, embedding_names
from lingraft.checkpoint.rewrite import NewTensor, rewrite
from lingraft.checkpoint.safetensors_files import Checkpoint, blocks
from lingraft.checkpoint.weight_checks import check_finite_tensor
from lingraft.errors import ModelError
from lingraft.splice import Splice
from lingraft.tokenizer import open_tokenizer

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class _Models:
    """The three models, which of their tensors have a row for each token, and how the rows correspond."""

    adapted: Checkpoint
    base: Checkpoint
    instruct: Checkpoint
    embeddings: Mapping[str, tuple[str, str]]
    splice: Splice
    special: frozenset[int]
    weight: float

    def beside(self, name: str) -> tuple[Tensor, Tensor]:
        """Return the tensors of base and instruct model that belong to one of the adapted model."""
        of_base, of_instruct = self.embeddings.get(name, (name, name))
        return self.base.tensor(of_base), self.instruct.tensor(of_instruct)

    def added_up(self, name: str) -> Tensor:
        """Return a tensor of the result, in the dtype of the adapted model."""
        import torch

        result = self.adapted.tensor(name).clone()
        base, instruct = self.beside(name)
        if name not in self.embeddings:
            flat = (tensor.reshape(-1) for tensor in (result, base, instruct))
            for into, before, after in zip(
                *(blocks(tensor, 2**24) for tensor in flat), strict=True
            ):
                into.copy_(into.float() + self.weight * (after.float() - before.float()))
            return result
        for rows in blocks(torch.tensor(sorted(self.splice.kept.items()))):
            targets, sources = rows.unbind(1)
            moved = result[targets].float() + self.weight * (
                instruct[sources].float() - base[sources].float()
            )
            result[targets] = moved.to(result.dtype)
        for target, source in self.splice.kept.items():
            if source in self.special:
                result[target] = instruct[source].to(result.dtype)
        return result


class _Bytes(Sequence[memoryview]):
    """The bytes of a tensor of the result, computed when they are asked for: once for their size, once to write."""

    def __init__(self, models: _Models, name: str) -> None:
        self.models, self.name = models, name

    def __len__(self) -> int:
        return 1

    @overload
    def __getitem__(self, index: int) -> memoryview: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[memoryview]: ...
    def __getitem__(self, index: int | slice) -> memoryview | Sequence[memoryview]:
        if isinstance(index, slice) or index not in {0, -1}:
            raise IndexError(index)
        import torch

        made = self.models.added_up(self.name).contiguous()
        check_finite_tensor(
            made,
            f"{self.models.instruct.folder}: the sum of its {self.name} with the adapted model's",
            advice="a weight of it is damaged, or chat_vector.weight is too high",
        )
        return memoryview(made.reshape(-1).view(torch.uint8).numpy().data)


def add_chat_vector(
    adapted: Path, base: Path, instruct: Path, splice: Splice, *, weight: float, output: Path
) -> dict[str, Any]:
    """Write to `output` the adapted model with weight * (instruct - base) added; return notes for the manifest.

    `splice` relates the tokenizer of `base` to that of `adapted`. The chat template and the ids that end a turn are the
    instruct model's. Raises `ModelError` where the instruct model is not one of this base: other tensors, other
    shapes, or other tokens.
    """
    special = _special(base, instruct)
    ours, before, after = (Checkpoint.open(folder) for folder in (adapted, base, instruct))
    models = _Models(
        ours, before, after, _embeddings(ours, before, after), splice, frozenset(special), weight
    )
    _check(models)
    output.mkdir(parents=True, exist_ok=True)
    for file in adapted.iterdir():
        if file.is_file() and file.suffix != ".safetensors":
            shutil.copyfile(file, output / file.name)
    for path in models.adapted.files:
        rewrite(
            path,
            output / path.name,
            {
                name: NewTensor(place.shape, _Bytes(models, name))
                for name, place in models.adapted.tensors.items()
                if place.file == path
            },
        )
    _take_over_chat(instruct, output, splice)
    return {
        "weight": weight,
        "tensors": len(models.adapted.tensors),
        "kept rows": len(splice.kept),
        "added rows left": len(splice.added),
        "special tokens copied": [special[one] for one in sorted(special)],
        "reference": "Huang et al. 2024, arXiv 2310.04799",
    }


def _special(base: Path, instruct: Path) -> dict[int, str]:
    """Return the instruct model's special tokens by their id in the base; all of its tokens must be the base's."""
    ours, theirs = (open_tokenizer(folder).vocabulary for folder in (base, instruct))
    strange = [
        f"{text!r}" for number, text in theirs.special.items() if number >= len(ours.surfaces)
    ]
    if strange:
        msg = (
            f"{instruct}: has special tokens that the base {base} lacks ({', '.join(strange[:4])}); a chat vector "
            f"needs both with the same ids: start from a base that has them"
        )
        raise ModelError(msg)
    differing = [
        number
        for number, (one, other) in enumerate(zip(ours.surfaces, theirs.surfaces, strict=False))
        if one != other and number not in theirs.special
    ]
    if differing or len(ours.surfaces) != len(theirs.surfaces):
        msg = (
            f"{instruct}: its tokens are not those of the base {base} ({len(theirs.surfaces):,} and "
            f"{len(ours.surfaces):,} ids, {len(differing):,} differ); name the instruct model of this very base"
        )
        raise ModelError(msg)
    return dict(theirs.special)


def _embeddings(
    adapted: Checkpoint, base: Checkpoint, instruct: Checkpoint
) -> dict[str, tuple[str, str]]:
    """Return for each tensor of the adapted model with a row for each token its names in the other two."""
    three: list[EmbeddingNames] = [
        embedding_names(checkpoint) for checkpoint in (adapted, base, instruct)
    ]
    if len({names.tied for names in three}) > 1:
        msg = f"{instruct.folder}: ties its embeddings where {base.folder} does not, or the other way round"
        raise ModelError(msg)
    first, of_base, of_instruct = three
    found = dict.fromkeys(first.input, (of_base.input[0], of_instruct.input[0]))
    if first.output:
        found |= dict.fromkeys(first.output, (of_base.output[0], of_instruct.output[0]))
    if first.output_bias and of_base.output_bias and of_instruct.output_bias:
        found[first.output_bias] = (of_base.output_bias, of_instruct.output_bias)
    return found


def _check(models: _Models) -> None:
    """Raise `ModelError` where a tensor is missing in a model, or has another shape."""
    for name, place in models.adapted.tensors.items():
        for checkpoint, other in zip(
            (models.base, models.instruct), models.embeddings.get(name, (name, name)), strict=True
        ):
            found = checkpoint.tensors.get(other)
            if found is None:
                msg = f"{checkpoint.folder}: has no tensor {other}; a chat vector needs models of one architecture"
                raise ModelError(msg)
            wanted = place.shape[1:] if name in models.embeddings else place.shape
            shape = found.shape[1:] if name in models.embeddings else found.shape
            if shape != wanted or found.shape[0] < (
                models.splice.source_size if name in models.embeddings else 0
            ):
                msg = (
                    f"{checkpoint.folder}: {other} has the shape {found.shape}, the adapted model's {place.shape}; "
                    f"a chat vector needs an instruct model of this very base"
                )
                raise ModelError(msg)


def _take_over_chat(instruct: Path, output: Path, splice: Splice) -> None:
    """Give the result the chat template of the instruct model and the ids that end a turn there."""
    names = ("tokenizer_config.json", "generation_config.json")
    theirs, ours = ({name: _json(folder / name) for name in names} for folder in (instruct, output))
    if (instruct / "chat_template.jinja").is_file():
        shutil.copyfile(instruct / "chat_template.jinja", output / "chat_template.jinja")
    for key in ("chat_template", "eos_token"):
        if key in theirs[names[0]]:
            ours[names[0]][key] = theirs[names[0]][key]
    ends = theirs[names[1]].get("eos_token_id")
    if ends is not None:
        target = {source: number for number, source in splice.corresponding.items()}
        ours[names[1]]["eos_token_id"] = [
            target[one] for one in (ends if isinstance(ends, list) else [ends]) if one in target
        ]
    for name, content in ours.items():
        if content:
            (output / name).write_text(
                json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8"
            )


def _json(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found
