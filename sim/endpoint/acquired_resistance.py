"""Time to acquired resistance: from entry to a progression that the definition calls acquired.

Everyone who was randomised counts. Progression that the definition calls
anything else, and death, end follow-up without the event: what is compared is
the cause-specific hazard of acquired resistance. Which progressions those are
is said by `trial.definition`, a rule over the observed record. Where the rule asks
for confirmation, the event is dated at the progression and known at the scan
that confirms it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from sim.definitions import LABELS, classify
from sim.endpoint.endpoint import TIME, Endpoint, Happening, Known, Record
from sim.endpoint.progression_free_survival import PROGRESSION_OR_DEATH
from sim.outcome import NEVER_TICK, Outcome

__all__ = ["ACQUIRED_RESISTANCE"]


def _happen(outcome: Outcome) -> Happening:
    assert outcome.definition is not None
    label = classify(outcome.observed, outcome.definition)
    acquired = label == LABELS.index("acquired")
    tick = np.where(acquired, outcome.progression_tick, NEVER_TICK)
    if not outcome.definition.confirmation:
        return Happening(tick)
    return Happening(tick, known=np.where(acquired, outcome.confirmation_tick, NEVER_TICK))


ACQUIRED = Record("acquired_resistance", _happen)


def _know(known: Mapping[str, Known], entered: Callable[[], NDArray[np.bool_]]) -> Known:
    return Known(known["pfs"].tick, known["acquired_resistance"].event & known["pfs"].event)


ACQUIRED_RESISTANCE = Endpoint(
    "acquired_resistance",
    "Time to acquired resistance",
    TIME,
    (ACQUIRED, PROGRESSION_OR_DEATH),
    _know,
    immune=True,
)
