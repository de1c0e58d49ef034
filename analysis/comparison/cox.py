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
Terms = tuple[IndexArray, FloatArray, Sums]
"""Replicates, shares of the experimental arm as each event sees them, and their sums."""

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
    terms = [(rows, *table.terms) for rows, table in tables]
    observed = np.zeros(len(samples[0].key))
    for rows, table in tables:
        observed[rows] += table.events_in_1
    beta = np.zeros(len(observed))
    information = np.zeros_like(beta)
    active = np.ones(len(beta), dtype=bool)
    for _ in range(MOST_STEPS):
        first, second, third = _moments(terms, beta)
        curvature = first - second
        step, bend = _step(observed - first, curvature, first - 3.0 * second + 2.0 * third)
        # A replicate that has settled moves no more: what it becomes is its own affair.
        beta = np.where(active, beta + step, beta)
        information = np.where(active, curvature + bend * step, information)
        active &= (np.abs(step) >= TOLERANCE) & (np.abs(beta) <= FURTHEST)
        if not active.any():
            break
    return _result(method, terms, observed, beta, information)


def _moments(terms: Sequence[Terms], beta: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Sums over events of p, p**2 and p**3 at `beta`, each (R,)."""
    ratio_less_one = np.expm1(beta)
    start = not beta.any()
    moments = np.zeros((3, len(beta)))
    for rows, share, sums in terms:
        if start:
            p = share
        else:
            p = share * sums.spread(ratio_less_one[rows])
            p += 1.0
            np.divide(share, p, out=p)
        square = p * p
        moments[:, rows] += np.stack([sums.total(p), sums.total(square), sums.dot(p, square)])
    scale = ratio_less_one + 1.0
    return moments[0] * scale, moments[1] * scale**2, moments[2] * scale**3


def _step(
    score: FloatArray, information: FloatArray, slope: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Halley's step, and how the information changes along it."""
    safe = np.where(information > 0.0, information, np.inf)
    newton = np.clip(score / safe, -1.0, 1.0)
    # Far off the correction is not to be trusted; within these bounds it never turns back.
    step = newton / np.clip(1.0 + 0.5 * newton * slope / safe, 0.5, 2.0)
    return step, slope


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
