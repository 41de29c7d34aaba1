"""Every reader copy runs in a simulated Colab, from its install cell to its last.

The kernel is named ``python3`` and has the packages of `requirements.txt`, the oldest that the
library supports, `google.colab` among its modules, a folder of its own to work in, and no
`implicit_bias`. The install cell runs as it stands: git is told to find the repository's address
in a copy of this working tree. What it installs goes to a fresh folder, where the test looks
whether it was the library alone.

    make colab                    # all chapters, one after the other
    make colab CHAPTERS=01_       # those whose name holds 01_
"""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import nbformat
import pytest
import rehome
from nbclient import NotebookClient

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
COPIES = ROOT / "_build" / "html" / "readers"
CHAPTERS = sorted(path.stem for path in (ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
PYTHON = Path(os.environ.get("COLAB_PYTHON", ROOT / ".venv-colab" / "bin" / "python"))
LONGEST_CELL = 300  # seconds
RECOGNISED = "import sys\n\nimport google.colab\n\nassert 'implicit_bias' not in sys.modules"


def git(folder, *words):
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    command = ["git", *identity, *words]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="session")
def repository(tmp_path_factory):
    """A repository that holds the working tree, whatever of it is committed."""
    folder = tmp_path_factory.mktemp("repository")
    listed = git(ROOT, "ls-files", "-co", "--exclude-standard", "-z")
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "as it is")
    return folder


@pytest.fixture(scope="session")
def preinstalled():
    """The packages of the simulated Colab: a Python, and where they lie."""
    if not PYTHON.exists():
        pytest.fail(f"no environment for the simulated Colab at {PYTHON}: run `make colab`")
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = subprocess.run([PYTHON, "-c", ask], capture_output=True, text=True, check=True).stdout
    return Path(site.strip())


@pytest.fixture
def runtime(tmp_path, preinstalled, repository, monkeypatch):
    """A fresh environment over the preinstalled packages, as a kernel; returns what it installs to.

    A package that pip adds, or would replace, lands in the fresh folder and hides the old one.
    """
    fresh = tmp_path / "runtime"
    subprocess.run([PYTHON, "-m", "venv", "--without-pip", fresh], check=True)
    ask = [fresh / "bin" / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    installed = Path(subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip())
    (installed / "preinstalled.pth").write_text(f"{preinstalled}\n{HERE}\n")
    kernel = tmp_path / "jupyter" / "kernels" / "python3"
    kernel.mkdir(parents=True)
    argv = [str(fresh / "bin" / "python"), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": argv, "display_name": "Python 3", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(spec))

    for name in ("PYTHONPATH", "IMPLICIT_BIAS_LEDGER", "IMPLICIT_BIAS_SCALE", "VIRTUAL_ENV"):
        monkeypatch.delenv(name, raising=False)
    address = "https://github.com/" + "/".join(rehome.parse(rehome.current(ROOT)))
    for name, value in {
        "JUPYTER_PATH": kernel.parents[1],
        "COLAB_RELEASE_TAG": "simulated",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "GIT_CONFIG_COUNT": 1,
        "GIT_CONFIG_KEY_0": f"url.file://{repository}.insteadOf",
        "GIT_CONFIG_VALUE_0": address,
    }.items():
        monkeypatch.setenv(name, str(value))
    return installed


def run(notebook, folder):
    """Run a notebook as Colab does, from an empty folder; returns it with its outputs."""
    folder.mkdir()
    recognised = nbformat.v4.new_code_cell(RECOGNISED)
    notebook["cells"].insert(0, recognised)
    client = NotebookClient(
        notebook,
        kernel_name=notebook["metadata"]["kernelspec"]["name"],
        timeout=LONGEST_CELL,
        resources={"metadata": {"path": str(folder)}},
    )
    return client.execute()


def distributions(folder):
    return sorted(
        re.split(r"-\d", path.name)[0] for path in folder.iterdir() if path.suffix == ".dist-info"
    )


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_reader_copy_runs_in_colab(name, runtime, tmp_path):
    notebook = nbformat.read(COPIES / f"{name}.ipynb", as_version=4)
    done = run(notebook, tmp_path / "content")
    assert distributions(runtime) == ["implicit_bias"], "the install cell touched other packages"
    outputs = [out for cell in done["cells"] for out in cell.get("outputs", ())]
    said = [out["text"] for out in outputs if out.get("name") == "stderr"]
    assert not said, "readers would see:\n" + "\n".join(said)[:2000]
    tables = [out for out in outputs if "ledger-rows" in str(out.get("data", {}).get("text/html"))]
    assert tables, "the table of claims is not shown"
    assert not re.search(r"<td>(open|fails)</td>", str(tables))


def test_an_install_cell_that_touches_other_packages_is_noticed(runtime, tmp_path):
    """The check above, proved: the same cell with an upgrade of a package of Colab's."""
    notebook = nbformat.read(COPIES / f"{CHAPTERS[0]}.ipynb", as_version=4)
    cell = next(cell for cell in notebook["cells"] if cell["cell_type"] == "code")
    assert "--no-deps" in cell["source"]
    cell["source"] = cell["source"].replace("--no-deps", "--no-deps --upgrade joblib")
    notebook["cells"] = [cell]
    run(notebook, tmp_path / "content")
    assert distributions(runtime) != ["implicit_bias"]
