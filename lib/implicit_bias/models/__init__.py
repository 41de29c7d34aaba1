"""Maps from parameters to functions."""

from implicit_bias.models.activations import (
    PolynomialActivation,
    activation_named,
    fit_polynomial,
)
from implicit_bias.models.curvature_init import CurvatureInit
from implicit_bias.models.deep import (
    FilterNetwork,
)
from implicit_bias.models.deep_conv import (
    ConvNetwork,
    Layer,
)
from implicit_bias.models.dense import (
    DenseNetwork,
)
from implicit_bias.models.factorisations import (
    balanced_parameters,
    implied_penalty,
    unitary_dft,
)
from implicit_bias.models.homogeneity import (
    Normalised,
    normalise,
    rescale_channels,
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
from implicit_bias.models.residual import (
    ResidualBlock,
    ResidualNetwork,
)
from implicit_bias.models.shallow import ShallowNetwork
from implicit_bias.models.smoothed import (
    SmoothedReLU,
    smoothed_relu,
)
from implicit_bias.models.weights import (
    layer_norms,
    path_norm,
)
from implicit_bias.models.wells import (
    TwoWells,
)

__all__ = [
    "BinaryUniformInit",
    "ConvNetwork",
    "CurvatureInit",
    "DenseNetwork",
    "FilterNetwork",
    "GaussianInit",
    "Initialisation",
    "Layer",
    "LinearNetwork",
    "Normalised",
    "Parameterisation",
    "PolynomialActivation",
    "ResidualBlock",
    "ResidualNetwork",
    "ShallowNetwork",
    "SmoothedReLU",
    "TwoWells",
    "UniformInit",
    "activation_named",
    "balanced_parameters",
    "chebyshev_nodes",
    "fit_polynomial",
    "implied_penalty",
    "layer_norms",
    "normalise",
    "path_norm",
    "polynomial_features",
    "rescale_channels",
    "smoothed_relu",
    "unitary_dft",
]
