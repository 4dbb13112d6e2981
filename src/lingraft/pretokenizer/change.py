"""The record of what happened to a pre-tokenizer: changed or kept, why, and with which effects.

The vocabulary stage writes it as pretokenizer.json. The terminal output, the tables, the report and
the model card read it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from lingraft.formatting import counted
from lingraft.pretokenizer.mark_aware import make_mark_aware
from lingraft.pretokenizer.named_pretokenizers import (
    BY_NAME,
    NamedPretokenizer,
    use_named_pretokenizer,
)
from lingraft.pretokenizer.scripts import ScriptChange
from lingraft.pretokenizer.word_internal import make_letter_aware, make_mark_and_letter_aware
from lingraft.tokenizer.json_format import Data

PRETOKENIZER = "pretokenizer.json"

LOADERS = ("transformers", "tokenizers", "vLLM")
"""Libraries that were seen to use the expression in tokenizer.json (vLLM via transformers).

Others that load tokenizers with transformers, such as SGLang, should as well.
"""

_FIELDS = ("why", "rewrite", "effect", "reinitialised", "llama_cpp", "saving", "growth")
"""The fields of a `PretokenizerChange` that JSON stores unchanged."""


@dataclass(frozen=True)
class Rewrite:
    """A way to change the pre-tokenizer of a tokenizer.json.

    `rewrite` returns the changed content, or `None` where the change does not apply. `splits` names
    the characters at which it no longer splits words.
    """

    name: str
    effect: str
    rewrite: Callable[[Data], Data | None]
    splits: str = "combining marks"


MARK_AWARE = Rewrite(
    "mark-aware", "combining marks continue the letters that they follow", make_mark_aware
)
LETTER_AWARE = Rewrite(
    "letter-aware",
    "apostrophes and joiners inside words continue them",
    make_letter_aware,
    "apostrophes and joiners",
)
MARK_AND_LETTER_AWARE = Rewrite(
    "mark- and letter-aware",
    "combining marks, apostrophes and joiners inside words continue them",
    make_mark_and_letter_aware,
    "combining marks, apostrophes and joiners",
)
REWRITES: tuple[Rewrite, ...] = (MARK_AWARE, LETTER_AWARE, MARK_AND_LETTER_AWARE)
"""The rewrites without a name in llama.cpp; among equally good ones, the first is used."""


def named_rewrite(named: NamedPretokenizer) -> Rewrite:
    """Return the rewrite that gives a tokenizer a pre-tokenizer of llama.cpp."""
    return Rewrite(named.name, MARK_AWARE.effect, partial(use_named_pretokenizer, named=named))


@dataclass(frozen=True)
class ConsideredPretokenizer:
    """A pre-tokenizer that `auto` compared: the base's own ("keep"), or that of a rewrite.

    `saving` and `growth` are as in `PretokenizerChange`. `recut` counts the base-language documents
    that get other ids, of those that are compared; it is `None` if the saving was too small to
    count them. `llama_cpp` is llama.cpp's name.
    """

    name: str
    saving: float
    growth: float
    recut: int | None
    llama_cpp: str | None

    def __str__(self) -> str:
        """Return the numbers of the comparison."""
        name = f"{self.llama_cpp} in llama.cpp" if self.llama_cpp else "no name in llama.cpp"
        if self.name == "keep":  # the others are compared with it
            return f"the base's own: {name}"
        recut = ""
        if self.recut is not None:
            recut = f", changes the ids of {counted(self.recut, 'compared base-language document')}"
        return f"{self.name}: saves {self.saving:.1%} of the target's tokens{recut}, {name}"


@dataclass(frozen=True)
class PretokenizerChange:
    """The outcome for one target tokenizer.

    `rewrite` and `effect` are `None` where the pre-tokenizer was kept. `before` and `after` are the
    regular expressions. `scripts` are the scripts whose sample sentences get other ids before any
    token is added. `reinitialised` counts the base tokens that only the changed pre-tokenizer
    produces. `llama_cpp` is llama.cpp's name for the result.

    `saving` is the share of the target's tokens that the change saves with the requested number of
    added tokens. `growth` is the share by which the base's own tokens for the target grow before
    any token is added. Both are `None` where they were not measured.

    `considered` lists what `auto` compared, and `documents` on how many base-language documents.
    `unnamed` is the reason why no mark-aware pre-tokenizer of llama.cpp fits the base, "" if one
    does.
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
    considered: tuple[ConsideredPretokenizer, ...] = ()
    documents: int = 0
    unnamed: str = ""

    @property
    def changed(self) -> bool:
        """Whether the pre-tokenizer differs from the base's."""
        return self.rewrite is not None

    @property
    def loads_in(self) -> str:
        """A phrase that names the libraries that load the result."""
        readers = f"{', '.join(LOADERS[:-1])} and {LOADERS[-1]}"
        if self.llama_cpp:
            named = BY_NAME[self.llama_cpp]
            return f"loads in {readers}, in llama.cpp as {named.name} (since {named.since})"
        reason = f" ({self.unnamed})" if self.unnamed else ""
        return f"loads in {readers}, not in llama.cpp, which has no name for it{reason}"

    def __str__(self) -> str:
        """The outcome in one line."""
        if not self.changed:
            return f"pre-tokenizer kept: {self.why}"
        change = f"pre-tokenizer changed ({self.rewrite}: {self.effect}): {self.why}"
        if self.reinitialised:
            change += f"; {self.reinitialised:,} base tokens reinitialised"
        return f"{change}; {self.loads_in}"

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {"format": 1, "changed": self.changed, **asdict(self), "summary": str(self)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PretokenizerChange:
        """Read the output of `as_json`."""
        scripts = tuple(ScriptChange(**entry) for entry in data["scripts"])
        unchanged = {name: data[name] for name in _FIELDS}
        # Records of 0.1 have no comparison.
        compared = [ConsideredPretokenizer(**entry) for entry in data.get("considered", ())]
        return cls(
            **unchanged,
            before=tuple(data["before"]),
            after=tuple(data["after"]),
            scripts=scripts,
            considered=tuple(compared),
            documents=data.get("documents", 0),
            unnamed=data.get("unnamed", ""),
        )
