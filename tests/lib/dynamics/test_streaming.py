"""One pass: each example once, and the error falls with their number."""

import math

import numpy as np
import pytest
import torch
from implicit_bias import StepTooLarge, loglog_slope, one_pass_sgd


def zeros(d):
    return torch.zeros(d, dtype=torch.float64)


def gaussian(d):
    """Examples of y = <x, (1, ..., 1)> + noise, and a count of how many were asked for."""
    asked = []

    def draw(m, generator):
        asked.append(m)
        x = torch.randn(m, d, generator=generator, dtype=torch.float64)
        return x, x.sum(1) + torch.randn(m, generator=generator, dtype=torch.float64)

    return draw, asked


def test_is_the_plain_iteration_over_fresh_examples():
    draw, asked = gaussian(3)
    start = torch.tensor([1.0, 0.0, -1.0]).double()
    path = one_pass_sgd(draw, start, 0.05, steps=300, repeats=4, seed=7)
    assert sum(asked) == 300 * 4
    generator = torch.Generator().manual_seed(7)
    blocks = [draw(m, generator) for m in list(asked)]
    x = torch.cat([block[0] for block in blocks]).reshape(300, 4, 3).numpy()
    y = torch.cat([block[1] for block in blocks]).reshape(300, 4).numpy()
    for run in range(4):
        w, losses = start.numpy(), []
        for a, b in zip(x[:, run], y[:, run], strict=True):
            losses.append((a @ w - b) ** 2 / 2)
            w = w - 0.05 * (a @ w - b) * a
        np.testing.assert_allclose(path.x[run], w, rtol=1e-11)
        np.testing.assert_allclose(path.losses[:, run], [losses[0], losses[-1]], rtol=1e-9)
    assert torch.equal(path.points[0], start.expand(4, 3))
    assert path.times.tolist() == [0.0, 15.0]
    assert (path.step, path.steps, path.stopped) == (0.05, 300, "budget")


def test_draws_repeat_with_the_seed():
    a, b, c = (one_pass_sgd(gaussian(2)[0], zeros(2), 0.1, 50, 2, seed=s).x for s in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def bounded(d=40, rank=24):
    """P18's assumptions: |x| = 1 and |y| <= 1, in a space of which x sees 24 directions.

    Returns the draw, the answer of least norm, the directions and the variance along each.
    """
    rng = np.random.default_rng(1)
    Q = torch.from_numpy(np.linalg.qr(rng.standard_normal((d, rank)))[0])
    variance = 1 / torch.arange(1, rank + 1).double()
    variance /= variance.sum()
    c = torch.from_numpy(rng.standard_normal(rank))
    answer = Q @ (0.5 * c / c.norm())

    def draw(m, generator):
        signs = torch.randint(2, (m, rank), generator=generator).double() * 2 - 1
        x = (signs * variance.sqrt()) @ Q.T
        return x, x @ answer + torch.rand(m, generator=generator, dtype=torch.float64) - 0.5

    return draw, answer, Q, variance


def test_the_examples_meet_the_assumptions():
    draw, answer, Q, variance = bounded()
    x, y = draw(2000, torch.Generator().manual_seed(0))
    torch.testing.assert_close(x.norm(dim=1), torch.ones(2000).double())
    assert float(y.abs().max()) <= 1
    torch.testing.assert_close(Q @ (Q.T @ answer), answer)  # the one of least norm
    assert float((x.T @ x / 2000 - Q @ variance.diag() @ Q.T).abs().max()) < 0.02


def test_one_pass_decay():
    """P18 section 6.1: excess risk at order n^(-1/2) or better, and the distance to zero too."""
    draw, answer, Q, variance = bounded()
    sizes = [2**k for k in range(6, 15)]
    excess, distance, outside = [], [], []
    for n in sizes:
        gap = one_pass_sgd(draw, zeros(40), n**-0.5, n, repeats=100, seed=n).x - answer
        excess.append(((gap @ Q) ** 2 * variance).sum(1))
        distance.append(gap.norm(dim=1))
        outside.append((gap - gap @ Q @ Q.T).norm(dim=1).max())
    fall = loglog_slope(sizes, torch.stack(excess))
    assert fall.interval[1] <= -0.5
    approach = loglog_slope(sizes, torch.stack(distance))
    assert approach.interval[1] < -0.2
    assert float(distance[-1].mean()) < 0.25 * float(distance[0].mean())
    assert max(outside) < 1e-13
    # The control: from a start off the row space the risk falls as well, the distance does not.
    w0 = torch.ones(40).double() / 40
    w0 = w0 - Q @ (Q.T @ w0)
    gap = one_pass_sgd(draw, w0, sizes[-1] ** -0.5, sizes[-1], repeats=20).x - answer
    assert float(((gap @ Q) ** 2 * variance).sum(1).mean()) < 2 * float(excess[-1].mean())
    assert float((gap - gap @ Q @ Q.T).norm(dim=1).min()) == pytest.approx(float(w0.norm()))


@pytest.mark.parametrize(
    "arguments",
    [{"step": 0.0}, {"step": -1.0}, {"step": math.nan}, {"steps": 0}, {"repeats": 0}],
)
def test_refuses_and_says_what_to_do(arguments):
    with pytest.raises(ValueError, match=r"= .*(is not a positive number|is too small)"):
        one_pass_sgd(gaussian(2)[0], zeros(2), **{"step": 0.1, "steps": 5, **arguments})


@pytest.mark.parametrize(
    "draw",
    [
        lambda m, g: (torch.ones(m, 3), torch.ones(m)),
        lambda m, g: (torch.ones(m, 2), torch.ones(m, 1)),
        lambda m, g: (torch.ones(1, 2), torch.ones(1)),
    ],
)
def test_refuses_examples_of_the_wrong_shape(draw):
    with pytest.raises(ValueError, match=r"must return \d+ fresh examples.*, 2\).*got"):
        one_pass_sgd(draw, zeros(2), 0.1, 5)


def test_a_run_that_overflows_is_reported():
    with pytest.raises(StepTooLarge, match=r"overflowed: step = 10 is too large.*Stay below 2"):
        one_pass_sgd(gaussian(2)[0], zeros(2), 10.0, 1000)
