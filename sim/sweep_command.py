"""What ``resistime`` does with a sweep: make its cells, put their tables together, draw them.

The folder of a sweep holds its definition (``sweep.json``), the store of its
cells, the tables and the figures. The same command in the same folder goes on
where it was stopped.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from sim.config import check_run, read_config
from sim.cores import cores
from sim.errors import OutputError, ResistimeError, ScenarioError
from sim.output import provenance, write_table
from sim.provenance import program_version
from sim.schema import RunConfig
from sim.storage import write_json
from sim.sweep.cell import Asked, Base
from sim.sweep.dask import check_dask, run_on_dask
from sim.sweep.definition import Definition, composed, group_options, kept_overrides
from sim.sweep.engine import Outcome, Todo, Work, run_cells
from sim.sweep.forecast import makespan, spoken_bytes, spoken_time
from sim.sweep.grid import Grid, last_name, read_grid, read_value, written
from sim.sweep.pilot import Forecast, bytes_of_cell, quick_forecast
from sim.sweep.store import CELLS, Store, environment
from sim.sweep.table import Collected, Source, collect

__all__ = [
    "STATUS_FAILED_CELLS", "begin_shards", "check_folder", "define", "execute_job", "execute_sweep",
    "finish", "finish_jobs", "is_sweep", "make", "read_definition", "record", "sweep_in",
]  # fmt: skip

STATUS_FAILED_CELLS = 1
"""With which a sweep leaves that has cells that failed."""

RECORD = "sweep.json"
TABLES = ("sweep", "sweep_paired", "sweep_curves")
OWN = (".hydra", CELLS, "jobs", "shards", "multirun.yaml", ".submitit", "provenance.json")
"""What a sweep's folder may hold beside what is named after the sweep."""

LOG_SECONDS = 60.0
"""Between two lines of progress where there is no terminal."""


def is_sweep(whole: RunConfig) -> bool:
    """Whether a configuration holds a sweep."""
    sweep = whole.sweep
    return bool(sweep.grid or sweep.zip or sweep.each or sweep.cells or sweep.csv)


def define(whole: RunConfig, overrides: Sequence[str], grid: Grid | None = None) -> Definition:
    """The sweep that a configuration asks for.

    Raises
    ------
    ScenarioError
        If its cells cannot be told.
    """
    grid = grid or read_grid(whole.sweep, group_options)
    own = Definition(_name(whole, grid), kept_overrides(overrides), whole, grid, _asked(whole))
    # The trial may be what differs between the cells.
    run = own.base(grid.cells[0]).cell(own.own_values(grid.cells[0])).run
    own.asked = Asked.of(run, whole)
    return own


def _asked(whole: RunConfig) -> Asked:
    return Asked(whole.n_replicates, None, whole.sweep.cohort, whole.sweep.true_values)


def _name(whole: RunConfig, grid: Grid) -> str:
    return whole.sweep.name or " by ".join(last_name(path) for path in grid.paths)


# ---------------------------------------------------------------- the folder


def check_folder(place: Path) -> None:
    """Refuse a folder that holds what is not a sweep's.

    Raises
    ------
    OutputError
        If it does.
    """
    if (place / RECORD).exists() or not place.exists():
        return
    for path in sorted(place.iterdir()):
        own = path.name in OWN[:-1] or path.name.isdigit() or path.suffix == ".log"
        if not own and not path.name.startswith((".partial-", "sweep")):
            raise OutputError(
                f"hydra.run.dir: '{place}' holds files that are not a sweep's, such as "
                f"'{path.name}'; choose an empty folder"
            )


def record(definition: Definition, place: Path, found: Collected | None = None) -> None:
    """Write down what a sweep is, from which it can be collected and drawn."""
    sweep = definition.config
    try:
        first = definition.grid.cells[0]
        run = definition.base(first).cell(definition.own_values(first)).run
    except ScenarioError:
        run = None
    labels, reference, design, alpha = _words(run)
    axes = [
        {
            "path": path,
            "label": sweep.labels.get(path, ""),
            "values": _distinct(definition, i),
        }
        for i, path in enumerate(definition.grid.paths)
    ]
    content: dict[str, Any] = {
        "name": definition.name,
        "question": sweep.question,
        "notice": _notice(definition),
        "axes": axes,
        "figures": [{"kind": item.kind, "options": dict(item.options)} for item in sweep.figures],
        "labels": {**labels, **sweep.labels},
        "reference": reference,
        "design": design,
        "alpha": alpha,
        "seed": definition.whole.seed,
        "n_replicates": definition.asked.n_replicates,
        "n_patients": definition.whole.cohort.n_patients if definition.asked.cohort else None,
        "version": program_version(),
        "n_cells": len(definition.grid.cells),
        "n_failed": len(found.failed) if found else 0,
        "n_missing": len(found.missing) if found else len(definition.grid.cells),
        "citations_withdrawn": _withdrawn(definition),
        "overrides": list(definition.overrides),
        "paths": list(definition.grid.paths),
        "cells": [dict(cell) for cell in definition.grid.cells],
    }
    write_json(place / RECORD, content)


def _held_another(definition: Definition, place: Path) -> bool:
    """Whether a folder's tables are of other cells, or of other settings but for replicates."""
    try:
        content = json.loads((place / RECORD).read_text(encoding="utf-8"))
        typed, cells = content["overrides"], content["cells"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    own = [item for item in definition.overrides if not item.startswith("n_replicates=")]
    typed = [item for item in typed if not item.startswith("n_replicates=")]
    return typed != own or cells != json.loads(json.dumps(definition.grid.cells))


def _notice(definition: Definition) -> str:
    """What to see; its numbers are those of the sweep without other settings, and it says so."""
    notice = definition.config.notice
    others = len(definition.overrides) > 1
    return f"Without further settings: {notice}" if notice and others else notice


def _words(run: Any) -> tuple[dict[str, str], str, str, float | None]:
    """Labels, name of the reference, design and level of the first cell."""
    if run is None:
        return {}, "", "", None
    labels = dict(run.labels)
    plan = run.trial
    if plan is None:
        reference = run.analysis.reference_strategy or run.scenario.strategies[0].name
        return labels, reference, "", None
    arms = " against ".join(labels[arm.strategy] for arm in plan.design.arms[::-1])
    design = f"{plan.design.n_patients} patients, {arms}, one-sided level {plan.alpha:g}"
    return labels, plan.design.arms[0].strategy, design, plan.alpha


def _distinct(definition: Definition, at: int) -> list[Any]:
    values: list[Any] = []
    for cell in definition.grid.cells:
        value = definition.swept(cell)[at]
        value = written(value) if isinstance(value, list | dict) else value
        if value not in values:
            values.append(value)
    return values


def _withdrawn(definition: Definition) -> bool:
    """Whether numbers that have a source are replaced, in the base or in a cell."""
    overrides = [*definition.overrides, *(f"{path}=" for path in definition.grid.paths)]
    try:
        claims = check_run(Base.of(definition.whole).whole, overrides).claims
    except ScenarioError:
        return False
    return any(claim.source == "override" for claim in claims)


def read_definition(place: Path) -> Definition:
    """The sweep that a folder holds.

    Raises
    ------
    ScenarioError
        If it holds none, or one that this version cannot read.
    """
    path = place / RECORD
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        overrides = [str(item) for item in content["overrides"]]
        grid = Grid(tuple(content["paths"]), tuple(dict(cell) for cell in content["cells"]))
    except FileNotFoundError as error:
        raise ScenarioError(f"no sweep in '{place}': there is no {RECORD}") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ScenarioError(f"'{path}' cannot be read: {error}") from error
    definition = define(read_config(composed(overrides)), overrides, grid)
    definition.name = str(content.get("name", definition.name))
    return definition


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
    print(_before(definition, indices, n_workers, whole, told), flush=True)
    outcomes = make(definition, place, indices, n_workers)
    if not alone:
        print(_told(definition.name, outcomes, time.perf_counter() - start))
        return STATUS_FAILED_CELLS if outcomes.failed else 0
    return finish(definition, place, outcomes, start, figures=whole.analysis.figures)


def _open(definition: Definition, place: Path) -> None:
    """Make the folder, and write down what the sweep is."""
    Store(place).open()
    if _held_another(definition, place):
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
    print(f"{definition.name}: {_counted(definition)} in {whole.n_shards} shards{part}, in {place}")
    print(f"while they run, resistime-collect {place} shows what is there", flush=True)


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


def make(definition: Definition, place: Path, indices: Sequence[int], n_workers: int) -> _Outcomes:
    """Make cells, in processes here or on a cluster, showing how far it has come."""
    dask = definition.whole.dask
    with _Outcomes(definition.name, len(indices)) as outcomes:
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
    outcomes: _Outcomes | None,
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
    print(_after(definition, place, found, outcomes, pictures, time.perf_counter() - start))
    return STATUS_FAILED_CELLS if found.failed or found.missing else 0


def _draw(place: Path) -> int:
    """Draw the figures of a sweep; how many files that made."""
    from figures.sweep import draw_sweep

    for picture in (*place.glob("sweep_*.png"), *place.glob("sweep_*.svg")):
        picture.unlink()
    try:
        return sum(path.suffix in (".png", ".svg") for path in draw_sweep(place))
    except ResistimeError as error:
        # The cells are there: what cannot be drawn as listed can be drawn otherwise.
        print(f"resistime: figures: {error} (resistime-figures)", file=sys.stderr)
        return 0


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
    write_json(_job_file(place, number), {"overrides": list(own)})
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


def _job_file(place: Path, number: int) -> Path:
    (place / "jobs").mkdir(parents=True, exist_ok=True)
    return place / "jobs" / f"{number}.json"


def finish_jobs(place: Path) -> int:
    """Put together what the jobs of one of Hydra's sweeps have made; the status to leave with."""
    start = time.perf_counter()
    if not any((place / "jobs").glob("*.json")) and not (place / RECORD).exists():
        return 0  # Each job was a sweep, in a folder of its own.
    definition = sweep_in(place)
    return finish(definition, place, None, start, figures=definition.whole.analysis.figures)


def sweep_in(place: Path) -> Definition:
    """The sweep that a folder holds, whether it was made by a loop or by Hydra's jobs.

    Raises
    ------
    ScenarioError
        If it holds none.
    """
    if any((place / "jobs").glob("*.json")):
        return _from_jobs(place)
    return read_definition(place)


def _from_jobs(place: Path) -> Definition:
    """The sweep that the jobs in a folder make together: what differs between them is swept."""
    files = sorted((place / "jobs").glob("*.json"), key=lambda path: int(path.stem))
    typed = [json.loads(path.read_text(encoding="utf-8"))["overrides"] for path in files]
    common = [item for item in typed[0] if all(item in other for other in typed)]
    cells = []
    for own in typed:
        pairs = (item.partition("=") for item in own if item not in common)
        cells.append({path.lstrip("+"): read_value(path, value) for path, _, value in pairs})
    paths = tuple(dict.fromkeys(path for cell in cells for path in cell))
    whole = read_config(composed(common))
    definition = define(whole, common, Grid(paths, tuple(cells)))
    definition.name = place.name
    return definition


# ---------------------------------------------------------------- what it says


def _before(
    definition: Definition,
    indices: Sequence[int],
    n_workers: int,
    whole: RunConfig,
    forecast: Forecast | None,
) -> str:
    """Cells, estimated time and the first three, before it starts."""
    grid = definition.grid
    part = f", {len(indices)} of them in shard {whole.shard}" if whole.n_shards > 1 else ""
    lines = []
    if definition.config.question:
        lines.append(definition.config.question)
    lines.append(f"{definition.name}: {_counted(definition)}{part}")
    for index in indices[:3]:
        told = ", ".join(f"{path}={written(x)}" for path, x in grid.cells[index].items())
        lines.append(f"  {index}: {told or 'as configured'}")
    if len(indices) > 3:
        lines.append("  ...")
    n = definition.asked.n_replicates
    each = f"{n} trials each" if _has_trial(definition) else "a cohort each"
    if forecast is not None and whole.dask.address:
        # How many workers a scheduler has is not known before it is asked.
        total = spoken_time(makespan(forecast.seconds, 1))
        lines.append(f"{each}: about {total} of a core's work, less what is kept")
    elif forecast is not None:
        total = spoken_time(makespan(forecast.seconds, n_workers))
        size = spoken_bytes(forecast.storage.value)
        lines.append(f"{each}: about {total} on {n_workers} cores and {size}, less what is kept")
    elif indices:
        lines.append(f"{each}: too slow to be measured in a moment; resistime-plan does")
    lines.append(
        "All cells have seed "
        f"{definition.whole.seed}: neighbouring cells share patients, and differences between "
        "cells are more exact than each of them."
    )
    return "\n".join(lines)


def _counted(definition: Definition) -> str:
    """How many cells there are, and of how many values."""
    grid = definition.grid
    counts = [len(_distinct(definition, i)) for i in range(len(grid.paths))]
    # Values in step, or one at a time, are no product.
    sizes = (" x " if math.prod(counts) == len(grid.cells) else ", ").join(map(str, counts))
    return f"{len(grid.cells)} cells ({sizes})"


def _has_trial(definition: Definition) -> bool:
    first = definition.grid.cells[0]
    return definition.base(first).cell(definition.own_values(first)).run.trial is not None


@dataclass
class _Outcomes:
    """Counts of what became of cells, shown as they come."""

    name: str
    n_cells: int
    done: int = 0
    kept: int = 0
    failed: int = 0
    seconds: float = 0.0
    damaged: list[str] = field(default_factory=list)
    _bar: Any = None
    _begun: float = field(default_factory=time.monotonic)
    _logged: float = field(default_factory=time.monotonic)

    def __enter__(self) -> _Outcomes:
        from tqdm import tqdm

        self._bar = tqdm(desc=self.name, total=self.n_cells, unit="cell", disable=None, leave=False)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            made = self.done + self.kept
            print(
                f"resistime: {made} of {self.n_cells} cells are kept; the same command goes on",
                file=sys.stderr,
            )

    @property
    def so_far(self) -> int:
        """Cells that need no more work."""
        return self.done + self.kept + self.failed

    def add(self, outcome: Outcome) -> None:
        """Count one."""
        setattr(self, outcome.state, getattr(self, outcome.state) + 1)
        self.seconds += outcome.seconds
        if outcome.damaged:
            self.damaged.append(outcome.damaged)
        if self.failed:
            self._bar.set_postfix(failed=self.failed, refresh=False)
        self._bar.update()
        now = time.monotonic()
        if self._bar.disable and now - self._logged >= LOG_SECONDS:
            self._logged = now
            left = (now - self._begun) / self.so_far * (self.n_cells - self.so_far)
            print(
                f"{self.name}: {self.so_far} of {self.n_cells} cells, {self.failed} failed, "
                f"about {spoken_time(left)} left",
                file=sys.stderr,
                flush=True,
            )


def _told(name: str, outcomes: _Outcomes, seconds: float) -> str:
    lines = [f"made again: {text}" for text in outcomes.damaged]
    lines.append(
        f"{name}: {outcomes.done} cells made, {outcomes.kept} kept, {outcomes.failed} failed "
        f"({spoken_time(seconds)})"
    )
    return "\n".join(lines)


def _after(
    definition: Definition,
    place: Path,
    found: Collected,
    outcomes: _Outcomes | None,
    pictures: int,
    seconds: float,
) -> str:
    """What there is in the end."""
    lines = [_told(definition.name, outcomes, seconds)] if outcomes is not None else []
    for index, error in list(found.failed.items())[:5]:
        told = ", ".join(f"{k}={written(x)}" for k, x in definition.grid.cells[index].items())
        lines.append(f"  failed: cell {index} ({told}): {error}")
    if len(found.failed) > 5:
        lines.append(f"  ... and {len(found.failed) - 5} more (column error of sweep.csv)")
    if outcomes is None:
        lines += [f"  damaged: cell {index}: {text}" for index, text in found.damaged.items()]
    if found.missing:
        lines.append(f"  {len(found.missing)} cells are missing; the sweep's command goes on")
    for name, n in found.elsewhere.items():
        lines.append(
            f"  {n} of them were made by another version, processor or library "
            f"({CELLS}/{name}/environment.json) and are not mixed in; resistime-collect --mixed "
            "takes them"
        )
    for name, n in found.used.items():
        if name != environment().name:
            lines.append(
                f"  {n} cells were made by another version, processor or library than this "
                f"({CELLS}/{name}/environment.json)"
            )
    if notice := _notice(definition):
        lines += ["", notice]
    lines.append("For research and teaching, not for treating patients.")
    lines.append(f"{len(found.tables)} tables and {pictures} figures in {place}")
    return "\n".join(lines)
