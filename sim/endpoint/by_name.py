"""All endpoints by name, the one list to which a new one is added."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sim.endpoint.acquired_resistance import ACQUIRED_RESISTANCE
from sim.endpoint.durable_clinical_benefit import DURABLE_CLINICAL_BENEFIT
from sim.endpoint.duration_of_response import DURATION_OF_RESPONSE
from sim.endpoint.endpoint import Endpoint, Record
from sim.endpoint.objective_response import ORR
from sim.endpoint.overall_survival import OS
from sim.endpoint.progression_free_survival import PFS
from sim.endpoint.second_progression import PFS2

__all__ = ["ENDPOINTS", "records_of"]

ENDPOINTS: Mapping[str, Endpoint] = {
    endpoint.name: endpoint
    for endpoint in (
        PFS, OS, ORR, DURATION_OF_RESPONSE, DURABLE_CLINICAL_BENEFIT, ACQUIRED_RESISTANCE, PFS2,
    )
}  # fmt: skip
"""Each endpoint by its name."""


def records_of(names: Iterable[str]) -> tuple[Record, ...]:
    """Every record that some endpoints need, each once, in the order of their names."""
    records = {record.name: record for name in names for record in ENDPOINTS[name].records}
    return tuple(records[name] for name in sorted(records))
