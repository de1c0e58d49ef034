"""Simulated against published: digitised curves and targets with their z-scores.

Reads survival data that others published, and holds the numbers of a run
against those of a trial. It decides nothing about whether they agree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.cohort import endpoint_times
from analysis.comparison.cox import cox
from analysis.comparison.risk import Sample, pack, rank_ticks
from analysis.survival import fit_kaplan_meier
from sim.assessment import PD, PR, TICK
from sim.cohort import Cohort
from sim.errors import ScenarioError
from sim.scenario import Scenario
from sim.target import Measure, Target, planned_stop, read_measure

__all__ = [
    "Score",
    "compare_targets",
    "published_curves",
    "read_published",
    "score_arms",
    "simulated_result",
]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

COLUMNS = ("trial", "arm", "endpoint", "time_months", "event")
MEMORY_TOLERANCE = 3.0
"""Factor on the tolerance of a published value that was recalled and not read again."""

BEYOND = 3.0
"""A z that is a misfit whatever the others do."""

NORMAL_95 = 1.959964
"""Half the length of a 95 % interval in standard errors."""


class Trial(Protocol):
    """What hazard ratios of a published trial have in common, as configured."""

    control: str
    follow_up: float


def read_published(file: str, trial: str) -> pd.DataFrame:
    """Rows of one trial in a file of published survival data.

    Parameters
    ----------
    file : str
        Name of a file that ships in ``configs/reference``, or a path.
    trial : str
        Name in the column `trial`.

    Returns
    -------
    DataFrame
        trial, arm, endpoint, time_months, event (and whatever else the file has).

    Raises
    ------
    ScenarioError
        If the file, a column or the trial is not there.
    """
    shipped = files("configs") / "reference" / file
    path = Path(str(shipped)) if shipped.is_file() else Path(file)
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise ScenarioError(f"reference.file: cannot read '{file}': {error}") from error
    missing = [column for column in COLUMNS if column not in table.columns]
    if missing:
        raise ScenarioError(f"reference.file: '{file}' has no column {', '.join(missing)}")
    rows = table[table["trial"] == trial]
    if rows.empty:
        known = ", ".join(sorted(table["trial"].unique()))
        raise ScenarioError(f"reference.trial: no trial '{trial}' in '{file}'. Known: {known}.")
    return rows


def published_curves(table: pd.DataFrame, arms: Mapping[str, str]) -> pd.DataFrame:
    """Kaplan-Meier curves of published arms, under the names of the strategies they match.

    Parameters
    ----------
    table : DataFrame
        As from `read_published`.
    arms : mapping
        Strategy to the name of its arm in the table.

    Returns
    -------
    DataFrame
        The columns of ``curves.csv``.

    Raises
    ------
    ScenarioError
        If an arm is not in the table.
    """
    curves = []
    for strategy, arm in arms.items():
        rows = table[table["arm"] == arm]
        if rows.empty:
            known = ", ".join(sorted(table["arm"].unique()))
            raise ScenarioError(f"reference.arms.{strategy}: no arm named '{arm}'. Known: {known}.")
        for endpoint, part in rows.groupby("endpoint"):
            time = part["time_months"].to_numpy(dtype=np.float64)
            event = part["event"].to_numpy() == 1
            curve = fit_kaplan_meier(time, event).table(np.array([time.max()]))
            curve.insert(0, "arm", strategy)
            curve.insert(1, "endpoint", str(endpoint).lower())
            curves.append(curve)
    return pd.concat(curves, ignore_index=True)


def compare_targets(
    targets: Sequence[Target], cohort: Cohort, scenario: Scenario, trial: Trial | None = None
) -> pd.DataFrame:
    """Hold simulated results against published ones.

    z is (simulated - published) over the root of the summed squares of the
    published standard error, the tolerance and the Monte Carlo error. Where none is given, the
    standard error of a proportion is binomial with the published n, and that
    of a median is that of an exponential sample of that size, ``m / (ln 2 sqrt(n))``.
    Values recalled and not read again get three times the tolerance. Hazard ratios are compared
    on the log scale, their standard error taken from the published 95 % interval.

    Parameters
    ----------
    targets : sequence of Target
        Published results, checked by `sim.target.check_targets`.
    cohort : Cohort
        Simulated patients.
    scenario : Scenario
        That of the cohort.
    trial : Trial, optional
        Whose control and follow-up hazard ratios have unless a target says otherwise.

    Returns
    -------
    DataFrame
        strategy, measure, stratum, published, simulated, standard_error, tolerance,
        mc_error, z, source, where, checked. Errors and tolerances of hazard ratios are
        those of their logarithms.
    """
    rows = []
    for target in targets:
        measure = read_measure(target.measure)
        assert measure is not None
        simulated, mc_error = simulated_result(target, cohort, scenario, trial)
        ratio = measure.kind == "hazard_ratio"
        distance = np.log(simulated / target.value) if ratio else simulated - target.value
        error = standard_error(target, measure)
        tolerance = target.tolerance * (MEMORY_TOLERANCE if target.checked == "memory" else 1.0)
        rows.append(
            {
                "strategy": target.strategy,
                "measure": target.measure,
                "stratum": target.stratum,
                "published": target.value,
                "simulated": simulated,
                "standard_error": error,
                "tolerance": tolerance,
                "mc_error": mc_error,
                "z": float(distance) / float(np.sqrt(error**2 + tolerance**2 + mc_error**2)),
                "source": target.source,
                "where": target.where,
                "checked": target.checked,
            }
        )
    return pd.DataFrame(rows)


@dataclass(frozen=True, slots=True)
class Score:
    """How well an arm agrees with what was published of it."""

    strategy: str
    rms: float
    """Root mean square z of all its targets."""

    rms_read: float
    """The same of those that were not recalled."""

    n_read: int
    n_beyond: int
    """Targets, of those that were not recalled, with z beyond 3."""


def score_arms(table: pd.DataFrame) -> list[Score]:
    """Scores of each strategy in a table of `compare_targets`, in its order.

    A target that the simulation does not reach (z is infinite) counts as beyond 3 and makes the
    root mean square infinite.
    """
    scores = []
    for name, rows in table.groupby("strategy", sort=False):
        read = rows.loc[rows["checked"] != "memory", "z"]
        scores.append(
            Score(
                strategy=str(name),
                rms=float(np.sqrt(np.mean(rows["z"] ** 2))),
                rms_read=float(np.sqrt(np.mean(read**2))) if len(read) else np.nan,
                n_read=len(read),
                n_beyond=int(np.sum(read.abs() > BEYOND)),
            )
        )
    return scores


def simulated_result(
    target: Target, cohort: Cohort, scenario: Scenario, trial: Trial | None = None
) -> tuple[float, float]:
    """What a cohort shows where a target says what was published, and its Monte Carlo error.

    A hazard ratio is that of Cox between the two arms, everyone followed for the months given:
    a trial whose patients enter over time has less follow-up on some. Its error is
    that of independent arms, a little too large since a cohort's arms hold the same patients;
    it and the error of a ratio are on the log scale. Patients who completed are those whose last
    dose is at the planned stop of the ICI.

    Returns
    -------
    estimate, mc_error : float
        The estimate may be infinite (a median that is not reached) or nan (nobody to count);
        the error is then 0.
    """
    measure = read_measure(target.measure)
    assert measure is not None
    s = cohort.strategies.index(target.strategy)
    b = scenario.population.strata.index(target.stratum) if target.stratum else None
    if measure.kind == "hazard_ratio":
        other = target.against or (trial.control if trial else "")
        end = target.follow_up or (trial.follow_up if trial else np.inf)
        return _hazard_ratio(cohort, measure.name, s, cohort.strategies.index(other), b, end)
    if measure.kind == "share":
        return _share(_counted(cohort, scenario, measure.name, s, b))
    if measure.kind == "after_completion":
        sample = _after_completion(cohort, scenario, s, b)
    elif measure.kind == "after":
        sample = _after_progression(cohort, measure.name, s, b)
    else:
        sample = endpoint_times(cohort, measure.name, s, b)
    if len(sample[0]) == 0:
        return np.nan, 0.0
    curve = fit_kaplan_meier(*sample)
    if np.isfinite(measure.month):
        estimate, lower, upper = (float(x[0]) for x in curve.at(np.array([measure.month])))
    else:
        estimate, lower, upper = curve.median
    error = (upper - lower) / (2.0 * NORMAL_95)
    return estimate, error if np.isfinite(error) else 0.0


def _hazard_ratio(
    cohort: Cohort, endpoint: str, strategy: int, control: int, stratum: int | None, end: float
) -> tuple[float, float]:
    arms = [endpoint_times(cohort, endpoint, s, stratum) for s in (control, strategy)]
    time = np.concatenate([time for time, _ in arms])
    event = np.concatenate([event for _, event in arms]) & (time <= end)
    arm = np.repeat([False, True], [len(time) for time, _ in arms])
    if len(time) == 0:
        return np.nan, 0.0
    tick, months = rank_ticks(np.minimum(time, end))
    fitted = cox(Sample.of(pack(tick[None], event[None], arm[None]), months))
    error = float(fitted.standard_error[0])
    return float(np.exp(fitted.estimate[0])), error if np.isfinite(error) else 0.0


def _stratum_row(
    cohort: Cohort, array: NDArray[Any], strategy: int, stratum: int | None
) -> NDArray[Any]:
    """Values of the patients of a stratum under one strategy, (M,)."""
    member = cohort.stratum >= 0 if stratum is None else cohort.stratum == stratum
    return np.asarray(array[:, strategy][member])


def _counted(
    cohort: Cohort, scenario: Scenario, name: str, strategy: int, stratum: int | None
) -> BoolArray:
    """Whether each patient of whom a share is made is counted in it, (M,)."""
    best = _stratum_row(cohort, cohort.observed.best_response, strategy, stratum)
    if name == "bor_pd":
        return np.asarray(best == PD)
    if name == "orr":
        return np.asarray(best <= PR)
    completed = _completed(cohort, scenario, strategy, stratum)
    return completed if name == "completed" else np.asarray(best[completed] <= PR)


def _share(member: BoolArray) -> tuple[float, float]:
    if len(member) == 0:
        return np.nan, 0.0
    share = float(np.mean(member))
    return share, float(np.sqrt(share * (1.0 - share) / len(member)))


def _stop(scenario: Scenario, strategy: int) -> float:
    blockers = [agent.name for agent in scenario.agents if agent.checkpoint_inhibitor]
    return planned_stop(scenario.strategies[strategy].doses, blockers)


def _completed(cohort: Cohort, scenario: Scenario, strategy: int, stratum: int | None) -> BoolArray:
    last = _stratum_row(cohort, cohort.observed.last_dose, strategy, stratum)
    return np.asarray(last >= _stop(scenario, strategy) - TICK)


def _after_completion(
    cohort: Cohort, scenario: Scenario, strategy: int, stratum: int | None
) -> tuple[FloatArray, BoolArray]:
    """Survival from the planned stop, of those who reached it on treatment."""
    completed = _completed(cohort, scenario, strategy, stratum)
    time, event = endpoint_times(cohort, "os", strategy, stratum)
    length = time[completed] - _stop(scenario, strategy)
    return np.maximum(length, TICK), event[completed]


def _after_progression(
    cohort: Cohort, next_line: str, strategy: int, stratum: int | None
) -> tuple[FloatArray, BoolArray]:
    """Survival from observed progression, of those who had one next line."""
    line = _stratum_row(cohort, cohort.next_line, strategy, stratum)
    start = _stratum_row(cohort, cohort.observed.progression_time, strategy, stratum)
    time, event = endpoint_times(cohort, "os", strategy, stratum)
    member = (line == cohort.next_lines.index(next_line)) & (start < time)
    return time[member] - start[member], event[member]


def standard_error(target: Target, measure: Measure) -> float:
    """Sampling error of a published result; of the logarithm for a hazard ratio."""
    if target.standard_error is not None:
        return target.standard_error
    if measure.kind == "hazard_ratio":
        lower, upper = target.interval
        return float(np.log(upper / lower) / (2.0 * NORMAL_95))
    if measure.fraction:
        return float(np.sqrt(target.value * (1.0 - target.value) / target.n))
    return float(target.value / (np.log(2.0) * np.sqrt(target.n)))
