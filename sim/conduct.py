"""Conducting trials: blocks simulated, cut and compared, on one core or several.

Belongs to the commands: it is where simulation and statistics meet. Blocks of
replicates are independent and always the same, so how they are spread over
workers changes nothing in the results, which are put together in block order.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sim.assessment import TICK
from sim.cut import DataCut
from sim.endpoint.by_name import ENDPOINTS
from sim.endpoint.endpoint import RATE, Known
from sim.outcome import to_months
from sim.plan import TrialPlan
from sim.trial import TrialBlock, blocks_of, simulate_block

if TYPE_CHECKING:
    from analysis.comparison.by_name import NamedComparison
    from analysis.comparison.result import Comparison
    from analysis.operating import CutResults

__all__ = ["Conducted", "conduct_trials"]

FloatArray = NDArray[np.float64]
Columns = dict[tuple[str, ...], FloatArray]
"""Numbers of each replicate by what they are, each (R,)."""

TASK_BLOCKS = 100
"""Blocks in a task of a worker: some tenths of a second to some seconds of work."""


@dataclass(frozen=True, slots=True)
class Conducted:
    """What conducting gave, and how long its parts took."""

    cuts: dict[str, CutResults]
    simulate_seconds: float
    analyse_seconds: float


def conduct_trials(
    plan: TrialPlan,
    n_replicates: int,
    n_workers: int = 1,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> Conducted:
    """Simulate, cut and compare every replicate.

    Parameters
    ----------
    plan : TrialPlan
        What is done in each.
    n_replicates : int
        How many. The first are the same when there are more.
    n_workers : int, default 1
        Processes. Results are the same to the byte however many.
    progress : callable, optional
        Wraps the tasks as they are done, to show how far it has come.

    Returns
    -------
    Conducted
        Results by cut; seconds are summed over workers.

    Raises
    ------
    ScenarioError
        If a comparison is not known.
    """
    _check_comparisons(plan)
    tasks = [
        [block for block, _ in group]
        for group in _grouped(list(blocks_of(n_replicates)), n_workers)
    ]
    if n_workers == 1:
        done = [conduct_blocks(plan, task) for task in progress(tasks)]
    else:
        with ProcessPoolExecutor(n_workers) as pool:
            results = pool.map(conduct_blocks, [plan] * len(tasks), tasks)
            done = list(progress(results))
    columns = {
        key: np.concatenate([part[0][key] for part in done])[:n_replicates] for key in done[0][0]
    }
    return Conducted(
        _by_cut(plan, columns), sum(part[1] for part in done), sum(part[2] for part in done)
    )


def _check_comparisons(plan: TrialPlan) -> None:
    """Refuse a comparison that does not exist before anything is simulated."""
    from analysis.comparison.by_name import find_comparison

    for i, name in enumerate(plan.comparisons):
        find_comparison(f"trial.comparisons[{i}]", name)


def _grouped(
    blocks: Sequence[tuple[int, int]], n_workers: int
) -> Iterator[Sequence[tuple[int, int]]]:
    """Consecutive blocks for each task, fewer where there would not be a task for each worker."""
    size = max(1, min(TASK_BLOCKS, -(-len(blocks) // (4 * n_workers))))
    for start in range(0, len(blocks), size):
        yield blocks[start : start + size]


def conduct_blocks(plan: TrialPlan, blocks: Sequence[int]) -> tuple[Columns, float, float]:
    """Conduct some blocks: numbers of their replicates, and seconds simulating and analysing."""
    from analysis.comparison.by_name import find_comparison

    compare = {name: find_comparison("trial.comparisons", name) for name in plan.comparisons}
    found: dict[tuple[str, ...], list[FloatArray]] = {}
    simulating = analysing = 0.0
    for block in blocks:
        begin = time.perf_counter()
        trial = simulate_block(
            plan.scenario, plan.design, seed=plan.seed, block=block, endpoints=plan.simulated,
            horizon=plan.horizon, definition=plan.definition,
        )  # fmt: skip
        middle = time.perf_counter()
        for key, values in _analyse(plan, trial, compare):
            found.setdefault(key, []).append(values)
        simulating += middle - begin
        analysing += time.perf_counter() - middle
    return {key: np.concatenate(parts) for key, parts in found.items()}, simulating, analysing


def _analyse(
    plan: TrialPlan, trial: TrialBlock, compare: Mapping[str, NamedComparison]
) -> Iterator[tuple[tuple[str, ...], FloatArray]]:
    """Every number of every replicate of a block, by what it is."""
    for name, rule in plan.cuts.items():
        cut = DataCut.by(rule, trial)
        yield (name, "date"), to_months(cut.date)
        yield (name, "target_reached"), cut.target_reached.astype(np.float64)
        yield (name, "enrolled"), cut.enrolled.astype(np.float64)
        if not plan.design.eligibility.everyone:
            yield (name, "screened"), trial.screened.astype(np.float64)
        for endpoint in plan.endpoints:
            known = cut.know(endpoint)
            yield (name, "events", endpoint), _count(known.event)
            for a, arm in enumerate(plan.design.arms[1:], start=1):
                for result in _compare(plan, trial, endpoint, known, a, compare):
                    method, comparison = result
                    for part in ("estimate", "standard_error", "z", "p_value"):
                        key = (name, "method", arm.strategy, endpoint, method, part)
                        yield key, getattr(comparison, part)


def _count(chosen: NDArray[np.bool_]) -> FloatArray:
    return np.count_nonzero(chosen, axis=1).astype(np.float64)


def _compare(
    plan: TrialPlan,
    trial: TrialBlock,
    endpoint: str,
    known: Known,
    arm: int,
    compare: Mapping[str, NamedComparison],
) -> Iterator[tuple[str, Comparison]]:
    """The comparisons of one arm with the control on one endpoint."""
    from analysis.comparison.by_name import Evidence
    from analysis.comparison.response_rate import response_rate_of_patients

    tick, event = known.tick, known.event
    if len(plan.design.arms) > 2:
        # The other arms count for nobody here.
        member = (trial.arm == 0) | (trial.arm == arm)
        tick = np.where(member, tick, np.uint32(0))
        event = event & member
    experimental = trial.arm == arm
    if ENDPOINTS[endpoint].kind == RATE:
        (method,) = plan.methods(endpoint)
        yield method, response_rate_of_patients(event, experimental, tick > 0)
        return
    evidence = Evidence(tick, event, experimental, trial.stratum, TICK)
    for method, named in compare.items():
        yield method, named(evidence)


def _by_cut(plan: TrialPlan, columns: Columns) -> dict[str, CutResults]:
    from analysis.operating import CutResults, MethodResults

    parts = [item.name for item in fields(MethodResults)]
    cuts = {}
    for name in plan.cuts:
        methods = {
            key: MethodResults(*(columns[(name, "method", *key, part)] for part in parts))
            for key in plan.compared
        }
        cuts[name] = CutResults(
            date=columns[name, "date"],
            target_reached=columns[name, "target_reached"] == 1.0,
            enrolled=columns[name, "enrolled"],
            events={endpoint: columns[name, "events", endpoint] for endpoint in plan.endpoints},
            methods=methods,
        )
    return cuts
