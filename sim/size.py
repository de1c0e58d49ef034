"""Sample size by simulation: what is varied in a trial, and its p-values at each size.

`analysis.size_search` finds where power crosses its target. This module says
what trial stands behind a size, conducts the replicates that are asked for, and
sees the answer once more in replicates that the search has not met.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sim.conduct import check_plan, conduct_blocks, start_worker, whole_blocks
from sim.config import Run, check_change, check_run
from sim.errors import ResistimeError, ScenarioError, unknown_name
from sim.override import with_values
from sim.plan import TrialPlan
from sim.randomness import BLOCK
from sim.schema import CutConfig, SizeRunConfig, TrialConfig

if TYPE_CHECKING:
    from analysis.size_search import Question, Sizes, Solution, Unsolved

__all__ = ["Asked", "Conductor", "Confirmed", "ask_size", "conductor", "confirm_size", "solve_size"]

FloatArray = NDArray[np.float64]

PATIENTS, EVENTS, MONTHS = "trial.n_patients", ("events",), ("date", "follow_up")
MOST_PATIENTS, MOST_MONTHS = 10_000.0, 240.0
LEAST_PATIENTS, LEAST_EVENTS, LEAST_MONTHS = 10.0, 5.0, 1.0
"""Ends of the sizes that are tried, unless others are given."""

ACCRUALS = ("as_designed", "duration", "rate")
TARGETS = ("proportional", "fixed")

PATIENT_BLOCKS = 10_000
"""Patients of a replicate times blocks in a task: a tenth of a second to two seconds of work."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is varied, and the comparison whose power is asked for."""

    whole: SizeRunConfig
    run: Run
    cut: str
    endpoint: str
    arm: str
    method: str
    sizes: Sizes
    start: float

    @property
    def trial(self) -> TrialConfig:
        """The trial as it was given."""
        assert self.whole.trial is not None
        return self.whole.trial

    @property
    def question(self) -> Question:
        """The same without the trial."""
        from analysis.size_search import Question

        return Question(
            target=self.whole.target_power, alpha=self.trial.alpha, sizes=self.sizes,
            width=self.whole.size.width, scanned=self.whole.n_replicates,
            at_most=self.whole.max_replicates, grain=BLOCK,
        )  # fmt: skip

    @property
    def measured(self) -> tuple[tuple[str, ...], ...]:
        """What is read off each replicate: p-value, date, events, whether the target was met."""
        return (
            (self.cut, "method", self.arm, self.endpoint, self.method, "p_value"),
            (self.cut, "date"),
            (self.cut, "events", self.endpoint),
            (self.cut, "target_reached"),
        )

    def values(self, size: float) -> dict[str, Any]:
        """What is set in the configuration to have a size, by path."""
        vary, own = self.whole.size.vary, self.whole.size
        if vary != PATIENTS:
            return {vary: int(size) if vary.endswith(EVENTS) else size}
        ratio = size / self.trial.n_patients
        values: dict[str, Any] = {PATIENTS: int(size)}
        if own.events == "proportional":
            for name, cut in self.trial.cuts.items():
                values |= _events(f"trial.cuts.{name}", cut, ratio)
        accrual = self.trial.accrual
        if accrual.rates and own.accrual == "duration":
            values["trial.accrual.rates"] = [rate * ratio for rate in accrual.rates]
        if not accrual.rates and own.accrual == "rate":
            values["trial.accrual.duration"] = accrual.duration * ratio
        return values

    def plan(self, size: float) -> TrialPlan:
        """The trial of a size, with the one comparison."""
        changed = with_values(self.whole, self.values(size))
        plan = check_change(changed, self.whole, self.run).trial
        assert plan is not None
        comparisons = (self.method,) if self.method in plan.comparisons else plan.comparisons[:1]
        plan = replace(
            plan, cuts={self.cut: plan.cuts[self.cut]}, endpoints=(self.endpoint,),
            comparisons=comparisons,
        )  # fmt: skip
        check_plan(plan)
        return plan


def _rounded_up(events: int, ratio: float) -> int:
    """Events in proportion to the patients; one too few would be less than was asked for."""
    return max(ceil(round(events * ratio, 9)), 1)


def _departure(cut: CutConfig, patients: int) -> Callable[[float], float] | None:
    """The share by which the events of a cut are above their proportion, at numbers of patients."""
    counts = [cut.events, *cut.stratum_events.values(), *(more.events for more in cut.also)]
    waited = [events for events in counts if events is not None]
    if not waited:
        return None

    def departure(size: float) -> float:
        ratio = size / patients
        return max(_rounded_up(events, ratio) / (events * ratio) - 1.0 for events in waited)

    return departure


def _events(path: str, cut: CutConfig, ratio: float) -> dict[str, Any]:
    """Every number of events that a cut waits for, in proportion to the patients."""

    def share(events: int) -> int:
        return _rounded_up(events, ratio)

    values: dict[str, Any] = {}
    if cut.events is not None:
        values[f"{path}.events"] = share(cut.events)
    for name, events in cut.stratum_events.items():
        values[f"{path}.stratum_events.{name}"] = share(events)
    for i, more in enumerate(cut.also):
        if more.events is not None:
            values[f"{path}.also.{i}.events"] = share(more.events)
    return values


# ---------------------------------------------------------------- what is asked


def ask_size(whole: SizeRunConfig, overrides: list[str]) -> Asked:
    """Check what is asked for.

    Parameters
    ----------
    whole : SizeRunConfig
        From `sim.config.read_config`.
    overrides : list of str
        As for `sim.config.read_run`.

    Raises
    ------
    ScenarioError
        If the trial cannot be conducted, or what is varied or compared is not in it.
    """
    if whole.trial is None:
        raise ScenarioError("trial must be given: choose one, trial=... or a scenario with one")
    for name, value in (("precision", whole.precision), ("paired_with", whole.paired_with)):
        if value:
            raise ScenarioError(
                f"{name} must not be given where a size is asked for: size.width says how well "
                f"it is to be known, got {value}"
            )
    run = check_run(whole, overrides)
    plan, own = run.trial, whole.size
    assert plan is not None
    check_plan(plan)
    if not plan.alpha < whole.target_power < 1.0:
        raise ScenarioError(
            f"target_power must be above trial.alpha ({plan.alpha:g}) and below 1, "
            f"got {whole.target_power:g}"
        )
    for name, value, known in (
        ("accrual", own.accrual, ACCRUALS),
        ("events", own.events, TARGETS),
    ):
        if value not in known:
            raise ScenarioError(f"size.{name} must be one of {', '.join(known)}, got '{value}'")
    if own.width >= 1.0:
        raise ScenarioError(f"size.width must be below 1, got {own.width:g}")
    cut = _varied_cut(whole.trial, own.vary)
    if own.cut and cut and own.cut != cut:
        raise ScenarioError(f"size.cut must be '{cut}', which is varied, got '{own.cut}'")
    cut = _chosen("size.cut", "cut", own.cut or cut or list(plan.cuts)[-1], list(plan.cuts))
    endpoint = _chosen(
        "size.endpoint", "endpoint", own.endpoint or plan.endpoints[0], plan.endpoints
    )
    arms = [arm.strategy for arm in plan.design.arms[1:]]
    arm = _chosen("size.arm", "experimental arm", own.arm or arms[0], arms)
    methods = plan.methods(endpoint)
    name = own.method.replace(" ", "").replace("()", "")
    method = _chosen("size.method", "comparison of the trial", name or methods[0], methods)
    asked = Asked(
        whole,
        run,
        cut,
        endpoint,
        arm,
        method,
        _sizes(whole, plan, cut),
        _start(whole.trial, own.vary),
    )
    if not asked.sizes.least < asked.sizes.most:
        raise ScenarioError(
            f"size.most must be above size.least ({asked.sizes.least:g}), got {asked.sizes.most:g}"
        )
    return asked


def _chosen(path: str, kind: str, name: str, known: Any) -> str:
    if name not in known:
        raise unknown_name(path, kind, name, known)
    return name


def _varied_cut(trial: TrialConfig, vary: str) -> str:
    """The cut of which something is varied; nothing for the number of patients."""
    if vary == PATIENTS:
        return ""
    parts = vary.split(".")
    if parts[:2] != ["trial", "cuts"] or len(parts) != 4 or parts[3] not in EVENTS + MONTHS:
        raise ScenarioError(
            f"size.vary must be {PATIENTS}, or trial.cuts.<cut>.events, .date or .follow_up, "
            f"got '{vary}'"
        )
    name = _chosen("size.vary", "cut", parts[2], trial.cuts)
    if getattr(trial.cuts[name], parts[3]) is None:
        waits = [kind for kind in EVENTS + MONTHS if getattr(trial.cuts[name], kind) is not None]
        raise ScenarioError(
            f"size.vary: trial.cuts.{name} does not wait for {parts[3].replace('_', '-')}"
            + (f", but for {' and '.join(waits)}" if waits else "")
        )
    return name


def _start(trial: TrialConfig, vary: str) -> float:
    """The size as it is in the trial."""
    if vary == PATIENTS:
        return float(trial.n_patients)
    *_, cut, kind = vary.split(".")
    return float(getattr(trial.cuts[cut], kind))


def _sizes(whole: SizeRunConfig, plan: TrialPlan, cut: str) -> Sizes:
    """Which sizes can be run."""
    from analysis.size_search import Sizes
    from sim.endpoint.endpoint import short_name

    own, trial = whole.size, whole.trial
    assert trial is not None
    if own.vary == PATIENTS:
        step = float(sum(arm.weight for arm in plan.design.arms))
        usual = (max(LEAST_PATIENTS, 2.0 * step), MOST_PATIENTS, step, "patients")
    elif own.vary.endswith(EVENTS):
        endpoint = short_name(trial.cuts[own.vary.split(".")[2]].endpoint)
        usual = (LEAST_EVENTS, float(trial.n_patients), 1.0, f"{endpoint} events")
    else:
        kind = "months of follow-up" if own.vary.endswith("follow_up") else "months"
        usual = (LEAST_MONTHS, MOST_MONTHS, 0.1, kind)
    least, most, step, unit = usual
    proportional = own.vary == PATIENTS and own.events == "proportional"
    whole_numbers = own.vary == PATIENTS or own.vary.endswith(EVENTS)
    for name in ("least", "most", "step"):
        value = getattr(own, name)
        if whole_numbers and value is not None and not float(value).is_integer():
            raise ScenarioError(f"size.{name} must be a whole number of {unit}, got {value:g}")
    return Sizes(
        least=least if own.least is None else own.least,
        most=most if own.most is None else own.most,
        step=step if own.step is None else own.step,
        unit=unit,
        straight_in_root=whole_numbers,
        departure=_departure(trial.cuts[cut], trial.n_patients) if proportional else None,
    )


# ---------------------------------------------------------------- what is conducted


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The answer in replicates that the search has not met."""

    power: float
    mc_error: float
    n_replicates: int
    first: int
    """Index of the first replicate."""
    date: float
    """Mean month of the cut."""
    events: float
    """Mean events of the endpoint at the cut."""
    target_reached: float
    """Share of trials."""


Conductor = Callable[[Mapping[float, range]], dict[float, FloatArray]]
"""From replicates by size to what is measured in each, (4, R)."""


def solve_size(asked: Asked, conduct: Conductor) -> Solution | Unsolved:
    """Find the size whose power is the target.

    Parameters
    ----------
    asked : Asked
        From `ask_size`.
    conduct : callable
        From `conductor`.
    """
    from analysis.size_search import solve

    def p_values(wanted: Mapping[float, range]) -> dict[float, FloatArray]:
        return {size: found[0] for size, found in conduct(wanted).items()}

    return solve(asked.question, p_values, asked.start)


def confirm_size(asked: Asked, size: float, conduct: Conductor) -> Confirmed:
    """See a size once more, in replicates beyond any that the search may use."""
    from analysis.size_search import power_of

    first, n = whole_blocks(asked.whole.max_replicates), asked.whole.size.confirm
    found = conduct({size: range(first, first + n)})[size]
    power, error = power_of(found[0], asked.trial.alpha)
    date, events, reached = (float(np.mean(row)) for row in found[1:])
    return Confirmed(power, error, n, first, date, events, reached)


@contextmanager
def conductor(asked: Asked, progress: Callable[[int], object] | None = None) -> Iterator[Conductor]:
    """Something that conducts replicates of several sizes, in this process or in several.

    Parameters
    ----------
    asked : Asked
        From `ask_size`.
    progress : callable, optional
        Told how many more trials have been conducted.
    """
    n_workers = asked.run.n_workers or 1
    told = progress or (lambda made: None)
    if n_workers == 1:
        yield lambda wanted: _conduct(asked, wanted, told, _serial)
        return
    pool = ProcessPoolExecutor(n_workers, initializer=start_worker)
    try:
        yield lambda wanted: _conduct(asked, wanted, told, lambda work: _parallel(pool, work))
    except BrokenProcessPool as error:
        raise ResistimeError(
            "n_workers: a worker was ended from outside; was there too little memory?"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


Task = tuple[TrialPlan, range, tuple[tuple[str, ...], ...]]
"""A plan, its blocks, and what is kept of them."""


def _conduct(
    asked: Asked,
    wanted: Mapping[float, range],
    progress: Callable[[int], object],
    work_through: Callable[[list[Task]], Iterator[FloatArray]],
) -> dict[float, FloatArray]:
    """Replicates by size, in tasks of whole blocks whose borders do not matter to the result."""
    tasks: list[Task] = []
    owners: list[float] = []
    for size, replicates in wanted.items():
        plan = asked.plan(size)
        blocks = range(replicates.start // BLOCK, whole_blocks(replicates.stop) // BLOCK)
        length = max(PATIENT_BLOCKS // plan.design.n_patients, 1)
        for i in range(0, len(blocks), length):
            tasks.append((plan, blocks[i : i + length], asked.measured))
            owners.append(size)
    parts: dict[float, list[FloatArray]] = {size: [] for size in wanted}
    for size, part in zip(owners, work_through(tasks), strict=True):
        parts[size].append(part)
        progress(part.shape[1])
    found = {}
    for size, replicates in wanted.items():
        skipped = replicates.start % BLOCK
        joined = np.concatenate(parts[size], axis=1)
        found[size] = joined[:, skipped : skipped + len(replicates)]
    return found


def _serial(tasks: list[Task]) -> Iterator[FloatArray]:
    return (_measure(*task) for task in tasks)


def _parallel(pool: ProcessPoolExecutor, tasks: list[Task]) -> Iterator[FloatArray]:
    pickled: dict[int, bytes] = {}
    futures = []
    for plan, blocks, keys in tasks:
        if id(plan) not in pickled:
            pickled[id(plan)] = pickle.dumps(plan)
        futures.append(pool.submit(_measure_pickled, pickled[id(plan)], blocks, keys))
    return (future.result() for future in futures)


def _measure_pickled(
    pickled: bytes, blocks: range, keys: tuple[tuple[str, ...], ...]
) -> FloatArray:
    return _measure(_unpickled(pickled), blocks, keys)


@lru_cache(maxsize=2)
def _unpickled(pickled: bytes) -> TrialPlan:
    """The plan, made once for its tasks, so that what hangs on it is made once too."""
    plan = pickle.loads(pickled)
    assert isinstance(plan, TrialPlan)
    return plan


def _measure(plan: TrialPlan, blocks: range, keys: tuple[tuple[str, ...], ...]) -> FloatArray:
    columns, _, _ = conduct_blocks(plan, blocks)
    return np.stack([columns[key] for key in keys])
