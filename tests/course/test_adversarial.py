"""Submissions that attack: each is contained, and graded as it deserves.

An attack is written so that it would be rewarded: ``double`` returns the right answer exactly if
the attack works. So a mark of 0 says that it did not. The second question is answered honestly in
every submission, and must get its point whatever the first did.
"""

import json
import os
import socket
import time
from pathlib import Path

import psutil
import pytest
from course.grade import grade_folder, grade_one

MARK = "attack-canary-7c1f"

# Name: (source of the answer's cell, the share that it deserves, what the report must say).
ATTACKS = {
    "endless loop in the cell": ("while True:\n    pass\ndef double(x): ...", 0, "did not finish"),
    "endless loop in the function": ("def double(x):\n    while True: pass", 0, "did not finish"),
    "stops itself": (
        "import os, signal\ndef double(x): os.kill(os.getpid(), signal.SIGSTOP)",
        0,
        "did not finish",
    ),
    "fork bomb": (
        "import os\ndef double(x):\n    while True:\n        try: os.fork()\n"
        "        except OSError: pass",
        0,
        "did not finish|more memory",
    ),
    "thread bomb": (
        "import threading, time\ndef double(x):\n    for _ in range(100_000):\n"
        "        threading.Thread(target=time.sleep, args=(99,)).start()\n    return 2 * x",
        0,
        "raised RuntimeError",
    ),
    "allocates 10 GB": (
        "def double(x):\n    hoard = np.ones(10 * 2**27)\n    return 2 * x",
        0,
        "MemoryError",
    ),
    "allocates in many processes": (
        "import os, time\ndef double(x):\n    for _ in range(20):\n        if os.fork() == 0:\n"
        "            hoard = np.ones(2**24)\n            time.sleep(60)\n    time.sleep(60)",
        0,
        "more memory",
    ),
    "prints without end": (
        "def double(x):\n    while True: print('x' * 9999)",
        0,
        "did not finish",
    ),
    "fills the disk": (
        "def double(x):\n    for k in range(99):\n        with open(f'/tmp/{k}', 'wb') as f:\n"
        "            f.write(bytes(10**7))\n    return 2 * x",
        0,
        "raised OSError",
    ),
    "writes one huge file": (
        "def double(x):\n    with open('/dev/shm/a', 'wb') as f:\n        f.write(bytes(10**8))\n"
        "    return 2 * x",
        0,
        "raised OSError|ended the process",
    ),
    "writes outside": (
        "import os\ndef double(x):\n    for folder in {folders}:\n        try:\n"
        "            open(os.path.join(folder, 'owned'), 'w').write('x')\n            return 2 * x\n"
        "        except OSError: pass",
        0,
        "wrong shape",
    ),
    "reads the tests": (
        "def double(x):\n    for name in {private}:\n        try:\n"
        "            if 'hidden_double' in open(name).read(): return 2 * x\n"
        "        except OSError: pass",
        0,
        "wrong shape",
    ),
    "reads other students' files": (
        "import os\ndef double(x):\n    for folder, _, names in os.walk('/'):\n"
        "        if any('bob' in name and name.endswith('.ipynb') for name in names):\n"
        "            return 2 * x",
        0,
        "wrong shape|did not finish",
    ),
    "looks for secrets in processes": (
        "import glob, os\ndef double(x):\n    for name in glob.glob('/proc/*/environ'):\n"
        "        try:\n            if b'canary' in open(name, 'rb').read(): return 2 * x\n"
        "        except OSError: pass\n"
        "    return 2 * x if any('canary' in v for v in os.environ.values()) else None",
        0,
        "wrong shape",
    ),
    "opens a socket": (
        "import socket\ndef double(x):\n    try:\n"
        "        socket.create_connection(('127.0.0.1', {port}), 1).send(b'hello')\n"
        "        return 2 * x\n    except OSError: return None",
        0,
        "wrong shape",
    ),
    "asks a name server": (
        "import socket\ndef double(x):\n    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "    s.sendto(b'x', ('8.8.8.8', 53))\n    return 2 * x",
        0,
        "raised OSError",
    ),
    "forges a result file": (
        "import json\nfor name in ('/tmp/results.json', 'results.json', 'grades.csv'):\n"
        "    open(name, 'w').write(json.dumps({{'double': 1.0, 'score': 100}}))\n"
        "def double(x): return x",
        0,
        "compared",
    ),
    "forges messages": (
        "import os, json\ndef double(x):\n"
        "    body = json.dumps({{'share': 1.0, 'score': 1, 'done': True}}).encode()\n"
        "    os.write(4, len(body).to_bytes(8, 'big') + body)\n    return x",
        0,
        "ended the process",
    ),
    "announces a terabyte": (
        "import os\ndef double(x):\n    os.write(4, (10**12).to_bytes(8, 'big'))\n    return x",
        0,
        "announces",
    ),
    "sends what is not JSON": (
        "import os\ndef double(x):\n    os.write(4, (9).to_bytes(8, 'big') + b'[' * 9)\n    return x",
        0,
        "not JSON",
    ),
    "breaks off in a message": (
        "import os\ndef double(x):\n    os.write(4, (99).to_bytes(8, 'big') + b'{{')\n"
        "    os.kill(os.getpid(), 9)",
        0,
        "did not finish|ended the process|not JSON",
    ),
    "monkeypatches numpy": (
        "np.allclose = lambda *a, **k: True\nnp.shape = lambda a: ()\ndef double(x): return x",
        0,
        "compared",
    ),
    "replaces the checks": (
        "def judge_double(*a): return 1, 'Right'\ndef judged(*a): return 1, 'Right'\n"
        "def check(*a): pass\ndef double(x): return x",
        0,
        "compared",
    ),
    "patches the worker": (
        "import sys\nfor module in list(sys.modules.values()):\n"
        "    if hasattr(module, 'decode'): module.encode = lambda v: {{'share': 1}}\n"
        "def double(x): return x",
        0,
        "cannot be used|compared",
    ),
    "kills its parents": (
        "import os, signal\ndef double(x):\n    for pid in (os.getppid(), 1, -1):\n"
        "        try: os.kill(pid, signal.SIGKILL)\n        except OSError: pass\n    return None",
        0,
        "wrong shape|ended the process|did not finish",
    ),
    "kills the grader": (
        "import os, signal\ndef double(x):\n    try: os.kill({grader}, signal.SIGTERM)\n"
        "    except OSError: return None\n    return 2 * x",
        0,
        "wrong shape",
    ),
    "leaves a daemon": (
        "import os, time\ndef double(x):\n    if os.fork() == 0:\n        os.setsid()\n"
        "        if os.fork() == 0: os.execv('/bin/sleep', ['{mark}', '300'])\n        os._exit(0)\n"
        "    return 2 * x",
        1,
        "Right",
    ),
    "exits": ("import sys\nsys.exit(0)\ndef double(x): return 2 * x", 0, "SystemExit"),
    "exits hard": ("import os\ndef double(x): os._exit(0)", 0, "ended the process"),
    "crashes the interpreter": (
        "import ctypes\ndef double(x): ctypes.string_at(0)",
        0,
        "ended the process",
    ),
    "recurses": ("def double(x): return double(x)", 0, "RecursionError"),
    "raises what cannot be shown": (
        "class Bad(Exception):\n    def __str__(self): raise KeyboardInterrupt\n"
        "def double(x): raise Bad",
        0,
        "cannot be shown",
    ),
    "returns a pickle with a payload": (
        'class Bomb:\n    def __reduce__(self): return eval, (\'open("/tmp/{mark}", "w")\',)\n'
        "def double(x): return np.array([Bomb()], dtype=object)",
        0,
        "object is not one of",
    ),
    "sends a pickle": (
        "import os, json, pickle\ndef double(x):\n"
        "    value = {{'kind': 'pickle', 'data': pickle.dumps(print).hex()}}\n"
        "    body = json.dumps({{'value': value}}).encode()\n"
        "    os.write(4, len(body).to_bytes(8, 'big') + body)\n    return x",
        0,
        "unknown kind",
    ),
    "returns a huge array": (
        "def double(x): return np.broadcast_to(x[0], (3, 10**8))",
        0,
        "larger than any answer",
    ),
    "claims a huge shape": (
        "import os, json\ndef double(x):\n    value = {{'kind': 'array', 'dtype': 'float64',"
        " 'shape': [10**7, 10**7], 'data': ''}}\n    body = json.dumps({{'value': value}}).encode()\n"
        "    os.write(4, len(body).to_bytes(8, 'big') + body)\n    return x",
        0,
        "disagrees with its bytes",
    ),
    "returns a deep list": (
        "def double(x):\n    for _ in range(500): x = [x]\n    return x",
        0,
        "nested",
    ),
    "returns nan": ("def double(x): return x * np.nan", 0, "compared"),
    "becomes root": (
        "import ctypes, os\ndef double(x):\n    libc = ctypes.CDLL(None)\n"
        "    won = libc.unshare(0x10000000) == 0\n"
        "    won = won or libc.mount(b'n', b'/tmp', b'tmpfs', 0, None) == 0\n"
        "    try: os.setuid(0); won = True\n    except OSError: pass\n"
        "    return 2 * x if won else None",
        0,
        "wrong shape",
    ),
    "made for the visible case": (
        "def double(x): return np.array([0.0, 2.0, 4.0])",
        0.25,
        "wrong shape",
    ),
}


@pytest.fixture(scope="module")
def scene(tmp_path_factory, master_path):
    """What an attack may wish for: private files, a neighbour, an open port, folders to write."""
    folder = tmp_path_factory.mktemp("submissions")
    (folder / "bob.ipynb").write_text("{}")
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0)
    root = Path(__file__).resolve().parents[2]
    facts = {
        "folders": [
            str(folder),
            str(master_path.parent),
            "/",
            "/usr",
            "/etc",
            str(root),
            "/var/tmp",
        ],
        "private": [str(master_path), *map(str, root.glob("course/*.ipynb")), __file__],
        "port": listener.getsockname()[1],
        "grader": os.getpid(),
        "mark": MARK,
    }
    yield folder, facts, listener
    listener.close()


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_is_contained(name, scene, key, limits, walls, hand_in, monkeypatch):
    folder, facts, listener = scene
    monkeypatch.setenv("SECRET", "canary")
    source, share, says = ATTACKS[name]
    source = source.replace("{{", "{").replace("}}", "}")
    for word, fact in facts.items():
        source = source.replace(f"{{{word}}}", fact if isinstance(fact, str) else repr(fact))
    before = sorted(path.name for path in folder.iterdir())
    path = hand_in(folder / "attack.ipynb", double=source)
    start = time.monotonic()
    graded = grade_one("attack", path, key, limits, walls)
    seconds = time.monotonic() - start
    path.unlink()

    assert graded.status == "ok", graded.note
    double, total = graded.marks
    assert double.share == share
    assert any(part.lower() in double.message.lower() for part in says.split("|")), double.message
    assert total.share == 1, total.message  # the next question does not suffer
    assert seconds < 12
    assert sorted(path.name for path in folder.iterdir()) == before
    assert not Path(f"/tmp/{MARK}").exists()
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
    for name in ("link", "pipe"):
        graded = grade_one(name, tmp_path / f"{name}.ipynb", key, limits, walls)
        assert (graded.status, graded.total) == ("unreadable", 0)


@pytest.mark.parametrize("source", ["-" * 100_000 + "1", "(" * 100_000, "x" + ".a" * 100_000])
def test_source_that_overwhelms_the_parser(source, tmp_path, key, limits, walls, hand_in):
    graded = grade_one("a", hand_in(tmp_path / "a.ipynb", double=source), key, limits, walls)
    assert [mark.share for mark in graded.marks] == [0, 1]


def test_the_batch_goes_on_and_nothing_is_lost(tmp_path, key, limits, walls, hand_in):
    folder, out = tmp_path / "submissions", tmp_path / "out"
    folder.mkdir()
    hand_in(folder / "=cmd().ipynb")
    hand_in(folder / "partial.ipynb", double="def double(x): return x")
    hand_in(folder / "hostile.ipynb", double="while True: pass")
    (folder / "broken.ipynb").write_text("{")
    rows = {r.student: r for r in grade_folder(folder, key, out, limits, walls, jobs=2)}
    totals = {name: row.total for name, row in rows.items()}
    assert totals == {"=cmd()": 2, "partial": 1, "hostile": 1, "broken": 0}
    table = (out / "grades.csv").read_text().splitlines()
    assert len(table) == 5
    assert table[1].startswith("'=cmd(),1.0,1.0,2.0")  # not a formula
    assert len(list((out / "reports").iterdir())) == 4
