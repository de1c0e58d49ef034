"""What all log-rank tests share: a weighted sum of expected minus observed events.

``U = sum w (expected - observed events in the experimental arm)`` with the
hypergeometric variance ``sum w**2 d n1 n0 (n - d) / (n**2 (n - 1))``, so that
positive U and z favour the experimental arm.

References
----------
.. [1] Fleming & Harrington (1991), Counting Processes and Survival Analysis, Wiley,
   https://doi.org/10.1002/9781118150672, chapter 7.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from analysis.comparison.result import Comparison, ratio, upper_tail
from analysis.comparison.risk import Sample, Table

__all__ = ["add_strata", "compare_score", "weighted"]

FloatArray = NDArray[np.float64]


def compare_score(method: str, score: FloatArray, variance: FloatArray) -> Comparison:
    """The result of a score and its variance, each (R,); z is 0 where there is no information."""
    error = np.sqrt(variance)
    z = ratio(score, error)
    return Comparison(method, score, error, z, upper_tail(z))


def weighted(method: str, sample: Sample, weigh: Callable[[Table], FloatArray]) -> Comparison:
    """Test with a weight for each time.

    Parameters
    ----------
    method : str
        Its name.
    sample : Sample
        Two arms in R replicates.
    weigh : callable
        From a table to the weight at each of its times.
    """

    def measure(table: Table) -> tuple[FloatArray, FloatArray]:
        weight, sums = weigh(table), table.sums
        score = sums.dot(weight, table.difference)
        return score, sums.dot(weight, weight * table.variance)

    return compare_score(method, *sample.gather(measure))


def add_strata(method: str, parts: Sequence[Comparison]) -> Comparison:
    """One test from those within strata: scores and variances add up.

    Raises
    ------
    ValueError
        If there is no stratum.
    """
    if not parts:
        raise ValueError(f"{method} needs one sample for each stratum, got none")
    score, variance = parts[0].estimate.copy(), parts[0].standard_error ** 2
    for part in parts[1:]:
        score += part.estimate
        variance += part.standard_error**2
    return compare_score(method, score, variance)
