"""Check that the notebooks are clean, so that a change to one reads as a change to its text.

    python tools/check_notebooks.py            # check all of notebooks/
    python tools/check_notebooks.py --fix      # mend what can be mended without running anything

A clean notebook stores no output, except small plain text in cells marked ``# NBVAL_CHECK_OUTPUT``:
the tests compare those with what the cell prints. nbval compares nothing where the execution count
is null, so marked cells keep one and all others have none.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MARK = "# NBVAL_CHECK_OUTPUT"
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
CELL_METADATA = {"mystnb", "tags"}
LONGEST_OUTPUT = 2_000
CELL_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
FIX = "run `python tools/check_notebooks.py --fix`"

Notebook = dict[str, Any]


def canonical(notebook: Notebook) -> str:
    """The one way to write a notebook to a file (the one that Jupyter uses)."""
    return json.dumps(notebook, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def joined(text: str | list[str]) -> str:
    return text if isinstance(text, str) else "".join(text)


def marked(cell: Notebook) -> bool:
    return MARK in joined(cell["source"])


def plain(output: Notebook) -> bool:
    """Whether an output is plain text on stdout, or a plain-text result."""
    if output["output_type"] == "stream":
        return bool(output.get("name") == "stdout")
    return output["output_type"] in ("execute_result", "display_data") and set(
        output.get("data", {})
    ) == {"text/plain"}


def length(output: Notebook) -> int:
    return len(joined(output.get("text", "") or output.get("data", {}).get("text/plain", "")))


def problems(notebook: Notebook, text: str | None = None) -> list[str]:
    """What is unclean in a notebook, each with why it matters and what to do."""
    found = []
    if (notebook.get("nbformat"), notebook.get("nbformat_minor")) != (4, 5):
        return ["is not of notebook format 4.5, the first with cell ids: save it with JupyterLab"]
    if notebook["metadata"] != METADATA:
        found.append(
            "has other metadata than the fixed ones (kernel python3), "
            f"which differ from machine to machine: {FIX}"
        )
    ids: set[str] = set()
    count = 0
    for index, cell in enumerate(notebook["cells"]):
        name = cell.get("id", "")
        where = f"cell {index} ({name or 'no id'})"
        if not CELL_ID.fullmatch(name):
            found.append(f"{where} has no valid id, so it cannot be followed through edits: {FIX}")
        elif name in ids:
            found.append(f"{where} has the id of another cell, ids must be unique: {FIX}")
        ids.add(name)
        if stray := sorted(set(cell["metadata"]) - CELL_METADATA):
            found.append(f"{where} has stray metadata ({', '.join(stray)}) of some editor: {FIX}")
        if cell.get("attachments"):
            found.append(
                f"{where} carries an attached file, which bloats every diff: "
                "draw it in a cell, or put it under book/images and link it"
            )
        if cell["cell_type"] == "code":
            count += 1
            found += [f"{where} {problem}" for problem in code_problems(cell, count)]
    if not found and text is not None and text != canonical(notebook):
        found.append(f"is not written as Jupyter writes it (indent, order of keys): {FIX}")
    return found


def code_problems(cell: Notebook, count: int) -> list[str]:
    outputs = cell["outputs"]
    if not marked(cell):
        if outputs or cell["execution_count"] is not None:
            return [
                "stores an output or an execution count, but is not marked "
                f"`{MARK}`; the build makes outputs afresh: {FIX}"
            ]
        return []
    found = []
    if not outputs:
        found.append(
            "is marked as checked but stores no output, so nothing is compared: "
            "run the notebook and save it, or remove the mark"
        )
    for output in outputs:
        if not plain(output):
            kinds = output.get("name") or ", ".join(output.get("data", {}))
            found.append(
                f"stores an output that is not plain text ({kinds or output['output_type']}); "
                "pictures and errors are not compared: print the number that matters instead"
            )
    if sum(map(length, outputs)) > LONGEST_OUTPUT:
        found.append(
            f"stores more than {LONGEST_OUTPUT} characters; nobody reads so much in a diff: "
            "print less"
        )
    counts = {cell["execution_count"]} | {
        output["execution_count"] for output in outputs if "execution_count" in output
    }
    if outputs and counts != {count}:
        found.append(
            f"must carry the execution count {count} (its place among the code cells); "
            f"with null nbval compares nothing: {FIX}"
        )
    return found


def clean(notebook: Notebook) -> Notebook:
    """The notebook with all mended that can be mended without running it."""
    cells: list[Notebook] = []
    ids: set[str] = set()
    count = 0
    for index, cell in enumerate(notebook["cells"]):
        name = cell.get("id", "")
        if not CELL_ID.fullmatch(name) or name in ids:
            name = next(new for k in range(len(ids) + 1) if (new := f"cell-{index + k}") not in ids)
        ids.add(name)
        new_cell: Notebook = {
            "cell_type": cell["cell_type"],
            "id": name,
            "metadata": {k: v for k, v in cell["metadata"].items() if k in CELL_METADATA},
            "source": joined(cell["source"]).splitlines(keepends=True),
        }
        if cell.get("attachments"):
            new_cell["attachments"] = cell["attachments"]
        if cell["cell_type"] == "code":
            count += 1
            kept = [dict(out) for out in cell["outputs"] if plain(out)] if marked(cell) else []
            for output in kept:
                if output["output_type"] == "stream":
                    output["text"] = joined(output["text"]).splitlines(keepends=True)
                else:
                    text = joined(output["data"]["text/plain"]).splitlines(keepends=True)
                    output["data"], output["metadata"] = {"text/plain": text}, {}
                if output["output_type"] == "execute_result":
                    output["execution_count"] = count
            new_cell |= {"outputs": kept, "execution_count": count if kept else None}
        cells.append(new_cell)
    return {"cells": cells, "metadata": METADATA, "nbformat": 4, "nbformat_minor": 5}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Check that notebooks are clean.")
    parser.add_argument("paths", nargs="*", type=Path, help="notebooks; all when none is named")
    parser.add_argument("--fix", action="store_true", help="mend what can be mended")
    options = parser.parse_args(arguments)
    paths = options.paths or sorted(
        path
        for path in (ROOT / "notebooks").rglob("*.ipynb")
        if ".ipynb_checkpoints" not in path.parts
    )
    if not paths:
        print(
            "check_notebooks: there are no notebooks, so nothing was checked: is notebooks/ here?"
        )
        return 1
    bad = 0
    for path in paths:
        name = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
        try:
            text = path.read_text(encoding="utf-8")
            notebook = json.loads(text)
            if options.fix and notebook.get("nbformat") == 4:
                notebook = clean(notebook)
                if canonical(notebook) != text:
                    text = canonical(notebook)
                    path.write_text(text, encoding="utf-8")
                    print(f"{name}: mended")
            found = problems(notebook, text)
        except (OSError, ValueError, KeyError) as error:
            found = [f"cannot be read as a notebook ({error!r}): restore it from git"]
        for problem in found:
            print(f"{name}: {problem}")
        bad += bool(found)
    print(f"{len(paths)} notebooks checked, {bad or 'none'} unclean")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
