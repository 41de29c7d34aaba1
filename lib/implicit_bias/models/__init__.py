"""Maps from parameters to functions."""

from implicit_bias.models.curvature_init import CurvatureInit
from implicit_bias.models.factorisations import (
    balanced_parameters,
    implied_penalty,
    unitary_dft,
)
from implicit_bias.models.initialisations import (
    BinaryUniformInit,
    GaussianInit,
    Initialisation,
    UniformInit,
)
from implicit_bias.models.linear import LinearNetwork
from implicit_bias.models.parameterisation import Parameterisation
from implicit_bias.models.polynomial import chebyshev_nodes, polynomial_features
from implicit_bias.models.shallow import ShallowNetwork

__all__ = [
    "BinaryUniformInit",
    "CurvatureInit",
    "GaussianInit",
    "Initialisation",
    "LinearNetwork",
    "Parameterisation",
    "ShallowNetwork",
    "UniformInit",
    "balanced_parameters",
    "chebyshev_nodes",
    "implied_penalty",
    "polynomial_features",
    "unitary_dft",
]
