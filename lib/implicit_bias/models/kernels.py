r"""Linear networks as arithmetic: the product of the layers, and its derivatives, on NumPy vectors.

A kernel is a map P from a flat vector of parameters to a flat predictor :math:`\beta`, homogeneous
of degree L, with

- ``value(w)``, :math:`P(w)`;
- ``trace(w)``, the value together with the function :math:`g \mapsto J(w)^\top g`, where J is the
  Jacobian: the gradient of :math:`\langle g, P(w)\rangle`;
- ``jacobian(w)``, J itself, shape (outputs, parameters);
- ``hessian(w, g)``, the Hessian of :math:`\langle g, P(w)\rangle`.

Each layer enters linearly, so the derivative by a layer is what the other layers make of it: for
a convolution a circulant matrix, for a diagonal layer a diagonal one, for a full layer an outer
product.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Convolution", "Diagonal", "Full", "Kernel"]

Array = NDArray[np.float64]
Pull = Callable[[Array], Array]


class Kernel(Protocol):
    """What the dynamics need of a map; the module's docstring says what each method is."""

    def value(self, w: Array) -> Array: ...

    def trace(self, w: Array) -> tuple[Array, Pull]: ...

    def jacobian(self, w: Array) -> Array: ...

    def hessian(self, w: Array, g: Array) -> Array: ...


def _others(depth: int) -> NDArray[np.intp]:
    """For each layer the indices of all the others, shape (L, L - 1)."""
    return np.array([[j for j in range(depth) if j != i] for i in range(depth)], dtype=np.intp)


def _pairs(depth: int) -> tuple[list[tuple[int, int]], NDArray[np.intp]]:
    """The pairs of layers i > j, and for each the indices of all the others."""
    pairs = [(i, j) for i in range(depth) for j in range(i)]
    rest = [[k for k in range(depth) if k not in pair] for pair in pairs]
    return pairs, np.array(rest, dtype=np.intp).reshape(len(pairs), max(depth - 2, 0))


class Diagonal:
    """The entrywise product of L vectors of d weights."""

    def __init__(self, d: int, depth: int):
        self.d, self.depth = d, depth
        self.others, self.pairs = _others(depth), _pairs(depth)

    def value(self, w: Array) -> Array:
        product: Array = w.reshape(self.depth, self.d).prod(0)
        return product

    def trace(self, w: Array) -> tuple[Array, Pull]:
        layers = w.reshape(self.depth, self.d)
        rest = layers[self.others].prod(1)
        return layers[0] * rest[0], lambda g: (g * rest).reshape(-1)

    def jacobian(self, w: Array) -> Array:
        return np.hstack([np.diag(c) for c in w.reshape(self.depth, self.d)[self.others].prod(1)])

    def hessian(self, w: Array, g: Array) -> Array:
        layers = w.reshape(self.depth, self.d)
        H = np.zeros((self.depth, self.d, self.depth, self.d))
        entries = np.arange(self.d)
        for (i, j), rest in zip(self.pairs[0], layers[self.pairs[1]].prod(1), strict=True):
            H[i, entries, j, entries] = H[j, entries, i, entries] = g * rest
        return H.reshape(w.size, w.size)


class Convolution:
    """The circular convolution of L - 1 filters and a full output layer, over one axis or two.

    ``taps`` are the positions, in the flattened signal, of a filter's weights.
    """

    def __init__(self, shape: tuple[int, ...], taps: NDArray[np.intp], depth: int):
        from scipy import fft

        if len(shape) == 1:
            self.forward, self.backward = fft.rfft, partial(fft.irfft, n=shape[0])
        else:
            axes = tuple(range(-len(shape), 0))
            self.forward = partial(fft.rfftn, axes=axes)
            self.backward = partial(fft.irfftn, s=shape, axes=axes)
        self.shape, self.taps, self.depth = shape, taps, depth
        self.d = int(np.prod(shape))
        self.others, self.pairs = _others(depth), _pairs(depth)
        self.full = taps.size == self.d
        # Sums and differences of positions, modulo the shape.
        position = np.stack(np.unravel_index(np.arange(self.d), shape))
        sizes = np.array(shape)[:, None, None]
        there, here = position[:, :, None], position[:, None, :]
        self.plus = np.ravel_multi_index(tuple((there + here) % sizes), shape)
        self.minus = np.ravel_multi_index(tuple((there - here) % sizes), shape)

    def spectra(self, w: Array) -> NDArray[np.complex128]:
        """Transforms (without a factor) of the layers, filters filled up with zeros."""
        if self.full:
            layers = w.reshape(self.depth, self.d)
        else:
            layers = np.zeros((self.depth, self.d))
            layers[:-1, self.taps] = w[: -self.d].reshape(self.depth - 1, self.taps.size)
            layers[-1] = w[-self.d :]
        spectra: NDArray[np.complex128] = self.forward(layers.reshape(self.depth, *self.shape))
        return spectra

    def back(self, spectra: NDArray[np.complex128]) -> Array:
        """The signals with these transforms, one a row."""
        signals: Array = self.backward(spectra).reshape(-1, self.d)
        return signals

    def join(self, rows: Array) -> Array:
        """The parameters that are these L rows, but for what lies outside the filters."""
        if self.full:
            return rows.reshape(-1)
        return np.concatenate([rows[:-1, self.taps].reshape(-1), rows[-1]])

    def value(self, w: Array) -> Array:
        beta: Array = self.back(self.spectra(w).prod(0))[0]
        return beta

    def trace(self, w: Array) -> tuple[Array, Pull]:
        spectra = self.spectra(w)
        rest = spectra[self.others].prod(1)

        def pull(g: Array) -> Array:
            return self.join(self.back(self.forward(g.reshape(self.shape)) * rest.conj()))

        return self.back(spectra[0] * rest[0])[0], pull

    def jacobian(self, w: Array) -> Array:
        rest = self.back(self.spectra(w)[self.others].prod(1))
        if self.full:
            return np.hstack([c[self.minus] for c in rest])
        near = self.minus[:, self.taps]
        return np.hstack([*(c[near] for c in rest[:-1]), rest[-1][self.minus]])

    def hessian(self, w: Array, g: Array) -> Array:
        spectra = self.spectra(w)
        target = self.forward(g.reshape(self.shape))
        pairs, others = self.pairs
        H = np.zeros((w.size, w.size))
        if not pairs:
            return H
        rows = self.back(target * spectra[others].prod(1).conj())
        L, k = self.depth, self.taps.size
        ends = [*(k * i for i in range(L)), w.size]
        taps = [*([self.taps] * (L - 1)), np.arange(self.d)]
        for (i, j), r in zip(pairs, rows, strict=True):
            block = r[self.plus] if self.full else r[self.plus[np.ix_(taps[i], taps[j])]]
            H[ends[i] : ends[i + 1], ends[j] : ends[j + 1]] = block
            H[ends[j] : ends[j + 1], ends[i] : ends[i + 1]] = block.T
        return H


class Full:
    """The product of L matrices, of shapes (widths[0], widths[1]), (widths[1], widths[2]), ..."""

    def __init__(self, widths: tuple[int, ...]):
        self.shapes = list(itertools.pairwise(widths))
        self.ends = np.cumsum([0, *(a * b for a, b in self.shapes)])

    def layers(self, w: Array) -> list[Array]:
        """The matrices."""
        return [
            w[start:end].reshape(shape)
            for start, end, shape in zip(self.ends[:-1], self.ends[1:], self.shapes, strict=True)
        ]

    def around(self, layers: list[Array]) -> tuple[list[Array], list[Array]]:
        """For each layer the product of those before it and of those after it."""
        before = [np.eye(self.shapes[0][0])]
        after = [np.eye(self.shapes[-1][1])]
        for i in range(len(layers) - 1):
            before.append(before[-1] @ layers[i])
            after.append(layers[len(layers) - 1 - i] @ after[-1])
        return before, after[::-1]

    def value(self, w: Array) -> Array:
        layers = self.layers(w)
        product = layers[-1]
        for layer in layers[-2::-1]:
            product = layer @ product
        return product.reshape(-1)

    def trace(self, w: Array) -> tuple[Array, Pull]:
        layers = self.layers(w)
        after = [np.eye(self.shapes[-1][1])]
        for layer in layers[:0:-1]:
            after.append(layer @ after[-1])

        def pull(g: Array) -> Array:
            # G is narrow: the layers before are best applied to it one by one.
            left = g.reshape(self.shapes[0][0], -1)
            parts = []
            for layer, right in zip(layers, after[::-1], strict=True):
                parts.append((left @ right.T).reshape(-1))
                left = layer.T @ left
            return np.concatenate(parts)

        return (layers[0] @ after[-1]).reshape(-1), pull

    def jacobian(self, w: Array) -> Array:
        before, after = self.around(self.layers(w))
        blocks = []
        for A, B in zip(before, after, strict=True):
            block = np.einsum("ia,bo->ioab", A, B)
            blocks.append(block.reshape(A.shape[0] * B.shape[1], -1))
        return np.hstack(blocks)

    def hessian(self, w: Array, g: Array) -> Array:
        layers = self.layers(w)
        before, after = self.around(layers)
        G = g.reshape(self.shapes[0][0], -1)
        H = np.zeros((w.size, w.size))
        for i in range(len(layers)):
            between = np.eye(self.shapes[i][1])
            for j in range(i + 1, len(layers)):
                outer = before[i].T @ G @ after[j].T
                block = np.einsum("ae,bc->abce", outer, between)
                block = block.reshape(layers[i].size, layers[j].size)
                here = slice(self.ends[i], self.ends[i + 1])
                there = slice(self.ends[j], self.ends[j + 1])
                H[here, there] = block
                H[there, here] = block.T
                between = between @ layers[j]
        return H
