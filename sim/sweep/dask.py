"""Runs cells on a Dask cluster: one that is there, or one asked of a scheduler.

Workers need the same program and no folder in common with this machine: what
there is of a cell goes out with it, and what they make of it comes back and is
kept here, under the environment of the worker that made it.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from sim.errors import ResistimeError, ScenarioError
from sim.schema import DaskConfig
from sim.sweep.cell import has_rows
from sim.sweep.engine import Batches, Outcome, Todo, cell_key, lost, make_apart, opened
from sim.sweep.store import DamagedCellError, Environment, Store, environment

__all__ = ["JOB_QUEUES", "check_dask", "run_on_dask"]

JOB_QUEUES = {
    "slurm": "SLURMCluster",
    "pbs": "PBSCluster",
    "lsf": "LSFCluster",
    "sge": "SGECluster",
}
"""Schedulers by the name of dask-jobqueue's class."""

BATCHES = 2
"""Under way for each thread of the workers."""

Made = list[tuple[Outcome, bytes | None]]
"""Outcomes of a batch, each with the file of its cell."""


def check_dask(config: DaskConfig) -> None:
    """Refuse a cluster that cannot be had, as far as that shows without asking for it.

    Raises
    ------
    ScenarioError
        If what it needs is not installed, or it is none of those that are known.
    """
    if config.address and config.cluster:
        raise ScenarioError("dask.address and dask.cluster must not be given together")
    known = ("local", *JOB_QUEUES)
    if config.cluster and config.cluster not in known:
        raise ScenarioError(
            f"dask.cluster must be one of {', '.join(known)}, got '{config.cluster}'"
        )
    if not config.address and not config.cluster:
        return
    needed = ["distributed"] + (["dask_jobqueue"] if config.cluster in JOB_QUEUES else [])
    for module in needed:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise ScenarioError(
                f"dask: {module} is not installed; pip install 'resistime[dask]'"
            ) from error


def run_on_dask(
    todo: Iterator[Todo], n_cells: int, config: DaskConfig, report: Callable[[Outcome], None]
) -> None:
    """Make cells on a Dask cluster.

    Parameters
    ----------
    todo : iterator of Todo
        The cells.
    n_cells : int
        How many there are.
    config : DaskConfig
        Where.
    report : callable
        Told each outcome as it comes.

    Raises
    ------
    ResistimeError
        If the cluster cannot be reached or has no worker.
    """
    from distributed import as_completed

    with _client(config) as client:
        threads = max(sum(client.nthreads().values()), 1)
        # Workers say what they are: what they have made before is looked for where that is kept.
        of = Environment(next(iter(client.run(_about).values()))).name
        batches = Batches(todo, n_cells, threads)
        under_way = as_completed()
        sent: dict[str, list[Todo]] = {}
        while not batches.empty or sent:
            while not batches.empty and len(sent) < BATCHES * threads:
                batch = _unfinished(batches.take(), of, report)
                if batch:
                    cells = [(cell.index, cell.values, _file(cell, of)) for cell in batch]
                    future = client.submit(make_elsewhere, batch[0].work, of, cells, pure=False)
                    sent[future.key] = batch
                    under_way.add(future)
            if sent:
                future = next(under_way)
                outcomes = _kept(future, sent.pop(future.key))
                batches.learn(outcomes)
                for outcome in outcomes:
                    report(outcome)


@contextmanager
def _client(config: DaskConfig) -> Iterator[Any]:
    """A client of the cluster that is asked for; one that was started here ends with it."""
    from distributed import Client, LocalCluster

    # What goes wrong is said here, in a line.
    for name in ("distributed.client", "distributed.batched", "distributed.comm"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    logging.getLogger("distributed.nanny").setLevel(logging.ERROR)
    cluster: Any = None
    try:
        if config.cluster == "local":
            cluster = LocalCluster(
                n_workers=config.workers, threads_per_worker=1, dashboard_address=None,
                **config.options,
            )  # fmt: skip
        elif config.cluster:
            queue = getattr(importlib.import_module("dask_jobqueue"), JOB_QUEUES[config.cluster])
            cluster = queue(**config.options)
            cluster.scale(jobs=config.workers)
        client = Client(cluster or config.address, timeout=config.timeout)
    except (OSError, TimeoutError, TypeError, ValueError) as error:
        if cluster is not None:
            cluster.close()
        where = config.address or config.cluster
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ResistimeError(f"dask: cannot reach '{where}': {reason}") from error
    try:
        _await_workers(client, config)
        yield client
    finally:
        client.close()
        if cluster is not None:
            cluster.close()


def _await_workers(client: Any, config: DaskConfig) -> None:
    try:
        client.wait_for_workers(1, timeout=config.timeout)
    except TimeoutError as error:
        raise ResistimeError(
            f"dask: no worker came within dask.timeout={config.timeout:g} seconds"
        ) from error


# ---------------------------------------------------------------- out and back


def _about() -> dict[str, Any]:
    return environment().about


def _unfinished(batch: Sequence[Todo], of: str, report: Callable[[Outcome], None]) -> list[Todo]:
    """The cells of a batch that an environment has not finished; the others are reported."""
    left = []
    for cell in batch:
        work = opened(cell.work)
        try:
            kept = Store(work.place, of).read(cell_key(work.base, work.asked, cell.values))
        except DamagedCellError:
            kept = None
        if kept is not None and has_rows(work.asked, kept):
            report(Outcome(cell.index, "kept"))
        else:
            left.append(cell)
    return left


def _file(cell: Todo, of: str) -> bytes | None:
    """What an environment has of a cell."""
    work = opened(cell.work)
    path = Store(work.place, of).path(cell_key(work.base, work.asked, cell.values))
    return path.read_bytes() if path.exists() else None


def make_elsewhere(
    work: bytes, of: str, cells: Sequence[tuple[int, Mapping[str, Any], bytes | None]]
) -> tuple[dict[str, Any], Made]:
    """Make cells on a worker: its environment, and each outcome with the file of its cell.

    Files that come with cells are those of the environment `of`; a worker of another makes its
    cells anew.
    """
    own = environment()
    made = [
        make_apart(work, index, values, kept if own.name == of else None)
        for index, values, kept in cells
    ]
    return own.about, made


def _kept(future: Any, batch: Sequence[Todo]) -> list[Outcome]:
    """Keep what came back; the outcomes.

    Raises
    ------
    ResistimeError
        If nothing will come back.
    """
    try:
        about, made = future.result()
    except Exception as error:
        if future.status != "error":
            # It broke on the way: nobody has said that anything is wrong with the cells.
            raise ResistimeError(
                "dask: the scheduler was lost; the same command goes on with what is missing"
            ) from error
        # A worker that dies again and again with a batch, or cannot open it.
        told = f"its workers were lost: {type(error).__name__}: {error}".splitlines()[0]
        return [lost(cell, told) for cell in batch]
    outcomes = []
    for cell, (outcome, content) in zip(batch, made, strict=True):
        work = opened(cell.work)
        store = Store(work.place, Environment(about).name).open(Environment(about))
        key = cell_key(work.base, work.asked, cell.values)
        if content is not None:
            store.write(key, content)
        elif outcome.state == "failed":
            told, _, trace = outcome.error.partition("\n")
            store.write_failure(key, told, trace)
            outcome = replace(outcome, error=told)
        outcomes.append(outcome)
    return outcomes
