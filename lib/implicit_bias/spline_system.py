r"""Splines whose highest derivative is a measure: the algebra that wide networks and limits share.

Among the functions h with given values at M knots :math:`x_1 < \dots < x_M`, take those whose
derivative of order k+1 is :math:`q\,d\mu`, for a measure :math:`\mu \ge 0`; the energy is
:math:`\int q^2 d\mu`, and polynomials of degree k cost nothing. The least energy is had by

.. math:: q = \sum_j q_j N_j, \qquad A q = Q^\top h, \qquad A_{jl} = \int N_j N_l\,d\mu,

with the B-splines :math:`N_j` of degree k on :math:`x_j, \dots, x_{j+k+1}` (no others, so q is zero
outside the data), and :math:`(Q^\top h)_j = \int N_j h^{(k+1)} = k!\,(x_{j+k+1} - x_j)\,
[x_j, \dots, x_{j+k+1}]h` the scaled divided differences (Peano). For k = 1 these are hat functions
and differences of slopes. A wide network with activation :math:`[z]_+^k/k!` has the empirical
measure :math:`\frac1n\sum_i |w_i|^{2k}\delta_{c_i}` of its breakpoints :math:`c_i = -b_i/w_i`; in
the limit it becomes a density :math:`\zeta(x)\,dx`.

The minimiser of :math:`\sum_i (y_i - h(x_i))^2 + s\cdot\mathrm{energy}` has the same form, with
:math:`h + s\,Qq = y` at the knots. Everything is banded: O(n + M). Arrays in here are NumPy's.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from implicit_bias.curves import Curve
from implicit_bias.knots import TooFewBreakpoints, as_degree
from implicit_bias.measures import Density, as_measure, pieces

__all__ = ["System", "spline_system"]

Array = NDArray[np.float64]


class System:
    r"""The banded system :math:`Aq = Q^\top h` of some knots, a measure and a degree.

    Built by ``spline_system``. All vectors are NumPy arrays in the order of the knots.

    Attributes
    ----------
    knots : array, shape (M,)
        Increasing.
    measure : Breakpoints or Density
    degree : int
        k; polynomials of degree k cost nothing, the splines have degree 2k+1 for constant zeta.
    size : int
        M - k - 1, the number of B-splines.
    banded : array, shape (k+1, size)
        A in SciPy's upper banded storage.

    Examples
    --------
    >>> system = spline_system([0.0, 1.0, 2.0], lambda x: 1.0)
    >>> system.solve([0.0, 1.0, 0.0], smoothing=0.5)[0].round(3)
    array([0.273, 0.455, 0.273])
    """

    def __init__(self, knots: Any, measure: Any, degree: int = 1):
        self.degree = k = as_degree(degree)
        self.knots = np.array(knots, dtype=np.float64)
        self.measure = as_measure(measure)
        self.size = self.knots.size - k - 1
        reach = self.knots[-1] - self.knots[0]
        steps = reach * np.arange(1, k + 1)
        # B-splines that need the knots added here are never used.
        self._padded = np.concatenate(
            [self.knots[0] - steps[::-1], self.knots, self.knots[-1] + steps]
        )
        # Quadrature: nodes t of mass m; pieces between edges, each inside one gap.
        if isinstance(self.measure, Density):
            self._edges, t, m = pieces(self.measure, self.knots, k)
        else:
            t = self.measure.positions.cpu().numpy()
            m = self.measure.weights.cpu().numpy()
            used = (t >= self.knots[0]) & (t < self.knots[-1]) & (m > 0)
            self._edges, t, m = self.knots, t[used], m[used]
        self._nodes, self._masses = t, m
        self._gap = self.gap_of(t)
        self._basis = self._bsplines(t, self._gap)
        self.banded = self._gram()
        self._columns = self._coefficients()

    def gap_of(self, t: Array) -> NDArray[np.intp]:
        """The gap [x_j, x_{j+1}) that holds t, with the first and the last extended."""
        inner = self.knots[1:-1]
        return np.searchsorted(inner, t, side="right")

    def _bsplines(self, t: Array, gap: NDArray[np.intp]) -> Array:
        """The B-splines gap-k, ..., gap at t, shape (k+1, n); zero where there is none."""
        k, x, at = self.degree, self._padded, gap + self.degree
        N = [np.ones_like(t)]
        for d in range(1, k + 1):
            saved: Any = 0.0
            for r in range(d):
                left, right = x[at + 1 - d + r], x[at + r + 1]
                part = N[r] / (right - left)
                N[r] = saved + (right - t) * part
                saved = (t - left) * part
            N.append(saved)
        index = gap + np.arange(-k, 1)[:, None]
        return np.where((index >= 0) & (index < self.size), np.stack(N), 0.0)

    def _gram(self) -> Array:
        k, size = self.degree, self.size
        A = np.zeros((k + 1, max(size, 0)))
        for a in range(k + 1):
            for b in range(a, k + 1):
                column = self._gap - k + b
                product = self._masses * self._basis[a] * self._basis[b]
                inside = (column - (b - a) >= 0) & (column < size)
                A[k - (b - a)] += np.bincount(column[inside], product[inside], minlength=size)[
                    :size
                ]
        return A

    def _coefficients(self) -> Array:
        """Column j of Q has the entries [j] at the rows j, ..., j+k+1; shape (size, k+2)."""
        k = self.degree
        rows = np.arange(self.size)[:, None] + np.arange(k + 2)
        x = self.knots[rows]
        apart = x[:, :, None] - x[:, None, :]
        apart[:, np.arange(k + 2), np.arange(k + 2)] = 1.0
        scale = math.factorial(k) * (x[:, -1] - x[:, 0])
        return np.asarray(scale[:, None] / apart.prod(axis=2))

    def differences(self, values: Array) -> Array:
        """Q^T values, shape (size,): scaled divided differences."""
        k, d = self.degree, np.asarray(values, dtype=np.float64)
        for order in range(1, k + 1):
            d = np.diff(d) / (self.knots[order:] - self.knots[:-order])
        return math.factorial(k) * np.diff(d)

    def adjoint(self, q: Array) -> Array:
        """Q q, shape (M,)."""
        out = np.zeros(self.knots.size)
        for i in range(self.degree + 2):
            out[i : i + self.size] += self._columns[:, i] * q
        return out

    def apply(self, q: Array) -> Array:
        """A q, shape (size,)."""
        k = self.degree
        out: Array = self.banded[k] * q
        for off in range(1, min(k + 1, self.size)):
            band = self.banded[k - off, off:]
            out[:-off] += band * q[off:]
            out[off:] += band * q[:-off]
        return out

    def dense(self) -> tuple[Array, Array]:
        """A (size, size) and Q (M, size) as full matrices."""
        k, size = self.degree, self.size
        A, Q = np.zeros((size, size)), np.zeros((self.knots.size, size))
        j = np.arange(size)
        for off in range(min(k + 1, size)):
            A[j[: size - off], j[off:]] = A[j[off:], j[: size - off]] = self.banded[k - off, off:]
        for i in range(k + 2):
            Q[j + i, j] = self._columns[:, i]
        return A, Q

    def energy(self, q: Array) -> float:
        """q^T A q, the integral of q^2."""
        value = self._masses @ self._density(self._basis, self._gap, q) ** 2
        return float(value)

    def _density(self, basis: Array, gap: NDArray[np.intp], q: Array) -> Array:
        """q at the points whose B-splines are given."""
        if not self.size:
            return np.zeros(basis.shape[1])
        index = np.clip(gap + np.arange(-self.degree, 1)[:, None], 0, self.size - 1)
        return np.asarray(np.einsum("in,in->n", basis, q[index]))

    def q_at(self, q: Array, points: Array) -> Array:
        """The function q at the points; zero outside the knots."""
        gap = self.gap_of(points)
        inside = (points >= self.knots[0]) & (points <= self.knots[-1])
        return np.where(inside, self._density(self._bsplines(points, gap), gap, q), 0.0)

    # ---- polynomials

    def _legendre(self, points: Array) -> Array:
        lo, hi = self.knots[0], self.knots[-1]
        u = (points - (lo + hi) / 2) / ((hi - lo) / 2)
        return np.polynomial.legendre.legvander(u, self.degree)

    def polynomial(self, values: Array) -> tuple[Array, Array]:
        """The least-squares polynomial at the knots, and the rest of the values."""
        basis, _ = np.linalg.qr(self._legendre(self.knots))
        fit = basis @ (basis.T @ values)
        return fit, values - fit

    # ---- solving

    def solve(self, values: Array, smoothing: float = 0.0) -> tuple[Array, Array]:
        """Returns the fitted values at the knots, shape (M,), and q, shape (size,).

        Raises
        ------
        TooFewBreakpoints
            If ``smoothing`` is 0 and no function of finite energy interpolates.
        """
        fit, rest = self.polynomial(np.asarray(values, dtype=np.float64))
        if not self.size:
            return np.array(values), np.zeros(0)
        if smoothing:
            smooth, q = self._smooth(rest, smoothing)
            return fit + smooth, q
        return np.array(values), self._interpolate(np.asarray(values), rest)

    def matched(self) -> NDArray[np.bool_]:
        """Which B-splines get a node of their own; all of them exactly if A is regular.

        A is regular if and only if there are nodes t_1 < t_2 < ... with N_j(t_j) > 0 (Schoenberg
        and Whitney), and its rank is the largest number of B-splines that can be so served.
        """
        t, k = np.unique(self._nodes), self.degree
        first = np.searchsorted(t, self.knots, side="right")
        last = np.searchsorted(t, self.knots, side="left")
        served, free = np.zeros(self.size, dtype=bool), 0
        for j in range(self.size):
            candidate = max(free, first[j])
            if candidate < last[j + k + 1]:
                served[j], free = True, candidate + 1
        return served

    def _interpolate(self, values: Array, rest: Array) -> Array:
        import scipy.linalg

        served, k = self.matched(), self.degree
        d = self.differences(rest)
        q = np.zeros(self.size)
        if served.any():
            band = self.banded
            if not served.all():  # the others are combinations of these wherever there is mass
                kept = self.dense()[0][np.ix_(served, served)]
                band = np.zeros((k + 1, kept.shape[0]))
                for off in range(min(k + 1, kept.shape[0])):
                    band[k - off, off:] = np.diag(kept, off)
            root = np.sqrt(band[k])
            band = band.copy()
            for off in range(min(k + 1, root.size)):
                band[k - off, off:] /= root[off:] * root[: root.size - off]
            try:
                factor = scipy.linalg.cholesky_banded(band)
            except np.linalg.LinAlgError:
                raise self._too_few(served, 1 / self.banded[k]) from None
            q[served] = scipy.linalg.cho_solve_banded((factor, False), d[served] / root) / root
        # What is left must be rounding: of the bends that were added up, or of the data.
        left = np.abs(d - self.apply(q))
        bends = self._masses * np.abs(self._density(self._basis, self._gap, q))
        noise = 1e-12 * np.abs(rest).max() + 1e-15 * np.abs(values).max()
        allowed = 1e-9 * self._integrals(bends) + noise * np.abs(self._columns).sum(axis=1)
        if (left > allowed).any():
            raise self._too_few(served, left / np.maximum(allowed, 1e-300))
        return q

    def _integrals(self, masses: Array) -> Array:
        """Integrals of the B-splines against other masses at the nodes, shape (size,)."""
        out = np.zeros(self.size)
        for a in range(self.degree + 1):
            j = self._gap - self.degree + a
            inside = (j >= 0) & (j < self.size)
            product = (masses * self._basis[a])[inside]
            out += np.bincount(j[inside], product, minlength=self.size)
        return out

    def _too_few(self, served: NDArray[np.bool_], left: Array) -> TooFewBreakpoints:
        k, x = self.degree, self.knots
        advice = "Use more units, a zeta that is positive there, or smoothing > 0."
        if served.all():
            i = int(np.argmax(np.abs(left)))
            a, b = float(x[i]), float(x[i + k + 1])
            return TooFewBreakpoints(
                f"Between x = {a:.6g} and x = {b:.6g} the breakpoints are just enough to pass "
                f"through the data, but so near to each other or to the knots that float64 cannot "
                f"tell how. {advice}",
                (a, b),
            )
        # The shortest run of B-splines up to the first unserved one that has too few nodes.
        i = j = int(np.argmin(served))
        t = np.unique(self._nodes)
        while np.count_nonzero((t > x[i]) & (t < x[j + k + 1])) > j - i:
            i -= 1
        a, b = float(x[i]), float(x[j + k + 1])
        return TooFewBreakpoints(
            f"Between x = {a:.6g} and x = {b:.6g} there are too few breakpoints to pass through "
            f"the data ({j - i + 1} needed, {j - i} found): between them the function is a "
            f"polynomial of degree {k}. {advice}",
            (a, b),
        )

    def _smooth(self, rest: Array, smoothing: float) -> tuple[Array, Array]:
        """The fitted values and q of a smoothing spline, to full accuracy.

        Q is a product of first differences, each of them harmless, but its own condition number
        grows like M^(k+1), and faster where knots crowd. So the divided differences g_l of the
        fit and the partial sums u_l of the misfit stay unknowns of one banded system:
        g_0 + E^T u_1 = y, w_l g_l = E g_(l-1), w_l u_l = E^T u_(l+1), f E g_k = A q, with
        u_(k+1) = f s q, differences E, distances w_l = x_(i+l) - x_i, and f = k!.
        """
        import scipy.linalg

        k, M, size, x = self.degree, self.knots.size, self.size, self.knots
        reach = (x[-1] - x[0]) / 2  # the unit of length
        f = math.factorial(k) / reach**k
        counts = [M - level for level in (*range(k + 1), *range(1, k + 2))]
        # Each unknown has its equation, and its place along the line.
        place = np.concatenate([np.arange(n) + (M - n) / 2 for n in counts])
        slot = np.argsort(np.argsort(place, kind="stable"))
        blocks = np.split(slot, np.cumsum(counts)[:-1])
        g, u = blocks[: k + 1], [slot[:0], *blocks[k + 1 :]]
        entries: list[tuple[Array, Array, Array]] = []
        soft = smoothing * f * f
        mean = float(self.banded[k].mean())
        unit = min(1.0, soft / mean) if mean else 1.0  # of u

        def put(rows: Any, columns: Any, values: Any) -> None:
            entries.append((rows, columns, np.broadcast_to(values, rows.shape)))

        put(g[0], g[0], 1.0)
        put(g[0][:-1], u[1], -unit)
        put(g[0][1:], u[1], unit)
        for level in range(1, k + 1):
            w = (x[level:] - x[:-level]) / reach
            put(g[level], g[level], w)
            put(g[level], g[level - 1][1:], -1.0)
            put(g[level], g[level - 1][:-1], 1.0)
            put(u[level], u[level], w)
            put(u[level][:-1], u[level + 1], 1.0)
            put(u[level][1:], u[level + 1], -1.0)
        put(u[k + 1], g[k][1:], 1.0)
        put(u[k + 1], g[k][:-1], -1.0)
        for off in range(min(k + 1, size)):
            band = -(unit / soft) * self.banded[k - off, off:]
            put(u[k + 1][: size - off], u[k + 1][off:], band)
            if off:
                put(u[k + 1][off:], u[k + 1][: size - off], band)
        rows, columns, values = (np.concatenate(part) for part in zip(*entries, strict=True))
        width = int(np.abs(rows - columns).max())
        matrix = np.zeros((2 * width + 1, slot.size))
        matrix[width + rows - columns, columns] = values
        right = np.zeros(slot.size)
        right[g[0]] = rest
        solution = scipy.linalg.solve_banded((width, width), matrix, right)
        return solution[g[0]], solution[u[k + 1]] * (unit / smoothing / f)

    def modes(self) -> tuple[Array, Array, Array]:
        r"""Returns U (M, size), rates (size,) and W (size, size) of the flow on the output layer.

        The columns of U are orthonormal data, orthogonal to the polynomials of degree k, whose
        misfit decays like :math:`e^{-\lambda\tau}`. After :math:`\tau`, with
        :math:`c = U^\top y`, the fitted values are :math:`y - U(e^{-\lambda\tau}c)`, and
        :math:`q = W(\varphi c)`, :math:`\varphi = (1 - e^{-\lambda\tau})/\lambda`. A rate of
        zero is a misfit that no output weight can change.
        """
        import scipy.linalg

        A, Q = self.dense()
        complement = scipy.linalg.qr(self._legendre(self.knots))[0][:, self.degree + 1 :]
        R = complement.T @ Q
        if self.size and self.matched().all():
            # 1/lambda are the squared singular values of Q L^-T, A = L L^T: slow modes exactly.
            root = np.sqrt(np.diag(A))
            L = scipy.linalg.cholesky(A / root / root[:, None], lower=True) * root[:, None]
            G = scipy.linalg.solve_triangular(L, R.T, lower=True).T
            left, s, right = np.linalg.svd(G)
            W = scipy.linalg.solve_triangular(L.T, right.T, lower=False) / s
            return complement @ left, 1 / s**2, W
        values, vectors = scipy.linalg.eigh(A) if self.size else (np.zeros(0), A)
        half = np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T
        T = scipy.linalg.solve(R.T, half.T).T if self.size else A
        _, s, right = np.linalg.svd(T) if self.size else (A, values, A)
        s[int(self.matched().sum()) :] = 0.0
        W = scipy.linalg.solve(R, right.T) if self.size else A
        return complement @ right.T, s**2, W

    def curve(self, values: Array, q: Array) -> Curve:
        """Returns the function with these values at the knots and (k+1)-th derivative q mu."""
        return Curve(self, np.asarray(values, dtype=np.float64), np.asarray(q, dtype=np.float64))


def spline_system(knots: Any, measure: Any, degree: int = 1) -> System:
    """Returns the ``System`` of increasing knots, a measure and a degree.

    Parameters
    ----------
    knots : array, shape (M,)
        Increasing, as ``sort_data`` returns them.
    measure : Breakpoints, Density, or what ``as_measure`` takes
    degree : int
        1, 2 or 3.

    Raises
    ------
    TypeError, ValueError
        If the measure is none, cannot be integrated, or the degree is out of range.

    Notes
    -----
    A density is integrated by 24-point Gauss rules on pieces that end at knots, kinks and the ends
    of the support, and that are halved until the moments of a piece no longer change by more than
    1e-13 of its mass (or 1e-15 of its gap's).

    Examples
    --------
    >>> system = spline_system([0.0, 1.0, 2.0], lambda x: 1.0)
    >>> system.banded[1], system.differences(np.array([0.0, 0.0, 1.0]))
    (array([0.66666667]), array([1.]))
    """
    return System(knots, measure, degree)
