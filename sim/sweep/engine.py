"""Runs cells: one after the other, or in several processes of this machine.

What a cell is made of and where it is kept is settled before; here it is made,
its failure recorded, and every outcome reported as it comes. The order in
which cells are made changes nothing in what is kept.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import pickle
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from sim.conduct import start_worker
from sim.errors import OutputError, ResistimeError
from sim.sweep.cell import Asked, Base, content_key, is_finished, make_cell
from sim.sweep.store import DamagedCellError, Store, Stored

__all__ = [
    "Batches", "Outcome", "Todo", "Work", "cell_key", "lost", "make_apart", "make_cells", "opened",
    "run_cells", "run_here",
]  # fmt: skip

BATCH_SECONDS = 0.25
"""Work that is sent to a process at once, about."""

MOST_CELLS = 200
"""Cells sent at once, at most."""

WAITING = 2
"""Batches under way for each process."""


@dataclass(frozen=True)
class Work:
    """What cells have in common."""

    place: Path
    """Folder of the sweep."""

    base: Base
    asked: Asked

    def pickled(self) -> bytes:
        """To be sent with many cells and opened once."""
        return pickle.dumps(self)


@dataclass(frozen=True, slots=True)
class Todo:
    """A cell that is to be there in the end."""

    work: bytes
    index: int
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a cell."""

    index: int
    state: str
    """`done`, `kept` if it was there already, or `failed`."""

    error: str = ""
    damaged: str = ""
    """What is wrong with the file that was found and made anew."""

    seconds: float = 0.0


@lru_cache(maxsize=32)
def opened(work: bytes) -> Work:
    """Common to many cells, opened once in each process."""
    common = pickle.loads(work)
    assert isinstance(common, Work)
    return common


def make_cells(work: bytes, cells: Sequence[tuple[int, Mapping[str, Any]]]) -> list[Outcome]:
    """Make cells that have a base in common, each by its number and the values it replaces.

    Raises
    ------
    OutputError
        If results cannot be written; nothing else that goes wrong in a cell
        stops the next.
    """
    common = opened(work)
    store = Store(common.place)
    return [_make(common, store, index, values) for index, values in cells]


def _make(work: Work, store: Store, index: int, values: Mapping[str, Any]) -> Outcome:
    key = cell_key(work.base, work.asked, values)
    outcome, trace = _attempt(
        work, index, values, lambda: store.read(key), lambda made: _keep(store, key, made)
    )
    if outcome.state == "failed":
        store.write_failure(key, outcome.error, trace)
    return outcome


def _attempt(
    work: Work,
    index: int,
    values: Mapping[str, Any],
    read: Callable[[], Stored | None],
    keep: Callable[[Stored], object],
) -> tuple[Outcome, str]:
    """Make what is missing of a cell: the outcome and, if it fails, the traceback.

    `read` says what there is of the cell, `keep` is given what there is of it later.
    """
    start = time.perf_counter()
    damaged = ""
    try:
        cell = work.base.cell(values)
        try:
            kept = read()
        except DamagedCellError as error:
            kept, damaged = None, str(error)
        if kept is not None and is_finished(cell, work.asked, kept):
            return Outcome(index, "kept"), ""
        for made in make_cell(cell, work.asked, kept):
            keep(made)
        seconds = time.perf_counter() - start
        return Outcome(index, "done", damaged=damaged, seconds=seconds), ""
    except OutputError:
        raise
    except Exception as error:
        if type(error).__module__.startswith("submitit."):
            raise  # The job's time is used up: that is nothing of the cell.
        # Whatever goes wrong in one cell is recorded and must not stop the others.
        return Outcome(index, "failed", _told(error), damaged), traceback.format_exc()


def _keep(store: Store, key: str, made: Stored) -> None:
    """Keep a cell, but none of what another process has made of it meanwhile is thrown away."""
    try:
        there = store.read(key)
    except DamagedCellError:
        there = None
    if there is not None and there.replicates.shape[1] > made.replicates.shape[1]:
        if not made.complete:
            return
        made = replace(made, names=there.names, replicates=there.replicates)
    elif there is not None and there.complete and not made.complete:
        return
    store.write(key, made.to_bytes())


def make_apart(
    work: bytes, index: int, values: Mapping[str, Any], kept: bytes | None
) -> tuple[Outcome, bytes | None]:
    """Make a cell where its store is not: the outcome, and the file that is to be kept.

    The error of a cell that fails has its traceback below it.
    """

    def read() -> Stored | None:
        try:
            return None if kept is None else Stored.from_bytes(kept)
        except ValueError as error:
            raise DamagedCellError(f"cell {index} is damaged: {error}") from error

    # Of what grows, the last alone is sent.
    last: deque[Stored] = deque(maxlen=1)
    outcome, trace = _attempt(opened(work), index, values, read, last.append)
    if outcome.state == "failed":
        outcome = replace(outcome, error=f"{outcome.error}\n{trace}")
    return outcome, last[0].to_bytes() if outcome.state == "done" else None


def lost(cell: Todo, told: str) -> Outcome:
    """Record a cell as failed whose process could not say what happened."""
    common = opened(cell.work)
    key = cell_key(common.base, common.asked, cell.values)
    Store(common.place).open().write_failure(key, told, "")
    return Outcome(cell.index, "failed", error=told)


def _told(error: Exception) -> str:
    """An error in one line."""
    text = (str(error).splitlines() or [""])[0]
    return text if isinstance(error, ResistimeError) else f"{type(error).__name__}: {text}"


def cell_key(base: Base, asked: Asked, values: Mapping[str, Any]) -> str:
    """Name of a cell in the store, also where its configuration cannot be."""
    try:
        return content_key(base.changed(values), asked, base)
    except ResistimeError:
        text = f"{content_key(base.whole, asked, base)} {values}"
        return hashlib.sha256(text.encode()).hexdigest()[:32]


# ---------------------------------------------------------------- where


def run_here(todo: Iterator[Todo], report: Callable[[Outcome], None]) -> None:
    """Make cells one after the other in this process."""
    for cell in todo:
        for outcome in make_cells(cell.work, [(cell.index, cell.values)]):
            report(outcome)


def run_cells(
    todo: Iterator[Todo], n_cells: int, n_workers: int, report: Callable[[Outcome], None]
) -> None:
    """Make cells in several processes.

    Parameters
    ----------
    todo : iterator of Todo
        The cells, in the order in which they are begun.
    n_cells : int
        How many there are.
    n_workers : int
        Processes; with one, everything is done in this one.
    report : callable
        Told each outcome as it comes.

    Raises
    ------
    OutputError
        If results cannot be written.
    """
    n_workers = min(n_workers, n_cells)
    if n_workers <= 1:
        run_here(todo, report)
        return
    batches = Batches(todo, n_cells, n_workers)
    while not batches.empty:
        suspects = _run_pool(batches, n_workers, report)
        # A process died and took its pool along. Which cell it was shows when each has its own.
        for cell in suspects:
            _run_alone(cell, report)


class Batches:
    """Cuts cells into batches of about `BATCH_SECONDS`, of one base each."""

    def __init__(self, todo: Iterator[Todo], n_cells: int, n_workers: int) -> None:
        self._todo = todo
        self._next = next(todo, None)
        self._left = n_cells
        self._n_workers = n_workers
        self._size = 1

    @property
    def empty(self) -> bool:
        """Whether all cells have been taken."""
        return self._next is None

    def take(self) -> list[Todo]:
        """The cells of the next batch; shares for all processes when few are left."""
        share = max(-(-self._left // (2 * self._n_workers)), 1)
        batch: list[Todo] = []
        while self._next is not None and len(batch) < min(self._size, share):
            if batch and self._next.work is not batch[0].work:
                break
            batch.append(self._next)
            self._next = next(self._todo, None)
        self._left -= len(batch)
        return batch

    def learn(self, outcomes: Sequence[Outcome]) -> None:
        """Choose the size of batches by how long one took."""
        pace = max(sum(outcome.seconds for outcome in outcomes) / len(outcomes), 1e-3)
        self._size = int(min(max(BATCH_SECONDS / pace, 1.0), MOST_CELLS))


def _run_pool(batches: Batches, n_workers: int, report: Callable[[Outcome], None]) -> list[Todo]:
    """Make batches in processes; if one of them dies, the cells that were under way."""
    under_way: list[list[Todo]] = []
    futures: dict[Future[list[Outcome]], list[Todo]] = {}
    pool = ProcessPoolExecutor(n_workers, initializer=start_worker)
    try:
        while not batches.empty or under_way:
            while not batches.empty and len(under_way) < WAITING * n_workers:
                batch = batches.take()
                under_way.append(batch)
                cells = [(cell.index, cell.values) for cell in batch]
                futures[pool.submit(make_cells, batch[0].work, cells)] = batch
            done, _ = wait(futures, return_when=FIRST_COMPLETED)
            for future in done:
                outcomes = future.result()
                under_way.remove(futures.pop(future))
                batches.learn(outcomes)
                for outcome in outcomes:
                    report(outcome)
        return []
    except BrokenProcessPool:
        return [cell for batch in under_way for cell in batch]
    except BaseException:
        # What is kept is whole whenever a process ends: nothing is gained by waiting.
        for child in multiprocessing.active_children():
            child.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _run_alone(cell: Todo, report: Callable[[Outcome], None]) -> None:
    """Make one cell in a process of its own, and record it as failed if that dies."""
    with ProcessPoolExecutor(1, initializer=start_worker) as pool:
        try:
            outcomes = pool.submit(make_cells, cell.work, [(cell.index, cell.values)]).result()
        except BrokenProcessPool:
            told = "its process was ended from outside; was there too little memory?"
            outcomes = [lost(cell, told)]
    for outcome in outcomes:
        report(outcome)
