"""PFS2: from entry to progression on the next line of treatment, or death.

Who is not treated again has no second progression: death is then the event.
How the next line's progression comes about is an assumption of
`sim.course.regrow_again`.
"""

from __future__ import annotations

import numpy as np

from sim.endpoint.endpoint import TIME, Endpoint, Happening, Record
from sim.outcome import Outcome, to_ticks

__all__ = ["PFS2"]


def _happen(outcome: Outcome) -> Happening:
    return Happening(np.minimum(to_ticks(outcome.second_progression), outcome.death_tick))


SECOND_PROGRESSION_OR_DEATH = Record("pfs2", _happen, at_scans=True)

PFS2 = Endpoint(
    "pfs2",
    "Progression-free survival on the next line (PFS2)",
    TIME,
    (SECOND_PROGRESSION_OR_DEATH,),
    lambda known, entered: known["pfs2"],
)
