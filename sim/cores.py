"""Cores that a process may use: what it is granted, which can be less than the machine has."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

__all__ = ["cores"]

ROOT = Path("/")


def cores(environment: Mapping[str, str] = os.environ, root: Path = ROOT) -> int:
    """Cores that this process may use, at least one.

    The least of those that it may run on, those that Slurm has granted it, and the
    share of processor time of its container. Slurm grants cores of a node without
    holding a job to them where it is not set up to.

    Parameters
    ----------
    environment : mapping of str to str
        Variables of the process.
    root : pathlib.Path
        Below which ``proc`` and ``sys`` lie.
    """
    granted = [len(os.sched_getaffinity(0)), *_by_slurm(environment), *_by_container(root)]
    return max(min(granted), 1)


def _by_slurm(environment: Mapping[str, str]) -> Iterator[int]:
    # The second is of all tasks of a job on its node, of which a shard has one.
    for name in ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"):
        value = environment.get(name, "")
        if value.isdigit() and int(value) > 0:
            yield int(value)
            return


def _by_container(root: Path) -> Iterator[int]:
    """Processor time per time of each control group that this process is in, rounded up."""
    controls = root / "sys" / "fs" / "cgroup"
    for kind, group in _groups(root):
        for folder in (group, *group.parents):
            if kind == "":
                limit = _words(controls / folder / "cpu.max")
            else:
                files = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
                limit = [word for name in files for word in _words(controls / kind / folder / name)]
            # No limit is written as "max", or -1.
            if len(limit) == 2 and all(word.isdigit() for word in limit):
                yield -(-int(limit[0]) // int(limit[1]))


def _groups(root: Path) -> Iterator[tuple[str, PurePosixPath]]:
    """Control groups that can limit processor time: kind (nothing in version 2) and path."""
    try:
        lines = (root / "proc" / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, kinds, path = line.split(":", 2)
        if not kinds or "cpu" in kinds.split(","):
            yield kinds and "cpu", PurePosixPath(path.lstrip("/"))


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []
