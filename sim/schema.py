"""What a configuration may contain: names, types, defaults and the range of every number.

These classes are the schema against which Hydra composes the YAML files. They
hold no logic: `sim.config` turns them into the arrays that are simulated. The
range of a number is kept beside it, so that one walk over the whole
configuration finds every bad value together with its path.

A field without a default must be given. ``sources`` says where the claims of
a file come from: a key of ``references.bib``, ``calibrated`` or ``assumption``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

__all__ = ["PlanConfig", "PlanRunConfig", "RunConfig", "SizeConfig", "SizeRunConfig"]


def _number(rule: str, default: Any = MISSING) -> Any:
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata={"rule": rule})
    return field(default=default, metadata={"rule": rule})


def chance(default: Any = MISSING) -> Any:
    """A number, or a mapping or list of numbers, in [0, 1]."""
    return _number("chance", default)


def positive(default: Any = MISSING) -> Any:
    """A finite number greater than 0."""
    return _number("positive", default)


def not_negative(default: Any = MISSING) -> Any:
    """A finite number of at least 0."""
    return _number("not_negative", default)


def duration(default: Any = MISSING) -> Any:
    """A number greater than 0 that may be infinite."""
    return _number("duration", default)


@dataclass
class SourceConfig:
    """Where a claim comes from."""

    source: str = MISSING
    where: str = ""
    checked: str = ""
    """`verified` if read in the source, `memory` if not, `derived` if computed from it."""


@dataclass
class MechanismConfig:
    """A way in which tumours escape."""

    label: str = MISSING
    compartment: str = MISSING
    """`intrinsic` or `extrinsic` to the tumour cell."""
    loading: float = 0.0
    """On the one factor that makes baseline mechanisms overlap."""


@dataclass
class StratumConfig:
    """A subgroup with numbers of its own."""

    label: str = MISSING
    prevalence: float = chance()
    responding: float = chance()
    durable_responding: float = chance()
    durable_controlled: float = chance()
    baseline: dict[str, float] = chance({})
    """Prevalence of each mechanism at baseline."""
    acquired_share: dict[str, float] = chance({})
    """Share of the acquired hazard carried by each mechanism."""
    acquired_shape: float | None = positive(None)
    """Weibull shape of the acquired hazard in this stratum, where not the population's."""
    acquired_scale: float | None = positive(None)
    """Weibull scale in this stratum, months, where not the population's."""


@dataclass
class AcquiredConfig:
    """Hazard of acquired resistance: Weibull, or piecewise constant where `rates` are given."""

    start: float = not_negative(0.0)
    shape: float = positive(1.0)
    scale: float = positive(1.0)
    starts: list[float] = not_negative([])
    rates: list[float] = not_negative([])


@dataclass
class PopulationConfig:
    """Who is treated."""

    label: str = MISSING
    mechanisms: dict[str, MechanismConfig] = field(default_factory=dict)
    strata: dict[str, StratumConfig] = field(default_factory=dict)
    acquired: AcquiredConfig = field(default_factory=AcquiredConfig)
    durable_hazard: float = not_negative()
    controlled_ratio: float = positive()
    frailty_sd: float = not_negative()
    sources: dict[str, SourceConfig] = field(default_factory=dict)


@dataclass
class ToxicityConfig:
    """A hazard in an early window, and later."""

    early: float = not_negative(0.0)
    late: float = not_negative(0.0)
    window: float = not_negative(0.0)


@dataclass
class ActivityConfig:
    """What an agent does by itself."""

    refractory: float = chance()
    responding: float = chance()
    shape: float = positive()
    scale: float = positive()
    start: float = not_negative(0.0)
    controlled_ratio: float = positive(1.0)
    frailty_sd: float = not_negative(0.0)
    joint_response: float = chance(0.0)
    tumour_death_hazard: float = not_negative(0.0)
    background_hazard: list[float] = not_negative([])


@dataclass
class AgentConfig:
    """One row of the mechanism matrix."""

    label: str = MISSING
    family: str = MISSING
    checkpoint_inhibitor: bool = False
    reversal: dict[str, float] = chance({})
    hazard_ratio: dict[str, float] = not_negative({})
    response: float = chance(0.0)
    durability: float = chance(0.0)
    growth_ratio: float = positive(1.0)
    onset: float = not_negative(0.0)
    discontinuation: ToxicityConfig = field(default_factory=ToxicityConfig)
    fatal: ToxicityConfig = field(default_factory=ToxicityConfig)
    activity: ActivityConfig | None = None
    sources: dict[str, SourceConfig] = field(default_factory=dict)


@dataclass
class DoseConfig:
    """When and to whom an agent is given."""

    start: float = not_negative(0.0)
    stop: float = duration(float("inf"))
    at_progression: bool = False
    matched: list[str] = field(default_factory=list)


@dataclass
class StrategyConfig:
    """Agents and the rule by which they combine."""

    label: str = MISSING
    family: str = MISSING
    doses: dict[str, DoseConfig] = field(default_factory=dict)
    rule: str = "independent_action"
    psi: float = positive(1.0)
    crossover: float = chance(0.0)
    sensitivity: float = chance(1.0)
    specificity: float = chance(1.0)
    sources: dict[str, SourceConfig] = field(default_factory=dict)


@dataclass
class BackgroundConfig:
    """Death from other causes, piecewise constant."""

    starts: list[float] = not_negative([0.0])
    hazard: list[float] = not_negative([0.0])


@dataclass
class NextLineConfig:
    """Something that can be done at detected progression."""

    share: float = chance()
    hazard_ratio: float = not_negative(1.0)
    eligible: str = "all"
    regain: float = chance(0.0)
    regain_median: float = not_negative(0.0)
    matched: list[str] = field(default_factory=list)
    """Mechanisms whose resistance makes a patient eligible; empty is any."""


@dataclass
class CourseConfig:
    """What follows resistance."""

    label: str = MISSING
    primary_lag: float = not_negative()
    acquired_lag: float = not_negative()
    lag_sd: float = not_negative()
    growth_sd: float = not_negative()
    tumour_death_hazard: float = not_negative()
    growth_exponent: float = not_negative()
    timing_exponent: float = not_negative()
    death_frailty_sd: float = not_negative()
    background: BackgroundConfig = field(default_factory=BackgroundConfig)
    stop_effect: float = not_negative()
    stop_decay: float = positive()
    oligo_primary: float = chance()
    oligo_acquired: float = chance()
    untreated: float = chance()
    untreated_ratio: float = not_negative()
    next_lines: dict[str, NextLineConfig] = field(default_factory=dict)
    crossover_primary: float = chance()
    sources: dict[str, SourceConfig] = field(default_factory=dict)


@dataclass
class PhaseConfig:
    """Scans at one interval until a week."""

    every: float = not_negative()
    until: float = duration(float("inf"))


@dataclass
class AssessmentConfig:
    """How patients are watched."""

    label: str = MISSING
    schedule: list[PhaseConfig] = field(default_factory=list)
    jitter_sd: float = not_negative(0.0)
    missed: float = chance(0.0)
    symptomatic: float = chance(0.0)
    pseudoprogression: float = chance(0.0)
    criteria: str = "recist"
    confirmation: float = not_negative(4.0)
    stable_minimum: float = not_negative(6.0)
    response_median: float = not_negative(0.0)
    response_sd: float = not_negative(0.0)
    complete_response: float = chance(0.0)
    withdrawal: float = not_negative(0.0)
    missed_before_censoring: int = not_negative(0)
    sources: dict[str, SourceConfig] = field(default_factory=dict)


@dataclass
class CouplingConfig:
    """How effects go together in one patient."""

    spearman: float = 0.3
    reversal: float = 0.0
    sources: dict[str, SourceConfig] = field(default_factory=dict)


@dataclass
class DefinitionConfig:
    """A rule that tells primary from acquired resistance by what was observed."""

    label: str = MISSING
    kind: str = MISSING
    threshold: float = not_negative(6.0)
    threshold_is_primary: bool = False
    early_responder: str = "gap"
    exposure_primary: float = not_negative(0.0)
    exposure_acquired: float = not_negative(0.0)
    off_drug: float = duration(float("inf"))
    confirmation: bool = False
    sources: dict[str, SourceConfig] = field(default_factory=dict)


@dataclass
class TargetConfig:
    """A published result of an arm, with which the simulated one is compared."""

    strategy: str = MISSING
    measure: str = MISSING
    """As in `sim.target`: orr, median_os, rate_pfs_12, hr_os and so on."""
    stratum: str = ""
    """The only stratum of the population whose patients it is about; empty is all."""
    against: str = ""
    """Of a hazard ratio: the other arm; empty is `published.control`."""
    value: float = not_negative()
    """Shares as fractions, times in months, hazard ratios as they are."""
    interval: list[float] = positive([])
    """95 % confidence interval of a hazard ratio."""
    follow_up: float | None = positive(None)
    """Of a hazard ratio: months of follow-up; if not given, `published.follow_up`."""
    n: int = positive()
    """Patients (of a hazard ratio, of both arms)."""
    tolerance: float = not_negative()
    """What may be wrong beside chance, in the unit of the value; of a hazard ratio, of its log."""
    standard_error: float | None = None
    source: str = MISSING
    where: str = ""
    checked: str = "memory"


@dataclass
class FreeConfig:
    """A number of one trial alone that is fitted, and its prior."""

    scale: str = MISSING
    """`log` for what is positive, `logit` for chances."""
    mean: float = positive()
    """Middle of the prior."""
    sd: float = positive()
    """Of the prior, on the scale."""


@dataclass
class CrossingConfig:
    """Survival curves that cross: published as a shape, without a number."""

    strategy: str = MISSING
    """Which is behind the control at first and ahead later."""
    endpoint: str = "os"
    stratum: str = ""
    month: float = positive()
    """When the control is ahead."""
    source: str = MISSING
    where: str = ""


@dataclass
class PublishedConfig:
    """The trial that a scenario stands for."""

    title: str = MISSING
    alias: str = MISSING
    """Short name by which the scenario is chosen too."""
    citation: str = MISSING
    """Key of references.bib."""
    reviewed: bool = False
    """Whether every number has been derived a second time, by somebody else."""
    control: str = MISSING
    """The strategy against which hazard ratios are."""
    follow_up: float = positive()
    """Months of follow-up behind the hazard ratios."""
    n: dict[str, int] = positive({})
    """Patients randomised to each strategy."""
    line: str = MISSING
    """`first`, `later`, or `after_ici` where all patients had an ICI before."""
    chemotherapy: dict[str, str] = field(default_factory=dict)
    """Agents with activity: `platinum` or `docetaxel`."""
    free: dict[str, FreeConfig] = field(default_factory=dict)
    """Paths of numbers that no other trial shares and that are fitted to this one."""
    crossings: list[CrossingConfig] = field(default_factory=list)
    """Curves that the fit is asked to cross."""
    design: dict[str, str] = field(default_factory=dict)
    """What the trial did, and what is assumed where no source says it, in words."""
    misfits: dict[str, str] = field(default_factory=dict)
    """Reasons of known misfits, by ``strategy.measure`` or ``strategy.measure.stratum``."""


@dataclass
class ReferenceConfig:
    """Published curves to draw beside the simulated ones."""

    file: str = ""
    """A CSV shipped in configs/reference, or a path."""
    trial: str = ""
    arms: dict[str, str] = field(default_factory=dict)
    """Strategy to the name of its arm in the file."""
    source: str = ""


@dataclass
class CohortConfig:
    """Size of the cohort."""

    n_patients: int = positive(20000)
    follow_up: float = positive(60.0)


@dataclass
class AnalysisConfig:
    """What is estimated and drawn."""

    endpoints: list[str] = field(
        default_factory=lambda: ["pfs", "os", "duration_of_response", "acquired_resistance"]
    )
    rates: list[float] = positive([12.0, 24.0, 36.0, 60.0])
    horizon: float = positive(60.0)
    """Months up to which is reported; follow-up should reach a scan further than that."""
    table_every: float = positive(12.0)
    reference_strategy: str = ""
    figures: bool = True
    patients: bool = False


@dataclass
class AccrualConfig:
    """When patients enter: uniformly over a duration, or at piecewise-constant rates."""

    duration: float = not_negative(0.0)
    starts: list[float] = not_negative([])
    rates: list[float] = not_negative([])
    of_screened: bool = False
    """Whether rates are of patients screened, and not of those who enter."""


@dataclass
class EligibilityConfig:
    """Who may enter; empty lists keep nobody out."""

    strata: list[str] = field(default_factory=list)
    positive: list[str] = field(default_factory=list)
    """Mechanisms: the test must be positive for one of them."""
    negative: list[str] = field(default_factory=list)
    """Mechanisms: the test must be negative for all of them."""
    sensitivity: float = chance(1.0)
    specificity: float = chance(1.0)


@dataclass
class ConditionConfig:
    """One more thing that a cut waits for: events, a date or follow-up."""

    endpoint: str = "pfs"
    events: int | None = None
    stratum: str = ""
    """The only stratum whose events count."""
    date: float | None = None
    follow_up: float | None = None


@dataclass
class CutConfig:
    """When the data are cut: the first (or last) of the conditions that are given."""

    endpoint: str = "pfs"
    """Whose events are counted."""
    events: int | None = None
    stratum_events: dict[str, int] = positive({})
    """Events of the same endpoint in a stratum, by its name."""
    date: float | None = None
    """Months since the start of accrual."""
    follow_up: float | None = None
    """Months since the last patient entered."""
    also: list[ConditionConfig] = field(default_factory=list)
    """Further conditions, such as events of another endpoint."""
    rule: str = "first"
    """`first` or `last` of several conditions."""


@dataclass
class TrialConfig:
    """How a trial is run and analysed."""

    label: str = ""
    n_patients: int = positive()
    arms: list[str] = field(default_factory=list)
    """Strategies, the control first."""
    weights: list[int] = positive([])
    """Of the arms in the allocation; empty is equal."""
    accrual: AccrualConfig = field(default_factory=AccrualConfig)
    eligibility: EligibilityConfig = field(default_factory=EligibilityConfig)
    block_size: int = not_negative(0)
    """Of permuted blocks; 0 is twice the sum of the weights."""
    stratified: bool = False
    dropout: float = not_negative(0.0)
    cuts: dict[str, CutConfig] = field(default_factory=dict)
    endpoints: list[str] = field(default_factory=lambda: ["pfs"])
    definition: str = ""
    """The rule behind the endpoint acquired_resistance; empty is the first of `definitions`."""
    comparisons: list[str] = field(default_factory=lambda: ["logrank"])
    alpha: float = chance(0.025)
    """One-sided."""
    horizon: float = positive(240.0)
    """Months after entry beyond which nobody is followed."""


@dataclass
class SweepFigureConfig:
    """A figure that a sweep draws of its tables."""

    kind: str = MISSING
    options: dict[str, Any] = field(default_factory=dict)
    """As on the command line of ``resistime-figures``, without the dashes."""


@dataclass
class SweepConfig:
    """Cells that differ in some values: parts that are given together multiply."""

    name: str = ""
    question: str = ""
    notice: str = ""
    """What to see in its figures."""
    grid: Any = None
    """Mapping of path to values: every combination."""
    zip: Any = None
    """Mapping of path to values, taken in step."""
    each: Any = None
    """Mapping of path to values: one change at a time, after a cell without any."""
    cells: list[Any] = field(default_factory=list)
    """Mappings of path to value, a cell each."""
    csv: str = ""
    """A file with a path above each column and a cell in each row."""
    labels: dict[str, str] = field(default_factory=dict)
    """Words for paths, and for values as ``path=value``."""
    figures: list[SweepFigureConfig] = field(default_factory=list)
    """Drawn at the end; empty draws what fits."""
    cohort: bool = False
    """Whether a cohort is simulated too where there is a trial."""
    true_values: bool = False
    """Whether bias and coverage are found: a cohort of `estimand_patients` for each cell."""


@dataclass
class DaskConfig:
    """A Dask cluster that makes the cells of a sweep, instead of processes of this machine."""

    address: str = ""
    """Of a scheduler that is there, as in ``tcp://host:8786``."""
    cluster: str = ""
    """Or one to be started: local, slurm, pbs, lsf or sge."""
    workers: int = positive(2)
    """Processes of a local cluster; jobs of the others."""
    options: dict[str, Any] = field(default_factory=dict)
    """For the cluster, such as `cores`, `memory`, `queue`, `walltime` of dask-jobqueue."""
    timeout: float = positive(60.0)
    """Seconds to wait for the scheduler and the first worker."""


@dataclass
class RunConfig:
    """The whole configuration of a run."""

    description: str = ""
    seed: int = not_negative(1)
    n_replicates: int = positive(1000)
    n_workers: int | None = positive(None)
    """Processes; if not given, one for a run and as many as there are cores for a sweep."""
    sweep: SweepConfig = field(default_factory=SweepConfig)
    dask: DaskConfig = field(default_factory=DaskConfig)
    shard: int = not_negative(0)
    """Which of the parts of a sweep a job makes."""
    n_shards: int = positive(1)
    """Parts into which a sweep is split."""
    precision: float | None = positive(None)
    """Monte Carlo error that no power may exceed; replicates are added until then."""
    max_replicates: int = positive(1_000_000)
    """Most that are made for the precision."""
    paired_with: str = ""
    """Folder of an earlier trial run, with whose power this one's is compared."""
    estimand_patients: int = not_negative(200_000)
    """Of the cohort from which true values are taken; 0 takes none."""
    cohort: CohortConfig = field(default_factory=CohortConfig)
    trial: TrialConfig | None = None
    backbone: str = ""
    population: PopulationConfig = field(default_factory=PopulationConfig)
    agents: dict[str, AgentConfig] = field(default_factory=dict)
    strategies: dict[str, StrategyConfig] = field(default_factory=dict)
    course: CourseConfig = field(default_factory=CourseConfig)
    assessment: AssessmentConfig = field(default_factory=AssessmentConfig)
    coupling: CouplingConfig = field(default_factory=CouplingConfig)
    definitions: dict[str, DefinitionConfig] = field(default_factory=dict)
    analysis: AnalysisConfig = field(default_factory=AnalysisConfig)
    targets: list[TargetConfig] = field(default_factory=list)
    published: PublishedConfig | None = None
    reference: ReferenceConfig = field(default_factory=ReferenceConfig)


@dataclass
class PlanConfig:
    """How ``resistime-plan`` measures, and what the jobs of a scheduler cost."""

    seconds: float = positive(20.0)
    """Most that is spent on measuring."""
    error: float = positive(0.03)
    """Relative standard error of the total at which measuring ends."""
    job_overhead: float = not_negative(3.1)
    """Seconds that a scheduler takes for a job; 3.1 were measured with Slurm."""
    job_minutes: float | None = positive(None)
    """Of a job, at least; if not given, so long that overhead is a hundredth of it."""
    max_jobs: int = positive(1001)
    """Most jobs of an array, such as Slurm's MaxArraySize."""


@dataclass
class PlanRunConfig(RunConfig):
    """The whole configuration of ``resistime-plan``."""

    plan: PlanConfig = field(default_factory=PlanConfig)


@dataclass
class SizeConfig:
    """What `resistime-size` varies, and the comparison whose power is asked for."""

    vary: str = "trial.n_patients"
    """`trial.n_patients`, or `events`, `date` or `follow_up` of one of `trial.cuts`."""
    accrual: str = "as_designed"
    """With n_patients: which of `duration` and `rate` stays; the one that the trial gives."""
    events: str = "proportional"
    """With n_patients: events that cuts wait for are a fixed share of the patients, or `fixed`."""
    cut: str = ""
    """Empty is the one that is varied, or the last."""
    endpoint: str = ""
    """Empty is the first of `trial.endpoints`."""
    arm: str = ""
    """Empty is the first experimental one."""
    method: str = ""
    """Empty is the first of `trial.comparisons`."""
    width: float = positive(0.02)
    """Of the 95 % interval of the size, as a share of the size."""
    least: float | None = positive(None)
    """Smallest size that is tried."""
    most: float | None = positive(None)
    """Largest size that is tried."""
    step: float | None = positive(None)
    """Sizes are multiples of it; the weights' sum for patients, 1 for events, 0.1 months."""
    confirm: int = not_negative(10_000)
    """Other trials in which the power at the answer is seen once more."""


@dataclass
class SizeRunConfig(RunConfig):
    """The whole configuration of `resistime-size`."""

    target_power: float = positive(0.9)
    size: SizeConfig = field(default_factory=SizeConfig)
