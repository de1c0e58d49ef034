"""Fleming-Harrington tests: log-rank tests that look early, late or in the middle.

References
----------
.. [1] Harrington & Fleming (1982), Biometrika 69:553-566,
   https://doi.org/10.1093/biomet/69.3.553.
.. [2] Fleming & Harrington (1991), Counting Processes and Survival Analysis, section 7.5.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from analysis.comparison.result import Comparison
from analysis.comparison.risk import Sample, Table
from analysis.comparison.score import add_strata, weighted

__all__ = ["fh_weight", "fleming_harrington", "stratified_fleming_harrington"]

FloatArray = NDArray[np.float64]


def fleming_harrington(sample: Sample, rho: float, gamma: float) -> Comparison:
    """Test with weight ``S(t-)**rho (1 - S(t-))**gamma``, S pooled over both arms.

    Parameters
    ----------
    sample : Sample
        Two arms in R replicates.
    rho, gamma : float
        At least 0. (0, 0) is the log-rank test; (0, 1) weighs late
        differences, (1, 0) early ones.

    Returns
    -------
    Comparison
        `estimate` is the weighted sum of expected minus observed events.

    Raises
    ------
    ValueError
        If `rho` or `gamma` is below 0.
    """
    return weighted(
        f"fleming_harrington({rho:g},{gamma:g})",
        sample,
        lambda table: fh_weight(table, rho, gamma),
    )


def stratified_fleming_harrington(
    samples: Sequence[Sample], rho: float, gamma: float
) -> Comparison:
    """The same within strata, each weighed by its own pooled survival, then added up."""
    parts = [fleming_harrington(sample, rho, gamma) for sample in samples]
    return add_strata(f"stratified_fleming_harrington({rho:g},{gamma:g})", parts)


def fh_weight(table: Table, rho: float, gamma: float) -> FloatArray:
    """Weight at each time, in the shape of the table.

    Raises
    ------
    ValueError
        If `rho` or `gamma` is below 0.
    """
    if not (rho >= 0.0 and gamma >= 0.0):
        raise ValueError(f"rho and gamma must be at least 0, got {rho:g} and {gamma:g}")
    early = _power(table.survival, rho) if rho else None
    late = _power(1.0 - table.survival, gamma) if gamma else None
    if early is None:
        return np.ones_like(table.expected) if late is None else late
    return early if late is None else early * late


def _power(base: FloatArray, exponent: float) -> FloatArray:
    """A power, the two common ones without the general function."""
    if exponent == 1.0:
        return base
    # 1 - S can be -1e-16 where S is 1 up to rounding.
    base = np.maximum(base, 0.0)
    return np.asarray(np.sqrt(base) if exponent == 0.5 else base**exponent)
