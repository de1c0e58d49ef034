"""A Dask cluster of this machine for the tests: processes of their own, so that one can die."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

WORKERS = 2
START_SECONDS = 60.0
ORPHAN_SECONDS = 60
"""After how long programs end by themselves if whoever started them was killed."""


@dataclass(frozen=True)
class Dask:
    """A running scheduler with its workers.

    Attributes
    ----------
    address : str
        Of the scheduler, for ``distributed.Client``.
    file : pathlib.Path
        The scheduler's file with the same address, for ``Client(scheduler_file=...)``.
    workers : mapping of str to int
        Process id of each worker by its name. No nanny restarts a worker that dies.
    scheduler : int
        Process id of the scheduler.
    """

    address: str
    file: Path
    workers: dict[str, int]
    scheduler: int

    def kill(self, worker: str) -> None:
        """Kill a worker, as the kernel does when memory runs out."""
        os.kill(self.workers[worker], signal.SIGKILL)


@contextlib.contextmanager
def dask_machine() -> Iterator[Dask]:
    """Start a scheduler and its workers, one process and one thread each; stop them at the end.

    Raises
    ------
    RuntimeError
        If the scheduler does not come up; the message ends with what it said.
    """
    with tempfile.TemporaryDirectory(prefix="resistime-dask-") as folder:
        place = Path(folder)
        file = place / "scheduler.json"
        known = f"--scheduler-file={file}"
        with contextlib.ExitStack() as programs:
            scheduler = programs.enter_context(
                _program(
                    *(place / "scheduler.log", "scheduler", known, "--host=127.0.0.1", "--port=0"),
                    *("--no-dashboard", f"--idle-timeout={ORPHAN_SECONDS}s"),
                )
            )
            # They wait for the scheduler's file.
            workers = {
                name: programs.enter_context(
                    _program(
                        *(place / f"{name}.log", "worker", known, f"--name={name}"),
                        *("--host=127.0.0.1", "--no-nanny", "--nthreads=1", "--no-dashboard"),
                        *(f"--death-timeout={ORPHAN_SECONDS}", f"--local-directory={place}"),
                    )
                ).pid
                for name in (f"worker{number}" for number in range(WORKERS))
            }
            address = _address(file, scheduler, place / "scheduler.log")
            yield Dask(address, file, workers, scheduler.pid)


def _address(file: Path, scheduler: subprocess.Popen[bytes], log: Path) -> str:
    end = time.monotonic() + START_SECONDS
    while True:
        with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
            return str(json.loads(file.read_text())["address"])
        if scheduler.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"no scheduler: {log.read_text()[-1000:]}")
        time.sleep(0.05)


@contextlib.contextmanager
def _program(log: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            (sys.executable, "-m", "dask", *arguments),
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
