"""MaxCombo: the largest of several Fleming-Harrington statistics.

The joint null distribution is normal with the estimated correlations. Its
probability is a Genz integral over scrambled Sobol points, all replicates at
once; the same points serve every replicate, so that a result does not depend on
which replicates are computed together.

References
----------
.. [1] Genz (1992), Journal of Computational and Graphical Statistics 1:141-149,
   https://doi.org/10.1080/10618600.1992.10477010.
.. [2] Lin et al. (2020), Statistics in Biopharmaceutical Research 12:187-198,
   https://doi.org/10.1080/19466315.2019.1697738.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from analysis.comparison.fleming_harrington import fh_weight
from analysis.comparison.result import Comparison, ratio
from analysis.comparison.risk import Sample, Table
from analysis.comparison.scan import sum_rows

__all__ = ["DEFAULT_WEIGHTS", "fh_statistics", "maxcombo", "normal_exceedance"]

FloatArray = NDArray[np.float64]

DEFAULT_WEIGHTS = ((0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0))
"""Pairs of rho and gamma."""

_SCRAMBLE = 20240601
_ROWS = 2**14
"""Numbers held at a time for one dimension of the integral: few enough for the cache."""


@cache
def _sobol_points(dimension: int, log2_points: int) -> FloatArray:
    """Scrambled Sobol points, the scramble fixed, (dimension, points)."""
    from scipy.stats import qmc

    points = qmc.Sobol(dimension, scramble=True, rng=_SCRAMBLE).random_base2(log2_points)
    points = np.ascontiguousarray(points.T)
    points.flags.writeable = False
    return points


def normal_exceedance(
    bound: FloatArray, correlation: FloatArray, log2_points: int = 7
) -> FloatArray:
    """Chance that any of K correlated standard normals exceeds a bound, (R,).

    Parameters
    ----------
    bound : ndarray, shape (R,)
        The same for every component.
    correlation : ndarray, shape (R, K, K)
        Positive semi-definite.
    log2_points : int, default 7
        Size of the integral: 128 points leave an error of less than 1 % of the
        chance, 2**14 less than 0.05 %.

    Examples
    --------
    Two that are independent: 1 - 0.975**2.

    >>> chance = normal_exceedance(np.array([1.959964]), np.eye(2)[None], 12)
    >>> float(chance[0].round(4))
    0.0494
    """
    from scipy.special import ndtr, ndtri

    size = correlation.shape[1]
    first = np.asarray(ndtr(-bound))
    if size == 1:
        return first
    points = _sobol_points(size - 1, log2_points)
    # The others, one after the other: each exceeds the bound while those before it do not.
    orders = [[k, *range(k)] for k in range(1, size)]
    roots = [_cholesky(correlation[:, order][:, :, order]) for order in orders]
    step = max(_ROWS // points.shape[1], 1)
    chance = np.empty_like(bound)
    for start in range(0, len(bound), step):
        part = slice(start, start + step)
        limit, tail = bound[part, None], first[part, None]
        # The one that exceeds is drawn from its tail alone: the integrands are then smooth and
        # between 0 and 1, and few points are enough however small the tail is.
        beyond = -ndtri(tail * points[0])
        others = np.zeros_like(tail[:, 0])
        for root in roots:
            others += sum_rows(_all_below(limit, beyond, root[part], points))
        chance[part] = first[part] * (1.0 + others / points.shape[1])
    return chance


def _all_below(
    bound: FloatArray, beyond: FloatArray, root: FloatArray, points: FloatArray
) -> FloatArray:
    """Chance that all but the first normal are below the bound, given the first, (R, points)."""
    from scipy.special import ndtr, ndtri

    drawn = [beyond]
    chance: FloatArray = np.ones_like(beyond)
    for k in range(1, root.shape[1]):
        gap = bound - root[:, k, 0, None] * beyond
        for j in range(1, k):
            gap -= root[:, k, j, None] * drawn[j]
        gap /= root[:, k, k, None]
        below = ndtr(gap)
        chance *= below
        if k + 1 < root.shape[1]:
            # 1 - 2**-53 is the largest number below 1; 0 and 1 have no normal quantile.
            drawn.append(ndtri(np.clip(points[k] * below, 1e-300, 1.0 - 2.0**-53)))
    return chance


def _cholesky(correlation: FloatArray) -> FloatArray:
    """Lower factor of each matrix by columns, with a floor for those that are singular."""
    size = correlation.shape[1]
    root = np.zeros_like(correlation)
    for j in range(size):
        rest = correlation[:, j, j] - np.sum(root[:, j, :j] ** 2, axis=1)
        root[:, j, j] = np.sqrt(np.maximum(rest, 1e-12))
        for i in range(j + 1, size):
            inner = np.sum(root[:, i, :j] * root[:, j, :j], axis=1)
            root[:, i, j] = (correlation[:, i, j] - inner) / root[:, j, j]
    return root


def fh_statistics(
    sample: Sample, weights: Sequence[tuple[float, float]] = DEFAULT_WEIGHTS
) -> tuple[FloatArray, FloatArray]:
    """Fleming-Harrington statistics and their correlations under the null.

    Parameters
    ----------
    sample : Sample
        Two arms in R replicates.
    weights : sequence of (rho, gamma)
        One pair for each of K tests.

    Returns
    -------
    z : ndarray, shape (R, K)
        As from `fleming_harrington`.
    correlation : ndarray, shape (R, K, K)
    """
    size = len(weights)

    def measure(table: Table) -> tuple[FloatArray, FloatArray]:
        sums = table.sums
        curves = [fh_weight(table, rho, gamma) for rho, gamma in weights]
        score = np.stack([sums.dot(weight, table.difference) for weight in curves], axis=1)
        covariance = np.empty((len(score), size, size))
        for i, weight in enumerate(curves):
            scaled = weight * table.variance
            for j in range(i, size):
                covariance[:, i, j] = covariance[:, j, i] = sums.dot(scaled, curves[j])
        return score, covariance

    score, covariance = sample.gather(measure)
    error = np.sqrt(np.einsum("ikk->ik", covariance))
    safe = np.where(error > 0.0, error, 1.0)
    correlation = covariance / (safe[:, :, None] * safe[:, None, :])
    diagonal = np.arange(size)
    correlation[:, diagonal, diagonal] = 1.0
    return ratio(score, error), correlation


def maxcombo(
    sample: Sample,
    weights: Sequence[tuple[float, float]] = DEFAULT_WEIGHTS,
    log2_points: int = 7,
) -> Comparison:
    """Largest of several weighted log-rank statistics, with its joint p-value.

    Parameters
    ----------
    sample : Sample
        Two arms in R replicates.
    weights : sequence of (rho, gamma)
        Of the Fleming-Harrington tests.
    log2_points : int, default 7
        Size of the integral, see `normal_exceedance`.

    Returns
    -------
    Comparison
        `estimate` and `z` are the largest statistic, whose null distribution is
        not the standard normal: decide by `p_value`. `standard_error` is 1.

    Raises
    ------
    ValueError
        If no weight is given.
    """
    if not weights:
        raise ValueError("maxcombo needs at least one pair of rho and gamma")
    z, correlation = fh_statistics(sample, weights)
    top = z.max(axis=1)
    name = "maxcombo(" + ";".join(f"{rho:g},{gamma:g}" for rho, gamma in weights) + ")"
    p_value = normal_exceedance(top, correlation, log2_points)
    return Comparison(name, top, np.ones_like(top), top, p_value)
