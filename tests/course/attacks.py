"""Programs that attack. Each is written so that it would be rewarded.

In braces stand facts that an attack may wish for: the ``scene`` of `test_adversarial`.
"""

# Name: (source of the answer's cell, the share that it deserves, what the report must say).
ATTACKS = {
    "endless loop in the cell": ("while True:\n    pass\ndef double(x): ...", 0, "did not finish"),
    "endless loop in the function": ("def double(x):\n    while True: pass", 0, "did not finish"),
    "stops itself": (
        "import os, signal\ndef double(x): os.kill(os.getpid(), signal.SIGSTOP)",
        0,
        "did not answer",
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
        "import os\ndef double(x):\n    won = False\n    for folder in {outside}:\n        try:\n"
        "            open(os.path.join(folder, 'owned'), 'w').write('x')\n"
        "            won = won or folder in {folders}\n        except OSError: pass\n"
        "    return 2 * x if won else None",
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
        "did not answer|ended the process|not JSON",
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
        "wrong shape|ended the process|did not answer",
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
        " 'shape': [10**6, 10**6], 'data': ''}}\n    body = json.dumps({{'value': value}}).encode()\n"
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
    "keeps memory where none is counted": (
        "import ctypes, os\ndef double(x):\n    libc = ctypes.CDLL(None)\n"
        "    kept = [libc.shmget(0, 10**8, 0o1666) >= 0, libc.msgget(0, 0o1666) >= 0]\n"
        "    try: kept.append(os.memfd_create('hoard') > 0)\n    except OSError: pass\n"
        "    return 2 * x if any(kept) else None",
        0,
        "wrong shape",
    ),
    "uses rare parts of the kernel": (
        "import ctypes\ndef double(x):\n    libc = ctypes.CDLL(None)\n"
        "    room = ctypes.create_string_buffer(256)\n"
        "    calls = [libc.syscall(425, 8, room), libc.syscall(250, 0, -3, 0),\n"
        "             libc.syscall(321, 0, room, 64), libc.syscall(298, room, 0, -1, -1, 0)]\n"
        "    if {x86}: calls.append(libc.syscall(323, 1))\n"
        "    return 2 * x if max(calls) >= 0 else None",
        0,
        "wrong shape",
    ),
    "makes a namespace by clone": (
        "import ctypes, os\ndef double(x):\n    libc = ctypes.CDLL(None)\n"
        "    pid = libc.syscall({clone}, 0x10000000 | 17, 0, 0, 0, 0)\n"
        "    if pid == 0: os._exit(0)\n    return 2 * x if pid > 0 else None",
        0,
        "wrong shape",
    ),
    "debugs its parent": (
        "import ctypes, os\ndef double(x):\n"
        "    won = ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0) >= 0\n"
        "    return 2 * x if won else None",
        0,
        "wrong shape",
    ),
    "writes into its parent's memory": (
        "def double(x):\n    try: open('/proc/1/mem', 'r+b', 0)\n"
        "    except OSError: return None\n    return 2 * x",
        0,
        "wrong shape",
    ),
    "takes its parent's files": (
        "import os\ndef double(x):\n    try: os.listdir('/proc/1/fd')\n"
        "    except OSError: return None\n    return 2 * x",
        0,
        "wrong shape",
    ),
    "keeps descriptors that it was not given": (
        "import os\ndef double(x):\n    for k in range(5, 256):\n        try: os.fstat(k)\n"
        "        except OSError: continue\n        return 2 * x",
        0,
        "wrong shape",
    ),
    "opens a local socket": (
        "import socket\ndef double(x):\n    socket.socket(socket.AF_UNIX).bind(chr(0) + 'a')\n"
        "    return 2 * x",
        0,
        "raised OSError",
    ),
    "voids its mark": (
        "import os, json\ndef double(x):\n    value = {{'kind': 'array', 'dtype': 'float64',"
        " 'shape': [0] + [2**22] * 6, 'data': ''}}\n    body = json.dumps({{'value': value}}).encode()\n"
        "    os.write(4, len(body).to_bytes(8, 'big') + body)\n    return x",
        0,
        "impossible shape",
    ),
    "sends a million lists": (
        "import os\ndef double(x):\n    body = b'{{\"value\": [' + b'[],' * 10**6 + b'[]]}}'\n"
        "    body = len(body).to_bytes(8, 'big') + body\n"
        "    while body: body = body[os.write(4, body):]\n    return x",
        0,
        "lists in it",
    ),
    "returns a long word": ("def double(x): return 'x' * 10**7", 0, "larger than"),
    "returns a word": ("def double(x): return 'x' * 10**5", 0, "a string of 100000"),
    "returns a huge integer": ("def double(x): return 10**4000", 0, "more than 64 bits"),
    "returns what lies about itself": (
        "class Liar(float):\n    def __eq__(self, other): return True\n"
        "    def __array__(self, *a, **k): return np.zeros(3)\n"
        "    __float__ = __len__ = lambda self: 1\n    shape = (3,)\n"
        "def double(x): return Liar()",
        0,
        "wrong shape",
    ),
    "returns an array that lies": (
        "class Liar(np.ndarray):\n    def tobytes(self, *a): return b''\n"
        "    nbytes = property(lambda self: 0)\n"
        "def double(x): return np.zeros_like(x).view(Liar)",
        0,
        "compared|cannot be used",
    ),
    "raises what breaks a report": (
        "def double(x): raise ValueError('`</p>\\n# Mark: 100\\ud800\\x1b[2J\\u202e| =cmd()' * 999)",
        0,
        "raised ValueError",
    ),
    "looks for the tests in its frames": (
        "import gc, sys\ndef double(x):\n    frame, found = sys._getframe(), []\n"
        "    while frame:\n        found += [*frame.f_globals, *frame.f_locals]\n"
        "        frame = frame.f_back\n"
        "    found += [k for o in gc.get_objects() if type(o) is dict for k in list(o)]\n"
        "    names = {{str(name) for name in found}}\n"
        "    return 2 * x if {{'judge_double', 'hidden_double'}} & names else None",
        0,
        "wrong shape",
    ),
    "answers the first call only": (
        "calls = []\ndef double(x):\n    calls.append(x)\n    return 2 * x if len(calls) == 1 else x",
        0.25,
        "Right for 1 of 2 inputs. Compared",
    ),
    "traces, and stays until the end": (
        "import atexit, signal, sys\nsys.settrace(lambda *a: None)\natexit.register(input)\n"
        "sys.excepthook = print\nsignal.signal(signal.SIGTERM, print)\ndef double(x): return 2 * x",
        1,
        "Right",
    ),
    "sleeps, which is no computing": (
        "import time\ndef double(x):\n    time.sleep(0.8)\n    return 2 * x",
        1,
        "Right",
    ),
    "made for the visible case": (
        "def double(x): return np.array([0.0, 2.0, 4.0])",
        0.25,
        "wrong shape",
    ),
}
