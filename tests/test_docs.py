"""The documents: pages from code say what the code says now, examples run, links lead somewhere."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from markdown.extensions.toc import slugify

import lingraft
from lingraft.cli import COMMANDS
from lingraft.errors import RecipeError
from lingraft.recipe.load import parse_recipe
from lingraft.recipe.tree import Tree
from lingraft.recipe.yaml import read_text
from tests.commands import start
from tests.conftest import HINDI, ROOT

DOCS = ROOT / "docs"
PAGES = sorted(
    [
        *(
            path
            for folder in ("docs", "recipes", "benchmarks")
            for path in (ROOT / folder).rglob("*.md")
        ),
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
    ]
)


@pytest.mark.parametrize(
    "name",
    ["methods.md", "settings.md", "cli.md", "pretokenizers.md", "trainer.md", "receive.md"],
)
def test_pages_from_code_are_up_to_date(name, monkeypatch):
    """`make docs-pages` would change nothing."""
    monkeypatch.syspath_prepend(str(DOCS))
    import generate

    assert (DOCS / name).read_text(encoding="utf-8") == generate.PAGES[name](), (
        "run: make docs-pages"
    )
    sys.modules.pop("generate")


def test_every_method_and_command_has_a_place():
    """Every registered method and every command stands in its page."""
    from lingraft.embeddings import INITS
    from lingraft.strategies import STRATEGIES
    from lingraft.vocabulary import SELECTIONS

    methods, commands = ((DOCS / name).read_text() for name in ("methods.md", "cli.md"))
    for registry in (INITS, SELECTIONS, STRATEGIES):
        assert all(f"\n### {name}\n" in methods for name in registry.names())
    for group in COMMANDS.values():
        assert all(f"\n### lingraft {command.__name__}\n" in commands for command in group)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_pages_name_are_there(page):
    """Links to files, and recipes, tests and benchmarks named in the text, lead somewhere."""
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
        assert (page.parent / target).exists(), target
    for name in re.findall(r"`((?:recipes|tests|benchmarks|notebooks|docs)/[\w./-]+\.\w+)`", text):
        assert (ROOT / name).exists(), name


def headings(page: Path) -> list[str]:
    text = re.sub(
        r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE
    )
    return re.findall(r"^#+ (.+)$", text, re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_headings_are_lines_of_their_own_and_links_find_them(page):
    """A heading with the paragraph below it in one line is none, and has another anchor."""
    for heading in headings(page):
        assert len(heading) <= 100
        assert not re.search(r"[a-z`)]\. [A-Z]|\.$", heading), heading
    for target, anchor in re.findall(
        r"\]\((?!https?:)([^)#]*\.md)?#([^)]+)\)", page.read_text(encoding="utf-8")
    ):
        linked = page.parent / target if target else page
        assert anchor in {slugify(heading, "-") for heading in headings(linked)}, (target, anchor)


BLOCKS = [
    (page.name, block)
    for page in PAGES
    for block in re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
]


@pytest.mark.parametrize(
    ("page", "block"), BLOCKS, ids=[f"{page}-{i}" for i, (page, _) in enumerate(BLOCKS)]
)
def test_settings_in_pages_are_settings(page, block):
    """Every YAML example is part of an accepted recipe.

    Examples of studies are recognized by their question or axes.
    """
    if {"question", "axes"} & set(read_text(block.encode(), page).values):
        return  # a study, which has tests of its own
    base = {
        "name": "x",
        "model": "m",
        "target": {"language": "hi", "corpus": "hindi.txt"},
        "replay": {"language": "en", "corpus": "english.txt"},
    }
    values = base | read_text(block.encode(), page).values
    try:
        parse_recipe(Tree(values))
    except RecipeError as error:  # a model that is not there is no fault of the example
        pytest.fail(str(error))


def test_the_example_of_a_method_works():
    """The class in extend.md registers, is found by name, and does what it says."""
    import torch

    from lingraft.checkpoint.row_request import InitRequest
    from lingraft.embeddings import INITS
    from lingraft.splice import AddedToken, identity_splice

    code = re.search(r"```python\n(.*?)```", (DOCS / "extend.md").read_text(), re.DOTALL)[1]
    try:
        exec(compile(code, "extend.md", "exec"), {"__name__": "extend"})
        splice = identity_splice(3, [AddedToken(3, b"ab", (0, 1))])
        request = InitRequest(torch.arange(12.0).reshape(3, 4), splice, "input")
        rows = INITS.parse({"scaled": {"factor": 2}}).rows(request)
        assert (rows.rows == 2 * INITS.parse("mean").rows(request).rows).all()
    finally:
        INITS._classes.pop("scaled", None)


def test_the_example_of_the_readme_runs(tiny_model, capsys):
    """The Python code of README.md runs as it stands, on a small model and a few texts."""
    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]
    small = code.replace("HuggingFaceTB/SmolLM2-135M", str(tiny_model)).replace("10_000", "20")
    assert small.count(str(tiny_model)) == 1
    exec(compile(small, "README.md", "exec"), {"texts": HINDI, "heldout": HINDI})
    printed = capsys.readouterr().out
    assert "bits per byte" in printed
    assert "after" in printed


def test_exit_codes_are_those_of_the_errors():
    """The documented exit codes are the ones that errors carry, and 0 and 1."""
    from lingraft import errors

    codes = {
        cls.exit_code
        for cls in vars(errors).values()
        if isinstance(cls, type) and issubclass(cls, (errors.LingraftError, errors.Interrupted))
    }
    documented = set(
        map(int, re.findall(r"^\| (\d+) \|", (DOCS / "cli.md").read_text(), re.MULTILINE))
    )
    assert documented == codes | {0, 1}


def test_the_navigation_names_every_page():
    """No page is out of reach."""
    named = re.findall(r"[\w-]+\.md", (ROOT / "mkdocs.yml").read_text().partition("nav:")[2])
    assert set(named) == {page.name for page in DOCS.glob("*.md")}


def test_the_reference_has_every_public_name():
    """Every name of `lingraft.__all__` stands in the page of the API, or is an error class."""
    page = (DOCS / "api.md").read_text(encoding="utf-8")
    named = {*re.findall(r"^::: lingraft\.(\w+)$", page, re.MULTILINE), *vars(lingraft.errors)}
    assert {*lingraft.__all__} - {"__version__"} <= named


def test_the_site_is_built_without_a_warning(tmp_path):
    """Mkdocs builds every page; a link or anchor that leads nowhere is an error."""
    site = tmp_path / "site"
    done = subprocess.run(
        # Not quiet: warnings that are not printed are not counted either.
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", site],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path.stem for path in DOCS.glob("*.md")} - {"index"} <= {
        path.name for path in site.iterdir()
    }
    # Examples of docstrings are code; Markdown alone would read them as quotations.
    reference = (site / "api" / "index.html").read_text(encoding="utf-8")
    assert "<blockquote>" not in reference
    assert reference.count('class="gp"') > 3


def cells_of(notebook: str) -> list[dict[str, Any]]:
    content = json.loads((ROOT / "notebooks" / notebook).read_text(encoding="utf-8"))
    return [cell for cell in content["cells"] if cell["cell_type"] == "code"]


NOTEBOOKS = {
    "tutorial.ipynb": ("bits per byte", "tokens:", "random-rows", "report.html"),
    "trainer.ipynb": ("repair the pre-tokenizer", "claim holds: True", "rows", "of them English"),
}


SMALLER = {
    "tutorial.ipynb": {
        '"stories": 1500': '"stories": 300',
        '"100K tokens"': '"20K tokens"',
        '"40K tokens"': '"5K tokens"',
        '"vocabulary.size": 300': '"vocabulary.size": 150',
    },
    "trainer.ipynb": {"STEPS = 150": "STEPS = 2"},
}


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_a_notebook_runs_from_top_to_bottom(notebook, tmp_path):
    """Its code cells, run one after another in one interpreter, print what they describe."""
    code = "\n".join("".join(cell["source"]) for cell in cells_of(notebook))
    for written, smaller in SMALLER[notebook].items():
        assert written in code
        code = code.replace(written, smaller)
    done = start("-c", code, cwd=ROOT, environment={**os.environ, "TMPDIR": str(tmp_path)}).finish()
    assert done.returncode == 0, done.stderr
    for said in NOTEBOOKS[notebook]:
        assert said in done.stdout


def test_the_tutorial_notebook_is_clean():
    """The notebook holds no outputs, so that a diff shows what was written."""
    assert not any(cell.get("outputs") for cell in cells_of("tutorial.ipynb"))


def test_the_notebook_of_a_page_holds_its_outputs():
    """All of its cells were run in order, without an error or a line of progress."""
    cells = cells_of("trainer.ipynb")
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} == {"stream", "execute_result"}
    assert {output.get("name", "stdout") for output in outputs} == {"stdout"}
    assert "compared with before" in json.dumps(outputs)


def test_the_citation_names_this_version():
    """CITATION.cff and the package agree."""
    from importlib.metadata import version

    assert str(yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"]) == version(
        "lingraft"
    )
    assert (Path(__import__("lingraft").__file__).parent / "py.typed").is_file()


def test_benchmarks_import_names_that_exist():
    """Each name that a script in benchmarks/ imports from lingraft exists."""
    imported = set()
    for path in (ROOT / "benchmarks").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("lingraft"):
                imported.update((node.module, alias.name) for alias in node.names)
    missing = []
    for module, name in sorted(imported):
        if hasattr(importlib.import_module(module), name):
            continue
        if importlib.util.find_spec(f"{module}.{name}") is None:
            missing.append(f"{module}.{name}")
    assert len(imported) > 50
    assert not missing
