"""What the commands with options have in common: one line and status 2 for what is wrong.

Knows neither the options of a command nor what it does.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from sim.errors import ResistimeError

__all__ = ["OneLineParser", "answer_arguments"]

STATUS_BAD_INPUT = 2
STATUS_INTERRUPTED = 130
"""As shells have it: 128 and the number of the signal."""


class OneLineParser(argparse.ArgumentParser):
    """A parser that says what is wrong without the usage in front."""

    def error(self, message: str) -> NoReturn:
        """Print one line and leave with status 2."""
        _complain(self.prog, message)


def _complain(program: str, message: str) -> NoReturn:
    print(f"{program}: {message}", file=sys.stderr)
    sys.exit(STATUS_BAD_INPUT)


def answer_arguments(
    parser: argparse.ArgumentParser,
    answer: Callable[[argparse.Namespace], None],
    arguments: Sequence[str] | None = None,
) -> None:
    """Parse a command line and answer it; what goes wrong is one line.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        With an option ``--folder``, in which the answer is written.
    answer : callable
        Given what was asked.
    arguments : sequence of str, optional
        Those of the process if left out.
    """
    asked = parser.parse_args(arguments)
    try:
        answer(asked)
    except ResistimeError as error:
        _complain(parser.prog, str(error))
    except BrokenPipeError:
        # Whoever read the output has gone away; nothing is left to say.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        _complain(
            parser.prog, f"--folder: cannot write '{asked.folder}': {error.strerror or error}"
        )
    except KeyboardInterrupt:
        sys.exit(STATUS_INTERRUPTED)
