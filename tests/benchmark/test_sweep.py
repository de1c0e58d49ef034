"""What a sweep costs beyond what it simulates.

The goal: at most 5 ms for each cell, and 500 cells of 200 replicates of 300
patients in at most 6 seconds on two cores, from the command to the table.
"""

import shutil

import pytest

from sim.conduct import conduct_blocks
from sim.sweep.engine import Work, make_cells
from sim.sweep.store import Store
from tests.sweeps_run import command, definition

TRIAL = (
    "scenario=delayed_effect", "trial.n_patients=300", "trial.cuts.final.events=200",
    "n_replicates=200",
)  # fmt: skip
GRID = (
    'sweep.grid={agents.delayed.onset: "range(0,10,0.2)", '
    "trial.dropout: [0,0.002,0.004,0.006,0.008,0.01,0.012,0.014,0.016,0.018]}"
)
CELLS = 50


@pytest.fixture(scope="module")
def swept():
    return definition(*TRIAL, GRID)


def test_simulation_alone(benchmark, swept):
    """The blocks of 50 cells, from plans that are there."""
    plans = [swept.base({}).cell(values).run.trial for values in swept.grid.cells[:CELLS]]

    def conduct():
        for plan in plans:
            conduct_blocks(plan, range(1))

    conduct()
    benchmark(conduct)


def test_cells(benchmark, swept, tmp_path):
    """The same cells from their values to files: what this takes longer is the overhead."""
    work = Work(tmp_path, swept.base({}), swept.asked).pickled()
    cells = list(enumerate(swept.grid.cells[:CELLS]))

    def fresh():
        shutil.rmtree(tmp_path, ignore_errors=True)
        tmp_path.mkdir()
        Store(tmp_path).open()

    fresh()
    make_cells(work, cells)
    benchmark.pedantic(make_cells, args=(work, cells), setup=fresh, rounds=10)


def test_command(benchmark, tmp_path):
    """500 cells, from the command to the table, on all cores; figures left out."""

    def run():
        shutil.rmtree(tmp_path)
        done = command(*TRIAL, GRID, "analysis.figures=false", f"hydra.run.dir={tmp_path}")
        assert done.returncode == 0, done.stderr
        assert "500 cells made" in done.stdout

    benchmark.pedantic(run, rounds=3)
