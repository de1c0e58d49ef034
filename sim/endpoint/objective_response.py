"""Objective response: a scan that shows a partial or complete response before progression.

The rate counts every randomised patient, whether or not there was a scan.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from sim.endpoint.endpoint import RATE, Endpoint, Happening, Known, Record
from sim.outcome import to_ticks

__all__ = ["ORR", "RESPONSE"]

RESPONSE = Record("response", lambda outcome: Happening(to_ticks(outcome.response_time)))


def _know(known: Mapping[str, Known], entered: Callable[[], NDArray[np.bool_]]) -> Known:
    return Known(entered().astype(np.uint32), known["response"].event)


ORR = Endpoint("orr", "Objective response rate", RATE, (RESPONSE,), _know)
