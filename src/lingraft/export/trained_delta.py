"""What a run trained, as low-rank matrices and embedding rows; anything else is refused.

A run is an adapter of its base where no weight of the body changed but by matrices that were kept
(strategy `lora`), no id of the base means another token, and the head has no bias. Rows that the
base does not have, or has otherwise, are stored as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lingraft.checkpoint import Checkpoint, embedding_names
from lingraft.checkpoint.embedding_resize import BIT_IDENTICAL
from lingraft.errors import ModelError
from lingraft.pipeline.run_folder import read_record
from lingraft.splice import Splice
from lingraft.training.checkpointing import LOW_RANK

if TYPE_CHECKING:
    from torch import Tensor

OTHERWISE = "hand on the whole model (RUN/model), or train with the strategy lora or rows"


@dataclass(frozen=True)
class TrainedDelta:
    """Low-rank matrices by layer name, and embedding rows by id.

    A is rank x inputs, B is outputs x rank, and the layer changes by B A.
    `output` is None where one matrix serves the input and the output.
    """

    maps: Mapping[str, tuple[Tensor, Tensor]]
    rows: int
    ids: Sequence[int]
    input: Tensor
    output: Tensor | None

    @property
    def rank(self) -> int:
        """The rank of the matrices, the same for each map; 0 where there are none."""
        return next((a.shape[0] for a, _ in self.maps.values()), 0)


def read_trained_delta(run: Path, splice: Splice) -> TrainedDelta:
    """Return what a finished run trained.

    Raises `ModelError` with the reason where an adapter cannot hold it.
    """
    record = read_record(run)
    phases = _strategies(record["recipe"])
    moved = next((target for target, source in splice.kept.items() if target != source), None)
    if record["recipe"].get("chat_vector"):
        msg = f"{run}: a chat vector was added to every weight, which no adapter holds; {OTHERWISE}"
        raise ModelError(msg)
    if moved is not None:
        msg = (
            f"{run}: the vocabulary was renumbered (id {moved} was {splice.kept[moved]} in the "
            f"base), so that "
            f"the special ids in the base's configuration would be wrong; "
            f"{OTHERWISE.partition(',')[0]}"
        )
        raise ModelError(msg)
    checkpoint = Checkpoint.open(run / "model")
    names = embedding_names(checkpoint)
    if names.output_bias is not None:
        msg = (
            f"{run}: the output head has a bias ({names.output_bias}) for each id, which a PEFT "
            f"adapter "
            f"leaves to the base; {OTHERWISE.partition(',')[0]}"
        )
        raise ModelError(msg)
    kept = str(_notes(record, "embeddings").get("base_rows")).startswith(BIT_IDENTICAL)
    whole = "embeddings" in phases or not kept
    ids = range(names.rows) if whole else _new_rows(splice, names.rows)
    sides = [
        checkpoint.tensor(group[0])[list(ids)]
        for group in (names.input, () if names.tied else names.output)
        if group
    ]
    maps = _summed(list(_matrices(run, phases)), 1 - _merged_back(record))
    return TrainedDelta(maps, names.rows, ids, sides[0], sides[1] if len(sides) > 1 else None)


def _strategies(recipe: Mapping[str, Any]) -> list[str]:
    names = [next(iter(phase["strategy"])) for phase in recipe["training"]["phases"]]
    for number, name in enumerate(names, start=1):
        if name not in {"lora", "rows", "embeddings"}:
            msg = (
                f"phase {number} of the training has the strategy {name}, which trains full "
                f"weights, "
                f"which a LoRA adapter cannot represent; {OTHERWISE}"
            )
            raise ModelError(msg)
    return names


def _new_rows(splice: Splice, rows: int) -> list[int]:
    """Return the ids of added and reinitialised tokens, and of rows beyond the base's ids."""
    return sorted({*(token.id for token in splice.added), *range(splice.source_size, rows)})


def _notes(record: Mapping[str, Any], stage: str) -> Mapping[str, Any]:
    found: Iterator[Mapping[str, Any]] = (
        one["notes"] for one in record["stages"] if one["name"] == stage
    )
    return next(found, {})


def _merged_back(record: Mapping[str, Any]) -> float:
    return float(_notes(record, "training").get("merge_back", {}).get("share", 0.0))


def _matrices(run: Path, phases: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    from safetensors.torch import load_file

    for number in (number for number, name in enumerate(phases) if name == "lora"):
        path = run / LOW_RANK.format(number)
        if not path.is_file():
            msg = (
                f"{path}: not there; the run was trained before low-rank matrices were kept beside "
                "the merged model; train it again in another --store"
            )
            raise ModelError(msg)
        found = load_file(path)
        if experts := next((name for name in found if name.endswith("expert_A")), None):
            msg = (
                f"{path}: {experts.removesuffix('.expert_A')} holds experts, whose matrices are "
                f"not "
                f"written as an adapter; {OTHERWISE.partition(',')[0]}"
            )
            raise ModelError(msg)
        yield found


def _summed(
    phases: Sequence[Mapping[str, Tensor]], share: float
) -> dict[str, tuple[Tensor, Tensor]]:
    """Concatenate the matrices of all phases: their product is the sum of the products."""
    import torch

    parts: dict[str, list[tuple[Tensor, Tensor]]] = {}
    for phase in phases:
        for name in (key.removesuffix(".lora_A") for key in phase if key.endswith(".lora_A")):
            parts.setdefault(name, []).append((phase[f"{name}.lora_A"], phase[f"{name}.lora_B"]))
    rank = max((sum(a.shape[0] for a, _ in pairs) for pairs in parts.values()), default=0)
    return {
        name: (
            _pad_rank(torch.cat([a for a, _ in pairs]), rank),
            _pad_rank(torch.cat([b for _, b in pairs], dim=1).T, rank).T.contiguous() * share,
        )
        for name, pairs in parts.items()
    }


def _pad_rank(matrix: Tensor, rank: int) -> Tensor:
    """Fill up with rows of zeros to the rank that all maps have."""
    import torch

    return torch.cat([matrix, matrix.new_zeros(rank - matrix.shape[0], matrix.shape[1])])
