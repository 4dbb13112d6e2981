"""What became of a pre-tokenizer: whether it was changed, to what, why, what that touches, and who can load it.

The vocabulary stage writes it as pretokenizer.json; the terminal, the table, the report and the model card read it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from lingraft.pretokenizer.mark_aware import make_mark_aware
from lingraft.pretokenizer.scripts import ScriptChange
from lingraft.tokenizer.json_format import Data

PRETOKENIZER = "pretokenizer.json"

LOADERS = ("transformers", "tokenizers", "vLLM", "SGLang")
"""What reads the expression from tokenizer.json, vLLM and SGLang through transformers."""


@dataclass(frozen=True)
class Rewrite:
    """A way to change the pre-tokenizer of a tokenizer.json; `rewrite` returns `None` where it does not apply."""

    name: str
    effect: str
    rewrite: Callable[[Data], Data | None]


MARK_AWARE = Rewrite(
    "mark-aware", "combining marks continue the letters that they follow", make_mark_aware
)
REWRITES: tuple[Rewrite, ...] = (MARK_AWARE,)
"""The rewrites that `auto` chooses from; of equally good ones the first wins."""


@dataclass(frozen=True)
class PretokenizerChange:
    """The outcome for one target tokenizer.

    `rewrite` and `effect` name what was done, `None` where nothing was. `before` and `after` are the expressions.
    `scripts` are those whose sample sentences are tokenised differently, before any token is added. `reinitialised`
    counts the base tokens that only the changed pre-tokenizer produces. `llama_cpp` is the name by which llama.cpp
    knows the result. `saving` is the share of the target's tokens that the change saves with the wanted number of
    added tokens, `growth` the share by which the base's own tokens for the target grow before any is added; both are
    `None` where they were not measured.
    """

    why: str
    rewrite: str | None = None
    effect: str | None = None
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    scripts: tuple[ScriptChange, ...] = ()
    reinitialised: int = 0
    llama_cpp: str | None = None
    saving: float | None = None
    growth: float | None = None

    @property
    def changed(self) -> bool:
        """Whether the pre-tokenizer is another one than the base's."""
        return self.rewrite is not None

    @property
    def loads_in(self) -> str:
        """Who can load the result, in words."""
        readers = f"{', '.join(LOADERS[:-1])} and {LOADERS[-1]}"
        known = (
            f"in llama.cpp as {self.llama_cpp}"
            if self.llama_cpp
            else "not in llama.cpp, which has no name for it"
        )
        return f"loads in {readers}, {known}"

    def __str__(self) -> str:
        """The outcome in one line."""
        if not self.changed:
            return f"pre-tokenizer kept: {self.why}"
        again = f"; {self.reinitialised:,} base tokens reinitialised" if self.reinitialised else ""
        return f"pre-tokenizer changed ({self.rewrite}: {self.effect}): {self.why}{again}; {self.loads_in}"

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {"format": 1, "changed": self.changed, **asdict(self), "summary": str(self)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PretokenizerChange:
        """Read what `as_json` wrote."""
        scripts = tuple(ScriptChange(**row) for row in data["scripts"])
        plain = {
            name: data[name]
            for name in (
                "why",
                "rewrite",
                "effect",
                "reinitialised",
                "llama_cpp",
                "saving",
                "growth",
            )
        }
        return cls(
            **plain, before=tuple(data["before"]), after=tuple(data["after"]), scripts=scripts
        )
