"""handover.json: what a hand-over folder contains, and how lingraft would train on it.

The records are frozen dataclasses. `Handover.read` reads them back, so that a folder can be checked
and a trained model can be compared with what was handed over. The file has no times and no paths
outside its folder: the same recipe gives the same bytes.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from lingraft.errors import StoreError
from lingraft.model_code import option_of_trainers
from lingraft.store import write_json
from lingraft.training.schedules import SCHEDULES, Schedule

MANIFEST = "handover.json"
FORMAT = 1
RATES = "learning_rates.csv"

DataKind = Literal["sequences", "megatron", "text"]
"""The forms of the training text:

- `sequences`: an arrow data set of token ids, one row for each sequence of lingraft's loop.
- `megatron`: `.bin` and `.idx` files of token ids, one document after another.
- `text`: JSON lines, one document a line.
"""


TextRole = Literal["target", "replay", "mixture"]


@dataclass(frozen=True)
class FileRecord:
    """A file of the folder: its size in bytes and its SHA-256."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class SeparatorRecord:
    """The tokens before and after a document, None without one, and why these."""

    before: str | None
    before_id: int | None
    after: str | None
    after_id: int | None
    why: str


@dataclass(frozen=True)
class ModelRecord:
    """The extended model that training starts from.

    - `parameters`: counted as training does, a tied matrix once.
    - `tokens`: the ids of the tokenizer; `source_tokens`: those of the source's tokenizer.
    - `rows`: the rows of the embeddings, a multiple of `row_multiple`; rows from `tokens` on are
      padding, which no text uses.
    - `added`: the ids of the added tokens as ranges [first, end).
    - `special_ids`: the ids of bos, eos and pad, as far as the tokenizer names them; `end_ids`: the
      ids that end generation, by generation_config.json or else by config.json.
    - `control_ids`: ids that stand around text, never in it: separators and turn marks.
    - `loads_with`: the class of transformers that loads every part of it. For a multimodal model,
      AutoModelForCausalLM loads the language model alone, if it loads anything.
    """

    folder: str
    architecture: str
    model_type: str
    parameters: int
    dtype: str
    context: int | None
    source_tokens: int
    tokens: int
    rows: int
    row_multiple: int
    tied: bool
    added: tuple[tuple[int, int], ...]
    special_ids: Mapping[str, int]
    end_ids: tuple[int, ...]
    control_ids: tuple[int, ...]
    separators: SeparatorRecord
    chat_template: bool
    # Folders of earlier versions lack this one.
    loads_with: str = "AutoModelForCausalLM"

    @property
    def padding_rows(self) -> int:
        """The number of rows without a token."""
        return self.rows - self.tokens

    @property
    def added_ids(self) -> tuple[int, ...]:
        """The ids of the added tokens."""
        ids: list[int] = []
        for first, end in self.added:
            ids += range(first, end)
        return tuple(ids)


@dataclass(frozen=True)
class RateRecord:
    """The peak learning rates by role, and where they come from.

    `body` is the rate of all trained weights except those of the role `added_rows`, which the
    strategy defines (`lingraft.strategies`).
    """

    body: float
    added_rows: float
    why: str


@dataclass(frozen=True)
class PhaseRecord:
    """A phase of training as lingraft's loop would run it.

    - `strategy`, `schedule`: as in a recipe, with every setting; `trains`: the strategy in words.
    - `trained_parameters`: how many parameters train, by role; empty for LoRA.
    - `budget`: the unit and the amount that the recipe sets.
    - `steps`: optimizer steps; `sequences`: sequences in all, `sequences_per_step` in each step but
      the last, which has the rest.
    - `replay_sequences`: how many of the sequences are replay; `replay_share`: the share of bytes
      that is replayed.
    - `tokens`: predicted tokens; `bytes`: the bytes of text that they cover, `target_bytes` without
      replay.
    - `warmup_steps`: steps with a rising learning rate.
    - `average_steps`: the result is the average of the weights over about so many last steps (0:
      the last weights).
    - `text_bytes`, `epochs`: the bytes that are read of each text, and how often it is read, by
      its language.
    """

    strategy: Mapping[str, Any]
    trains: str
    trained_parameters: Mapping[str, int]
    budget: tuple[str, float]
    steps: int
    sequences: int
    sequences_per_step: int
    replay_sequences: int
    replay_share: float
    tokens: int
    bytes: int
    target_bytes: int
    learning_rates: RateRecord
    schedule: Mapping[str, Any]
    warmup_steps: int
    optimizer: str
    betas: tuple[float, float]
    epsilon: float
    weight_decay: float
    max_grad_norm: float | None
    average_steps: int
    # Folders of earlier versions lack these two.
    text_bytes: Mapping[str, int] = field(default_factory=dict)
    epochs: Mapping[str, float] = field(default_factory=dict)

    def sequences_at_once(self, most: int, processes: int = 1) -> int:
        """Return how many sequences a process reads in a forward pass: at most `most`.

        It divides the part of a step that each of `processes` reads, so that steps have the same
        sequences as in lingraft's loop.
        """
        own = max(1, self.sequences_per_step // processes)
        size = max(1, min(most, own))
        while own % size:
            size -= 1
        return size

    def factor(self, step: int) -> float:
        """Return the factor of the peak learning rates in a step (from 0)."""
        schedule: Schedule = SCHEDULES.parse(dict(self.schedule))
        return schedule.factor(step, self.steps)


@dataclass(frozen=True)
class PlanRecord:
    """How lingraft would train.

    - `sequence_length`: the predicted tokens of a full sequence. It has one id more: the first one
      is context only.
    - `layout`: `stream` (documents one after another) or `documents` (one for each sequence).
    - `document_attention_mask`: whether attention stays within documents; a limit says where the
      engine cannot do this.
    - `precision`: the data type of the trained weights and of the optimizer.
    - `merge_back`: shares of the weights before training to mix in at the end.
    - `chat_vector`: the weight of a chat vector that is added after training, None without one.
    """

    seed: int
    sequence_length: int
    layout: str
    document_attention_mask: bool
    precision: str
    phases: tuple[PhaseRecord, ...]
    merge_back: tuple[float, ...]
    chat_vector: float | None

    @property
    def steps(self) -> int:
        """The optimizer steps of all phases."""
        return sum(phase.steps for phase in self.phases)


@dataclass(frozen=True)
class DataRecord:
    """A data set of the folder.

    - `path`: a folder for `sequences`, a prefix without suffix for `megatron`, a file for `text`.
    - `phase`: the number of the phase (from 0) that trains on it, None for all or for held-out.
    - `language`: a BCP-47 tag, `mul` for several languages, without that of replay in a mixture.
    - `text`: target text, replay text, or both as they are mixed.
    - `documents`, `sequences`: how many, None where the form has none.
    - `tokens`: ids in `sequences` and `megatron`, None in `text`; `bytes`: bytes of text.
    - `weights`: of `megatron`, the share of samples in each phase.
    """

    path: str
    kind: DataKind
    use: Literal["train", "heldout"]
    language: str
    text: TextRole
    bytes: int
    phase: int | None = None
    documents: int | None = None
    sequences: int | None = None
    tokens: int | None = None
    columns: tuple[str, ...] = ()
    dtype: str | None = None
    weights: tuple[float, ...] = ()


@dataclass(frozen=True)
class OriginRecord:
    """The recipe, and the keys of its stages in lingraft's store, by role."""

    name: str
    recipe: Mapping[str, Any]
    recipe_sha256: str
    stages: Mapping[str, str]


@dataclass(frozen=True)
class Handover:
    """The content of handover.json. `files` has every other file of the folder."""

    engine: str
    lingraft: str
    origin: OriginRecord
    model: ModelRecord
    plan: PlanRecord
    data: tuple[DataRecord, ...]
    limits: tuple[str, ...] = ()
    files: Mapping[str, FileRecord] = field(default_factory=dict)
    format: int = FORMAT

    @classmethod
    def read(cls, folder: Path) -> Handover:
        """Read the manifest of a hand-over folder; raises `StoreError` if there is none."""
        path = folder / MANIFEST
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["format"] > FORMAT:
                msg = (
                    f"{path}: written by lingraft {content['lingraft']}, in a format that this "
                    "version does not know; install that version"
                )
                raise StoreError(msg)
            return TypeAdapter(cls).validate_python(content)
        except (OSError, ValueError, TypeError, KeyError, ValidationError) as error:
            msg = (
                f"{folder}: not a hand-over folder (no readable {MANIFEST}); create one with "
                "`lingraft handover RECIPE --to ENGINE -O FOLDER`"
            )
            raise StoreError(msg) from error

    @property
    def code_option(self) -> dict[str, bool]:
        """The option of trainers that permits the code of the model, if the recipe does."""
        return option_of_trainers(self.origin.recipe["model"])

    def write(self, folder: Path) -> None:
        """Write the manifest into a hand-over folder or its draft."""
        write_json(folder / MANIFEST, asdict(self))

    def training_data(self, kind: DataKind, phase: int | None = None) -> tuple[DataRecord, ...]:
        """Return the training data of a form, in all or for one phase."""
        found = []
        for record in self.data:
            of_phase = phase is None or record.phase in {None, phase}
            if record.kind == kind and record.use == "train" and of_phase:
                found.append(record)
        return tuple(found)


def learning_rates(plan: PlanRecord) -> Iterator[tuple[int, int, float, float, float]]:
    """Yield phase, step (both from 1), factor, and the rates of body and added rows."""
    for number, phase in enumerate(plan.phases):
        schedule: Schedule = SCHEDULES.parse(dict(phase.schedule))
        rates = phase.learning_rates
        for step in range(phase.steps):
            factor = schedule.factor(step, phase.steps)
            yield number + 1, step + 1, factor, rates.body * factor, rates.added_rows * factor


def write_learning_rates(plan: PlanRecord, path: Path) -> None:
    """Write the learning rates of every step as CSV, with all digits."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("phase", "step", "factor", "body", "added_rows"))
        writer.writerows(learning_rates(plan))
