"""Resize the embeddings of a model: write a new model folder whose rows follow a splice.

The steps are: check that tokenizer and splice fit the model, compute one row for every added token,
rewrite the tensors that have a row for each id, link the files that do not change, update the
configuration, copy the tokenizer and the files that belong to a model, and check that the result
loads. Rows of the base that no method changes stay bit-identical.

Peak memory is under 2.5 times the embedding matrix plus 1 GB for models of every size, except with
the methods that run the model (`distilled`, `learned`: they hold it in float32).
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lingraft.checkpoint.config_files import COMPANIONS, write_configs
from lingraft.checkpoint.find_embeddings import EmbeddingNames, embedding_names
from lingraft.checkpoint.loadable import check_loadable
from lingraft.checkpoint.resize_checks import (
    check_fit,
    check_rows,
    check_tokenizer,
    untrained_row_warnings,
)
from lingraft.checkpoint.resized_tensors import (
    ROW_MULTIPLE,
    ResizePlan,
    resized_tensors,
    write_tensors,
)
from lingraft.checkpoint.row_layout import ResizedRows, lay_out
from lingraft.checkpoint.row_request import InitRequest, InitRows, RowMaker, Side
from lingraft.checkpoint.safetensors_files import Checkpoint
from lingraft.checkpoint.table_rows import TableRows, table_rows
from lingraft.checkpoint.weight_checks import finite_norms
from lingraft.corpus import Corpus
from lingraft.model_code import code_files
from lingraft.splice import Splice
from lingraft.store import copy_matching
from lingraft.tokenizer.file_names import TOKENIZER_FILES

# tokenizer_*.py is a tokenizer class in the folder.
FILES_OF_TOKENIZER = (*TOKENIZER_FILES, "tokenizer_*.py")
BIT_IDENTICAL = "bit-identical"


def resize_embeddings(
    source_folder: Path,
    tokenizer_folder: Path,
    splice: Splice,
    *,
    input_init: RowMaker,
    output_init: RowMaker,
    output: Path,
    corpus: Corpus | None = None,
    seed: int = 0,
    pad_to: int = ROW_MULTIPLE,
    device: str = "cpu",
    scratch_dir: Path | None = None,
) -> dict[str, Any]:
    """Write the source model with resized embeddings to `output`; return notes for the manifest.

    Where input and output are tied, `input_init` makes the rows. The number of rows is rounded up
    to a multiple of `pad_to`. Slow methods keep their progress in `scratch_dir`, which must be used
    for this model, tokenizer and corpus alone. Raises `ModelError` where the tokenizer does not fit
    the model, or a row holds NaN or inf.
    """
    checkpoint = Checkpoint.open(source_folder)
    names = embedding_names(checkpoint)
    check_fit(names, splice, source_folder)
    check_tokenizer(splice, source_folder, tokenizer_folder)
    request = InitRequest(
        matrix=checkpoint.tensor(names.input[0])[: splice.source_size],
        splice=splice,
        side="input",
        tied=names.tied,
        source_folder=source_folder,
        tokenizer_folder=tokenizer_folder,
        corpus=corpus,
        seed=seed,
        device=device,
        scratch_dir=scratch_dir,
    )
    inits: dict[Side, RowMaker] = {"input": input_init, "output": output_init}
    made = compute_rows(checkpoint, names, inits, request, pad_to)
    plan = made.plan
    linked = write_tensors(plan, made.tensors, output)
    _write_other_files(plan, source_folder, tokenizer_folder, output)
    parameters = {
        "parameters": Checkpoint.open(output).parameters,
        "parameters_before": plan.checkpoint.parameters,
    }
    return {**size_notes(plan), **parameters, "files_linked": linked, **made.notes}


@dataclass(frozen=True)
class ComputedRows:
    """What a resize will write: the plan, the rows of each side, all tensors, and notes."""

    plan: ResizePlan
    init_rows: Mapping[str, InitRows]
    tensors: Mapping[str, ResizedRows]
    notes: dict[str, Any]


def compute_rows(
    checkpoint: Checkpoint,
    names: EmbeddingNames,
    inits: Mapping[Side, RowMaker],
    request: InitRequest,
    pad_to: int,
    *,
    knows_tokenizer: bool = True,
) -> ComputedRows:
    """Compute the rows of a resize, for a model in files or in memory.

    Tied matrices are one tensor, which the input side makes. Raises `ModelError` where a row holds
    NaN or inf.
    """
    splice = request.splice
    # Before any row is computed: NaN in one source row would spread into all rows averaged from it.
    norms = {name: finite_norms(checkpoint, name) for name in names.all}
    plan = ResizePlan(checkpoint, names, splice, lay_out(splice, names.vocabulary, pad_to))
    used: dict[Side, RowMaker] = {"input": inits["input"]}
    if not names.tied:
        used["output"] = inits["output"]
    init_rows = _compute_init_rows(plan, used, request)
    tables = table_rows(checkpoint, names, splice, init_rows)
    notes = _row_notes(used, init_rows, splice)
    tokenizer = request.source_tokenizer if knows_tokenizer else None
    notes["warnings"] = untrained_row_warnings(plan, init_rows, norms, tokenizer)
    tensors = resized_tensors(plan, init_rows, tables)
    return ComputedRows(plan, init_rows, tensors, {**notes, **_table_notes(tables)})


def _compute_init_rows(
    plan: ResizePlan, inits: Mapping[Side, RowMaker], request: InitRequest
) -> dict[str, InitRows]:
    """Compute the added rows of each side that has a matrix of its own."""
    matrices = {"input": plan.names.input, "output": plan.names.output}
    init_rows: dict[str, InitRows] = {}
    for side, init in inits.items():
        other_side = next((other for other in inits if other != side), None)
        side_request = replace(
            request,
            matrix=plan.source_rows(matrices[side][0]),
            side=side,
            other_init=inits[other_side] if other_side else None,
            other=plan.source_rows(matrices[other_side][0]) if other_side else None,
        )
        init_rows[side] = check_rows(init.rows(side_request), side_request)
    return init_rows


def _write_other_files(
    plan: ResizePlan, source_folder: Path, tokenizer_folder: Path, output: Path
) -> None:
    """Write all files except the weights, and check that the folder loads."""
    write_configs(plan.checkpoint.folder, output, plan.splice, plan.layout)
    copy_matching(source_folder, output, COMPANIONS)
    copy_matching(tokenizer_folder, output, FILES_OF_TOKENIZER)
    for file in code_files(source_folder):
        shutil.copyfile(file, output / file.name)
    check_loadable(output, plan.names)


def size_notes(plan: ResizePlan) -> dict[str, Any]:
    """Return what the manifest records of the architecture and of the number of rows."""
    names, splice = plan.names, plan.splice
    return {
        "architecture": names.architecture,
        "loads_with": names.loads_with,
        "tied": names.tied,
        "rows": plan.layout.rows,
        "rows_before": names.rows,
        "padding_rows": plan.layout.rows - splice.target_size,
        "kept": len(splice.kept),
        "added": len(splice.new),
        "reinitialised": len(splice.reinitialised),
        "dropped": len(splice.dropped),
    }


def _row_notes(
    inits: Mapping[Side, RowMaker], init_rows: Mapping[str, InitRows], splice: Splice
) -> dict[str, Any]:
    """Return what the manifest records of the base's rows, of the methods and of their rows."""
    methods: dict[str, dict[str, Any]] = {}
    for side, init in inits.items():
        rows = init_rows[side]
        methods[side] = {"method": init.chosen(), "origins": rows.origin_counts, **rows.notes}
    if "output" not in inits:
        methods["output"] = {"method": "tied to input"}
    return {"base_rows": _describe_base_rows(init_rows, splice), "inits": methods}


def _table_notes(tables: Mapping[str, TableRows]) -> dict[str, Any]:
    """Return how the rows of other tables were made; most architectures have no other table."""
    return {"tables": {name: rows.how for name, rows in tables.items()}} if tables else {}


def _describe_base_rows(init_rows: Mapping[str, InitRows], splice: Splice) -> str:
    """Return, for the notes, whether the rows of the source's ids are unchanged."""
    changed = [side for side, rows in init_rows.items() if rows.base is not None]
    state = f"changed by their method: {' and '.join(changed)}" if changed else BIT_IDENTICAL
    reinitialised = len(splice.reinitialised)
    if not reinitialised:
        return state
    return (
        f"{state}, but for {reinitialised:,} reinitialised (unreachable with the base's "
        f"pre-tokenizer)"
    )
