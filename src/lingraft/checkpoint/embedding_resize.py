"""The surgery itself: from a source model, a tokenizer and the splice between them to a model folder.

Rows are laid out by `Layout`: kept rows are ranges of the source file, added rows come from the initialisations, and
rows beyond the vocabulary fill up to a multiple of `pad_to`. Nothing can be sampled from those: in a separate input
matrix they are zero, in the output matrix (and in a tied one) they are the mean of all source rows, whose logit is the
mean of the others and so never the highest, with a probability under 1/V each (Jensen); a head with a bias gets a
bias of -10,000 there instead; and generation_config.json suppresses their ids. A zero output row would have logit 0,
which is the highest whenever all others are negative.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lingraft.checkpoint.config_files import copy_companions, write_configs
from lingraft.checkpoint.find_embeddings import EmbeddingNames, embedding_names
from lingraft.checkpoint.loadable import check_loadable
from lingraft.checkpoint.rewrite import Layout, NewTensor, lay_out, rewrite, tensor_from
from lingraft.checkpoint.row_request import InitRequest, InitRows, RowMaker, Side
from lingraft.checkpoint.safetensors_files import INDEX, Checkpoint, blocks
from lingraft.checkpoint.table_rows import table_rows
from lingraft.checkpoint.weight_checks import finite_norms, row_warnings
from lingraft.corpus import Corpus
from lingraft.errors import ModelError, TokenizerError
from lingraft.model_code import code_files
from lingraft.splice import Splice
from lingraft.store import link_or_copy
from lingraft.tokenizer import ModelTokenizer, open_tokenizer
from lingraft.tokenizer.separators import separators_of

if TYPE_CHECKING:
    from torch import Tensor

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "spiece.model",
    "*.tiktoken",
    "chat_template.jinja",
    "tokenizer_*.py",
)
BIAS_OF_PADDING = -1e4
BIT_IDENTICAL = "bit-identical"


@dataclass(frozen=True)
class _EmbeddingResize:
    """What lies on the table: the checkpoint, its embedding tensors, and where each target row comes from."""

    checkpoint: Checkpoint
    names: EmbeddingNames
    splice: Splice
    layout: Layout

    def matrix(self, name: str) -> Tensor:
        return self.checkpoint.tensor(name)[: self.splice.source_size]

    def layout_of(self, name: str) -> Layout:
        """Return the layout of one tensor: it keeps what it has beyond, or lacks of, the vocabulary's rows."""
        rows = self.checkpoint.tensors[name].shape[0]
        if rows == self.names.vocabulary:
            return self.layout
        return lay_out(
            self.splice, rows, 1, self.layout.rows + max(0, rows - self.names.vocabulary)
        )


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
    pad_to: int = 64,
    device: str = "cpu",
    scratch_dir: Path | None = None,
) -> dict[str, Any]:
    """Write to `output` the source model with its embeddings spliced; return notes for the manifest.

    Where input and output are one matrix (tied), the rows of `input_init` serve both, and the notes say so. `pad_to` is
    the multiple that the number of rows is filled up to (1: no padding); an extension never has fewer rows than the
    source, whose own padding rows are used first. `scratch_dir` survives a killed process: long methods keep their
    progress there. Base rows are bit-identical but where a method changes them, which the notes name.

    Peak memory stays under 2.5 times the embedding matrix + 1 GB, whatever the size of the model, for methods that do
    not run the model (all but `distilled` and `learned`, which hold it in float32). Raises `ModelError` where the
    tokenizer does not fit the model, or rows hold NaN or inf. Rows that were never trained are named in the notes.
    """
    source_folder, tokenizer_folder = Path(source_folder), Path(tokenizer_folder)
    checkpoint = Checkpoint.open(source_folder)
    names = embedding_names(checkpoint)
    check_fit(names, splice, source_folder, tokenizer_folder)
    norms = {name: finite_norms(checkpoint, name) for name in names.all}
    patient = _EmbeddingResize(checkpoint, names, splice, lay_out(splice, names.vocabulary, pad_to))
    inits: dict[Side, RowMaker] = {
        "input": input_init,
        **({} if names.tied else {"output": output_init}),
    }
    about = InitRequest(
        patient.matrix(names.input[0]),
        splice,
        "input",
        names.tied,
        None,
        source_folder,
        tokenizer_folder,
        corpus,
        seed,
        device,
        scratch_dir,
    )
    made = _make_rows(patient, inits, about)
    output.mkdir(parents=True, exist_ok=True)
    changed = _changed(patient, made)
    tables = table_rows(checkpoint, names, splice, made)
    changed |= {
        name: tensor_from(
            patient.layout_of(name), checkpoint.tensors[name], rows.added, rows.padding
        )
        for name, rows in tables.items()
    }
    linked = _write_tensors(patient, changed, output)
    write_configs(checkpoint.folder, output, splice, patient.layout)
    copy_companions(source_folder, output)
    _copy_tokenizer(tokenizer_folder, output)
    for file in code_files(source_folder):
        shutil.copyfile(file, output / file.name)
    check_loadable(output, names)
    methods = {
        "input": input_init.chosen(),
        "output": "tied to input" if names.tied else output_init.chosen(),
    }
    return {
        "architecture": names.architecture,
        "loads_with": names.loads_with,
        "tied": names.tied,
        "rows": patient.layout.rows,
        "rows_before": names.rows,
        "padding_rows": patient.layout.rows - splice.target_size,
        "kept": len(splice.kept),
        "added": len(splice.new),
        "reinitialised": len(splice.reinitialised),
        "dropped": len(splice.dropped),
        "parameters": Checkpoint.open(output).parameters,
        "parameters_before": checkpoint.parameters,
        "files_linked": linked,
        "base_rows": base_rows(made, splice),
        "inits": {
            side: {"method": method, **(_account(made[side]) if side in made else {})}
            for side, method in methods.items()
        },
        "warnings": _warnings(patient, made, norms, about.source_tokenizer),
        **({"tables": {name: rows.how for name, rows in tables.items()}} if tables else {}),
    }


def _warnings(
    patient: _EmbeddingResize,
    made: Mapping[str, InitRows],
    norms: Mapping[str, Tensor | None],
    tokenizer: ModelTokenizer,
) -> list[str]:
    """Return what has to be known of rows that were never trained; of a copy of a matrix nothing is said twice."""
    names = patient.names
    stored = {
        group[0]: side
        for side, group in (("input", names.input), ("output", names.output))
        if side in made
    }
    source = {
        name: found[: patient.splice.source_size]
        for name in stored
        if (found := norms[name]) is not None
    }
    begins, ends = _separators(tokenizer, patient.splice.source_size)
    separators = {
        name: {**begins, **ends} if stored[name] == "input" else ends for name in source
    }  # no document is to be continued by the token that begins one
    rows = {
        name: replace(made[side], rows=made[side].rows.to(patient.matrix(name).dtype))
        for name, side in stored.items()
    }
    return row_warnings(source, rows, patient.splice, separators)


def _separators(tokenizer: ModelTokenizer, size: int) -> tuple[dict[str, int], dict[str, int]]:
    """Return the ids of the tokens that begin and that end documents, by role.

    For a chat model, the token that ends a text is not its EOS, which ends a turn.
    """
    before, after = tokenizer.bos_id, tokenizer.eos_id
    with suppress(TokenizerError):  # a tokenizer without separators: packing refuses it
        before, after = separators_of(tokenizer).ids(tokenizer)
    begins, ends = {}, {}
    if before is not None and before < size:
        begins["bos_token" if before == tokenizer.bos_id else "the token before documents"] = before
    if after is not None and after < size:
        ends["eos_token" if after == tokenizer.eos_id else "the token after documents"] = after
    return begins, ends


def _account(made: InitRows) -> dict[str, Any]:
    return {"origins": made.counted, **made.notes}


def check_fit(names: EmbeddingNames, splice: Splice, folder: Path, tokenizer_folder: Path) -> None:
    """Raise `ModelError` where a tokenizer or a splice does not fit a model."""
    if splice.source_size > names.rows:
        msg = (
            f"the tokenizer does not fit the model: the source tokenizer has {splice.source_size:,} ids, while "
            f"{folder} has {names.rows:,} rows in {names.input[0]}; give the model's own tokenizer"
        )
        raise ModelError(msg)
    beyond = names.rows - names.vocabulary
    if beyond > 0 and splice.source_size <= names.vocabulary:
        msg = (
            f"{folder}: {names.input[0]} has {beyond} rows beyond the vocabulary that belong to no id of the "
            f"tokenizer, where new ids would go; {names.architecture} cannot be extended"
        )
        raise ModelError(msg)
    taken = [
        token.id for token in splice.added if token.id >= (names.first_reserved or token.id + 1)
    ]
    if taken:
        msg = (
            f"{folder}: {names.architecture} takes the ids from {names.first_reserved:,} on for images and sound, "
            f"and the first new token would be {taken[0]:,}; extend its language model, saved alone as a text model"
        )
        raise ModelError(msg)
    if names.multimodal and not splice.is_extension:
        msg = (
            f"{folder}: {names.architecture} is multimodal, and its processor knows tokens by their ids; tokens can "
            f"be added to it, not dropped"
        )
        raise ModelError(msg)
    size = open_tokenizer(tokenizer_folder).size
    if size != splice.target_size:
        msg = (
            f"the tokenizer does not fit the splice: {tokenizer_folder} has {size:,} ids, while the splice "
            f"names {splice.target_size:,}; both must come from the same extension of {folder}"
        )
        raise ModelError(msg)


def base_rows(made: Mapping[str, InitRows], splice: Splice) -> str:
    """Say whether the rows of the source's own ids are what they were, and which matrices or rows are the exception."""
    changed = [side for side, rows in made.items() if rows.base is not None]
    said = f"changed by their method: {' and '.join(changed)}" if changed else BIT_IDENTICAL
    again = len(splice.reinitialised)
    return said + (
        f", but for {again:,} reinitialised (unreachable with the base's pre-tokenizer)"
        if again
        else ""
    )


def _make_rows(
    patient: _EmbeddingResize, inits: Mapping[Side, RowMaker], about: InitRequest
) -> dict[str, InitRows]:
    """Make the rows of each side that has a matrix of its own."""
    names = {"input": patient.names.input, "output": patient.names.output}
    made: dict[str, InitRows] = {}
    for side, init in inits.items():
        other = next((one for one in inits if one != side), None)
        request = replace(
            about,
            matrix=patient.matrix(names[side][0]),
            side=side,
            beside=inits[other] if other else None,
            other=patient.matrix(names[other][0]) if other else None,
        )
        made[side] = checked(init.rows(request), request)
    return made


def checked(made: InitRows, request: InitRequest) -> InitRows:
    """Return the rows if every added token has a finite one with an origin; raises `ModelError` otherwise.

    The rows of a method that changes those of the base must be finite too.
    """
    wanted = (len(request.splice.added), request.matrix.shape[1])
    if tuple(made.rows.shape) != wanted or len(made.origins) != wanted[0]:
        msg = f"{wanted} rows are needed, the method made {tuple(made.rows.shape)} with {len(made.origins)} origins"
        raise ValueError(msg)
    stored = made.rows.to(request.matrix.dtype)
    if not bool(stored.isfinite().all()):
        bad = int((~stored.isfinite().all(dim=1)).nonzero()[0])
        token = request.splice.added[bad]
        msg = (
            f"the {request.side} row of token {token.id} ({token.text!r}, {made.origins[bad]}) is not finite in "
            f"{request.matrix.dtype}; choose another initialisation"
        )
        raise ModelError(msg)
    if made.base is not None and not bool(made.base.to(request.matrix.dtype).isfinite().all()):
        msg = f"the {request.side} rows of the base are not finite after learning; lower its rate"
        raise ModelError(msg)
    return made


def _changed(patient: _EmbeddingResize, made: Mapping[str, InitRows]) -> dict[str, NewTensor]:
    """Return what becomes of every tensor that has a row for each id."""
    import torch

    names = patient.names
    tensors: dict[str, NewTensor] = {}
    sides = (("input", names.input), ("output", names.output))
    for side, group in sides:
        for name in group:
            place, matrix = patient.checkpoint.tensors[name], patient.matrix(name)
            zero = side == "input" and not names.tied
            layout = patient.layout_of(name)
            padding = (
                torch.zeros(matrix.shape[1]) if zero or not layout.new_padding else mean_row(matrix)
            )
            tensors[name] = tensor_from(layout, place, made[side].rows, padding, made[side].base)
    if names.output_bias is not None:
        place, bias = (
            patient.checkpoint.tensors[names.output_bias],
            patient.matrix(names.output_bias),
        )
        mean_of_pieces = torch.tensor(
            [float(bias[list(token.pieces)].double().mean()) for token in patient.splice.added],
            dtype=torch.float32,
        )
        layout = patient.layout_of(names.output_bias)
        tensors[names.output_bias] = tensor_from(
            layout, place, mean_of_pieces, torch.tensor(BIAS_OF_PADDING)
        )
    return tensors


def mean_row(matrix_VD: Tensor) -> Tensor:
    """Return the mean of all rows, a block at a time, each summed in float32 (half the time of float64)."""
    import torch

    total = torch.zeros(matrix_VD.shape[1], dtype=torch.float64)
    for block in blocks(matrix_VD):
        total += block.float().sum(dim=0).double()
    return (total / matrix_VD.shape[0]).float()


def _write_tensors(
    patient: _EmbeddingResize, changed: Mapping[str, NewTensor], output: Path
) -> int:
    """Write every file of the checkpoint; return how many were linked."""
    linked = 0
    for file in patient.checkpoint.files:
        here = {
            name: new
            for name, new in changed.items()
            if patient.checkpoint.tensors[name].file == file
        }
        if here:
            rewrite(file, output / file.name, here)
        else:
            linked += link_or_copy(file, output / file.name)
    if patient.checkpoint.index is not None:
        index = dict(patient.checkpoint.index)
        written = Checkpoint.open_files([output / file.name for file in patient.checkpoint.files])
        index["metadata"] = {
            **index.get("metadata", {}),
            "total_size": sum(p.end - p.begin for p in written.values()),
        }
        if "total_parameters" in index["metadata"]:
            index["metadata"]["total_parameters"] = sum(prod(p.shape) for p in written.values())
        (output / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    return linked


def _copy_tokenizer(folder: Path, output: Path) -> None:
    for pattern in TOKENIZER_FILES:
        for file in folder.glob(pattern):
            shutil.copyfile(file, output / file.name)
