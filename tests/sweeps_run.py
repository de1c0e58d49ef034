"""Sweeps as a user makes them, small enough for tests."""

import subprocess
import sys
from pathlib import Path

from sim.command import register_schema
from sim.config import read_config
from sim.sweep.definition import composed
from sim.sweep.folder import define
from sim.sweep_command import execute_sweep

SMALL = (
    "scenario=delayed_effect", "trial.n_patients=60", "trial.cuts.final.events=30",
    "n_replicates=200", "trial.comparisons=[logrank,'fleming_harrington(0,1)']",
    "analysis.figures=false",
)  # fmt: skip
"""A trial of which a block takes a few milliseconds."""

GRID = "sweep.grid={agents.delayed.onset: [0, 4], trial.dropout: [0, 0.01, 0.05]}"


def definition(*overrides):
    """The sweep that a command line asks for."""
    register_schema()
    return define(read_config(composed(overrides)), overrides)


def sweep(place, *overrides, alone=True):
    """Make a sweep in this process; its status."""
    register_schema()
    whole = read_config(composed(overrides))
    return execute_sweep(whole, overrides, Path(place), alone=alone)


def command(*arguments, module="sim", **options):
    """Run a command in a process of its own."""
    line = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, timeout=240, **options)
