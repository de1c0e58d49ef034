"""Conducting trials: blocks simulated, cut and compared, on one core or several.

Belongs to the commands: it is where simulation and statistics meet. Blocks of
replicates are independent and always the same, so how they are spread over
workers changes nothing in the results, which are put together in block order
and handed on in chunks whose borders are always the same.
"""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import lru_cache
from math import ceil
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sim.assessment import TICK
from sim.cut import DataCut
from sim.endpoint.by_name import ENDPOINTS
from sim.endpoint.endpoint import RATE, Known
from sim.errors import ResistimeError, ScenarioError
from sim.outcome import to_months
from sim.plan import TrialPlan
from sim.randomness import BLOCK
from sim.trial import TrialBlock, eligible_share, simulate_block

if TYPE_CHECKING:
    from analysis.comparison.by_name import NamedComparison
    from analysis.comparison.result import Comparison
    from analysis.replicates import CutResults

__all__ = [
    "Chunk", "Columns", "Conducted", "Precision", "by_cut", "check_plan", "conduct_blocks",
    "conduct_chunks", "conduct_trials", "start_worker", "whole_blocks",
]  # fmt: skip

FloatArray = NDArray[np.float64]
Columns = dict[tuple[str, ...], FloatArray]
"""Numbers of each replicate by what they are, each (R,)."""

Part = tuple[Columns, float, float]
"""Columns of a task, and seconds simulating and analysing."""

Conduct = Callable[[range], Iterator[Part]]
"""From blocks to their parts in order."""

TASK_SECONDS = 0.5
"""Work of a task, about: enough to be worth sending, little enough to show how far it has come."""

MOST_BLOCKS = 50
"""Blocks in a task at most, so that what is on its way stays small."""

WAITING = 2
"""Tasks under way for each worker: one in hand and one to go on with."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive replicates."""

    first: int
    """Index of the first over the whole run."""

    cuts: dict[str, CutResults]
    simulate_seconds: float
    analyse_seconds: float


@dataclass(frozen=True, slots=True)
class Conducted:
    """What conducting gave, and how long its parts took."""

    cuts: dict[str, CutResults]
    simulate_seconds: float
    analyse_seconds: float


@dataclass(frozen=True, slots=True)
class Precision:
    """Replicates are added until no power has a larger Monte Carlo error.

    Examples
    --------
    >>> Precision(0.005, at_most=1_000_000).replicates([500], made=1000)
    10000
    >>> Precision(0.005, at_most=1_000_000).replicates([9, 5000], made=10_000)
    10000
    """

    error: float
    at_most: int

    def replicates(self, rejected: Sequence[int], made: int) -> int:
        """How many there should be, by the rejections of each comparison among those made."""
        # p (1 - p) at its largest, exactly, times the square of what is made.
        worst = max(count * (made - count) for count in rejected)
        needed = worst / (made * self.error) ** 2
        if needed <= made or made >= self.at_most:
            return made
        return min(whole_blocks(ceil(needed)), self.at_most)


def whole_blocks(n: int) -> int:
    """The number of replicates in as many whole blocks as hold `n`."""
    return BLOCK * -(-n // BLOCK)


def conduct_trials(plan: TrialPlan, n_replicates: int, n_workers: int = 1) -> Conducted:
    """Simulate, cut and compare every replicate, and keep all results.

    Parameters
    ----------
    plan : TrialPlan
        What is done in each.
    n_replicates : int
        How many. The first are the same when there are more.
    n_workers : int, default 1
        Processes. Results are the same to the byte however many.

    Returns
    -------
    Conducted
        Results by cut; seconds are summed over workers.

    Raises
    ------
    ScenarioError
        If a comparison is not known.
    """
    parts = list(_conduct(plan, n_replicates, n_workers, None, _silent))
    columns = {key: np.concatenate([part[0][key] for part in parts]) for key in parts[0][0]}
    return Conducted(
        by_cut(plan, columns), sum(part[1] for part in parts), sum(part[2] for part in parts)
    )


def conduct_chunks(
    plan: TrialPlan,
    n_replicates: int,
    n_workers: int = 1,
    precision: Precision | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Generator[Chunk, None, None]:
    """Simulate, cut and compare replicates, and hand them on as they come.

    Parameters
    ----------
    plan, n_workers
        As in `conduct_trials`.
    n_replicates : int
        How many; with a precision, at least, and in whole blocks.
    precision : Precision, optional
        When there are enough.
    progress : callable, optional
        Told, every now and then, how many are made and how many there are to be.

    Yields
    ------
    Chunk
        `analysis.replicates.CHUNK` replicates, and what is left at the end. The
        borders depend on nothing but the index of the replicate.

    Raises
    ------
    ScenarioError
        If a comparison is not known.
    """
    from analysis.replicates import CHUNK

    held: list[Columns] = []
    first = count = 0
    seconds = [0.0, 0.0]
    for columns, *spent in _conduct(plan, n_replicates, n_workers, precision, progress or _silent):
        seconds = [total + own for total, own in zip(seconds, spent, strict=True)]
        held.append(columns)
        count += _length(columns)
        while count >= CHUNK:
            whole = _joined(held)
            held, count = [{key: x[CHUNK:] for key, x in whole.items()}], count - CHUNK
            yield Chunk(first, by_cut(plan, {k: x[:CHUNK] for k, x in whole.items()}), *seconds)
            first, seconds = first + CHUNK, [0.0, 0.0]
    if count:
        yield Chunk(first, by_cut(plan, _joined(held)), *seconds)


def _joined(held: Sequence[Columns]) -> Columns:
    return {key: np.concatenate([part[key] for part in held]) for key in held[0]}


def _length(columns: Columns) -> int:
    return len(next(iter(columns.values())))


def _silent(made: int, wanted: int) -> None:
    """Tell nobody how far it has come."""


# ---------------------------------------------------------------- tasks and workers


def _conduct(
    plan: TrialPlan,
    n_replicates: int,
    n_workers: int,
    precision: Precision | None,
    progress: Callable[[int, int], object],
) -> Iterator[Part]:
    """Parts in block order, of as many replicates as there should be."""
    check_plan(plan)
    rejected: dict[tuple[str, ...], int] = {}
    made, wanted = 0, n_replicates
    if precision is not None:
        wanted = min(whole_blocks(n_replicates), precision.at_most)
    with _workers(plan, n_workers) as conduct:
        while made < wanted:
            for columns, *seconds in conduct(range(made // BLOCK, -(-wanted // BLOCK))):
                # The last block is made whole and counts in part.
                kept = {key: values[: wanted - made] for key, values in columns.items()}
                for key, values in kept.items():
                    if key[-1] == "p_value":
                        count = int(np.count_nonzero(values <= plan.alpha))
                        rejected[key] = rejected.get(key, 0) + count
                made += _length(kept)
                progress(made, wanted)
                yield kept, seconds[0], seconds[1]
            if precision is not None:
                wanted = precision.replicates(list(rejected.values()), made)


MOST_SCREENED = 5_000_000
"""Patients screened in a block, at most: some 40 MB for each of their draws."""


def check_plan(plan: TrialPlan) -> None:
    """Refuse what cannot be conducted before anything is simulated.

    Raises
    ------
    ScenarioError
        For a comparison that does not exist, or a trial that hardly anybody may enter.
    """
    from analysis.comparison.by_name import find_comparison

    for i, name in enumerate(plan.comparisons):
        find_comparison(f"trial.comparisons[{i}]", name)
    if not plan.design.eligibility.everyone:
        share = eligible_share(plan.scenario, plan.design, plan.seed)
        least = plan.design.n_patients * BLOCK / MOST_SCREENED
        if share < least:
            raise ScenarioError(
                f"trial.eligibility must let in at least {100 * least:.2g} % of those who are "
                f"screened where trial.n_patients is {plan.design.n_patients}, "
                f"got {100 * share:.2g} %"
            )


@contextmanager
def _workers(plan: TrialPlan, n_workers: int) -> Iterator[Conduct]:
    """Something that conducts blocks, in this process or in several."""
    if n_workers == 1:
        yield lambda blocks: _serial(plan, blocks)
        return
    pool = ProcessPoolExecutor(n_workers, initializer=start_worker)
    pickled = pickle.dumps(plan)
    try:
        yield lambda blocks: _parallel(pool, n_workers, pickled, blocks)
    except BrokenProcessPool as error:
        raise ResistimeError(
            "n_workers: a worker was ended from outside; was there too little memory?"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _serial(plan: TrialPlan, blocks: range) -> Iterator[Part]:
    tasks = _Tasks(blocks, 1)
    while tasks.left:
        part = conduct_blocks(plan, tasks.take())
        tasks.learn(part)
        yield part


def _parallel(
    pool: ProcessPoolExecutor, n_workers: int, pickled: bytes, blocks: range
) -> Iterator[Part]:
    """Parts in order, with few of them on their way at any time."""
    tasks = _Tasks(blocks, n_workers)
    under_way: deque[Future[Part]] = deque()
    while tasks.left or under_way:
        while tasks.left and len(under_way) < WAITING * n_workers:
            under_way.append(pool.submit(_conduct_pickled, pickled, tasks.take()))
        part = under_way.popleft().result()
        tasks.learn(part)
        yield part


class _Tasks:
    """Cuts blocks into tasks, which grow to about `TASK_SECONDS` of work as their pace is known."""

    def __init__(self, blocks: range, n_workers: int) -> None:
        self.left = blocks
        self.n_workers = n_workers
        self.size = 1

    def take(self) -> range:
        """The blocks of the next task; shares for all workers when few are left."""
        share = -(-len(self.left) // (2 * self.n_workers))
        size = min(self.size, share)
        task, self.left = self.left[:size], self.left[size:]
        return task

    def learn(self, part: Part) -> None:
        """Choose the size of tasks by how long one took."""
        columns, *seconds = part
        pace = sum(seconds) / (_length(columns) // BLOCK)
        self.size = int(min(max(TASK_SECONDS / max(pace, 1e-9), 1.0), MOST_BLOCKS))


def start_worker() -> None:
    """Leave interrupts to the main process, and do not outlive it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # Schedulers announce the end of a job to all its processes; the main process sees to it.
    signal.signal(signal.SIGCONT, signal.SIG_DFL)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    threading.Thread(target=_follow, args=(os.getppid(),), daemon=True).start()


def _follow(parent: int) -> None:
    """End with the parent, even where that had no time to say so."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def _conduct_pickled(pickled: bytes, blocks: range) -> Part:
    return conduct_blocks(_unpickled(pickled), blocks)


@lru_cache(maxsize=1)
def _unpickled(pickled: bytes) -> TrialPlan:
    """The plan, made once in each worker, so that what hangs on it is made once too."""
    plan = pickle.loads(pickled)
    assert isinstance(plan, TrialPlan)
    return plan


# ---------------------------------------------------------------- a task


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
            yield (name, "screened"), cut.screened.astype(np.float64)
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
    # Counted in 32 bits, several times faster than in the 64 of count_nonzero.
    return np.add.reduce(chosen, axis=1, dtype=np.uint32).astype(np.float64)


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


def by_cut(plan: TrialPlan, columns: Columns) -> dict[str, CutResults]:
    """Numbers of the replicates as results by the name of the cut."""
    from analysis.replicates import CutResults, MethodResults

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
            screened=columns.get((name, "screened")),
        )
    return cuts
