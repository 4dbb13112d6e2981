"""Check a model that another engine trained, and write it as a model of lingraft.

`check_returned` only reads. `write_received` writes a new folder: the returned weights with as many
rows as were handed over, and every other file from the hand-over. The returned folder is never
changed.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from lingraft.bases.folder import read_config
from lingraft.checkpoint.config_files import COMPANION_FILES, text_parts
from lingraft.checkpoint.find_embeddings import embedding_names
from lingraft.checkpoint.loadable import check_loadable
from lingraft.checkpoint.rewrite import rewrite
from lingraft.checkpoint.safetensors_files import SINGLE, Checkpoint, torch_dtype, write_index
from lingraft.errors import ModelError, TokenizerError
from lingraft.model_code import code_files
from lingraft.pipeline.received import Frozen
from lingraft.splice import Splice
from lingraft.store import copy_matching, write_json
from lingraft.tokenizer import open_tokenizer
from lingraft.tokenizer.separators import separators_of
from lingraft.trainers.compared_weights import ComparedWeights
from lingraft.trainers.returned_configs import compare_configs
from lingraft.trainers.returned_faults import Finding
from lingraft.trainers.returned_folder import open_weights
from lingraft.trainers.returned_tokenizer import compare_tokenizers
from lingraft.trainers.returned_weights import compare_weights
from lingraft.training.save_model import TRAINED, UNTRAINED


@dataclass(frozen=True)
class ReturnedModel:
    """A returned folder with all findings, compared with the model that was handed over."""

    folder: Path
    extended: Path
    checkpoint: Checkpoint
    weights: ComparedWeights
    findings: tuple[Finding, ...]

    @property
    def refused(self) -> list[Finding]:
        """The findings that refuse the checkpoint."""
        return [finding for finding in self.findings if finding.outcome == "refused"]

    def check(self) -> None:
        """Raise `ModelError` if a finding refuses the checkpoint."""
        if self.refused:
            refuse(self.folder, self.refused)


def refuse(folder: Path, findings: Sequence[Finding]) -> NoReturn:
    """Raise `ModelError` with the findings that refuse a checkpoint, and the cure of the first."""
    facts = ", ".join(f"{finding.where}: {finding.what}" for finding in findings)
    name, fault = findings[0].name, findings[0].fault
    msg = f"{folder}: not received: {name} ({facts}; {fault.cause}); {fault.cure}"
    raise ModelError(msg)


def check_returned(
    folder: Path,
    extended: Path,
    splice: Splice,
    *,
    separator: str = "auto",
    masked: bool = False,
    frozen: Frozen = "nothing",
) -> ReturnedModel:
    """Compare a folder that an engine trained with the model that was handed over.

    `separator` is the setting `training.packing.separator`, `masked` whether attention may stay
    within documents, and `frozen` what the recipe does not train. Raises `ModelError` if a file
    cannot be read.
    """
    checkpoint, findings = open_weights(folder)
    separators = _separators(extended, separator)
    # Where another token begins the next document, nothing is predicted from the one that ends it.
    ends_unread = masked and len(separators) > 1
    weights = compare_weights(
        checkpoint,
        extended,
        splice,
        separators=separators,
        unread=[*separators.values()][-1] if ends_unread else None,
        frozen=frozen,
    )
    findings += weights.findings
    embedding = weights.returned_name(weights.names.input[0])
    findings += compare_configs(folder, extended, splice, checkpoint, embedding)
    findings += compare_tokenizers(folder, extended, splice)
    return ReturnedModel(folder, extended, checkpoint, weights, tuple(findings))


def _separators(extended: Path, separator: str) -> dict[str, int]:
    """Return the ids of the tokens between documents by their content."""
    tokenizer = open_tokenizer(extended)
    try:
        separators = separators_of(tokenizer, separator)
    except TokenizerError:
        return {}
    contents = (separators.before, separators.after)
    pairs = zip(contents, separators.ids(tokenizer), strict=True)
    return {content: number for content, number in pairs if content and number is not None}


def write_received(returned: ReturnedModel, output: Path) -> None:
    """Write the received model: returned weights, and all other files as they were handed over."""
    output.mkdir(parents=True, exist_ok=True)
    weights, checkpoint = returned.weights, returned.checkpoint
    several = len(checkpoint.files) > 1 or bool(weights.restored)
    files = {}
    for file in checkpoint.files:
        # Next to an index, transformers would still read model.safetensors, and only it.
        name = TRAINED if several and file.name == SINGLE else file.name
        changed = {}
        for tensor, place in checkpoint.tensors.items():
            if place.file == file:
                files[tensor] = name
                if tensor in weights.resized:
                    changed[tensor] = weights.resized[tensor]
        rewrite(file, output / name, changed)
    files |= _restore_tensors(returned, output)
    if len(set(files.values())) > 1:
        write_index(output, files)
    _write_config(returned, output)
    copy_matching(returned.extended, output, COMPANION_FILES)
    for path in code_files(returned.extended):
        shutil.copyfile(path, output / path.name)
    # transformers must be able to load what was put together here.
    check_loadable(output, embedding_names(Checkpoint.open(output)))


def _restore_tensors(returned: ReturnedModel, output: Path) -> dict[str, str]:
    """Write the tensors that transformers did not load and the engine therefore did not save."""
    names = returned.weights.restored
    if not names:
        return {}
    from safetensors.torch import save_file

    before = Checkpoint.open(returned.extended)
    tensors = {name: before.tensor(name).contiguous() for name in names}
    save_file(tensors, output / UNTRAINED, {"format": "pt"})
    return dict.fromkeys(names, UNTRAINED)


def _write_config(returned: ReturnedModel, output: Path) -> None:
    """Write the config.json of the hand-over with the data type of the returned weights."""
    config = read_config(returned.extended)
    named = "torch_dtype" if "torch_dtype" in config else "dtype"
    weights = returned.weights
    place = returned.checkpoint.tensors[weights.returned_name(weights.names.input[0])]
    config[named] = str(torch_dtype(place.dtype)).removeprefix("torch.")
    if weights.is_untied:
        for part in text_parts(config):
            if part is config or "tie_word_embeddings" in part:
                part["tie_word_embeddings"] = False
    write_json(output / "config.json", config, indent=2)
