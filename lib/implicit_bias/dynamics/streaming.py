"""One pass of SGD over fresh examples: every example is seen once, and then forgotten."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from implicit_bias.arrays import as_count, as_real
from implicit_bias.records import Path, StepTooLarge

__all__ = ["one_pass_sgd"]

Draw = Callable[[int, torch.Generator], tuple[Tensor, Tensor]]

_BLOCK = 128  # steps drawn at once: drawing one example at a time costs more than using it


def _block(
    draw: Draw, repeats: int, steps: int, d: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    m = repeats * steps
    x, y = draw(m, generator)
    if x.shape != (m, d) or y.shape != (m,):
        raise ValueError(
            f"draw({m}, generator) must return {m} fresh examples, shapes ({m}, {d}) and ({m},); "
            f"got {tuple(x.shape)} and {tuple(y.shape)}."
        )
    return x.reshape(steps, repeats, d), y.reshape(steps, repeats)


def one_pass_sgd(
    draw: Draw,
    start: Tensor,
    step: float,
    steps: int,
    repeats: int = 20,
    seed: int = 0,
) -> Path:
    r"""Returns the ends of runs of :math:`w \leftarrow w - \eta\,x(\langle x,w\rangle-y)`.

    Step t of every run uses an example that no run has seen: n steps are one pass over n data.

    Parameters
    ----------
    draw : callable
        ``draw(m, generator)`` returns m independent examples: x of shape (m, d), y of shape (m,).
    start : Tensor, shape (d,)
        Common start.
    step : float
        :math:`\eta > 0`.
    steps : int
        Number n of examples in one pass.
    repeats, seed : int
        Number of independent passes, seed of the draws.

    Returns
    -------
    Path
        ``points`` (2, repeats, d): start and end. ``losses`` (2, repeats) are the losses
        :math:`(\langle x,w\rangle-y)^2/2` on the first and on the last example, before its step.

    Raises
    ------
    ValueError
        If an argument is out of range, or ``draw`` returns the wrong shapes.
    StepTooLarge
        If a run leaves the finite numbers.

    Notes
    -----
    Source: P18, section 6.1, with :math:`\eta = 1/\sqrt n` and T = n there.

    Examples
    --------
    >>> def draw(m, generator):
    ...     x = torch.ones(m, 1, dtype=torch.float64)
    ...     return x, 2 * x[:, 0]
    >>> end = one_pass_sgd(draw, torch.zeros(1, dtype=torch.float64), 0.5, 20, repeats=2).x
    >>> end.round(decimals=4)
    tensor([[2.],
            [2.]], dtype=torch.float64)
    """
    steps, repeats = as_count(steps, "steps"), as_count(repeats, "repeats")
    if not step > 0:
        raise ValueError(f"step = {step} is not a positive number, so nothing would be learned.")
    generator = torch.Generator().manual_seed(seed)
    begin = as_real(start, "start")
    w = begin.expand(repeats, -1).clone()
    first = last = torch.empty(0)
    xs = ys = torch.empty(0)
    for t in range(steps):
        if t % _BLOCK == 0:
            block = _block(draw, repeats, min(_BLOCK, steps - t), w.shape[1], generator)
            xs, ys = block[0].to(w), block[1].to(w)
        x, y = xs[t % _BLOCK], ys[t % _BLOCK]
        misfit = (x * w).sum(1) - y
        last = misfit.square() / 2
        if t == 0:
            first = last
        w = w - step * misfit[:, None] * x
    if not bool(torch.isfinite(w).all()):
        raise StepTooLarge(
            f"A run overflowed: step = {step:g} is too large for examples of this size. Stay "
            f"below 2 / max |x|^2."
        )
    return Path(
        times=torch.tensor([0.0, step * steps], dtype=torch.float64, device=w.device),
        points=torch.stack([begin.expand_as(w), w]),
        losses=torch.stack([first, last]),
        stopped="budget",
        step=step,
        steps=steps,
    )
