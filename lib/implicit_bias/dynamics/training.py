r"""Training of a wide network as it is: all its layers, by descent or along the gradient flow.

The loss is half the sum of squares, and time is that of the output weights v. In M24's standard
parametrisation one learning rate serves all parameters, its output weights are
:math:`v/\sqrt n`, and so everything but v moves at the rate 1/n here (``models.shallow``): with D
the diagonal matrix of these rates and J the derivatives of the outputs,

.. math:: \dot\theta = D J^\top r, \qquad r = y - f(x), \qquad \dot r = -K r, \quad K = JDJ^\top .

A free skip connection, optimal at all times, takes the polynomials out of r at all times.

**Descent** takes steps of at most :math:`2/\lambda_{\max}(K)`, and the slowest mode of even ten
data points needs millions of them. **The exponential integrator** (Rosenbrock-Euler) freezes J
instead of r over a step of length h, :math:`\theta\leftarrow\theta + DJ^\top
K^{-1}(1-e^{-Kh})\,r`: exact for a network that is linear in its parameters, and a wide one is
nearly so. Each step is taken once whole and once in two halves; their difference is the error that
controls h, and their extrapolation, of second order, is what goes on. No step is longer than the
time before it, so that the decay of every mode is seen in several steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from implicit_bias.arrays import as_count, as_real
from implicit_bias.dynamics.wide import (
    Skip,
    as_training,
    polynomial_complement,
    polynomial_fit,
)
from implicit_bias.models.shallow import ShallowNetwork, monomials, rectified_power
from implicit_bias.records import Path, StepTooLarge

__all__ = ["TrainingPath", "train"]


@dataclass(frozen=True, eq=False)
class TrainingPath(Path):
    r"""The record of the training of a network.

    Attributes
    ----------
    times : Tensor, shape (k,)
        The times tau that were asked for, as far as they were reached; inf for the limit.
    points : Tensor, shape (k, P)
        All parameters at these times, as ``ShallowNetwork.parameters`` has them.
    losses : Tensor, shape (k,)
        Half the sums of squares.
    stopped : str
        "converged" (infinite time), "reached" (the last, finite time), "budget" (out of steps
        before that; the last record is where it was then) or "stuck": at a point where no
        parameter changes what is left of the misfit, not even to first order.
    initial : ShallowNetwork
        The network before training.

    Examples
    --------
    >>> network = ShallowNetwork([1.0, -1.0, 1.0], [0.0, 1.0, -1.0], antisymmetric=True)
    >>> path = train(network, [-1.0, 0.5, 2.0], [0.0, 1.0, 0.0])
    >>> path.stopped, path.network([-1.0, 0.5, 2.0]).round(decimals=6).abs()
    ('converged', tensor([0., 1., 0.], dtype=torch.float64))
    """

    initial: ShallowNetwork = field(default_factory=lambda: ShallowNetwork([1.0], [0.0]))

    @property
    def network(self) -> ShallowNetwork:
        """The trained network, at the last time."""
        return self.network_at(-1)

    def network_at(self, index: int) -> ShallowNetwork:
        """Returns the network of record ``index``."""
        return self.initial.with_parameters(self.points[index])


class _State(NamedTuple):
    """Parameters: w (n, d), b, v (n,) and the coefficients of the polynomial (p,)."""

    w: Tensor
    b: Tensor
    v: Tensor
    skip: Tensor


class _View(NamedTuple):
    """What the data see of a state: activations and slopes (M, n), residuals."""

    active: Tensor
    slope: Tensor
    rest: Tensor  # y - f(x), with the polynomials that a free skip connection would remove
    z: Tensor  # the residuals in coordinates without them


class _Spectrum:
    """A kernel's eigenvalues, and what is left to do under it."""

    def __init__(self, K: Tensor, size: float):
        """K, and the trace of the kernel from which polynomials may have been removed."""
        self.rates, self.U = torch.linalg.eigh(K)
        largest = float(self.rates[-1]) if K.shape[0] else 0.0
        # Below this an eigenvalue is rounding, perhaps negative.
        eps = torch.finfo(K.dtype).eps
        floor = max(4 * K.shape[0] * eps * largest, (64 * eps) ** 2 * size)
        self.dead = self.rates <= floor
        self.largest = largest if largest > floor else 0.0

    def push(self, z: Tensor, h: float) -> Tensor:
        """K^-1 (1 - exp(-K h)) z."""
        gained = -torch.expm1(-h * torch.where(self.dead, 1.0, self.rates))
        phi = gained / torch.where(self.dead, 1.0, self.rates)
        # Where no parameter has an effect, a push has none but rounding.
        push: Tensor = self.U @ (torch.where(self.dead, 0.0, phi) * (self.U.T @ z))
        return push

    def movement(self, z: Tensor, h: float = math.inf) -> float:
        """How far the parameters have to go within h: the norm of D^(1/2) J^T push."""
        a = self.push(z, h)
        # a^T K a without its rounding where a vanishes on small eigenvalues
        return float((self.rates.clamp(min=0).sqrt() * (self.U.T @ a)).norm())


class _Model:
    """A network, its data, and which parameters move."""

    def __init__(self, network: ShallowNetwork, x: Tensor, y: Tensor, layers: str, skip: Skip):
        self.network, self.x, self.y = network, x, y
        self.hidden, self.skip = layers == "all", skip
        self.n, self.degree = network.n, network.degree
        self.root = math.sqrt(network.n)
        self.monomials = monomials(x, network.degree)
        self.Z = polynomial_complement(x, network.degree) if skip == "free" else None
        self.inputs = torch.cat([torch.ones_like(x[:, :1]), x], 1)
        self.start = _State(network.w, network.b, network.v, network.skip)
        self._still: tuple[Tensor, Tensor] | None = None
        if not self.hidden:
            self._still = self._units(self.start)

    def _units(self, state: _State) -> tuple[Tensor, Tensor]:
        z = torch.addmm(state.b, self.x, state.w.T)
        active = rectified_power(z, self.degree)
        return active, rectified_power(z, self.degree - 1) if self.hidden else active

    def view(self, state: _State) -> _View:
        active, slope = self._still or self._units(state)
        rest = self.y - active @ state.v / self.root - self.monomials @ state.skip
        return _View(active, slope, rest, rest if self.Z is None else self.Z.T @ rest)

    def spectrum(self, state: _State, view: _View) -> _Spectrum:
        """The eigenvalues of K in the coordinates z."""
        parts = [view.active / self.root]
        if self.hidden:
            slope = view.slope * (state.v / self.n)
            parts += [slope * column[:, None] for column in self.inputs.T]
        if self.skip == "common":
            parts.append(self.monomials / self.root)
        size = sum(float(part.square().sum()) for part in parts)
        if self.Z is not None:  # before the products, whose rounding would be that of polynomials
            parts = [self.Z.T @ part for part in parts]
        K: Tensor = sum((part @ part.T for part in parts[1:]), parts[0] @ parts[0].T)
        return _Spectrum(K, size)

    def move(self, state: _State, view: _View, a: Tensor) -> _State:
        """The state moved by D J^T a, for a in the coordinates z."""
        a = a if self.Z is None else self.Z @ a
        w, b, v, skip = state
        if self.hidden:
            scale = state.v / (self.n * self.root)
            b = b + scale * (view.slope.T @ a)
            w = w + scale[:, None] * (view.slope.T @ (a[:, None] * self.x))
        if self.skip == "common":
            skip = skip + self.monomials.T @ a / self.n
        return _State(w, b, v + view.active.T @ a / self.root, skip)

    def distance(self, one: _State, two: _State) -> float:
        """How far apart, in units of the output weights: what it may change in the function."""
        parts = [float((a - b).square().sum()) for a, b in zip(one, two, strict=True)]
        return math.sqrt(sum(parts[:3]) + self.n * parts[3])

    def record(self, state: _State) -> Tensor:
        w, b, v, skip = state
        if self.skip == "free":
            skip = skip + polynomial_fit(self.x, self.view(state).rest, self.degree)
        return torch.cat([w.reshape(-1), b, v, skip])


class _Run:
    """A run in progress: what it records, and when it is over."""

    def __init__(self, model: _Model, taus: list[float], tol: float, steps: int, tick: Any):
        self.model, self.taus, self.tol, self.steps, self.tick = model, taus, tol, steps, tick
        self.state, self.view = model.start, model.view(model.start)
        self.done, self.kept = 0, list[tuple[float, Tensor, float]]()
        self.first = self.spectrum = model.spectrum(self.state, self.view)
        self.scale = self.first.movement(self.view.z, taus[-1])
        # A change of the parameters by this much may change the outputs by as much as they have
        # to change; slow modes need far larger ones.
        size = float(self.view.z.norm()) / math.sqrt(max(self.first.largest, 1e-300))
        self.unit = min(self.scale, size)
        self.size = float(model.y.norm() + (model.y - self.view.rest).norm())
        self.noise = 64 * torch.finfo(torch.float64).eps * self.size
        dead = self.first.U[:, self.first.dead].T @ self.view.z
        if taus[-1] == math.inf and float(dead.norm()) > max(self.noise, 1e-9 * self.size):
            raise ValueError(
                f"These {model.n} units cannot fit the data: {dead.numel()} of the "
                f"{self.view.z.numel()} directions that they would have to fit do not depend on "
                f"any parameter to first order, so infinite time does not end. Use more units, "
                f"remove examples that contradict each other, or pass a finite tau."
            )

    def loss(self) -> float:
        return float(self.view.z.square().sum()) / 2

    def keep(self, tau: float) -> None:
        self.kept.append((tau, self.model.record(self.state), self.loss()))

    def settled(self, spectrum: _Spectrum) -> str:
        """Whether what is left to do, at infinite time, is below the tolerance."""
        z = self.view.z
        if float(z.norm()) <= self.noise:
            return "converged"
        if spectrum.movement(z) > self.tol * self.scale:
            return ""
        dead = spectrum.U[:, spectrum.dead].T @ z
        return "converged" if float(dead.norm()) <= max(self.noise, 1e-9 * self.size) else "stuck"

    def advance(self, state: _State) -> None:
        self.state, self.view = state, self.model.view(state)
        self.done += 1

    def finish(self, stopped: str, step: float) -> TrainingPath:
        times, points, losses = zip(*self.kept, strict=True)
        device = self.model.network.device
        return TrainingPath(
            times=torch.tensor(times, dtype=torch.float64, device=device),
            points=torch.stack(points),
            losses=torch.tensor(losses, dtype=torch.float64, device=device),
            stopped=stopped,
            step=step,
            steps=self.done,
            initial=self.model.network,
        )


def _integrate(run: _Run, rtol: float) -> TrainingPath:
    """The flow, by exponential steps."""
    model, tau, stopped = run.model, 0.0, "reached"
    largest = run.first.largest
    h = 1 / largest if model.hidden and largest else math.inf
    for goal in run.taus:
        while tau < goal or goal == math.inf:
            if goal == math.inf and (stopped := run.settled(run.spectrum)):
                break
            if run.done >= run.steps:
                run.keep(tau)
                return run.finish("budget", math.nan)
            last = h >= goal - tau
            now = goal - tau if last else h
            z, spectrum = run.view.z, run.spectrum
            one = model.move(run.state, run.view, spectrum.push(z, now))
            if model.hidden:
                half = model.move(run.state, run.view, spectrum.push(z, now / 2))
                there = model.view(half)
                between = model.spectrum(half, there)
                two = model.move(half, there, between.push(there.z, now / 2))
                error = model.distance(one, two) / max(rtol * run.unit, 1e-300)
                if not error <= 1:
                    h = now * max(0.2, 0.9 / math.sqrt(error)) if math.isfinite(error) else now / 5
                    if tau + h == tau:
                        raise ArithmeticError(
                            f"The step at tau = {tau:.6g} has shrunk to nothing, so rtol = {rtol} "
                            f"cannot be reached there. Pass a larger rtol."
                        )
                    continue
                one = _State(*(2 * t - o for t, o in zip(two, one, strict=True)))
                h = max(h, now * min(5.0, 0.9 / math.sqrt(max(error, 1e-6))))
            tau = goal if last and goal < math.inf else tau + now
            h = min(h, tau) if model.hidden else h
            run.advance(one)
            if model.hidden:
                run.spectrum = model.spectrum(run.state, run.view)
            run.tick(1, run.loss())
        run.keep(goal if stopped != "stuck" else tau)
    return run.finish(stopped, math.nan)


def _descend(run: _Run, step: float | None) -> TrainingPath:
    """Plain gradient descent."""
    model, tau, largest, stopped = run.model, 0.0, run.first.largest, "reached"
    if step is None:
        step = 1 / largest if largest else 1.0
    if not (math.isfinite(step) and step > 0):
        raise ValueError(
            f"step = {step} is not a positive number. Pass one, or None for 1/lambda_max."
        )
    if step * largest >= 2:
        raise StepTooLarge(
            f"step = {step:g} is not below 2/lambda_max = {2 / largest:g}, where lambda_max is the "
            f"largest eigenvalue of the kernel at the start: descent diverges. Take a smaller step "
            f"(M24's learning rate is step/(2n)), or None for 1/lambda_max."
        )
    first, used, shown = run.loss(), step, 0
    for goal in run.taus:
        # Equal steps that end at the goal, none longer than the one asked for.
        count = math.ceil((goal - tau) / step * (1 - 1e-12)) if goal < math.inf else math.inf
        used = (goal - tau) / count if 0 < count < math.inf else step
        origin, taken = tau, 0
        while taken < count:
            if count == math.inf and taken % 16 == 0 and (stopped := run.settled(run.first)):
                break
            if run.done >= run.steps:
                run.keep(tau)
                return run.finish("budget", used)
            run.advance(model.move(run.state, run.view, used * run.view.z))
            taken += 1
            tau = origin + taken * used
            if run.done <= 64 or run.done % 64 == 0 or taken == count:
                now = run.loss()
                if not now <= 1.5 * first + run.noise**2:
                    raise StepTooLarge(
                        f"The loss rose from {first:g} to {now:g} within {run.done} steps of size "
                        f"{used:g}: the kernel has grown since the start, and the step is too "
                        f"large for it now. Take a smaller one."
                    )
                run.tick(run.done - shown, now)
                shown = run.done
        tau = goal
        run.keep(goal)
    return run.finish(stopped, used)


@contextmanager
def _progress(wanted: bool, steps: int) -> Iterator[Callable[[int, float], None]]:
    if not wanted:
        yield lambda count, loss: None
        return
    try:
        from tqdm.auto import tqdm  # type: ignore[import-untyped]
    except ImportError as error:
        raise ImportError(
            "progress=True shows its bar with tqdm, which is not installed. Run pip install tqdm, "
            "or leave progress out."
        ) from error
    with tqdm(total=steps, unit="step") as bar:

        def tick(count: int, loss: float) -> None:
            bar.update(count)
            bar.set_postfix(loss=f"{loss:.3g}", refresh=False)

        yield tick


def train(
    network: ShallowNetwork,
    x: Any,
    y: Any,
    layers: Literal["all", "output"] = "all",
    method: Literal["exponential", "gd"] = "exponential",
    *,
    tau: Any = math.inf,
    skip: Skip = "free",
    step: float | None = None,
    steps: int | None = None,
    rtol: float = 1e-5,
    tol: float = 1e-9,
    device: Any = None,
    progress: bool = False,
) -> TrainingPath:
    r"""Returns the path of the training of a network, nothing linearised.

    Parameters
    ----------
    network : ShallowNetwork
        Where training starts.
    x : array, shape (M,) for one input, else (M, d)
    y : array, shape (M,)
    layers : str
        "all", with the hidden layer moving at the rate 1/n of the output layer, or "output".
    method : str
        "exponential" follows the flow with control of the error; "gd" takes steps.
    tau : float or increasing array, shape (k,)
        When to record: times of the flow of half the sum of squares, twice those of the sum. The
        last may be infinite.
    skip : str
        "free" (the polynomial of degree k is optimal at all times), "common" (it has the learning
        rate of the others) or "none" (it stays).
    step : float, optional
        For "gd", :math:`2n` times M24's learning rate; default :math:`1/\lambda_{\max}` of the
        kernel at the start. The stretch between two records is divided into equal steps, none
        longer.
    steps : int, optional
        Budget; default 10,000 exponential steps or 100,000 of descent.
    rtol : float
        For "exponential": error of a step, in the parameters, relative to what changes the outputs
        by as much as they are wrong at the start.
    tol : float
        At infinite time: converged when the parameters have less than this fraction of their way
        still to go, judged by the kernel (for "gd" that of the start), or when the residuals are
        rounding.
    device : str or torch.device, optional
        Where to run, and where the answer will be; default where the network is.
    progress : bool
        Whether to show a progress bar (needs tqdm).

    Returns
    -------
    TrainingPath
        ``points`` (k, P) are all parameters; ``network`` is the trained network.

    Raises
    ------
    StepTooLarge
        If descent diverges with this step.
    ArithmeticError
        If ``rtol`` asks for steps shorter than rounding.
    TypeError, ValueError
        If an argument is out of range, or the units cannot fit the data at infinite time.

    Notes
    -----
    Source: M24, Theorem 5, in the standard parametrisation (learning rate of order 1/n for all
    parameters; here in the time of the output weights). The flow is what vanishing steps converge
    to. Dense in the M data points: a step costs O(n M^2).

    For the ReLU the right side of the flow jumps where a breakpoint passes a data point, and some
    breakpoints are drawn there from both sides: the flow slides along, steps of either method go
    to and fro across, and the error is of first order in their size however small they are. With
    n = 1,600, eight points and the default rtol the outputs were off by 5e-5 where full and
    linearised training differed by 6e-2; with n = 25,600 by 3e-7 of 6e-4.

    Examples
    --------
    >>> network = ShallowNetwork([1.0, -1.0, 1.0], [0.0, 1.0, -1.0], antisymmetric=True)
    >>> x, y = [-1.0, 0.5, 2.0], [0.0, 1.0, 0.0]
    >>> train(network, x, y, "output", tau=[0.0, 1.0]).losses.round(decimals=4)
    tensor([0.3333, 0.2388], dtype=torch.float64)
    """
    if layers not in ("all", "output"):
        raise ValueError(f"layers = {layers!r} must be 'all' or 'output'.")
    if method not in ("exponential", "gd"):
        raise ValueError(
            f"method = {method!r} must be 'exponential' (the flow) or 'gd' (gradient descent)."
        )
    if method == "exponential" and step is not None:
        raise ValueError(
            "step belongs to method='gd'; the exponential integrator finds its own from rtol. "
            "Leave it out."
        )
    if not 1e-12 <= rtol <= 0.1:
        raise ValueError(
            f"rtol = {rtol} is not between 1e-12 (rounding) and 0.1 (nothing is controlled). 1e-5 "
            f"is the default."
        )
    if not 0 < tol < 1:
        raise ValueError(f"tol = {tol} is not a fraction between 0 and 1. 1e-9 is the default.")
    budget = 10_000 if method == "exponential" else 100_000
    budget = budget if steps is None else as_count(steps, "steps")
    if isinstance(network, ShallowNetwork) and device is not None:
        network = network.to(device)
    points, targets = as_training(network, x, y, skip, "train")
    times = as_real(tau, "tau", finite=False).reshape(-1)
    if (
        not times.numel()
        or not bool((times >= 0).all())
        or not bool((times[1:] > times[:-1]).all())
    ):
        raise ValueError(
            f"tau must be a time from 0 to infinity, or an increasing list of them: the run is "
            f"recorded as it passes. Got {times.tolist()[:6]}."
        )
    model = _Model(network, points, targets, layers, skip)
    with _progress(progress, budget) as tick:
        run = _Run(model, times.tolist(), tol, budget, tick)
        return _integrate(run, rtol) if method == "exponential" else _descend(run, step)
