"""What a comparison of returned weights with those that were handed over found.

Shape suffixes: V rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lingraft.checkpoint.find_embeddings import EmbeddingNames
from lingraft.checkpoint.rewrite import NewTensor
from lingraft.trainers.returned_faults import Finding, Outcome

if TYPE_CHECKING:
    from torch import Tensor

SHOWN = 3
"""The number of names that a finding lists."""


@dataclass
class ComparedWeights:
    """What the comparison of all tensors found.

    `changed` and `unchanged` list the tensors of the body. `changed_rows` holds by name of a
    vocabulary tensor whether each row of an id changed, [V]. `resized` are the tensors that get
    another number of rows, `restored` those that are copied from the hand-over. `renamed` holds the
    name in the hand-over of tensors that the engine saved under another one. `head` is the name
    of a head that the hand-over does not have, because it is tied there; `is_untied` says that it
    is a matrix of its own now.
    """

    names: EmbeddingNames
    findings: list[Finding] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    changed_rows: dict[str, Tensor] = field(default_factory=dict)
    resized: dict[str, NewTensor] = field(default_factory=dict)
    restored: list[str] = field(default_factory=list)
    renamed: dict[str, str] = field(default_factory=dict)
    head: str | None = None
    is_untied: bool = False

    def find(self, name: str, where: str, what: str, outcome: Outcome) -> None:
        """Add a finding."""
        self.findings.append(Finding(name, where, what, outcome))

    def returned_name(self, name: str) -> str:
        """Return the name in the returned files of a tensor that was handed over."""
        names = {handed: returned for returned, handed in self.renamed.items()}
        return names.get(name, name)

    def is_table(self, name: str) -> bool:
        """Say whether a returned tensor has a row for each id."""
        return name == self.head or self.renamed.get(name, name) in self.names.all

    @property
    def is_refused(self) -> bool:
        """Whether a finding refuses the checkpoint."""
        return any(finding.outcome == "refused" for finding in self.findings)


def listed(names: Sequence[str]) -> str:
    """Return the first of the names in brackets; "" without names."""
    if not names:
        return ""
    return f" ({', '.join(names[:SHOWN])}{', ...' if len(names) > SHOWN else ''})"
