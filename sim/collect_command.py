"""The command ``resistime-collect``: the tables of a sweep from what is there of it."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from sim.command import register_schema
from sim.cores import cores
from sim.errors import ResistimeError
from sim.sweep.folder import sweep_in
from sim.sweep.store import Store
from sim.sweep.table import Source, collect
from sim.sweep_command import finish, make

__all__ = ["main"]

STATUS_BAD_INPUT = 2

DESCRIPTION = """\
Puts the tables and figures of a sweep together from the cells that its folder holds, whether the
sweep has ended, is still running, or was stopped. The folder is all it needs: the sweep's
configuration is kept there.
"""

EXAMPLES = """\
examples
  resistime-collect sweeps/late_benefit                  tables and figures of what is there
  resistime-collect sweeps/late_benefit --retry-failed   first make again the cells that failed
  resistime-collect sweeps/late_benefit --resume         first make what is missing

It leaves with status 1 if cells have failed or are missing, and 2 if it could not begin.
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        _complain(message)


def _complain(message: str) -> NoReturn:
    print(f"resistime-collect: {message}", file=sys.stderr)
    sys.exit(STATUS_BAD_INPUT)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``resistime-collect`` with the arguments of the command line."""
    given = _parser().parse_args(arguments)
    place = Path(given.folder)
    register_schema()
    try:
        status = _collect(place, given)
    except ResistimeError as error:
        _complain(str(error))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    except OSError as error:
        _complain(f"'{place}': {error.strerror or error}")
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(status)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="resistime-collect",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", metavar="DIR", help="folder of the sweep")
    parser.add_argument(
        "--retry-failed", action="store_true", help="make the cells that failed again first"
    )
    parser.add_argument(
        "--resume", action="store_true", help="make the cells that are missing first"
    )
    parser.add_argument(
        "--mixed",
        action="store_true",
        help="also take cells that another version, processor or library has made "
        "(they agree to about nine digits)",
    )
    parser.add_argument("--no-figures", action="store_true", help="write tables only")
    parser.add_argument(
        "--workers", type=int, default=0, metavar="N", help="processes (default: all cores)"
    )
    return parser


def _collect(place: Path, given: argparse.Namespace) -> int:
    start = time.perf_counter()
    definition = sweep_in(place)
    outcomes = None
    if given.retry_failed or given.resume:
        found = collect(definition, place)
        wanted = [*(found.failed if given.retry_failed else ())]
        wanted += found.missing if given.resume else ()
        Store(place).open()
        outcomes = make(definition, place, sorted(wanted), given.workers or cores())
    source = Source.MIXED if given.mixed else Source.OWN if outcomes else Source.FULLEST
    return finish(definition, place, outcomes, start, figures=not given.no_figures, source=source)


if __name__ == "__main__":
    main()
