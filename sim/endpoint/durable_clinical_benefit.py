"""Durable clinical benefit: free of progression for six months, by a scan at or after that.

Patients whose last scan without progression is earlier, because they are lost
or the data are cut, cannot be judged and do not count.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from sim.assessment import TICK
from sim.endpoint.endpoint import RATE, Endpoint, Known
from sim.endpoint.progression_free_survival import PROGRESSION_OR_DEATH

__all__ = ["DURABLE_CLINICAL_BENEFIT", "DURABLE_MONTHS"]

DURABLE_MONTHS = 6.0
"""The definition's: response or stable disease for longer than this."""

_DURABLE = np.uint32(round(DURABLE_MONTHS / TICK))


def _know(known: Mapping[str, Known], entered: Callable[[], NDArray[np.bool_]]) -> Known:
    pfs = known["pfs"]
    durable = np.where(pfs.event, pfs.tick > _DURABLE, pfs.tick >= _DURABLE)
    judged = pfs.event | durable
    return Known(judged.astype(np.uint32), durable)


DURABLE_CLINICAL_BENEFIT = Endpoint(
    "durable_clinical_benefit",
    "Durable clinical benefit (6 months)",
    RATE,
    (PROGRESSION_OR_DEATH,),
    _know,
)
