"""Published scenarios as trials of the pool: what of each is free, and what was published.

Joins the configuration of a scenario to `analysis.pooling`; it fits nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from analysis.calibration import PublishedValue, SurvivalRows, calibration_rows
from analysis.pooling import CLASSES, Crossing, Result, Tied, Trial, tied_parameters
from analysis.published import MEMORY_TOLERANCE, read_published, standard_error
from sim.command import register_schema
from sim.config import check_run, read_config
from sim.parameter import Parameter, Template
from sim.scenario import Scenario
from sim.schema import CrossingConfig, PublishedConfig, ReferenceConfig, RunConfig, TargetConfig
from sim.sweep.definition import composed
from sim.target import read_measure

__all__ = ["PooledTrial", "pooled_trial", "published_value"]


@dataclass(frozen=True)
class PooledTrial:
    """A published scenario and what the pool is told of it."""

    template: Template
    scenario: Scenario
    published: PublishedConfig
    trial: Trial


def pooled_trial(name: str) -> PooledTrial:
    """Compose a published scenario for the pool.

    Parameters
    ----------
    name : str
        Id or alias of the scenario.

    Raises
    ------
    ScenarioError
        If there is no such scenario or it stands for no published trial.
    """
    register_schema(RunConfig)
    whole = read_config(composed([f"scenario={name}"]))
    scenario = check_run(whole).scenario
    published = whole.published
    if published is None:
        raise ValueError(f"scenario {name} stands for no published trial")
    strata = {s: CLASSES.get(s, CLASSES["all"]) for s in scenario.population.strata}
    active = dict(published.chemotherapy)
    immune = {agent.name for agent in scenario.agents if agent.checkpoint_inhibitor}
    joint = any(
        immune & {dose.agent for dose in s.doses} and active.keys() & {d.agent for d in s.doses}
        for s in scenario.strategies
    )
    tied = tied_parameters(published.line, strata, bool(immune), active, joint)
    own = [
        Tied(Parameter(path, path, free.scale, free.mean, free.sd), path, "own", {})
        for path, free in published.free.items()
    ]
    template = Template(whole, tuple(t.parameter for t in (*tied, *own)))
    results = [_result(t, published.control, scenario) for t in whole.targets]
    trial = Trial(
        name,
        tuple(tied),
        tuple(own),
        template.scenario,
        tuple(s.name for s in scenario.strategies),
        tuple(result for result in results if result is not None),
        tuple(_crossing(crossing, published.control, scenario) for crossing in published.crossings),
        tuple(_curves(whole.reference, scenario)),
    )
    return PooledTrial(template, scenario, published, trial)


def published_value(target: TargetConfig) -> PublishedValue | None:
    """A target with its error and tolerance; None for what has no expected value."""
    measure = read_measure(target.measure)
    assert measure is not None
    if measure.kind == "after":
        return None
    tolerance = target.tolerance * (MEMORY_TOLERANCE if target.checked == "memory" else 1.0)
    error = standard_error(target, measure)
    return PublishedValue(target.measure, target.value, float(np.hypot(error, tolerance)))


def _crossing(crossing: CrossingConfig, control: str, scenario: Scenario) -> Crossing:
    strata = scenario.population.strata
    stratum = strata.index(crossing.stratum) if crossing.stratum else None
    return Crossing(crossing.strategy, control, stratum, crossing.endpoint, crossing.month)


def _curves(reference: ReferenceConfig, scenario: Scenario) -> Iterator[tuple[str, SurvivalRows]]:
    """Digitised curves that the scenario names, as counts by interval."""
    if not reference.file:
        return
    table = read_published(reference.file, reference.trial)
    for strategy, arm in reference.arms.items():
        of_arm = table[table["arm"] == arm]
        curves = {
            str(endpoint).lower(): (
                rows["time_months"].to_numpy(dtype=np.float64),
                rows["event"].to_numpy() == 1,
            )
            for endpoint, rows in of_arm.groupby("endpoint")
        }
        for counts in calibration_rows(curves, scenario.assessment):
            yield strategy, counts


def _result(target: TargetConfig, control: str, scenario: Scenario) -> Result | None:
    value = published_value(target)
    if value is None:
        return None
    against = (target.against or control) if target.measure.startswith("hr_") else ""
    stratum = scenario.population.strata.index(target.stratum) if target.stratum else None
    return Result(target.strategy, against, stratum, value)
