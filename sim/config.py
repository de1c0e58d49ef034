"""The gate: from a composed configuration to the frozen types that are simulated.

The only module, beside the commands, that sees OmegaConf. It checks every
number and every name first, each with its path, and hands on arrays. It also
keeps the account of claims: which number is cited to whom, and which citation
is withdrawn because the user replaced the number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from itertools import pairwise
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import numpy as np
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from sim.combination import find_rule
from sim.cut import Condition, CutRule
from sim.definitions import KINDS, Definition
from sim.endpoint.by_name import ENDPOINTS as TRIAL_ENDPOINTS
from sim.errors import ScenarioError, unknown_name
from sim.hazard import Clock, PiecewiseClock, WeibullClock
from sim.override import EVERY
from sim.plan import TrialPlan
from sim.scenario import (
    Activity,
    Agent,
    Assessment,
    Coupling,
    Course,
    Dose,
    NextLine,
    Population,
    Scenario,
    Strategy,
    ToxicityHazard,
)
from sim.schema import (
    ActivityConfig,
    AgentConfig,
    AnalysisConfig,
    AssessmentConfig,
    CourseConfig,
    CutConfig,
    DefinitionConfig,
    EligibilityConfig,
    PopulationConfig,
    PublishedConfig,
    ReferenceConfig,
    RunConfig,
    StrategyConfig,
    TargetConfig,
    ToxicityConfig,
    TrialConfig,
)
from sim.target import check_targets, planned_stop, target_name
from sim.trial import Accrual, Arm, Eligibility, TrialDesign, usual_block_size

__all__ = [
    "CLAIM_GROUPS", "Claim", "Run", "check_change", "check_run", "claims_of", "read_config",
    "read_run",
]  # fmt: skip

CLAIM_GROUPS = (
    "population", "agents", "strategies", "course", "assessment", "coupling", "definitions",
)  # fmt: skip
"""Groups whose files make claims about nature and carry `sources`."""

_SCENARIO_PARTS = (
    "population", "agents", "strategies", "course", "assessment", "coupling", "backbone",
)  # fmt: skip
"""Fields of the configuration of which a scenario is made."""

Built = TypeVar("Built")

COMPARTMENTS = ("intrinsic", "extrinsic")
EARLY_RESPONDER = ("primary", "acquired", "gap")
ENDPOINTS = ("pfs", "os", "duration_of_response", "acquired_resistance")
COUNTED = tuple(name for name, endpoint in TRIAL_ENDPOINTS.items() if endpoint.counted)
"""Endpoints whose events a data cut can wait for."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A number about nature and whose it is."""

    path: str
    value: float
    source: str
    """A key of references.bib, `calibrated`, `assumption`, or `override`."""
    where: str
    checked: str


@dataclass(frozen=True, slots=True)
class Run:
    """A configuration that has been checked."""

    description: str
    seed: int
    n_patients: int
    follow_up: float
    scenario: Scenario
    definitions: tuple[Definition, ...]
    analysis: AnalysisConfig
    targets: tuple[TargetConfig, ...]
    published: PublishedConfig | None
    """The trial for which the scenario stands."""
    reference: ReferenceConfig
    labels: Mapping[str, str]
    """Label of each strategy, mechanism, agent and stratum by name."""
    claims: tuple[Claim, ...]
    n_replicates: int
    n_workers: int
    precision: float | None
    max_replicates: int
    paired_with: str
    estimand_patients: int
    trial: TrialPlan | None
    """A trial to conduct; None for a cohort."""


def read_run(config: DictConfig, overrides: Iterable[str] = ()) -> Run:
    """Check a composed configuration and turn it into what is simulated.

    Parameters
    ----------
    config : DictConfig
        Composed against `RunConfig`.
    overrides : iterable of str
        What the user typed, ``key=value``: claims set there lose their source.

    Returns
    -------
    Run

    Raises
    ------
    ScenarioError
        For the first thing that is wrong: one line with the full path of the
        entry, its value and what is allowed.
    """
    return check_run(read_config(config), overrides)


def read_config(config: DictConfig) -> RunConfig:
    """A composed configuration as plain dataclasses: right in its names and types, not yet checked.

    Raises
    ------
    ScenarioError
        For a setting that is missing or that does not exist.
    """
    try:
        whole = OmegaConf.to_object(config)
    except MissingMandatoryValue as error:
        raise ScenarioError(f"{error.full_key} must be given: it has no default") from error
    except OmegaConfBaseException as error:
        path = getattr(error, "full_key", None) or "configuration"
        first = str(error).splitlines()[0]
        raise ScenarioError(f"{path}: {first}") from error
    if not isinstance(whole, RunConfig):
        raise ScenarioError("the configuration was not composed against the schema of a run")
    _check_keys("", OmegaConf.to_container(config), type(whole))
    return whole


def check_run(whole: RunConfig, overrides: Iterable[str] = ()) -> Run:
    """Check every number and name of a configuration, and build what is simulated.

    Parameters
    ----------
    whole : RunConfig
        From `read_config`.
    overrides : iterable of str
        As for `read_run`.

    Returns
    -------
    Run

    Raises
    ------
    ScenarioError
        As `read_run`.
    """
    _check_ranges("", whole)
    scenario = _scenario(whole)
    claims = _claims_in_use(whole, overrides)
    if whole.published is not None:
        _check_sources(claims)
    return _run(whole, scenario, claims)


def check_numbers(path: str, node: Any) -> None:
    """Check that the numbers of a part of a configuration are in their ranges.

    Raises
    ------
    ScenarioError
        For the first that is not.
    """
    _check_ranges(path, node)


def check_change(whole: RunConfig, base: RunConfig, run: Run) -> Run:
    """As `check_run`, where most of a configuration is that of one that has been checked.

    Parameters
    ----------
    whole : RunConfig
        What is to be checked: parts that are the same objects as in `base` are
        not looked at again.
    base : RunConfig
        Has been checked.
    run : Run
        What `check_run` made of it. Its claims are taken over as they are.

    Returns
    -------
    Run

    Raises
    ------
    ScenarioError
        As `read_run`.
    """
    _check_ranges("", whole, base)
    same = all(getattr(whole, name) is getattr(base, name) for name in _SCENARIO_PARTS)
    scenario = run.scenario if same else _scenario(whole, base, run.scenario)
    return _run(whole, scenario, run.claims)


def _run(whole: RunConfig, scenario: Scenario, claims: tuple[Claim, ...]) -> Run:
    _check_analysis(whole)
    _check_published(whole, scenario)
    _check_replicates(whole)
    return Run(
        description=whole.description,
        seed=whole.seed,
        n_patients=whole.cohort.n_patients,
        follow_up=whole.cohort.follow_up,
        scenario=scenario,
        definitions=tuple(_definition(k, v) for k, v in whole.definitions.items()),
        analysis=whole.analysis,
        targets=tuple(whole.targets),
        published=whole.published,
        reference=whole.reference,
        labels=_labels(whole),
        claims=claims,
        n_replicates=whole.n_replicates,
        n_workers=whole.n_workers or 1,
        precision=whole.precision,
        max_replicates=whole.max_replicates,
        paired_with=whole.paired_with,
        estimand_patients=whole.estimand_patients,
        trial=None if whole.trial is None else _trial(whole.trial, whole, scenario),
    )


# ---------------------------------------------------------------- ranges and names

_RANGES: dict[str, tuple[Callable[[float], bool], str]] = {
    "chance": (lambda x: 0.0 <= x <= 1.0, "must be between 0 and 1"),
    "positive": (lambda x: 0.0 < x < math.inf, "must be finite and greater than 0"),
    "not_negative": (lambda x: 0.0 <= x < math.inf, "must be finite and at least 0"),
    "duration": (lambda x: x > 0.0, "must be greater than 0 (inf for no end)"),
}


def _check_ranges(path: str, node: Any, known: Any = None) -> None:
    """Walk dataclasses, mappings and lists; raise for the first number out of its range.

    What is the same object in `known`, which has been walked, is passed over.
    """
    for item in fields(node):
        value = getattr(node, item.name)
        if known is not None and value is getattr(known, item.name):
            continue
        place = f"{path}.{item.name}" if path else item.name
        rule = item.metadata.get("rule")
        for where, entry in _entries(place, value):
            if is_dataclass(entry):
                _check_ranges(where, entry)
            elif rule is not None and entry is not None and not _RANGES[rule][0](entry):
                raise ScenarioError(f"{where} {_RANGES[rule][1]}, got {entry:g}")


def _check_keys(path: str, given: Any, schema: Any) -> None:
    """Refuse keys that ``+`` put where the schema has none."""
    hints = get_type_hints(schema)
    for name, value in (given or {}).items():
        where = f"{path}.{name}" if path else str(name)
        if name not in hints:
            raise unknown_name(path or "configuration", "setting", str(name), hints)
        kind = hints[name]
        parts = [part for part in (kind, *get_args(kind)) if is_dataclass(part)]
        if not parts or value is None:
            continue
        if isinstance(value, list):
            for i, entry in enumerate(value):
                _check_keys(f"{where}[{i}]", entry, parts[0])
        elif get_origin(kind) is dict:
            for key, entry in value.items():
                _check_keys(f"{where}.{key}", entry, parts[0])
        else:
            _check_keys(where, value, parts[0])


def _entries(path: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [(f"{path}.{key}", entry) for key, entry in value.items()]
    if isinstance(value, list):
        return [(f"{path}[{i}]", entry) for i, entry in enumerate(value)]
    return [(path, value)]


def _one_of(path: str, value: str, allowed: Collection[str]) -> str:
    if value not in allowed:
        raise ScenarioError(f"{path} must be one of {', '.join(allowed)}, got '{value}'")
    return value


def _row(path: str, given: Mapping[str, float], names: Collection[str], what: str) -> Any:
    """Numbers by mechanism in the order of `names`; all must be there, and no other."""
    for name in given:
        if name not in names:
            raise unknown_name(path, "mechanism", name, names)
    for name in names:
        if name not in given:
            raise ScenarioError(f"{path}.{name} must be given: every mechanism needs a {what}")
    return np.array([given[name] for name in names], dtype=np.float64)


def _at(path: str, build: Callable[..., Built], **arguments: Any) -> Built:
    """Build a type of `sim.scenario`, putting `path` before what it finds wrong."""
    try:
        return build(**arguments)
    except ScenarioError as error:
        raise ScenarioError(f"{path}.{error}") from error


# ---------------------------------------------------------------- parts of the scenario


def _scenario(
    whole: RunConfig, base: RunConfig | None = None, known: Scenario | None = None
) -> Scenario:
    """The scenario; parts of a `known` one whose configuration is that of its `base` are kept."""

    def kept(*names: str) -> bool:
        return base is not None and all(getattr(whole, n) is getattr(base, n) for n in names)

    population = known.population if known and kept("population") else _population(whole.population)
    course = (
        known.course if known and kept("population", "course")
        else _course(whole.course, population)
    )  # fmt: skip
    agents = {
        name: known.agent(name)
        if known and base and kept("population", "course") and agent is base.agents.get(name)
        else _agent(f"agents.{name}", name, agent, population, whole.course)
        for name, agent in whole.agents.items()
    }
    if not whole.strategies:
        raise ScenarioError(
            "strategies: none given; choose at least one, as in strategy=[anti_pd1]"
        )
    strategies = [
        _strategy(f"strategies.{name}", name, strategy, agents, population, whole)
        for name, strategy in whole.strategies.items()
    ]
    backbone = whole.backbone or None
    if backbone is not None:
        if backbone not in agents:
            raise unknown_name("backbone", "agent", backbone, agents)
        if not agents[backbone].checkpoint_inhibitor:
            raise ScenarioError(f"backbone must be a checkpoint inhibitor, got '{backbone}'")
    for strategy in strategies:
        if backbone is None and strategy.crossover > 0.0:
            raise ScenarioError(
                f"backbone must name the ICI to which patients of strategies.{strategy.name} "
                f"cross over, got ''"
            )
    coupling = _at(
        "coupling",
        Coupling,
        spearman=whole.coupling.spearman,
        reversal=whole.coupling.reversal,
    )
    return Scenario(
        population=population,
        agents=tuple(agents.values()),
        strategies=tuple(strategies),
        course=course,
        assessment=known.assessment
        if known and kept("assessment")
        else _assessment(whole.assessment),
        coupling=coupling,
        backbone=backbone,
    )


def _population(config: PopulationConfig) -> Population:
    path = "population"
    for kind in ("mechanisms", "strata"):
        if not getattr(config, kind):
            raise ScenarioError(f"{path}.{kind}: at least one is needed")
    names = tuple(config.mechanisms)
    for name, mechanism in config.mechanisms.items():
        where = f"{path}.mechanisms.{name}"
        _one_of(f"{where}.compartment", mechanism.compartment, COMPARTMENTS)
        if not -0.95 <= mechanism.loading <= 0.95:
            raise ScenarioError(
                f"{where}.loading must be between -0.95 and 0.95, got {mechanism.loading:g}"
            )
    strata = config.strata
    total = sum(stratum.prevalence for stratum in strata.values())
    if abs(total - 1.0) > 1e-6:
        raise ScenarioError(
            f"{path}.strata: the prevalences must add up to 1, got {total:g} "
            f"({', '.join(f'{k} {v.prevalence:g}' for k, v in strata.items())})"
        )
    prevalence = [
        _row(f"{path}.strata.{s}.baseline", v.baseline, names, "prevalence")
        for s, v in strata.items()
    ]
    share = []
    for s, v in strata.items():
        row = _row(f"{path}.strata.{s}.acquired_share", v.acquired_share, names, "share")
        if abs(row.sum() - 1.0) > 1e-6:
            raise ScenarioError(
                f"{path}.strata.{s}.acquired_share must add up to 1, got {row.sum():g}"
            )
        share.append(row)
    return _at(
        path,
        Population,
        strata=tuple(strata),
        stratum_prevalence=np.array([v.prevalence for v in strata.values()]),
        mechanisms=names,
        intrinsic=np.array([m.compartment == "intrinsic" for m in config.mechanisms.values()]),
        prevalence=np.stack(prevalence),
        loading=np.array([m.loading for m in config.mechanisms.values()]),
        acquired_share=np.stack(share),
        acquired=_clock(config),
        responding=np.array([v.responding for v in strata.values()]),
        durable_responding=np.array([v.durable_responding for v in strata.values()]),
        durable_controlled=np.array([v.durable_controlled for v in strata.values()]),
        durable_hazard=config.durable_hazard,
        controlled_ratio=config.controlled_ratio,
        frailty_sd=config.frailty_sd,
    )


def _clock(config: PopulationConfig) -> Clock:
    acquired, strata = config.acquired, config.strata
    own = [
        f"population.strata.{name}.{field}"
        for name, stratum in strata.items()
        for field in ("acquired_shape", "acquired_scale")
        if getattr(stratum, field) is not None
    ]
    if acquired.rates:
        if own:
            raise ScenarioError(f"{own[0]} must not be given beside population.acquired.rates")
        rates = np.tile(np.array(acquired.rates), (len(strata), 1))
        starts = np.array(acquired.starts)
        return _at(
            "population.acquired", PiecewiseClock, starts=starts, rates=rates, start=acquired.start
        )
    shape = [
        acquired.shape if s.acquired_shape is None else s.acquired_shape for s in strata.values()
    ]
    scale = [
        acquired.scale if s.acquired_scale is None else s.acquired_scale for s in strata.values()
    ]
    return WeibullClock(np.array(shape), np.array(scale), acquired.start)


def _toxicity(config: ToxicityConfig) -> ToxicityHazard:
    return ToxicityHazard(early=config.early, late=config.late, window=config.window)


def _agent(
    path: str, name: str, config: AgentConfig, population: Population, course: CourseConfig
) -> Agent:
    names = population.mechanisms
    return _at(
        path,
        Agent,
        name=name,
        label=config.label,
        family=config.family,
        checkpoint_inhibitor=config.checkpoint_inhibitor,
        reversal=_row(f"{path}.reversal", config.reversal, names, "chance"),
        hazard_ratio=_row(f"{path}.hazard_ratio", config.hazard_ratio, names, "ratio"),
        response=config.response,
        durability=config.durability,
        growth_ratio=config.growth_ratio,
        onset=config.onset,
        discontinuation=_toxicity(config.discontinuation),
        fatal=_toxicity(config.fatal),
        activity=None
        if config.activity is None
        else _activity(f"{path}.activity", config.activity, course),
    )


def _activity(path: str, config: ActivityConfig, course: CourseConfig) -> Activity:
    background = config.background_hazard or course.background.hazard
    if len(background) != len(course.background.starts):
        raise ScenarioError(
            f"{path}.background_hazard must hold {len(course.background.starts)} hazards, "
            f"one for each start in course.background.starts, got {len(background)}"
        )
    return _at(
        path,
        Activity,
        refractory=config.refractory,
        responding=config.responding,
        shape=config.shape,
        scale=config.scale,
        start=config.start,
        controlled_ratio=config.controlled_ratio,
        frailty_sd=config.frailty_sd,
        joint_response=config.joint_response,
        tumour_death_hazard=config.tumour_death_hazard,
        background_hazard=np.array(background, dtype=np.float64),
    )


def _strategy(
    path: str,
    name: str,
    config: StrategyConfig,
    agents: Mapping[str, Agent],
    population: Population,
    whole: RunConfig,
) -> Strategy:
    find_rule(f"{path}.rule", config.rule)
    doses = []
    for agent, dose in config.doses.items():
        where = f"{path}.doses.{agent}"
        if agent not in agents:
            raise unknown_name(f"{path}.doses", "agent", agent, agents)
        for mechanism in dose.matched:
            if mechanism not in population.mechanisms:
                raise unknown_name(
                    f"{where}.matched", "mechanism", mechanism, population.mechanisms
                )
        doses.append(
            _at(
                where,
                Dose,
                agent=agent,
                start=dose.start,
                stop=dose.stop,
                at_progression=dose.at_progression,
                matched=tuple(dose.matched),
            )
        )
    _check_schedule(path, doses, agents)
    if config.rule == "highest_single_agent":
        _check_ranks(path, doses, agents, population)
    given = [agents[dose.agent] for dose in doses if not dose.at_progression and not dose.matched]
    if not doses:
        raise ScenarioError(f"{path}.doses: an arm needs at least one agent")
    if not any(agent.checkpoint_inhibitor or agent.activity is not None for agent in given):
        raise ScenarioError(
            f"{path}.doses must give everyone a checkpoint inhibitor or an agent with activity "
            f"of its own, got {', '.join(config.doses)}"
        )
    if whole.coupling.reversal > 0.0 and config.rule != "independent_action" and len(doses) > 1:
        raise ScenarioError(
            f"coupling.reversal must be 0 where {path}.rule is {config.rule}, "
            f"got {whole.coupling.reversal:g}"
        )
    return _at(
        path,
        Strategy,
        name=name,
        label=config.label,
        family=config.family,
        doses=tuple(doses),
        rule=config.rule,
        psi=config.psi,
        crossover=config.crossover,
        sensitivity=config.sensitivity,
        specificity=config.specificity,
    )


def _check_schedule(path: str, doses: Sequence[Dose], agents: Mapping[str, Agent]) -> None:
    """Refuse schedules that the model does not describe."""
    for dose in doses:
        agent = agents[dose.agent]
        if not (agent.checkpoint_inhibitor or agent.activity is not None):
            continue
        where = f"{path}.doses.{dose.agent}"
        what = "a checkpoint inhibitor" if agent.checkpoint_inhibitor else "an agent with activity"
        if dose.start > 0.0:
            raise ScenarioError(f"{where}.start must be 0 for {what}, got {dose.start:g}")
        if dose.at_progression:
            raise ScenarioError(f"{where}.at_progression must be false for {what}, got true")


def _check_ranks(
    path: str, doses: Sequence[Dose], agents: Mapping[str, Agent], population: Population
) -> None:
    """Refuse `highest_single_agent` where benefits are not functions of one rank."""
    given = [agents[dose.agent] for dose in doses]
    active = [agent.activity for agent in given if agent.activity is not None]
    if not active or not any(agent.checkpoint_inhibitor for agent in given):
        return
    spread = (
        population.frailty_sd > 0.0
        or population.controlled_ratio != 1.0
        or bool(population.durable_responding.any() or population.durable_controlled.any())
        or any(a.frailty_sd > 0.0 or a.controlled_ratio != 1.0 for a in active)
    )
    if spread:
        raise ScenarioError(
            f"{path}.rule must be independent_action, additive or synergy where patients of a "
            "class differ (frailty_sd, controlled_ratio, durable shares), "
            "got 'highest_single_agent'"
        )


def _course(config: CourseConfig, population: Population) -> Course:
    for name, line in config.next_lines.items():
        for mechanism in line.matched:
            if mechanism not in population.mechanisms:
                where = f"course.next_lines.{name}.matched"
                raise unknown_name(where, "mechanism", mechanism, population.mechanisms)
    lines = tuple(
        _at(
            f"course.next_lines.{name}",
            NextLine,
            name=name,
            share=line.share,
            hazard_ratio=line.hazard_ratio,
            eligible=line.eligible,
            regain=line.regain,
            regain_median=line.regain_median,
            matched=tuple(line.matched),
        )
        for name, line in config.next_lines.items()
    )
    same = [
        item.name
        for item in fields(Course)
        if item.name not in ("background_starts", "background_hazard", "next_lines")
    ]
    starts, hazard = config.background.starts, config.background.hazard
    if not starts or starts[0] != 0.0 or any(b <= a for a, b in pairwise(starts)):
        raise ScenarioError(f"course.background.starts must increase from 0, got {starts}")
    if len(hazard) != len(starts):
        raise ScenarioError(
            f"course.background.hazard must hold {len(starts)} hazards, one for each of "
            f"course.background.starts, got {len(hazard)}"
        )
    return _at(
        "course",
        Course,
        background_starts=np.array(config.background.starts, dtype=np.float64),
        background_hazard=np.array(config.background.hazard, dtype=np.float64),
        next_lines=lines,
        **{name: getattr(config, name) for name in same},
    )


def _assessment(config: AssessmentConfig) -> Assessment:
    same = [item.name for item in fields(Assessment) if item.name not in ("every", "until")]
    return _at(
        "assessment",
        Assessment,
        every=np.array([phase.every for phase in config.schedule], dtype=np.float64),
        until=np.array([phase.until for phase in config.schedule], dtype=np.float64),
        **{name: getattr(config, name) for name in same},
    )


def _definition(name: str, config: DefinitionConfig) -> Definition:
    path = f"definitions.{name}"
    _one_of(f"{path}.kind", config.kind, KINDS)
    _one_of(f"{path}.early_responder", config.early_responder, EARLY_RESPONDER)
    same = [item.name for item in fields(Definition) if item.name != "name"]
    return _at(path, Definition, name=name, **{key: getattr(config, key) for key in same})


def _trial(config: TrialConfig, whole: RunConfig, scenario: Scenario) -> TrialPlan:
    for name in config.arms:
        if name not in whole.strategies:
            raise unknown_name("trial.arms", "strategy", name, whole.strategies)
    for i, name in enumerate(config.arms):
        if name in config.arms[:i]:
            raise ScenarioError(f"trial.arms[{i}] must not be given twice, got '{name}'")
    weights = config.weights or [1] * len(config.arms)
    if len(weights) != len(config.arms):
        raise ScenarioError(
            f"trial.weights must hold one number for each of {len(config.arms)} arms, "
            f"got {len(weights)}"
        )
    if not 0.0 < config.alpha < 1.0:
        raise ScenarioError(f"trial.alpha must be above 0 and below 1, got {config.alpha:g}")
    arms = tuple(Arm(name, weight) for name, weight in zip(config.arms, weights, strict=True))
    accrual = _at(
        "trial.accrual",
        Accrual,
        duration=config.accrual.duration,
        starts=np.array(config.accrual.starts) if config.accrual.rates else None,
        rates=np.array(config.accrual.rates) if config.accrual.rates else None,
        of_screened=config.accrual.of_screened,
    )
    design = _at(
        "trial",
        TrialDesign,
        n_patients=config.n_patients,
        arms=arms,
        accrual=accrual,
        block_size=config.block_size or usual_block_size(weights),
        stratified=config.stratified,
        dropout=config.dropout,
        eligibility=_eligibility(config.eligibility, scenario.population),
    )
    if not config.cuts:
        raise ScenarioError("trial.cuts: at least one is needed")
    for i, endpoint in enumerate(config.endpoints):
        _one_of(f"trial.endpoints[{i}]", endpoint, TRIAL_ENDPOINTS)
    if not config.endpoints or not config.comparisons:
        raise ScenarioError("trial.endpoints and trial.comparisons must each name at least one")
    for kind in ("endpoints", "comparisons"):
        names = [name.replace(" ", "").replace("()", "") for name in getattr(config, kind)]
        for i, name in enumerate(names):
            if name in names[:i]:
                raise ScenarioError(f"trial.{kind}[{i}] must not be given twice, got '{name}'")
    _check_immune(config, scenario)
    return TrialPlan(
        scenario=scenario,
        design=design,
        cuts={
            name: _cut_rule(f"trial.cuts.{name}", cut, scenario.population)
            for name, cut in config.cuts.items()
        },
        endpoints=tuple(config.endpoints),
        comparisons=tuple(name.replace(" ", "") for name in config.comparisons),
        alpha=config.alpha,
        horizon=min(config.horizon, 1000.0),
        seed=whole.seed,
        definition=_trial_definition(config, whole),
    )


def _eligibility(config: EligibilityConfig, population: Population) -> Eligibility:
    path = "trial.eligibility"
    for i, name in enumerate(config.strata):
        if name not in population.strata:
            raise unknown_name(f"{path}.strata[{i}]", "stratum", name, population.strata)
    for kind in ("positive", "negative"):
        for i, name in enumerate(getattr(config, kind)):
            if name not in population.mechanisms:
                where = f"{path}.{kind}[{i}]"
                raise unknown_name(where, "mechanism", name, population.mechanisms)
    return _at(
        path,
        Eligibility,
        strata=tuple(config.strata),
        positive=tuple(config.positive),
        negative=tuple(config.negative),
        sensitivity=config.sensitivity,
        specificity=config.specificity,
    )


def _check_immune(config: TrialConfig, scenario: Scenario) -> None:
    """Refuse endpoints about resistance to an ICI where an arm holds none."""
    for i, endpoint in enumerate(config.endpoints):
        if not TRIAL_ENDPOINTS[endpoint].immune:
            continue
        for strategy in scenario.strategies:
            if strategy.name in config.arms and not any(
                scenario.agent(dose.agent).checkpoint_inhibitor for dose in strategy.doses
            ):
                raise ScenarioError(
                    f"trial.endpoints[{i}]: {endpoint} has no meaning in an arm without a "
                    f"checkpoint inhibitor, got arm '{strategy.name}'"
                )


def _trial_definition(config: TrialConfig, whole: RunConfig) -> Definition | None:
    name = config.definition or next(iter(whole.definitions), "")
    if config.definition and name not in whole.definitions:
        raise unknown_name("trial.definition", "definition", name, whole.definitions)
    if any(TRIAL_ENDPOINTS[endpoint].immune for endpoint in config.endpoints) and not name:
        raise ScenarioError(
            "trial.definition must name one of definitions, as acquired_resistance asks for one, "
            "and there is none"
        )
    return _definition(name, whole.definitions[name]) if name else None


def _cut_rule(path: str, config: CutConfig, population: Population) -> CutRule:
    whole = [
        _condition(path, population, config.endpoint, **{kind: getattr(config, kind)})
        for kind in ("events", "date", "follow_up")
        if getattr(config, kind) is not None
    ]
    strata = [
        _condition(f"{path}.stratum_events", population, config.endpoint, events=n, stratum=name)
        for name, n in config.stratum_events.items()
    ]
    also = [
        _condition(
            f"{path}.also[{i}]", population, more.endpoint, events=more.events,
            stratum=more.stratum, date=more.date, follow_up=more.follow_up,
        )
        for i, more in enumerate(config.also)
    ]  # fmt: skip
    last = _one_of(f"{path}.rule", config.rule, ("first", "last")) == "last"
    return _at(path, CutRule, conditions=(*whole, *strata, *also), last=last)


def _condition(
    path: str,
    population: Population,
    endpoint: str,
    *,
    events: int | None = None,
    stratum: str = "",
    date: float | None = None,
    follow_up: float | None = None,
) -> Condition:
    _one_of(f"{path}.endpoint", endpoint, COUNTED)
    if stratum and stratum not in population.strata:
        raise unknown_name(path, "stratum", stratum, population.strata)
    if stratum and events is None:
        raise ScenarioError(f"{path}.events must be given with a stratum, got stratum '{stratum}'")
    return _at(
        path,
        Condition,
        endpoint=endpoint,
        events=events,
        stratum=population.strata.index(stratum) if stratum else None,
        month=date,
        follow_up=follow_up,
    )


def _check_replicates(whole: RunConfig) -> None:
    for name in ("precision", "paired_with"):
        if getattr(whole, name) and whole.trial is None:
            raise ScenarioError(f"{name} must not be given without a trial: choose one, trial=...")
    if whole.precision is not None and whole.max_replicates < whole.n_replicates:
        raise ScenarioError(
            f"max_replicates must be at least n_replicates ({whole.n_replicates}), "
            f"got {whole.max_replicates}"
        )


def _check_analysis(whole: RunConfig) -> None:
    horizon, follow_up = whole.analysis.horizon, whole.cohort.follow_up
    if horizon > follow_up:
        raise ScenarioError(
            f"analysis.horizon must be at most cohort.follow_up ({follow_up:g} months), "
            f"got {horizon:g}"
        )
    if follow_up > 1000.0:
        raise ScenarioError(f"cohort.follow_up must be at most 1000 months, got {follow_up:g}")
    if whole.analysis.table_every < 0.25:
        every = whole.analysis.table_every
        raise ScenarioError(f"analysis.table_every must be at least 0.25 months, got {every:g}")
    if not whole.analysis.endpoints:
        raise ScenarioError(f"analysis.endpoints must name at least one of {', '.join(ENDPOINTS)}")
    for i, endpoint in enumerate(whole.analysis.endpoints):
        _one_of(f"analysis.endpoints[{i}]", endpoint, ENDPOINTS)
    chosen = whole.analysis.reference_strategy
    if chosen and chosen not in whole.strategies:
        raise unknown_name("analysis.reference_strategy", "strategy", chosen, whole.strategies)
    for strategy in whole.reference.arms:
        if strategy not in whole.strategies:
            raise unknown_name("reference.arms", "strategy", strategy, whole.strategies)


def _check_sources(claims: Iterable[Claim]) -> None:
    """Refuse a number of a published trial that does not say whose it is."""
    for claim in claims:
        if not claim.source:
            group = claim.path.partition(".")[0]
            raise ScenarioError(
                f"{claim.path} = {claim.value:g} has no source: a published scenario names one for "
                f"every number, under sources of its file of {group}"
            )


def _check_published(whole: RunConfig, scenario: Scenario) -> None:
    """Check the trial that a scenario stands for, and its published results."""
    published = whole.published
    if published is not None:
        named = [("control", published.control), *(("n", name) for name in published.n)]
        for field, name in named:
            if name not in whole.strategies:
                raise unknown_name(f"published.{field}", "strategy", name, whole.strategies)
    blockers = [agent.name for agent in scenario.agents if agent.checkpoint_inhibitor]
    check_targets(
        whole.targets,
        strategies={s.name: planned_stop(s.doses, blockers) for s in scenario.strategies},
        strata=scenario.population.strata,
        next_lines=scenario.next_lines,
        control="" if published is None else published.control,
        follow_up=whole.cohort.follow_up,
    )
    known = {target_name(target) for target in whole.targets}
    for name in published.misfits if published is not None else ():
        if name not in known:
            raise unknown_name("published.misfits", "target", name, known)


def _labels(whole: RunConfig) -> dict[str, str]:
    named: list[Mapping[str, Any]] = [
        whole.population.strata, whole.definitions, whole.strategies, whole.population.mechanisms,
        whole.agents,
    ]  # fmt: skip
    return {name: entry.label for group in named for name, entry in group.items()}


# ---------------------------------------------------------------- claims and their sources


def claims_of(whole: RunConfig, overrides: Iterable[str] = ()) -> tuple[Claim, ...]:
    """Every number about nature in a configuration, with its source.

    A source covers the entry it names and everything below it; the longest
    name that covers a number counts. Numbers the user replaced say `override`.

    Parameters
    ----------
    whole : RunConfig
        The configuration.
    overrides : iterable of str
        ``key=value`` as typed; a ``+`` or ``++`` in front is ignored. The choice
        of another file for a group, ``population=...``, replaces no number.

    Returns
    -------
    tuple of Claim
        In the order of the configuration; `source` is empty where none is given.
    """
    keys = [text.lstrip("+~").partition("=")[0] for text in overrides]
    replaced = [key for key in keys if key not in CLAIM_GROUPS]
    found = []
    for group in CLAIM_GROUPS:
        node = getattr(whole, group)
        parts = node.items() if isinstance(node, dict) else [("", node)]
        for name, part in parts:
            root = f"{group}.{name}" if name else group
            for path, value in _numbers(root, part):
                relative = path[len(root) + 1 :]
                source = _covering(part.sources, relative)
                typed = path.replace("[", ".").replace("]", "")
                if any(_replaces(key, typed) for key in replaced):
                    found.append(Claim(path, value, "override", "set on the command line", ""))
                else:
                    found.append(
                        Claim(path, value, source.source, source.where, source.checked)
                        if source
                        else Claim(path, value, "", "", "")
                    )
    return tuple(found)


def _replaces(key: str, path: str) -> bool:
    """Whether an override of `key`, where ``*`` is any one name, replaces the number at `path`."""
    names, above = path.split("."), key.split(".")
    return len(above) <= len(names) and all(
        own in (EVERY, name) for own, name in zip(above, names, strict=False)
    )


def _claims_in_use(whole: RunConfig, overrides: Iterable[str]) -> tuple[Claim, ...]:
    """Claims without those about agents that no strategy gives and nobody crosses over to."""
    used = {whole.backbone}.union(*(strategy.doses for strategy in whole.strategies.values()))
    unused = tuple(f"agents.{name}." for name in whole.agents if name not in used)
    return tuple(c for c in claims_of(whole, overrides) if not c.path.startswith(unused))


def _covering(sources: Mapping[str, Any], path: str) -> Any:
    keys = [key for key in sources if path == key or path.startswith((f"{key}.", f"{key}["))]
    return sources[max(keys, key=len)] if keys else None


_DESIGN = {
    "doses", "schedule", "matched", "jitter_sd", "missed", "criteria", "confirmation",
    "stable_minimum", "withdrawal", "missed_before_censoring", "psi", "sensitivity", "specificity",
}  # fmt: skip
"""Fields of claim groups that are choices of the designer, not claims about nature."""


def _numbers(path: str, node: Any) -> list[tuple[str, float]]:
    """Numbers below a node, with their paths, leaving out sources and design choices."""
    found: list[tuple[str, float]] = []
    for item in fields(node):
        if item.name == "sources" or item.name in _DESIGN:
            continue
        for where, entry in _entries(f"{path}.{item.name}", getattr(node, item.name)):
            if is_dataclass(entry):
                found += _numbers(where, entry)
            elif isinstance(entry, float | int) and not isinstance(entry, bool):
                found.append((where, float(entry)))
    return found
