r"""Pooled effects of strategies: shrunken hazard ratios, and the chance that a trial succeeds.

Log hazard ratios are taken to be normal at four levels. Of the contrast i, of an agent
in a family, for the endpoint e,

    true effect_i = s_e (m_e + family_e + agent_e + trial_i,e)
    estimate_i    = true effect_i + error, with the published standard error,

where m ~ N(0, M^2), family ~ N(0, w^2), agent ~ N(0, g tau^2) and
trial ~ N(0, (1 - g) tau^2). There is one m for each of two kinds of families: an ICI
against none, and a partner beside or after an ICI, which cannot be expected to do as
much. At every level PFS and OS correlate by rho; s is 1 for PFS and narrower for OS. So
tau is the spread of trials about the mean of their family, and g the part of it that goes
with the agent from a phase 2 to a phase 3: with g = 1 the two would have the same true
effect, which they do not, as populations and controls differ.

Given (w, tau, rho, s, g) everything is normal and computed exactly. Those five are not
known, and few trials tell of them: each has a weak prior (`Prior`) on a grid, whose
points are weighed by how likely they make the estimates. Each result is a mixture of
normals over the grid. Nothing is drawn at random.

Errors of one trial's PFS and OS correlate, by `Prior.sampling`; those of two arms with a
common control by one half, as they would under equal allocation.

Selection
---------
A phase 2 that led to a phase 3 was chosen because it looked good, so that its estimate
is too good on average (the winner's curse). Its *posterior* is not: choosing on the
estimate multiplies the prior of those chosen and the likelihood by factors that cancel,
as the chance of being chosen depends on the true effect only through an estimate that is
known [1]_. This holds if the prior is that of all agents tried, not of those chosen.
It does not mend a *pool* from which results are missing because they were not published: pooled
families then look better than they are. `publication` states how much less likely
disappointing phase 2 results are to be published; see `publication_shift`.

References
----------
.. [1] Dawid (1994), Selection paradoxes of Bayesian inference, IMS Lecture Notes 24:211-220.
.. [2] Schoenfeld (1981), Biometrika 68:316-319, on the variance of a log hazard ratio.
.. [3] O'Hagan, Stevens and Campbell (2005), Pharmaceutical Statistics 4:187-201, on assurance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from math import exp, pi, sqrt

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from analysis.effect_table import ENDPOINTS, kind_of, log_estimate

__all__ = [
    "Pool", "PredictedEffect", "Prior", "Success", "family_effects", "fit_pool", "pooled_effects",
    "predict_effect", "probability_of_success", "publication_shift", "publication_table",
]  # fmt: skip

FloatArray = NDArray[np.float64]
Published = tuple[float, float, float, float]
"""Hazard ratio, lower and upper end of its interval, and the level of that."""

SHARED_CONTROL = 0.5
"""Correlation of the errors of two arms with a common control, of equal sizes."""

SIGNAL = 0.10
"""One-sided level at which a phase 2 result counts as encouraging."""

_HALVINGS = 60
_FAR = 9.0
"""Standard deviations within which quantiles are looked for."""


@dataclass(frozen=True, slots=True)
class Prior:
    """What is supposed before any trial is seen; all are assumptions, in log hazard ratios."""

    mean: float = 0.3
    """M: the mean hazard ratio of a kind is between 0.56 and 1.80 with a chance of 0.95."""

    family: float = 0.3
    """Scale of the half-normal prior of w."""

    trial: float = 0.2
    """Scale of the half-normal prior of tau."""

    correlation: tuple[float, float] = (0.45, 0.25)
    """Mean and standard deviation of the normal prior of rho, cut to 0 to 1. Across trials of ICIs
    estimates correlate by 0.31 to 0.60."""

    os_scale: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)
    """Values of s for OS, equally likely."""

    agent_share: tuple[float, ...] = (0.25, 0.5, 0.75)
    """Values of g, equally likely."""

    sampling: float = 0.5
    """Correlation of the errors of the PFS and the OS estimate of a trial."""

    steps: int = 8
    """Points of the grid for each of w and tau; five for rho."""

    def __post_init__(self) -> None:
        if min(self.mean, self.family, self.trial, *self.os_scale, self.correlation[1]) <= 0.0:
            raise ValueError("scales of a prior must be above 0")
        if not all(0.0 <= g <= 1.0 for g in self.agent_share):
            raise ValueError("agent_share must lie between 0 and 1")
        if not 0.0 <= self.sampling < 1.0:
            raise ValueError(f"sampling must lie in [0, 1), got {self.sampling:g}")


@dataclass(frozen=True, slots=True)
class _Grid:
    """Values of the five parameters, (G,) each, and their prior weights."""

    family: FloatArray
    trial: FloatArray
    correlation: FloatArray
    os_scale: FloatArray
    agent_share: FloatArray
    weight: FloatArray
    mean: float

    @classmethod
    def of(cls, prior: Prior) -> _Grid:
        middles = (np.arange(prior.steps) + 0.5) / prior.steps
        # Three scales hold all of a half-normal but 0.3 %.
        spreads = [(3.0 * scale * middles, scale) for scale in (prior.family, prior.trial)]
        rho, (centre, sd) = (np.arange(5) + 0.5) / 5.0, prior.correlation
        axes = [
            *[(value, np.exp(-0.5 * (value / scale) ** 2)) for value, scale in spreads],
            (rho, np.exp(-0.5 * ((rho - centre) / sd) ** 2)),
            *[(np.array(x), np.ones(len(x))) for x in (prior.os_scale, prior.agent_share)],
        ]
        values = np.array(list(product(*(value for value, _ in axes)))).T
        weight = np.prod(np.array(list(product(*(mass for _, mass in axes)))), axis=1)
        family, trial, correlation, os_scale, share = values
        weight = weight / weight.sum()
        return cls(family, trial, correlation, os_scale, share, weight, prior.mean)

    def endpoints(self, first: NDArray[np.intp], second: NDArray[np.intp]) -> FloatArray:
        """Covariance of PFS and OS at a level of unit variance, (G, first, second)."""
        scale = np.stack([np.ones_like(self.os_scale), self.os_scale], axis=1)
        apart = first[:, None] != second[None, :]
        coupled = np.where(apart, self.correlation[:, None, None], 1.0)
        return scale[:, first][:, :, None] * scale[:, second][:, None, :] * coupled

    def spread(
        self, kind: ArrayLike, family: ArrayLike, agent: ArrayLike, trial: ArrayLike
    ) -> FloatArray:
        """Covariance of PFS effects that do (1) or do not (0) share each of four levels."""
        w2, tau2, g = (x[:, None, None] for x in (self.family**2, self.trial**2, self.agent_share))
        levels = (np.asarray(x, dtype=np.float64) for x in (kind, family, agent, trial))
        kind, family, agent, trial = levels
        return self.mean**2 * kind + w2 * family + tau2 * (g * agent + (1.0 - g) * trial)


@dataclass(frozen=True)
class Pool:
    """Published contrasts and what they say of the five parameters."""

    rows: pd.DataFrame
    """Those pooled, N of them, as from `analysis.effect_table.known_before`."""

    prior: Prior
    weight: FloatArray
    """Posterior weight of each point of the grid, (G,)."""

    publication: float
    _grid: _Grid
    _precision: FloatArray
    """Inverse of the covariance of the estimates, (G, N, N)."""

    _solved: FloatArray
    """That times the estimates, (G, N)."""

    @cached_property
    def families(self) -> tuple[str, ...]:
        """Families with a contrast, in the order of the table."""
        return tuple(dict.fromkeys(self.rows["family"]))

    @cached_property
    def parameters(self) -> pd.DataFrame:
        """Posterior mean and standard deviation of w, tau, rho, s of OS and g."""
        grid = self._grid
        named = {
            "family": grid.family, "trial": grid.trial, "correlation": grid.correlation,
            "os_scale": grid.os_scale, "agent_share": grid.agent_share,
        }  # fmt: skip
        out = []
        for name, values in named.items():
            mean = float(self.weight @ values)
            out.append((name, mean, sqrt(float(self.weight @ (values - mean) ** 2))))
        return pd.DataFrame(out, columns=["parameter", "mean", "sd"])


@dataclass(frozen=True, slots=True)
class PredictedEffect:
    """A log hazard ratio as a mixture of normals; below 0 favours the strategy."""

    family: str
    endpoint: str
    weights: FloatArray
    means: FloatArray
    variances: FloatArray
    """Of the G components."""

    between_trials: float
    """Variance that more trials of other agents, or a larger phase 2, would not take away."""

    calibration: float
    """Variance because family, agent and the parameters are known from few trials."""

    sampling: float = 0.0
    """Variance by which a trial's estimate strays from its true effect; 0 for the effect itself."""

    phase2: float = np.nan
    """Log hazard ratio of the phase 2 as published, if one was used for this endpoint."""

    @property
    def mean(self) -> float:
        """Of the log hazard ratio."""
        return float(self.weights @ self.means)

    @property
    def sd(self) -> float:
        """Standard deviation of the log hazard ratio."""
        spread = self.weights @ (self.variances + (self.means - self.mean) ** 2)
        return sqrt(float(spread))

    def cdf(self, value: ArrayLike) -> FloatArray:
        """Chance of a log hazard ratio no larger than a value."""
        from scipy.special import ndtr

        at = (np.asarray(value, dtype=np.float64)[..., None] - self.means) / np.sqrt(self.variances)
        return ndtr(at) @ self.weights

    def density(self, value: ArrayLike) -> FloatArray:
        """Density at log hazard ratios."""
        off = np.asarray(value, dtype=np.float64)[..., None] - self.means
        height = np.exp(-0.5 * off**2 / self.variances) / np.sqrt(2.0 * pi * self.variances)
        return height @ self.weights

    def quantile(self, share: ArrayLike) -> FloatArray:
        """Log hazard ratios below which shares of the distribution lie."""
        return _quantile(self.weights, self.means, self.variances, share)

    def interval(self, level: float = 0.8) -> tuple[float, float, float]:
        """Lower end, median and upper end as hazard ratios, with equal tails."""
        tail = 0.5 * (1.0 - level)
        low, middle, high = np.exp(self.quantile([tail, 0.5, 1.0 - tail]))
        return float(low), float(middle), float(high)

    def estimate(self, events: float, allocation: float = 0.5) -> PredictedEffect:
        """What a trial with so many events will estimate, by Schoenfeld's variance.

        Parameters
        ----------
        events : float
            In both arms.
        allocation : float
            Share of patients in the experimental arm.
        """
        return self.observed_with(_schoenfeld_error(events, allocation))

    def observed_with(self, standard_error: float) -> PredictedEffect:
        """What an estimate with a standard error will be."""
        more = standard_error**2
        return replace(self, variances=self.variances + more, sampling=self.sampling + more)


@dataclass(frozen=True, slots=True)
class Success:
    """The chance that a log-rank test rejects in favour of the strategy, and where it comes from.

    ``power_at_phase2 + shrinkage + uncertainty == probability``.
    """

    probability: float
    """Averaged over what the effect may be (assurance)."""

    power_at_phase2: float
    """Power if the phase 2 estimate were the truth; NaN without a phase 2."""

    power_at_median: float
    """Power if the median of the predicted effect were the truth."""

    @property
    def shrinkage(self) -> float:
        """What is lost by not believing the phase 2 as it stands."""
        return self.power_at_median - self.power_at_phase2

    @property
    def uncertainty(self) -> float:
        """What is lost, or won, because the effect is not known."""
        return self.probability - self.power_at_median


def fit_pool(rows: pd.DataFrame, prior: Prior | None = None, *, publication: float = 1.0) -> Pool:
    """Weigh the grid by how likely its points make the published estimates.

    Parameters
    ----------
    rows : DataFrame
        As from `analysis.effect_table.known_before`: trial, kind, family, agent, control,
        stratum, endpoint, phase, log_hazard_ratio, standard_error. Without rows the prior rules.
    prior : Prior, optional
        What is supposed before.
    publication : float
        Chance that a disappointing phase 2 is published, relative to an encouraging one; 1 for
        no selection. See `publication_shift`.

    Returns
    -------
    Pool

    Raises
    ------
    ValueError
        If an estimate is missing or a standard error is not positive.
    """
    prior = prior or Prior()
    grid = _Grid.of(prior)
    value = rows["log_hazard_ratio"].to_numpy(dtype=np.float64)
    error = rows["standard_error"].to_numpy(dtype=np.float64)
    if not (np.isfinite(value).all() and (error > 0.0).all()):
        raise ValueError("contrasts that are pooled need an estimate and a standard error above 0")
    shift = publication_shift(publication)
    value = value + shift * error * (rows["phase"] == 2).to_numpy()
    endpoint = _endpoint_index(rows["endpoint"])
    levels = [_same(rows, columns) for columns in _LEVELS]
    true = grid.endpoints(endpoint, endpoint) * grid.spread(*levels)
    covariance = true + _error_covariance(rows, error, prior.sampling)
    precision = np.linalg.inv(covariance).astype(np.float64, copy=False)
    solved = precision @ value
    _, logarithm = np.linalg.slogdet(covariance)
    evidence = -0.5 * (logarithm + solved @ value)
    return Pool(rows, prior, _reweigh(grid.weight, evidence), publication, grid, precision, solved)


def predict_effect(
    pool: Pool,
    family: str,
    phase2: Published | Mapping[str, Published] | None = None,
    endpoint: str = "os",
    *,
    agent: str = "",
) -> PredictedEffect:
    """The true effect of a strategy in a trial to come.

    Parameters
    ----------
    pool : Pool
        Trials published before.
    family : str
        One of `analysis.effect_table.FAMILIES`, with or without a trial in the pool; or one of
        `KINDS`, for a strategy of no listed family.
    phase2 : tuple, or mapping of endpoints to tuples, optional
        Hazard ratio, lower, upper, level of the agent's phase 2, which must not be in the pool.
        A tuple is of `endpoint`.
    endpoint : str
        "pfs" or "os".
    agent : str
        An agent of this family in the pool, whose earlier trials then count for more.

    Returns
    -------
    PredictedEffect

    Raises
    ------
    ValueError
        If family, endpoint or agent is unknown, a phase 2 result contradicts itself, or a phase 2
        is given for an agent that is in the pool.

    Examples
    --------
    >>> from analysis.effect_table import known_before, read_effects
    >>> pool = fit_pool(known_before(read_effects(), 2022), Prior(steps=4))
    >>> effect = predict_effect(pool, "tigit_added", (0.57, 0.37, 0.90, 0.95), "pfs")
    >>> effect.phase2 < effect.mean < 0.0
    True
    """
    if endpoint not in ENDPOINTS:
        raise ValueError(f"no endpoint '{endpoint}'. Known: {', '.join(ENDPOINTS)}.")
    kind_of(family)
    grid, rows = pool._grid, pool.rows
    member = (rows["family"] == family).to_numpy()
    same_agent = member & (rows["agent"] == agent).to_numpy()
    if agent and not same_agent.any():
        raise ValueError(f"no trial of '{agent}' in family '{family}'")
    given = dict(phase2) if isinstance(phase2, Mapping) else {endpoint: phase2} if phase2 else {}
    if given and agent:
        raise ValueError(f"'{agent}' is in the pool: its phase 2 would count twice")

    mean, covariance = _posterior(pool, family, same_agent if agent else None)
    both = np.arange(len(ENDPOINTS))
    unit = grid.endpoints(both, both)
    tau2, g = (x[:, None, None] for x in (grid.trial**2, grid.agent_share))
    if not agent:
        covariance = covariance + tau2 * g * unit
    weights, trials = pool.weight, tau2 * (1.0 - g) * unit
    if given:
        mean, covariance, evidence = _learn(mean, covariance, trials, given, pool.prior.sampling)
        weights = _reweigh(weights, evidence)
    at = ENDPOINTS.index(endpoint)
    variances = (covariance + trials)[:, at, at]
    own = trials if given or agent else tau2 * unit
    if not member.any() and not given:
        own = own + grid.family[:, None, None] ** 2 * unit
    effect = PredictedEffect(
        family, endpoint, weights, mean[:, at], variances,
        float(weights @ own[:, at, at]), 0.0,
        phase2=log_estimate(*given[endpoint])[0] if endpoint in given else np.nan,
    )  # fmt: skip
    return replace(effect, calibration=effect.sd**2 - effect.between_trials)


def probability_of_success(
    effect: PredictedEffect, events: float, alpha: float = 0.025, allocation: float = 0.5
) -> Success:
    """The chance that a log-rank test in a trial with so many events rejects.

    The estimate is taken to be normal about the true effect with variance
    ``1 / (events p (1 - p))`` (Schoenfeld), which with a normal mixture for the
    true effect makes the chance a sum over its components.

    Parameters
    ----------
    effect : PredictedEffect
        The true effect.
    events : float
        In both arms.
    alpha : float
        One-sided level.
    allocation : float
        Share of patients in the experimental arm.

    Returns
    -------
    Success

    Raises
    ------
    ValueError
        If `effect` has the error of a trial in it already, or a number is out of range.
    """
    from scipy.special import ndtr, ndtri

    if effect.sampling > 0.0:
        raise ValueError("the effect itself is needed, not the estimate of a trial")
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha must lie between 0 and 1, got {alpha:g}")
    error = _schoenfeld_error(events, allocation)
    bound = float(ndtri(alpha)) * error

    def power(value: float) -> float:
        return float(ndtr((bound - value) / error))

    return Success(
        float(effect.observed_with(error).cdf(bound)),
        power(effect.phase2),
        power(float(effect.quantile(0.5))),
    )


def publication_shift(chance: float) -> float:
    """How much too good published phase 2 results are on average, in standard errors.

    Results with a one-sided p-value above 0.1 are published with a `chance` relative to
    the others. The mean z of what is published is worked out for an agent without effect and
    taken for all; for an agent that works it would be less. Only results in the pool are
    moved: a new phase 2 is known whether or not others like it were published.

    Examples
    --------
    >>> publication_shift(1.0), round(publication_shift(0.2), 3)
    (0.0, 0.501)
    """
    from scipy.special import ndtri

    if not 0.0 < chance <= 1.0:
        raise ValueError(f"publication must lie above 0 and at most at 1, got {chance:g}")
    edge = float(ndtri(1.0 - SIGNAL))
    height = exp(-0.5 * edge**2) / sqrt(2.0 * pi)
    return (1.0 - chance) * height / (SIGNAL + chance * (1.0 - SIGNAL))


def pooled_effects(pool: Pool, level: float = 0.95) -> pd.DataFrame:
    """Each contrast as published and after it was pooled with the others.

    Returns
    -------
    DataFrame
        The rows of the pool with estimate_lower, estimate_upper, shrunken, shrunken_lower,
        shrunken_upper: log hazard ratios, intervals of a level.
    """
    from scipy.special import ndtri

    rows, grid = pool.rows, pool._grid
    endpoint = _endpoint_index(rows["endpoint"])
    levels = [_same(rows, columns) for columns in _LEVELS]
    true = grid.endpoints(endpoint, endpoint) * grid.spread(*levels)
    means = np.einsum("gij,gj->gi", true, pool._solved)
    told = np.einsum("gij,gjk,gik->gi", true, pool._precision, true, optimize=True)
    variances = np.diagonal(true, axis1=1, axis2=2) - told
    tail = 0.5 * (1.0 - level)
    shares = [tail, 0.5, 1.0 - tail]
    found = np.array(
        [_quantile(pool.weight, means[:, i], variances[:, i], shares) for i in range(len(rows))]
    ).reshape(-1, 3)
    wide = float(ndtri(1.0 - tail)) * rows["standard_error"]
    return rows.assign(
        estimate_lower=rows["log_hazard_ratio"] - wide,
        estimate_upper=rows["log_hazard_ratio"] + wide,
        shrunken_lower=found[:, 0], shrunken=found[:, 1], shrunken_upper=found[:, 2],
    )  # fmt: skip


def family_effects(pool: Pool, level: float = 0.95) -> pd.DataFrame:
    """Mean of each family and where the true effect of a new trial of it lies.

    Returns
    -------
    DataFrame
        family, endpoint, mean, mean_lower, mean_upper, new_lower, new_upper (log hazard ratios;
        `mean` is the median of the family's mean), for endpoints of which the pool has a contrast.
    """
    tail = 0.5 * (1.0 - level)
    out = []
    for family in pool.families:
        member = (pool.rows["family"] == family).to_numpy()
        means, covariance = _posterior(pool, family, None)
        for at, endpoint in enumerate(ENDPOINTS):
            if endpoint not in set(pool.rows["endpoint"][member]):
                continue
            low, middle, high = _quantile(
                pool.weight, means[:, at], covariance[:, at, at], [tail, 0.5, 1.0 - tail]
            )
            new = predict_effect(pool, family, endpoint=endpoint).quantile([tail, 1.0 - tail])
            out.append((family, endpoint, middle, low, high, new[0], new[1]))
    names = ["family", "endpoint", "mean", "mean_lower", "mean_upper", "new_lower", "new_upper"]
    return pd.DataFrame(out, columns=names)


def publication_table(
    rows: pd.DataFrame,
    family: str,
    endpoint: str,
    events: float,
    *,
    phase2: Published | Mapping[str, Published] | None = None,
    chances: Sequence[float] = (1.0, 0.5, 0.2, 0.1),
    prior: Prior | None = None,
    agent: str = "",
) -> pd.DataFrame:
    """How a prediction moves with how selectively phase 2 results are supposed to be published.

    Parameters
    ----------
    rows : DataFrame
        As for `fit_pool`.
    family, endpoint, phase2, agent
        As for `predict_effect`.
    events : float
        Of the trial whose success is predicted.
    chances : sequence of float
        Values of `publication`.
    prior : Prior, optional
        What is supposed before.

    Returns
    -------
    DataFrame
        publication, shift, hazard_ratio (the median), lower, upper (80 %), success.
    """
    out = []
    for chance in chances:
        pool = fit_pool(rows, prior, publication=chance)
        effect = predict_effect(pool, family, phase2, endpoint, agent=agent)
        low, middle, high = effect.interval(0.8)
        chance_of_success = probability_of_success(effect, events).probability
        out.append((chance, publication_shift(chance), middle, low, high, chance_of_success))
    names = ["publication", "shift", "hazard_ratio", "lower", "upper", "success"]
    return pd.DataFrame(out, columns=names)


# ---------------------------------------------------------------- algebra

_LEVELS = (
    ("kind",), ("family",), ("family", "agent"), ("family", "agent", "trial", "stratum"),
)  # fmt: skip
"""Columns in which two contrasts agree that have the mean of their kind, family, ... in common."""


def _same(rows: pd.DataFrame, columns: Sequence[str]) -> FloatArray:
    """1 where two rows are the same in all columns, (N, N)."""
    same = np.ones((len(rows), len(rows)))
    for column in columns:
        value = rows[column].to_numpy()
        same *= value[:, None] == value[None, :]
    return same


def _error_covariance(rows: pd.DataFrame, error: FloatArray, sampling: float) -> FloatArray:
    """Of the errors of published estimates, (N, N)."""
    same_patients = _same(rows, ("trial", "stratum", "control"))
    endpoints = np.where(_same(rows, ("endpoint",)) == 1.0, 1.0, sampling)
    arms = np.where(_same(rows, ("agent",)) == 1.0, 1.0, SHARED_CONTROL)
    return error[:, None] * error[None, :] * same_patients * endpoints * arms


def _endpoint_index(names: pd.Series) -> NDArray[np.intp]:
    return np.array([ENDPOINTS.index(name) for name in names], dtype=np.intp)


def _posterior(
    pool: Pool, family: str, same_agent: NDArray[np.bool_] | None
) -> tuple[FloatArray, FloatArray]:
    """Mean of a family, or effect of an agent of it: (G, 2) and its covariance, (G, 2, 2).

    Of a family without a contrast only the mean of its kind is known; the covariance holds w^2.
    """
    grid, rows = pool._grid, pool.rows
    kind = (rows["kind"] == kind_of(family)).to_numpy()[:, None] * 1.0
    member = (rows["family"] == family).to_numpy()[:, None] * 1.0
    both = np.arange(len(ENDPOINTS))
    endpoint = _endpoint_index(rows["endpoint"])
    agent = 0.0 if same_agent is None else same_agent[:, None] * 1.0
    with_rows = grid.spread(kind, member, agent, 0.0) * grid.endpoints(endpoint, both)
    one_more = 0.0 if same_agent is None else 1.0
    before = grid.spread(1.0, 1.0, one_more, 0.0) * grid.endpoints(both, both)
    mean = np.einsum("gie,gi->ge", with_rows, pool._solved)
    told = np.einsum("gie,gij,gjf->gef", with_rows, pool._precision, with_rows, optimize=True)
    return mean, before - told


def _learn(
    mean: FloatArray,
    covariance: FloatArray,
    trials: FloatArray,
    given: Mapping[str, Published],
    sampling: float,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Agent's effect after its phase 2, and the log likelihood of that at each point, (G,)."""
    strange = set(given) - set(ENDPOINTS)
    if strange:
        raise ValueError(f"no endpoint '{min(strange)}'. Known: {', '.join(ENDPOINTS)}.")
    at = [ENDPOINTS.index(name) for name in given]
    value, error = np.array([log_estimate(*one) for one in given.values()]).T
    noise = np.outer(error, error) * np.where(np.eye(len(at)) == 1.0, 1.0, sampling)
    seen = (covariance + trials)[:, at][:, :, at] + noise
    off = value - mean[:, at]
    gain = np.linalg.solve(seen, covariance[:, at, :]).transpose(0, 2, 1)
    new_mean = mean + np.einsum("gek,gk->ge", gain, off)
    new_covariance = covariance - gain @ covariance[:, at, :]
    _, logarithm = np.linalg.slogdet(seen)
    solved = np.linalg.solve(seen, off[..., None])[..., 0]
    return new_mean, new_covariance, -0.5 * (logarithm + np.sum(off * solved, axis=1))


def _reweigh(weight: FloatArray, evidence: FloatArray) -> FloatArray:
    """Weights times likelihoods, given as logarithms up to a constant, made to sum to 1."""
    new = weight * np.exp(evidence - evidence.max())
    return new / new.sum()


def _quantile(
    weights: FloatArray, means: FloatArray, variances: FloatArray, share: ArrayLike
) -> FloatArray:
    """Quantiles of a mixture of normals, by halving."""
    from scipy.special import ndtr

    share, sd = np.asarray(share, dtype=np.float64), np.sqrt(variances)
    low = np.full(share.shape, float(np.min(means - _FAR * sd)))
    high = np.full(share.shape, float(np.max(means + _FAR * sd)))
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        below = ndtr((middle[..., None] - means) / sd) @ weights < share
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return 0.5 * (low + high)


def _schoenfeld_error(events: float, allocation: float) -> float:
    """Standard error of a log hazard ratio near 1."""
    if not events > 0.0:
        raise ValueError(f"events must be above 0, got {events:g}")
    if not 0.0 < allocation < 1.0:
        raise ValueError(f"allocation must lie between 0 and 1, got {allocation:g}")
    return 1.0 / sqrt(events * allocation * (1.0 - allocation))
