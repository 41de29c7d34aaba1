"""Dynamics and limits share no code: here they are asked the same thousand questions."""

import math

import numpy as np
import pytest
from implicit_bias import (
    gradient_descent,
    gradient_flow,
    minimum_norm,
    plant_regression,
    relative_error,
)


def test_a_thousand_problems(record_property, capsys):
    """Any shape, rank, scale and start; three in ten inconsistent, as far as the rank allows.

    The bound is 1e-8. What is to be expected: descent stops when a step moves w by 1e-14 of its
    norm, and is then 1e-14 times the squared condition, at most 225, from its limit; a start a
    thousand times longer than the answer costs three digits more.
    """
    rng = np.random.default_rng(0)
    worst = {"descent": (0.0, ""), "flow": (0.0, "")}
    inconsistent = 0
    for i in range(1000):
        n, d = (int(k) for k in rng.integers(1, 25, 2))
        rank = int(rng.integers(1, min(n, d) + 1))
        scale, condition = 10.0 ** rng.integers(-6, 7), rng.uniform(1, 15)
        norm, share = 10.0 ** rng.integers(-3, 4), 10 ** rng.uniform(-3, 0)
        s = scale * np.geomspace(1, 1 / condition, rank)
        planted = plant_regression(n, d, s, norm=norm, seed=i)
        if rng.random() < 0.3 and rank < n:
            miss = share * float(planted.problem.y.norm())
            planted = plant_regression(n, d, s, norm=norm, seed=i, inconsistency=miss)
        start = None
        if rng.random() < 0.5:
            start = rng.standard_normal(d)
            start *= norm * 10 ** rng.uniform(-3, 3) / np.linalg.norm(start)
        what = (
            f"{n} x {d}, rank {rank}, condition {condition:.1f}, scale {scale:g}, "
            f"start {'zero' if start is None else f'of norm {np.linalg.norm(start):.1e}'}, "
            f"answer {norm:g}, residual {planted.residual:.1e}"
        )
        limit = minimum_norm(planted.problem, start)
        assert limit.rank == rank, what
        assert (limit.status == "least squares") == (planted.residual > 0), what
        inconsistent += planted.residual > 0
        ends = {
            "descent": gradient_descent(planted.problem, start, tol=1e-14),
            "flow": gradient_flow(planted.problem, [math.inf], start),
        }
        assert ends["descent"].stopped == "converged", what
        for name, path in ends.items():
            error = relative_error(path.x, limit.x)
            assert error <= 1e-8, f"{name}, {what}: {error:.2e}"
            worst[name] = max(worst[name], (error, what))
    assert inconsistent > 150
    with capsys.disabled():
        for name, (error, what) in worst.items():
            record_property(f"worst_{name}", f"{error:.2e} ({what})")
            print(f"\n  worst of 1,000, {name}: {error:.2e} ({what})", end="")


@pytest.mark.parametrize("condition", [1e2, 1e4, 1e6, 1e8])
def test_ill_conditioned_problems(condition):
    """Descent would take condition^2 steps; the flow and the limit take none."""
    rng = np.random.default_rng(int(condition))
    for i in range(50):
        n, d = (int(k) for k in rng.integers(2, 25, 2))
        rank = int(rng.integers(2, min(n, d) + 1))
        planted = plant_regression(n, d, np.geomspace(1, 1 / condition, rank), seed=i)
        answer, allowed = planted.minimum_norm, condition * 1e-15 * 100
        assert relative_error(minimum_norm(planted.problem).x, answer) <= allowed
        assert relative_error(gradient_flow(planted.problem, [math.inf]).x, answer) <= allowed
