"""The law of repeated noise against simulation, and against closed forms."""

import numpy as np
import pytest
import torch
from implicit_bias.limits.noise_law import noise_law

LAYERS = ([3.0, -4.0, 1.0, 0.5, 2.0], [0.1, -0.2, 0.3])


def simulate(noise, size, times, runs=40_000):
    rng = np.random.default_rng(0)
    total = np.zeros((times + 1, runs))
    for layer in LAYERS:
        w = np.tile(np.array(layer), (runs, 1))
        first = size * np.sqrt(np.mean(np.square(layer)))
        total[0] += (w**2).sum(1)
        for k in range(1, times + 1):
            rms = np.sqrt((w**2).mean(1, keepdims=True))
            w += (first if noise == "fixed" else size * rms) * rng.standard_normal(w.shape)
            total[k] += (w**2).sum(1)
    return total


@pytest.mark.parametrize("noise", ["fixed", "relative"])
def test_mean_and_scatter_are_those_of_simulation(noise):
    law = noise_law(LAYERS, noise, 0.5, 6)
    runs = simulate(noise, 0.5, 6)
    # 40,000 runs: a mean within 5 of its standard errors, a deviation within 5 per cent (its own
    # error is about 0.4 per cent for normal tails, and several times that for the relative law)
    error = law.deviation.numpy() / np.sqrt(runs.shape[1])
    assert (np.abs(runs.mean(1) - law.mean.numpy()) <= 5 * error + 1e-12).all()
    assert runs.std(1)[1:] == pytest.approx(law.deviation.numpy()[1:], rel=0.05)


def test_closed_forms():
    square = sum(t * t for layer in LAYERS for t in layer)
    k = np.arange(21)
    fixed = noise_law(LAYERS, "fixed", 0.25, 20).mean.numpy()
    relative = noise_law(LAYERS, "relative", 0.25, 20).mean.numpy()
    assert fixed == pytest.approx(square * (1 + k / 16), rel=1e-13)
    assert relative == pytest.approx(square * (17 / 16) ** k, rel=1e-13)


def test_first_kick_and_no_noise():
    fixed, relative = (noise_law(LAYERS, noise, 0.3, 2) for noise in ("fixed", "relative"))
    torch.testing.assert_close(fixed.mean[:2], relative.mean[:2])
    torch.testing.assert_close(fixed.deviation[:2], relative.deviation[:2])
    assert fixed.deviation[0] == relative.deviation[0] == 0
    for noise in ("fixed", "relative"):
        none = noise_law(LAYERS, noise, 0.0, 3)
        assert none.deviation.tolist() == [0.0] * 4
        assert len(set(none.mean.tolist())) == 1


def test_free_share_is_a_linear_model():
    # w on the line; the data see all but `free` of the directions
    p, N, size, times, runs = 10, 4, 0.2, 5, 20_000
    rng = np.random.default_rng(1)
    w0 = np.zeros(p)
    w0[:N] = 1.0  # in the free directions, where the deviation is exact
    w = np.tile(w0, (runs, 1))
    for _ in range(times):
        w[:, :N] += size * np.sqrt((w0**2).mean()) * rng.standard_normal((runs, N))
    law = noise_law([w0], "fixed", size, times, free=N / p)
    end = (w**2).sum(1)
    assert abs(end.mean() - float(law.mean[-1])) < 5 * float(law.deviation[-1]) / np.sqrt(runs)
    assert end.std() == pytest.approx(float(law.deviation[-1]), rel=0.05)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((LAYERS, "both", 0.1, 3), "noise = 'both'"),
        ((LAYERS, "fixed", -0.1, 3), "cannot be negative"),
        ((LAYERS, "fixed", 0.1, 3, 1.5), "between 0 and 1"),
        (([], "fixed", 0.1, 3), "empty"),
        (([[]], "fixed", 0.1, 3), "empty"),
    ],
)
def test_errors(arguments, words):
    with pytest.raises(ValueError, match=words):
        noise_law(*arguments)
