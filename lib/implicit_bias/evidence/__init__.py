"""How far apart are what descent does and what theory says: distances, rates, the ledger."""

from implicit_bias.evidence.claims import Claim, ClaimFailed, ControlPassed, Ledger, ledger
from implicit_bias.evidence.degeneracy import (
    Degeneracy,
    degeneracy,
    follow_valley,
    function_change,
)
from implicit_bias.evidence.filters import expected_risk, flow_filter, ridge_filter
from implicit_bias.evidence.gaps import angle, outside_span, relative_error
from implicit_bias.evidence.landscape import (
    Rank,
    Spectrum,
    hessian_spectrum,
    jacobian_rank,
)
from implicit_bias.evidence.precomputed import FullTraining, full_training
from implicit_bias.evidence.rates import Slope, loglog_slope
from implicit_bias.evidence.remainder import (
    quadratic_remainder,
)
from implicit_bias.evidence.slow import SlowLaw, slow_law
from implicit_bias.evidence.stamp import stamp
from implicit_bias.evidence.stored import (
    PerturbationSeries,
    PolynomialSeries,
    perturbation_series,
    polynomial_series,
)
from implicit_bias.evidence.temperature import (
    Temperature,
    best_temperature,
)

__all__ = [
    "Claim",
    "ClaimFailed",
    "ControlPassed",
    "Degeneracy",
    "FullTraining",
    "Ledger",
    "PerturbationSeries",
    "PolynomialSeries",
    "Rank",
    "Slope",
    "SlowLaw",
    "Spectrum",
    "Temperature",
    "angle",
    "best_temperature",
    "degeneracy",
    "expected_risk",
    "flow_filter",
    "follow_valley",
    "full_training",
    "function_change",
    "hessian_spectrum",
    "jacobian_rank",
    "ledger",
    "loglog_slope",
    "outside_span",
    "perturbation_series",
    "polynomial_series",
    "quadratic_remainder",
    "relative_error",
    "ridge_filter",
    "slow_law",
    "stamp",
]
