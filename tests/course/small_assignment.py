"""A small master with two questions, written cell by cell."""

CONFIG = "# ASSIGNMENT CONFIG\nname: Small exercises"
JUDGE = """\
def judge_{name}(value, x):
    if np.shape(value) != np.shape({right}):
        return 0, "wrong shape"
    return float(np.allclose(value, {right})), "compared"


def cases_{name}():
    return [(np.arange(3.0),)]
"""
HIDDEN = """\
# HIDDEN
def hidden_{name}(seed):
    return [(np.random.default_rng(seed).standard_normal(4),)]
"""
QUESTIONS = {"double": "2 * x", "total": "x.sum()"}


def cells():
    yield "raw", CONFIG
    yield "code", "import numpy as np"
    for name, right in QUESTIONS.items():
        yield "raw", f"# BEGIN QUESTION\nname: {name}\npoints: 1"
        yield "markdown", f"Write `{name}(x)`."
        yield "raw", "# BEGIN SOLUTION"
        yield (
            "code",
            f"def {name}(x):\n    # BEGIN SOLUTION\n    return {right}\n    # END SOLUTION",
        )
        yield "raw", "# END SOLUTION"
        yield "raw", "# BEGIN TESTS"
        yield "code", JUDGE.format(name=name, right=right)
        yield "code", HIDDEN.format(name=name)
        yield "raw", "# END TESTS"
        yield "raw", "# END QUESTION"


def as_notebook(pairs):
    made = []
    for number, (kind, source) in enumerate(pairs):
        cell = {"cell_type": kind, "id": f"c{number}", "metadata": {}, "source": source}
        made.append(cell | ({"outputs": [], "execution_count": None} if kind == "code" else {}))
    return {"cells": made, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
