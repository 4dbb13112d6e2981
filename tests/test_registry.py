"""Methods of users and of other packages: registered by hand, or found by their entry points."""

from __future__ import annotations

import runpy
import sys
import textwrap
from abc import abstractmethod
from typing import ClassVar

import pytest

from lingraft.errors import RecipeError
from lingraft.pipeline.stage_node import versioned_stage
from lingraft.registry import Choice, Registry


def defined(source, registry, name="notebook"):
    """Define a class as a cell of a notebook does, and register it."""
    scope = {"Choice": Choice, "ClassVar": ClassVar, "__name__": name}
    exec(textwrap.dedent(source), scope)
    return registry.register(scope["Scaled"])


CELL = """
class Scaled(Choice):
    name: ClassVar[str] = "scaled"
    factor: float = FACTOR
"""


def test_a_cell_that_runs_again_replaces_its_method():
    """A class that is defined again replaces itself; another class of the same name is refused."""
    registry = Registry("trial init", Choice)
    defined(CELL.replace("FACTOR", "1.0"), registry)
    again = defined(CELL.replace("FACTOR", "2.0"), registry)
    assert registry["scaled"] is again
    assert registry.parse("scaled").factor == 2.0
    with pytest.raises(ValueError, match="two methods of kind 'trial init' are called 'scaled'"):
        defined(CELL.replace("FACTOR", "1.0"), registry, name="another")


PACKAGE = """
from typing import ClassVar
from lingraft.registry import Choice

class Scaled(Choice):
    name: ClassVar[str] = "scaled"

class Own(Choice):
    name: ClassVar[str] = "own"

number = 3
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Return a function that installs a package with one entry point of the kind `trial init`."""

    def install(entry, base=Choice):
        info = tmp_path / "trial_plugin-1.0.dist-info"
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: trial-plugin\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[lingraft.trial_init]\n{entry}\n")
        (tmp_path / "trial_plugin.py").write_text(PACKAGE)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "trial_plugin", raising=False)
        return Registry("trial init", base)

    return install


def test_another_package_adds_a_method_by_an_entry_point(installed):
    """The method of an installed package is found by its name, without an import."""
    registry = installed("scaled = trial_plugin:Scaled")
    assert registry.names() == ["scaled"]
    assert registry.parse("scaled").chosen() == {"scaled": {}}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("scaled = trial_plugin:Missing", "cannot be loaded (module 'trial_plugin' has no"),
        ("scaled = no_such_module_of_lingraft:Scaled", "cannot be loaded (No module named"),
        ("scaled = trial_plugin:number", "is no method"),
        ("scale = trial_plugin:Scaled", "is called 'scaled'"),
        ("own = trial_plugin:Own", "two methods are called 'own'"),
    ],
)
def test_an_entry_point_that_does_not_work_is_named_with_its_package(installed, entry, message):
    """Every use of the registry says in one line which package to correct or remove."""
    registry = installed(entry)

    @registry.register
    class Own(Choice):
        name: ClassVar[str] = "own"

    for _ in range(2):
        with pytest.raises(RecipeError) as caught:
            registry.parse("scaled")
        assert "trial-plugin" in str(caught.value)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)


class Trial(Choice):
    """The interface of a kind of methods."""

    @abstractmethod
    def rows(self): ...


OTHER_KINDS = """
from typing import ClassVar
from lingraft.registry import Choice
from tests.test_registry import Trial

class Scaled(Choice):
    name: ClassVar[str] = "scaled"

class Half(Trial):
    name: ClassVar[str] = "half"
"""


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("scaled = trial_plugin:Scaled", r"is not a trial init; these are derived from .*\.Trial;"),
        ("half = trial_plugin:Half", "does not define rows;"),
    ],
)
def test_a_class_that_is_no_method_of_the_kind_is_refused(installed, tmp_path, entry, message):
    """A method of another kind, or without a method of its kind, is an error before it is used."""
    registry = installed(entry, Trial)
    (tmp_path / "trial_plugin.py").write_text(OTHER_KINDS)
    with pytest.raises(RecipeError, match=f"package trial-plugin: entry point .* {message}"):
        registry.names()
    scope = runpy.run_path(str(tmp_path / "trial_plugin.py"))
    cls = scope[entry.partition(":")[2]]
    with pytest.raises(TypeError, match=f"^{cls.__name__} {message.removesuffix(';')}"):
        Registry("trial init", Trial).register(cls)


def test_the_key_of_a_stage_holds_the_code_of_methods_of_others(installed, tmp_path):
    """A change of the code of such a method changes the keys of the stages that use it."""
    own = {"input": {"mean": {"weights": "uniform"}}, "seed": 0}
    others = {"input": {"scaled": {}}, "seed": 0}
    keys = []
    for change in ("", "# another factor"):
        registry = installed("scaled = trial_plugin:Scaled")
        file = tmp_path / "trial_plugin.py"
        file.write_text(PACKAGE + change)
        registry.names()
        keys.append(versioned_stage("embeddings", others).key)
        assert versioned_stage("embeddings", own).settings == own
    assert keys[0] != keys[1]


SCRIPT = """
from typing import ClassVar
from lingraft.registry import Choice, Registry, code_of_methods

@Registry("trial init", Choice).register
class Scaled(Choice):
    name: ClassVar[str] = "scaled"

    def rows(self):
        return 1.0

    @property
    def width(self):
        return 3

    @staticmethod
    def scale():
        return 5
"""


def test_a_script_has_the_same_keys_in_the_processes_that_it_starts(tmp_path):
    """Python imports the script again in them, under another name."""
    file = tmp_path / "script.py"
    file.write_text(SCRIPT)
    codes = []
    for name in ("__main__", "__mp_main__"):
        scope = runpy.run_path(str(file), run_name=name)
        codes.append(scope["code_of_methods"]({"scaled": {}}))
    assert codes[0] == codes[1]
    for changed in ("1.0", "3", "5"):
        file.write_text(SCRIPT.replace(f"return {changed}", "return 7"))
        scope = runpy.run_path(str(file), run_name="__main__")
        assert scope["code_of_methods"]({"scaled": {}}) != codes[0]
