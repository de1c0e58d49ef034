"""Means and variances that are added to a chunk at a time.

References
----------
.. [1] Chan, Golub & LeVeque (1983), The American Statistician 37:242-247, on merging the sums of
   squares of two samples without cancellation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["NOTHING", "Moments"]


@dataclass(frozen=True, slots=True)
class Moments:
    """Count, mean and sum of squared deviations of a sample.

    Examples
    --------
    >>> whole = Moments.of(np.array([1.0, 2.0])).merge(Moments.of(np.array([6.0])))
    >>> whole.n, whole.mean, whole.variance
    (3, 3.0, 7.0)
    """

    n: int = 0
    mean: float = 0.0
    squares: float = 0.0
    """Sum of squared deviations from the mean."""

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> Moments:
        """Moments of finite values."""
        if not len(values):
            return cls()
        mean = float(np.mean(values))
        return cls(len(values), mean, float(np.sum((values - mean) ** 2)))

    def merge(self, other: Moments) -> Moments:
        """Moments of both samples together."""
        if not self.n or not other.n:
            return self if self.n else other
        n = self.n + other.n
        step = other.mean - self.mean
        return Moments(
            n,
            self.mean + step * (other.n / n),
            self.squares + other.squares + step * step * (self.n * other.n / n),
        )

    @property
    def variance(self) -> float:
        """Of the sample, with n - 1 below; nan for fewer than two values."""
        return self.squares / (self.n - 1) if self.n > 1 else float("nan")

    @property
    def standard_deviation(self) -> float:
        """Root of the variance."""
        return float(np.sqrt(self.variance))

    @property
    def error(self) -> float:
        """Standard error of the mean."""
        return self.standard_deviation / float(np.sqrt(self.n)) if self.n else float("nan")


NOTHING = Moments()
"""Moments of no value."""
