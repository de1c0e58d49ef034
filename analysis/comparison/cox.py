"""Cox regression on arm, Efron's method for ties, and the same within strata.

References
----------
.. [1] Cox (1972), Journal of the Royal Statistical Society B 34:187-220,
   https://doi.org/10.1111/j.2517-6161.1972.tb00899.x.
.. [2] Efron (1977), Journal of the American Statistical Association 72:557-565,
   https://doi.org/10.1080/01621459.1977.10480613, for ties.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from analysis.comparison.result import Comparison, ratio, upper_tail
from analysis.comparison.risk import Sample, Sums

__all__ = ["cox", "stratified_cox"]

FloatArray = NDArray[np.float64]
IndexArray = NDArray[np.intp]
Terms = tuple[IndexArray | slice, FloatArray, Sums]
"""Replicates, shares of the experimental arm as each event sees them, and their sums."""

Moments = tuple[FloatArray, FloatArray, FloatArray]
"""Sums over events of p, p**2 and p**3, each (R,)."""

MOST_STEPS = 40
TOLERANCE = 1e-5
"""Largest step at which the iteration stops; what is left is of the order of its cube."""

FURTHEST = 15.0
"""A log hazard ratio beyond this is one that has no maximum."""


def cox(sample: Sample) -> Comparison:
    """Log hazard ratio of the experimental arm against control.

    Parameters
    ----------
    sample : Sample
        Two arms in R replicates.

    Returns
    -------
    Comparison
        `estimate` is the log hazard ratio, below 0 where the experimental arm
        does better; `z` is minus its Wald statistic. Where the likelihood has
        no maximum (an arm without events, say) the estimate is infinite, or
        nan if there is no information at all, and z is 0.

    Notes
    -----
    The k-th event contributes the share of the experimental arm in the hazard,
    ``p = t e**b / (1 - t + t e**b)`` where t is its share of those at risk.
    Score and information are sums of p and p**2, and the first step starts
    from the log-rank test. Halley's iteration needs the sum of p**3 as well
    and one or two steps fewer than Newton's.
    """
    return _fit("cox", [sample])


def stratified_cox(samples: Sequence[Sample]) -> Comparison:
    """The same with a baseline hazard for each stratum.

    Parameters
    ----------
    samples : sequence of Sample
        One for each stratum; patients of others are left out, or have tick 0.

    Raises
    ------
    ValueError
        If there is no stratum.
    """
    if not samples:
        raise ValueError("stratified_cox needs one sample for each stratum, got none")
    return _fit("stratified_cox", samples)


def _fit(method: str, samples: Sequence[Sample]) -> Comparison:
    tables = [part for sample in samples for part in sample.tables]
    replicates = len(samples[0].key)
    terms = [(_rows(rows, replicates), *table.terms) for rows, table in tables]
    observed = np.zeros(replicates)
    for (rows, _, _), (_, table) in zip(terms, tables, strict=True):
        observed[rows] += table.events_in_1
    beta, information = _step(observed, _start(terms, replicates))
    active = np.abs(beta) >= TOLERANCE
    for _ in range(MOST_STEPS):
        if not active.any():
            break
        step, moved = _step(observed, _moments(terms, beta))
        # A replicate that has settled moves no more: what it becomes is its own affair.
        beta = np.where(active, beta + step, beta)
        information = np.where(active, moved, information)
        active &= (np.abs(step) >= TOLERANCE) & (np.abs(beta) <= FURTHEST)
    return _result(method, terms, observed, beta, information)


def _rows(rows: IndexArray, replicates: int) -> IndexArray | slice:
    """Replicates of a table; all of them as a slice, which copies nothing."""
    return slice(None) if len(rows) == replicates else rows


def _start(terms: Sequence[Terms], replicates: int) -> Moments:
    """Moments where beta is 0: those of the shares themselves."""
    moments = np.zeros((3, replicates))
    for rows, share, sums in terms:
        _add_powers(moments, rows, share, share * share, sums)
    return moments[0], moments[1], moments[2]


def _moments(terms: Sequence[Terms], beta: FloatArray) -> Moments:
    """Sums over events of p, p**2 and p**3 at `beta`, each (R,)."""
    ratio_less_one = np.expm1(beta)
    moments = np.zeros((3, len(beta)))
    for rows, share, sums in terms:
        p = share * sums.spread(ratio_less_one[rows])
        p += 1.0
        np.divide(share, p, out=p)
        _add_powers(moments, rows, p, p * p, sums)
    scale = ratio_less_one + 1.0
    square = scale * scale
    return moments[0] * scale, moments[1] * square, moments[2] * (square * scale)


def _add_powers(
    moments: FloatArray, rows: IndexArray | slice, p: FloatArray, square: FloatArray, sums: Sums
) -> None:
    """Add the sums of p, p**2 and p**3 of a table to those of its replicates; spends `square`."""
    moments[0, rows] += sums.total(p)
    moments[1, rows] += sums.total(square)
    np.multiply(square, p, out=square)
    moments[2, rows] += sums.total(square)


def _step(observed: FloatArray, moments: Moments) -> tuple[FloatArray, FloatArray]:
    """Halley's step, and the information where it leads, each (R,)."""
    first, second, third = moments
    information = first - second
    slope = first - 3.0 * second + 2.0 * third
    safe = np.where(information > 0.0, information, np.inf)
    newton = (observed - first) / safe
    np.minimum(np.maximum(newton, -1.0, out=newton), 1.0, out=newton)
    # Far off the correction is not to be trusted; within these bounds it never turns back.
    bend = 1.0 + 0.5 * newton * slope / safe
    step = newton / np.minimum(np.maximum(bend, 0.5), 2.0)
    return step, information + slope * step


def _result(
    method: str,
    terms: Sequence[Terms],
    observed: FloatArray,
    beta: FloatArray,
    information: FloatArray,
) -> Comparison:
    settled = (np.abs(beta) <= FURTHEST) & (information > 0.0)
    error = np.full_like(beta, np.inf)
    np.divide(1.0, np.sqrt(np.maximum(information, 0.0)), out=error, where=settled)
    estimate = beta
    if not settled.all():
        able, forced = np.zeros_like(beta), np.zeros_like(beta)
        for rows, share, sums in terms:
            able[rows] += sums.total((share > 0.0).astype(np.float64))
            forced[rows] += sums.total((share >= 1.0).astype(np.float64))
        # All the events that could be the experimental arm's were, or none but those that had to.
        rising, falling = observed >= able, observed <= forced
        limit = np.where(rising, np.inf, -np.inf)
        limit[rising == falling] = np.nan
        estimate = np.where(settled, beta, limit)
    z = ratio(-estimate, error)
    return Comparison(method, estimate, error, z, upper_tail(z))
