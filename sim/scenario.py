"""What is simulated: populations, agents, strategies and how patients are watched.

The types here are frozen, hold arrays, and cannot be built in an impossible
state. They know nothing of files, of configuration or of random numbers, and
they simulate nothing. A message about a bad value starts with the name of the
field; whoever knows the path that the user typed puts it in front.

They hold arrays and are told apart by identity, so that what follows from them
alone can be worked out once and kept.

Conventions
-----------
Time is in months of 30.4375 days, hazards are events per patient-month. Axis
letters used throughout ``sim``: ``R`` replicate, ``S`` strategy, ``N``
patient, ``M`` patients of several replicates in one row, ``B`` stratum, ``K``
mechanism, ``J`` interval, ``V`` visit.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sim.errors import ScenarioError
from sim.hazard import Clock

__all__ = [
    "DAYS_PER_MONTH",
    "Activity",
    "Agent",
    "Assessment",
    "Coupling",
    "Course",
    "Dose",
    "NextLine",
    "Population",
    "Scenario",
    "Strategy",
    "ToxicityHazard",
]

FloatArray = NDArray[np.float64]

DAYS_PER_MONTH = 30.4375


def check_probability(name: str, value: float | FloatArray) -> None:
    """Raise `ScenarioError` unless every value lies in [0, 1]."""
    values = np.asarray(value, dtype=np.float64)
    bad = ~((values >= 0.0) & (values <= 1.0))
    if np.any(bad):
        raise ScenarioError(f"{name} must be between 0 and 1, got {values[bad].flat[0]:g}")


def check_positive(name: str, value: float | FloatArray) -> None:
    """Raise `ScenarioError` unless every value is finite and greater than 0."""
    values = np.asarray(value, dtype=np.float64)
    bad = ~(np.isfinite(values) & (values > 0.0))
    if np.any(bad):
        raise ScenarioError(f"{name} must be greater than 0, got {values[bad].flat[0]:g}")


def check_not_negative(name: str, value: float | FloatArray, *, finite: bool = True) -> None:
    """Raise `ScenarioError` unless every value is at least 0 (and finite, unless told)."""
    values = np.asarray(value, dtype=np.float64)
    bad = ~(values >= 0.0) | (np.isinf(values) if finite else False)
    if np.any(bad):
        rule = "finite and at least 0" if finite else "at least 0"
        raise ScenarioError(f"{name} must be {rule}, got {values[bad].flat[0]:g}")


def _freeze(instance: object) -> None:
    for item in fields(instance):  # type: ignore[arg-type]
        value = getattr(instance, item.name)
        if isinstance(value, np.ndarray):
            value.flags.writeable = False


@dataclass(frozen=True, slots=True, eq=False)
class Population:
    """Who is treated, and how their tumours escape under the backbone."""

    strata: tuple[str, ...]
    """Names along axis B."""

    stratum_prevalence: FloatArray
    """Share of each stratum, shape (B,), adding up to 1."""

    mechanisms: tuple[str, ...]
    """Names along axis K."""

    intrinsic: NDArray[np.bool_]
    """Whether the mechanism lies in the tumour cell, shape (K,)."""

    prevalence: FloatArray
    """Chance that a mechanism is present at baseline, shape (B, K)."""

    loading: FloatArray
    """Loading of each mechanism on the one shared factor, shape (K,), in (-1, 1)."""

    acquired_share: FloatArray
    """Share of the acquired hazard that each mechanism carries, shape (B, K), rows adding to 1."""

    acquired: Clock
    """Hazard of acquired resistance of a responding patient with frailty 1."""

    responding: FloatArray
    """Chance of responding, given no primary resistance, shape (B,)."""

    durable_responding: FloatArray
    """Chance that a response is durable, shape (B,)."""

    durable_controlled: FloatArray
    """Chance that control without response is durable, shape (B,)."""

    durable_hazard: float
    """Hazard of acquired resistance of durable patients."""

    controlled_ratio: float
    """Factor on the acquired hazard of patients who are controlled but do not respond."""

    frailty_sd: float
    """Standard deviation of the log frailty within a class."""

    def __post_init__(self) -> None:
        b, k = len(self.strata), len(self.mechanisms)
        if b == 0 or k == 0:
            raise ScenarioError("strata and mechanisms must each have at least one entry")
        check_probability("stratum_prevalence", self.stratum_prevalence)
        if abs(float(self.stratum_prevalence.sum()) - 1.0) > 1e-6:
            total = float(self.stratum_prevalence.sum())
            raise ScenarioError(f"stratum_prevalence must add up to 1, got {total:g}")
        for name in ("prevalence", "acquired_share"):
            value = getattr(self, name)
            if value.shape != (b, k):
                raise ScenarioError(f"{name} must have shape {(b, k)}, got {value.shape}")
            check_probability(name, value)
        if np.any(np.abs(self.acquired_share.sum(axis=1) - 1.0) > 1e-6):
            raise ScenarioError("acquired_share must add up to 1 over the mechanisms")
        if np.any(np.abs(self.loading) > 0.95):
            raise ScenarioError("loading must be between -0.95 and 0.95")
        for name in ("responding", "durable_responding", "durable_controlled"):
            check_probability(name, getattr(self, name))
        check_not_negative("durable_hazard", self.durable_hazard)
        check_positive("controlled_ratio", self.controlled_ratio)
        check_not_negative("frailty_sd", self.frailty_sd)
        _freeze(self)


@dataclass(frozen=True, slots=True)
class ToxicityHazard:
    """A hazard that is high in an early window after the agent starts, and lower later."""

    early: float = 0.0
    """Events per month within `window`."""

    late: float = 0.0
    """Events per month after it."""

    window: float = 0.0
    """Length of the early window, months."""

    def __post_init__(self) -> None:
        for item in fields(self):
            check_not_negative(item.name, getattr(self, item.name))

    @property
    def absent(self) -> bool:
        """Whether the hazard is nil throughout."""
        return self.early * self.window == 0.0 and self.late == 0.0


@dataclass(frozen=True, slots=True)
class Activity:
    """What an agent does to a tumour by itself, without the immune system (chemotherapy)."""

    refractory: float
    """Share of patients in whom it does nothing."""

    responding: float
    """Chance of responding, given not refractory."""

    shape: float
    """Weibull shape of the time until its benefit is lost."""

    scale: float
    """Weibull scale of the same, months."""

    start: float
    """Months before which its benefit cannot be lost."""

    controlled_ratio: float
    """Factor on that hazard for patients who do not respond."""

    frailty_sd: float
    """Standard deviation of the log frailty."""

    joint_response: float
    """Chance that a patient controlled by this agent and by an ICI responds to the two."""

    tumour_death_hazard: float
    """Death hazard after resistance where no ICI is given."""

    background_hazard: FloatArray
    """Death hazard before resistance where no ICI is given, in each interval, shape (J,)."""

    def __post_init__(self) -> None:
        for name in ("refractory", "responding", "joint_response"):
            check_probability(name, getattr(self, name))
        for name in ("shape", "scale", "controlled_ratio"):
            check_positive(name, getattr(self, name))
        for name in ("start", "frailty_sd", "tumour_death_hazard", "background_hazard"):
            check_not_negative(name, getattr(self, name))
        _freeze(self)


@dataclass(frozen=True, slots=True, eq=False)
class Agent:
    """One row of the mechanism matrix."""

    name: str
    label: str
    """As printed in figures."""

    family: str
    """Checkpoint backbone, coinhibitory, costimulatory, microenvironment, priming, chemotherapy."""

    checkpoint_inhibitor: bool
    """Whether it is an ICI backbone, to which the rules of ICI resistance apply."""

    reversal: FloatArray
    """Chance that it undoes each mechanism where present at baseline, shape (K,)."""

    hazard_ratio: FloatArray
    """Ratio on the hazard of acquiring each mechanism, shape (K,)."""

    response: float = 0.0
    """Chance that a benefit that would have been control becomes a response."""

    durability: float = 0.0
    """Chance that a benefit that would have been lost becomes durable."""

    growth_ratio: float = 1.0
    """Factor on the speed of regrowth: below 1 it delays the scan, not the fate."""

    onset: float = 0.0
    """Months until the hazard ratio acts."""

    discontinuation: ToxicityHazard = field(default_factory=ToxicityHazard)
    """Hazard of stopping the agent for toxicity."""

    fatal: ToxicityHazard = field(default_factory=ToxicityHazard)
    """Hazard of death from toxicity."""

    activity: Activity | None = None
    """Set for an agent that works by itself."""

    def __post_init__(self) -> None:
        check_probability("reversal", self.reversal)
        check_not_negative("hazard_ratio", self.hazard_ratio)
        check_probability("response", self.response)
        check_probability("durability", self.durability)
        check_positive("growth_ratio", self.growth_ratio)
        check_not_negative("onset", self.onset)
        _freeze(self)


@dataclass(frozen=True, slots=True)
class Dose:
    """One agent in a strategy: when, and for whom."""

    agent: str
    start: float = 0.0
    """Months since randomisation. Ignored for a dose that waits for progression."""

    stop: float = np.inf
    """Planned end, months since randomisation."""

    at_progression: bool = False
    """Given only once progression has been detected."""

    matched: tuple[str, ...] = ()
    """Mechanisms for which the patient must have tested positive; empty means everyone."""

    def __post_init__(self) -> None:
        check_not_negative("start", self.start)
        if not self.stop > self.start:
            raise ScenarioError(
                f"stop must be later than start ({self.start:g} months), got {self.stop:g}"
            )


@dataclass(frozen=True, slots=True, eq=False)
class Strategy:
    """Which agents, when, for whom, and by which rule their effects combine."""

    name: str
    label: str
    family: str
    """Panel in which figures show it."""

    doses: tuple[Dose, ...]
    rule: str = "independent_action"
    """A function of `sim.combination`."""

    psi: float = 1.0
    """Factor on the hazard of independent action under the rule `synergy`; 1 is none."""

    crossover: float = 0.0
    """Share of patients with detected progression who then cross over to an ICI."""

    sensitivity: float = 1.0
    """Of the test by which agents are matched to mechanisms."""

    specificity: float = 1.0
    """Of the same test."""

    def __post_init__(self) -> None:
        if not self.doses:
            raise ScenarioError("doses must name at least one agent")
        check_positive("psi", self.psi)
        for name in ("crossover", "sensitivity", "specificity"):
            check_probability(name, getattr(self, name))


@dataclass(frozen=True, slots=True)
class NextLine:
    """One thing that can be done at detected progression."""

    name: str
    share: float
    """Share of the treated patients to whom it is given, if eligible."""

    hazard_ratio: float
    """Factor on the death hazard from then on."""

    eligible: str = "all"
    """`all`, `oligoprogression` or `off_treatment`."""

    regain: float = 0.0
    """Chance that benefit returns, during which the death clock stands still."""

    regain_median: float = 0.0
    """Median length of that benefit, months."""

    matched: tuple[str, ...] = ()
    """Mechanisms to which it is matched: those it is for must have caused the resistance."""

    def __post_init__(self) -> None:
        check_probability("share", self.share)
        check_not_negative("hazard_ratio", self.hazard_ratio)
        check_probability("regain", self.regain)
        check_not_negative("regain_median", self.regain_median)
        if self.eligible not in ("all", "oligoprogression", "off_treatment"):
            raise ScenarioError(
                f"eligible must be all, oligoprogression or off_treatment, got '{self.eligible}'"
            )


@dataclass(frozen=True, slots=True, eq=False)
class Course:
    """What follows resistance: regrowth, progression, next lines and death."""

    primary_lag: float
    """Median months from primary resistance (time 0) to progression."""

    acquired_lag: float
    """Median months from acquired resistance to progression."""

    lag_sd: float
    """Standard deviation of the log lag, beyond the growth speed."""

    growth_sd: float
    """Standard deviation of the log growth speed."""

    tumour_death_hazard: float
    """Death hazard once a tumour resistant at 6 months has regrown, growth speed and frailty 1."""

    growth_exponent: float
    """Power of the growth speed in that hazard."""

    timing_exponent: float
    """Power, made negative, of ((time of resistance + 1.5) / 7.5) in that hazard."""

    death_frailty_sd: float
    """Standard deviation of the log frailty of that hazard."""

    background_starts: FloatArray
    """Starts of the intervals of `background_hazard`, shape (J,), the first 0."""

    background_hazard: FloatArray
    """Hazard of death from other causes, shape (J,)."""

    stop_effect: float
    """Log of the factor on the acquired hazard after stopping at once."""

    stop_decay: float
    """Months on drug over which that log falls by a factor e."""

    oligo_primary: float
    """Share of progressions after primary resistance with at most three sites."""

    oligo_acquired: float
    """The same after acquired resistance."""

    untreated: float
    """Share of patients with progression who are never treated again."""

    untreated_ratio: float
    """Factor on their death hazard."""

    next_lines: tuple[NextLine, ...]
    """What the others get, in order; the last is given to whoever is eligible for nothing else."""

    crossover_primary: float
    """Chance that crossing over meets primary resistance in a patient without it at first."""

    def __post_init__(self) -> None:
        for name in (
            "primary_lag", "acquired_lag", "lag_sd", "growth_sd", "tumour_death_hazard",
            "growth_exponent", "timing_exponent", "death_frailty_sd", "background_hazard",
            "stop_effect", "untreated_ratio",
        ):  # fmt: skip
            check_not_negative(name, getattr(self, name))
        check_positive("stop_decay", self.stop_decay)
        for name in ("oligo_primary", "oligo_acquired", "untreated", "crossover_primary"):
            check_probability(name, getattr(self, name))
        starts = self.background_starts
        if starts.size == 0 or starts[0] != 0.0 or np.any(np.diff(starts) <= 0.0):
            raise ScenarioError(f"background_starts must increase from 0, got {starts.tolist()}")
        if starts.shape != self.background_hazard.shape:
            raise ScenarioError(
                f"background_hazard must hold {starts.size} hazards, one for each of "
                f"background_starts, got {self.background_hazard.size}"
            )
        if not self.next_lines:
            raise ScenarioError("next_lines must have at least one entry, got none")
        last = self.next_lines[-1]
        if last.eligible != "all" or last.matched:
            raise ScenarioError(
                f"next_lines must end with one that everyone can be given (eligible all, "
                f"matched to nothing), got {last.name}"
            )
        total = sum(line.share for line in self.next_lines)
        if abs(total - 1.0) > 1e-6:
            raise ScenarioError(f"next_lines must have shares that add up to 1, got {total:g}")
        _freeze(self)

    @property
    def regrows(self) -> bool:
        """Whether progression comes later than resistance."""
        return self.primary_lag > 0.0 or self.acquired_lag > 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Assessment:
    """How patients are watched: scans, criteria and loss to follow-up."""

    every: FloatArray
    """Interval between scans in each phase, weeks, shape (J,); one 0 means continuous watching."""

    until: FloatArray
    """End of each phase, weeks since randomisation, shape (J,), the last infinite."""

    jitter_sd: float
    """Standard deviation of the day of a scan about the schedule, days."""

    missed: float
    """Chance that a scheduled scan is not done."""

    symptomatic: float
    """Share of progressions seen between scans, by symptoms."""

    pseudoprogression: float
    """Share of benefiting ICI patients whose first scan looks like progression and is not."""

    criteria: str
    """`recist` (first progression counts) or `irecist` (it must be confirmed)."""

    confirmation: float
    """Least interval before a scan can confirm progression, weeks."""

    stable_minimum: float
    """Least time from randomisation at which a scan can show stable disease, weeks."""

    response_median: float
    """Median time to response, months."""

    response_sd: float
    """Standard deviation of the log time to response."""

    complete_response: float
    """Share of responses that are complete."""

    withdrawal: float
    """Hazard of being lost to follow-up."""

    missed_before_censoring: int
    """Missed scans in a row that censor a later event at the scan before; 0 is never."""

    def __post_init__(self) -> None:
        self._check_schedule()
        for name in ("missed", "symptomatic", "pseudoprogression", "complete_response"):
            check_probability(name, getattr(self, name))
        if self.missed >= 1.0:
            raise ScenarioError(
                f"missed must be below 1, as a trial without scans sees nothing, "
                f"got {self.missed:g}"
            )
        for name in (
            "jitter_sd", "confirmation", "stable_minimum", "response_median", "response_sd",
            "withdrawal", "missed_before_censoring",
        ):  # fmt: skip
            check_not_negative(name, getattr(self, name))
        if self.criteria not in ("recist", "irecist"):
            raise ScenarioError(f"criteria must be recist or irecist, got '{self.criteria}'")
        _freeze(self)

    def _check_schedule(self) -> None:
        if self.every.shape != self.until.shape or self.every.size == 0:
            raise ScenarioError(
                f"schedule must have at least one phase, with every and until, "
                f"got {self.every.size}"
            )
        check_not_negative("schedule.every", self.every)
        for j, every in enumerate(self.every.tolist()):
            if every == 0.0 and self.every.size > 1:
                raise ScenarioError(
                    f"schedule[{j}].every must be above 0 weeks; only a single phase can be 0 "
                    f"(continuous), got {every:g}"
                )
            if 0.0 < every < 1.0 / 7.0:
                raise ScenarioError(
                    f"schedule[{j}].every must be 0 (continuous) or at least a day "
                    f"(1/7 of a week), got {every:g}"
                )
        before = 0.0
        for j, until in enumerate(self.until.tolist()):
            if not until > before:
                raise ScenarioError(
                    f"schedule[{j}].until must be later than the end of the phase before it "
                    f"({before:g} weeks), got {until:g}"
                )
            before = until
        if not np.isinf(before):
            raise ScenarioError(
                f"schedule[{self.until.size - 1}].until must be inf, as the last phase never "
                f"ends, got {before:g}"
            )

    @property
    def continuous(self) -> bool:
        """Whether progression is seen when it happens."""
        return bool(self.every[0] == 0.0)


@dataclass(frozen=True, slots=True, eq=False)
class Coupling:
    """How effects go together in one patient; no single trial identifies it."""

    spearman: float = 0.3
    """Rank correlation of the benefit of the ICI backbone and of an agent with activity."""

    reversal: float = 0.0
    """Correlation of the draws by which different agents undo the same mechanism."""

    def __post_init__(self) -> None:
        if not -1.0 <= self.spearman <= 1.0:
            raise ScenarioError(f"spearman must be between -1 and 1, got {self.spearman:g}")
        if not 0.0 <= self.reversal < 1.0:
            raise ScenarioError(f"reversal must be at least 0 and below 1, got {self.reversal:g}")


@dataclass(frozen=True, eq=False)
class Scenario:
    """Everything that decides what happens to patients, and nothing else."""

    population: Population
    agents: tuple[Agent, ...]
    strategies: tuple[Strategy, ...]
    course: Course
    assessment: Assessment
    coupling: Coupling
    backbone: str | None
    """The ICI whose benefit an agent with activity is coupled to; None if there is none."""

    def __post_init__(self) -> None:
        if not self.strategies:
            raise ScenarioError("strategies must have at least one entry")
        for names in ([a.name for a in self.agents], [s.name for s in self.strategies]):
            if len(set(names)) != len(names):
                raise ScenarioError(f"names must be unique, got {', '.join(names)}")

    @property
    def next_lines(self) -> tuple[str, ...]:
        """What may follow detected progression, by the code that a cohort holds."""
        options = (line.name for line in self.course.next_lines)
        return ("untreated", "crossover", "addition", *options)

    @cached_property
    def mortal(self) -> bool:
        """Whether anybody can die: special cases about progression alone leave death out."""
        activities = [agent.activity for agent in self.agents if agent.activity is not None]
        return bool(
            np.any(self.course.background_hazard > 0.0)
            or self.course.tumour_death_hazard > 0.0
            or any(not agent.fatal.absent for agent in self.agents)
            or any(a.tumour_death_hazard > 0.0 or a.background_hazard.any() for a in activities)
        )

    def agent(self, name: str) -> Agent:
        """The agent called `name`."""
        return next(agent for agent in self.agents if agent.name == name)
