"""Log-rank test that ignores what happens early.

References
----------
.. [1] Xu et al. (2017), Statistics in Medicine 36:592-605, https://doi.org/10.1002/sim.7157,
   piecewise weighted log-rank test for a delayed effect.
"""

from __future__ import annotations

import numpy as np

from analysis.comparison.result import Comparison
from analysis.comparison.risk import Sample
from analysis.comparison.score import weighted

__all__ = ["early_zero"]


def early_zero(sample: Sample, start: float) -> Comparison:
    """Log-rank test that gives no weight to events before `start` months.

    Parameters
    ----------
    sample : Sample
        Two arms in R replicates.
    start : float
        Months; events at `start` itself count.
    """
    return weighted(
        f"early_zero({start:g})", sample, lambda table: (table.time >= start).astype(np.float64)
    )
