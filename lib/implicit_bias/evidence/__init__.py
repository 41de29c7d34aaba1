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
from implicit_bias.evidence.normalised import (
    Measurement,
    Scores,
    class_margins,
    loss_deficit,
    measure_network,
    scores,
)
from implicit_bias.evidence.precomputed import FullTraining, full_training
from implicit_bias.evidence.rates import Slope, loglog_slope
from implicit_bias.evidence.relation import (
    Line,
    RankCorrelation,
    kendall,
    linear_relation,
    partial_rank_correlation,
)
from implicit_bias.evidence.remainder import (
    quadratic_remainder,
)
from implicit_bias.evidence.series import (
    NetworkSeries,
    normalised_series,
    sample_sweep_series,
    training_curve_series,
    width_sweep_series,
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
    "Line",
    "Measurement",
    "NetworkSeries",
    "PerturbationSeries",
    "PolynomialSeries",
    "Rank",
    "RankCorrelation",
    "Scores",
    "Slope",
    "SlowLaw",
    "Spectrum",
    "Temperature",
    "angle",
    "best_temperature",
    "class_margins",
    "degeneracy",
    "expected_risk",
    "flow_filter",
    "follow_valley",
    "full_training",
    "function_change",
    "hessian_spectrum",
    "jacobian_rank",
    "kendall",
    "ledger",
    "linear_relation",
    "loglog_slope",
    "loss_deficit",
    "measure_network",
    "normalised_series",
    "outside_span",
    "partial_rank_correlation",
    "perturbation_series",
    "polynomial_series",
    "quadratic_remainder",
    "relative_error",
    "ridge_filter",
    "sample_sweep_series",
    "scores",
    "slow_law",
    "stamp",
    "training_curve_series",
    "width_sweep_series",
]
