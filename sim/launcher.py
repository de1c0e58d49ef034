"""What goes wrong with Hydra's launchers, which hand jobs to other processes: each in one line.

Errors are known by their names, for the launchers are plugins that need not be
installed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from traceback import walk_tb

__all__ = ["Trouble", "in_launcher", "trouble_of"]

STATUS_LOST = 1
"""As for cells that are missing."""
STATUS_REFUSED = 2

GOES_ON = "the same command goes on with what is missing"


@dataclass(frozen=True, slots=True)
class Trouble:
    """A line, and the status to leave with."""

    told: str
    status: int


def in_launcher(error: BaseException) -> bool:
    """Whether an error came while a launcher that is a plugin was at work."""
    frames = (frame for frame, _ in walk_tb(error.__traceback__))
    return any(str(f.f_globals.get("__name__")).startswith("hydra_plugins.") for f in frames)


def trouble_of(error: BaseException) -> Trouble | None:
    """Say what a launcher could not do; None if the error is not a launcher's."""
    text = str(error)
    if type(error).__module__.startswith("submitit."):
        return _of_submitit(text)
    if not in_launcher(error):
        return None
    first = (text.splitlines() or [""])[0]
    return Trouble(f"hydra/launcher: {type(error).__name__}: {first}", STATUS_REFUSED)


def _of_submitit(text: str) -> Trouble:
    lost = re.search(r"Job (\S+) .*with path (.*)_result\.pkl\s.*\(state: (.*?)\)", text)
    if lost:
        job, path, state = lost.groups()
        told = f"a job was lost: {job} ({state}, {path}_log.err)"
        return Trouble(f"{told}; others may still run, and {GOES_ON}", STATUS_LOST)
    if "timed-out" in text:
        told = "a job has used up hydra.launcher.timeout_min"
        more = "hydra.launcher.max_num_timeout=3 would let shards go on by themselves"
        return Trouble(f"{told}; {GOES_ON} ({more})", STATUS_LOST)
    failed = re.search(r"failed during processing with trace:\n-+\n(.*?)\n-+\n", text, re.DOTALL)
    if failed:
        last = failed[1].strip().splitlines()[-1]
        log = re.search(r"- (\S+_log\.err)", text)
        where = f" ({log[1]})" if log else ""
        return Trouble(f"a job failed: {last}{where}; {GOES_ON}", STATUS_LOST)
    said = (text.strip().splitlines() or ["nothing was said"])[-1]
    if "job array" in said:
        said += " (n_shards must be less than Slurm's MaxArraySize)"
    return Trouble(f"hydra/launcher: jobs were not taken: {said}", STATUS_REFUSED)
