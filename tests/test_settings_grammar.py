"""The grammar of settings: -o takes what is listed, all of it is explained, mistakes are plain."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from lingraft.errors import RecipeError
from lingraft.recipe import Recipe, parse_recipe, recipe_values
from lingraft.recipe.catalogue import find, listed_paths
from lingraft.recipe.explain import explained
from lingraft.recipe.fields import default_of
from lingraft.recipe.kinds import kind_of
from lingraft.recipe.overrides import override
from lingraft.recipe.tree import Tree, place_of
from lingraft.recipe.yaml import dump, read_text
from lingraft.registry import Settings
from lingraft.studies.cells import cells_of
from lingraft.studies.config import Study
from lingraft.studies.study_file import read_study

BASIC: dict[str, Any] = {
    "name": "x",
    "model": "some/local/model",
    "target": {"language": "hi", "corpus": "hi.txt"},
    "replay": {"language": "en", "corpus": ["en.txt"]},
}
# Settings that only a few values fit.
EXAMPLES = {
    "name": "y",
    "model": "owner/name",
    "language": "ta",
    "id": "owner/name",
    "hub": "owner/name",
    "revision": "0" * 40,
    "plan": "paper",
    "target": BASIC["target"],
    "replay": BASIC["replay"],
    "limit": {"documents": 5},
    "instruct": "owner/name",
    "chat_vector": {"instruct": "owner/name"},
    "miniature": {"stories": 5},
    "corpus": "a.txt",
    "model.pretrain.corpus": {"sources": "a.txt"},
    "preset": "fineweb-2",
    "where": "score >= 0.9",
    "near_duplicates": 0.8,
    "replay_kl": 0.5,
    "document_weight": {"column": "size"},
    "steps": {"1": 1, "5": 2},
}
# What a setting needs next to it.
NEEDED = {
    r"(.*\.(?:corpus|sources))\.(?:config|split|revision|streaming)$": r"\1.hub=owner/name",
    r"(.*\.language_check)\..*": r"\1=true",
    r"(.*\.tasks)\.data.*": r"\1.names=[xcopa-ta]",
    r"(.*\.data\.x)\.shots": r"\1.test=t.jsonl",
    r"(.*\.tasks)\.(?:fewshot_as_multiturn|system_instruction)": r"\1.apply_chat_template=true",
    r"(.*\.hub)\.(?:revision|trust_remote_code)": r"\1.id=owner/name",
    r"(.*\.folder)\.trust_remote_code": r"\1.path=folder",
    r"(.*\.random)\.(?!tokenizer).*": r"\1.tokenizer=t.json",
    r"(.*\.pretrain)\.(?!corpus).*": r"\1.corpus=en.txt",
    r"(.*\.pretrain)\.corpus\.(?!sources).*": r"\1.corpus=en.txt",
    r"(.*\.document_weight)\.(?!column).*": r"\1.column=size",
    r"(vocabulary)\.parallel_file$": r"\1.balance=premium",
    r"(chat_vector)\.weight": r"\1.instruct=owner/name",
    r"(.*\.donor)\.(?!model).*": r"\1.model=m",
    r"(.*\.wechsel)\..*": r"\1={source_vectors: a.vec, target_vectors: b.vec}",
    r"(vocabulary)\.parallel_file": r"\1.balance=premium",
    r"(extra_targets)\.(?!language).*": r"\1={language: ta, corpus: ta.txt}",
    r"(.*)\.max_characters$": r"\1.min_characters=1",
}
PATHS = listed_paths(Recipe)


def example_of(path: str) -> Any:
    """Return a value that a setting accepts: its default, or one of its type."""
    field = find(Recipe, place_of(path))[0].field
    name = path.rpartition(".")[2]
    default = default_of(field)
    kind = kind_of(field.annotation, field.metadata)
    example = EXAMPLES.get(path, EXAMPLES.get(name))
    is_for_this = isinstance(example, dict) == kind.startswith("mapping")
    if example is not None and default is None and is_for_this:
        return example
    if default is not None:
        return default
    examples = {"whole number": 7, "number": 0.25, "text": "a.txt", "size": 9000, "list": "a.txt"}
    for start, example in {**examples, "mapping": {}}.items():
        if kind.startswith(start):
            return example
    return re.split(", | or ", kind)[0]


def needed_for(path: str) -> list[str]:
    needed = []
    for pattern, other in NEEDED.items():
        if re.fullmatch(pattern, path):
            needed.append(re.sub(pattern, other, path))
    return needed


def read(*overrides: str) -> Recipe:
    return parse_recipe(override(read_text(dump(BASIC).encode(), "r.yaml"), overrides))


def test_every_listed_path_is_taken_by_an_override():
    """Every path that `lingraft settings` lists may be given to -o, with its default or a value."""
    for path in PATHS:
        value = json.dumps(example_of(path))
        read(*needed_for(path), f"{path}={value}")


def test_every_path_of_an_override_is_explained():
    """`lingraft settings PATH` explains what -o takes, with indexes and with names left out."""
    shortened = set()
    for path in PATHS:
        assert explained(path)[0][0].path == path
        parts = path.split(".")
        for index in range(1, len(parts)):
            shorter = ".".join([*parts[:index], *parts[index + 1 :]])
            tree = override(Tree(dict(BASIC)), [*needed_for(path), f"{shorter}=1"])
            if not tree.problems and shorter not in PATHS and explains(shorter):
                shortened.add(shorter)
    assert {"training.strategy.rank", "vocabulary.method.min_saving"} <= shortened
    for path in ("training.phases.0.budget", "target.corpus.0.path", "embeddings.focus"):
        assert explained(path)[0][0].path == path
        assert not override(Tree(dict(BASIC)), [f"{path}=1"]).problems


def explains(path: str) -> bool:
    try:
        return bool(explained(path)[0])
    except RecipeError:
        return False


@pytest.mark.parametrize(
    "overrides",
    [
        ("training.strategy=lora", "training.strategy.rank=8"),
        ("training.strategy.lora.rank=8",),
        ("training.strategy={lora: {rank: 8}}",),
        ("training.phases.0.strategy.lora={rank: 8}",),
        ("training={strategy: lora}", "training.phases.strategy.rank=8"),
    ],
)
def test_one_setting_has_several_paths(overrides):
    """A path may leave out what can be known; all of them set the same setting."""
    assert read(*overrides) == read("training={phases: [{strategy: {lora: {rank: 8}}}]}")


def test_a_method_of_both_matrices_is_set_at_once():
    """`embeddings.focus.vector_size` sets both matrices, `embeddings.input...` only one."""
    both = read("embeddings.focus.vector_size=9").embeddings
    assert both == read("embeddings=focus", "embeddings.vector_size=9").embeddings
    assert both.input == both.output
    one = read("embeddings.input.focus.vector_size=9").embeddings
    assert (one.input, one.output.name) == (both.input, "calibrated")


def test_an_override_changes_one_setting_of_a_short_form():
    """The other settings of a short form stay as they were; alternatives replace each other."""
    assert read("training=paper", "training.weight_decay=0.5").training.phases[0].average_share == 0
    changed = read("training={strategy: rows, budget: 1 MB}", "training.budget.steps=5").training
    assert (changed.phases[0].budget.amount, changed.phases[0].strategy.name) == (
        ("steps", 5),
        "rows",
    )
    source = read("target.corpus.hub=owner/name", "target.corpus.split=test").target.sources[0]
    assert (source.label, source.path) == ("hf:owner/name/test", None)


def test_a_value_is_explained():
    """With a value, its method is described, or how the value is read."""
    settings, _ = explained("training.strategy=lora")
    assert "training.strategy.lora.rank" in [setting.path for setting in settings]
    assert "bytes: 4000000" in explained("training.budget=4MB")[1]
    with pytest.raises(RecipeError, match=r'^vocabulary.size=ten: "ten" is not a number; give a'):
        explained("vocabulary.size=ten")


def test_settings_of_studies_have_the_same_grammar(tmp_path):
    """`study.seeds` is explained and may be overridden; a mistake names the line of the study."""
    studies = {"study": Study}
    assert explained("study.seeds", studies)[0][0].path == "study.seeds"
    assert len(explained("study", studies)[0]) >= len(Study.model_fields)
    (tmp_path / "r.yaml").write_text(dump(BASIC))
    study = tmp_path / "s.yaml"
    study.write_text("name: s\nrecipe: r.yaml\naxes:\n  training.strategy.rnk:\n    - 3\n    - 4\n")
    for name in ("seeds", "study.seeds"):
        assert read_study(study, [f"{name}=[3,4]"]).seeds == (3, 4)
    with pytest.raises(RecipeError, match=r"s\.yaml:5: training\.strategy\.differential\.rnk: unk"):
        cells_of(read_study(study), tmp_path)


WRONG_VALUES = ("?!", -(10**9), 0.123, True, [[]], [{"zz": 1}], {"zz": 1}, [], None)
NOT_PLAIN = ("Input ", "input should", "Value error", "permitted", "pydantic", "NoneType", "<class")


def test_a_wrong_value_of_any_setting_is_told_in_plain_words():
    """Every problem of a recipe has its line, its path and what to do, in no library's words."""
    classes = re.compile(r"\b(?:" + "|".join(sorted(class_names())) + r")\b")
    told = 0
    for path in PATHS:
        for value in WRONG_VALUES:
            tree = override(Tree(dict(BASIC)), [*needed_for(path), f"{path}={json.dumps(value)}"])
            try:
                parse_recipe(read_text(dump(tree.values).encode(), "r.yaml"))
            except RecipeError as error:
                lines = str(error).splitlines()
                told += 1
            else:
                continue
            assert lines[0].endswith("problems") or len(lines) == 1
            for line in lines[len(lines) > 1 :]:
                assert re.match(r" *r\.yaml(:\d+)?: [a-z]", line), line
                assert not classes.search(line), line
                assert not [phrase for phrase in NOT_PLAIN if phrase in line], line
                assert ";" in line or "did you mean" in line or "required" in line or "got" in line
                assert len(line) < 400
    assert told > 4 * len(PATHS)


def class_names() -> set[str]:
    """Return the names of the settings classes, except those that are words of plain text."""
    found: set[str] = set()
    waiting = [Settings]
    while waiting:
        cls = waiting.pop()
        waiting += cls.__subclasses__()
        found.add(cls.__name__)
    return {name for name in found if re.search("[a-z][A-Z]", name)}


@pytest.mark.parametrize("value", ["1e400", "inf", "nan"])
def test_no_setting_takes_a_number_that_is_not_finite(value):
    """What a recipe accepts can be written to recipe.yaml and run.json and be read again."""
    refused = 0
    for path in PATHS:
        try:
            recipe = parse_recipe(override(Tree(BASIC), [*needed_for(path), f"{path}={value}"]))
        except RecipeError as error:
            refused += "is not a finite number" in str(error)
        else:
            written = json.dumps(recipe_values(recipe), allow_nan=False)
            assert parse_recipe(Tree(json.loads(written))) == recipe, path
    assert refused > 30


def test_all_problems_are_told_at_once():
    """One message holds every mistake of the file, by line, and of the overrides, after them."""
    text = (
        b"name: a/b\nmodel: y/y\ntarget: {langage: hi, corpus: z.txt}\nvocabulary:\n  size: ten\n"
        b"training:\n  strategy:\n    lora:\n      rank: -1\n  budget: much\n"
    )
    with pytest.raises(RecipeError) as caught:
        parse_recipe(override(read_text(text, "r.yaml"), ["seed.x=1", "replay.share=3"]))
    assert [re.split(": |;", line.strip())[:2] for line in str(caught.value).splitlines()[1:]] == [
        ["r.yaml:1", "name"],
        ["r.yaml:3", "target.langage"],
        ["r.yaml:5", "vocabulary.size"],
        ["r.yaml:9", "training.strategy.lora.rank"],
        ["r.yaml:10", "training.budget"],
        ["-o seed.x=1", "seed is 0, which has no settings inside"],
        ["-o replay.share=3", "replay.corpus"],
        ["-o replay.share=3", "replay.language"],
        ["-o replay.share=3", "replay.share"],
    ]
