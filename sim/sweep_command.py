"""What ``resistime`` does with a sweep: make its cells, put their tables together, draw them.

The folder of a sweep holds its definition (``sweep.json``), the store of its
cells, the tables and the figures. The same command in the same folder goes on
where it was stopped.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from sim.config import check_run
from sim.cores import cores
from sim.errors import OutputError, ResistimeError, ScenarioError
from sim.output import provenance, write_table
from sim.schema import RunConfig
from sim.storage import write_json
from sim.sweep.dask import check_dask, run_on_dask
from sim.sweep.definition import Definition, kept_overrides
from sim.sweep.engine import Outcome, Todo, Work, run_cells
from sim.sweep.folder import (
    RECORD,
    check_folder,
    define,
    forget_jobs,
    held_another,
    job_file,
    job_files,
    record,
    sweep_in,
)
from sim.sweep.forecast import spoken_time
from sim.sweep.grid import Grid, check_swept
from sim.sweep.pilot import bytes_of_cell, quick_forecast
from sim.sweep.report import Outcomes, closing, counted, opening, tallied
from sim.sweep.store import Store
from sim.sweep.table import Source, collect

__all__ = [
    "STATUS_FAILED_CELLS", "begin_jobs", "begin_shards", "execute_job", "execute_sweep", "finish",
    "finish_jobs", "make",
]  # fmt: skip

STATUS_FAILED_CELLS = 1
"""With which a sweep leaves that has cells that failed."""

TABLES = ("sweep", "sweep_paired", "sweep_curves")

# ---------------------------------------------------------------- making it


def execute_sweep(whole: RunConfig, overrides: Sequence[str], place: Path, *, alone: bool) -> int:
    """Make the cells of a sweep, or of one shard of it, and what they leave.

    Parameters
    ----------
    whole : RunConfig
        The configuration, read.
    overrides : sequence of str
        What was typed.
    place : pathlib.Path
        Folder of the sweep.
    alone : bool
        Whether no other job makes a part of it, so that the tables follow.

    Returns
    -------
    int
        Status to leave with.

    Raises
    ------
    ResistimeError
        If something in it cannot be done as asked.
    """
    import analysis.operating  # noqa: F401  # once here, and not in every process

    start = time.perf_counter()
    _check_shard(whole.shard, whole.n_shards)
    check_folder(place)
    check_dask(whole.dask)
    definition = define(whole, overrides)
    definition.check()
    indices = definition.shard(whole.shard, whole.n_shards)
    n_workers = whole.dask.workers if whole.dask.cluster else whole.n_workers or cores()
    n_workers = min(n_workers, max(len(indices), 1))
    _check_space(definition, place, len(indices))
    told = quick_forecast(definition, indices, min(n_workers, cores())) if indices else None
    _open(definition, place)
    _say(opening(definition, indices, n_workers, whole, told))
    outcomes = make(definition, place, indices, n_workers)
    if not alone:
        print(tallied(definition.name, outcomes, time.perf_counter() - start))
        return STATUS_FAILED_CELLS if outcomes.failed else 0
    return finish(definition, place, outcomes, start, figures=whole.analysis.figures)


def _say(text: str) -> None:
    """Print what is no result: that nobody reads it any more does not end the work."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _open(definition: Definition, place: Path) -> None:
    """Make the folder, and write down what the sweep is."""
    Store(place).open()
    forget_jobs(place)
    if held_another(definition, place):
        print(
            f"'{place}' held another sweep: what the two share is kept, its tables are replaced.",
            flush=True,
        )
    record(definition, place)


def begin_shards(whole: RunConfig, overrides: Sequence[str], place: Path) -> None:
    """Check a sweep before its shards are handed to a launcher, and say what they are.

    Parameters
    ----------
    whole : RunConfig
        The configuration that they share, read.
    overrides : sequence of str
        What was typed, with the shards as Hydra is to sweep them.
    place : pathlib.Path
        Folder of the sweep.

    Raises
    ------
    ResistimeError
        If something in it cannot be done as asked.
    """
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    swept = {item.key_or_group: item for item in parsed if item.is_sweep_override()}
    if "shard" not in swept and whole.n_shards == 1:
        return  # Each job is a whole sweep.
    shards = _shards(swept.pop("shard", None), whole)
    if swept:
        raise ScenarioError(
            f"{', '.join(swept)}: shards are of one sweep; put what differs into sweep.grid"
        )
    check_folder(place)
    check_dask(whole.dask)
    definition = define(whole, overrides)
    definition.check()
    n_cells = len({cell for n in shards for cell in definition.shard(n, whole.n_shards)})
    _check_space(definition, place, n_cells)
    _open(definition, place)
    if definition.config.question:
        print(definition.config.question)
    part = "" if len(shards) == whole.n_shards else f" ({len(shards)} of them now)"
    print(f"{definition.name}: {counted(definition)} in {whole.n_shards} shards{part}, in {place}")
    print(f"while they run, resistime-collect {place} shows what is there", flush=True)


def begin_jobs(overrides: Sequence[str], place: Path) -> None:
    """Look at one of Hydra's own sweeps before its jobs begin, and forget the jobs of another.

    Raises
    ------
    ScenarioError
        If it sweeps what is no part of a cell.
    """
    for item in OverridesParser.create().parse_overrides(list(overrides)):
        if item.is_sweep_override():
            check_swept(item.key_or_group, item.key_or_group)
    forget_jobs(place, [item for item in overrides if not item.startswith("hydra")])


def _shards(swept: Override | None, whole: RunConfig) -> list[int]:
    """Numbers of the shards that are to be made."""
    typed = swept.sweep_string_iterator() if swept is not None else [str(whole.shard)]
    shards = [int(text) for text in typed if text.isdigit()]
    if whole.n_shards == 1 and len(shards) > 1:
        raise ScenarioError(f"shard must come with n_shards={max(shards) + 1}, the number of all")
    for shard in shards:
        _check_shard(shard, whole.n_shards)
    return sorted(set(shards))


def _check_shard(shard: int, n_shards: int) -> None:
    if shard >= n_shards:
        raise ScenarioError(f"shard must be less than n_shards ({n_shards}), got {shard}")


def make(definition: Definition, place: Path, indices: Sequence[int], n_workers: int) -> Outcomes:
    """Make cells, in processes here or on a cluster, showing how far it has come."""
    dask = definition.whole.dask
    with Outcomes(definition.name, len(indices)) as outcomes:
        todo = _todo(definition, place, indices, outcomes.add)
        if dask.address or dask.cluster:
            run_on_dask(todo, len(indices), dask, outcomes.add)
        else:
            run_cells(todo, len(indices), n_workers, outcomes.add)
    return outcomes


def _todo(
    definition: Definition, place: Path, indices: Sequence[int], report: Callable[[Outcome], None]
) -> Iterator[Todo]:
    """The cells, each with what it shares with others."""
    works: dict[int, bytes] = {}
    for index in indices:
        values = definition.grid.cells[index]
        try:
            base = definition.base(values)
        except ScenarioError as error:
            # The files it chooses cannot be put together: it has no name in the store.
            report(Outcome(index, "failed", error=str(error)))
            continue
        if id(base) not in works:
            works[id(base)] = Work(place, base, definition.asked).pickled()
        yield Todo(works[id(base)], index, definition.own_values(values))


def finish(
    definition: Definition,
    place: Path,
    outcomes: Outcomes | None,
    start: float,
    *,
    figures: bool = True,
    source: Source = Source.OWN,
) -> int:
    """Write tables, figures and provenance, and say what there is; the status to leave with."""
    found = collect(definition, place, source)
    for name in TABLES:
        for suffix in (".csv", ".parquet"):
            path = place / f"{name}{suffix}"
            if name not in found.tables or (name == "sweep_curves" and suffix == ".csv"):
                path.unlink(missing_ok=True)
            else:
                write_table(path, found.tables[name])
    record(definition, place, found)
    _write_provenance(definition, place, time.perf_counter() - start)
    pictures = _draw(place) if figures and found.done else 0
    print(closing(definition, place, found, outcomes, pictures, time.perf_counter() - start))
    return STATUS_FAILED_CELLS if found.failed or found.missing else 0


def _draw(place: Path) -> int:
    """Draw the figures of a sweep; how many files that made."""
    from figures.sweep import draw_sweep

    for picture in (*place.glob("sweep_*.png"), *place.glob("sweep_*.svg")):
        picture.unlink(missing_ok=True)

    def unfit(told: str) -> None:
        print(f"resistime: not drawn: {told}", file=sys.stderr)

    try:
        drawn = draw_sweep(place, unfit)
    except ResistimeError as error:
        unfit(str(error))  # The cells are there: resistime-figures can draw them another time.
        return 0
    return sum(path.suffix in (".png", ".svg") for path in drawn)


def _write_provenance(definition: Definition, place: Path, seconds: float) -> None:
    """Of the first cell: whose its numbers are, and what made it."""
    try:
        first = definition.grid.cells[0]
        base = definition.base(first)
        overrides = [*definition.overrides, *(f"{path}=" for path in definition.grid.paths)]
        run = check_run(base.changed(definition.own_values(first)), overrides)
    except ScenarioError:
        return
    typed = list(definition.overrides)
    content = provenance(run, asdict(definition.whole), typed, "", {"total": seconds})
    write_json(place / "provenance.json", content)


def _check_space(definition: Definition, place: Path, n_cells: int) -> None:
    """Refuse to begin what the disk cannot hold."""
    place.mkdir(parents=True, exist_ok=True)
    values = definition.grid.cells[-1]
    try:
        cell = definition.base(values).cell(definition.own_values(values))
    except ScenarioError:
        return
    needed = n_cells * bytes_of_cell(cell, definition.asked)
    free = shutil.disk_usage(place).free
    if needed > free:
        raise OutputError(
            f"hydra.run.dir: '{place}' has {free / 1e9:.3g} GB left, and the sweep needs about "
            f"{needed / 1e9:.3g} GB"
        )
    if not os.access(place, os.W_OK):
        raise OutputError(f"hydra.run.dir: cannot write in '{place}'")


# ---------------------------------------------------------------- Hydra's own sweeps


def execute_job(whole: RunConfig, overrides: Sequence[str], place: Path, number: int) -> None:
    """Make the one cell that a job of Hydra's sweep stands for.

    Parameters
    ----------
    whole : RunConfig
        The configuration of the job.
    overrides : sequence of str
        What was typed, with the values of this job.
    place : pathlib.Path
        Folder of all jobs.
    number : int
        Of the job.
    """
    own = kept_overrides(overrides)
    write_json(job_file(place, number), {"overrides": list(own)})
    try:
        definition = define(whole, own, Grid((), ({},)))
    except ScenarioError as error:
        print(f"{number}: failed: {error}", file=sys.stderr)
        return
    Store(place).open()

    def report(outcome: Outcome) -> None:
        told = f": {outcome.error}" if outcome.error else f" ({spoken_time(outcome.seconds)})"
        again = f"; made again: {outcome.damaged}" if outcome.damaged else ""
        print(f"{number}: {outcome.state}{told}{again}", flush=True)

    work = Work(place, definition.base({}), definition.asked).pickled()
    run_cells(iter([Todo(work, 0, {})]), 1, 1, report)


def finish_jobs(place: Path) -> int:
    """Put together what the jobs of one of Hydra's sweeps have made; the status to leave with."""
    start = time.perf_counter()
    if not job_files(place) and not (place / RECORD).exists():
        return _status_of_sweeps(place)  # Each job was a sweep, in a folder of its own.
    definition = sweep_in(place)
    return finish(definition, place, None, start, figures=definition.whole.analysis.figures)


def _status_of_sweeps(place: Path) -> int:
    """The status to leave with after jobs that each were a whole sweep."""
    for path in place.glob(f"jobs/*/{RECORD}"):
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["n_failed"] or content["n_missing"]:
            return STATUS_FAILED_CELLS
    return 0
