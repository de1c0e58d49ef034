"""Published results that simulated ones are held against: their names, and what they must be.

The names of measures are read in one place, and a published number is refused
where it cannot be what it says: a percentage for a fraction, a rate that rises
with time, a median on the wrong side of a rate. Results that contradict each
other are more often slips of the pen than of the trial.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Protocol

from sim.errors import ScenarioError, unknown_name

__all__ = [
    "CHECKED", "CURVES", "Measure", "Target", "check_targets", "planned_stop", "read_measure",
    "target_name",
]  # fmt: skip

CURVES = ("pfs", "os", "duration_of_response", "acquired_resistance", "pfs2")
"""Endpoints with medians and rates."""

SHARES = ("orr", "bor_pd", "completed", "orr_completed")
HAZARD_RATIOS = ("hr_pfs", "hr_os")
CHECKED = ("verified", "memory", "derived")

MEASURES = (
    "must be orr, bor_pd, completed, orr_completed, median_<endpoint>, rate_<endpoint>_<months>, "
    "hr_pfs, hr_os, survival_after_completion_<months> or median_post_progression_<next line>"
)


class Target(Protocol):
    """A published result, as configured."""

    strategy: str
    measure: str
    stratum: str
    against: str
    value: float
    interval: list[float]
    follow_up: float | None
    n: int
    tolerance: float
    standard_error: float | None
    source: str
    where: str
    checked: str


class Dosed(Protocol):
    """What is asked of a dose here."""

    @property
    def agent(self) -> str:
        """Name of the agent."""

    @property
    def stop(self) -> float:
        """Planned end, months since randomisation."""


@dataclass(frozen=True, slots=True)
class Measure:
    """What a target measures."""

    kind: str
    """``share``, ``median``, ``rate``, ``hazard_ratio``, ``after_completion``, ``after``."""

    name: str
    """Of the endpoint, of the share, or of the next line that follows progression."""

    month: float = math.nan
    """Of a rate."""

    @property
    def fraction(self) -> bool:
        """Whether its values lie between 0 and 1."""
        return self.kind in ("share", "rate", "after_completion")

    @property
    def completers(self) -> bool:
        """Whether it is about those who took all planned cycles."""
        return self.kind == "after_completion" or self.name in ("completed", "orr_completed")


def read_measure(text: str) -> Measure | None:
    """The measure that a name stands for; None where it stands for none.

    Examples
    --------
    >>> read_measure("rate_os_24")
    Measure(kind='rate', name='os', month=24.0)
    >>> read_measure("hr_pfs").kind, read_measure("median_efs")
    ('hazard_ratio', None)
    """
    if text in SHARES:
        return Measure("share", text)
    if text in HAZARD_RATIOS:
        return Measure("hazard_ratio", text.removeprefix("hr_"))
    if text.startswith("median_post_progression_"):
        return Measure("after", text.removeprefix("median_post_progression_"))
    if text.removeprefix("median_") in CURVES and text.startswith("median_"):
        return Measure("median", text.removeprefix("median_"))
    start, _, end = text.rpartition("_")
    month = _month(end)
    if month is None:
        return None
    if start == "survival_after_completion":
        return Measure("after_completion", "os", month)
    name = start.removeprefix("rate_")
    return Measure("rate", name, month) if start != name and name in CURVES else None


def _month(text: str) -> float | None:
    try:
        month = float(text)
    except ValueError:
        return None
    return month if 0.0 < month < math.inf else None


def target_name(target: Target) -> str:
    """``strategy.measure``, and ``.stratum`` where it is about one: the name of a misfit."""
    return ".".join(x for x in (target.strategy, target.measure, target.stratum) if x)


def planned_stop(doses: Sequence[Dosed], blockers: Collection[str]) -> float:
    """Months after which an arm has had all planned cycles of its ICI; inf where there is no end.

    Parameters
    ----------
    doses : sequence
        Of the strategy.
    blockers : collection of str
        Names of the agents that are checkpoint inhibitors.
    """
    return max((dose.stop for dose in doses if dose.agent in blockers), default=math.inf)


def check_targets(
    targets: Sequence[Target],
    *,
    strategies: Mapping[str, float],
    strata: Collection[str],
    next_lines: Collection[str],
    control: str,
    follow_up: float,
) -> None:
    """Refuse targets that name what is not there, or that cannot be true.

    Parameters
    ----------
    targets : sequence of Target
        Published results.
    strategies : mapping
        The planned stop of each strategy, inf for none.
    strata, next_lines : collection of str
        Names.
    control : str
        The strategy against which hazard ratios are, unless they say otherwise.
    follow_up : float
        Months of the simulated cohort.

    Raises
    ------
    ScenarioError
        For the first that is wrong.
    """
    measures = [
        _check_target(f"targets[{i}]", target, strategies, strata, next_lines, control, follow_up)
        for i, target in enumerate(targets)
    ]
    groups: dict[tuple[str, str], list[int]] = {}
    for i, target in enumerate(targets):
        groups.setdefault((target.strategy, target.stratum), []).append(i)
    for members in groups.values():
        for i, j in combinations(members, 2):
            _check_pair(i, targets[i], measures[i], j, targets[j], measures[j])


def _check_target(
    path: str,
    target: Target,
    strategies: Mapping[str, float],
    strata: Collection[str],
    next_lines: Collection[str],
    control: str,
    follow_up: float,
) -> Measure:
    measure = read_measure(target.measure)
    if target.strategy not in strategies:
        raise unknown_name(f"{path}.strategy", "strategy", target.strategy, strategies)
    if measure is None:
        raise ScenarioError(f"{path}.measure {MEASURES}, got '{target.measure}'")
    if measure.kind == "after" and measure.name not in next_lines:
        raise unknown_name(f"{path}.measure", "next line", measure.name, next_lines)
    if measure.fraction and target.value > 1.0:
        raise ScenarioError(
            f"{path}.value must be between 0 and 1 for {target.measure}, got {target.value:g}"
        )
    if not measure.fraction and target.value == 0.0:
        raise ScenarioError(f"{path}.value must be greater than 0 for {target.measure}, got 0")
    if target.stratum and target.stratum not in strata:
        raise unknown_name(f"{path}.stratum", "stratum", target.stratum, strata)
    if not target.source:
        raise ScenarioError(f"{path}.source must name a key of references.bib, got ''")
    if target.checked not in CHECKED:
        allowed = ", ".join(CHECKED)
        raise ScenarioError(f"{path}.checked must be one of {allowed}, got '{target.checked}'")
    if target.standard_error is not None and not 0.0 <= target.standard_error < math.inf:
        raise ScenarioError(
            f"{path}.standard_error must be finite and at least 0, got {target.standard_error:g}"
        )
    _check_ratio(path, target, measure, strategies, control)
    stop = strategies[target.strategy]
    if measure.completers and stop == math.inf:
        raise ScenarioError(
            f"{path}.measure: {target.measure} has no meaning where no stop of an ICI is planned, "
            f"got strategy '{target.strategy}'"
        )
    known = {"after_completion": stop + measure.month, "rate": measure.month}
    if known.get(measure.kind, stop if measure.completers else 0.0) > follow_up:
        raise ScenarioError(
            f"{path}.measure must lie within cohort.follow_up ({follow_up:g} months), "
            f"got '{target.measure}'"
        )
    return measure


def _check_ratio(
    path: str, target: Target, measure: Measure, strategies: Mapping[str, float], control: str
) -> None:
    """Refuse a hazard ratio without its other arm or its error, and these where there is none."""
    if measure.kind != "hazard_ratio":
        for name, given in (
            ("against", target.against),
            ("interval", target.interval),
            ("follow_up", target.follow_up),
        ):
            if given:
                raise ScenarioError(
                    f"{path}.{name} must be given for hazard ratios only, got {given!r} "
                    f"with '{target.measure}'"
                )
        return
    other = target.against or control
    if not other:
        raise ScenarioError(
            f"{path}.against must name the other arm of {target.measure} where there is no "
            "published.control, got ''"
        )
    if other not in strategies:
        raise unknown_name(f"{path}.against", "strategy", other, strategies)
    if other == target.strategy:
        raise ScenarioError(f"{path}.against must be another arm than strategy, got '{other}'")
    if target.standard_error is None and not target.interval:
        raise ScenarioError(
            f"{path}.interval must be given for {target.measure} (or standard_error, of its "
            "logarithm), got []"
        )
    if target.interval:
        wrong = len(target.interval) != 2
        if wrong or not target.interval[0] < target.value < target.interval[1]:
            raise ScenarioError(
                f"{path}.interval must be two limits with {target.value:g} between them, "
                f"got {target.interval}"
            )


ORDER = {"pfs": 0, "pfs2": 1, "os": 2}
"""Endpoints of which each comes no later than the next."""


def _check_pair(
    i: int, one: Target, first: Measure, j: int, other: Target, second: Measure
) -> None:
    """Refuse two results of the same patients that cannot both be true."""
    told = f"targets[{j}].value contradicts targets[{i}]"
    if one.measure == other.measure and (one.against == other.against):
        raise ScenarioError(
            f"targets[{j}].measure must be given once for '{one.strategy}'"
            f"{f' in {one.stratum}' if one.stratum else ''}, got '{one.measure}' again"
        )
    if {one.measure, other.measure} == {"orr", "bor_pd"} and one.value + other.value > 1.0:
        raise ScenarioError(
            f"{told}: {one.measure} and {other.measure} must be at most 1 together, "
            f"got {one.value:g} and {other.value:g}"
        )
    for a, b in _bounds(one, first, other, second):
        if a.value > b.value:
            raise ScenarioError(
                f"{told}: {a.measure} must be at most {b.measure}, got {a.value:g} and {b.value:g}"
            )
    for median, rate, m, r in ((one, other, first, second), (other, one, second, first)):
        if (m.kind, r.kind) != ("median", "rate") or m.name != r.name:
            continue
        before = r.month < median.value
        if (before and rate.value < 0.5) or (r.month > median.value and rate.value > 0.5):
            raise ScenarioError(
                f"{told}: {rate.measure} must be at {'least' if before else 'most'} 0.5 where "
                f"{median.measure} is {median.value:g}, got {rate.value:g}"
            )


def _bounds(
    one: Target, first: Measure, other: Target, second: Measure
) -> Iterator[tuple[Target, Target]]:
    """Pairs of which the first result cannot be above the second."""
    for a, b, x, y in ((one, other, first, second), (other, one, second, first)):
        if x.kind == y.kind == "rate" and x.name == y.name and x.month > y.month:
            yield a, b
        if x.name in ORDER and y.name in ORDER and ORDER[x.name] < ORDER[y.name]:
            if x.kind == y.kind == "median":
                yield a, b
            if x.kind == y.kind == "rate" and x.month >= y.month:
                yield a, b
