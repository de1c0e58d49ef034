"""Published trials fitted together: what they share, and how much trials differ.

One trial cannot say how long benefit lasts, or how many have it for good; eight
can say more. Every trial keeps parameters of its own, which scatter about means
that depend on PD-L1, on the line of treatment and on the kind of chemotherapy.
Means, scatter and the trials' own parameters are estimated together (the most
probable values, with the scatter by expectation-maximisation), so that a
prediction for a new trial carries the error of the means and the scatter between
trials.

Curves come from `sim.expected`. Which numbers are free is written down here and
nowhere else.

References
----------
.. [1] Dempster, Laird & Rubin (1977), Journal of the Royal Statistical Society B 39:1-38.
.. [2] Higgins, Thompson & Spiegelhalter (2009), Journal of the Royal Statistical Society A
   172:137-159, on predicting the result of a new trial.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from analysis.calibration import (
    PublishedValue,
    SurvivalRows,
    expected_curve,
    value_residual,
)
from analysis.least_squares import Block, Fit, Priors, fit
from sim.expected import ExpectedArm, expected_arm
from sim.parameter import Parameter
from sim.scenario import Scenario

__all__ = [
    "HYPERPRIORS",
    "KINDS",
    "Crossing",
    "Kind",
    "NewTrial",
    "Pool",
    "PooledMeans",
    "Result",
    "Tied",
    "Trial",
    "draw_new_trial",
    "estimated_scatter",
    "new_trial",
    "pool_trials",
    "tied_parameters",
]

FloatArray = NDArray[np.float64]

POINTS = 128
"""Lattice points in a class of patients while pooling."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A number that trials have each their own of."""

    group: str
    """Of kinds that scatter alike."""

    path: str
    """Of the configuration, with the stratum or the agent left open."""

    scale: str


KINDS: Mapping[str, Kind] = {
    "primary": Kind("share", "population.strata.{stratum}.primary", "logit"),
    "responding": Kind("share", "population.strata.{stratum}.responding", "logit"),
    "durable_responding": Kind(
        "durable", "population.strata.{stratum}.durable_responding", "logit"
    ),
    "durable_controlled": Kind(
        "durable", "population.strata.{stratum}.durable_controlled", "logit"
    ),
    "acquired_scale": Kind("clock", "population.acquired.scale", "log"),
    "acquired_shape": Kind("shape", "population.acquired.shape", "log"),
    "controlled_ratio": Kind("clock", "population.controlled_ratio", "log"),
    "frailty_sd": Kind("clock", "population.frailty_sd", "log"),
    "tumour_death": Kind("death", "course.tumour_death_hazard", "log"),
    "background_early": Kind("background", "course.background.hazard.0", "log"),
    "background_late": Kind("background", "course.background.hazard.1", "log"),
    "refractory": Kind("activity_share", "agents.{agent}.activity.refractory", "logit"),
    "activity_responding": Kind("activity_share", "agents.{agent}.activity.responding", "logit"),
    "activity_scale": Kind("activity_clock", "agents.{agent}.activity.scale", "log"),
    "activity_shape": Kind("shape", "agents.{agent}.activity.shape", "log"),
    "activity_ratio": Kind("activity_clock", "agents.{agent}.activity.controlled_ratio", "log"),
    "activity_frailty": Kind("activity_clock", "agents.{agent}.activity.frailty_sd", "log"),
    "joint_response": Kind("activity_share", "agents.{agent}.activity.joint_response", "logit"),
    "activity_death": Kind("death", "agents.{agent}.activity.tumour_death_hazard", "log"),
    "activity_early": Kind("background", "agents.{agent}.activity.background_hazard.0", "log"),
    "activity_late": Kind("background", "agents.{agent}.activity.background_hazard.1", "log"),
}
"""Free numbers, by name."""

SCATTER: Mapping[str, float] = {
    "share": 0.35, "durable": 0.35, "clock": 0.2, "shape": 0.08, "death": 0.25,
    "background": 0.4, "activity_share": 0.3, "activity_clock": 0.2, "own": 0.5,
}  # fmt: skip
"""Between-trial standard deviations to start from; each has the weight of four values."""

SCATTER_WEIGHT = 4.0

CLASSES: Mapping[str, Mapping[str, float]] = {
    "tps_high": {"high": 1.0},
    "tps_low": {"low": 1.0},
    "tps_negative": {"negative": 1.0},
    "pdl1_positive": {"high": 0.5, "low": 0.5},
    "pdl1_negative": {"negative": 1.0},
    "all": {"high": 0.27, "low": 0.26, "negative": 0.47},
}
"""What strata are made of: shares of PD-L1 classes; those of everybody from EXPRESS."""

LINES = ("first", "later", "after_ici")

PER_CLASS: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "primary": {"high": (-0.9, 0.7), "low": (-0.4, 0.7), "negative": (-0.1, 0.7),
                "later": (0.7, 0.6), "after_ici": (1.0, 0.8)},
    "responding": {"high": (0.5, 0.6), "low": (-0.5, 0.6), "negative": (-0.8, 0.6),
                   "later": (-0.5, 0.6), "after_ici": (-1.0, 0.8)},
    "durable_responding": {"high": (-0.3, 0.5), "low": (-0.8, 0.5), "negative": (-0.9, 0.5),
                           "later": (0.0, 0.4), "after_ici": (-0.5, 0.6)},
    "durable_controlled": {"high": (-1.3, 0.6), "low": (-2.0, 0.6), "negative": (-2.0, 0.6),
                           "later": (0.0, 0.4), "after_ici": (-0.5, 0.6)},
}  # fmt: skip
"""Means and standard deviations, on the logit scale, of the means by class and of what a later
line adds: weak, about the starting values."""

SHARED: Mapping[str, tuple[float, float]] = {
    "acquired_scale": (np.log(14.0), 0.4), "acquired_shape": (np.log(1.15), 0.12),
    "controlled_ratio": (np.log(3.0), 0.35), "frailty_sd": (np.log(0.3), 0.5),
    "joint_response": (-1.5, 0.8),
}  # fmt: skip

BY_LINE: Mapping[str, tuple[float, float]] = {
    "tumour_death": (np.log(0.025), 0.4), "background_early": (np.log(0.018), 0.5),
    "background_late": (np.log(0.006), 0.4),
}  # fmt: skip

CHEMOTHERAPY: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "platinum": {
        "refractory": (-1.0, 0.6), "activity_responding": (-0.8, 0.5),
        "activity_scale": (np.log(7.0), 0.3), "activity_shape": (np.log(1.55), 0.12),
        "activity_ratio": (np.log(3.0), 0.35), "activity_frailty": (np.log(0.45), 0.4),
        "activity_death": (np.log(0.045), 0.4), "activity_early": (np.log(0.028), 0.5),
        "activity_late": (np.log(0.005), 0.4),
    },
    "docetaxel": {
        "refractory": (-0.7, 0.6), "activity_responding": (-1.2, 0.5),
        "activity_scale": (np.log(6.0), 0.3), "activity_shape": (np.log(1.5), 0.12),
        "activity_ratio": (np.log(1.9), 0.35), "activity_frailty": (np.log(0.6), 0.4),
        "activity_death": (np.log(0.04), 0.4), "activity_early": (np.log(0.06), 0.5),
        "activity_late": (np.log(0.01), 0.4),
    },
}  # fmt: skip


def _hyperpriors() -> dict[str, tuple[float, float]]:
    priors: dict[str, tuple[float, float]] = {}
    for kind, parts in PER_CLASS.items():
        priors |= {f"{kind}/{part}": prior for part, prior in parts.items()}
    priors |= {f"{kind}/mean": prior for kind, prior in SHARED.items()}
    for kind, prior in BY_LINE.items():
        priors |= {f"{kind}/mean": prior, f"{kind}/later": (0.2, 0.4)}
    for chemotherapy, parts in CHEMOTHERAPY.items():
        priors |= {f"{kind}/{chemotherapy}": prior for kind, prior in parts.items()}
    return priors


HYPERPRIORS: Mapping[str, tuple[float, float]] = _hyperpriors()
"""Mean and standard deviation of each mean that trials share, on its scale."""


@dataclass(frozen=True, slots=True)
class Tied:
    """A trial's own number and the means about which it scatters."""

    parameter: Parameter
    kind: str
    group: str
    means: Mapping[str, float]
    """Weights of the shared means; empty where the number is the trial's alone."""


def tied_parameters(
    line: str,
    strata: Mapping[str, Mapping[str, float]],
    immune: bool,
    active: Mapping[str, str],
    joint: bool,
) -> list[Tied]:
    """The free numbers of a trial.

    Parameters
    ----------
    line : str
        `first`, `later` or `after_ici`.
    strata : mapping
        Shares of PD-L1 classes of each stratum.
    immune : bool
        Whether an arm has an ICI, or patients cross over to one.
    active : mapping
        Agents with activity: name to `platinum` or `docetaxel`.
    joint : bool
        Whether such an agent is given with an ICI.
    """
    later = line != "first"
    found: list[Tied] = []

    def add(kind: str, means: Mapping[str, float], **where: str) -> None:
        path = KINDS[kind].path.format(**where)
        named = {f"{kind}/{part}": weight for part, weight in means.items()}
        middle = sum(HYPERPRIORS[name][0] * weight for name, weight in named.items())
        scale = KINDS[kind].scale
        value = float(np.exp(middle) if scale == "log" else 1.0 / (1.0 + np.exp(-middle)))
        own = "/".join([kind, *where.values()])
        parameter = Parameter(own, path, scale, value, 1.0)
        found.append(Tied(parameter, kind, KINDS[kind].group, named))

    if immune:
        for stratum, classes in strata.items():
            extra = {line: 1.0} if later else {}
            for kind in PER_CLASS:
                add(kind, {**classes, **extra}, stratum=stratum)
        for kind in SHARED:
            if kind != "joint_response":
                add(kind, {"mean": 1.0})
        for kind in BY_LINE:
            add(kind, {"mean": 1.0, **({"later": 1.0} if later else {})})
    for agent, chemotherapy in active.items():
        for kind in CHEMOTHERAPY[chemotherapy]:
            add(kind, {chemotherapy: 1.0}, agent=agent)
        if joint:
            add("joint_response", {"mean": 1.0}, agent=agent)
    return found


@dataclass(frozen=True, slots=True)
class Result:
    """A published number of a trial."""

    strategy: str
    against: str
    stratum: int | None
    published: PublishedValue


@dataclass(frozen=True, slots=True)
class Crossing:
    """Curves of which the control's is to be ahead at some month."""

    strategy: str
    against: str
    stratum: int | None
    endpoint: str
    month: float

    def residual(self, arm: ExpectedArm, control: ExpectedArm) -> float:
        """Nil where the control is ahead by enough to be seen, else what is missing of that."""
        month = np.array([self.month])
        ahead = expected_curve(control, self.endpoint, month) - expected_curve(
            arm, self.endpoint, month
        )
        return min(float(ahead[0]) - AHEAD, 0.0) / AHEAD_SD


AHEAD, AHEAD_SD = 0.03, 0.01
"""By how much a curve is ahead that is drawn as such, and how sternly a fit is asked for it: the
size is an assumption, the sign is published."""


@dataclass(frozen=True)
class Trial:
    """A published trial."""

    name: str
    tied: tuple[Tied, ...]
    own: tuple[Tied, ...]
    """Numbers that no other trial shares, with priors of their own."""
    scenario: Callable[[Sequence[float]], Scenario]
    """From the values of all of these, `tied` first."""
    strategies: tuple[str, ...]
    results: tuple[Result, ...]
    crossings: tuple[Crossing, ...] = ()
    curves: tuple[tuple[str, SurvivalRows], ...] = ()
    """Digitised curves of arms, with the name of the strategy."""

    @property
    def parameters(self) -> tuple[Tied, ...]:
        """All free numbers."""
        return (*self.tied, *self.own)

    def arms(self, free: FloatArray, n_points: int = POINTS) -> dict[str, ExpectedArm]:
        """The arms at values of the parameters on their scales."""
        values = [t.parameter.value(x) for t, x in zip(self.parameters, free, strict=True)]
        scenario = self.scenario(values)
        return {name: expected_arm(scenario, name, n_points) for name in self.strategies}

    def residuals(self, free: FloatArray) -> FloatArray:
        """Expected less published results in standard errors."""
        arms = self.arms(free)
        parts: dict[tuple[str, int | None], ExpectedArm] = {}

        def part(name: str, stratum: int | None) -> ExpectedArm:
            key = (name, stratum)
            if key not in parts:
                parts[key] = arms[name] if stratum is None else arms[name].of_stratum(stratum)
            return parts[key]

        found = []
        for result in self.results:
            control = part(result.against, result.stratum) if result.against else None
            found.append(
                value_residual(part(result.strategy, result.stratum), result.published, control)
            )
        for name, rows in self.curves:
            found += rows.residuals(expected_curve(arms[name], rows.endpoint, rows.edges)).tolist()
        for crossing in self.crossings:
            arm = part(crossing.strategy, crossing.stratum)
            found.append(crossing.residual(arm, part(crossing.against, crossing.stratum)))
        # A curve that ends before a median is no reason to stop searching.
        return np.clip(
            np.nan_to_num(np.array(found), nan=10.0, posinf=10.0, neginf=-10.0), -15.0, 15.0
        )


@dataclass(frozen=True)
class Pool:
    """Trials fitted together."""

    trials: tuple[Trial, ...]
    means: tuple[str, ...]
    """Names of the shared means."""
    scatter: Mapping[str, float]
    """Between-trial standard deviation of each group, on the scale of its numbers."""
    fit: Fit

    @property
    def n_own(self) -> int:
        """How many of the fitted numbers belong to trials; the means follow them."""
        return len(self.fit.x) - len(self.means)

    def of_trial(self, name: str) -> FloatArray:
        """Numbers of a trial, on their scales."""
        begin = 0
        for trial in self.trials:
            if trial.name == name:
                return self.fit.x[begin : begin + len(trial.parameters)]
            begin += len(trial.parameters)
        raise KeyError(name)

    @property
    def mean_values(self) -> FloatArray:
        """The shared means."""
        return self.fit.x[self.n_own :]

    @property
    def mean_covariance(self) -> FloatArray:
        """Of the shared means."""
        return self.fit.covariance[self.n_own :, self.n_own :]


def pool_trials(
    trials: Sequence[Trial],
    start: Mapping[str, FloatArray] | None = None,
    start_means: Mapping[str, float] | None = None,
    scatter: Mapping[str, float] = SCATTER,
    rounds: int = 3,
    tolerance: float = 1e-4,
    told: Callable[[str], None] = lambda line: None,
) -> Pool:
    """Fit trials together.

    Parameters
    ----------
    trials : sequence of Trial
    start : mapping, optional
        Values on their scales to begin from, by trial.
    start_means : mapping, optional
        The same of the shared means, by name.
    scatter : mapping
        Between-trial standard deviations to begin from.
    rounds : int, default 3
        Of fitting and of estimating the scatter.
    tolerance : float, default 1e-4
        Relative change of the objective at which the last round ends.
    told : callable, optional
        Told a line after each round.

    Returns
    -------
    Pool
    """
    means = tuple(HYPERPRIORS)
    own = [t for trial in trials for t in trial.parameters]
    x = np.concatenate(
        [
            *(
                start[trial.name]
                if start is not None and trial.name in start
                else [t.parameter.free(t.parameter.mean) for t in trial.parameters]
                for trial in trials
            ),
            [(start_means or {}).get(name, HYPERPRIORS[name][0]) for name in means],
        ]
    )
    blocks = list(_blocks(trials))
    sd = dict(scatter)
    found: Fit | None = None
    for turn in range(rounds):
        found = fit(
            blocks, _priors(own, means, sd), x, tolerance=1e-3 if turn < rounds - 1 else tolerance
        )
        x = found.x
        told(
            f"round {turn + 1}: deviance {found.deviance:.1f} of {len(found.jacobian)} results, "
            f"penalty {found.penalty:.1f}"
        )
        if turn < rounds - 1:
            sd = _scatter(own, means, found, scatter)
    assert found is not None
    return Pool(tuple(trials), means, sd, found)


def estimated_scatter(pool: Pool, prior: Mapping[str, float] = SCATTER) -> dict[str, float]:
    """The scatter that the fitted numbers of a pool ask for: one more turn of its estimation."""
    own = [t for trial in pool.trials for t in trial.parameters]
    return _scatter(own, pool.means, pool.fit, prior)


def _blocks(trials: Sequence[Trial]) -> Iterator[Block]:
    begin = 0
    for trial in trials:
        count = len(trial.parameters)
        yield Block(np.arange(begin, begin + count), trial.residuals)
        begin += count


def _priors(own: Sequence[Tied], means: Sequence[str], scatter: Mapping[str, float]) -> Priors:
    """Trials' numbers about the shared means, and the means about their priors."""
    total = len(own) + len(means)
    weights, centres = np.zeros((total, total)), np.zeros(total)
    for i, tied in enumerate(own):
        sd = scatter[tied.group] if tied.means else tied.parameter.sd
        weights[i, i] = 1.0 / sd
        for name, weight in tied.means.items():
            weights[i, len(own) + means.index(name)] = -weight / sd
        if not tied.means:
            centres[i] = tied.parameter.free(tied.parameter.mean) / sd
    for j, name in enumerate(means):
        middle, sd = HYPERPRIORS[name]
        weights[len(own) + j, len(own) + j] = 1.0 / sd
        centres[len(own) + j] = middle / sd
    return Priors(weights, centres)


def _scatter(
    own: Sequence[Tied], means: Sequence[str], found: Fit, prior: Mapping[str, float]
) -> dict[str, float]:
    """Expected squares of the departures from the means, with the weight of the start."""
    covariance = found.covariance
    squares: dict[str, list[float]] = {}
    for i, tied in enumerate(own):
        if not tied.means:
            continue
        row = np.zeros(len(found.x))
        row[i] = 1.0
        for name, weight in tied.means.items():
            row[len(own) + means.index(name)] -= weight
        square = float(row @ found.x) ** 2 + float(row @ covariance @ row)
        squares.setdefault(tied.group, []).append(square)
    sd = dict(prior)
    for group, values in squares.items():
        total = SCATTER_WEIGHT * prior[group] ** 2 + sum(values)
        sd[group] = float(np.sqrt(total / (SCATTER_WEIGHT + len(values))))
    return sd


# ---------------------------------------------------------------- a trial to come


@dataclass(frozen=True)
class PooledMeans:
    """What a pool knows of the next trial: all that a prediction needs of it."""

    names: tuple[str, ...]
    values: FloatArray
    """Shared means on their scales, (K,)."""
    covariance: FloatArray
    """Of their estimates, (K, K)."""
    scatter: Mapping[str, float]
    """Between-trial standard deviation of each group."""
    trials: Mapping[str, Mapping[str, float]]
    """Trials of the pool and their own numbers, on their scales, by name."""
    note: str
    """What was fitted, and when."""

    @classmethod
    def of(cls, pool: Pool, note: str = "") -> PooledMeans:
        """What is kept of a fitted pool."""
        trials = {
            trial.name: {
                tied.parameter.name: float(x)
                for tied, x in zip(trial.parameters, pool.of_trial(trial.name), strict=True)
            }
            for trial in pool.trials
        }
        return cls(
            pool.means, pool.mean_values, pool.mean_covariance, dict(pool.scatter), trials, note
        )

    @classmethod
    def read(cls, path: Path | Traversable) -> PooledMeans:
        """A stored pool.

        Raises
        ------
        ValueError
            If means and covariance are not of one size, or the covariance is none.
        """
        kept = json.loads(path.read_text(encoding="utf-8"))
        covariance = np.array(kept["covariance"], dtype=np.float64)
        values = np.array(list(kept["means"].values()), dtype=np.float64)
        if covariance.shape != (len(values), len(values)):
            raise ValueError(f"{len(values)} means, covariance of shape {covariance.shape}")
        if not np.all(np.linalg.eigvalsh(covariance) > 0.0):
            raise ValueError("the covariance of the means is not positive definite")
        return cls(
            tuple(kept["means"]), values, covariance, kept["scatter"], kept["trials"], kept["note"]
        )

    def write(self, path: Path) -> None:
        """Store as JSON, with nine significant digits."""
        digits = [[float(f"{x:.9g}") for x in row] for row in self.covariance.tolist()]
        kept = {
            "note": self.note,
            "means": {n: float(f"{x:.9g}") for n, x in zip(self.names, self.values, strict=True)},
            "scatter": {group: float(f"{sd:.9g}") for group, sd in self.scatter.items()},
            "trials": {
                trial: {name: float(f"{x:.9g}") for name, x in own.items()}
                for trial, own in self.trials.items()
            },
            "covariance": digits,
        }
        path.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class NewTrial:
    """The numbers of a trial that has not been seen: normal on their scales."""

    centre: FloatArray
    """(P,)."""
    calibration: FloatArray
    """Covariance from the error of the shared means, (P, P)."""
    between: FloatArray
    """Variance from the scatter between trials, (P,)."""
    alone: FloatArray
    """Variance of the priors of numbers that no other trial shares, (P,); nil for the others."""


def new_trial(means: PooledMeans, parameters: Sequence[Tied]) -> NewTrial:
    """What the pool says of a trial to come.

    Parameters
    ----------
    means : PooledMeans
    parameters : sequence of Tied
        Of the new trial. Numbers with no shared means keep their own priors.

    Raises
    ------
    ValueError
        If a mean is not in the pool.
    """
    weights = np.zeros((len(parameters), len(means.names)))
    centre, between, alone = (np.zeros(len(parameters)) for _ in range(3))
    at = {name: j for j, name in enumerate(means.names)}
    for i, tied in enumerate(parameters):
        for name, weight in tied.means.items():
            if name not in at:
                raise ValueError(f"the pool has no mean '{name}'")
            weights[i, at[name]] = weight
        if tied.means:
            between[i] = means.scatter[tied.group] ** 2
        else:
            centre[i] = tied.parameter.free(tied.parameter.mean)
            alone[i] = tied.parameter.sd**2
    centre += weights @ means.values
    return NewTrial(centre, weights @ means.covariance @ weights.T, between, alone)


def draw_new_trial(
    means: PooledMeans,
    parameters: Sequence[Tied],
    scores: FloatArray,
    *,
    calibration: bool = True,
    between: bool = True,
    alone: bool = True,
) -> FloatArray:
    """Values of the numbers of new trials, from standard normal scores.

    Parameters
    ----------
    means : PooledMeans
    parameters : sequence of Tied
        P of them.
    scores : ndarray, shape (D, P)
        Independent standard normal; each draw's are turned into correlated ones by the
        symmetric root of the covariance, so that no parameter comes first.
    calibration, between, alone : bool
        Which of the three sources of uncertainty count; without any, all
        draws are the centre.

    Returns
    -------
    ndarray, shape (D, P)
        On the scales of the parameters.
    """
    trial = new_trial(means, parameters)
    covariance = calibration * trial.calibration + np.diag(
        between * trial.between + alone * trial.alone
    )
    size, axes = np.linalg.eigh(covariance)
    root = (axes * np.sqrt(np.maximum(size, 0.0))) @ axes.T
    return np.asarray(trial.centre + scores @ root)
