"""Most probable parameters, given residuals and priors, and how well the data identify them.

A problem is blocks of residuals, each of some of the parameters, and normal
priors that may tie parameters to each other. Residuals are scaled so that half
their sum of squares is minus the log likelihood, up to a constant: deviance
residuals for counts, standardised differences for published numbers. SciPy
minimises; this module knows nothing of survival or of resistance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Block", "Fit", "Priors", "fit", "profile"]

FloatArray = NDArray[np.float64]

STEP = 0.02
"""Of the differences that stand for derivatives: wide enough to pass over what a lattice misses."""

FARTHEST = 9.0
"""Parameters stay within this on their scales."""


@dataclass(frozen=True, slots=True)
class Block:
    """Residuals that depend on some of the parameters."""

    depends: NDArray[np.intp]
    """Which, (p,)."""

    residuals: Callable[[FloatArray], FloatArray]
    """From the values of those, (p,), to residuals."""


@dataclass(frozen=True, slots=True)
class Priors:
    """Linear combinations of the parameters with normal priors."""

    weights: FloatArray
    """(Q, P), divided by the standard deviations."""

    means: FloatArray
    """(Q,), divided by the same."""

    @classmethod
    def of_each(cls, means: FloatArray, sds: FloatArray) -> Priors:
        """An independent prior for each parameter."""
        return cls(np.diag(1.0 / sds), means / sds)

    def residuals(self, x: FloatArray) -> FloatArray:
        """Departure from the prior means in standard deviations, (Q,)."""
        return np.asarray(np.einsum("qp,p->q", self.weights, x) - self.means)


@dataclass(frozen=True, slots=True)
class Fit:
    """The most probable parameters."""

    x: FloatArray
    """(P,)."""

    deviance: float
    """Sum of squared residuals of the data."""

    penalty: float
    """The same of the priors."""

    jacobian: FloatArray
    """Of the data's residuals, (N, P)."""

    priors: Priors
    converged: bool
    evaluations: int
    """Of all blocks, derivatives included."""

    @property
    def information(self) -> FloatArray:
        """Of data and priors together, (P, P)."""
        data, prior = self.jacobian, self.priors.weights
        return np.asarray(data.T @ data + prior.T @ prior)

    @property
    def covariance(self) -> FloatArray:
        """Of the parameters given the data, (P, P)."""
        return np.asarray(np.linalg.inv(self.information), dtype=np.float64)

    @property
    def effective_parameters(self) -> float:
        """How many parameters the data, and not the priors, determine: between 0 and P.

        References
        ----------
        .. [1] Moody (1992), Advances in Neural Information Processing Systems 4:847-854.
        """
        return float(np.trace(self.covariance @ (self.jacobian.T @ self.jacobian)))

    @property
    def shrinkage(self) -> FloatArray:
        """Variance left of what the priors alone would allow, (P,): 1 where data say nothing."""
        prior = np.linalg.inv(self.priors.weights.T @ self.priors.weights)
        return np.diag(self.covariance) / np.diag(prior)


def fit(
    blocks: Sequence[Block],
    priors: Priors,
    start: FloatArray,
    tolerance: float = 1e-5,
    step: float = STEP,
) -> Fit:
    """Find the most probable parameters.

    Parameters
    ----------
    blocks : sequence of Block
        The data.
    priors : Priors
        Every parameter must have one.
    start : ndarray, shape (P,)
        Where to begin.
    tolerance : float, default 1e-5
        Relative change of the objective at which the search ends.
    step : float, default 0.02
        Of the central differences. What residuals miss at random counts as information if the step
        is narrow, and makes standard errors too small.

    Returns
    -------
    Fit
    """
    from scipy.optimize import least_squares

    count = 0

    def residuals(x: FloatArray) -> FloatArray:
        nonlocal count
        count += 1
        own = [block.residuals(x[block.depends]) for block in blocks]
        return np.concatenate([*own, priors.residuals(x)])

    def derivatives(x: FloatArray) -> FloatArray:
        nonlocal count
        count += 1
        return np.concatenate([_jacobian(blocks, x, step), priors.weights])

    begin = np.clip(start, -FARTHEST, FARTHEST)
    found = least_squares(
        residuals, begin, jac=derivatives, ftol=tolerance, xtol=1e-4, gtol=1e-8, max_nfev=60
    )
    split = len(found.fun) - len(priors.means)
    return Fit(
        x=found.x,
        deviance=float(np.sum(found.fun[:split] ** 2)),
        penalty=float(np.sum(found.fun[split:] ** 2)),
        jacobian=np.asarray(found.jac)[:split],
        priors=priors,
        converged=bool(found.status > 0),
        evaluations=count,
    )


def _jacobian(blocks: Sequence[Block], x: FloatArray, step: float = STEP) -> FloatArray:
    """Derivatives of the data's residuals by central differences, block by block, (N, P)."""
    rows = []
    for block in blocks:
        own = x[block.depends]
        columns = []
        for j in range(len(own)):
            moved = np.zeros_like(own)
            moved[j] = step
            up, down = block.residuals(own + moved), block.residuals(own - moved)
            columns.append((up - down) / (2.0 * step))
        part = np.zeros((len(columns[0]), len(x)))
        part[:, block.depends] = np.stack(columns, axis=1)
        rows.append(part)
    return np.concatenate(rows)


def profile(
    blocks: Sequence[Block], found: Fit, index: int, values: FloatArray, turns: int = 2
) -> FloatArray:
    """Deviance of the data with one parameter held, the others at their best for it.

    Parameters
    ----------
    blocks : sequence of Block
        The data.
    found : Fit
        Of the same.
    index : int
        Which parameter is held.
    values : ndarray, shape (V,)
        Where, on its scale.
    turns : int, default 2
        Gauss-Newton steps of the others, with the derivatives at the optimum
        corrected by what each step shows (Broyden).

    Returns
    -------
    ndarray, shape (V,)
        Deviance above that of the fit. The held parameter's own prior does not
        count, those of the others do, so that they stay where they make sense.
    """
    free = np.arange(len(found.x)) != index
    own = found.priors.weights[:, index] == 0.0
    weights, means = found.priors.weights[own], found.priors.means[own]
    out = np.empty(len(values))

    def residuals(x: FloatArray) -> FloatArray:
        data = np.concatenate([block.residuals(x[block.depends]) for block in blocks])
        return np.concatenate([data, weights @ x - means])

    base = float(np.sum(residuals(found.x) ** 2))
    for i, value in enumerate(values):
        jacobian = np.concatenate([found.jacobian, weights])
        x = found.x.copy()
        x[index] = value
        # The others first go where the derivatives at the optimum say.
        step = np.zeros_like(x)
        step[index] = value - found.x[index]
        x[free] -= np.linalg.lstsq(jacobian[:, free], jacobian @ step, rcond=None)[0]
        r = residuals(x)
        best = float(np.sum(r**2))
        for _ in range(turns - 1):
            move = np.zeros_like(x)
            move[free] = -np.linalg.lstsq(jacobian[:, free], r, rcond=None)[0]
            after = residuals(np.clip(x + move, -FARTHEST, FARTHEST))
            size = float(move @ move)
            if size > 0.0:
                jacobian = jacobian + np.outer(after - r - jacobian @ move, move) / size
            x, r = x + move, after
            best = min(best, float(np.sum(r**2)))
        out[i] = best - base
    return np.asarray(out)
