"""The implicit bias of gradient descent, as executable claims.

Dynamics are what descent does; limits are where theory says it ends; evidence is how far apart
they are. The public names below come in the order in which the book meets them.
"""

from typing import TYPE_CHECKING, Any

from implicit_bias.dynamics import (
    exact_descent,
    gradient_descent,
    gradient_flow,
    one_pass_sgd,
    perturbed_descent,
    stochastic_gradient_descent,
)
from implicit_bias.evidence import (
    Claim,
    ClaimFailed,
    ControlPassed,
    Ledger,
    Slope,
    angle,
    expected_risk,
    flow_filter,
    ledger,
    loglog_slope,
    outside_span,
    relative_error,
    ridge_filter,
    stamp,
)
from implicit_bias.limits import minimum_norm, ridge
from implicit_bias.losses import Loss, loss_named
from implicit_bias.models import chebyshev_nodes, polynomial_features
from implicit_bias.problems import Classification, Planted, Regression, plant_regression
from implicit_bias.records import Limit, Path, StepTooLarge

if TYPE_CHECKING:
    from implicit_bias import plotting

__version__ = "0.1.0"

__all__ = [
    "Claim",
    "ClaimFailed",
    "Classification",
    "ControlPassed",
    "Ledger",
    "Limit",
    "Loss",
    "Path",
    "Planted",
    "Regression",
    "Slope",
    "StepTooLarge",
    "angle",
    "chebyshev_nodes",
    "exact_descent",
    "expected_risk",
    "flow_filter",
    "gradient_descent",
    "gradient_flow",
    "ledger",
    "loglog_slope",
    "loss_named",
    "minimum_norm",
    "one_pass_sgd",
    "outside_span",
    "perturbed_descent",
    "plant_regression",
    "plotting",
    "polynomial_features",
    "relative_error",
    "ridge",
    "ridge_filter",
    "stamp",
    "stochastic_gradient_descent",
]


def __getattr__(name: str) -> Any:
    # Matplotlib is slow to import and absent on a bare GPU machine: only when it is asked for.
    if name == "plotting":
        import importlib

        return importlib.import_module("implicit_bias.plotting")
    raise AttributeError(f"module 'implicit_bias' has no attribute {name!r}")
