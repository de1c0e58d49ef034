"""Duration of response: from the first scan that shows one to progression or death.

Only responders have one, and who responds depends on the arm: a comparison of
arms is not one of randomised groups.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from sim.endpoint.endpoint import TIME, Endpoint, Known
from sim.endpoint.objective_response import RESPONSE
from sim.endpoint.progression_free_survival import PROGRESSION_OR_DEATH

__all__ = ["DURATION_OF_RESPONSE"]


def _know(known: Mapping[str, Known], entered: Callable[[], NDArray[np.bool_]]) -> Known:
    response, pfs = known["response"], known["pfs"]
    # A response that no later scan or event follows has lasted for the first tick.
    length = np.maximum(pfs.tick, response.tick + np.uint32(1)) - response.tick
    return Known(
        np.where(response.event, length, np.uint32(0)), np.asarray(pfs.event & response.event)
    )


DURATION_OF_RESPONSE = Endpoint(
    "duration_of_response",
    "Duration of response",
    TIME,
    (RESPONSE, PROGRESSION_OR_DEATH),
    _know,
)
