"""The command ``resistime-plan``: what a sweep will take, before anyone pays for it.

Composes the same configuration as ``resistime``, makes a part of some cells,
and says what all of them will take on how many workers, into how many jobs of
a scheduler they are best cut, and with which commands they are made. Leaves no
file. What goes wrong through the user's doing ends as one line and status 2.
"""

from __future__ import annotations

import math
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory

import hydra
import numpy as np
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from sim.command import one_line, run_job
from sim.config import check_numbers, read_config
from sim.cores import cores
from sim.errors import ScenarioError
from sim.output import write_table
from sim.schema import PlanConfig, PlanRunConfig, RunConfig
from sim.sweep.definition import Definition
from sim.sweep.engine import cell_key
from sim.sweep.folder import define, is_sweep
from sim.sweep.forecast import (
    Estimate,
    Jobs,
    best_jobs,
    makespan,
    spoken_bytes,
    spoken_time,
    spread_order,
)
from sim.sweep.grid import Grid
from sim.sweep.pilot import QUICK, Forecast, Limits, Measured, forecast, measure, warm_up
from sim.sweep.store import Store
from sim.sweep.table import tables_of

__all__ = ["Plan", "main", "make_plan", "told"]

PROGRAM = "resistime-plan"

WORKERS = (1, 8, 64, 512)
"""Of the table, beside those that are asked for."""

ALONE_SHARE = 0.15
"""Of the time for measuring, spent on one process alone."""

ALONE_CELLS = 3

QUIET = 0.9
"""Share of a core that a process has where nothing else runs, at least."""

MEMORY_MARGIN = 1.5
"""On what a job is granted; a job that needs more is ended by the scheduler."""

NORMAL_95 = 1.96
"""Standard errors to either side of a 95 % interval."""

TIME_MARGIN = 2.0
"""The same of its time."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a sweep will take."""

    cells: Forecast
    start: float
    """Seconds until a program has begun to make cells."""

    tables: Estimate
    """Bytes of the tables at the end."""

    tables_seconds: float
    """Seconds in which they are put together."""

    efficiency: Estimate
    """Work done by a process among others, as a share of what it does alone; NaN if not known."""

    n_processes: int
    """That measured."""

    seconds: float
    """Spent on measuring."""

    @property
    def storage(self) -> Estimate:
        """Bytes of cells and tables."""
        return self.cells.storage.plus(self.tables)

    def wall(self, n_workers: int) -> Estimate:
        """Seconds of the whole command on cores that nothing else uses."""
        n_workers = min(n_workers, len(self.cells.seconds))
        work = makespan(self.cells.seconds, n_workers)
        if n_workers == 1 and not math.isnan(self.efficiency.value):
            work *= self.efficiency.value
        return Estimate(
            self.start + work + self.tables_seconds, work * self.cells.core.relative
        )  # fmt: skip

    def jobs(self, n_workers: int, choice: PlanConfig) -> Jobs:
        """The sweep as jobs of a scheduler."""
        least = None if choice.job_minutes is None else 60.0 * choice.job_minutes
        return best_jobs(
            self.cells.seconds, n_workers, self.start + choice.job_overhead, least=least,
            max_jobs=choice.max_jobs,
        )  # fmt: skip


def main() -> None:
    """Run ``resistime-plan`` with the arguments of the command line."""
    arguments = sys.argv[1:]
    if {"-m", "--multirun"} & set(arguments):
        print(f"{PROGRAM}: leave out -m and give sweep=NAME or sweep.grid=", file=sys.stderr)
        sys.exit(2)
    if {"--help", "-h"} & set(arguments):
        sys.argv.append("hydra/help=resistime_plan")
    # Hydra makes the folder of a run, and a plan has none.
    sys.argv.append("hydra.run.dir=.")
    run_job(PROGRAM, PlanRunConfig, _hydra_main)


@hydra.main(version_base="1.3", config_path="pkg://configs", config_name="run")
def _hydra_main(config: DictConfig) -> None:
    context = HydraConfig.get().overrides
    overrides = [item for item in context.task if not item.startswith("plan.")]
    # The last is our own.
    folders = [item for item in context.hydra if item.startswith("hydra.run.dir=")]
    with one_line(PROGRAM):
        whole = read_config(config)
        assert isinstance(whole, PlanRunConfig)
        choice = whole.plan
        check_numbers("plan", choice)
        # Cells know nothing of the plan.
        run = RunConfig(**{item.name: getattr(whole, item.name) for item in fields(RunConfig)})
        _check(run)
        definition = define(run, overrides)
        definition.check()
        n_workers = run.n_workers or cores()
        plan = make_plan(definition, min(n_workers, cores()), choice)
        print("\n".join(told(definition, plan, n_workers, choice, folders[:-1])))


def _check(run: RunConfig) -> None:
    """Refuse what is no sweep, or a part of one."""
    if not is_sweep(run):
        # Those that are shipped.
        names = sorted(
            entry.name.removesuffix(".yaml")
            for entry in (files("configs") / "sweep").iterdir()
            if entry.name.endswith(".yaml")
        )
        raise ScenarioError(
            f"no sweep is given: add sweep=NAME ({', '.join(names)}) or sweep.grid={{PATH: VALUES}}"
        )
    if run.n_shards != 1 or run.shard != 0:
        raise ScenarioError("n_shards: leave it out, the plan says how many are best")
    check_numbers("", replace(run, trial=None))


def make_plan(definition: Definition, n_processes: int, choice: PlanConfig) -> Plan:
    """Measure cells of a sweep, and work out what all of them take.

    Parameters
    ----------
    definition : Definition
        The sweep.
    n_processes : int
        That measure at the same time.
    choice : PlanConfig
        How long, and how well.

    Raises
    ------
    ScenarioError
        If no cell can be made.
    """
    indices = range(len(definition.grid.cells))
    warm_up(definition, indices)
    # Everything until here, libraries included, is what each job of a scheduler does too.
    start = time.process_time() + QUICK.seconds
    begin = time.perf_counter()
    n_processes = min(n_processes, len(indices))
    limits = Limits((1.0 - ALONE_SHARE) * choice.seconds, choice.error)
    with TemporaryDirectory(prefix="resistime-plan-") as folder:
        place = Path(folder)
        measured = measure(definition, indices, place, n_processes, limits)
        cells = forecast(definition, indices, measured)
        if cells is None:
            reason = measured[0].error if measured else "no configuration could be composed"
            raise ScenarioError(f"no cell could be made: {reason}")
        tables, seconds = _measure_tables(definition, measured, place)
        efficiency = Estimate(math.nan, math.nan)
        if n_processes > 1:
            limits = replace(limits, seconds=ALONE_SHARE * choice.seconds)
            efficiency = _efficiency(definition, measured, place, limits)
    return Plan(
        cells, start, tables, seconds, efficiency, n_processes, time.perf_counter() - begin
    )  # fmt: skip


def _efficiency(
    definition: Definition, measured: Sequence[Measured], place: Path, limits: Limits
) -> Estimate:
    """How much slower the same cells are where several processes work."""
    good = [item for item in measured if not item.error]
    places = sorted({item.at for item in good})
    some = [places[i] for i in spread_order(len(places))[:ALONE_CELLS]]
    indices = range(len(definition.grid.cells))
    # The cells in turn, more than once, as far as time goes.
    alone = measure(definition, indices, place, 1, limits, only=some * ALONE_CELLS)
    ratios = []
    for at in some:
        ours = [item.seconds for item in alone if item.at == at and not item.error]
        theirs = [item.seconds for item in good if item.at == at]
        if ours:
            ratios.append(np.mean(ours) / np.mean(theirs))
    if not ratios:
        return Estimate(math.nan, math.nan)
    error = np.std(ratios, ddof=1) / math.sqrt(len(ratios)) if len(ratios) > 1 else math.nan
    return Estimate(float(np.mean(ratios)), float(error))


def _measure_tables(
    definition: Definition, measured: Sequence[Measured], place: Path
) -> tuple[Estimate, float]:
    """Bytes of the tables of a sweep and seconds to make them, from cells that were measured."""
    cells = definition.grid.cells
    chosen = sorted({item.at for item in measured if not item.error})
    half = chosen[: len(chosen) // 2]
    begin = time.process_time()
    whole = _table_bytes(definition, chosen, place)
    seconds = (time.process_time() - begin) * len(cells) / len(chosen)
    if not half:
        return Estimate(whole * len(cells) / len(chosen), math.nan), seconds
    # A part of a file is there however many rows it has: what counts is what more cells add.
    first = _table_bytes(definition, half, place)
    each = max(whole - first, 0.0) / (len(chosen) - len(half))
    more = len(cells) - len(chosen)
    error = abs(first / len(half) - whole / len(chosen)) * math.sqrt(more * len(cells)) / 2.0
    return Estimate(whole + each * more, error), seconds


def _table_bytes(definition: Definition, chosen: Sequence[int], place: Path) -> float:
    part = replace(
        definition,
        grid=Grid(definition.grid.paths, tuple(definition.grid.cells[i] for i in chosen)),
    )
    store = Store(place)
    kept = []
    for values in part.grid.cells:
        base = part.base(values)
        kept.append(store.read(cell_key(base, part.asked, part.own_values(values))))
    size = 0
    for name, table in tables_of(part, kept, {}).items():
        for suffix in (".csv", ".parquet"):
            if name != "sweep_curves" or suffix == ".parquet":
                path = place / f"{name}{suffix}"
                write_table(path, table)
                size += path.stat().st_size
    return float(size)


# ---------------------------------------------------------------- in words


def told(
    definition: Definition, plan: Plan, n_workers: int, choice: PlanConfig, folders: Sequence[str]
) -> list[str]:
    """The plan, a line each."""
    cells = plan.cells
    n, asked = len(definition.grid.cells), definition.asked
    trials = f"{asked.n_replicates} trials each" if _has_trial(definition) else "a cohort each"
    if asked.precision is not None:
        trials = f"as many trials as a Monte Carlo error of {asked.precision.error:g} takes"
    lines = [definition.config.question] if definition.config.question else []
    lines += [
        f"{definition.name}: {n} cells, {trials}",
        f"Parts of {cells.n_measured} of them were made in {spoken_time(plan.seconds)} by "
        f"{_count(plan.n_processes, 'process')}. In brackets: 95 % intervals, from the differences "
        "between cells.",
        "",
        f"  core time        {_interval(cells.core, spoken_time)}, "
        f"{_interval(cells.core.times(1.0 / 3600.0), _hours)} core-hours",
        f"  storage          {_interval(plan.storage, spoken_bytes)}, of which tables "
        f"{spoken_bytes(plan.tables.value)}",
        f"  memory           {spoken_bytes(cells.memory)} at most in a process that makes cells",
        f"  start of a job   {spoken_time(plan.start)}, and {choice.job_overhead:g} s of the "
        "scheduler (plan.job_overhead)",
        f"  tables           {spoken_time(plan.tables_seconds)} at the end, without figures",
    ]
    if not math.isnan(plan.efficiency.value):
        lines.append(
            f"  efficiency       {_interval(plan.efficiency, _share)} with {plan.n_processes} "
            "processes, against one alone"
        )
    lines += ["", *_table(plan, n_workers, choice)]
    lines += _doubts(plan, n_workers, choice)
    lines += ["", *_commands(definition, plan, n_workers, choice, folders)]
    return lines


def _has_trial(definition: Definition) -> bool:
    values = definition.grid.cells[0]
    return definition.base(values).whole.trial is not None


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}es"


def _interval(estimate: Estimate, spoken: Callable[[float], str]) -> str:
    if math.isnan(estimate.error):
        return f"{spoken(estimate.value)} (error unknown: one cell was measured)"
    half = NORMAL_95 * estimate.error
    low, high = spoken(max(estimate.value - half, 0.0)), spoken(estimate.value + half)
    return f"{spoken(estimate.value)} ({low} to {high})" if low != high else low


def _share(value: float) -> str:
    return f"{value:.2f}"


def _hours(value: float) -> str:
    return f"{value:.2g}"


def _table(plan: Plan, n_workers: int, choice: PlanConfig) -> list[str]:
    head = (
        f"  {'workers':>7}  {'wall time on one machine':34}  {'jobs':>5} {'cells':>6} "
        f"{'work a job':>10} {'wall time':>10} {'overhead':>9}"
    )
    lines = [head]
    for n in sorted({*WORKERS, n_workers}):
        jobs = plan.jobs(n, choice)
        lines.append(
            f"  {n:7d}  {_interval(plan.wall(n), spoken_time):34}  {jobs.n_jobs:5d} "
            f"{jobs.n_cells:6d} {spoken_time(jobs.seconds):>10} {spoken_time(jobs.wall):>10} "
            f"{100.0 * jobs.overhead:7.1f} %"
        )
    return lines


def _doubts(plan: Plan, n_workers: int, choice: PlanConfig) -> list[str]:
    """What a reader should know before relying on it."""
    cells, lines = plan.cells, []
    relative = cells.core.relative
    if not relative <= choice.error:
        lines.append(
            "The core time is not known as well as asked for (plan.error="
            f"{choice.error:g}): give more time, plan.seconds={4.0 * choice.seconds:g}."
        )
    if cells.share_of_core < QUIET:
        now = plan.wall(plan.n_processes).value / cells.share_of_core
        lines.append(
            f"Other programs run here: a process had {100.0 * cells.share_of_core:.0f} % of a "
            f"core. Times are those of free cores; now, {plan.n_processes} workers here would take "
            f"{spoken_time(now)}."
        )
    if cells.n_failed:
        lines.append(f"{cells.n_failed} cells could not be made, such as: {cells.failure}")
    jobs = plan.jobs(n_workers, choice)
    if jobs.n_jobs < min(n_workers, len(cells.seconds), choice.max_jobs):
        lines.append(
            f"With a scheduler, jobs for {jobs.n_jobs} of {n_workers} workers: more of them would "
            "be too short for their overhead. A smaller plan.job_minutes allows more."
        )
    return lines and ["", *lines]


def _commands(
    definition: Definition, plan: Plan, n_workers: int, choice: PlanConfig, folders: Sequence[str]
) -> list[str]:
    """The command lines that make the sweep."""
    typed = [shlex.quote(item) for item in definition.overrides]
    place = [shlex.quote(item) for item in folders[-1:]]
    here = ["resistime", *typed, f"n_workers={n_workers}", *place]
    jobs = plan.jobs(n_workers, choice)
    minutes = math.ceil(
        TIME_MARGIN * (jobs.longest + plan.start + choice.job_overhead) / 60.0 + 1.0
    )  # fmt: skip
    gigabytes = math.ceil(MEMORY_MARGIN * plan.cells.memory / 1e9)
    cluster = [
        "resistime", "-m", *typed, shlex.quote(f"shard=range({jobs.n_jobs})"),
        f"n_shards={jobs.n_jobs}", "n_workers=1", "hydra/launcher=submitit_slurm",
        "hydra.launcher.cpus_per_task=1", f"hydra.launcher.array_parallelism={n_workers}",
        f"hydra.launcher.mem_gb={gigabytes}", f"hydra.launcher.timeout_min={minutes}",
        *(item.replace("hydra.run.dir=", "hydra.sweep.dir=") for item in place),
    ]  # fmt: skip
    return [
        "On one machine:", f"  {' '.join(here)}",
        f"With Slurm, {n_workers} jobs at a time:", f"  {' '.join(cluster)}",
    ]  # fmt: skip


if __name__ == "__main__":
    main()
