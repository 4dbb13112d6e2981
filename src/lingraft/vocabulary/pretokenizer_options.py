"""The pre-tokenizers that a base may get instead of its own.

There are two kinds: the rewrites of `pretokenizer.change`, for which llama.cpp has no name, and the
mark-aware pre-tokenizers that llama.cpp has built in. One of the latter fits a base if it splits
text without marks as the base does, and if llama.cpp merges as the base does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lingraft.errors import RecipeError
from lingraft.pretokenizer import make_mark_aware, newly_reachable
from lingraft.pretokenizer.base_text_splits import SplitDifference, find_split_difference
from lingraft.pretokenizer.change import REWRITES, Rewrite, named_rewrite
from lingraft.pretokenizer.llama_cpp_names import find_llama_cpp_name
from lingraft.pretokenizer.named_pretokenizers import BY_NAME, MARK_AWARE_NAMES
from lingraft.pretokenizer.regex_syntax import UnknownSyntaxError
from lingraft.tokenizer.base import Family
from lingraft.tokenizer.json_format import Data
from lingraft.tokenizer.load_tokenizer import family_of

# A change that lowers the number of pre-tokens of a text by less has no effect worth measuring.
# Ukrainian on Qwen2: 0.7%; Hindi, with the letter-aware change: 0.
MIN_FEWER_UNITS = 0.005


@dataclass(frozen=True)
class RewriteOption:
    """A changed pre-tokenizer that applies to a tokenizer.

    Attributes:
        rewrite: the change.
        family: the tokenizer with the changed pre-tokenizer.
        trained: `family` without the tokens whose rows were never trained.
        reachable: the ids of these tokens, which only the changed pre-tokenizer produces.
        llama_cpp: the name of the pre-tokenizer in llama.cpp, `None` if it has none.
    """

    rewrite: Rewrite
    family: Family
    trained: Family
    reachable: frozenset[int]
    llama_cpp: str | None


@dataclass(frozen=True)
class NamedOptions:
    """The pre-tokenizers of llama.cpp that fit a base, and why each of the others does not."""

    options: tuple[RewriteOption, ...]
    misfits: dict[str, SplitDifference | str]

    @property
    def reason(self) -> str:
        """Why none fits: the one that differs from the base in the fewest ways; "" if one does."""
        differences = {
            name: misfit for name, misfit in self.misfits.items() if not isinstance(misfit, str)
        }
        if self.options or not differences:
            return ""
        nearest = min(differences, key=lambda name: len(differences[name].causes))
        return f"of its mark-aware ones, {nearest} is nearest and differs in {differences[nearest]}"


def find_options(family: Family, where: Path) -> list[RewriteOption]:
    """Return the changes without a name in llama.cpp that apply to a tokenizer."""
    options = []
    for rewrite in REWRITES:
        data = rewrite.rewrite(family.data)
        if data is not None:
            options.append(_option(family, rewrite, data, where))
    return options


def keep_effective(
    family: Family, options: Sequence[RewriteOption], texts: Sequence[str]
) -> list[RewriteOption]:
    """Return the options that split a text into fewer pre-tokens than all options before them.

    The last one splits it into the fewest.
    """
    effective = []
    fewest = family.units(texts).total()
    for option in options:
        units = option.family.units(texts).total()
        if units < (1 - MIN_FEWER_UNITS) * fewest:
            effective.append(option)
            fewest = units
    return effective


def find_named_options(
    family: Family, where: Path, names: Sequence[str] = MARK_AWARE_NAMES
) -> NamedOptions:
    """Return the pre-tokenizers of llama.cpp that fit a tokenizer whose words are split at marks.

    One fits if llama.cpp merges as the base does, and if it splits text without marks equally.
    """
    options: list[RewriteOption] = []
    misfits: dict[str, SplitDifference | str] = {}
    if make_mark_aware(family.data) is None:
        return NamedOptions((), dict.fromkeys(names, "its words are not split at marks"))
    for name in names:
        rewrite = named_rewrite(BY_NAME[name])
        data = rewrite.rewrite(family.data)
        if data is None:
            misfits[name] = "the base splits text by steps of another kind"
            continue
        misfit = _find_misfit(family, name, family_of(data, where).reuse_model_of(family))
        if misfit is None:
            options.append(_option(family, rewrite, data, where))
        else:
            misfits[name] = misfit
    return NamedOptions(tuple(options), misfits)


def _find_misfit(family: Family, name: str, changed: Family) -> SplitDifference | str | None:
    try:
        difference = find_split_difference(family, changed)
    except UnknownSyntaxError:
        return "the expressions cannot be compared"
    if difference is None and find_llama_cpp_name(changed.data) != name:
        return "llama.cpp looks words up before merges for only one of the two"
    return difference


def _option(family: Family, rewrite: Rewrite, data: Data, where: Path) -> RewriteOption:
    changed = family_of(data, where).reuse_model_of(family)
    reachable = newly_reachable(family, changed)
    trained = family_of(changed.without_tokens(reachable), where) if reachable else changed
    return RewriteOption(rewrite, changed, trained, reachable, find_llama_cpp_name(data))


def find_requested_option(family: Family, mode: str, where: Path) -> RewriteOption:
    """Return the option for the mode "named" or for a name; raises `RecipeError` without one."""
    named = find_named_options(family, where, MARK_AWARE_NAMES if mode == "named" else [mode])
    if named.options:
        return named.options[0]
    reason = named.reason if mode == "named" else ""
    reason = reason or str(next(iter(named.misfits.values())))
    msg = (
        f"vocabulary.pretokenizer: {mode} does not fit the base ({reason}); set auto, keep or "
        "repair"
    )
    raise RecipeError(msg)
