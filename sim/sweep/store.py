"""The store of a sweep: one file for each cell, named by what the cell is.

A cell is found again by the content of its configuration, so that a sweep that
was stopped goes on, a wider one takes over what it shares with a narrower, and
more replicates are added to those that are there. What was computed by another
version of the program or of NumPy, or with other vector instructions, lies in
a folder of its own and is never taken for the same.

Files are written whole or not at all; a file that is damaged is noticed when it
is read.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.errors import ResistimeError
from sim.provenance import program_version, simd_target
from sim.storage import write_json, write_whole

__all__ = ["CELLS", "DamagedCellError", "Environment", "Store", "Stored", "environment"]

FloatArray = NDArray[np.float64]

CELLS = "cells"
"""Folder of the store within that of a sweep."""

LIBRARIES = ("numpy", "scipy", "lifelines", "pandas")
"""Whose versions can move the last bit of a result."""


class DamagedCellError(ResistimeError):
    """A file of the store that cannot be read."""


@dataclass(frozen=True, slots=True)
class Environment:
    """What the bytes of a result hang on beside the configuration."""

    about: dict[str, Any]

    @property
    def name(self) -> str:
        """Of its folder in a store."""
        text = json.dumps(self.about, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


@cache
def environment() -> Environment:
    """Program, libraries and vector instructions of this process."""
    return Environment(
        {
            "resistime": program_version(),
            "code": _code_digest(),
            **{name: version(name) for name in LIBRARIES},
            "machine": platform.machine(),
            "simd": simd_target(),
        }
    )


def _code_digest() -> str:
    """Of every module that can change a number: a version that is being worked on changes daily."""
    root = Path(__file__).parents[2]
    whole = hashlib.sha256()
    for folder in ("sim", "analysis"):
        for path in sorted((root / folder).rglob("*.py")):
            whole.update(str(path.relative_to(root)).encode())
            whole.update(path.read_bytes())
    return whole.hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Stored:
    """What is kept of a cell."""

    n_replicates: int
    """For which the rows hold; more may be kept."""

    rows: list[list[Any]]
    """Cut, arm, endpoint, method, measure, estimate, mc_error, n_replicates, n_patients."""

    complete: bool
    """Whether rows are there; replicates alone are what an interrupted cell leaves."""

    paired: list[list[Any]] = field(default_factory=list)
    """Rows of ``paired.csv``."""

    names: list[list[str]] = field(default_factory=list)
    """What each row of `replicates` is."""

    replicates: FloatArray = field(default_factory=lambda: np.empty((0, 0)))
    """Numbers of every replicate, (K, R), in whole blocks."""

    curves: list[list[Any]] = field(default_factory=list)
    """Arm, endpoint and number of points of each curve."""

    points: FloatArray = field(default_factory=lambda: np.empty((0, 0)))
    """The points of all curves, one after the other, (points, columns)."""

    seconds: float = 0.0
    """What it took to make."""

    def to_bytes(self) -> bytes:
        """As the file holds it."""
        record = {
            name: getattr(self, name)
            for name in (
                "n_replicates", "rows", "complete", "paired", "names", "curves", "seconds",
            )
        }  # fmt: skip
        text = np.frombuffer(json.dumps(record).encode(), dtype=np.uint8)
        buffer = io.BytesIO()
        np.savez(buffer, record=text, replicates=self.replicates, points=self.points)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Stored:
        """What a file holds; its checksums are verified.

        Raises
        ------
        ValueError
            If it is damaged.
        """
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as file:
                record = json.loads(file["record"].tobytes())
                return cls(**record, replicates=file["replicates"], points=file["points"])
        except Exception as error:
            # A flipped bit can make anything of an archive's headers, and any error with it.
            raise ValueError((str(error) or type(error).__name__).splitlines()[0]) from error


class Store:
    """The cells of one folder, as one environment made them.

    Parameters
    ----------
    place : pathlib.Path
        Folder of the sweep.
    of : str
        Name of the environment; that of this process if not given.
    """

    def __init__(self, place: Path, of: str = "") -> None:
        self.place = place
        self.of = of or environment().name
        self.folder = place / CELLS / self.of

    def open(self, made_by: Environment | None = None) -> Store:
        """Make its folder, and say there what its environment is (this one, unless told)."""
        self.folder.mkdir(parents=True, exist_ok=True)
        about = self.folder / "environment.json"
        if not about.exists():
            write_json(about, (made_by or environment()).about)
        return self

    def path(self, key: str) -> Path:
        """File of a cell."""
        return self.folder / f"{key}.npz"

    def read(self, key: str) -> Stored | None:
        """What is kept of a cell, if anything.

        Raises
        ------
        DamagedCellError
            If its file is damaged.
        """
        path = self.path(key)
        try:
            return Stored.from_bytes(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise DamagedCellError(f"'{path}' is damaged: {error}") from error

    def write(self, key: str, content: bytes) -> None:
        """Keep a cell, whole or not at all, and forget that it failed.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        write_whole(self.path(key), lambda path: path.write_bytes(content))
        self.failure_path(key).unlink(missing_ok=True)

    def failure_path(self, key: str) -> Path:
        """File that says why a cell failed."""
        return self.folder / f"{key}.failed.json"

    def write_failure(self, key: str, error: str, trace: str) -> None:
        """Record that a cell failed."""
        write_json(self.failure_path(key), {"error": error, "traceback": trace})

    def failure(self, key: str) -> str:
        """Why a cell failed; nothing if it did not."""
        try:
            return str(json.loads(self.failure_path(key).read_text(encoding="utf-8"))["error"])
        except FileNotFoundError:
            return ""
        except (ValueError, KeyError, TypeError):
            return "it failed, and its record is damaged"


def environments(place: Path) -> Sequence[str]:
    """Names of the environments that a sweep's folder has cells of."""
    return sorted(path.parent.name for path in (place / CELLS).glob("*/environment.json"))
