"""training.jsonl: one JSON value a line, cut back to the last checkpoint when a run is resumed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LOG = "training.jsonl"


class Log:
    """The log of a run in its workplace."""

    def __init__(self, folder: Path, size: int = 0) -> None:
        self.path = folder / LOG
        self.path.touch()
        os.truncate(self.path, min(size, self.size))  # a longer size would fill up with zeros

    def write(self, row: Mapping[str, Any]) -> None:
        """Append a row."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")

    @property
    def size(self) -> int:
        """Its size in bytes."""
        return self.path.stat().st_size
