"""Where theory says that the dynamics end, by solvers that know nothing of descent."""

from implicit_bias.limits.approximation import BestApproximation, best_approximation, largest_error
from implicit_bias.limits.bregman import Infeasible, bregman_projection
from implicit_bias.limits.bridge import brute_force_bridge
from implicit_bias.limits.derivatives import DerivativeBound, derivative_bound
from implicit_bias.limits.gibbs import (
    Gibbs,
    crossover_temperature,
    gibbs_shares,
    robust_value,
)
from implicit_bias.limits.interpolation import minimum_norm, ridge
from implicit_bias.limits.margin import max_margin
from implicit_bias.limits.noise_law import (
    NoiseLaw,
    noise_law,
)
from implicit_bias.limits.polyharmonic import Polyharmonic, polyharmonic
from implicit_bias.limits.rest_point import (
    rest_point,
)
from implicit_bias.limits.spline import Spline, curvature_spline, linear_spline

__all__ = [
    "BestApproximation",
    "DerivativeBound",
    "Gibbs",
    "Infeasible",
    "NoiseLaw",
    "Polyharmonic",
    "Spline",
    "best_approximation",
    "bregman_projection",
    "brute_force_bridge",
    "crossover_temperature",
    "curvature_spline",
    "derivative_bound",
    "gibbs_shares",
    "largest_error",
    "linear_spline",
    "max_margin",
    "minimum_norm",
    "noise_law",
    "polyharmonic",
    "rest_point",
    "ridge",
    "robust_value",
]
