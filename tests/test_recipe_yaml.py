"""Recipes as text: the YAML that is read, overrides, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lingraft.errors import RecipeError
from lingraft.recipe.overrides import override
from lingraft.recipe.tree import Tree
from lingraft.recipe.yaml import MAX_BYTES, dump, read_file, read_text

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12)
    | st.sampled_from(
        [
            "no",
            "yes",
            "on",
            "~",
            "3e-4",
            "0x1f",
            "2020-01-01",
            "12:30:00",
            "- a",
            "a: b",
            "#",
            "null",
            "<<",
            "=",
            "!x",
        ]
    )
)
trees = st.dictionaries(
    st.from_regex(r"[a-z_]{1,8}", fullmatch=True),
    st.recursive(
        scalars,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.from_regex(r"[a-z]{1,5}", fullmatch=True), inner, max_size=3)
        ),
        max_leaves=8,
    ),
)


@given(trees)
def test_written_recipes_read_back_equal(values):
    """What is dumped is read back as the same values, whatever the strings look like."""
    assert read_text(dump(values).encode(), "x").values == values


def test_the_core_schema_of_yaml_1_2():
    """`no` is a language, 3e-4 a number, and a date a string."""
    tree = read_text(b"a: no\nb: 3e-4\nc: 2020-01-01\nd: '7'\ne: 0x10\nf: true\ng:\n", "x")
    assert tree.values == {
        "a": "no",
        "b": 3e-4,
        "c": "2020-01-01",
        "d": "7",
        "e": 16,
        "f": True,
        "g": None,
    }


def test_settings_know_their_line():
    """Every setting remembers the line that it was written in."""
    tree = read_text(b"name: x\ntraining:\n  phases:\n    - share: 1\n", "r.yaml")
    assert tree.origin(("training", "phases", 0, "share")) == "r.yaml:4"
    assert tree.origin(("training", "phases", 7)) == "r.yaml:3"
    assert tree.origin(("nowhere",)) == "r.yaml"


TOWER = b"a: &a [1]\n" + b"".join(
    b"%c: &%c [%s]\n" % (i + 1, i + 1, b",".join([b"*%c" % i] * 9))
    for i in range(ord("a"), ord("h"))
)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a: [1,2", ":1: not YAML"),
        (b"a: 1\nb: 2\na: 3", ":3: 'a' is set twice"),
        (b"a: &a {b: 1}\nc:\n  <<: *a\n", ":3: merge keys (<<) are no part of YAML 1.2"),
        (b"\nname: \xff", "not UTF-8 at byte 7"),
        (b"- 1\n- 2", "a mapping of settings"),
        (b"", "a mapping of settings"),
        (TOWER, "more than 20,000 values"),
        (b"a: &a [*a]", "24 levels"),
        (b"[" * 3000, "nested too deeply"),
        (b"a: !!python/object/apply:os.system [ls]", "tag"),
        (b"a: !secret x", "tag '!secret' is not allowed"),
        (b"? [1]\n: 2", "the name of a setting is a word"),
        (b"a: \x00", "not YAML"),
        (b"#" * (MAX_BYTES + 1), "at most 262,144 bytes"),
    ],
)
def test_what_is_no_recipe_is_refused_in_one_line(data, message):
    """Broken, oversized or executable YAML is refused with the place."""
    with pytest.raises(RecipeError, match=r"^r\.yaml") as caught:
        read_text(data, "r.yaml")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_recipe_is_named(tmp_path: Path):
    """A recipe that is not there is named with its path."""
    with pytest.raises(RecipeError, match=r"absent\.yaml: cannot be read"):
        read_file(tmp_path / "absent.yaml")


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("a.b=2", {"a": {"b": 2}, "l": [{"x": 1}]}),
        ("l.0.x=[3, no]", {"a": {"b": 1}, "l": [{"x": [3, "no"]}]}),
        ("n.m.o=1e-3", {"a": {"b": 1}, "l": [{"x": 1}], "n": {"m": {"o": 1e-3}}}),
        ("a={c: 4}", {"a": {"c": 4}, "l": [{"x": 1}]}),
        ("a=", {"a": None, "l": [{"x": 1}]}),
        ("a.b=x=y", {"a": {"b": "x=y"}, "l": [{"x": 1}]}),
    ],
)
def test_overrides_set_one_setting(assignment, expected):
    """An override sets one setting, makes parent mappings, and leaves the original unchanged."""
    before = {"a": {"b": 1}, "l": [{"x": 1}]}
    assert override(Tree(before), [assignment]).values == expected
    assert before == {"a": {"b": 1}, "l": [{"x": 1}]}


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("a", "written as path=value"),
        ("=1", "written as path=value"),
        ("a.b.c=1", "a.b is 1, which has no settings inside"),
        ("l.4.x=1", "the list l has 1 entries"),
        ("l.4=1", "the list l has 1 entries"),
        ("a=[", "not YAML"),
    ],
)
def test_overrides_that_fit_nowhere_are_refused(assignment, message):
    """An override that cannot be applied says why."""
    (problem,) = override(Tree({"a": {"b": 1}, "l": [{"x": 1}]}), [assignment]).problems
    assert message in problem
    assert problem.startswith(f"-o {assignment}")
