"""`import lingraft`: the functions on tokenizers and models in memory."""

from __future__ import annotations

import subprocess
import sys

import pytest

import lingraft


def test_every_public_name_is_found_in_the_module_that_defines_it():
    """`__all__`, the table of modules, and the modules name the same things."""
    assert set(lingraft.__all__) == {*lingraft._MODULE_OF, "__version__", "errors"}
    assert lingraft.__all__ == sorted(lingraft.__all__)
    for name in lingraft._MODULE_OF:
        assert getattr(lingraft, name).__module__.startswith("lingraft."), name
    assert lingraft.errors.LingraftError is lingraft.LingraftError
    assert lingraft.__version__ >= "0.1"
    assert set(lingraft.__all__) <= set(dir(lingraft))
    with pytest.raises(AttributeError, match="no attribute 'adopt'"):
        lingraft.adopt  # noqa: B018


def test_importing_the_package_imports_nothing_heavy():
    """`import lingraft` imports neither torch nor transformers nor pydantic."""
    code = (
        "import sys, lingraft; "
        "print(*sorted(m for m in sys.modules if m in {'torch', 'transformers', 'pydantic'} "
        "or m.startswith('lingraft.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
