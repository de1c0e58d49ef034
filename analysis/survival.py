"""Survival curves as they are shown."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray


def fit_kaplan_meier(time: NDArray[np.float64], event: NDArray[np.bool_]) -> pd.DataFrame:
    """Kaplan-Meier estimate by lifelines, with its 95 % confidence band."""
    from lifelines import KaplanMeierFitter

    fit = KaplanMeierFitter().fit(time, event)
    band = fit.confidence_interval_survival_function_.to_numpy()
    return pd.DataFrame(
        {
            "time": fit.survival_function_.index,
            "survival": fit.survival_function_.to_numpy()[:, 0],
            "lower": band[:, 0],
            "upper": band[:, 1],
        }
    )
