"""`make lab` renders the book's boxes and references: JupyterLab accepts the extension for MyST."""

import re
import subprocess
import sys


def test_jupyterlab_loads_the_extension_that_renders_myst():
    command = [sys.executable, "-m", "jupyterlab.labextensions", "list"]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    text = re.sub(r"\x1b\[[0-9;]*m", "", run.stdout + run.stderr)
    line = re.search(r"^\s*jupyterlab-myst .*$", text, re.M)
    assert line, f"jupyterlab_myst is not installed for this JupyterLab:\n{text}"
    # JupyterLab skips what it finds incompatible, and the notebooks show their source.
    assert re.search(r"\benabled\s+OK\b", line[0]), f"JupyterLab will not load it:\n{text}"
