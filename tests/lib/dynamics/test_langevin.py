"""Langevin dynamics against laws that are known: normal ones, Gibbs shares, Euler's own bias."""

import math

import pytest
import torch
from implicit_bias.dynamics.langevin import langevin
from implicit_bias.limits.gibbs import gibbs_shares
from implicit_bias.models.wells import TwoWells
from implicit_bias.records import StepTooLarge


def bowl(k):
    k = torch.tensor(k, dtype=torch.float64)
    return lambda x: (k * x.square()).sum(-1) / 2


def above(x):
    return (x[:, 0] > 0.5).long()


def tail(variance):
    return 0.5 * math.erfc(0.5 / math.sqrt(2 * variance))


@pytest.mark.parametrize("step", [0.1, 0.8])
def test_on_a_quadratic_the_law_is_normal_and_eulers_bias_is_known(step):
    """Variance T/(k (1 - k step / 2)) unadjusted, T/k adjusted."""
    k, T = 1.0, 0.5
    for adjust in (False, True):
        run = langevin(bowl([k]), [0.0], T, step, 2000, 400, adjust=adjust, region=above)
        expected = tail(T / k if adjust else T / (k * (1 - k * step / 2)))
        # Five standard errors, of which the run tells.
        assert abs(float(run.shares[1]) - expected) < 5 * float(run.errors[1])
        assert 0 < float(run.errors[1]) < 0.01
        factor = 1 if adjust else 1 / (1 - k * step / 2)
        assert run.temperature == pytest.approx(T * factor, rel=0.02)
        assert (run.acceptance < 1) == adjust


def test_errors_are_honest():
    """Over seeds the shares scatter as the errors say, for many chains and for one."""
    # One chain must run long compared with its correlation, as batch means suppose.
    for chains, steps in ((50, 60), (1, 1200)):
        runs = [
            langevin(bowl([1.0]), [0.0], 0.5, 0.2, steps, chains, seed, region=above)
            for seed in range(16)
        ]
        z = torch.tensor([(r.shares[1] - tail(0.5 / 0.9)) / r.errors[1] for r in runs])
        # The mean square of 16 normal numbers lies in here with probability 0.9995.
        assert 0.2 < float(z.square().mean()) < 2.8


@pytest.mark.parametrize(
    "wells",
    [
        TwoWells(4.0, 1.0),
        TwoWells(1.6, 1.0, dimension=5),
        TwoWells(1.0, 1.0, dimension=3, powers=(2, 4)),
        TwoWells(2.0, 1.0, dimension=3, tilt=0.4),
    ],
)
def test_time_in_each_well_is_its_gibbs_share(wells):
    expected = gibbs_shares(wells, 0.6).shares
    run = langevin(wells, wells.minima[0], 0.6, 0.08, 2000, 400, adjust=True)
    assert float((run.shares - expected).abs().max()) < 5 * float(run.errors.max())
    assert float(run.errors.max()) < 0.01
    assert run.crossings > 10
    assert run.temperature == pytest.approx(0.6, rel=0.03)
    torch.testing.assert_close(run.history.mean(0), run.shares, rtol=0, atol=1e-12)
    assert abs(float(run.shares.sum()) - 1) < 1e-12


def test_noise_that_is_stronger_in_one_well_has_the_law_that_was_derived():
    wells = TwoWells(4.0, 1.0)  # flatter on the right, where the noise is louder
    T, step = 0.6, 0.01
    expected = float(gibbs_shares(wells, T, noise=(1.0, 3.0)).shares[1])
    run = langevin(wells, wells.minima[0], T, step, 6000, 400, noise=wells.noise(1.0, 3.0))
    # Euler's bias at this step is below 0.015 (0.022 at twice the step, T = 0.5).
    assert abs(float(run.shares[1]) - expected) < 0.015 + 5 * float(run.errors[1])
    assert float(gibbs_shares(wells, T).shares[1]) - float(run.shares[1]) > 0.15


def test_own_gradient_and_autograd_walk_alike():
    wells = TwoWells(4.0, 1.0, dimension=4, tilt=0.1)
    for adjust in (False, True):
        one = langevin(wells, wells.minima[0], 0.3, 0.05, 100, 20, adjust=adjust)
        other = langevin(
            lambda x: wells(x),
            wells.minima[0],
            0.3,
            0.05,
            100,
            20,
            adjust=adjust,
            region=wells.region,
        )
        torch.testing.assert_close(one.points, other.points, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(one.shares, other.shares)


def test_without_noise_it_is_gradient_descent():
    run = langevin(bowl([1.0, 0.5]), [[2.0, -1.0]], 0.0, 0.1, 100, chains=1)
    expected = torch.tensor([[2 * 0.9**100, -(0.95**100)]], dtype=torch.float64)
    torch.testing.assert_close(run.points, expected, rtol=1e-12, atol=0)
    assert run.shares.tolist() == [1.0]


def test_one_step_is_the_formula_and_repeats_itself():
    a, b = (langevin(bowl([1.0]), [1.0], 0.3, 0.1, 40, 8, seed=3) for _ in range(2))
    assert torch.equal(a.points, b.points)
    assert not torch.equal(a.points, langevin(bowl([1.0]), [1.0], 0.3, 0.1, 40, 8, seed=4).points)
    generator = torch.Generator().manual_seed(3)
    x = torch.ones(8, 1, dtype=torch.float64)
    for _ in range(40):
        x = 0.9 * x + math.sqrt(0.06) * torch.randn(x.shape, generator=generator).double()
    torch.testing.assert_close(a.points, x, rtol=1e-12, atol=1e-12)


def test_a_run_that_cannot_cross_says_so():
    wells = TwoWells(4.0, 1.0)
    run = langevin(wells, wells.minima[0], 0.01, 0.05, 400, 50)
    assert run.crossings == 0
    assert run.shares.tolist() == [1.0]


def test_regions_may_appear_late_and_each_chain_may_start_elsewhere():
    start = torch.tensor([[0.25], [1.25], [0.25]], dtype=torch.float64)

    def hill(x):  # the gradient is -1 everywhere: 1/8 to the right in each step
        return -x.sum(-1)

    run = langevin(hill, start, 0.0, 0.125, 40, 3, region=lambda x: x[:, 0].long(), burn=0)
    # 40 steps from 1/4: 5 end below 1, 8 in each unit, 3 from 5 on; a unit further for the other.
    assert (120 * run.shares).tolist() == pytest.approx([10, 21, 24, 24, 24, 14, 3])
    assert run.crossings == 5


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"step": 0.26}, StepTooLarge, "not below"),
        ({"step": 0.2, "temperature": 50.0}, StepTooLarge, "diverged"),
        ({"step": 0.0}, ValueError, "must be positive"),
        ({"temperature": -1.0}, ValueError, "negative"),
        ({"temperature": 0.0, "adjust": True}, ValueError, "adjust=True"),
        ({"noise": lambda x: x * 0 + 1, "adjust": True}, ValueError, "adjust=True"),
        ({"burn": 1.0}, ValueError, "burn"),
        ({"start": [[0.0, 0.0]]}, ValueError, "chains"),
        ({"start": 1.0}, ValueError, "one point"),
        ({"start": [0.0, math.nan]}, ValueError, "NaN"),
        ({"steps": 10}, ValueError, "steps"),
        ({"chains": 0}, ValueError, "chains"),
        ({"region": lambda x: x}, TypeError, "one integer"),
        ({"region": lambda x: -(x[:, 0] < 9).long()}, ValueError, "negative integer"),
        ({"potential": lambda x: x.square()}, ValueError, "one finite number"),
        ({"potential": lambda x: x[:, 0] / 0}, ValueError, "one finite number"),
    ],
)
def test_refuses(change, error, words):
    options = {
        "potential": TwoWells(4.0, 1.0),
        "start": [-1.0, 0.0],
        "temperature": 0.1,
        "step": 0.05,
        "steps": 200,
        "chains": 5,
    }
    with pytest.raises(error, match=words):
        langevin(**{**options, **change})
