"""The implicit bias of gradient descent, as executable claims.

Dynamics are what descent does; limits are where theory says it ends; evidence is how far apart
they are. The public names below come in the order in which the book meets them.
"""

from typing import TYPE_CHECKING, Any

from implicit_bias.certificates import Certificate, bridge_certificate, parameter_certificate
from implicit_bias.dynamics import (
    LinearisedNetwork,
    NetworkPath,
    Stuck,
    TrainingPath,
    accelerated_descent,
    exact_descent,
    gradient_descent,
    gradient_flow,
    linearised_training,
    margin_flow,
    mirror_descent,
    mirror_flow,
    network_flow,
    normalised_descent,
    one_pass_sgd,
    perturbed_descent,
    square_descent,
    square_flow,
    steepest_descent,
    steepest_flow,
    stochastic_gradient_descent,
    train,
)
from implicit_bias.evidence import (
    Claim,
    ClaimFailed,
    ControlPassed,
    FullTraining,
    Ledger,
    Slope,
    SlowLaw,
    angle,
    expected_risk,
    flow_filter,
    full_training,
    ledger,
    loglog_slope,
    outside_span,
    relative_error,
    ridge_filter,
    slow_law,
    stamp,
)
from implicit_bias.knots import TooFewBreakpoints
from implicit_bias.limits import (
    Infeasible,
    Polyharmonic,
    Spline,
    bregman_projection,
    brute_force_bridge,
    curvature_spline,
    linear_spline,
    max_margin,
    minimum_norm,
    polyharmonic,
    ridge,
)
from implicit_bias.losses import Loss, Tail, loss_named, tail_named
from implicit_bias.measures import Breakpoints, Density
from implicit_bias.models import (
    BinaryUniformInit,
    CurvatureInit,
    GaussianInit,
    Initialisation,
    LinearNetwork,
    Parameterisation,
    ShallowNetwork,
    UniformInit,
    balanced_parameters,
    chebyshev_nodes,
    implied_penalty,
    polynomial_features,
    unitary_dft,
)
from implicit_bias.norms import Norm, as_norm, margin
from implicit_bias.potentials import Entropy, PNorm, Potential, Quadratic, SquaredNorm
from implicit_bias.problems import Classification, Planted, Regression, plant_regression
from implicit_bias.records import Limit, NotSeparable, Path, StepTooLarge

if TYPE_CHECKING:
    from implicit_bias import plotting

__version__ = "0.1.0"

__all__ = [
    "BinaryUniformInit",
    "Breakpoints",
    "Certificate",
    "Claim",
    "ClaimFailed",
    "Classification",
    "ControlPassed",
    "CurvatureInit",
    "Density",
    "Entropy",
    "FullTraining",
    "GaussianInit",
    "Infeasible",
    "Initialisation",
    "Ledger",
    "Limit",
    "LinearNetwork",
    "LinearisedNetwork",
    "Loss",
    "NetworkPath",
    "Norm",
    "NotSeparable",
    "PNorm",
    "Parameterisation",
    "Path",
    "Planted",
    "Polyharmonic",
    "Potential",
    "Quadratic",
    "Regression",
    "ShallowNetwork",
    "Slope",
    "SlowLaw",
    "Spline",
    "SquaredNorm",
    "StepTooLarge",
    "Stuck",
    "Tail",
    "TooFewBreakpoints",
    "TrainingPath",
    "UniformInit",
    "accelerated_descent",
    "angle",
    "as_norm",
    "balanced_parameters",
    "bregman_projection",
    "bridge_certificate",
    "brute_force_bridge",
    "chebyshev_nodes",
    "curvature_spline",
    "exact_descent",
    "expected_risk",
    "flow_filter",
    "full_training",
    "gradient_descent",
    "gradient_flow",
    "implied_penalty",
    "ledger",
    "linear_spline",
    "linearised_training",
    "loglog_slope",
    "loss_named",
    "margin",
    "margin_flow",
    "max_margin",
    "minimum_norm",
    "mirror_descent",
    "mirror_flow",
    "network_flow",
    "normalised_descent",
    "one_pass_sgd",
    "outside_span",
    "parameter_certificate",
    "perturbed_descent",
    "plant_regression",
    "plotting",
    "polyharmonic",
    "polynomial_features",
    "relative_error",
    "ridge",
    "ridge_filter",
    "slow_law",
    "square_descent",
    "square_flow",
    "stamp",
    "steepest_descent",
    "steepest_flow",
    "stochastic_gradient_descent",
    "tail_named",
    "train",
    "unitary_dft",
]


def __getattr__(name: str) -> Any:
    # Matplotlib is slow to import and absent on a bare GPU machine: only when it is asked for.
    if name == "plotting":
        import importlib

        return importlib.import_module("implicit_bias.plotting")
    raise AttributeError(f"module 'implicit_bias' has no attribute {name!r}")
