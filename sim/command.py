"""The command ``resistime``: one configuration in, curves and figures out."""

from __future__ import annotations

from pathlib import Path

import hydra
import numpy as np
from omegaconf import DictConfig

from sim.randomness import Streams


def simulate(hazard: float, n_patients: int, seed: int) -> np.ndarray:
    """Progression times under one constant hazard, months, shape (n_patients,)."""
    exposure = Streams(seed, 0, 1, n_patients).exponential("acquired_resistance")
    return exposure[0] / hazard


@hydra.main(version_base="1.3", config_path="pkg://configs", config_name="run")
def main(config: DictConfig) -> None:
    """Simulate a cohort with one constant hazard and draw its Kaplan-Meier curve."""
    from analysis.survival import fit_kaplan_meier
    from figures.kaplan_meier import draw_kaplan_meier_file

    place = Path(hydra.core.hydra_config.HydraConfig.get().runtime.output_dir)
    time = simulate(config.population.hazard, config.cohort.n_patients, config.seed)
    curve = fit_kaplan_meier(time, np.ones(time.shape, dtype=bool))
    curve.to_csv(place / "curves.csv", index=False)
    draw_kaplan_meier_file(place / "curves.csv", place / "km_pfs.png")
