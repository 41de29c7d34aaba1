"""What an import costs and needs, and what is public."""

import inspect
import subprocess
import sys
import types
from pathlib import Path

import implicit_bias
import pytest

LIB = Path(__file__).resolve().parents[2] / "lib"
LATE = ("cvxpy", "matplotlib", "sklearn", "IPython", "pandas")
SLOW = ("scipy.stats", "scipy.linalg", "scipy.optimize")


def python(code):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={"PYTHONPATH": str(LIB), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )


def test_importing_loads_nothing_that_can_wait():
    done = python(
        f"import sys, implicit_bias; print([m for m in {LATE + SLOW} if m in sys.modules])"
    )
    assert done.stdout.strip() == "[]", done.stderr


def test_works_where_these_cannot_be_imported():
    done = python(f"""
import sys
for name in {LATE}:
    sys.modules[name] = None
import math, implicit_bias as ib
p = ib.plant_regression(4, 9, [2.0, 1.0, 0.5]).problem
limit = ib.minimum_norm(p).x
ends = [ib.gradient_descent(p).x, ib.stochastic_gradient_descent(p).x, ib.ridge(p, 1e-12).x]
ends += [ib.gradient_flow(p, [math.inf]).x, ib.exact_descent(p, [10**6]).x]
ends += [*ib.perturbed_descent(p, [10**5], 10**6, 0.0).x]
print(max(ib.relative_error(end, limit) for end in ends) < 1e-6)
ib.loglog_slope([1, 2, 4], [1, 2, 4]), ib.stamp(0), ib.ledger.table(1)
ib.polynomial_features(ib.chebyshev_nodes(3), 4)
""")
    assert done.stdout.strip() == "True", done.stderr


def test_plotting_comes_when_it_is_asked_for():
    done = python("""
import sys, implicit_bias as ib
assert ib.plotting.DATA and ib.plotting is sys.modules["implicit_bias.plotting"]
""")
    assert done.returncode == 0, done.stderr


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"implicit_bias.*no attribute 'gradient_ascent'"):
        implicit_bias.gradient_ascent  # noqa: B018


def test_is_typed():
    assert (LIB / "implicit_bias" / "py.typed").exists()


@pytest.mark.parametrize("name", implicit_bias.__all__)
def test_every_public_name_has_an_example(name):
    thing = getattr(implicit_bias, name)
    if isinstance(thing, types.ModuleType):
        documented = [getattr(thing, n) for n in thing.__all__ if callable(getattr(thing, n))]
        assert documented
    else:
        documented = [thing]
    for each in documented:
        text = inspect.getdoc(each)
        assert text, each
        assert ">>>" in text.partition("Examples\n--------")[2], each


@pytest.mark.parametrize(
    "thing",
    [getattr(implicit_bias, name) for name in implicit_bias.__all__],
    ids=implicit_bias.__all__,
)
def test_every_argument_is_documented(thing):
    if not inspect.isfunction(thing):
        return
    text = inspect.getdoc(thing)
    for name in inspect.signature(thing).parameters:
        words = text.partition("Parameters\n----------")[2] or text
        assert name in words, f"{thing.__name__}: {name}"
