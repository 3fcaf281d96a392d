"""Runs notebooks and keeps their outputs: `python notebooks/refresh.py [name.ipynb ...]`.

Without names, all of them.  What differs from run to run (times, widths of terminals) is left out.
"""

import os
import pathlib
import sys

import nbformat
from nbclient import NotebookClient

HERE = pathlib.Path(__file__).parent


def refresh(path: pathlib.Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    for index, cell in enumerate(notebook.cells):
        cell.metadata, cell["id"] = {}, f"cell-{index}"
    NotebookClient(notebook, kernel_name="python3", record_timing=False).execute()
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    nbformat.write(notebook, path)


if __name__ == "__main__":
    os.environ.pop("MPLBACKEND", None)  # or figures would not be shown
    for path in [pathlib.Path(p) for p in sys.argv[1:]] or sorted(HERE.glob("*.ipynb")):
        print(path.name)
        refresh(path)
