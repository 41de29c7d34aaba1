"""The stored measurements of full training are what the script makes."""

import full_training as script
import pytest
import torch
from implicit_bias.evidence.precomputed import full_training

DISTANCES = ("error", "deviation", "tangent")


@pytest.fixture(scope="module")
def stored():
    return full_training()


def test_one_row_again(stored):
    start, units, seed = "gaussian", 25_600, 4
    width = stored.widths.tolist().index(units)
    again = script.row(start, units, seed)
    for name in DISTANCES:
        # At this width a hundredth of the integrator's tolerance gives the same digits, so
        # another machine's rounding, which may choose other steps, does not matter.
        there = float(stored.column(name, start)[width, seed])
        assert again[name] == pytest.approx(there, rel=1e-2)


def test_the_file_has_the_settings_of_the_script(stored):
    assert stored.x.tolist() == list(script.X)
    assert stored.y.tolist() == list(script.Y)
    assert stored.starts == tuple(script.STARTS)
    assert stored.widths.tolist() == list(script.WIDTHS)
    assert stored.seeds.tolist() == list(range(script.SEEDS))
    # versions differ from machine to machine
    for line in script.header():
        assert line.startswith("versions: ") or line in stored.made


def test_tangent_training_interpolates(stored):
    network = script.ShallowNetwork(*script.STARTS["uniform"].sample(400, 0), seed=0)
    end = script.tangent_training(network, stored.x, stored.y, stored.x)
    assert float((end - stored.y).abs().max()) < 1e-9


def test_every_network_is_trained(stored):
    for start in stored.starts:
        for name in DISTANCES:
            values = stored.column(name, start)
            assert bool(torch.isfinite(values).all())
            assert bool((values > 0).all())
