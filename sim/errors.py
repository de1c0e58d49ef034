"""The errors a user can cause, and how they are worded.

Every message is one line: the path of the entry as the user would type it,
the value that was given, and what is allowed. A command prints the line and
leaves with status 2; no other module formats messages for people.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection

__all__ = ["OutputError", "ResistimeError", "ScenarioError", "unknown_name"]


class ResistimeError(Exception):
    """Anything that the user can put right; `str` of it is the whole message."""


class ScenarioError(ResistimeError, ValueError):
    """A scenario that cannot be simulated as written."""


class OutputError(ResistimeError, OSError):
    """A result that cannot be written where the user asked for it."""

    def __str__(self) -> str:
        return str(self.args[0])


def unknown_name(where: str, kind: str, name: str, known: Collection[str]) -> ScenarioError:
    """An error for a name that is not in the catalogue, with the nearest one.

    Parameters
    ----------
    where : str
        Path of the entry that holds the name.
    kind : str
        What the name should have been: "mechanism", "agent".
    name : str
        What it was.
    known : collection of str
        The names that are allowed.

    Returns
    -------
    ScenarioError
        To be raised by the caller.

    Examples
    --------
    >>> print(unknown_name("population.strata", "stratum", "hihg", ["high", "low"]))
    population.strata: no stratum named 'hihg'. Did you mean 'high'? Known: high, low.
    """
    close = difflib.get_close_matches(name, list(known), n=1)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    return ScenarioError(
        f"{where}: no {kind} named '{name}'.{hint} Known: {', '.join(sorted(known)) or 'none'}."
    )
