"""Build the book: execute what has changed, render, check, say where it is.

Jupyter Book keeps executed notebooks in a cache that knows nothing but their code cells. A
notebook's result also depends on the library, on the pinned packages and on Python, and what it
records goes to the ledger, which must not keep what an older version of it said. So:

* when ``lib/``, ``requirements.txt`` or Python changes, ``_build`` is removed: every notebook is
  executed again;
* when the code of one notebook changes, its cached runs and its records are removed;
* when nothing at all has changed since the last good build, nothing is done;
* otherwise all pages are read and written anew, executed notebooks coming from the cache: Sphinx
  alone would keep stale sidebars and lose the warnings of pages that it holds to be up to date.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from edition import day

ROOT = Path(__file__).resolve().parent.parent
KERNELS = Path(__file__).resolve().parent / "jupyter"
LIBRARY = ("lib", "requirements.txt")
PAGES = ("_config.yml", "_toc.yml", "tools", "book", "notebooks", "pyproject.toml", "CITATION.cff")


def files(root: Path, names: Iterable[str]) -> Iterator[Path]:
    """The files under `names`, in a fixed order, without caches and editors' leavings."""
    for name in names:
        path = root / name
        found = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in found:
            parts = file.relative_to(root).parts
            if file.is_file() and not any(
                part == "__pycache__" or part.startswith(".") or part.endswith(".egg-info")
                for part in parts
            ):
                yield file


def digest(root: Path, names: Iterable[str], *more: str) -> str:
    """A key that changes when a file under `names` or one of the words `more` does."""
    total = hashlib.sha256("\0".join(more).encode())
    for file in files(root, names):
        total.update(f"\0{file.relative_to(root).as_posix()}\0".encode())
        total.update(hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()


def code_digest(notebook: Path) -> str:
    """A key that changes when a code cell of the notebook does, as the execution cache's does."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    return hashlib.sha256(json.dumps(code).encode()).hexdigest()


def chapter_of(notebook: str) -> int | None:
    """The chapter that a notebook is, by its name: 01_minimum_norm.ipynb is 1."""
    number = re.match(r"(\d+)_", Path(notebook).name)
    return int(number.group(1)) if number else None


def forget(build: Path, notebook: str) -> None:
    """Remove the ledger records of a notebook's chapter, and the cached runs that made them.

    A chapter may be told in several notebooks; as records name the chapter only, all run again.
    """
    chapter = chapter_of(notebook)
    for record in (build / "ledger").glob("*.json"):
        if chapter and json.loads(record.read_text(encoding="utf-8"))["chapter"] == chapter:
            record.unlink()
    if (build / ".jupyter_cache").is_dir():
        from jupyter_cache import get_cache

        cache = get_cache(build / ".jupyter_cache")
        for run in cache.list_cache_records():
            same = Path(run.uri).name == Path(notebook).name
            if same or (chapter is not None and chapter_of(run.uri) == chapter):
                cache.remove_cache(run.pk)


def prepare(root: Path = ROOT) -> bool:
    """Remove from ``_build`` what no longer holds. False when the last build still holds whole."""
    build = root / "_build"
    state_file = build / ".state.json"
    try:
        old = json.loads(state_file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        old = {}

    scale = os.environ.get("IMPLICIT_BIAS_SCALE", "")
    new = {
        "library": digest(root, LIBRARY, platform.python_version(), scale),
        "pages": digest(root, PAGES, str(day(root))),  # every page states the edition
        "notebooks": {
            path.relative_to(root).as_posix(): code_digest(path)
            for path in files(root, ["notebooks"])
            # Exercises carry the numbers of chapters, and are no pages.
            if path.suffix == ".ipynb" and path.parent.name == "notebooks"
        },
    }
    if old == {**new, "good": True}:
        return False

    if old.get("library") != new["library"] or not (build / "ledger").is_dir():
        if build.exists():
            print("The library, the packages or Python changed: every notebook runs again.")
        shutil.rmtree(build, ignore_errors=True)
    else:
        known = old["notebooks"]
        for notebook in sorted(known.keys() | new["notebooks"].keys()):
            if known.get(notebook) != new["notebooks"].get(notebook):
                print(f"{notebook} changed: it runs again.")
                forget(build, notebook)
        shutil.rmtree(build / "html", ignore_errors=True)
        shutil.rmtree(build / ".doctrees", ignore_errors=True)

    (build / "ledger").mkdir(parents=True, exist_ok=True)
    state_file.write_text(json.dumps(new), encoding="utf-8")
    return True


def render(root: Path = ROOT) -> None:
    """Run Jupyter Book, every warning an error, and check that pages came out."""
    environment = {
        **os.environ,
        "IMPLICIT_BIAS_LEDGER": str(root / "_build" / "ledger"),
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        # Notebooks run with the library that lies beside them.
        "PYTHONPATH": os.pathsep.join(
            filter(None, [str(root / "lib"), os.environ.get("PYTHONPATH")])
        ),
    }
    # Jupyter's own kernel, but for what it says, as a warning, on every start.
    environment["JUPYTER_PATH"] = os.pathsep.join(
        filter(None, [str(KERNELS), os.environ.get("JUPYTER_PATH")])
    )
    environment.pop("MPLBACKEND", None)  # it would keep figures out of the pages
    program = Path(sys.executable).with_name("jupyter-book")
    command = [str(program), "build", ".", "-W", "--keep-going", "-n"]
    run = subprocess.run(command, cwd=root, env=environment)
    if run.returncode:
        sys.exit(
            "build: the book was not built. Every warning counts as an error: look above for the\n"
            "       lines with WARNING or ERROR. A cell that raised is shown with its traceback."
        )
    chapters = sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    pages = ["index.html", *(f"notebooks/{path.stem}.html" for path in chapters)]
    missing = [page for page in pages if not (root / "_build/html" / page).is_file()]
    if missing:
        sys.exit(
            f"build: the built book lacks {', '.join(missing)}.\n"
            "       Is the page named in _toc.yml, and does _config.yml leave it in?"
        )


def make(root: Path = ROOT) -> bool:
    """Build what no longer holds. False when there was nothing to do."""
    if not prepare(root):
        return False
    render(root)
    state_file = root / "_build" / ".state.json"
    state = json.loads(state_file.read_text(encoding="utf-8"))
    state_file.write_text(json.dumps({**state, "good": True}), encoding="utf-8")
    return True


def print_ledger(root: Path = ROOT) -> None:
    """Print the claims by chapter and verdict, and where the ledger lies."""
    rows = json.loads((root / "_build" / "ledger.json").read_text(encoding="utf-8"))
    for row in rows:
        if row["verdict"] != "open":
            print(f"  {row['id']:24} {row['verdict']}")
    verdicts = Counter(row["verdict"] for row in rows)
    print(f"{len(rows)} claims:", ", ".join(f"{n} {word}" for word, n in verdicts.most_common()))
    print(f"As a page: {root / '_build/html/book/ledger.html'}")
    print(f"As data:   {root / '_build/ledger.json'}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the book.")
    parser.add_argument("--ledger", action="store_true", help="print the ledger of the built book")
    parser.add_argument("--force", action="store_true", help="forget everything built before")
    arguments = parser.parse_args()
    if arguments.ledger:
        print_ledger()
        return
    if arguments.force:
        shutil.rmtree(ROOT / "_build", ignore_errors=True)

    start = time.monotonic()
    if make():
        print(f"Built in {time.monotonic() - start:.0f} s.")
    else:
        print("Nothing has changed since the last build.")
    print(f"The book is at {ROOT / '_build' / 'html' / 'index.html'}")


if __name__ == "__main__":
    main()
