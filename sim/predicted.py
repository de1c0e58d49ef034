"""The trial that a prediction is asked of: a published scenario as if new, or one put together.

A trial of one's own borrows what is not fitted (lags, next lines, toxicity, the
split of resistance among mechanisms) from a published scenario of its line of
treatment; what is fitted comes from the pool. A partner that no trial of the
pool has acts as its agent file says, times an uncertain factor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis.pooling import CLASSES, Tied, Trial, tied_parameters
from sim.catalogue import find_entry
from sim.command import register_schema
from sim.config import check_run, read_config
from sim.errors import ScenarioError, unknown_name
from sim.parameter import Parameter, Template
from sim.pooled import pooled_trial
from sim.scenario import Agent, Scenario
from sim.schema import DoseConfig, RunConfig, SourceConfig, StrategyConfig
from sim.sweep.definition import composed, group_options

__all__ = [
    "LINES",
    "MOST_EFFECT",
    "TREATMENTS",
    "AskedTrial",
    "Design",
    "asked_trial",
    "published_trial",
]

LINES: Mapping[str, tuple[str, str]] = {
    "first": ("keynote189", "keynote189"), "later": ("oak", "oak"),
    "after_ici": ("leap008", "leap008"),
}  # fmt: skip
"""Files of course and of scans that stand for each line."""

TREATMENTS: Mapping[str, str] = {
    "anti_pd1": "pembrolizumab_keynote189", "platinum": "platinum_pemetrexed_keynote189",
    "docetaxel": "docetaxel_oak",
}  # fmt: skip
"""Agent files behind the words of an arm."""

CHEMOTHERAPY = ("platinum", "docetaxel")

LABELS = {"anti_pd1": "anti-PD-1"}

STRATA = {"high": "tps_high", "low": "tps_low", "negative": "tps_negative"}

CYCLES_35 = 24.15
"""Months of 35 cycles of three weeks, the planned end of an ICI in most trials."""

MOST_EFFECT = 2.0
"""A partner acts at most so many times as strongly as its file says."""

EFFECT_SD = 1.5
"""Standard deviation of the logit of half that factor: 80 % of it lies between 0.26 and 1.74."""


@dataclass(frozen=True, slots=True)
class Design:
    """A trial that somebody thinks of."""

    mix: Mapping[str, float]
    """Shares of `high`, `low` and `negative`, adding up to 1."""

    line: str
    experimental: tuple[str, ...]
    """Words of `TREATMENTS`."""

    control: tuple[str, ...]
    crossover: float = 0.0
    """Share of the control arm's detected progressions that are given the ICI."""

    scans: str = ""
    """A file of ``configs/assessment``; that of the line if empty."""


@dataclass(frozen=True)
class AskedTrial:
    """A trial in the form that `analysis.prediction.predict` takes."""

    trial: Trial
    title: str
    experimental: str
    control: str
    labels: Mapping[str, str]
    n: Mapping[str, int]
    """Patients of each arm, where a published trial says so."""

    assumptions: tuple[str, ...]
    """What the pool does not say."""


def published_trial(name: str, partners: Sequence[str] = ()) -> AskedTrial:
    """A published scenario with all its numbers unknown.

    Raises
    ------
    ScenarioError
        If there is no such scenario, or a partner cannot be added.
    """
    try:
        entry = find_entry(name)
    except ScenarioError as error:
        raise ScenarioError(f"trial: {error}") from error
    pooled = pooled_trial(entry.name)
    control = pooled.published.control
    arms = [s for s in pooled.trial.strategies if s != control]
    experimental = arms[0]
    labels = {s.name: s.label for s in pooled.scenario.strategies}
    whole = pooled.template.whole
    told = [f"{entry.alias} is one of the pool's trials: this is no test of the pool."]
    if pooled.published.free:
        told.append("Of numbers that only this trial has, the priors of its file are used.")
    trial = replace(pooled.trial, strategies=(experimental, control), results=())
    for partner in partners:
        trial, label = _with_partner(trial, whole, partner, experimental)
        labels[experimental] += f" + {label}"
        told.append(_partner_words(label))
    return AskedTrial(
        trial,
        pooled.published.title,
        experimental,
        control,
        labels,
        pooled.published.n,
        tuple(told),
    )


def asked_trial(design: Design, partners: Sequence[str] = ()) -> AskedTrial:
    """A trial put together from treatments, line and PD-L1 mix.

    Raises
    ------
    ScenarioError
        If a part of it does not exist or they do not go together.
    """
    _check(design)
    course, scans = LINES[design.line]
    scans = design.scans or scans
    if scans not in group_options("assessment"):
        raise unknown_name(
            "--scans", "file of configs/assessment", scans, group_options("assessment")
        )
    words = dict.fromkeys((*design.experimental, *design.control))
    given = {word: TREATMENTS[word] for word in words}
    given.setdefault("anti_pd1", TREATMENTS["anti_pd1"])
    register_schema(RunConfig)
    whole = read_config(
        composed(
            [
                "scenario=KEYNOTE189",
                f"agent=[{','.join(given.values())}]",
                f"course={course}",
                f"assessment={scans}",
            ]
        )
    )
    strata = {
        STRATA[part]: replace(whole.population.strata[STRATA[part]], prevalence=share)
        for part, share in design.mix.items()
        if share > 0.0
    }
    chosen = {
        "control": _strategy(design.control, design.crossover),
        "experimental": _strategy(design.experimental, 0.0),
    }
    whole = replace(
        whole, published=None, targets=[], backbone=given["anti_pd1"], strategies=chosen,
        population=replace(whole.population, strata=strata),
    )  # fmt: skip
    active = {given[word]: word for word in CHEMOTHERAPY if word in words}
    immune = (
        any("anti_pd1" in arm for arm in (design.experimental, design.control))
        or design.crossover > 0.0
    )
    joint = any(
        "anti_pd1" in arm and set(arm) & set(CHEMOTHERAPY)
        for arm in (design.experimental, design.control)
    )
    classes = {name: CLASSES[name] for name in strata}
    tied = tuple(tied_parameters(design.line, classes, immune, active, joint))
    template = Template(whole, tuple(t.parameter for t in tied))
    trial = Trial("new", tied, (), template.scenario, ("experimental", "control"), ())
    check_run(whole)
    told = [
        f"Lags, next lines, toxicity and the split among mechanisms are those of files of {course}."
        + (" Pemetrexed-platinum stands for platinum." if "platinum" in words else "")
    ]
    labels = {name: " + ".join(LABELS.get(word, word) for word in arm) for name, arm in
              (("experimental", design.experimental), ("control", design.control))}  # fmt: skip
    for partner in partners:
        trial, label = _with_partner(trial, whole, partner, "experimental")
        labels["experimental"] += f" + {label}"
        told.append(_partner_words(label))
    title = f"{labels['experimental']} against {labels['control']}, "
    title += f"{design.line.replace('_', ' ')} line"
    title = title.replace("after ici line", "after an ICI")
    return AskedTrial(trial, title, "experimental", "control", labels, {}, tuple(told))


def _check(design: Design) -> None:
    if design.line not in LINES:
        raise unknown_name("--line", "line", design.line, LINES)
    for option, arm in (("--arm", design.experimental), ("--control", design.control)):
        for word in arm:
            if word not in TREATMENTS:
                raise unknown_name(option, "treatment", word, TREATMENTS)
        if len(set(arm)) < len(arm):
            raise ScenarioError(f"{option}: each treatment once, got {'+'.join(arm)}")
        if len(set(arm) & set(CHEMOTHERAPY)) > 1:
            raise ScenarioError(f"{option}: platinum or docetaxel, not both")
    if "anti_pd1" in design.control and design.crossover > 0.0:
        raise ScenarioError("--crossover: the control arm has anti_pd1 already")
    if set(CHEMOTHERAPY) <= {*design.experimental, *design.control}:
        raise ScenarioError("--arm, --control: one kind of chemotherapy in a trial")


def _strategy(words: Sequence[str], crossover: float) -> StrategyConfig:
    doses = {
        TREATMENTS[word]: DoseConfig(stop=CYCLES_35) if word == "anti_pd1" else DoseConfig()
        for word in words
    }
    asked = {"crossover": SourceConfig(source="assumption", where="asked for")}
    return StrategyConfig(
        label=" + ".join(LABELS.get(word, word) for word in words),
        family="Predicted",
        doses=doses,
        crossover=crossover,
        sources=asked,
    )


# ---------------------------------------------------------------- partners


def _partner_words(label: str) -> str:
    return (
        f"{label}: what its agent file says, times a factor between 0 and {MOST_EFFECT:g} "
        "(median 1, 80 % within 0.26 to 1.74). No trial of the pool has it: this part is an "
        "assumption."
    )


def _with_partner(trial: Trial, whole: RunConfig, name: str, arm: str) -> tuple[Trial, str]:
    """The trial with an agent added to an arm; its effect is one more free number."""
    known = [option for option in group_options("agent") if not option.startswith("special")]
    if name not in known:
        raise unknown_name("--add", "agent", name, known)
    register_schema(RunConfig)
    run = read_config(
        composed(
            [
                "scenario=KEYNOTE189",
                f"agent=[pembrolizumab_keynote189,platinum_pemetrexed_keynote189,{name}]",
            ]
        )
    )
    agent = check_run(run).scenario.agent(name)
    if agent.checkpoint_inhibitor or agent.activity is not None:
        raise ScenarioError(f"--add: {name} is no partner; name an ICI or chemotherapy by --arm")
    if name in whole.agents:
        raise ScenarioError(f"--add: {name} is already given")
    doses = whole.strategies[arm].doses
    if not any(whole.agents[dose].checkpoint_inhibitor for dose in doses):
        raise ScenarioError(f"--add: the arm of {name} has no ICI to act with")
    stop = next(d.stop for k, d in doses.items() if whole.agents[k].checkpoint_inhibitor)
    half = Parameter(f"effect/{name}", f"agents.{name}.effect", "logit", 0.5, EFFECT_SD)
    return (
        replace(
            trial,
            own=(*trial.own, Tied(half, "effect", "own", {})),
            scenario=_adding(trial.scenario, agent, arm, stop),
        ),
        agent.label,
    )


def _adding(
    scenario: Callable[[Sequence[float]], Scenario], agent: Agent, arm: str, stop: float
) -> Callable[[Sequence[float]], Scenario]:
    def made(values: Sequence[float]) -> Scenario:
        before = scenario(values[:-1])
        changed = _strengthened(agent, MOST_EFFECT * values[-1])
        strategies = tuple(
            replace(
                s, doses=(*s.doses, replace(s.doses[0], agent=agent.name, start=0.0, stop=stop))
            )
            if s.name == arm
            else s
            for s in before.strategies
        )
        return replace(before, agents=(*before.agents, changed), strategies=strategies)

    return made


def _strengthened(agent: Agent, power: float) -> Agent:
    """An agent that acts so many times as strongly: hazards and chances to fail to the power."""
    return replace(
        agent,
        reversal=1.0 - (1.0 - agent.reversal) ** power,
        hazard_ratio=np.asarray(agent.hazard_ratio) ** power,
        response=1.0 - (1.0 - agent.response) ** power,
        durability=1.0 - (1.0 - agent.durability) ** power,
        growth_ratio=agent.growth_ratio**power,
    )
