"""True values of what comparisons estimate, from a large cohort.

Belongs to the commands, as conducting does. All patients of the cohort are met
in both arms, so that the two differ by the effect alone, and come from blocks
that no replicate uses. What a comparison estimates is known by applying the
comparison itself:

- to patients who are all followed, without dropout, withdrawal or data cut,
  where its true value belongs to the population (restricted means, milestones,
  medians, an average hazard ratio up to a month);
- to patients who enter, are lost and are cut at the mean date as in the trial,
  where it also belongs to the follow-up (Cox), since a hazard ratio that is not
  constant has no single value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sim.assessment import TICK
from sim.cut import DataCut
from sim.endpoint.by_name import ENDPOINTS
from sim.endpoint.endpoint import RATE
from sim.outcome import NEVER_TICK
from sim.plan import TrialPlan
from sim.randomness import BLOCK
from sim.trial import TrialBlock, simulate_block

if TYPE_CHECKING:
    from analysis.operating import Truth

__all__ = ["FIRST_BLOCK", "estimate_truths"]

MOST_PATIENTS = 2_000_000
"""Patients of both arms in one sample, at most."""

FIRST_BLOCK = 2**31
"""First block of the cohort: replicates would have to number 10^11 to get there."""

Patients = tuple[NDArray[np.uint32], NDArray[np.bool_], NDArray[np.uint8]]
"""Ticks, events and strata, (BLOCK, M): each row is a part of the cohort."""

Looks = dict[tuple[str, str], Patients]
"""What is known, by cut and endpoint."""


def estimate_truths(
    plan: TrialPlan, dates: Mapping[str, float], n_patients: int
) -> dict[tuple[str, str, str, str], Truth]:
    """True value of every comparison that has one.

    Parameters
    ----------
    plan : TrialPlan
        The trial.
    dates : mapping
        Mean date of each cut, months since the start of accrual.
    n_patients : int
        Patients of the cohort, at least; each is in every arm.

    Returns
    -------
    dict
        By cut, arm, endpoint and method. The error is from the spread over
        `BLOCK` parts of the cohort.
    """
    from analysis.comparison.by_name import estimand_kind

    kinds = {estimand_kind(method) for _, _, method in plan.compared}
    truths: dict[tuple[str, str, str, str], Truth] = {}
    if "population" in kinds:
        # One look at all that ever happens stands for every cut.
        arms = _cohort(_undisturbed(plan), n_patients, {"": float("inf")})
        for (_, *key), truth in _compare(plan, arms, "population"):
            arm, endpoint, method = key
            truths.update({(cut, arm, endpoint, method): truth for cut in plan.cuts})
    if "follow_up" in kinds:
        truths.update(_compare(plan, _cohort(plan, n_patients, dates), "follow_up"))
    return truths


def _undisturbed(plan: TrialPlan) -> TrialPlan:
    """The same trial in which nobody is lost."""
    assessment = replace(plan.scenario.assessment, withdrawal=0.0)
    return replace(
        plan,
        scenario=replace(plan.scenario, assessment=assessment),
        design=replace(plan.design, dropout=0.0),
    )


def _cohort(plan: TrialPlan, n_patients: int, dates: Mapping[str, float]) -> list[Looks]:
    """The cohort in each arm as it is known at the date of each cut."""
    n_blocks = -(-n_patients // (BLOCK * plan.design.n_patients))
    arms = []
    for arm in range(len(plan.design.arms)):
        blocks = (
            simulate_block(
                plan.scenario, plan.design, seed=plan.seed, block=FIRST_BLOCK + i,
                endpoints=plan.simulated, horizon=plan.horizon, definition=plan.definition,
                everyone=arm,
            )
            for i in range(n_blocks)
        )  # fmt: skip
        looks = [_look(plan, block, dates) for block in blocks]
        arms.append({seen: _joined([part[seen] for part in looks]) for seen in looks[0]})
    return arms


def _look(plan: TrialPlan, block: TrialBlock, dates: Mapping[str, float]) -> Looks:
    found: Looks = {}
    stratum = block.stratum.astype(np.uint8)
    for name, month in dates.items():
        date = np.full(BLOCK, min(month / TICK, float(NEVER_TICK)), dtype=np.uint32)
        cut = DataCut(block, date, np.ones(BLOCK, dtype=bool))
        for endpoint in plan.endpoints:
            known = cut.know(endpoint)
            found[name, endpoint] = known.tick, known.event, stratum
    return found


def _joined(parts: Sequence[Patients]) -> Patients:
    tick, event, stratum = (np.concatenate(item, axis=1) for item in zip(*parts, strict=True))
    return tick, event, stratum


def _compare(
    plan: TrialPlan, arms: Sequence[Looks], kind: str
) -> Iterator[tuple[tuple[str, str, str, str], Truth]]:
    """Each arm against control, by cut, arm, endpoint and method."""
    from analysis.comparison.by_name import estimand_kind
    from analysis.operating import Truth

    for own, arm in zip(arms[1:], plan.design.arms[1:], strict=True):
        for cut, endpoint in own:
            methods = [m for m in plan.methods(endpoint) if estimand_kind(m) == kind]
            control, experimental = arms[0][cut, endpoint], own[cut, endpoint]
            size = control[0].shape[1]
            # Each row is a part of the cohort; so many that a sample can hold them all.
            rows = min(BLOCK, MOST_PATIENTS // (2 * size))
            tick, event, stratum = (part[:rows] for part in _joined([control, experimental]))
            second = np.broadcast_to(np.repeat([False, True], size), tick.shape)
            both = (tick, event, second, stratum)
            whole = _estimates(endpoint, methods, [values.reshape(1, -1) for values in both])
            parts = _estimates(endpoint, methods, both)
            for method in methods:
                usable = parts[method][np.isfinite(parts[method])]
                error = np.std(usable, ddof=1) / np.sqrt(rows) if len(usable) > 1 else np.nan
                truth = Truth(float(whole[method][0]), float(error))
                yield (cut, arm.strategy, endpoint, method), truth


def _estimates(
    endpoint: str, methods: Sequence[str], both: Sequence[NDArray[Any]]
) -> dict[str, NDArray[np.float64]]:
    """Estimates of the methods, from ticks, events, arms and strata."""
    from analysis.comparison.by_name import Evidence, find_comparison
    from analysis.comparison.response_rate import response_rate_of_patients

    tick, event, arm, stratum = both
    if ENDPOINTS[endpoint].kind == RATE:
        return {m: response_rate_of_patients(event, arm, tick > 0).estimate for m in methods}
    evidence = Evidence(tick, event, arm, stratum, TICK)
    return {m: find_comparison("trial.comparisons", m)(evidence).estimate for m in methods}
