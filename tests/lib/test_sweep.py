"""A sweep loses nothing when it is killed, and never mixes what does not belong together."""

import collections
import functools
import hashlib
import importlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from implicit_bias import stores
from implicit_bias.fingerprints import fingerprint
from implicit_bias.sweep import Sweep, run_sweep

LIB = Path(__file__).resolve().parents[2] / "lib"
KILLS = int(os.environ.get("SWEEP_KILLS", "5"))


def measure(x, k, seed):
    measure.calls[x, k] += 1  # a counter in the module would make it another function each time
    rng = np.random.default_rng(seed)
    return {"y": x**k, "seed": seed, "draws": rng.standard_normal(3), "name": f"{x}^{k}"}


GRID = {"x": [2, 3, 5], "k": [1, 2]}


@pytest.fixture(autouse=True)
def fresh():
    measure.calls, failing.calls = collections.Counter(), collections.Counter()


def contents(folder):
    """What the store holds; with equal contents it was as good as never interrupted."""
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in Path(folder).iterdir()}


# --- what comes back


def test_every_point_in_the_order_of_the_grid(tmp_path):
    sweep = run_sweep(measure, GRID, store=tmp_path)
    assert [tuple(p.values()) for p in sweep.points] == [(x, k) for x in (2, 3, 5) for k in (1, 2)]
    assert [r["y"] for r in sweep.results] == [2, 4, 3, 9, 5, 25]
    assert sweep.shape == (3, 2)
    assert sweep.column("y").tolist() == [[2, 4], [3, 9], [5, 25]]
    assert sweep.column("k").tolist() == [[1, 2]] * 3
    assert sweep.column("draws").shape == (3, 2, 3)
    assert (sweep.computed, sweep.others) == (6, 0)
    assert repr(sweep) == "Sweep(6 points, 6 of them computed now)"
    assert all(count == 1 for count in measure.calls.values())


def test_a_second_call_computes_nothing_and_gives_the_same(tmp_path):
    first = run_sweep(measure, GRID, store=tmp_path)
    before = contents(tmp_path)
    measure.calls.clear()
    again = run_sweep(measure, GRID, store=str(tmp_path))
    assert not measure.calls
    assert (again.computed, again.points) == (0, first.points)
    assert torch.equal(again.column("draws"), first.column("draws"))
    assert contents(tmp_path) == before


def everything(start, seed):
    return {
        "int": 2**70,
        "float": 0.1,
        "nan": float("nan"),
        "inf": -np.inf,
        "bool": True,
        "none": None,
        "text": "Grüße\n",
        "numpy": np.float32(0.5),
        "list": [[1, 2], [3, 4]],
        "array": np.arange(6, dtype=np.int16).reshape(2, 3)[:, ::-1],
        "tensor": torch.tensor([1.5, -0.0], dtype=torch.float32, requires_grad=True),
        "complex": torch.tensor([1 + 2j]).conj(),
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(7),
    }


def test_results_come_back_as_they_were(tmp_path):
    for _ in range(2):  # computed, and read
        (result,) = run_sweep(everything, {"start": [0]}, store=tmp_path).results
        plain = {k: v for k, v in result.items() if not isinstance(v, torch.Tensor)}
        assert str(plain.pop("nan")) == "nan"
        assert plain == {
            "int": 2**70,
            "float": 0.1,
            "inf": -np.inf,
            "bool": True,
            "none": None,
            "text": "Grüße\n",
            "numpy": 0.5,
        }
        assert plain["bool"] is True
        expected = everything(0, 0)
        for key in ("list", "array", "tensor", "complex", "empty", "scalar"):
            assert isinstance(result[key], torch.Tensor)
            given = expected[key]
            given = given if isinstance(given, torch.Tensor) else torch.tensor(np.array(given))
            assert result[key].dtype == given.dtype
            assert torch.equal(result[key], given)
        assert not result["tensor"].requires_grad
        assert list(result) == list(expected)  # and in their order


@pytest.mark.parametrize("value", [3, 2.5, "word", None, True, np.float64(2.5)])
def test_one_value_is_kept_as_such(tmp_path, value):
    def constant(x, seed):
        return value

    (result,) = run_sweep(constant, {"x": [0]}, store=tmp_path).results
    assert result == {"value": value}


def test_values_of_a_grid_may_be_of_any_plain_kind(tmp_path):
    def kinds(x, seed):
        return {"kind": type(x).__name__, "text": repr(x)}

    axis = [1, 1.0, True, "1", None, (1, (2, "a")), [1], np.int64(7), torch.tensor(0.5), -0.0]
    sweep = run_sweep(kinds, {"x": axis}, store=tmp_path)
    kinds_found = " ".join(r["kind"] for r in sweep.results)
    assert kinds_found == "int float bool str NoneType tuple tuple int float float"
    assert sweep.results[-1]["text"] == "-0.0"
    for axis in (range(3), np.arange(3), torch.arange(3), (0, 1, 2)):
        assert run_sweep(kinds, {"x": axis}, store=tmp_path).points == (
            {"x": 0},
            {"x": 1},
            {"x": 2},
        )


def test_points_can_be_listed(tmp_path):
    points = [{"x": 3, "k": 1}, {"k": 2, "x": 2}]
    sweep = run_sweep(measure, points, store=tmp_path)
    assert sweep.shape == (2,)
    assert sweep.column("y").tolist() == [3, 4]
    # The same points as in a grid, whatever the order of the names.
    assert run_sweep(measure, GRID, store=tmp_path).computed == 4


# --- seeds, and what else must not matter


def test_the_seed_of_a_point_depends_on_the_sweeps_and_on_the_point_alone(tmp_path):
    whole = run_sweep(measure, GRID, store=tmp_path / "a")
    part = run_sweep(measure, [{"k": 2, "x": 5}], store=tmp_path / "b")
    other = run_sweep(measure, GRID, store=tmp_path / "c", seed=1)
    seeds = whole.column("seed")
    assert part.results[0]["seed"] == seeds[2, 1]
    assert len({*seeds.flatten().tolist(), *other.column("seed").flatten().tolist()}) == 12
    assert seeds.min() >= 0
    assert seeds.max() < 2**32


def careless(x, seed):
    """Draws from the generators of the process."""
    return [float(torch.rand(())), float(np.random.rand()), random.random()]  # noqa: NPY002


def test_draws_from_the_process_are_the_points_too_and_leave_no_trace(tmp_path):
    forth = run_sweep(careless, {"x": [1, 2, 3]}, store=tmp_path / "a").column("value")
    torch.manual_seed(5)
    random.seed(5)
    before = torch.get_rng_state(), random.getstate()
    back = run_sweep(careless, {"x": [3, 2, 1]}, store=tmp_path / "b").column("value")
    assert torch.equal(back.flip(0), forth)
    assert len(set(forth.flatten().tolist())) == 9
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]


def test_a_point_has_one_thread(tmp_path):
    def threads(x, seed):
        return torch.get_num_threads()

    torch.set_num_threads(2)
    try:
        assert run_sweep(threads, {"x": [0]}, store=tmp_path).results[0]["value"] == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_threads_of_one_process_take_turns(tmp_path):
    """The generators belong to the process: together, they would draw one another's numbers."""
    import joblib

    plain = run_sweep(careless, {"x": range(8)}, store=tmp_path / "a").column("value")
    with joblib.parallel_config(backend="threading", n_jobs=4):
        threaded = run_sweep(careless, {"x": range(8)}, store=tmp_path / "b").column("value")
    assert torch.equal(threaded, plain)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


# --- errors on the way


def failing(x, seed):
    failing.calls[x] += 1
    if (x == 2) and os.environ.get("SWEEP_FAILS"):
        raise ZeroDivisionError("no such point")
    return x


def test_an_error_names_the_point_and_what_was_there_stays(tmp_path, monkeypatch):
    monkeypatch.setenv("SWEEP_FAILS", "1")
    with pytest.raises(ZeroDivisionError, match="no such point") as caught:
        run_sweep(failing, {"x": range(4)}, store=tmp_path)
    assert any("{'x': 2}" in note and "seed=" in note for note in caught.value.__notes__)
    monkeypatch.delenv("SWEEP_FAILS")
    sweep = run_sweep(failing, {"x": range(4)}, store=tmp_path)
    assert sweep.computed == 2
    assert sweep.column("value").tolist() == [0, 1, 2, 3]
    assert failing.calls == {0: 1, 1: 1, 2: 2, 3: 1}


@pytest.mark.parametrize(
    ("grid", "error", "message"),
    [
        ({}, ValueError, "no points.*at least one"),
        ([], ValueError, "no points"),
        ({"x": [], "k": [1]}, ValueError, "no points"),
        (3, TypeError, "grid is a int.*dict with a list"),
        ("xk", TypeError, "grid is a str"),
        ({"x": 3, "k": [1]}, TypeError, "x = 3, which is not a sequence.*list of one"),
        ({"x": "ab", "k": [1]}, TypeError, "x = 'ab', which is not a sequence"),
        ({"x": iter([1]), "k": [1]}, TypeError, "not a sequence"),
        ({"x": {1, 2}, "k": [1]}, TypeError, "not a sequence"),  # of which one is the first?
        ({"x": np.array(3), "k": [1]}, TypeError, "not a sequence.*list of one"),
        ({"x": torch.tensor(3), "k": [1]}, TypeError, "not a sequence.*list of one"),
        ({"x": [print], "k": [1]}, TypeError, "x takes the value.*builtin.*make the thing in"),
        ({"x": [np.ones(2)], "k": [1]}, TypeError, "x takes the value.*ndarray"),
        ({"x": [1, 2, 1], "k": [1]}, ValueError, r"\{'x': 1, 'k': 1\} twice.*number the rep"),
        ({"x": [1, np.int64(1)], "k": [1]}, ValueError, "twice"),
        ({"x": [1]}, TypeError, "cannot be called with x and seed.*missing.*'k'"),
        ({"x": [1], "k": [1], "z": [1]}, TypeError, "cannot be called with x, k, z and seed"),
        ({"x": [1], "k": [1], "seed": [1]}, ValueError, "grid has a seed.*such as start"),
    ],
)
def test_impossible_grids_are_refused_before_anything_is_done(tmp_path, grid, error, message):
    with pytest.raises(error, match=f"(?s){message}"):
        run_sweep(measure, grid, store=tmp_path / "store")
    assert not measure.calls
    assert not (tmp_path / "store").exists()


def returns(value):
    def function(x, seed):
        return value

    return function


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": object()}, "'a', a object.*Return a dict"),
        ({"a": {"b": 1}}, "'a', a dict"),
        ({1: np.ones(2)}, "returned 1, a ndarray"),
        ({1: 2.0}, "returned 1, a float"),
        ({"a": np.array([None])}, "'a', a ndarray"),
        ({"a": [[1], [1, 2]]}, "'a', a list"),
        ({"a": ["x"]}, "'a', a list"),
        ({"a": torch.ones(2, dtype=torch.bfloat16)}, "'a', a Tensor"),
        ({"a": np.ma.array([1.0, 2.0], mask=[0, 1])}, "'a', a MaskedArray.*what is masked"),
        ({"a": np.timedelta64(5, "ns")}, "'a', a timedelta64"),
        ({"a": 1j}, "'a', a complex.*not a real number"),
        (print, "'value', a builtin"),
    ],
)
def test_what_cannot_be_stored_is_named(tmp_path, value, message):
    with pytest.raises(TypeError, match=rf"(?s)\{{'x': 0\}}.*{message}"):
        run_sweep(returns(value), {"x": [0]}, store=tmp_path)
    assert not list(tmp_path.glob("*.npz"))


def test_columns_refuse_what_is_no_column(tmp_path):
    def ragged(n, seed):
        return {"a": np.ones(n), "b": "word"} | ({"c": 1} if n == 1 else {})

    sweep = run_sweep(ragged, {"n": [1, 2]}, store=tmp_path)
    with pytest.raises(KeyError, match=r"no 'c' in every result.*'a', 'b', 'c', 'n'"):
        sweep.column("c")
    with pytest.raises(ValueError, match=r"a has different shapes.*sweep\.results"):
        sweep.column("a")
    with pytest.raises(TypeError, match="b cannot be read"):
        sweep.column("b")


@pytest.mark.parametrize(
    ("other", "error", "message"),
    [
        ({"seed": -1}, ValueError, "seed = -1 is too small"),
        ({"seed": 0.5}, TypeError, r"seed = 0\.5 is not an integer"),
    ],
)
def test_impossible_arguments_are_refused(tmp_path, other, error, message):
    with pytest.raises(error, match=message):
        run_sweep(measure, GRID, store=tmp_path, **other)


# --- what the store belongs to


def test_another_seed_or_function_is_noticed(tmp_path):
    run_sweep(measure, GRID, store=tmp_path)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=r"another function or seed \(of seed 0\).*another folder"):
        run_sweep(measure, GRID, store=tmp_path, seed=1)

    def other(x, k, seed):
        return x

    with pytest.raises(ValueError, match=r"changed since.*measure.*other"):
        run_sweep(other, GRID, store=tmp_path)
    assert contents(tmp_path) == before


def test_a_changed_grid_uses_what_is_there_and_says_what_is_not_used(tmp_path):
    run_sweep(measure, GRID, store=tmp_path)
    measure.calls.clear()
    sweep = run_sweep(measure, {"x": [5, 7], "k": [2, 3]}, store=tmp_path)
    assert set(measure.calls) == {(5, 3), (7, 2), (7, 3)}
    assert (sweep.computed, sweep.others) == (3, 5)
    assert sweep.column("y").tolist() == [[25, 125], [49, 343]]


def test_damage_in_the_store_is_named(tmp_path):
    run_sweep(measure, GRID, store=tmp_path)
    first, second = sorted(tmp_path.glob("point-*.npz"))[:2]
    whole = first.read_bytes()
    middle = whole.index(b"draws")
    changed = whole[:middle] + b"D" + whole[middle + 1 :]
    for raw in (b"", whole[:100], whole[:-1], b"no zip", changed, second.read_bytes()):
        first.write_bytes(raw)
        with pytest.raises(ValueError, match=rf"{first.name} is not what was written.*Delete it"):
            run_sweep(measure, GRID, store=tmp_path)
    first.unlink()
    assert run_sweep(measure, GRID, store=tmp_path).computed == 1
    assert first.read_bytes() == whole
    (tmp_path / "sweep.json").write_text("{")
    with pytest.raises(ValueError, match=r"sweep\.json is damaged"):
        run_sweep(measure, GRID, store=tmp_path)
    (tmp_path / "sweep.json").unlink()
    with pytest.raises(ValueError, match=r"holds results, but sweep\.json.*is gone"):
        run_sweep(measure, GRID, store=tmp_path)


def test_no_bit_that_is_turned_over_changes_a_result(tmp_path):
    point, file = {"a": 1}, tmp_path / "point-a.npz"
    value = {"y": 2.5, "v": np.arange(2.0), "s": "word"}
    content = stores.pack(point, value)
    for place, bit in itertools.product(range(len(content)), (1, 128)):
        changed = bytearray(content)
        changed[place] ^= bit
        file.write_bytes(changed)
        try:
            found = stores.read(file, point)
        except ValueError:
            continue
        # A bit of the date, say.
        assert (found["y"], found["v"].tolist(), found["s"]) == (2.5, [0.0, 1.0], "word")


def test_of_two_that_begin_at_once_the_second_sees_the_first(tmp_path, monkeypatch):
    link = os.link

    def overtaken(half, file):
        monkeypatch.setattr(os, "link", link)
        stores.open_store(tmp_path, measure, seed=1)
        link(half, file)

    monkeypatch.setattr(os, "link", overtaken)
    with pytest.raises(ValueError, match=r"another function or seed \(of seed 1\)"):
        run_sweep(measure, GRID, store=tmp_path)
    assert not measure.calls
    assert [p.name for p in tmp_path.iterdir()] == ["sweep.json"]


def test_a_disk_without_links_will_do(tmp_path, monkeypatch):
    def unknown(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", unknown)
    assert run_sweep(measure, GRID, store=tmp_path).computed == 6
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".json"] + 6 * [".npz"]
    with pytest.raises(ValueError, match="of seed 0"):
        run_sweep(measure, GRID, store=tmp_path, seed=1)


def test_where_nothing_can_be_written_nothing_is_computed(tmp_path, monkeypatch):
    whole = run_sweep(measure, GRID, store=tmp_path)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    measure.calls.clear()
    with pytest.raises(PermissionError, match=r"lacks 2 of the points.*Copy the folder"):
        run_sweep(measure, {"x": [2, 9], "k": [1, 2]}, store=tmp_path)
    assert not measure.calls
    (half := next(tmp_path.glob("*.npz")).with_suffix(".0.tmp")).touch()

    def denied(*_, **__):
        raise PermissionError("read-only")

    monkeypatch.setattr(Path, "unlink", denied)
    assert run_sweep(measure, GRID, store=tmp_path).results[0]["y"] == whole.results[0]["y"]
    monkeypatch.undo()
    run_sweep(measure, {"x": [2], "k": [7]}, store=tmp_path)
    assert half.exists()  # of another point than this grid's
    run_sweep(measure, GRID, store=tmp_path)
    assert not half.exists()


def test_a_pickle_in_the_store_is_not_opened(tmp_path):
    run_sweep(measure, {"x": [1], "k": [1]}, store=tmp_path)
    (file,) = tmp_path.glob("point-*.npz")

    class Bomb:
        def __reduce__(self):
            return (os._exit, (3,))

    np.savez(file, np.array([Bomb()], dtype=object))
    with pytest.raises(ValueError, match="is not what was written"):
        run_sweep(measure, {"x": [1], "k": [1]}, store=tmp_path)


# --- what a function is

CODE = """
    import collections, functools, types
    import numpy as np
    import torch
    from implicit_bias.models.deep_conv import ConvNetwork
    from dataclasses import dataclass
    N = 3
    TABLE = np.arange(4.0)
    UNUSED = 1

    class Base:
        rate = 0.1

    class Model(Base):
        def go(self):
            return helper(N)

    @dataclass
    class Box:
        a: int = 1

    BOX = Box(2)
    SCALE = lambda v: 2 * v

    def helper(v, k=N):
        return v + k

    def make(c):
        def inner(v):
            return v * c
        return inner

    one, two = make(1), make(2)

    def doubled(g):
        @functools.wraps(g)
        def wrapper(*a):
            return 2 * g(*a)
        return wrapper

    @functools.cache
    @doubled
    def kept():
        return 5

    class Slots:
        __slots__ = ("v",)
        def __init__(self, v):
            self.v = v
        def get(self):
            return self.v - 1

    class Lazy:
        @functools.cached_property
        def table(self):
            return 7

    class Counts(dict):
        def total(self):
            return sum(self.values())

    HELD = Slots(11)
    GET = Slots(12).get
    QUEUE = collections.deque([13])
    NAMES = types.SimpleNamespace(a=14)
    LOOK_UP = {"a": 15}.get
    VIEW = types.MappingProxyType({"a": 16})
    OBJECTS = np.array([17, "a"], dtype=object)
    DRAWS = np.random.default_rng(18)
    NET = ConvNetwork((1, 4, 4), 2, (2,), activation=torch.relu)
    SPARSE = torch.tensor([0.0, 19.0]).to_sparse()
    EACH = np.vectorize(lambda v: 20 * v)
    COUNTS = Counts(a=21)
    HIDDEN = 22
    KNOWN = lambda v: v in {"a", "b", "c", "d", "e", "f"}

    def unused():
        return 1

    def f(x, seed, power=2):
        '''Documented.'''
        UNUSED = x  # not the one of the module
        class Local:
            seen = HIDDEN
        kept(), HELD.v, GET(), Lazy().table, QUEUE, NAMES, LOOK_UP, VIEW, OBJECTS, DRAWS, NET
        SPARSE, EACH, COUNTS.total(), KNOWN, Local
        return [helper(v) for v in TABLE] + [Model().go(), BOX.a, SCALE(x), one(x), two(x)]
"""


def parts_of(tmp_path, code, name="f"):
    """The fingerprint of a function in a module of this text; no two of one file name."""
    path = tmp_path / f"module_{len(list(tmp_path.iterdir()))}.py"
    path.write_text(textwrap.dedent(code))
    module = types.ModuleType("some_module")
    sys.modules["some_module"] = module  # where dataclass looks for it
    try:
        exec(compile(path.read_text(), str(path), "exec"), module.__dict__)
        return fingerprint(getattr(module, name))
    finally:
        del sys.modules["some_module"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("'''Documented.'''", "'''Otherwise.'''"),
        ("'''Documented.'''", ""),
        ("# not the one of the module", "# another remark"),
        ("UNUSED = 1", "UNUSED = 2"),
        ("return 1", "return 2"),
        ("    def helper(v, k=N):\n", "    def helper(v,\n               k=N):  # three\n\n"),
    ],
)
def test_what_does_nothing_does_not_count(tmp_path, old, new):
    assert old in CODE
    assert parts_of(tmp_path, CODE) == parts_of(tmp_path, CODE.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("power=2", "power=3", {"f", "defaults of f"}),
        ("UNUSED = x ", "UNUSED = -x ", {"f"}),
        ("return v + k", "return v - k", {"helper"}),
        ("N = 3", "N = 4", {"N", "defaults of helper"}),
        ("N = 3", "N = 3.0", {"N", "defaults of helper"}),
        ("arange(4.0)", "arange(5.0)", {"TABLE"}),
        ("arange(4.0)", "arange(4)", {"TABLE"}),
        ("helper(N)", "helper(N) + 1", {"Model.go"}),
        ("rate = 0.1", "rate = 0.2", {"Base.rate"}),
        ("Model(Base)", "Model", {"Model", "Base", "Base.rate"}),
        ("Box(2)", "Box(3)", {"BOX"}),
        ("2 * v", "3 * v", {"<lambda>", "<lambda>'", "<lambda>''"}),
        ("return v * c", "return v / c", {"make.<locals>.inner", "make.<locals>.inner'"}),
        ("make(1)", "make(3)", {"c"}),
        ("make(2)", "make(3)", {"c'"}),
        ("return 5", "return 6", {"kept'"}),
        ("return 2 * g", "return 3 * g", {"kept"}),
        ("Slots(11)", "Slots(12)", {"HELD"}),
        ("self.v - 1", "self.v - 2", {"Slots.get"}),
        ("Slots(12)", "Slots(13)", {"GET"}),
        ("return 7", "return 8", {"Lazy.table"}),
        ("deque([13])", "deque([14])", {"QUEUE"}),
        ("a=14", "a=15", {"NAMES"}),
        ('"a": 15', '"a": 16', {"LOOK_UP"}),
        ('"a": 16', '"a": 17', {"VIEW"}),
        ("[17,", "[18,", {"OBJECTS"}),
        ("rng(18)", "rng(19)", {"DRAWS"}),
        ("torch.relu", "torch.tanh", {"NET"}),
        ("19.0", "20.0", {"SPARSE"}),
        ("20 * v", "21 * v", {"<lambda>'", "<lambda>''", "<lambda>"}),
        ("sum(self", "len(self", {"Counts.total"}),
        ("HIDDEN = 22", "HIDDEN = 23", {"HIDDEN"}),
    ],
)
def test_what_counts_is_noticed_and_named(tmp_path, old, new, named):
    assert old in CODE
    a, b = parts_of(tmp_path, CODE), parts_of(tmp_path, CODE.replace(old, new))
    changed = {k for k in {*a, *b} if a.get(k) != b.get(k)}
    assert changed
    assert changed <= named


def test_the_same_function_in_another_process_has_the_same_fingerprint(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(CODE) + "\nfrom implicit_bias.fingerprints import fingerprint")
    with path.open("a") as file:
        file.write("\nimport json\nprint(json.dumps(fingerprint(f)))")
    other = json.loads(python(path))  # where strings have other hashes, and things other addresses
    assert other == parts_of(tmp_path, CODE)
    assert len(other) > 8


def test_what_partial_binds_counts(tmp_path):
    bound = [functools.partial(measure, k=k) for k in (1, 1, 2)]
    a, b, c = map(fingerprint, bound)
    assert a == b != c
    sweep = run_sweep(bound[2], {"x": [3]}, store=tmp_path)
    assert sweep.results[0]["y"] == 9
    with pytest.raises(ValueError, match="changed since: what partial binds"):
        run_sweep(bound[0], {"x": [3]}, store=tmp_path)


def test_functions_that_partial_binds_are_looked_into(tmp_path):
    code = """
        import functools
        def g(x):
            return x
        def run(x, seed, act):
            return act(x)
        f = functools.partial(run, act=g)
    """
    a, b = parts_of(tmp_path, code), parts_of(tmp_path, code.replace("return x", "return -x"))
    assert {k for k in a if a[k] != b[k]} == {"g"}


def test_a_file_edited_after_its_import_is_refused_until_it_is_read_again(tmp_path, monkeypatch):
    """Or else what the old text computes would be stored as what the new one does."""
    path = tmp_path / "edited_module.py"
    path.write_text("def f(x, seed):\n    return x\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # compared by whole seconds
    module = importlib.import_module("edited_module")
    before = fingerprint(module.f)
    path.write_text("def f(x, seed):\n    return -2 * x\n")
    with pytest.raises(ValueError, match=r"edited_module\.py was edited after f .*Reload"):
        run_sweep(module.f, {"x": [1]}, store=tmp_path / "store")
    assert not (tmp_path / "store").exists()
    path.write_text("def f(x, seed: return x\n")
    with pytest.raises(ValueError, match="was edited after f"):
        fingerprint(module.f)
    path.write_text("def f(x, seed):\n    return -2 * x\n\n\nUNUSED = 1\n")
    importlib.reload(module)
    assert fingerprint(module.f) != before
    path.write_text(path.read_text() + "MORE = 2\n")  # behind it, where nothing moves
    assert fingerprint(module.f) != before
    del sys.modules["edited_module"]


def test_functions_that_cannot_be_compared_are_refused(tmp_path):
    for function in (lambda x, seed: x, functools.partial(lambda x, seed: x)):
        with pytest.raises(TypeError, match=r"not a function with a name.*with def"):
            run_sweep(function, {"x": [1]}, store=tmp_path)
    with pytest.raises(TypeError, match="is a int, which cannot be called"):
        run_sweep(3, {"x": [1]}, store=tmp_path)
    scope = {}
    exec("def lost(x, seed): return x", scope)
    with pytest.raises(ValueError, match=r"text of lost is not to be found.*file or a notebook"):
        run_sweep(scope["lost"], {"x": [1]}, store=tmp_path)
    assert not list(tmp_path.iterdir())


# --- progress


def test_the_bar_begins_where_the_sweep_does(tmp_path, capsys):
    run_sweep(measure, {"x": [2], "k": [1, 2]}, store=tmp_path)
    assert capsys.readouterr().err == ""
    run_sweep(measure, {"x": [2], "k": [1, 2, 3]}, store=tmp_path, progress=True)
    assert "3/3" in capsys.readouterr().err


def test_without_tqdm_a_bar_is_an_error_that_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with pytest.raises(ImportError, match="pip install tqdm"):
        run_sweep(measure, GRID, store=tmp_path, progress=True)
    assert not measure.calls


# --- killed


def environment():
    path = os.pathsep.join(filter(None, [str(LIB), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


def python(path, *arguments):
    done = subprocess.run(
        [sys.executable, str(path), *map(str, arguments)],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# The function takes a few milliseconds, so that kills meet it, the writing and what is between.
KILLED = """
import os, random, signal, sys, time
import numpy as np
import joblib
from implicit_bias.sweep import run_sweep

GRID = {"width": list(range(60)), "start": [0, 1]}

def work(width, start, seed):
    time.sleep(0.002)
    rng = np.random.default_rng(seed)
    return {"table": rng.standard_normal((100, 50 + width)), "start": start, "seed": seed}

def forked(act):
    pid = os.fork()
    if not pid:
        code = 1
        try:
            act()
            code = 0
        finally:
            os._exit(code)
    return pid

if __name__ == "__main__":
    calm, killed, kills = *sys.argv[1:3], int(sys.argv[3])
    def took(grid):
        began = time.perf_counter()
        assert os.waitpid(forked(lambda: run_sweep(work, grid, store=calm)), 0)[1] == 0
        return time.perf_counter() - began

    took({"width": [0], "start": [0]})
    start = took({"width": [0], "start": [0, 1]})  # of which little is the work
    rest = took(GRID)
    rng = random.Random(kills)
    counts, halves = [], 0
    for _ in range(kills):
        pid = forked(lambda: run_sweep(work, GRID, store=killed))
        time.sleep(rng.uniform(0, start + 1.2 * rest / kills))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        names = os.listdir(killed) if os.path.exists(killed) else []
        counts.append(sum(name.endswith(".npz") for name in names))
        if not counts[-1]:
            start *= 2  # the machine has become busy: wait until the work begins
        halves = max(halves, sum(name.endswith(".tmp") for name in names))
    sweep = run_sweep(work, GRID, store=killed)
    print(counts, halves, sweep.computed)
    both = [forked(lambda: run_sweep(work, GRID, store=calm + " of two")) for _ in range(2)]
    assert [os.waitpid(pid, 0)[1] for pid in both] == [0, 0]
"""


def test_killed_at_random_moments_it_loses_nothing(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(KILLED)
    out = python(script, tmp_path / "calm", tmp_path / "killed", KILLS)
    print(out)  # how many results were there after each kill; pytest -s shows it
    counts, rest = out.split("]")
    counts = json.loads(counts + "]")
    assert len(counts) == KILLS
    assert counts == sorted(counts)  # what was there stayed
    assert counts[-1] > 0  # and not all kills met the start
    assert counts[-1] + int(rest.split()[1]) == 120  # and was not computed again
    assert contents(tmp_path / "killed") == contents(tmp_path / "calm")
    # Nor do two sweeps over one store, at the same time, disturb each other.
    assert contents(tmp_path / "calm of two") == contents(tmp_path / "calm")


AT_A_STEP = """
import os, signal, sys
import numpy as np
import joblib
from pathlib import Path
from implicit_bias.sweep import run_sweep

def work(x, seed):
    return {"table": np.random.default_rng(seed).standard_normal(1000)}

def killing(step, nth):
    # Kill before or after the nth flush to the disk, or name, or change of name.
    module, name = (Path if "replace" in step else os), step.split()[1]
    real, count = getattr(module, name), [0]
    def instead(*arguments):
        count[0] += 1
        last = count[0] == nth
        if last and step.startswith("before"):
            os.kill(os.getpid(), signal.SIGKILL)
        out = real(*arguments)
        if last:
            os.kill(os.getpid(), signal.SIGKILL)
        return out
    setattr(module, name, instead)

if __name__ == "__main__":
    store = Path(sys.argv[1])
    run_sweep(work, {"x": range(5)}, store=store / "calm")
    # The first flush, and the one link, are those of sweep.json.
    moments = ["fsync 1", "fsync 2", "fsync 4", "link 1", "replace 1", "replace 3"]
    for moment in [f"{when} {moment}" for when in ("before", "after") for moment in moments]:
        when, what, nth = moment.split()
        own = store / moment
        pid = os.fork()
        if not pid:
            killing(f"{when} {what}", int(nth))
            run_sweep(work, {"x": range(5)}, store=own)
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == signal.SIGKILL
        there = len(list(own.glob("point-*.npz")))
        expected = int(nth) - (1 if what == "replace" else 2) + (when + what == "afterreplace")
        assert there == max(0, expected), (moment, there)
        sweep = run_sweep(work, {"x": range(5)}, store=own)
        assert sweep.computed == 5 - there, moment
"""


def test_killed_at_every_step_of_the_writing_it_loses_nothing(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(AT_A_STEP)
    python(script, tmp_path / "stores")
    folders = sorted((tmp_path / "stores").iterdir())
    assert len(folders) == 13  # twelve kills and none
    calm = contents(tmp_path / "stores" / "calm")
    assert len(calm) == 6
    for folder in folders:
        held = contents(folder)
        # Half of a sweep.json may lie there still: nobody waits for it.
        held = {k: v for k, v in held.items() if not k.startswith("sweep.") or k == "sweep.json"}
        assert held == calm, folder


PROCESSES = """
import sys, time
import numpy as np
from implicit_bias.sweep import run_sweep

def work(x, seed):
    time.sleep(0.02)
    return {"table": np.random.default_rng(seed).standard_normal(50)}

if __name__ == "__main__":
    for store, jobs in zip(sys.argv[1::2], sys.argv[2::2]):
        print(run_sweep(work, {"x": range(40)}, store=store, jobs=int(jobs)).computed)
"""


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")
def test_killed_with_its_processes_it_loses_nothing(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(PROCESSES)
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, str(script), str(killed), "2"],
        env=environment(),
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        end = time.monotonic() + 60
        while len(list(killed.glob("point-*.npz"))) < 5 and time.monotonic() < end:
            assert process.poll() is None
            time.sleep(0.005)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    there = len(list(killed.glob("point-*.npz")))
    assert 5 <= there < 40
    assert python(script, killed, 1, calm, 1).split() == [str(40 - there), "40"]
    assert contents(killed) == contents(calm)


def test_a_file_that_another_sweep_tidied_up_is_no_loss(tmp_path, monkeypatch):
    file = tmp_path / "point-a.npz"

    def overtaken(self, target):
        self.unlink()
        target.write_bytes(b"the same")
        raise FileNotFoundError(self)

    monkeypatch.setattr(Path, "replace", overtaken)
    stores.write(file, b"the same")
    assert file.read_bytes() == b"the same"


def test_an_error_while_writing_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        stores.write(tmp_path / "a.npz", b"content")
    assert not list(tmp_path.iterdir())


# --- on a cluster

DASK = """
import os, signal, sys, threading, time
from pathlib import Path
import numpy as np
import joblib
from implicit_bias.sweep import run_sweep

def work(x, seed):
    time.sleep(0.1)
    return {"table": np.random.default_rng(seed).standard_normal(50), "x": x}

def kill_one(store, pid, killed):
    while len(list(store.glob("point-*.npz"))) < 5:
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    killed.append(pid)

if __name__ == "__main__":
    from distributed import Client, LocalCluster
    calm, disturbed = Path(sys.argv[1]), Path(sys.argv[2])
    run_sweep(work, {"x": range(30)}, store=calm)
    cluster = LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1"
    )
    with cluster, Client(cluster) as client:
        pids, killed = client.run(os.getpid), []
        assert len(set(pids.values()) | {os.getpid()}) == 3
        killer = threading.Thread(
            target=kill_one, args=(disturbed, min(pids.values()), killed), daemon=True
        )
        killer.start()
        with joblib.parallel_config(backend="dask"):
            sweep = run_sweep(work, {"x": range(30)}, store=disturbed)
        killer.join(1)
        print(sweep.computed, len(killed), len(set(client.run(os.getpid).values()) - set(killed)))
"""


def test_on_a_cluster_that_loses_a_worker_the_results_are_the_same(tmp_path):
    pytest.importorskip("distributed", reason="needs distributed, which pip installs")
    script = tmp_path / "script.py"
    script.write_text(DASK)
    out = python(script, tmp_path / "calm", tmp_path / "disturbed")
    computed, killed, alive = map(int, out.split())
    assert (computed, killed) == (30, 1)
    assert alive >= 1
    assert contents(tmp_path / "calm") == contents(tmp_path / "disturbed")


def test_the_record_is_what_the_book_shows(tmp_path):
    sweep = run_sweep(measure, GRID, store=tmp_path)
    assert isinstance(sweep, Sweep)
    with pytest.raises(AttributeError):
        sweep.points = ()
