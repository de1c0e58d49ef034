"""The patient-level table: what was observed, and the latent truth in columns of its own."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sim.assessment import RESPONSES
from sim.cohort import Cohort
from sim.scenario import Scenario

__all__ = ["patient_table"]


def patient_table(cohort: Cohort, scenario: Scenario) -> pd.DataFrame:
    """One row for each replicate, strategy and patient.

    Parameters
    ----------
    cohort : Cohort
        The cohort.
    scenario : Scenario
        For the names of strata.

    Returns
    -------
    DataFrame
        Identifiers (replicate, patient, stratum, strategy), observed columns,
        and latent ones under names that start with ``latent_``. Times are
        months since randomisation, ``inf`` where the event never comes. An
        event is True: export to ADTTE needs ``CNSR = 1 - event``.
    """
    seen = cohort.observed
    replicates, strategies, patients = cohort.death_time.shape
    replicate, strategy, patient = (
        axis.ravel() for axis in np.indices((replicates, strategies, patients))
    )
    causes = np.array([*cohort.causes, ""])
    lines = np.array([*cohort.next_lines, ""])
    return pd.DataFrame(
        {
            "replicate": replicate,
            "patient": patient,
            "stratum": np.array(scenario.population.strata)[cohort.stratum[replicate, patient]],
            "strategy": np.array(cohort.strategies)[strategy],
            "pfs_time": seen.pfs_time.ravel(),
            "pfs_event": seen.pfs_event.ravel(),
            "os_time": seen.os_time.ravel(),
            "os_event": seen.os_event.ravel(),
            "progression_time": seen.progression_time.ravel(),
            "best_response": np.array(RESPONSES)[seen.best_response.ravel()],
            "response_time": seen.response_time.ravel(),
            "last_dose": seen.last_dose.ravel(),
            "latent_primary": cohort.primary.ravel(),
            "latent_durable": cohort.durable.ravel(),
            "latent_resistance_time": cohort.resistance_time.ravel(),
            "latent_cause": causes[cohort.cause.ravel()],
            "latent_progression_time": cohort.progression_time.ravel(),
            "latent_death_time": cohort.death_time.ravel(),
            "next_line": lines[cohort.next_line.ravel()],
            "progressing_sites": cohort.sites.ravel(),
        }
    )
