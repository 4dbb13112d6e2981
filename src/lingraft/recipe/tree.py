"""Settings as a plain tree, before pydantic checks them, and the places of settings in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Place = tuple[str | int, ...]
"""The path of a setting from the top of the recipe: ("training", "phases", 0, "share")."""


@dataclass
class Tree:
    """Settings as plain dictionaries, lists and scalars, and where each of them was written.

    `problems` are messages about overrides that fit nowhere.
    """

    values: dict[str, Any]
    origins: dict[Place, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    def origin(self, place: Place) -> str:
        """Return where the setting at `place`, or the nearest one around it, was written."""
        for length in range(len(place), -1, -1):
            if place[:length] in self.origins:
                return self.origins[place[:length]]
        return ""


def place_of(path: str) -> Place:
    """Return the place that a dotted path names.

    >>> place_of("training.phases.0.budget")
    ('training', 'phases', 0, 'budget')
    """
    return tuple(int(part) if part.isdigit() else part for part in path.strip().split("."))


def dotted(place: Place) -> str:
    """Return a place as a dotted path."""
    return ".".join(map(str, place))
