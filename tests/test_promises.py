"""What SECURITY.md promises of the source as a whole; each promise names existing tests."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

FORBIDDEN_MODULES = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
FORBIDDEN_CALLS = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "os.system",
    "os.popen",
    "torch.load",
    "yaml.load",
    "yaml.unsafe_load",
    "yaml.full_load",
    "numpy.core.multiarray._reconstruct",
}
FORBIDDEN_VALUES = {
    "shell": True,
    "trust_remote_code": True,
    "allow_pickle": True,
    "weights_only": False,
    "verify": False,
}


def sources() -> list[Path]:
    return sorted((ROOT / "src").rglob("*.py"))


def complaints(tree: ast.AST) -> Iterator[str]:
    """Yield what a module does that it must not."""
    for node in ast.walk(tree):
        modules = (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
        yield from (
            f"imports {name}" for name in modules if name.split(".")[0] in FORBIDDEN_MODULES
        )
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in FORBIDDEN_CALLS:
                yield f"calls {name}"
            for keyword in node.keywords:
                value = getattr(keyword.value, "value", None)
                if keyword.arg in FORBIDDEN_VALUES and value is FORBIDDEN_VALUES[keyword.arg]:
                    yield f"passes {keyword.arg}={value}"


def test_nothing_is_unpickled_and_no_text_is_run_as_code() -> None:
    """No module of lingraft unpickles, evaluates text, starts a shell, or runs a model's code."""
    found = {
        str(path.relative_to(ROOT)): list(complaints(ast.parse(path.read_text(encoding="utf-8"))))
        for path in sources()
    }
    assert {path: said for path, said in found.items() if said} == {}


def test_one_module_alone_can_trust_code() -> None:
    """One module passes `trust_remote_code` to loaders; others pass False, or read the setting."""
    name = "trust_remote_code"
    passing = [
        path.name
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Dict) and name in map(_constant, node.keys))
        or (
            isinstance(node, ast.keyword)
            and node.arg == name
            and ast.unparse(node.value) != "False"
        )
    ]
    assert passing == ["model_code.py"]


def _constant(node: ast.expr | None) -> object:
    return node.value if isinstance(node, ast.Constant) else None


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from dill import loads",
        "eval('1')",
        "torch.load(f)",
        "np.load(f, allow_pickle=True)",
        "subprocess.run(c, shell=True)",
        "AutoModel.from_pretrained(x, trust_remote_code=True)",
    ],
)
def test_the_check_sees_what_it_looks_for(code: str) -> None:
    """Each kind of forbidden code is found."""
    assert list(complaints(ast.parse(code)))


def test_what_listens_listens_on_the_loopback_address() -> None:
    """The only server is bound to 127.0.0.1; no module names an address for every interface."""
    texts = {path: path.read_text(encoding="utf-8") for path in sources()}
    assert [path.name for path, text in texts.items() if "0.0.0.0" in text] == []
    servers = [
        path.relative_to(ROOT / "src" / "lingraft").parts[0]
        for path, text in texts.items()
        if re.search(r"HTTPServer\(|socketserver|uvicorn", text)
    ]
    assert set(servers) <= {"serving"}


def test_each_promise_names_its_tests() -> None:
    """Every row of the table points at test files that exist."""
    page = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (.+?) \| (`tests/.+?) \|$", page, re.MULTILINE)
    assert len(rows) >= 10
    for promise, named in rows:
        files = re.findall(r"`(tests/\w+\.py)`", named)
        assert files, promise
        assert [file for file in files if not (ROOT / file).is_file()] == []
