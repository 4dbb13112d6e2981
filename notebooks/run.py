"""Run the notebooks from top to bottom in a kernel of this interpreter, without saving them."""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent

for path in sorted(HERE.glob("*.ipynb")):
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": HERE.parent}}
    NotebookClient(notebook, timeout=900, kernel_name="python3", resources=resources).execute()
    sys.stdout.write(
        f"{path.name}: {sum(cell.cell_type == 'code' for cell in notebook.cells)} cells ran\n"
    )
