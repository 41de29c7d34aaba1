"""The environment for mybinder.org has what the library asks for, in the versions of the book."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BINDER = ROOT / "binder"


def name(requirement):
    return re.split(r"[<>=! ]", requirement)[0].lower().replace("_", "-")


def requirements():
    lines = (BINDER / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def pins():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return {name(line) for line in lines if "==" in line}


def test_it_has_what_the_library_and_the_chapters_need():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {name(line) for line in project["dependencies"]}
    given = {name(line) for line in requirements() if not line.startswith("-")}
    assert given == needed | {"ipykernel", "jupyterlab", "jupyterlab-myst"}


def test_versions_are_the_pins_of_the_book_and_torch_is_the_one_without_a_gpu():
    lines = requirements()
    assert "-c ../requirements.txt" in lines
    assert any(line.startswith("--extra-index-url") and line.endswith("/cpu") for line in lines)
    assert {name(line) for line in lines if not line.startswith("-")} <= pins()
    assert not [line for line in lines if "==" in line], "a pin outside requirements.txt"


def test_python_is_one_that_the_library_supports():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    least = re.fullmatch(r">=3\.(\d+)", project["requires-python"])[1]
    chosen = re.fullmatch(r"python-3\.(\d+)\n", (BINDER / "runtime.txt").read_text())[1]
    assert int(chosen) >= int(least)


def test_the_library_is_installed_from_the_repository():
    script = BINDER / "postBuild"
    assert os.access(script, os.X_OK), "mybinder.org runs postBuild only if it is executable"
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    assert "pip install" in script.read_text()
