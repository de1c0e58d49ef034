"""Sums, running sums and survival along a row, many rows at once.

A row's result does not depend on what stands beside it, to the last bit. Survival
is a running product of floats. Areas are running sums in fixed point: whole
numbers are summed several times faster, because each addition of floats waits for
the one before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "left_behind",
    "neighbours",
    "sum_from",
    "survival_after",
    "survival_before",
]

FloatArray = NDArray[np.float64]
Whole = TypeVar("Whole", np.uint32, np.int64)

_AREA_BITS = 2.0**60  # units in the largest sum


def sum_rows(values: FloatArray) -> FloatArray:
    """Sum of each row, (R, N) to (R,), to the last bit the same whatever other rows there are.

    ``values.sum(axis=1)`` is not: where rows are longer than NumPy's buffer it
    splits them in another way for one row than for many.

    Examples
    --------
    >>> sum_rows(np.array([[1.0, 2.0], [3.0, 4.0]])).tolist()
    [3.0, 7.0]
    """
    rows, columns = values.shape
    return np.asarray(np.add.reduceat(values.ravel(), np.arange(rows) * columns))


def neighbours(function: np.ufunc, values: NDArray[Any]) -> NDArray[Any]:
    """A function of the column to the right and each column, (R, N); the last is nobody's.

    All rows are taken as one, for a third of the time of a row after the other:
    what comes out in the last column belongs to two rows and must be set.

    Examples
    --------
    >>> neighbours(np.subtract, np.array([[1, 2, 4], [3, 4, 8]]))[:, :-1].tolist()
    [[1, 2], [1, 4]]
    """
    flat = np.ravel(values)
    out = np.empty(values.shape, dtype=values.dtype)
    function(flat[1:], flat[:-1], out=out.ravel()[:-1])
    return out


def sum_from(terms: NDArray[Whole]) -> NDArray[Whole]:
    """Sum of whole numbers from each column on, (R, N).

    Examples
    --------
    >>> sum_from(np.array([[1, 0, 1, 1]], dtype=np.uint32)).tolist()
    [[3, 2, 2, 1]]
    """
    # All of them, less one after the other: a pass fewer than by what lies to the left.
    rest = np.empty(terms.shape, dtype=terms.dtype)
    rest.ravel()[1:] = terms.ravel()[:-1]
    np.add.reduce(terms, axis=1, dtype=terms.dtype, out=rest[:, 0])
    np.subtract.accumulate(rest, axis=1, out=rest)
    return rest


def survival_before(event: FloatArray) -> FloatArray:
    """Kaplan-Meier estimate to the left of each column.

    One death among k leaves the share ``1 - 1 / k`` alive. For d deaths at one
    time the factors of k, k - 1, ... multiply to ``1 - d / k``, so that ties
    need no other table.

    Parameters
    ----------
    event : ndarray, shape (R, N)
        1.0 where the column's patient has the event, else 0.0, in the order of
        time; in column j, N - j patients are at risk.

    Returns
    -------
    ndarray, shape (R, N)

    Examples
    --------
    >>> survival_before(np.array([[1.0, 0.0, 1.0, 1.0]])).round(6).tolist()
    [[1.0, 0.75, 0.75, 0.375]]
    """
    survival = np.ones_like(event)
    factor = event * (-1.0 / np.arange(event.shape[1], 0.0, -1.0))
    factor += 1.0
    np.cumprod(factor[:, :-1], axis=1, out=survival[:, 1:])
    return survival


def survival_after(event: FloatArray, sizes: Sequence[int]) -> FloatArray:
    """Kaplan-Meier estimates from each column on, of several samples side by side.

    Parameters
    ----------
    event : ndarray, shape (R, N)
        As for `survival_before`, the samples one after the other.
    sizes : sequence of int
        Columns of each sample; they add up to N.

    Returns
    -------
    ndarray, shape (R, N)

    Examples
    --------
    >>> survival_after(np.array([[1.0, 0.0, 1.0, 1.0, 0.0]]), [3, 2]).round(6).tolist()
    [[0.666667, 0.666667, 0.0, 0.5, 0.5]]
    """
    left = np.concatenate([np.arange(n, 0.0, -1.0) for n in sizes])
    survival = event * (-1.0 / left)
    survival += 1.0
    start = 0
    for n in sizes:
        part = survival[:, start : start + n]
        np.cumprod(part, axis=1, out=part)
        start += n
    return survival


def left_behind(part: FloatArray, most: float) -> FloatArray:
    """Sum of the parts from each column on, (R, N); parts are at least 0, sums at most `most`.

    Examples
    --------
    >>> left_behind(np.array([[1.0, 2.0, 4.0]]), 8.0).tolist()
    [[7.0, 6.0, 4.0]]
    """
    unit = most / _AREA_BITS
    units = np.empty(part.shape, dtype=np.int64)
    np.multiply(part, 1.0 / unit, out=units, casting="unsafe")
    return np.asarray(sum_from(units) * unit)
