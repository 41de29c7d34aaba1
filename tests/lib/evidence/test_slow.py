"""The constants of the logarithmic laws, against closed forms and against the flow."""

import math

import numpy as np
import pytest
import torch
from implicit_bias import (
    Classification,
    angle,
    margin,
    margin_flow,
    max_margin,
    relative_error,
    slow_law,
)


def separable(n, d, seed, gap=0.3):
    rng = np.random.default_rng(seed)
    truth = rng.standard_normal(d)
    truth /= np.linalg.norm(truth)
    X = rng.standard_normal((n, d))
    y = np.where(X @ truth >= 0, 1.0, -1.0)
    return Classification(X + gap * y[:, None] * truth, y)


def test_orthogonal_examples_have_a_closed_form():
    """Then w_i(t) = log(1 + |z_i|^2 t) z_i / |z_i|^2, each by itself."""
    sizes = torch.tensor([1.0, 2.0, 5.0]).double()
    problem = Classification(torch.diag(sizes), [1, 1, 1])
    limit = max_margin(problem)
    law = slow_law(problem, limit)
    expected = 2 * sizes.log() / sizes
    assert relative_error(law.residual, expected) <= 1e-12
    along = limit.x / limit.x.norm()
    across = expected - (along @ expected) * along
    assert law.angle == pytest.approx(float(across.norm() / limit.x.norm()), rel=1e-11)
    assert law.support.tolist() == [True] * 3


@pytest.mark.parametrize(("n", "d"), [(40, 8), (12, 30), (100, 4), (6, 6)])
@pytest.mark.parametrize("loss", ["exponential", "logistic"])
def test_the_flow_obeys_the_laws(n, d, loss):
    """At log t = 1e6 the laws hold up to O(1 / log t), and rounding of 1e-16 * 1e6 in w."""
    problem = separable(n, d, seed=n)
    limit = max_margin(problem)
    path = margin_flow(problem, [1e4, 1e6], loss=loss)
    law = slow_law(problem, limit, path.x)
    s = path.times[-1]
    scale = float(law.residual.norm())
    assert float((path.x - s * limit.x - law.residual).norm()) <= 1e-4 * scale
    assert angle(path.x, limit.x) * float(s) == pytest.approx(law.angle, rel=1e-3)
    gap = 1 / limit.objective - margin(problem, path.x)
    assert gap * float(s) == pytest.approx(law.gap, rel=1e-3)
    # Control: the span part alone, without the point, is another vector when d allows it.
    if n < d:
        assert relative_error(slow_law(problem, limit).residual, law.residual) > 1e-3


def test_the_residual_satisfies_its_equation():
    problem = separable(60, 10, seed=8)
    limit = max_margin(problem)
    law = slow_law(problem, limit)
    S = problem.Z[law.support]
    assert relative_error(S.T @ torch.exp(-S @ law.residual), limit.x) <= 1e-9


def test_duplicates_share_their_multiplier():
    X = torch.tensor([[2.0, 0.0], [2.0, 0.0], [0.0, 1.0]]).double()
    problem = Classification(X, [1, 1, 1])
    law = slow_law(problem, max_margin(problem))
    # Two copies of the first example: it pulls twice, so its margin is log 2 ahead.
    assert law.residual.tolist() == pytest.approx([math.log(8) / 2, 0.0], abs=1e-12)


def test_a_zero_multiplier_has_no_law():
    """The third example lies on the margin, and between the first two: it pulls for nothing."""
    problem = Classification([[1.0, 1.0], [1.0, -1.0], [1.0, 0.5]], [1, 1, 1])
    assert slow_law(problem, max_margin(problem)).support.tolist() == [True] * 3
    lone = Classification([[1.0, 0.0], [1.0, 1.0]], [1, 1])
    with pytest.raises(ValueError, match=r"multiplier zero.*log log t.*no limit"):
        slow_law(lone, max_margin(lone))


def test_refuses_a_point_of_other_weights():
    problem = separable(6, 4, seed=1)
    with pytest.raises(ValueError, match=r"point has shape \(3,\).*\(4,\)"):
        slow_law(problem, max_margin(problem), torch.ones(3))
