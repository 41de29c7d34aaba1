"""Submissions that attack: each is contained, and graded as it deserves.

An attack is written so that it would be rewarded: ``double`` returns the right answer exactly if
the attack works. So a mark of 0 says that it did not. The second question is answered honestly in
every submission, and must get its point whatever the first did.
"""

import json
import os
import platform
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from attacks import ATTACKS
from course.grade import grade_one

MARK = f"attack-canary-{os.getpid()}"  # of this worker: another's processes are not ours


@pytest.fixture(scope="module")
def scene(tmp_path_factory, master_path):
    """What an attack may wish for: private files, a neighbour, an open port, folders to write."""
    folder = tmp_path_factory.mktemp("submissions")
    (folder / "bob.ipynb").write_text("{}")
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0)
    root = Path(__file__).resolve().parents[2]
    outside = [str(place) for place in (folder, master_path.parent, root)]
    outside += ["/", "/usr", "/etc", "/var/tmp", "/tmp", "/dev/shm", sys.prefix]
    facts = {
        # What the inside has of its own at these names is no harm: it is gone with it.
        "folders": [name for name in outside if not name.startswith(("/tmp", "/dev/shm"))],
        "outside": outside,
        "private": [str(master_path), *map(str, root.glob("course/*.ipynb")), __file__],
        "port": listener.getsockname()[1],
        "grader": os.getpid(),
        "clone": 56 if (x86 := platform.machine() == "x86_64") else 220,
        "x86": x86,
        "mark": MARK,
    }
    yield folder, facts, listener
    listener.close()


# These use no processor time, so that the clock must end them.
WAIT = {"stops itself", "breaks off in a message", "kills its parents"}


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_is_contained(name, scene, key, limits, walls, hand_in, monkeypatch):
    folder, facts, listener = scene
    monkeypatch.setenv("SECRET", "canary")
    source, share, says = ATTACKS[name]
    source = source.replace("{{", "{").replace("}}", "}")
    for word, fact in facts.items():
        source = source.replace(f"{{{word}}}", fact if isinstance(fact, str) else repr(fact))
    waits = replace(limits, patience=4)
    before = sorted(path.name for path in folder.iterdir())
    path = hand_in(folder / "attack.ipynb", double=source)
    graded = grade_one("attack", path, key, waits if name in WAIT else limits, walls)
    path.unlink()

    assert graded.status == "ok", graded.note
    double, total = graded.marks
    assert double.share == share
    assert any(part.lower() in double.message.lower() for part in says.split("|")), double.message
    assert total.share == 1, total.message  # the next question does not suffer
    assert sorted(path.name for path in folder.iterdir()) == before
    assert not Path(f"/tmp/{MARK}").exists()
    assert not any(Path(place, "owned").exists() for place in facts["outside"])
    with pytest.raises(BlockingIOError):
        listener.accept()
    left = [p for p in psutil.process_iter(["cmdline"]) if MARK in str(p.info["cmdline"])]
    assert not left


FILES = {
    "damaged JSON": b'{"cells": [',
    "no notebook": b"[1, 2, 3]",
    "nothing": b"",
    "bytes": bytes(range(256)) * 10,
    "nested a million deep": b"[" * 1_000_000,
    "cells of odd kinds": json.dumps({"cells": [3, None, {"cell_type": 7}]}).encode(),
    "too large": b" " * (5 * 2**20 + 1),
    "the format of 2014": b'{"nbformat": 3, "worksheets": [{"cells": []}]}',
    "a number of 5000 digits": b'{"cells": [' + b"9" * 5000 + b"]}",
    "more code than anybody writes": json.dumps(
        {"cells": [{"cell_type": "code", "source": "def double(x): ...\n" + "[1],\n" * 50_000}]}
    ).encode(),
}


@pytest.mark.parametrize("name", FILES)
def test_file_that_is_no_notebook(name, tmp_path, key, limits, walls):
    path = tmp_path / "a.ipynb"
    path.write_bytes(FILES[name])
    graded = grade_one("a", path, key, limits, walls)
    assert graded.status == "unreadable"
    assert graded.total == 0


def test_links_and_pipes_are_not_followed(tmp_path, key, limits, walls, hand_in):
    hand_in(tmp_path / "bob.ipynb")
    (tmp_path / "link.ipynb").symlink_to(tmp_path / "bob.ipynb")
    os.mkfifo(tmp_path / "pipe.ipynb")
    (tmp_path / "folder.ipynb").mkdir()
    hand_in(tmp_path / "carol.ipynb")
    os.link(tmp_path / "carol.ipynb", tmp_path / "hard.ipynb")
    for name in ("link", "pipe", "folder", "hard"):
        graded = grade_one(name, tmp_path / f"{name}.ipynb", key, limits, walls)
        assert (graded.status, graded.total) == ("unreadable", 0)


@pytest.mark.parametrize("source", ["-" * 100_000 + "1", "(" * 100_000, "x" + ".a" * 90_000])
def test_source_that_overwhelms_the_parser(source, tmp_path, key, limits, walls, hand_in):
    graded = grade_one("a", hand_in(tmp_path / "a.ipynb", double=source), key, limits, walls)
    assert [mark.share for mark in graded.marks] == [0, 1]


BY_NUMBER = """
import os, sys
from course.sandbox import Limits, Sandbox

held = [os.dup(1)]
while held[-1] < {last}:
    held.append(os.dup(1))
with Sandbox(Limits(), "{walls}") as box:
    box.start([])
    print("started")
"""


def test_a_sandbox_starts_whatever_the_numbers_of_its_pipes(walls):
    """Inside they become 3 and 4, on a way that must not run over one of them."""
    for last in (5, 15, 16, 17):
        run = subprocess.run(
            [sys.executable, "-c", BY_NUMBER.format(last=last, walls=walls)],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2] / "tools")},
            capture_output=True,
            text=True,
        )
        assert run.stdout == "started\n", f"pipes after {last}: {run.stderr[-300:]}"
