"""Run the notebooks from top to bottom in a kernel of this interpreter.

With --write, the outputs are saved in the notebooks that are pages of the documentation.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent
PAGES = ("trainer.ipynb",)
"""Notebooks that are kept with their outputs; docs/generate.py makes pages of them."""


def without_standard_error(outputs: list[Any]) -> list[Any]:
    """Return outputs without lines of progress, which differ each time."""
    return [output for output in outputs if output.get("name") != "stderr"]


for path in sorted(HERE.glob("*.ipynb")):
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": HERE.parent}}
    client = NotebookClient(
        notebook, timeout=900, kernel_name="python3", resources=resources, record_timing=False
    )
    client.execute()
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    sys.stdout.write(f"{path.name}: {len(code)} cells ran\n")
    if "--write" in sys.argv and path.name in PAGES:
        for cell in code:
            cell.outputs = without_standard_error(cell.outputs)
        nbformat.write(notebook, path)
