"""Linear networks from CUDA and float32 input: torch, NumPy, SciPy and pytest only.

The flow runs on the CPU wherever the data lie, so its answers must be the same to rounding; data
rounded to float32 are other data and move a limit by 1.2e-7 times its condition (100 at worst).
"""

import pytest
import torch
from implicit_bias import (
    Classification,
    LinearNetwork,
    Parameterisation,
    angle,
    balanced_parameters,
    bridge_certificate,
    brute_force_bridge,
    implied_penalty,
    max_margin,
    network_flow,
    parameter_certificate,
    unitary_dft,
)

gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA"),
]
DEVICES = ["cpu", pytest.param("cuda", marks=gpu)]
NETWORKS = {
    "full": LinearNetwork("full", 8, 3, width=2),
    "diagonal": LinearNetwork("diagonal", 8, 2),
    "convolutional": LinearNetwork("convolutional", 8, 2),
    "narrow": LinearNetwork("convolutional", 8, 2, width=3),
    "own": Parameterisation(lambda w: w[:8] * w[8:], 2, 16),
}


def signals(device, dtype=torch.float64):
    generator = torch.Generator().manual_seed(4)
    X = torch.randn(4, 8, generator=generator, dtype=torch.float64)
    y = torch.tensor([1, -1, 1, 1], dtype=torch.float64)
    return Classification(X.to(device, dtype), y.to(device))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", NETWORKS)
def test_flow_and_certificates(name, device):
    network, problem = NETWORKS[name], signals(device)
    start = network.sample(seed=0, scale=0.5)
    expected = network_flow(signals("cpu"), network, start)
    path = network_flow(problem, network, start.to(device))
    for part in (path.x, path.points, path.predictor, path.polished, path.residuals):
        assert part.device.type == device
        assert part.dtype == torch.float64
    assert angle(path.predictor.cpu(), expected.predictor) <= 1e-12
    certificate = parameter_certificate(problem, network, path.x)
    assert certificate.multipliers.device.type == certificate.support.device.type == device
    assert certificate.residual <= 1e-8


@pytest.mark.parametrize("device", DEVICES)
def test_bridge_brute_force_and_prices(device):
    problem, network = signals(device), NETWORKS["convolutional"]
    best = max_margin(problem, "fourier")
    beta = best.x
    assert beta.device.type == unitary_dft(beta).device.type == device
    assert bridge_certificate(problem, beta, 2).residual <= 1e-8
    assert brute_force_bridge(problem, 2).objective == pytest.approx(best.objective, rel=1e-8)
    w = balanced_parameters(network, beta)
    assert w.device.type == device
    torch.testing.assert_close(network.predictor(w), beta)
    assert float(w @ w) == pytest.approx(implied_penalty(network, beta), rel=1e-10)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", NETWORKS)
def test_float32_data(name, device):
    network = NETWORKS[name]
    start = network.sample(seed=0, scale=0.5)
    exact = network_flow(signals("cpu"), network, start).predictor
    path = network_flow(signals(device, torch.float32), network, start)
    assert path.predictor.dtype == torch.float64
    assert path.predictor.device.type == device
    assert angle(path.predictor.cpu(), exact) <= 1.2e-5
