"""Potentials: against fifty digits, against autograd, and the identities that define them."""

import math

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from implicit_bias.potentials import Entropy, PNorm, Quadratic, SquaredNorm

K = np.array([[2.0, 0.5, 0.0], [0.5, 1.0, -0.3], [0.0, -0.3, 4.0]])
ALL = [SquaredNorm(), Entropy(), Quadratic(K), *(PNorm(p) for p in (1.1, 1.5, 2, 3, 4.5))]


def sample(potential, seed, shape=(3,)):
    rng = np.random.default_rng(seed)
    size = 10.0 ** rng.uniform(-3, 3, shape)
    return size if isinstance(potential, Entropy) else size * rng.choice([-1.0, 1.0], shape)


def exactly(potential, w, v):
    """The divergence by its definition, with 80 digits: enough for the cancellation."""
    with mpmath.workdps(80):
        w, v = ([mpmath.mpf(float(k)) for k in x] for x in (w, v))
        if isinstance(potential, Entropy):
            parts = [(a * mpmath.log(a / b) if a else 0) - a + b for a, b in zip(w, v, strict=True)]
            return mpmath.fsum(parts)
        if isinstance(potential, PNorm):
            p = mpmath.mpf(potential.p)
            return mpmath.fsum(
                abs(a) ** p / p - abs(b) ** p / p - mpmath.sign(b) * abs(b) ** (p - 1) * (a - b)
                for a, b in zip(w, v, strict=True)
            )
        M = np.eye(len(w)) if isinstance(potential, SquaredNorm) else potential.K.numpy()
        change = [a - b for a, b in zip(w, v, strict=True)]
        rows = [
            mpmath.fsum(mpmath.mpf(float(m)) * c for m, c in zip(row, change, strict=True))
            for row in M
        ]
        return mpmath.fsum(c * r for c, r in zip(change, rows, strict=True)) / 2


@pytest.mark.parametrize("potential", ALL, ids=repr)
def test_divergence_has_all_its_digits(potential):
    rng = np.random.default_rng(1)
    for i in range(300):
        v = sample(potential, i)
        by = 10.0 ** rng.uniform(-14, 0.5, 3) * (1 if i % 2 else 10.0 ** rng.uniform(-14, 0))
        sign = rng.choice([-1.0, 1.0], 3)
        w = v * (1 + by) if isinstance(potential, Entropy) else v * (1 + sign * by)
        w = v * np.exp(-by) if isinstance(potential, Entropy) and i % 3 else w
        if (w == v).all():
            continue
        exact = exactly(potential, w, v)
        error = abs((mpmath.mpf(float(potential.divergence(w, v))) - exact) / exact)
        # Worst of thousands: 1e-13 for p = 1.1 (its divergence is (p - 1) times the terms), 5e-14.
        assert error <= 1e-12, (w, v)


@pytest.mark.parametrize("start", [1.0, 1e-16, 1e-300])
def test_entropy_keeps_its_digits_near_zero(start):
    for ratio in (1 + 1e-12, 1 - 1e-9, 1.01, 0.5, 30.0, 1e-4):
        w = [start * ratio]
        if start * ratio < 1e-307:
            continue
        exact = exactly(Entropy(), w, [start])
        assert float(Entropy().divergence(w, [start])) == pytest.approx(
            float(exact), rel=1e-12, abs=0
        )
    assert Entropy().inverse_mirror(Entropy().mirror([start])).item() == pytest.approx(
        start, rel=2e-13, abs=0
    )  # half a unit of log 1e-300 = -690.8 is 6e-14
    # Zero is as far from the start as the start is large.
    assert Entropy().divergence([0.0], [start]).item() == start
    assert Entropy().divergence([1.0], [1e-300]).item() == pytest.approx(300 * math.log(10) - 1)


@pytest.mark.parametrize("potential", ALL, ids=repr)
def test_mirror_is_the_gradient_and_hessian_its_derivative(potential):
    for seed in range(5):
        w = torch.from_numpy(sample(potential, seed)).requires_grad_()
        (gradient,) = torch.autograd.grad(potential._value(w), w)
        torch.testing.assert_close(potential.mirror(w), gradient, rtol=1e-13, atol=0)
        second = torch.autograd.functional.hessian(potential._value, w.detach())
        torch.testing.assert_close(potential.hessian(w), second, rtol=1e-12, atol=1e-14)
        identity = potential.hessian(w) @ potential.inverse_hessian(w)
        torch.testing.assert_close(identity, torch.eye(3).double(), rtol=1e-12, atol=1e-12)
        M = torch.arange(6.0, dtype=torch.float64).reshape(3, 2)
        expected = potential.inverse_hessian(w) @ M
        torch.testing.assert_close(potential.precondition(w.detach(), M), expected)


@pytest.mark.parametrize("potential", ALL, ids=repr)
def test_inverse_mirror_undoes_mirror(potential):
    w = torch.from_numpy(sample(potential, 7))
    back = potential.inverse_mirror(potential.mirror(w))
    # |w|^(p-1) rounds, and its inverse power 1/(p-1) = 10 multiplies that.
    torch.testing.assert_close(back, w, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("potential", ALL, ids=repr)
@settings(derandomize=True, deadline=None, max_examples=60)
@given(seed=st.integers(0, 10**6))
def test_three_points_and_convexity(potential, seed):
    w, u, v = (torch.from_numpy(sample(potential, 3 * seed + k)) for k in range(3))
    D, mirror = potential.divergence, potential.mirror
    right = D(w, u) + D(u, v) + ((mirror(u) - mirror(v)) * (w - u)).sum()
    size = float(D(w, u) + D(u, v) + (mirror(u).abs() + mirror(v).abs()) @ (w.abs() + u.abs()))
    assert float(D(w, v)) == pytest.approx(float(right), abs=1e-13 * size)
    definition = potential.value(w) - potential.value(v) - mirror(v) @ (w - v)
    size += float(potential.value(w).abs() + potential.value(v).abs()) + float(
        mirror(v).abs() @ (w.abs() + v.abs())
    )
    assert float(D(w, v)) == pytest.approx(float(definition), abs=1e-13 * abs(size))
    assert D(w, v) >= 0
    assert D(w, w) == 0
    middle = potential.value((w + v) / 2)
    ends = (potential.value(w) + potential.value(v)) / 2
    assert middle <= ends + 1e-12 * abs(ends)
    # The symmetric sum is what descent divides by its step.
    both = ((mirror(w) - mirror(v)) * (w - v)).sum()
    assert float(D(w, v) + D(v, w)) == pytest.approx(float(both), rel=1e-9)


@pytest.mark.parametrize("potential", ALL, ids=repr)
def test_batches(potential):
    w, v = sample(potential, 1, (4, 5, 3)), sample(potential, 2, (4, 5, 3))
    for name in ("value", "mirror", "hessian", "inverse_hessian"):
        together = getattr(potential, name)(w)
        torch.testing.assert_close(together[2, 3], getattr(potential, name)(w[2, 3]))
    assert potential.inverse_mirror(potential.mirror(w)).shape == (4, 5, 3)
    apart = torch.stack([potential.divergence(a, b) for a, b in zip(w[1], v[1], strict=True)])
    torch.testing.assert_close(potential.divergence(w, v)[1], apart, rtol=1e-13, atol=0)
    assert potential.value(w).dtype == torch.float64


def test_special_cases_coincide():
    w, v = torch.tensor([1.0, -2.0, 3.0]), torch.tensor([0.5, 2.0, 1.0])
    for other in (PNorm(2), Quadratic(np.eye(3))):
        for name in ("value", "mirror", "inverse_mirror", "hessian"):
            torch.testing.assert_close(getattr(other, name)(w), getattr(SquaredNorm(), name)(w))
        torch.testing.assert_close(other.divergence(w, v), SquaredNorm().divergence(w, v))


def test_a_p_norm_at_zero():
    for p in (1.5, 3.0):
        assert PNorm(p).mirror([0.0, 1.0]).tolist() == [0.0, 1.0]
        assert PNorm(p).divergence([2.0], [0.0]).item() == pytest.approx(2**p / p)
        assert PNorm(p).divergence([0.0], [2.0]).item() == pytest.approx(2**p * (1 - 1 / p))
    assert PNorm(1.5).hessian([0.0]).item() == math.inf
    assert PNorm(3).inverse_hessian([0.0]).item() == math.inf


# ---- what is refused


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Entropy().mirror([1.0, 0.0]), ValueError, "needs positive points.*Pass positive"),
        (lambda: Entropy().value([-1.0]), ValueError, "needs non-negative points.*entry -1"),
        (lambda: Entropy().divergence([1.0], [0.0]), ValueError, "positive points, and v has"),
        (lambda: Entropy().divergence([1.0], [1.0, 2.0]), ValueError, "equal last dimension"),
        (lambda: Entropy().inverse_mirror([800.0]), OverflowError, "largest float.*800"),
        (lambda: SquaredNorm().value(3.0), ValueError, r"shape \(\).*Wrap"),
        (lambda: SquaredNorm().value([math.nan]), ValueError, "NaN or infinite"),
        (lambda: SquaredNorm().value([1j]), TypeError, "complex.*real part"),
        (lambda: SquaredNorm().value("abc"), TypeError, "cannot be read"),
        (lambda: Quadratic([1.0, 2.0]), ValueError, r"square matrix.*torch.diag"),
        (lambda: Quadratic([[1.0, 1.0], [0.0, 1.0]]), ValueError, r"not symmetric.*K \+ K.T"),
        (lambda: Quadratic([[1.0, 2.0], [2.0, 1.0]]), ValueError, "not positive definite.*-1"),
        (lambda: Quadratic([[1.0, 1.0], [1.0, 1.0]]), ValueError, "multiple of the identity"),
        (lambda: Quadratic(np.zeros((2, 2))), ValueError, "not positive definite"),
        (lambda: Quadratic(K).value([1.0]), ValueError, "1 coordinates but K is 3 x 3"),
        (lambda: Quadratic(K).inverse_mirror([1.0]), ValueError, "z has 1 coordinates"),
        (lambda: PNorm(1.0), ValueError, "not a finite number above 1"),
        (lambda: PNorm(math.inf), ValueError, "not a finite number above 1"),
        (lambda: PNorm("2"), TypeError, "not a number"),
    ],
)
def test_refuses(call, error, message):
    with pytest.raises(error, match=message):
        call()
