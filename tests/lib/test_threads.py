"""Linear algebra is kept to one thread inside, and left alone outside."""

import sys

import numpy as np
from implicit_bias.threads import single_threaded
from threadpoolctl import threadpool_info


def blas_threads():
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


@single_threaded
def inside(a, *, b):
    """Multiplies."""
    return np.dot(a, b), blas_threads()


def test_one_thread_inside_and_the_old_number_outside():
    before = blas_threads()
    product, during = inside(np.eye(3), b=np.eye(3))
    assert product.tolist() == np.eye(3).tolist()
    assert set(during) == {1}
    assert blas_threads() == before
    assert inside.__doc__ == "Multiplies."


def test_works_without_threadpoolctl(monkeypatch):
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    assert inside(np.eye(2), b=np.eye(2))[0].tolist() == np.eye(2).tolist()
