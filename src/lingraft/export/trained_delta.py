"""Read what a run trained as low-rank matrices and embedding rows.

A run can be exported as an adapter of its base under three conditions:

- its layers changed only by low-rank matrices (strategy `lora`), which the run stored,
- each id of the base still means the same token,
- the output head has no bias.

Anything else is an error. Embedding rows that the base does not have, or that differ from those of
the base, are stored in full, and so are those of a table for all layers (Gemma 3n and 4).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from lingraft.checkpoint import Checkpoint, embedding_names
from lingraft.checkpoint.embedding_resize import BIT_IDENTICAL
from lingraft.checkpoint.find_embeddings import EmbeddingNames
from lingraft.checkpoint.load_model import meta_model
from lingraft.checkpoint.model_class import read_model_config
from lingraft.checkpoint.stored_names import stored_names
from lingraft.errors import ModelError
from lingraft.model_card.markdown import stage_notes
from lingraft.pipeline.export_limits import WHOLE_MODEL, why_no_adapter
from lingraft.pipeline.run_folder import read_record
from lingraft.splice import Splice
from lingraft.training.save_model import LOW_RANK


@dataclass(frozen=True)
class TrainedDelta:
    """Low-rank matrices (A, B) by layer name, and embedding rows by id.

    A is rank x inputs, B is outputs x rank, and the change of a layer is B A. `rows` is the number
    of embedding rows of the model, `ids` are those of the stored rows. `output` is `None` if input
    and output share one matrix. `tables` has the rows of further embeddings by module name.
    """

    layers: Mapping[str, tuple[Tensor, Tensor]]
    rows: int
    ids: Sequence[int]
    input: Tensor
    output: Tensor | None
    tables: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def rank(self) -> int:
        """The rank of the matrices, which all layers share; 0 without matrices."""
        return next((a.shape[0] for a, _ in self.layers.values()), 0)


def read_trained_delta(run: Path, splice: Splice) -> TrainedDelta:
    """Return what a finished run trained.

    Raises `ModelError` with the reason if an adapter cannot represent it.
    """
    record = read_record(run)
    if "received" in record:
        msg = f"{run}: another engine trained it, so what it trained is not known; {WHOLE_MODEL}"
        raise ModelError(msg)
    if reason := why_no_adapter(record["recipe"]):
        msg = f"{run}: {reason}"
        raise ModelError(msg)
    phases = record["recipe"]["training"]["phases"]
    strategies = [next(iter(phase["strategy"])) for phase in phases]
    for target_id, source_id in splice.kept.items():
        if target_id != source_id:
            msg = (
                f"{run}: the vocabulary was renumbered (id {target_id} was {source_id} in the "
                "base), so the special ids in the base's configuration would be wrong; "
                f"{WHOLE_MODEL}"
            )
            raise ModelError(msg)
    checkpoint = Checkpoint.open(run / "model")
    names = embedding_names(checkpoint)
    if names.output_bias is not None:
        msg = (
            f"{run}: the output head has a bias for each id ({names.output_bias}), which a PEFT "
            f"adapter takes from the base; {WHOLE_MODEL}"
        )
        raise ModelError(msg)
    # The rows of the base are part of the adapter if the initialisation or the training changed
    # them; otherwise only rows that the base lacks.
    base_rows = str(stage_notes(record, "embeddings").get("base_rows"))
    all_rows = "embeddings" in strategies or not base_rows.startswith(BIT_IDENTICAL)
    ids: Sequence[int] = range(names.rows) if all_rows else _new_rows(splice, names.rows)
    tables: dict[str, Tensor] = {}
    if all_rows or splice.added:
        tables = _further_tables(run, checkpoint, names)
    for table in tables.values():
        ids = _with_lacking_rows(ids, table, splice.source_size)
    input_rows = checkpoint.tensor(names.input[0])[list(ids)]
    output_rows = None
    if names.output and not names.tied:
        output_rows = checkpoint.tensor(names.output[0])[list(ids)]
    # Merging back moves the weights this share of the way to the base, and so scales the change.
    # In earlier versions, this was a part of training.
    notes = stage_notes(record, "merge-back") or stage_notes(record, "training").get("merge_back")
    merged_back = float((notes or {}).get("share", 0.0))
    layers = _sum_phases(list(_read_matrices(run, strategies)), 1 - merged_back)
    table_rows = {name: table[list(ids)] for name, table in tables.items()}
    return TrainedDelta(layers, names.rows, ids, input_rows, output_rows, table_rows)


def _further_tables(run: Path, checkpoint: Checkpoint, names: EmbeddingNames) -> dict[str, Tensor]:
    """Return the embeddings for all layers that the model has besides the first, by module name.

    Raises `ModelError` for a table of another kind: a resized base would lack its rows.
    """
    if not names.tables:
        return {}
    model = meta_model(read_model_config(checkpoint.folder), checkpoint.folder)
    # `resize_token_embeddings` adds rows to this one, too.
    per_layer = getattr(model, "get_per_layer_input_embeddings", lambda: None)()
    modules = {f"{name}.weight": name for name, part in model.named_modules() if part is per_layer}
    stored = stored_names(model, checkpoint.tensors)
    tables = {}
    for table in names.tables:
        # transformers, and so PEFT, knows nothing of tables that it does not load.
        for parameter in [name for name, files in stored.items() if table.name in files]:
            if parameter not in modules:
                msg = (
                    f"{run}: {table.name} has a row for each id, and resize_token_embeddings adds "
                    f"none to it, so that a resized base lacks them; {WHOLE_MODEL}"
                )
                raise ModelError(msg)
            tables[modules[parameter]] = checkpoint.tensor(table.name)
    return tables


def _with_lacking_rows(ids: Sequence[int], table: Tensor, source_size: int) -> Sequence[int]:
    """Add the ids of the base that a shorter table of the base has no rows for.

    Such an id reads row 0 in the base, and a copy of it in the run, while new rows of a resized
    base are random.
    """
    end = first = min(source_size, len(table))
    while first > 1 and torch.equal(table[first - 1], table[0]):
        first -= 1
    return sorted({*ids, *range(first, end)})


def _new_rows(splice: Splice, rows: int) -> list[int]:
    """Return the ids of added and reinitialised tokens, and of rows after the ids of the base."""
    return sorted({*(token.id for token in splice.added), *range(splice.source_size, rows)})


def _read_matrices(run: Path, strategies: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    for number, strategy in enumerate(strategies):
        if strategy != "lora":
            continue
        path = run / LOW_RANK.format(number)
        if not path.is_file():
            msg = (
                f"{path}: no such file; older versions of lingraft did not store the low-rank "
                "matrices: train again in another --store"
            )
            raise ModelError(msg)
        matrices = load_file(path)
        for name in matrices:
            if name.endswith(".expert_A"):
                msg = (
                    f"{path}: {name.removesuffix('.expert_A')} has experts, whose matrices cannot "
                    f"be exported as an adapter; {WHOLE_MODEL}"
                )
                raise ModelError(msg)
        yield matrices


def _sum_phases(
    phases: Sequence[Mapping[str, Tensor]], share: float
) -> dict[str, tuple[Tensor, Tensor]]:
    """Concatenate the matrices of all phases: the product is the sum of their products."""
    parts: dict[str, list[tuple[Tensor, Tensor]]] = {}
    for phase in phases:
        for key, matrix in phase.items():
            if key.endswith(".lora_A"):
                name = key.removesuffix(".lora_A")
                parts.setdefault(name, []).append((matrix, phase[f"{name}.lora_B"]))
    summed = {}
    for name, pairs in parts.items():
        a = torch.cat([a for a, _ in pairs])
        b = torch.cat([b for _, b in pairs], dim=1)
        summed[name] = a, b
    # A PEFT configuration has one rank, so the matrices of all layers are padded to the largest.
    rank = max((a.shape[0] for a, _ in summed.values()), default=0)
    for name, (a, b) in summed.items():
        padded_b = _pad_rows(b.T, rank).T.contiguous() * share
        summed[name] = _pad_rows(a, rank), padded_b
    return summed


def _pad_rows(matrix: Tensor, size: int) -> Tensor:
    """Append zeros to the first dimension up to a size."""
    padded = matrix.new_zeros(size, matrix.shape[1])
    padded[: matrix.shape[0]] = matrix
    return padded
