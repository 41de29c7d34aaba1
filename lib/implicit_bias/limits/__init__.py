"""Where theory says that the dynamics end, by solvers that know nothing of descent."""

from implicit_bias.limits.bregman import Infeasible, bregman_projection
from implicit_bias.limits.bridge import brute_force_bridge
from implicit_bias.limits.interpolation import minimum_norm, ridge
from implicit_bias.limits.margin import max_margin

__all__ = [
    "Infeasible",
    "bregman_projection",
    "brute_force_bridge",
    "max_margin",
    "minimum_norm",
    "ridge",
]
