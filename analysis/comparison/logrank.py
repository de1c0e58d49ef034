"""Log-rank test, and the same within strata.

References
----------
.. [1] Mantel (1966), Cancer Chemotherapy Reports 50:163-170.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from analysis.comparison.result import Comparison
from analysis.comparison.risk import Sample, Table
from analysis.comparison.score import add_strata, compare_score

__all__ = ["logrank", "stratified_logrank"]

FloatArray = NDArray[np.float64]


def logrank(sample: Sample) -> Comparison:
    """Log-rank test.

    Parameters
    ----------
    sample : Sample
        Two arms in R replicates.

    Returns
    -------
    Comparison
        `estimate` is expected minus observed events in the experimental arm,
        z**2 the chi-square that other programs print.

    Examples
    --------
    >>> from analysis.comparison.risk import pack
    >>> arm = np.array([[True, True, False, False]])
    >>> tick = np.array([[3, 4, 1, 2]], dtype=np.uint32)
    >>> float(logrank(Sample.of(pack(tick, ~np.zeros_like(arm), arm), 1.0)).z[0].round(4))
    1.6977
    """

    def measure(table: Table) -> tuple[FloatArray, FloatArray]:
        return table.expected_in_1 - table.events_in_1, table.total_variance

    return compare_score("logrank", *sample.gather(measure))


def stratified_logrank(samples: Sequence[Sample]) -> Comparison:
    """Log-rank test within strata: scores and variances of the strata added up.

    Parameters
    ----------
    samples : sequence of Sample
        One for each stratum; patients of others are left out, or have tick 0.

    Raises
    ------
    ValueError
        If there is no stratum.
    """
    return add_strata("stratified_logrank", [logrank(sample) for sample in samples])
