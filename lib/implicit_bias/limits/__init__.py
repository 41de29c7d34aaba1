"""Where theory says that the dynamics end, by solvers that know nothing of descent."""

from implicit_bias.limits.bregman import Infeasible, bregman_projection
from implicit_bias.limits.bridge import brute_force_bridge
from implicit_bias.limits.interpolation import minimum_norm, ridge
from implicit_bias.limits.margin import max_margin
from implicit_bias.limits.polyharmonic import Polyharmonic, polyharmonic
from implicit_bias.limits.spline import Spline, curvature_spline, linear_spline

__all__ = [
    "Infeasible",
    "Polyharmonic",
    "Spline",
    "bregman_projection",
    "brute_force_bridge",
    "curvature_spline",
    "linear_spline",
    "max_margin",
    "minimum_norm",
    "polyharmonic",
    "ridge",
]
