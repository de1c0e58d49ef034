"""Measures what the cells of a sweep take, by making a part of a few of them.

Cells far apart are made as the sweep makes them, in as many processes as will
be used, with few replicates: one block, some more blocks, and the rows once
again, so that what a cell takes and what a block takes can be told apart.
Clocks count the processor's time, which other programs on the machine change little.
"""

from __future__ import annotations

import math
import multiprocessing
import resource
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain, cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.conduct import start_worker, whole_blocks
from sim.errors import ResistimeError, ScenarioError
from sim.randomness import BLOCK
from sim.sweep.cell import Asked, Base, CellRun, make_cell, with_rows
from sim.sweep.definition import Definition
from sim.sweep.engine import Work, cell_key, opened
from sim.sweep.forecast import Estimate, Prediction, predict, spread_order
from sim.sweep.grid import written
from sim.sweep.store import Store, Stored

__all__ = [
    "QUICK",
    "Forecast",
    "Limits",
    "Measured",
    "bytes_of_cell",
    "forecast",
    "measure",
    "quick_forecast",
]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is spent on measuring."""

    seconds: float
    """After which no other cell is begun."""

    error: float
    """Relative standard error of the total at which measuring ends."""

    at_most: float = math.inf
    """Seconds after which what is under way is given up."""

    block: float = 0.1
    """Seconds of blocks of a cell after the first, about."""

    heavy: float = math.inf
    """Seconds of a first block after which no other is made."""

    shares: tuple[float, ...] = (1.0,)
    """Of the patients of a cohort with which cells are made, in turn."""


QUICK = Limits(
    seconds=0.5, error=0.05, at_most=1.8, block=0.03, heavy=0.25, shares=(0.05, 0.25)
)  # fmt: skip
"""Before a sweep begins."""

LEAST_PATIENTS = 1000
"""A cohort is not made smaller than this."""

FEW_PATIENTS = 40
"""In a trial or a cohort that is made for what it loads."""

LEAST_CELLS = 16
"""Measured, if the sweep has them, before an error counts."""

QUICK_CELLS = 2000
"""Cells that stand for all when there is little time."""

MOST_LEVELS = 12
"""Values that an axis may have to be told apart one by one."""

COPIES = 5.0
"""Of a cell's replicates that are in memory when it is written: columns, table, buffer, file."""

UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes in which a system counts the largest memory of a process."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a cell took; seconds are those of the processor."""

    at: int
    """Its place among the cells that are forecast."""

    fixed: float = 0.0
    """Seconds of a cell beside its blocks and its cohort."""

    block: float = 0.0
    """Seconds of a block of replicates."""

    n_blocks: int = 0
    """Blocks that the whole cell has."""

    cohort: float = 0.0
    """Seconds of cohorts, with this share of their patients."""

    share: float = 1.0
    file_fixed: float = 0.0
    """Bytes of a file beside its blocks."""

    file_block: float = 0.0
    memory: float = 0.0
    """Largest of its process so far, as the whole cell will need it; bytes."""

    busy: float = 0.0
    """Seconds of the processor, of everything."""

    wall: float = 0.0
    """Seconds of the clock on the wall, of the same."""

    error: str = ""
    """Why it could not be made."""

    @property
    def seconds(self) -> float:
        """Of the whole cell, where its cohort was whole."""
        return self.fixed + self.block * self.n_blocks + self.cohort


# ---------------------------------------------------------------- in a process


def measure_cell(
    work: bytes, at: int, values: Mapping[str, Any], share: float, limits: Limits
) -> Measured:
    """Make a part of a cell and time it."""
    wall, busy = time.perf_counter(), time.process_time()
    try:
        found = _measure(opened(work), at, values, share, limits)
    except Exception as error:
        # As in the sweep: whatever goes wrong in one cell must not stop the others.
        told = str(error)
        if not isinstance(error, ResistimeError):
            told = f"{type(error).__name__}: {told}"
        return Measured(at, error=told)
    return replace(
        found, busy=time.process_time() - busy, wall=time.perf_counter() - wall
    )  # fmt: skip


class _Maker:
    """Makes versions of a cell, keeps them as a sweep does, and times each."""

    def __init__(self, work: Work, values: Mapping[str, Any]) -> None:
        begin = time.process_time()
        self.cell = work.base.cell(values)
        self.key = cell_key(work.base, work.asked, values)
        self.store = Store(work.place)
        self.checked = time.process_time() - begin

    def made(self, asked: Asked, kept: Stored | None) -> tuple[Stored, float, int]:
        """What there is of the cell then, seconds, and bytes of its file."""
        begin = time.process_time()
        *_, made = make_cell(self.cell, asked, kept)
        return made, *self._kept(made, begin)

    def rows(self, cell: CellRun, asked: Asked, made: Stored) -> tuple[float, int]:
        """Seconds and bytes where the replicates are there and the rows are made again."""
        begin = time.process_time()
        return self._kept(with_rows(cell, asked, made), begin)

    def _kept(self, made: Stored, begin: float) -> tuple[float, int]:
        content = made.to_bytes()
        self.store.write(self.key, content)
        return time.process_time() - begin, len(content)


def _measure(
    work: Work, at: int, values: Mapping[str, Any], share: float, limits: Limits
) -> Measured:
    maker = _Maker(work, values)
    asked, run = work.asked, maker.cell.run
    made, found, done = Stored(0, [], complete=False), Measured(at, fixed=maker.checked), 0
    plain_rows, plain_size = 0.0, 0
    if run.trial is not None:
        plain = replace(asked, n_replicates=BLOCK, precision=None, cohort=False, true_values=False)
        made, first, size = maker.made(plain, None)
        plain_rows, plain_size = maker.rows(maker.cell, plain, made)
        n_blocks = _wanted_blocks(asked, run.trial.alpha, made)
        block, file_block, done = first - plain_rows, _bytes_of_block(made), 1
        if n_blocks > 1 and first < limits.heavy:
            # Rows of more replicates take longer: a block counts with what it adds to them.
            more = min(max(int(limits.block / max(block, 1e-4)), 1), n_blocks - 1)
            done += more
            plain = replace(plain, n_replicates=done * BLOCK)
            made, spent, plain_size = maker.made(plain, made)
            block = (spent - plain_rows) / more
            n_blocks = max(_wanted_blocks(asked, run.trial.alpha, made), done)
        found = replace(
            found, fixed=maker.checked + max(first - block, 0.0), block=block, n_blocks=n_blocks,
            file_fixed=size - file_block, file_block=file_block,
        )  # fmt: skip
    if maker.cell.has_cohort(asked) or asked.true_values:
        smaller, share = _with_share(maker.cell, asked, share)
        full = replace(asked, n_replicates=made.replicates.shape[1], precision=None)
        spent, size = maker.rows(smaller, full, made)
        found = replace(
            found, cohort=spent - plain_rows, share=share,
            file_fixed=found.file_fixed + size - plain_size,
        )  # fmt: skip
    peak = UNIT * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    growth = COPIES * found.file_block * (found.n_blocks - done)
    return replace(found, memory=peak + growth)


def _wanted_blocks(asked: Asked, alpha: float, made: Stored) -> int:
    """Blocks that a cell will have, as far as those that are there can say."""
    n = asked.n_replicates
    if asked.precision is not None:
        have = made.replicates.shape[1]
        rejected = [
            int(np.count_nonzero(values <= alpha))
            for name, values in zip(made.names, made.replicates, strict=True)
            if name[-1] == "p_value"
        ]
        n = max(n, asked.precision.replicates(rejected, have))
        n = min(whole_blocks(n), asked.precision.at_most)
    return -(-n // BLOCK)


def _bytes_of_block(made: Stored) -> float:
    return made.replicates.nbytes / made.replicates.shape[1] * BLOCK


def _with_share(cell: CellRun, asked: Asked, share: float) -> tuple[CellRun, float]:
    """The cell with a share of the patients of its cohorts, and that share."""
    run = cell.run
    cohort = cell.has_cohort(asked)
    largest = max(run.n_patients * cohort, run.estimand_patients * asked.true_values)
    share = max(share, min(LEAST_PATIENTS / max(largest, 1), 1.0))
    if share >= 1.0:
        return cell, 1.0
    run = replace(
        run, n_patients=max(round(share * run.n_patients), 1),
        estimand_patients=round(share * run.estimand_patients),
    )  # fmt: skip
    return replace(cell, run=run), share


def warm_up(definition: Definition, indices: Sequence[int]) -> None:
    """Load what is loaded once in a program; processes that are begun later have it too."""
    values = definition.grid.cells[indices[0]]
    with suppress(ScenarioError):
        _warm(definition.base(values), definition.asked, definition.own_values(values))


def _start_measuring(work: bytes, values: Mapping[str, Any]) -> None:
    """Begin a process; a cell that is timed first must not pay for what is loaded once."""
    start_worker()
    common = opened(work)
    _warm(common.base, common.asked, values)


def _warm(base: Base, asked: Asked, values: Mapping[str, Any]) -> None:
    """Make a cell of a few patients, as far as that goes."""
    with warnings.catch_warnings(), suppress(ResistimeError, ArithmeticError, ValueError):
        warnings.simplefilter("ignore")
        cell = base.cell(values)
        run = cell.run
        if (plan := run.trial) is not None:
            few = min(plan.design.n_patients, FEW_PATIENTS)
            plan = replace(plan, design=replace(plan.design, n_patients=few))
        choice = replace(run.analysis, endpoints=run.analysis.endpoints[:1])
        run = replace(run, trial=plan, n_patients=FEW_PATIENTS, analysis=choice)
        small = replace(asked, n_replicates=BLOCK, precision=None, true_values=False)
        for made in make_cell(replace(cell, run=run), small, None):
            made.to_bytes()


# ---------------------------------------------------------------- over the sweep


def measure(
    definition: Definition,
    indices: Sequence[int],
    place: Path,
    n_processes: int,
    limits: Limits,
    only: Sequence[int] | None = None,
) -> list[Measured]:
    """Measure cells until what they take together is known well enough.

    Parameters
    ----------
    definition : Definition
        The sweep.
    indices : sequence of int
        Its cells that are forecast.
    place : pathlib.Path
        A folder for the parts of cells that are made.
    n_processes : int
        That measure at the same time, as they will when the sweep is made.
    limits : Limits
        When it ends.
    only : sequence of int, optional
        Places among `indices` of cells that are measured, once each.

    Raises
    ------
    ResistimeError
        If a process is ended from outside.
    """
    Store(place).open()
    begin = checked = time.perf_counter()
    todo = _todo(definition, indices, place, limits, only)
    first = next(todo, None)
    if first is None:
        return []
    todo = chain([first], todo)
    least, begun = len(_shares(definition, limits)), 0
    found: list[Measured] = []
    futures: set[Future[Measured]] = set()
    pool = ProcessPoolExecutor(
        n_processes, initializer=_start_measuring, initargs=(first[0], first[2])
    )
    try:
        while True:
            while len(futures) < n_processes and (task := next(todo, None)) is not None:
                futures.add(pool.submit(measure_cell, *task, limits))
                begun += 1
            left = limits.at_most - (time.perf_counter() - begin)
            timeout = None if math.isinf(left) else max(left, 0.0)
            done, futures = wait(futures, timeout, return_when=FIRST_COMPLETED)
            if not done:
                # Nothing is under way, or it takes too long.
                break
            found += [future.result() for future in done]
            now = time.perf_counter()
            if now - checked > limits.seconds / 50.0:
                checked = now
                if only is None and _is_known(definition, indices, found, limits):
                    todo = iter(())
            if now - begin > limits.seconds and begun >= least:
                todo = iter(())
    except BrokenProcessPool as error:
        raise ResistimeError(
            "a process that measured a cell was ended from outside; was there too little memory?"
        ) from error
    except BaseException:
        _end_processes()
        raise
    if futures:
        _end_processes()
    pool.shutdown(wait=not futures, cancel_futures=True)
    return found


def _end_processes() -> None:
    for child in multiprocessing.active_children():
        child.terminate()


def _todo(
    definition: Definition, indices: Sequence[int], place: Path, limits: Limits,
    only: Sequence[int] | None,
) -> Iterator[tuple[bytes, int, Mapping[str, Any], float]]:  # fmt: skip
    """Cells that lie far apart, and those again when all have been."""
    works: dict[int, bytes] = {}
    for at in cycle(spread_order(len(indices))) if only is None else only:
        values = definition.grid.cells[indices[at]]
        try:
            base = definition.base(values)
        except ScenarioError:
            continue
        if id(base) not in works:
            works[id(base)] = Work(place, base, definition.asked).pickled()
        for share in _shares(definition, limits):
            yield works[id(base)], at, definition.own_values(values), share


def _shares(definition: Definition, limits: Limits) -> tuple[float, ...]:
    asked = definition.asked
    cohort = asked.cohort or definition.whole.trial is None
    return limits.shares if cohort or asked.true_values else (1.0,)


def _is_known(
    definition: Definition, indices: Sequence[int], found: Sequence[Measured], limits: Limits
) -> bool:
    good = [item for item in found if not item.error]
    if len(good) < LEAST_CELLS or len({item.at for item in good}) < min(LEAST_CELLS, len(indices)):
        return False
    told = forecast(definition, indices, found)
    return told is not None and told.core.relative <= limits.error


# ---------------------------------------------------------------- the forecast


@dataclass(frozen=True, slots=True)
class Forecast:
    """What the cells of a sweep take."""

    seconds: FloatArray
    """Of the processor, for each cell, (N,)."""

    core: Estimate
    """Their sum."""

    storage: Estimate
    """Bytes of the cells' files."""

    memory: float
    """Largest of a process that makes cells, bytes."""

    n_measured: int
    """Cells that were measured, each once or more often."""

    n_failed: int
    failure: str
    """Why the first that failed could not be made."""

    share_of_core: float
    """Of a core's time that a process had while it measured; less than 1 on a busy machine."""


def forecast(
    definition: Definition, indices: Sequence[int], measured: Sequence[Measured]
) -> Forecast | None:
    """What cells take, from those that were measured; None if no cell could be made.

    What blocks take is taken to be proportional to the patients of the trial if
    nothing else is known, and what else a cell takes to be the same for all.
    """
    good = [item for item in measured if not item.error]
    if not good:
        return None
    cells = [definition.grid.cells[i] for i in indices]
    axes = _axes(definition, cells)
    at = [item.at for item in good]
    level = np.ones(len(cells))
    blocks = predict(axes, _sizes(definition, cells), at, [m.block * m.n_blocks for m in good])
    fixed = predict(axes, level, at, [item.fixed for item in good])
    cohort = _cohorts(axes, level, good)
    whole = _together(at, good, blocks, fixed, cohort)
    files = predict(axes, level, at, [m.file_fixed + m.file_block * m.n_blocks for m in good])
    bad = [item for item in measured if item.error]
    return Forecast(
        whole.values,
        whole.total,
        files.total,
        max(item.memory for item in good),
        len(set(at)),
        len({item.at for item in bad}),
        bad[0].error if bad else "",
        sum(item.busy for item in good) / max(sum(item.wall for item in good), 1e-9),
    )


def _together(at: Sequence[int], good: Sequence[Measured], *parts: Prediction) -> Prediction:
    """The sum of predictions, with the error of the sum: errors of the parts go together."""
    fitted = np.sum([part.fitted for part in parts], axis=0)
    if any(item.share < 1.0 for item in good):
        # No cell was measured whole.
        values = np.sum([part.values for part in parts], axis=0)
        return Prediction(values, fitted, Estimate(float(values.sum()), math.nan))
    spent = max(part.n_coefficients for part in parts)
    return predict((), fitted, at, [item.seconds for item in good], spent=spent)


def _cohorts(axes: Sequence[FloatArray], level: FloatArray, good: Sequence[Measured]) -> Prediction:
    """Seconds of cohorts of full size; with smaller ones, on the line through their means."""
    shares = sorted({item.share for item in good})
    if shares == [1.0]:
        return predict(axes, level, [m.at for m in good], [m.cohort for m in good])
    means = [float(np.mean([m.cohort for m in good if m.share == share])) for share in shares]
    slope = 0.0
    if len(shares) > 1:
        slope = max((means[-1] - means[0]) / (shares[-1] - shares[0]), 0.0)
    full = means[-1] + slope * (1.0 - shares[-1])
    return Prediction(full * level, full * level, Estimate(full * len(level), math.nan))


def _sizes(definition: Definition, cells: Sequence[Mapping[str, Any]]) -> FloatArray:
    """Patients of each cell's trial, or 1 where they are not swept."""
    path = "trial.n_patients"
    trial = definition.whole.trial
    usual = float(trial.n_patients) if trial is not None else math.nan
    if path not in definition.grid.paths:
        return np.ones(len(cells))
    try:
        sizes = np.array([float(cell.get(path, usual)) for cell in cells])
    except (TypeError, ValueError):
        # What cannot be a number is found where the cell is made.
        return np.ones(len(cells))
    return sizes if np.all(sizes > 0) else np.ones(len(cells))


def _axes(definition: Definition, cells: Sequence[Mapping[str, Any]]) -> list[FloatArray]:
    """What each swept path may add to a prediction: its number, and its levels."""
    axes: list[FloatArray] = []
    for path in definition.grid.paths:
        values = [cell.get(path) for cell in cells]
        if all(isinstance(x, int | float) and not isinstance(x, bool) for x in values):
            numbers = np.array(values, dtype=np.float64)
            if np.all(np.isfinite(numbers)) and np.ptp(numbers) > 0.0:
                axes.append(((numbers - numbers.mean()) / numbers.std())[:, None])
        names, level = np.unique([written(value) for value in values], return_inverse=True)
        if 1 < len(names) <= MOST_LEVELS:
            axes.append((level[:, None] == np.arange(1, len(names))).astype(np.float64))
    return axes


def bytes_of_cell(cell: CellRun, asked: Asked) -> int:
    """Size of a cell's file, about."""
    size = 6_000
    plan = cell.run.trial
    if plan is not None:
        numbers = len(plan.cuts) * (4 + len(plan.endpoints) + 4 * len(plan.compared))
        size += 8 * numbers * BLOCK * -(-asked.n_replicates // BLOCK)
        size += 250 * numbers
    if cell.has_cohort(asked):
        n_curves = len(cell.run.scenario.strategies) * len(cell.run.analysis.endpoints)
        size += 8 * 5 * min(cell.run.n_patients, 1000) * n_curves
    return size


def quick_forecast(
    definition: Definition, indices: Sequence[int], n_processes: int
) -> Forecast | None:
    """A rough forecast in a second or less; None if that was too short."""
    some = list(indices)
    if len(some) > QUICK_CELLS:
        some = [some[i] for i in spread_order(len(some))[:QUICK_CELLS]]
    warm_up(definition, some)
    try:
        with TemporaryDirectory(prefix="resistime-") as folder:
            measured = measure(definition, some, Path(folder), n_processes, QUICK)
    except ResistimeError:
        # The sweep finds out which cell it was, and records it.
        return None
    told = forecast(definition, some, measured)
    if told is None or len(some) == len(indices):
        return told
    factor = len(indices) / len(some)
    return replace(
        told, seconds=np.resize(told.seconds, len(indices)), core=told.core.times(factor),
        storage=told.storage.times(factor),
    )  # fmt: skip
