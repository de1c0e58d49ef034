"""The sweep of the cluster tests, and what it leaves."""

from __future__ import annotations

from pathlib import Path

from tests.sweeps_run import SMALL

LONG = (*SMALL, "n_replicates=20000")
"""Cells of about a second."""

TABLES = ("sweep.csv", "sweep_paired.csv", "sweep.parquet", "sweep_paired.parquet")


def bytes_of(place: Path) -> dict[str, bytes]:
    return {name: (place / name).read_bytes() for name in TABLES}


def cells(place: Path) -> dict[str, int]:
    """The cells that are kept, with the time at which each was written."""
    return {path.name: path.stat().st_mtime_ns for path in place.glob("cells/*/*.npz")}
