"""Names that settings, methods and keys had in lingraft 0.1, and the names that they have now.

The tables are read in both directions. From old to new: recipes, overrides, studies and the files
of run folders may hold an old name. In recipes, overrides and studies, each use of an old name
prints one warning. From new to old: keys of stored stage outputs use the names of 0.1, so that a
renamed setting does not make a stage run again.

A rule applies if its pattern matches the whole path of the surrounding mapping. Such a path has the
new names and no list indexes: `training.phases.learning_rates`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lingraft.errors import RecipeError
from lingraft.progress import say
from lingraft.recipe.tree import Place, Tree, dotted, place_of

_TEXT = r"(?:target|extra_targets|replay|(?:model|chat_vector\.instruct)\.pretrain\.corpus)"
_SOURCE = rf"{_TEXT}(?:\.(?:corpus|sources|heldout))?"
_MODEL = r"(?:model|chat_vector\.instruct)"
_PLAN = rf"(?:{_MODEL}\.pretrain\.)?training"
_PHASE = rf"{_PLAN}(?:\.phases)?"
_INIT = r"embeddings(?:\.input|\.output)?(?:\.learned\.start)*"
_LEARNER = r"vocabulary(?:\.method(?:\.continued)?)?"

SETTINGS: dict[str, dict[str, str]] = {
    r"": {"also": "extra_targets", "random": "sample_cells", "draw": "sample_seed"},
    _SOURCE: {"text": "text_field", "documents": "document_unit"},
    _TEXT: {
        "minimum_characters": "min_characters",
        "maximum_characters": "max_characters",
        "longest_document": "max_document_bytes",
        "normalise": "cleaning.normalise",
        "unicode_normalization": "cleaning.normalise",
    },
    rf"{_TEXT}\.language_check": {"confidence": "min_confidence"},
    rf"{_MODEL}\.(?:folder|hub)": {"code": "trust_remote_code"},
    rf"{_MODEL}\.random": {"special": "special_tokens"},
    _LEARNER: {"minimum_saving": "min_saving", "maximum_bytes": "max_token_bytes"},
    r"vocabulary": {"protect": "protect_replay"},
    r"vocabulary\.size": {"rate": "min_saving_share", "maximum": "max_size"},
    rf"{_INIT}\.(?:align|distilled|focus)": {"text": "text_bytes"},
    rf"{_INIT}\.calibrated": {"least_rows": "min_rows"},
    rf"{_INIT}\.distilled": {
        "snippets": "windows_per_token",
        "window": "window_tokens",
        "rate": "step_size",
    },
    rf"{_INIT}\.donor": {"terms": "max_terms"},
    rf"{_INIT}\.focus": {"width": "vector_size", "least_count": "min_count"},
    rf"{_INIT}\.learned": {
        "share": "max_text_share",
        "tokens": "max_tokens",
        "rate": "learning_rate",
        "block": "block_size",
    },
    rf"{_INIT}\.wechsel": {"words": "max_words"},
    _PLAN: {"apart": "document_attention_mask"},
    _PHASE: {
        "rates": "learning_rates",
        "optimiser": "optimizer",
        "clip": "max_grad_norm",
        "average": "average_share",
        "replay": "replay_share",
    },
    rf"{_PHASE}\.learning_rates": {"embeddings": "added_rows"},
    rf"{_PHASE}\.schedule\.\w+": {"final": "final_factor", "decay": "decay_share"},
    rf"{_PHASE}\.strategy\.lora": {"modules": "target_modules", "base": "base_precision"},
    rf"{_PHASE}\.strategy\.layers": {"k": "layers_per_end"},
    rf"{_PLAN}\.packing": {"block": "block_size", "pack": "layout"},
    r"evaluation": {"parallel": "parallel_file"},
    r"evaluation\.generation": {
        "bytes": "timed_bytes",
        "prompts": "timed_prompts",
        "repeats": "timed_repeats",
    },
    r"evaluation\.tasks": {"shots": "num_fewshot"},
}
"""Pattern of the path of the surrounding mapping -> old name -> new name.

A new name with a dot is that of a setting in a mapping: both are read, and keys use the new one.
"""

CHOICES: dict[str, dict[str, str]] = {
    rf"{_INIT}|stages\.notes\.inits\.\w+\.method": {"hf": "mean_resizing"},
    rf"{_PHASE}\.strategy\.differential\.base_rows": {"embeddings": "added_rows"},
}
"""Pattern of the path of a setting -> old value, or old name of a method -> new one."""

RECORDS: dict[str, dict[str, str]] = {
    r"log": {"learning_rate_embeddings": "learning_rate_added_rows"},
    r"stages\.notes\.phases": {"rates": "learning_rates"},
    r"stages\.notes\.phases\.learning_rates": {"embeddings": "added_rows"},
}
"""Pattern of the path of the mapping in run.json or training.jsonl -> old key -> new key."""


def current_tree(tree: Tree) -> Tree:
    """Return a recipe with the new names; prints a warning for each old one.

    Raises `RecipeError` if both the old and the new name of a setting are used.
    """
    renaming = _Renaming(tree)
    values = renaming.value(tree.values, (), ())
    renaming.warn()
    return Tree(values, {**tree.origins, **renaming.origins}, tree.problems)


def current_place(place: Place, where: str) -> Place:
    """Return the path of an override with the new names; prints a warning for an old one."""
    current: Place = ()
    for part in place:
        current = (*current, *_new_place(current, part))
    if current != place:
        say(_warning(where, place, current))
    return current


def current_assignments(settings: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return settings by dotted path with the new names, in paths and in values.

    Prints a warning for each old name; `where` names the place in these warnings.
    """
    current = {}
    for path, value in settings.items():
        place = current_place(place_of(str(path)), where)
        current[dotted(place)] = current_value(value, place, where)
    return current


def current_value(value: Any, place: Place, where: str) -> Any:
    """Return the value of a setting with the new names in it; prints a warning for each old one."""
    renaming = _Renaming(Tree({}, {(): where}))
    current = renaming.value(value, place, place)
    renaming.warn()
    return current


def current_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a run.json with the new names; prints no warnings."""
    current = dict(record)
    # `recipe` and `method` hold settings, so that their paths start as in a recipe.
    for name, prefix in (("recipe", ()), ("method", ()), ("stages", ("stages",))):
        if name in record:
            current[name] = _Renaming(Tree({})).value(record[name], prefix, prefix)
    return current


def current_log(records: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the records of a training.jsonl with the new names.

    >>> current_log([{"step": 1, "learning_rate_embeddings": 0.001}])
    [{'step': 1, 'learning_rate_added_rows': 0.001}]
    """
    current = []
    for record in records:
        renamed = {str(_new_name(("log",), key)): value for key, value in record.items()}
        current.append(renamed)
    return current


def names_of_0_1(value: Any) -> Any:
    """Return settings with the names of 0.1, which keys use.

    >>> names_of_0_1({"method": {"mean_resizing": {}}, "max_grad_norm": 1.0})
    {'method': {'hf': {}}, 'clip': 1.0}
    """
    if isinstance(value, Mapping):
        old = {}
        for key, inner in value.items():
            # `config` holds settings of transformers, some of which have our new names.
            old[_OLD_NAMES.get(key, key)] = inner if key == "config" else names_of_0_1(inner)
        return old
    if isinstance(value, list | tuple):
        return [names_of_0_1(inner) for inner in value]
    return _OLD_CHOICES.get(value, value) if isinstance(value, str) else value


class _Renaming:
    """One pass over a tree of settings, which gives every setting its new name.

    `renamed` holds the old and the new place of each renamed setting. `origins` holds where each
    setting was written, by its new place.
    """

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.origins: dict[Place, str] = {}
        self.renamed: list[tuple[Place, Place]] = []

    def value(self, value: Any, old: Place, new: Place) -> Any:
        """Return the value at a place with the new names; `old` is the place as it is written."""
        if old in self.tree.origins:
            self.origins[new] = self.tree.origins[old]
        if isinstance(value, Mapping):
            return self._mapping(value, old, new)
        if isinstance(value, list | tuple):
            values = []
            for index, inner in enumerate(value):
                values.append(self.value(inner, (*old, index), (*new, index)))
            return values
        if isinstance(value, str):
            name = _find(_CHOICES, value, new)
            if name is not None:
                self.renamed.append(((*old, value), (*new, name)))
                return name
        return value

    def _mapping(self, value: Mapping[str, Any], old: Place, new: Place) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, inner in value.items():
            below, place = (*old, key), _new_place(new, key)
            if place != (key,):
                self.renamed.append((below, (*new, *place)))
                if _has(value, place):
                    path = f"{dotted(below)} and {dotted((*new, *place))}"
                    msg = (
                        f"{self.tree.origin(below)}: {path} are the same setting; remove the first"
                    )
                    raise RecipeError(msg)
            content = self.value(inner, below, (*new, *place))
            *above, name = map(str, place)
            target = result
            for part in above:
                target = target.setdefault(part, {})
            if isinstance(content, dict) and isinstance(target.get(name), dict):
                content = {**content, **target[name]}  # settings of it had a name one level above
            target[name] = content
        return result

    def warn(self) -> None:
        """Print a line for each old name."""
        for old, new in self.renamed:
            say(_warning(self.tree.origin(old), old, new))


def _warning(where: str, old: Place, new: Place) -> str:
    start = f"{where}: " if where else ""
    return f"warning: {start}{dotted(old)} is now {dotted(new)}"


def _has(value: Any, place: Place) -> bool:
    """Return whether a mapping holds a setting."""
    for part in place:
        if not isinstance(value, Mapping) or part not in value:
            return False
        value = value[part]
    return True


def _new_place(place: Place, part: str | int) -> Place:
    """Return the place of `part` in the mapping at `place`: one name, or several."""
    name = _new_name(place, part)
    return (name,) if name == part or isinstance(name, int) else tuple(name.split("."))


def _new_name(place: Place, part: str | int) -> str | int:
    if not isinstance(part, str):
        return part
    for table in (_SETTINGS, _CHOICES):
        name = _find(table, part, place)
        if name is not None:
            return name
    return part


_Rules = Mapping[str, Sequence[tuple[re.Pattern[str], str]]]


def _find(rules: _Rules, old: str, place: Place) -> str | None:
    """Return the new name of `old` in the mapping at `place`, `None` if it has no other name."""
    if old not in rules:
        return None
    path = ".".join(part for part in place if isinstance(part, str))
    for pattern, new in rules[old]:
        if pattern.fullmatch(path):
            return new
    return None


def _by_old_name(*tables: Mapping[str, Mapping[str, str]]) -> _Rules:
    rules: dict[str, list[tuple[re.Pattern[str], str]]] = {}
    for table in tables:
        for pattern, names in table.items():
            for old, new in names.items():
                rules.setdefault(old, []).append((re.compile(pattern), new))
    return rules


def _by_new_name(*tables: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    old_names: dict[str, str] = {}
    for table in tables:
        for names in table.values():
            old_names |= {new: old for old, new in names.items() if "." not in new}
    return old_names


_SETTINGS, _CHOICES = _by_old_name(SETTINGS, RECORDS), _by_old_name(CHOICES)
_OLD_NAMES, _OLD_CHOICES = _by_new_name(SETTINGS, CHOICES), _by_new_name(CHOICES)
