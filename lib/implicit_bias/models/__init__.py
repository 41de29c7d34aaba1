"""Maps from parameters to functions."""

from implicit_bias.models.factorisations import (
    balanced_parameters,
    implied_penalty,
    unitary_dft,
)
from implicit_bias.models.linear import LinearNetwork
from implicit_bias.models.parameterisation import Parameterisation
from implicit_bias.models.polynomial import chebyshev_nodes, polynomial_features

__all__ = [
    "LinearNetwork",
    "Parameterisation",
    "balanced_parameters",
    "chebyshev_nodes",
    "implied_penalty",
    "polynomial_features",
    "unitary_dft",
]
