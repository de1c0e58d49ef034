"""A scenario with every kind of strategy, on the default population."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import pytest

from sim import Cohort, Scenario
from sim.assessment import Observed
from sim.hazard import WeibullClock
from sim.scenario import Agent, Dose, NextLine, Strategy, ToxicityHazard

BACKBONE, CHEMOTHERAPY, BLOCKER, PRIMER = "backbone", "chemotherapy", "blocker", "primer"


@dataclass(frozen=True)
class Toolbox:
    """The scenario, and how to change it and to read its cohorts."""

    scenario: Scenario

    def treat(self, *agents: str | Dose, name: str = "", **changes) -> Strategy:
        """A strategy of agents given from the start, or of doses."""
        doses = tuple(Dose(a) if isinstance(a, str) else a for a in agents)
        name = name or "_".join(dose.agent for dose in doses)
        return Strategy(name=name, label=name, family="test", doses=doses, **changes)

    def with_strategies(self, *strategies: Strategy) -> Scenario:
        return replace(self.scenario, strategies=strategies)

    @staticmethod
    def change_agents(scenario: Scenario, **changes: dict) -> Scenario:
        """The scenario with fields of some agents replaced."""
        agents = tuple(
            replace(agent, **changes[agent.name]) if agent.name in changes else agent
            for agent in scenario.agents
        )
        return replace(scenario, agents=agents)

    @staticmethod
    def outcomes(cohort: Cohort, strategy: str, *, observed: bool = True) -> dict[str, np.ndarray]:
        """Every array of one strategy, codes replaced by the names they stand for."""
        s = cohort.strategies.index(strategy)
        found = {"stratum": cohort.stratum}
        for item in fields(cohort):
            value = getattr(cohort, item.name)
            if isinstance(value, np.ndarray) and item.name != "stratum":
                found[item.name] = value[:, s]
        found["cause"] = np.array([*cohort.causes, "none"])[found["cause"]]
        found["next_line"] = np.array([*cohort.next_lines, "none"])[found["next_line"]]
        if observed:
            for item in fields(Observed):
                found[f"observed.{item.name}"] = getattr(cohort.observed, item.name)[:, s]
        return found

    @staticmethod
    def assert_same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
        assert one.keys() == other.keys()
        for name, value in one.items():
            assert np.array_equal(value, other[name]), f"{name} moved"


@pytest.fixture(scope="session")
def toolbox(default_run) -> Toolbox:
    scenario = default_run.scenario
    strata = len(scenario.population.strata)
    population = replace(
        scenario.population,
        acquired=WeibullClock(np.full(strata, 1.1), np.full(strata, 12.0), 0.7),
        frailty_sd=0.3,
    )
    count = len(population.mechanisms)
    odd = np.arange(count) % 2
    backbone = scenario.agent(scenario.backbone)
    partner = {"family": "test", "checkpoint_inhibitor": False, "activity": None}
    agents = (
        replace(
            backbone,
            name=BACKBONE,
            reversal=np.where(odd, 0.1, 0.3),
            hazard_ratio=np.ones(count),
            discontinuation=ToxicityHazard(0.02, 0.004, 6.0),
            fatal=ToxicityHazard(0.002, 0.0002, 4.0),
        ),
        replace(
            next(agent for agent in scenario.agents if agent.activity is not None),
            name=CHEMOTHERAPY,
            reversal=np.where(odd, 0.15, 0.0),
        ),
        Agent(
            **partner,
            name=BLOCKER,
            label="blocker",
            reversal=np.where(odd, 0.5, 0.0),
            hazard_ratio=np.where(odd, 0.5, 0.9),
            response=0.1,
            durability=0.15,
            onset=1.0,
            discontinuation=ToxicityHazard(0.03, 0.01, 3.0),
        ),
        Agent(
            **partner,
            name=PRIMER,
            label="primer",
            reversal=np.full(count, 0.25),
            hazard_ratio=np.where(odd, 1.0, 0.7),
            growth_ratio=0.7,
            fatal=ToxicityHazard(0.003, 0.0, 2.0),
        ),
    )
    lines = (
        NextLine("continue_beyond_progression", 0.2, 1.0),
        NextLine("local_ablation", 0.15, 0.7, "oligoprogression"),
        NextLine("rechallenge", 0.15, 1.0, "off_treatment", 0.3, 3.7),
        NextLine("matched_switch", 0.1, 0.6, matched=population.mechanisms[:2]),
        NextLine("switch", 0.4, 0.9),
    )
    box = Toolbox(scenario)
    first, second = population.mechanisms[1], population.mechanisms[2]
    strategies = (
        box.treat(Dose(BACKBONE, stop=24.0), name="alone"),
        box.treat(CHEMOTHERAPY, name="control", crossover=0.5),
        box.treat(Dose(BACKBONE, stop=24.0), CHEMOTHERAPY, name="with_chemotherapy"),
        box.treat(BACKBONE, Dose(BLOCKER, stop=12.0), PRIMER, name="triple"),
        box.treat(
            BACKBONE, CHEMOTHERAPY, PRIMER, name="synergistic", rule="synergy", psi=0.8
        ),
        box.treat(BACKBONE, Dose(PRIMER, at_progression=True), name="added_later"),
        box.treat(BACKBONE, Dose(BLOCKER, start=4.0, stop=10.0), name="maintenance"),
        box.treat(
            BACKBONE, Dose(BLOCKER, matched=(first,)), Dose(PRIMER, matched=(second,)),
            name="tailored", sensitivity=0.9, specificity=0.8,
        ),
    )  # fmt: skip
    return Toolbox(
        Scenario(
            population=population,
            agents=agents,
            strategies=strategies,
            course=replace(scenario.course, next_lines=lines),
            assessment=scenario.assessment,
            coupling=scenario.coupling,
            backbone=BACKBONE,
        )
    )
