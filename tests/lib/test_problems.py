"""Problems keep what they are given, and refuse what would only fail later."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from implicit_bias import Classification, Regression, plant_regression
from implicit_bias.problems import _check_shapes, as_array, as_start

X = [[1.0, 2.0, 3.0], [4.0, 5.0, 7.0]]
Y = [0.1, 0.2]


@pytest.mark.parametrize(
    "kind",
    [
        lambda v: v,
        tuple,
        np.array,
        np.asfortranarray,
        torch.tensor,
        lambda v: torch.tensor(v, dtype=torch.float64, requires_grad=True),
        lambda v: torch.tensor(v, dtype=torch.float64).unsqueeze(0).expand(2, *np.shape(v))[1],
    ],
)
def test_reads_anything_that_is_an_array(kind):
    problem = Regression(kind(X), kind(Y))
    assert (problem.n, problem.d) == (2, 3)
    for tensor, values in ((problem.X, X), (problem.y, Y)):
        assert tensor.dtype == torch.float64
        assert not tensor.requires_grad
        np.testing.assert_allclose(tensor.numpy(), values, rtol=1e-7)


def test_numbers_in_lists_keep_all_their_digits():
    assert Regression([[0.1]], [0.2]).X.item() == 0.1
    assert as_start(Regression([[0.1]], [0.2]), [0.3]).item() == 0.3


def test_reads_numpy_views_that_torch_refuses():
    backwards = np.array(X)[:, ::-1]
    frozen = np.array(Y)
    frozen.flags.writeable = False
    problem = Regression(backwards, frozen)
    assert problem.X[0].tolist() == [3.0, 2.0, 1.0]


def test_is_a_copy_and_frozen():
    rows = np.array(X)
    problem = Regression(rows, Y)
    rows[0, 0] = math.nan
    assert problem.X[0, 0] == 1.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        problem.y = problem.y


@pytest.mark.parametrize(
    ("dtypes", "eps"),
    [
        ((np.float64, np.float64), 2.0**-52),
        ((np.float32, np.float64), 2.0**-23),
        ((np.float64, np.float32), 2.0**-52),
        ((np.float16, np.float32), 2.0**-10),
        ((np.int64, np.int8), 2.0**-52),
        ((np.bool_, np.float64), 2.0**-52),
    ],
)
def test_precision_is_that_of_X_and_noise_of_the_coarser(dtypes, eps):
    problem = Regression(np.ones((1, 2), dtypes[0]), np.ones(1, dtypes[1]))
    assert problem.precision == eps
    assert problem.noise == max(eps, np.finfo(dtypes[1]).eps if dtypes[1] in (np.float32,) else 0.0)
    assert problem.X.dtype == problem.y.dtype == torch.float64


BAD = [
    (lambda: Regression([[1.0], [2.0, 3.0]], Y), TypeError, "X cannot be read.*NumPy array"),
    (lambda: Regression(X, ["a", "b"]), TypeError, "y cannot be read.*NumPy array"),
    (lambda: Regression(None, Y), TypeError, "X cannot be read.*NumPy array"),
    (lambda: Regression(np.ones((2, 2)) * 1j, Y), TypeError, "X is complex.*real.*Stack"),
    (lambda: Regression(X, [1.0, 1j]), TypeError, "y is complex.*real.*Stack"),
    (
        lambda: Regression([[1.0, 2.0], [math.nan, 4.0]], Y),
        ValueError,
        r"X has a NaN or infinite.*\[1, 0\].*NaN too.*remove or impute",
    ),
    (
        lambda: Regression(X, [1.0, -math.inf]),
        ValueError,
        r"y has a NaN or infinite.*\[1\].*NaN too.*remove or impute",
    ),
    (lambda: Regression([1.0, 2.0], Y), ValueError, r"shape \(n, d\).*\(2,\).*X\[:, None\]"),
    (lambda: Regression(np.ones((0, 3)), []), ValueError, r"at least one.*\(0, 3\)"),
    (lambda: Regression(np.ones((2, 0)), Y), ValueError, r"at least one.*\(2, 0\)"),
    (lambda: Regression(X, [1.0, 2.0, 3.0]), ValueError, r"each of the 2 rows.*\(3,\).*pass X\.T"),
    (lambda: Regression(X, 1.0), ValueError, r"each of the 2 rows.*\(\).*pass X\.T"),
    (
        lambda: Regression(X, [[1.0], [2.0]]),
        ValueError,
        r"y of shape \(n,\).*\(2, 1\).*one column at a time",
    ),
    (lambda: Classification(X, [0, 1]), ValueError, r"labels in.*found \[0.0, 1.0\].*2 \* y - 1"),
    (
        lambda: Classification(X, np.ones((2, 1, 1))),
        ValueError,
        r"\(n,\) or \(n, k\).*\(2, 1, 1\).*Flatten",
    ),
    (lambda: Classification(X, np.ones((2, 2))).Z, ValueError, r"one output.*\(2, 2\).*column"),
    (lambda: Classification(X, [1, -1, 1]), ValueError, r"each of the 2 rows.*pass X\.T"),
    (lambda: Regression([[1e-90]], [1.0]), ValueError, "X has its largest entry at 1e-90.*Rescale"),
    (lambda: Regression([[1.0]], [1e90]), ValueError, r"y has its largest.*1e\+90.*Rescale"),
    (lambda: Classification([[math.inf]], [1]), ValueError, "X has a NaN.*remove or impute"),
]


@pytest.mark.parametrize(("make", "error", "message"), BAD)
def test_refuses_and_says_what_to_do(make, error, message):
    with pytest.raises(error, match=f"(?s){message}"):
        make()


def test_refuses_two_devices():
    with pytest.raises(ValueError, match=r"X is on cpu and y on meta.*one device.*\.to\("):
        _check_shapes(torch.ones(2, 2), torch.ones(2, device="meta"), "Regression")


def test_classification_turns_examples_to_the_positive_side():
    problem = Classification(X, [-1, 1])
    assert problem.Z.tolist() == [[-1.0, -2.0, -3.0], [4.0, 5.0, 7.0]]
    assert Classification(X, [[1, -1], [-1, 1]]).y.shape == (2, 2)


def test_start_is_zero_or_a_copy():
    problem = Regression(X, Y)
    assert as_start(problem).tolist() == [0.0, 0.0, 0.0]
    given = torch.ones(3, dtype=torch.float64)
    start = as_start(problem, given)
    given[0] = 9.0
    assert start.tolist() == [1.0, 1.0, 1.0]
    assert as_start(problem, np.ones(3, np.float32)).dtype == torch.float64


@pytest.mark.parametrize(
    ("start", "error", "message"),
    [
        ([1.0, 2.0], ValueError, r"start has shape \(2,\).*d = 3.*length 3"),
        ([[1.0, 2.0, 3.0]], ValueError, r"start has shape \(1, 3\).*d = 3.*length 3"),
        ([1.0, math.nan, 2.0], ValueError, "start has a NaN.*first at index"),
        ([1.0, 2.0, 1j], TypeError, "start is complex.*real"),
        ("zero", TypeError, "start cannot be read.*Pass a NumPy array"),
    ],
)
def test_start_refuses(start, error, message):
    with pytest.raises(error, match=f"(?s){message}"):
        as_start(Regression(X, Y), start)


def test_as_array_keeps_the_type_of_what_has_one():
    assert as_array(np.ones(2, np.float32)).dtype == torch.float32
    assert as_array(torch.ones(2, dtype=torch.float16)).dtype == torch.float16
    assert as_array([1, 2]).dtype == torch.int64
    assert as_array(0.1).item() == 0.1


@settings(derandomize=True, deadline=None)
@given(
    n=st.integers(1, 12),
    d=st.integers(1, 12),
    rank=st.integers(1, 12),
    norm=st.floats(1e-3, 1e3),
    miss=st.floats(0, 10),
    seed=st.integers(0, 10**6),
)
def test_plants_what_it_says(n, d, rank, norm, miss, seed):
    rank = min(n, d, rank)
    miss = miss if rank < n else 0.0
    s = np.geomspace(3.0, 0.3, rank)
    planted = plant_regression(n, d, s, inconsistency=miss, norm=norm, seed=seed)
    A, b = planted.problem.X.numpy(), planted.problem.y.numpy()
    found = np.linalg.svd(A, compute_uv=False)
    np.testing.assert_allclose(found[:rank], s, rtol=1e-12)
    np.testing.assert_allclose(found[rank:], 0.0, atol=1e-13)
    # An independent solution: the pseudo-inverse. Its error is eps times the condition, 10.
    w = np.linalg.pinv(A, rcond=1e-10) @ b
    np.testing.assert_allclose(planted.minimum_norm, w, atol=1e-13 * (norm + miss))
    assert np.linalg.norm(w) == pytest.approx(norm, rel=1e-12 + 1e-13 * miss / norm)
    assert np.linalg.norm(A @ w - b) == pytest.approx(miss, abs=1e-13 * (norm + miss))
    assert planted.residual == miss
    V = planted.row_basis
    torch.testing.assert_close(V.T @ V, torch.eye(rank, dtype=V.dtype), atol=1e-14, rtol=0)
    np.testing.assert_allclose(A @ V.numpy() @ V.numpy().T, A, atol=1e-13)


def test_planting_defaults_to_condition_ten():
    s = plant_regression(5, 8).singular_values
    assert s.numel() == 5
    assert float(s[0] / s[-1]) == pytest.approx(10, rel=1e-14)


def test_planting_repeats_itself_and_changes_with_the_seed():
    a, b, c = (plant_regression(3, 5, seed=seed).problem.X for seed in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"singular_values": [1.0, 0.0]}, "between 1 and min.*= 2.*Leave zeros out"),
        ({"singular_values": [1.0, -1.0]}, "positive.*Leave zeros out"),
        ({"singular_values": [1.0, math.inf]}, "positive.*Leave zeros out"),
        ({"singular_values": [3.0, 2.0, 1.0]}, "between 1 and min.*= 2.*got"),
        ({"singular_values": []}, "between 1 and min.*= 2.*got"),
        ({"inconsistency": 1.0}, "rank 2 with n = 2.*no y can be.*fewer singular values"),
    ],
)
def test_planting_refuses(arguments, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        plant_regression(2, 4, **arguments)
