"""Forecasts of sweeps against the sweeps themselves: ``python tests/verification/plan.py``.

Writes ``docs/validation/plan.md``. Each sweep is planned, made and planned again, because other
programs may use the machine, and the mean of the two plans is compared with what it took: the
processor's time of its cells, in as many processes as measured, and the bytes of cells and tables.
The clock on the wall says little where a machine is shared; its forecast is the forecast core time
over the processes, divided by the share of a core that the processes had in the run. Leaves with
status 1 if a forecast is more than a quarter off. Takes some minutes; arguments choose sweeps.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hydra import initialize_config_module

from sim.command import register_schema
from sim.conduct import start_worker
from sim.config import read_config
from sim.cores import cores
from sim.plan_command import Plan, make_plan
from sim.provenance import software
from sim.schema import PlanConfig
from sim.sweep.definition import Definition, composed
from sim.sweep.engine import Work, make_cells
from sim.sweep.folder import define
from sim.sweep.forecast import makespan
from sim.sweep.pilot import quick_forecast, warm_up
from sim.sweep.store import Store
from sim.sweep_command import finish

WITHIN = 0.25
CHOICE = PlanConfig(seconds=20.0)

LATE = (
    "scenario=delayed_effect",
    "trial.comparisons=[logrank,'fleming_harrington(0,0.5)','fleming_harrington(0,1)',maxcombo,"
    "'rmst_difference(24)']",
)  # fmt: skip

SWEEPS = {
    "small cells: onset and patients, five tests": [
        *LATE, "n_replicates=1000",
        "sweep.grid={agents.delayed.onset:'range(0,6,0.25)',trial.n_patients:'range(150,600,50)'}",
    ],
    "large cells: whole model, 6,000 trials each": [
        "trial=first_line_phase3", "n_replicates=6000",
        "sweep.grid={coupling.spearman:[0,0.3,0.6],trial.n_patients:[250,350]}",
    ],
    "mixed sizes: 100 to 3,200 patients": [
        "trial=first_line_phase3", "n_replicates=600", "~trial.cuts.interim",
        "trial.cuts.final={events:null,date:40}",
        "sweep.grid={trial.n_patients:[100,200,400,800,1600,3200],coupling.spearman:[0,0.2,0.4,0.6]}",
    ],
    "mixed kinds: endpoints, tests, scans": [
        "trial=first_line_phase3", "n_replicates=600",
        "sweep.grid={trial.n_patients:[300,600],trial.endpoints:[[pfs],[pfs,os]],"
        "trial.comparisons:[[logrank],[cox,maxcombo],['rmst_difference(24)',logrank,maxcombo]],"
        "assessment:[continuous,every_6_then_9_weeks],coupling.spearman:[0,0.5]}",
    ],
    "cohorts: 5,000 to 80,000 patients": [
        "sweep.grid={cohort.n_patients:[5000,20000,80000],coupling.spearman:[0,0.2,0.4,0.6]}",
    ],
    "trials with cohorts and true values": [
        *LATE, "sweep.true_values=true", "sweep.cohort=true", "n_replicates=2000",
        "sweep.grid={agents.delayed.onset:'range(0,6,1)',trial.n_patients:[400,500]}",
    ],
    "precision: as many trials as it takes": [
        *LATE, "precision=0.004", "n_replicates=1000",
        "sweep.grid={agents.delayed.onset:'range(0,6,0.5)',trial.n_patients:[300,400]}",
    ],
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Made:
    """What a sweep took."""

    busy: float
    wall: float
    share: float
    """Of a core that a process had while it made a cell."""

    storage: int


def timed(work: bytes, index: int, values: Mapping[str, Any]) -> tuple[float, float]:
    """Make a cell as the sweep does; the processor's time, and that on the wall."""
    begin, wall = time.process_time(), time.perf_counter()
    (outcome,) = make_cells(work, [(index, values)])
    assert outcome.state == "done", outcome
    return time.process_time() - begin, time.perf_counter() - wall


def run(definition: Definition, place: Path, n_processes: int) -> Made:
    """Make every cell and the tables."""
    Store(place).open()
    begin = time.perf_counter()
    with ProcessPoolExecutor(n_processes, initializer=start_worker) as pool:
        works: dict[int, bytes] = {}
        futures = []
        for index, values in enumerate(definition.grid.cells):
            base = definition.base(values)
            work = works.setdefault(id(base), Work(place, base, definition.asked).pickled())
            futures.append(pool.submit(timed, work, index, definition.own_values(values)))
        spent = [future.result() for future in futures]
    wall = time.perf_counter() - begin
    finish(definition, place, None, begin, figures=False)
    names = ("sweep*.csv", "sweep*.parquet", "cells/*/*.npz")
    storage = sum(path.stat().st_size for name in names for path in place.glob(name))
    busy = sum(own for own, _ in spent)
    return Made(busy, wall, busy / sum(own for _, own in spent), storage)


def compare(name: str, overrides: Sequence[str], n_processes: int) -> tuple[list[str], bool]:
    """A row of the table, and whether the forecasts are near enough."""
    definition = define(read_config(composed(overrides)), overrides)
    indices = range(len(definition.grid.cells))
    warm_up(definition, indices)
    quick = [quick_forecast(definition, indices, n_processes)]
    plans = [make_plan(definition, n_processes, CHOICE)]
    with TemporaryDirectory() as folder:
        made = run(definition, Path(folder), n_processes)
    plans.append(make_plan(definition, n_processes, CHOICE))
    quick.append(quick_forecast(definition, indices, n_processes))
    core, storage = _mean(p.cells.core.value for p in plans), _mean(p.storage.value for p in plans)
    spread = _mean(makespan(p.cells.seconds, n_processes) for p in plans)
    ratios = [core / made.busy, spread / made.share / made.wall, storage / made.storage]
    told = [f"{q.core.value / made.busy:.2f}" if q is not None else "none" for q in quick]
    row = [
        name, str(len(indices)), f"{made.busy:.1f}", *(_told(plan) for plan in plans),
        *(f"{ratio:.2f}" for ratio in ratios), " ".join(told),
        f"{made.wall:.0f}", f"{100 * made.share:.0f}", f"{made.storage / 1e6:.1f}",
    ]  # fmt: skip
    return row, all(abs(ratio - 1.0) <= WITHIN for ratio in ratios)


def _mean(values: Any) -> float:
    every = list(values)
    return float(sum(every) / len(every))


def _told(plan: Plan) -> str:
    core = plan.cells.core
    return f"{core.value:.1f} ({core.error:.1f}), {plan.cells.n_measured} cells"


HEAD = (
    "sweep", "cells", "core s", "first plan", "second plan", "core", "wall", "storage", "quick",
    "wall s", "share of cores, %", "MB",
)  # fmt: skip


def main() -> None:
    register_schema()
    n_processes = cores()
    rows, good = [], True
    with initialize_config_module("configs", version_base="1.3"):
        for name, overrides in SWEEPS.items():
            if not sys.argv[1:] or name.partition(":")[0] in sys.argv[1:]:
                row, near = compare(name, overrides, n_processes)
                print(" | ".join(row), flush=True)
                rows.append(row)
                good = good and near
    if not sys.argv[1:]:
        path = Path(__file__).parents[2] / "docs" / "validation" / "plan.md"
        path.write_text(_page(rows, n_processes), encoding="utf-8")
    sys.exit(not good)


def _page(rows: Sequence[Sequence[str]], n_processes: int) -> str:
    lines = [
        "# Forecasts of sweeps",
        "",
        f"`python tests/verification/plan.py`, {n_processes} processes, at most "
        f"{CHOICE.seconds:g} s of measuring for each plan. Each sweep was planned, made and planned again.",
        "",
        "*Core s* is the processor's time of all cells, from a clock around each. The plans' figures "
        "are in the same seconds, standard error in brackets. *Core*, *wall* and *storage* are the mean "
        "of both plans over what the sweep took; they must be within a quarter of 1. The forecast of "
        "the wall time is that of free cores, divided by the share of the cores that the run had: "
        "the machine had other work. *Quick* is the core time, over what it took, by what `resistime` "
        "measures in half a second before a sweep, before and after the run.",
        "",
        f"| {' | '.join(HEAD)} |",
        f"|{' --- |' * len(HEAD)}",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        ", ".join(f"{key} {value}" for key, value in software().items()) + ".",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
