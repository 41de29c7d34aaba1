"""What comes back: the record of a run (Path) and the point where theory says it ends (Limit)."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

__all__ = ["Limit", "NotSeparable", "Path", "StepTooLarge"]


class StepTooLarge(ValueError):
    """The step size makes the iteration diverge; the message says which step would not.

    Examples
    --------
    >>> from implicit_bias import Regression, gradient_descent
    >>> gradient_descent(Regression([[2.0]], [1.0]), step=1.0)
    Traceback (most recent call last):
        ...
    implicit_bias.records.StepTooLarge: step = 1 is not below 2/beta = 0.5, ...
    """


class NotSeparable(ValueError):
    r"""No weights classify all examples correctly; the multipliers in ``certificate`` prove it.

    Attributes
    ----------
    certificate : Tensor, shape (n,), or (n, k) for y of shape (n, k)
        Non-negative, of sum 1, with :math:`Z^\top\alpha = 0` up to rounding. A separating w would
        have :math:`0 < \sum_i \alpha_i\langle z_i, w\rangle = \langle Z^\top\alpha, w\rangle = 0`.

    Examples
    --------
    >>> from implicit_bias import Classification, margin_flow
    >>> try:
    ...     margin_flow(Classification([[1.0], [1.0]], [1, -1]), [100.0])
    ... except NotSeparable as error:
    ...     print(error.certificate)
    tensor([0.5000, 0.5000], dtype=torch.float64)
    """

    def __init__(self, message: str, certificate: Tensor):
        super().__init__(message)
        self.certificate = certificate


@dataclass(frozen=True, eq=False)
class Path:
    """The record of a run: what the dynamics did.

    Attributes
    ----------
    times : Tensor, shape (k,), float64
        Step size times number of steps (descent), or time (flow); increasing.
    points : Tensor, shape (k, d), or (k, repeats, d) for repeated runs
        Where the run was at those times.
    losses : Tensor, shape (k,) or (k, repeats)
        Training loss (a sum over examples) at those points.
    stopped : str
        Why the run ended: "converged", "budget" (out of steps), "exact" (closed form).
    log_losses : Tensor or None, shape (k,)
        Natural logarithms of the losses where a flow is followed until they underflow, else None;
        ``times`` are then natural logarithms too.
    step : float
        The step size used; nan for a flow.
    steps : int
        The number of steps taken; 0 for a flow.

    Examples
    --------
    >>> from implicit_bias import Regression, gradient_descent
    >>> path = gradient_descent(Regression([[2.0, 0.0]], [4.0]))
    >>> path.x, path.stopped
    (tensor([2., 0.], dtype=torch.float64), 'converged')
    """

    times: Tensor
    points: Tensor
    losses: Tensor
    stopped: str
    step: float = float("nan")
    steps: int = 0
    log_losses: Tensor | None = None

    @property
    def x(self) -> Tensor:
        """The last point, shape (d,) or (repeats, d)."""
        return self.points[-1]


@dataclass(frozen=True, eq=False)
class Limit:
    """The solution of a variational problem: where theory says that the dynamics end.

    Attributes
    ----------
    x : Tensor, shape (d,)
        The solution.
    dual : Tensor, shape (n,)
        Its multipliers.
    objective : float
        Value of the objective at ``x``.
    residual : float
        Scale-free optimality residual, recomputed from the problem's own data (0 is perfect,
        1e-15 is rounding); never the solver's word.
    solver : str
        The algorithm that found it.
    status : str
        "interpolates" when the data are fitted exactly; "least squares" when they are
        inconsistent, so that the limit fits as well as possible; "regularised" for ridge.
    rank : int
        Numerical rank of X.

    Examples
    --------
    >>> from implicit_bias import Regression, minimum_norm
    >>> minimum_norm(Regression([[1.0], [1.0]], [0.0, 2.0])).status
    'least squares'
    """

    x: Tensor
    dual: Tensor
    objective: float
    residual: float
    solver: str
    status: str = "interpolates"
    rank: int = field(default=-1)
