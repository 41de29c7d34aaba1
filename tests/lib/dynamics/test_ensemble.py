"""Together, networks take the steps that each would take alone, in a plain loop of torch's."""

import copy

import implicit_bias.dynamics.stacking as stacking
import numpy as np
import pytest
import torch
from implicit_bias.dynamics.ensemble import ensemble_outputs, train_ensemble
from implicit_bias.models.deep_conv import ConvNetwork
from torch import nn

gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA"),
]
DEVICES = ["cpu", pytest.param("cuda", marks=gpu)]

M, N, CLASSES = 4, 22, 3
SHAPE = (1, 6, 6)


def data(dtype=torch.float64, m=M):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(N, *SHAPE, generator=generator, dtype=dtype)
    return x, torch.randint(CLASSES, (m, N), generator=generator)


def networks(dtype=torch.float64, m=M, **other):
    """Different starts, and different scales of the start."""
    return [
        ConvNetwork(SHAPE, CLASSES, widths=(3, 4), scale=0.5 + 0.3 * j, seed=j, **other).to(dtype)
        for j in range(m)
    ]


def alone(model, x, labels, rate, epochs, batch, momentum, decay, seed):
    """One network, one step after the other."""
    model = copy.deepcopy(model).train()
    optimiser = torch.optim.SGD(model.parameters(), rate, momentum=momentum, weight_decay=decay)
    generator = torch.Generator().manual_seed(seed)
    losses = [evaluated(model, x, labels)]
    for _ in range(epochs):
        for indices in torch.randperm(len(x), generator=generator).split(batch):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(x[indices]), labels[indices]).backward()
            optimiser.step()
        losses.append(evaluated(model, x, labels))
    return model.eval(), losses


@torch.no_grad()
def evaluated(model, x, labels):
    model.eval()
    loss = float(nn.functional.cross_entropy(model(x).double(), labels))
    model.train()
    return loss


SETTINGS = {
    "shared batches": {"seed": 3},
    "own batches": {"seed": [5, 6, 7, 8]},
    "batch norm": {"seed": 3, "batch_norm": True},
    "batch norm, own batches": {"seed": [5, 6, 7, 8], "batch_norm": True},
    "all at once": {"seed": 0, "batch": N},
    "plain": {"seed": 1, "bias": False, "momentum": 0.0, "decay": 0.0, "rate": 0.5},
    "own rates": {"seed": 2, "rate": [0.05, 0.1, 0.02, 0.2]},
}


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("labelling", ["common", "own"])
def test_the_steps_are_those_of_a_network_alone(name, labelling):
    setting = {"batch": 5, "momentum": 0.9, "decay": 0.01, "rate": 0.05, **SETTINGS[name]}
    seed, batch, rate = (setting.pop(k) for k in ("seed", "batch", "rate"))
    momentum, decay = setting.pop("momentum"), setting.pop("decay")
    models = networks(**setting)
    x, own = data()
    labels = own if labelling == "own" else own[0]
    path = train_ensemble(
        models,
        x,
        labels,
        learning_rate=rate,
        epochs=6,
        batch=batch,
        momentum=momentum,
        decay=decay,
        seed=seed,
    )
    assert path.stopped == ("budget",) * M
    assert path.epochs.tolist() == list(range(7))
    for j in range(M):
        model, losses = alone(
            models[j],
            x,
            labels[j] if labelling == "own" else labels,
            rate[j] if isinstance(rate, list) else rate,
            6,
            batch,
            momentum,
            decay,
            seed[j] if isinstance(seed, list) else seed,
        )
        # 30 steps in float64, whose rounding of 1e-16 these networks enlarge a thousand times.
        torch.testing.assert_close(path.losses[:, j].tolist(), losses, rtol=1e-12, atol=1e-13)
        for key, value in model.state_dict().items():
            torch.testing.assert_close(
                path.models[j].state_dict()[key], value, rtol=1e-11, atol=1e-12
            )
        assert path.losses[-1, j] < path.losses[0, j]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("batch_norm", [False, True])
def test_in_single_precision_they_agree_to_its_tolerance(device, batch_norm):
    models = [model.to(device) for model in networks(torch.float32, batch_norm=batch_norm)]
    x, labels = data(torch.float32)
    setting = {"learning_rate": 0.05, "epochs": 5, "batch": 5, "momentum": 0.9, "seed": 1}
    path = train_ensemble(models, x, labels, **setting)
    again = train_ensemble(models, x, labels, **setting)
    assert torch.equal(path.losses, again.losses)
    assert all(
        torch.equal(p, q)
        for a, b in zip(path.models, again.models, strict=True)
        for p, q in zip(a.parameters(), b.parameters(), strict=True)
    )
    for j in range(M):
        assert next(path.models[j].parameters()).device.type == device
        _, losses = alone(models[j].cpu(), x, labels[j], 0.05, 5, 5, 0.9, 0.0, 1)
        # 25 steps; rounding of 6e-8, enlarged as above.
        torch.testing.assert_close(path.losses[:, j].tolist(), losses, rtol=1e-4, atol=1e-5)


def test_a_network_does_not_depend_on_its_companions():
    models, (x, labels) = networks(), data()
    setting = {"learning_rate": 0.05, "epochs": 4, "batch": 5, "momentum": 0.5}
    whole = train_ensemble(models, x, labels, seed=range(4), **setting)
    part = train_ensemble(models[2:3], x, labels[2:3], seed=[2], **setting)
    torch.testing.assert_close(part.losses[:, 0], whole.losses[:, 2], rtol=1e-12, atol=0)
    shared = train_ensemble(models, x, labels, seed=2, **setting)
    torch.testing.assert_close(shared.losses[:, 2], whole.losses[:, 2], rtol=1e-12, atol=0)
    assert abs(float(shared.losses[-1, 1] - whole.losses[-1, 1])) > 1e-6


def test_the_models_that_were_passed_stay_as_they_were():
    models, (x, labels) = networks(batch_norm=True), data()
    before = copy.deepcopy([model.state_dict() for model in models])
    models[1].eval()  # the mode of the passed ones does not matter
    path = train_ensemble(models, x, labels, learning_rate=0.1, epochs=2, batch=7)
    for model, old in zip(models, before, strict=True):
        assert all(torch.equal(v, old[k]) for k, v in model.state_dict().items())
    assert [model.training for model in models] == [True, False, True, True]
    assert not any(model.training for model in path.models)
    assert all(p.requires_grad for model in path.models for p in model.parameters())
    path.models[0](x).sum().backward()


def test_what_does_not_learn_stays():
    models, (x, labels) = networks(), data()
    for model in models:
        model.layers[0].requires_grad_(False)
    path = train_ensemble(models, x, labels, learning_rate=0.1, epochs=3)
    for new, old in zip(path.models, models, strict=True):
        assert torch.equal(new.layers[0].linear.weight, old.layers[0].linear.weight)
        assert not torch.equal(new.layers[1].linear.weight, old.layers[1].linear.weight)


class Half(nn.Module):
    """Of which a part is not used, and the other has its weights twice."""

    def __init__(self, seed, table=(1.0, 2.0)):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.used, self.again = nn.Linear(36, 36), nn.Linear(36, 36)
            self.unused, self.last = nn.Linear(36, 2), nn.Linear(36, CLASSES)
        self.again.weight = self.used.weight
        self.table = np.array(table)

    def forward(self, x):
        return self.last(torch.relu(self.again(torch.relu(self.used(x.flatten(1))))))


def test_weights_may_be_shared_within_a_network_or_not_used():
    models, (x, labels) = [Half(seed).double() for seed in range(M)], data()
    setting = {"momentum": 0.9, "decay": 0.1, "seed": 4}
    path = train_ensemble(models, x, labels, learning_rate=0.05, epochs=4, batch=5, **setting)
    for j, (new, old) in enumerate(zip(path.models, models, strict=True)):
        expected, losses = alone(old, x, labels[j], 0.05, 4, 5, *setting.values())
        torch.testing.assert_close(path.losses[:, j].tolist(), losses, rtol=1e-12, atol=1e-13)
        assert new.again.weight is new.used.weight
        torch.testing.assert_close(new.used.weight, expected.used.weight, rtol=1e-11, atol=1e-12)
        assert torch.equal(new.unused.weight, old.unused.weight)  # no decay either, as torch does


# --- records and ends


@pytest.mark.parametrize("seed", [0, [3, 4, 5, 6]])
def test_a_network_ends_at_its_target_and_the_others_go_on(seed):
    models, (x, labels) = networks(), data()
    setting = {"learning_rate": [0.5, 0.02, 0.1, 1e-6], "epochs": 50, "momentum": 0.8}
    setting |= {"seed": seed, "batch": 11}
    free = train_ensemble(models, x, labels[0], **setting)
    path = train_ensemble(models, x, labels[0], target=0.8, **setting)
    assert path.stopped[3] == "budget"
    assert path.stopped[:3] == ("reached",) * 3
    ends = []
    for j in range(3):
        end = int((free.losses[:, j] <= 0.8).nonzero()[0])
        ends.append(end)
        # 100 steps with momentum, in stacks of other sizes.
        torch.testing.assert_close(
            path.losses[: end + 1, j], free.losses[: end + 1, j], rtol=1e-9, atol=0
        )
        assert (path.losses[end:, j] == path.losses[end, j]).all()
        assert evaluated(path.models[j], x, labels[0]) == pytest.approx(
            float(path.losses[-1, j]), rel=1e-12
        )
    assert len(set(ends)) > 1
    torch.testing.assert_close(path.losses[:, 3], free.losses[:, 3], rtol=1e-9, atol=0)


def test_records_say_what_the_models_do():
    models, (x, labels) = networks(), data()
    path = train_ensemble(models, x, labels, learning_rate=0.1, epochs=7, every=3)
    assert path.epochs.tolist() == [0, 3, 6, 7]
    outputs = ensemble_outputs(path.models, x)
    wrong = (outputs.argmax(2) != labels).double().mean(1)
    assert torch.equal(path.errors[-1], wrong)
    assert path.losses.shape == path.errors.shape == (4, M)


def test_a_network_that_diverges_leaves_the_others_alone():
    models, (x, labels) = networks(), data()
    rates = [0.05, 1e300, 0.05, 0.05]
    path = train_ensemble(models, x, labels, learning_rate=rates, epochs=5, batch=5)
    assert path.stopped == ("budget", "diverged", "budget", "budget")
    assert path.losses[0, 1].isfinite()
    assert (path.losses[1:, 1] == float("inf")).all()
    assert path.errors[1:, 1].isnan().all()  # no share of anything: NaNs have a largest, too
    assert path.errors[:, [0, 2, 3]].isfinite().all()
    for p, q in zip(path.models[1].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(p, q)  # as it was when its loss was last a number
    calm = train_ensemble(models, x, labels, learning_rate=0.05, epochs=5, batch=5)
    for j in (0, 2, 3):
        torch.testing.assert_close(path.losses[:, j], calm.losses[:, j], rtol=1e-12, atol=0)


def test_no_epochs_are_the_start():
    models, (x, labels) = networks(), data()
    path = train_ensemble(models, x, labels, learning_rate=0.1, epochs=0)
    assert path.losses.shape == (1, M)
    torch.testing.assert_close(ensemble_outputs(path.models, x), ensemble_outputs(models, x))


def test_outputs_are_those_of_each_and_do_not_depend_on_the_parts(monkeypatch):
    models, (x, _) = networks(batch_norm=True), data()
    expected = torch.stack([model.eval()(x) for model in models]).detach()
    together = ensemble_outputs([model.train() for model in models], x)
    torch.testing.assert_close(together, expected, rtol=1e-12, atol=1e-14)
    monkeypatch.setattr(stacking, "_CHUNK", 1)
    torch.testing.assert_close(ensemble_outputs(models, x), expected, rtol=1e-12, atol=1e-14)
    assert not together.requires_grad


def test_a_loss_of_ones_own():
    """Least squares: the ensemble against the solution of the normal equations."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(20, 3, generator=generator, dtype=torch.float64)
    y = torch.randn(2, 20, 1, generator=generator, dtype=torch.float64)
    models = [nn.Linear(3, 1, bias=False).double() for _ in range(2)]
    path = train_ensemble(
        models, x, y, learning_rate=0.5, epochs=400, loss=nn.functional.mse_loss, every=100
    )
    for j in range(2):
        best = torch.linalg.lstsq(x, y[j]).solution
        torch.testing.assert_close(path.models[j].weight.detach().T, best, rtol=1e-10, atol=1e-12)
    assert path.errors.isnan().all()


def test_numpy_and_double_inputs_are_taken_in_the_networks_precision():
    models, (x, labels) = networks(torch.float32), data()
    setting = {"learning_rate": 0.05, "epochs": 2}
    a = train_ensemble(models, x.numpy(), labels.numpy(), **setting)
    b = train_ensemble(models, x.float(), labels, **setting)
    c = train_ensemble(models, x.tolist(), labels.numpy().astype(np.uint8), **setting)
    d = train_ensemble(models, x.float(), labels.to(torch.int32), **setting)
    for other in (b, c, d):
        assert torch.equal(a.losses, other.losses)


# --- refusals


def with_hole(x):
    return torch.where(torch.arange(N)[:, None, None, None] == 3, torch.nan, x)


def dropout():
    return [nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(36, 3)) for _ in range(M)]


def other_activation():
    models = networks()
    models[2] = models[2].with_activation(torch.tanh)
    return models


def frozen():
    models = networks()
    models[1].layers[0].requires_grad_(False)
    return models


def hooked():
    models = networks()
    models[3].layers[0].register_forward_hook(lambda module, args, out: 2 * out)
    return models


def untracked():
    norm = {"track_running_stats": False}
    return [nn.Sequential(nn.BatchNorm2d(1, **norm), nn.Flatten(), nn.Linear(36, 3))] * 4


def averaging():
    norm = {"momentum": None}
    return [nn.Sequential(nn.BatchNorm2d(1, **norm), nn.Flatten(), nn.Linear(36, 3))] * 2


@pytest.mark.parametrize(
    ("other", "error", "message"),
    [
        ({"models": nn.Linear(2, 2)}, TypeError, "not a sequence"),
        ({"models": [torch.relu]}, TypeError, "not a sequence"),
        ({"models": []}, ValueError, "nothing to train"),
        ({"models": [nn.Flatten()]}, ValueError, "no parameters that learn"),
        (
            {"models": [*networks(m=3), ConvNetwork(SHAPE, 3, widths=(3, 5)).double()]},
            ValueError,
            "Network 3 is not built like network 0 .they print differently.*one by one",
        ),
        ({"models": other_activation()}, ValueError, "Network 2.*activation = .*tanh.*relu"),
        ({"models": frozen()}, ValueError, "Network 1.*do not learn"),
        ({"models": [*networks(m=3), *networks(torch.float32, 1)]}, ValueError, "one precision"),
        ({"models": dropout()}, ValueError, "dropout.*Take it out"),
        ({"models": hooked()}, ValueError, "Network 3.*layers.0 has other hooks"),
        ({"models": untracked()}, ValueError, "keeps no running mean.*track_running_stats"),
        (
            {"models": [Half(0), Half(1, (1.0, 3.0)), Half(2), Half(3)]},
            ValueError,
            "Network 1.*table = array",
        ),
        ({"models": averaging(), "labels": [0] * N}, ValueError, "momentum=None"),
        ({"x": np.zeros((0, *SHAPE))}, ValueError, "no examples"),
        ({"x": with_hole(data()[0])}, ValueError, "x has a NaN"),
        ({"labels": [0, 1]}, ValueError, r"shape \(2,\); pass \(22,\).*\(4, 22\)"),
        ({"labels": data()[1][:3]}, ValueError, r"shape \(3, 22\)"),
        ({"labels": torch.full((N,), 3)}, ValueError, r"from 3 to 3.*outputs of shape \(3,\)"),
        ({"labels": torch.full((N,), -1)}, ValueError, "from -1"),
        ({"labels": torch.zeros(N)}, TypeError, "float32.*number of a class"),
        ({"labels": torch.zeros(N, 2, dtype=int)}, ValueError, "one label for each example"),
        ({"learning_rate": 0.0}, ValueError, "must be positive"),
        ({"learning_rate": [0.1, 0.2]}, ValueError, "one for each of the 4"),
        ({"learning_rate": float("nan")}, ValueError, "NaN"),
        ({"epochs": -1}, ValueError, "epochs = -1"),
        ({"epochs": 1.5}, TypeError, "epochs = 1.5"),
        ({"batch": 0}, ValueError, "batch = 0"),
        ({"every": 0}, ValueError, "every = 0"),
        ({"momentum": 1.0}, ValueError, r"momentum = 1\.0.*\[0, 1\)"),
        ({"momentum": -0.1}, ValueError, "momentum = -0.1"),
        ({"decay": -1.0}, ValueError, "decay = -1.0"),
        (
            {"loss": lambda outputs, labels: outputs[:, 0] ** 2},
            ValueError,
            r"shape \(22,\) for one network.*the mean over",
        ),
        ({"target": float("nan")}, ValueError, "target = nan, which no loss comes to"),
        ({"seed": [1, 2]}, ValueError, "seed has 2 values for 4 networks"),
        ({"seed": -1}, ValueError, "seed = -1"),
        ({"seed": [1, 2, 3, 0.5]}, TypeError, "entry of seed = 0.5"),
    ],
)
def test_refuses_and_says_what_to_do(other, error, message):
    x, labels = data()
    arguments = {"models": None, "x": x, "labels": labels, "learning_rate": 0.1, "epochs": 1}
    arguments |= other
    if arguments["models"] is None:
        arguments["models"] = networks()
    with pytest.raises(error, match=f"(?s){message}"):
        train_ensemble(**arguments)
