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
from sim.cut import cut_at
from sim.plan import TrialPlan
from sim.trial import TrialBlock, blocks_of, simulate_block

if TYPE_CHECKING:
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
    needed = sorted({*plan.endpoints, *(rule.endpoint for rule in plan.cuts.values())})
    found: dict[tuple[str, ...], list[FloatArray]] = {}
    simulating = analysing = 0.0
    for block in blocks:
        begin = time.perf_counter()
        trial = simulate_block(
            plan.scenario, plan.design, seed=plan.seed, block=block, endpoints=needed,
            horizon=plan.horizon,
        )  # fmt: skip
        middle = time.perf_counter()
        for key, values in _analyse(plan, trial, compare):
            found.setdefault(key, []).append(values)
        simulating += middle - begin
        analysing += time.perf_counter() - middle
    return {key: np.concatenate(parts) for key, parts in found.items()}, simulating, analysing


def _analyse(
    plan: TrialPlan, trial: TrialBlock, compare: Mapping[str, Callable[[Any], Any]]
) -> Iterator[tuple[tuple[str, ...], FloatArray]]:
    """Every number of every replicate of a block, by what it is."""
    from analysis.comparison.risk import Sample, pack

    for name, rule in plan.cuts.items():
        date, reached = rule.date(trial)
        yield (name, "date"), date.astype(np.float64) * TICK
        yield (name, "target_reached"), reached.astype(np.float64)
        yield (name, "enrolled"), (trial.entry <= date[:, None]).sum(axis=1).astype(np.float64)
        for endpoint in plan.endpoints:
            cut = cut_at(trial, endpoint, date, reached)
            yield (name, "events", endpoint), cut.event.sum(axis=1).astype(np.float64)
            for a, arm in enumerate(plan.design.arms[1:], start=1):
                tick = cut.tick
                event = cut.event
                if len(plan.design.arms) > 2:
                    member = (trial.arm == 0) | (trial.arm == a)
                    tick = np.where(member, tick, np.uint32(0))
                    event = event & member
                sample = Sample.of(pack(tick, event, trial.arm == a), TICK)
                for method, function in compare.items():
                    result = function(sample)
                    for part in ("estimate", "standard_error", "z", "p_value"):
                        key = (name, "method", arm.strategy, endpoint, method, part)
                        yield key, getattr(result, part)


def _by_cut(plan: TrialPlan, columns: Columns) -> dict[str, CutResults]:
    from analysis.operating import CutResults, MethodResults

    parts = [item.name for item in fields(MethodResults)]
    cuts = {}
    for name in plan.cuts:
        methods = {
            (arm.strategy, endpoint, method): MethodResults(
                *(columns[name, "method", arm.strategy, endpoint, method, part] for part in parts)
            )
            for arm in plan.design.arms[1:]
            for endpoint in plan.endpoints
            for method in plan.comparisons
        }
        cuts[name] = CutResults(
            date=columns[name, "date"],
            target_reached=columns[name, "target_reached"] == 1.0,
            enrolled=columns[name, "enrolled"],
            events={endpoint: columns[name, "events", endpoint] for endpoint in plan.endpoints},
            methods=methods,
        )
    return cuts
