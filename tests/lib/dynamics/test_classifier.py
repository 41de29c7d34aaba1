"""Training and retraining of convolutional networks: what is computed, and what is reported."""

import copy
import math

import pytest
import torch
from implicit_bias.data import load_digits
from implicit_bias.dynamics.classifier import train_classifier
from implicit_bias.dynamics.kicks import perturb_and_retrain
from implicit_bias.images import ImageData
from implicit_bias.limits.noise_law import noise_law
from implicit_bias.models.activations import fit_polynomial
from implicit_bias.models.deep_conv import ConvNetwork
from torch.nn.functional import cross_entropy


@pytest.fixture(scope="module")
def parts():
    return load_digits().split([150, 300], seed=0)


def small(parts, **settings):
    return ConvNetwork(parts[0].images.shape[1:], 10, (6, 12), **settings)


def squared(network):
    weights = [layer.linear.weight.detach().double() for layer in network.layers]
    return sum(float(w.square().sum()) for w in weights)


@pytest.fixture(scope="module")
def trained(parts):
    run = train_classifier(small(parts), parts[0], until="fitted")
    assert run.stopped == "fitted"
    return run


def test_is_the_descent_of_torch(parts):
    train = parts[0]
    network = small(parts).double()
    run = train_classifier(network, train, steps=25, step=0.05, momentum=0.9)
    twin = copy.deepcopy(network)
    optimiser = torch.optim.SGD(twin.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for _ in range(25):
        optimiser.zero_grad()
        loss = cross_entropy(twin(train.images.double()), train.labels)
        loss.backward()
        losses.append(float(loss.detach()))
        optimiser.step()
    # the same operations up to rounding
    assert run.losses[:-1].tolist() == pytest.approx(losses, rel=1e-10)
    for ours, theirs in zip(run.network.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
    assert (run.stopped, run.steps) == ("budget", 25)


def test_clipping_is_that_of_torch(parts):
    train = parts[0]
    network = small(parts).double()
    run = train_classifier(network, train, steps=8, step=0.05, momentum=0.0, clip=0.3)
    twin = copy.deepcopy(network)
    for _ in range(8):
        twin.zero_grad()
        cross_entropy(twin(train.images.double()), train.labels).backward()
        torch.nn.utils.clip_grad_norm_(twin.parameters(), 0.3)
        with torch.no_grad():
            for w in twin.parameters():
                w -= 0.05 * w.grad
    for ours, theirs in zip(run.network.parameters(), twin.parameters(), strict=True):
        # torch adds 1e-6 to the norm by which it divides
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
    free = train_classifier(network, train, steps=8, step=0.05, momentum=0.0)
    assert float(free.losses[-1]) < float(run.losses[-1])  # the control: it did clip


def test_stops_when_all_are_right(parts, trained):
    assert float(trained.errors[-1]) == 0
    assert bool((trained.errors[:-1] > 0).all())
    assert len(trained.losses) == trained.steps + 1
    train = parts[0]
    with torch.no_grad():
        logits = trained.network(train.images)
    assert bool((logits.argmax(1) == train.labels).all())
    assert float(cross_entropy(logits, train.labels)) == pytest.approx(float(trained.losses[-1]))


def test_leaves_the_network_alone_and_repeats_itself(parts):
    network = small(parts, batch_norm=True)
    before = copy.deepcopy(network.state_dict())
    one, two = (train_classifier(network, parts[0], steps=5) for _ in range(2))
    assert all(bool((network.state_dict()[k] == v).all()) for k, v in before.items())
    assert network.training
    assert not one.network.training
    assert one.losses.tolist() == two.losses.tolist()


def test_batch_norm_ends_as_the_network_that_was_trained(parts):
    train = parts[0]
    run = train_classifier(small(parts, batch_norm=True), train, steps=40)
    with torch.no_grad():
        logits = run.network(train.images)
    # n/(n - 1) in the variance, n = 150 images of 2 x 2 positions at the least: 0.2 per cent
    assert float(cross_entropy(logits, train.labels)) == pytest.approx(
        float(run.losses[-1]), rel=2e-2
    )
    momenta = {layer.norm.momentum for layer in run.network.layers if layer.norm is not None}
    assert momenta == {0.1}


def test_divergence_is_a_result(parts):
    train = parts[0]
    # beyond its interval from the first step
    start = train_classifier(small(parts, activation=fit_polynomial(10, 0.05)), train, steps=5)
    assert (start.stopped, start.steps, len(start.losses)) == ("diverged", 0, 0)
    # a step too long: some steps first
    run = train_classifier(small(parts, activation=fit_polynomial(4, 1.0)), train, step=30.0)
    assert run.stopped == "diverged"
    assert bool(torch.isfinite(run.losses).all())
    for w in run.network.parameters():
        assert bool(torch.isfinite(w).all())
    with torch.no_grad():
        loss = cross_entropy(run.network(train.images), train.labels)
    if run.steps:
        assert float(loss) == pytest.approx(float(run.losses[-1]), rel=1e-4)


def test_kicks_and_retraining(parts, trained):
    train, test = parts
    found = perturb_and_retrain(trained.network, train, test, "relative", times=4, steps=30)
    assert found.stopped == "done"
    assert found.train_error.tolist() == [0.0] * 5
    assert bool((found.kicked_error[1:] >= 0).all())
    assert float(found.kicked_error[1:].max()) > 0  # kicks that do something
    assert bool((found.kicked_loss[1:] > found.train_loss[1:]).all())
    for column in (found.kicked_loss, found.kicked_norm, found.expected_gain, found.needed):
        assert math.isnan(float(column[0]))
        assert bool(torch.isfinite(column[1:]).all())
    # the last entries are those of the network that comes back
    with torch.no_grad():
        logits = found.network(test.images)
    torch.testing.assert_close(logits, found.logits[-1])
    assert float(found.test_loss[-1]) == pytest.approx(float(cross_entropy(logits, test.labels)))
    assert float(found.test_error[-1]) == float((logits.argmax(1) != test.labels).double().mean())
    assert float(found.squared_norm[-1]) == pytest.approx(squared(found.network))
    # relative noise of a quarter: a sixteenth of the squared norm
    torch.testing.assert_close(
        found.expected_gain[1:], found.squared_norm[:-1] / 16, rtol=1e-6, atol=0
    )


@pytest.mark.parametrize("noise", ["fixed", "relative"])
def test_kicks_add_what_the_law_says(parts, trained, noise):
    train, test = parts
    weights = [layer.linear.weight for layer in trained.network.layers]
    law = noise_law(weights, noise, 0.25, 1)
    firsts = torch.tensor(
        [
            float(
                perturb_and_retrain(
                    trained.network, train, test, noise, times=1, steps=1, more=0, seed=seed
                ).kicked_norm[1]
            )
            for seed in range(25)
        ],
        dtype=torch.float64,
    )
    # 25 independent kicks: mean within 4.5 standard errors, scatter within a factor of 1.8
    assert abs(float(firsts.mean() - law.mean[1])) < 4.5 * float(law.deviation[1]) / 25**0.5
    assert 1 / 1.8 < float(firsts.std() / law.deviation[1]) < 1.8


def test_noise_does_not_repeat_the_weights_of_the_same_seed(parts):
    # with one stream for both, a kick of a quarter would make the squared norm 25/16, not 17/16
    network = small(parts, seed=3, bias=False)
    before = squared(network)
    found = perturb_and_retrain(network, *parts, times=1, steps=1, more=0, seed=3)
    assert float(found.kicked_norm[1]) / before == pytest.approx(17 / 16, abs=0.05)


def test_first_kick_is_the_same_and_fixed_noise_stays(parts, trained):
    one, two = (
        perturb_and_retrain(trained.network, *parts, noise, times=3, steps=20)
        for noise in ("fixed", "relative")
    )
    assert float(one.kicked_norm[1]) == float(two.kicked_norm[1])
    assert float(one.test_loss[1]) == float(two.test_loss[1])
    assert len(set(one.expected_gain[1:].tolist())) == 1
    assert float(two.expected_gain[3]) > float(two.expected_gain[1])


def test_no_noise_is_training_on(parts, trained):
    train, test = parts
    control = perturb_and_retrain(
        trained.network, train, test, size=0.0, times=2, steps=15, momentum=0.0
    )
    further = train_classifier(trained.network, train, steps=30, momentum=0.0)
    assert float(control.train_loss[-1]) == pytest.approx(float(further.losses[-1]), rel=1e-5)
    assert control.needed[1:].tolist() == [0.0, 0.0]
    assert control.expected_gain[1:].tolist() == [0.0, 0.0]


def test_what_does_not_come_back_is_said(parts, trained):
    few = perturb_and_retrain(trained.network, *parts, size=2.0, times=3, steps=1, more=0)
    assert few.stopped == "not fitted"
    assert bool(torch.isnan(few.train_loss[1:]).all())
    assert math.isfinite(float(few.kicked_norm[1]))
    wild = perturb_and_retrain(trained.network, *parts, size=1e20, times=3, steps=20)
    assert wild.stopped == "diverged"


def test_errors(parts, trained):
    train, test = parts
    network = trained.network
    with pytest.raises(TypeError, match="not a ConvNetwork"):
        train_classifier(torch.nn.Linear(2, 2), train)
    with pytest.raises(TypeError, match="not ImageData"):
        train_classifier(network, train.images)
    two = ImageData(torch.zeros(2, 1, 8, 8), [0, 1], ["a", "b"])
    with pytest.raises(ValueError, match="10 outputs and the data 2 classes"):
        train_classifier(network, two)
    with pytest.raises(ValueError, match="until"):
        train_classifier(network, train, until="zero")
    for bad in (0, -0.1, math.nan, "a"):
        with pytest.raises(ValueError, match="step = "):
            train_classifier(network, train, step=bad)
        with pytest.raises(ValueError, match="clip = "):
            train_classifier(network, train, clip=bad)
    for call in (
        lambda m: train_classifier(network, train, momentum=m),
        lambda m: perturb_and_retrain(network, train, test, momentum=m),
    ):
        for bad in (1.0, -0.1):
            with pytest.raises(ValueError, match="momentum"):
                call(bad)
    with pytest.raises(ValueError, match="noise = 'none'"):
        perturb_and_retrain(network, train, test, "none")
    with pytest.raises(ValueError, match="size = -1"):
        perturb_and_retrain(network, train, test, size=-1)
