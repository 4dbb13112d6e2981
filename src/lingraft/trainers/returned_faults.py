"""The faults of checkpoints that come back from other training engines: cause and cure of each.

The first 14 are those that the issue trackers of engines and servers report most often after a
vocabulary was extended. `Finding` is a fault in a folder, with its place and its numbers. A fault
whose correct state is known from the hand-over is repaired. One that may be on purpose is kept. One
that cannot be repaired refuses the checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from rich.table import Table

Outcome = Literal["repaired", "kept", "refused"]


@dataclass(frozen=True)
class Fault:
    """A fault: where it comes from, and what avoids or removes it."""

    cause: str
    cure: str


FAULTS: Mapping[str, Fault] = {
    "changed pre-tokenizer": Fault(
        "the tokenizer was loaded with a class that builds its own pre-tokenizer and ignores that "
        "of tokenizer.json, then saved",
        "train with the tokenizer files of the hand-over; if the engine tokenised the text itself, "
        "the model was trained on other tokens: train again on the token ids of the hand-over",
    ),
    "padded rows": Fault(
        "the engine pads the vocabulary (Megatron: --make-vocab-size-divisible-by), and its "
        "converter kept the padding or cut more than that",
        "nothing to do; if rows of tokens are missing, convert again with the vocabulary size of "
        "the hand-over",
    ),
    "EOS row not trained": Fault(
        "the row was masked: PAD was EOS, so that its label was ignored or its embedding was the "
        "padding_idx",
        "give PAD a token of its own and train again",
    ),
    "PAD is EOS": Fault(
        "a training script set pad_token = eos_token, and saved the tokenizer",
        "nothing to do for the files; check that the row of EOS trained, which such a script masks",
    ),
    "rows not a multiple of 64": Fault(
        "a converter or resize_token_embeddings cut the matrices to the size of the tokenizer",
        "nothing to do; tensor parallelism and fast kernels want the multiple",
    ),
    "size larger than the tokenizer": Fault(
        "the padding rows can be generated: the settings of generation do not suppress their ids",
        "nothing to do; ids without a token decode to an empty text, or stop a server",
    ),
    "lost added tokens": Fault(
        "the engine saved the tokenizer of the source, or rebuilt one from a vocabulary file",
        "use the tokenizer files of the hand-over; if the engine tokenised the text itself, the "
        "added rows were not trained: train again",
    ),
    "untied head": Fault(
        "PEFT copied the tied matrices (modules_to_save, or LoRA on both), and trained the copies "
        "apart",
        "set ensure_weight_tying=True in the LoraConfig and train again; or keep the trained head "
        "with tie_word_embeddings: false in config.json",
    ),
    "adapter": Fault(
        "the engine saved an adapter, not a model",
        "merge it into the model that was handed over",
    ),
    "name in GGUF": Fault(
        "the converter recognised the pre-tokenizer by a hash of token ids, and found another one",
        "write the GGUF file from the received run: lingraft export RUN --gguf FILE, which refuses "
        "a pre-tokenizer that llama.cpp has no name for",
    ),
    "lost chat template": Fault(
        "the engine saved the tokenizer without chat_template.jinja, or with a template of its own",
        "nothing to do; if the model was trained on chats in another template, copy that template "
        "into the model folder afterwards",
    ),
    "doubled BOS": Fault(
        "the tokenizer was saved with add_bos_token, while the chat template or the training data "
        "hold BOS already",
        "nothing to do for the files; if the engine rendered chats to text and tokenised that, the "
        "model was trained on two BOS",
    ),
    "form of merges": Fault(
        "tokenizers 0.20 writes merges as pairs, earlier releases as text with a space",
        "nothing to do; programs that know one form find no merges in the other",
    ),
    "changed EOS in generation_config": Fault(
        "the trainer copied the ids of its tokenizer over the model's (align_special_tokens)",
        "nothing to do; with another EOS, generation does not stop",
    ),
    "changed special ids": Fault(
        "the class of the tokenizer has roles of its own, or the trainer copied the ids of its "
        "tokenizer over the model's (align_special_tokens)",
        "nothing to do",
    ),
    "tokens of the engine": Fault(
        "the engine, or the class of its tokenizer, added tokens of its own",
        "train without new tokens (no new_special_tokens, no special_tokens in the configuration), "
        "or add them to the source before it is extended",
    ),
    "missing files": Fault(
        "the engine or its converter writes weights only",
        "nothing to do",
    ),
    "missing index": Fault(
        "shards were copied without model.safetensors.index.json",
        "nothing to do",
    ),
    "size in config.json": Fault(
        "config.json states another number of rows than the files hold: transformers refuses it",
        "nothing to do",
    ),
    "settings in config.json": Fault(
        "the converter wrote settings of its own into config.json",
        "nothing to do",
    ),
    "other data type": Fault(
        "the engine saves in the data type that it computes in",
        "nothing to do; save in the data type of the hand-over for exact weights",
    ),
    "part not trained": Fault(
        "the engine froze it, or the text was tokenised without the added tokens",
        "look at the trainable parameters in the log of the engine, and at the token ids it read",
    ),
    "frozen part changed": Fault(
        "the engine trained more than the recipe says",
        "nothing to do; the measurements are those of what was trained",
    ),
    "nothing trained": Fault(
        "the engine saved the model that it was given, or trained with a learning rate of 0",
        "look at the log of the engine; name the folder of the last checkpoint",
    ),
    "damaged weights": Fault(
        "training diverged, or the file was cut",
        "name an earlier checkpoint, or train with a lower learning rate",
    ),
    "tensor names with a prefix": Fault(
        "the engine saved the model inside a wrapper (DDP, FSDP, torch.compile, PEFT)",
        "save the unwrapped model: accelerator.unwrap_model(model).save_pretrained(FOLDER); with "
        "PEFT, save what merge_and_unload() returns",
    ),
    "another model": Fault(
        "the checkpoint was not trained from the model of this hand-over, or was converted wrongly",
        "name the run or the hand-over that it was trained from, or convert it again",
    ),
}
"""Every fault by its name, the 14 that are reported most often first."""

REPORTED = 14
"""How many of `FAULTS` come from issue trackers; the others are found on the way."""


@dataclass(frozen=True)
class Finding:
    """A fault in a returned folder: its name in `FAULTS`, where it is, and what was found.

    >>> print(Finding("padded rows", "model.safetensors", "64 rows more", "repaired"))
    model.safetensors: 64 rows more (padded rows): repaired
    """

    name: str
    where: str
    what: str
    outcome: Outcome

    @property
    def fault(self) -> Fault:
        """Its cause and cure."""
        return FAULTS[self.name]

    def __str__(self) -> str:
        return f"{self.where}: {self.what} ({self.name}): {self.outcome}"

    @property
    def as_json(self) -> dict[str, Any]:
        """Return the finding with its cause and cure as plain JSON."""
        return {**asdict(self), "cause": self.fault.cause, "cure": self.fault.cure}

    @property
    def warning(self) -> str:
        """The finding as a warning: what was found, why, and what to do."""
        return f"{self.where}: {self.what}: {self.outcome} ({self.fault.cause}); {self.fault.cure}"


def count_outcomes(findings: Sequence[Finding]) -> str:
    """Return how many findings have each outcome.

    >>> count_outcomes([Finding("PAD is EOS", "tokenizer_config.json", "...", "repaired")])
    '1 repaired, 0 kept, 0 refused'
    """
    counts = []
    for outcome in get_args(Outcome):
        count = sum(finding.outcome == outcome for finding in findings)
        counts.append(f"{count} {outcome}")
    return ", ".join(counts)


def findings_table(findings: Sequence[Finding]) -> Table:
    """Return findings as a table to print."""
    table = Table(pad_edge=False, box=None)
    for heading in ("fault", "where", "found", "outcome"):
        table.add_column(heading)
    for finding in findings:
        table.add_row(finding.name, finding.where, finding.what, finding.outcome)
    return table
