"""Overall survival: from entry to death from any cause."""

from __future__ import annotations

from sim.endpoint.endpoint import TIME, Endpoint, Happening, Record

__all__ = ["DEATH", "OS"]

DEATH = Record("os", lambda outcome: Happening(outcome.death_tick))

OS = Endpoint("os", "Overall survival", TIME, (DEATH,), lambda known, entered: known["os"])
