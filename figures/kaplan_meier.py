"""Kaplan-Meier panels."""

from __future__ import annotations

from pathlib import Path

import pandas as pd


def draw_kaplan_meier_file(source: Path, target: Path) -> None:
    """Draw the curve in `source` to the image `target`."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    curve = pd.read_csv(source)
    figure, ax = plt.subplots()
    ax.step(curve["time"], curve["survival"], where="post")
    ax.fill_between(curve["time"], curve["lower"], curve["upper"], step="post", alpha=0.2)
    ax.set(xlabel="Months since randomisation", ylabel="Progression-free survival", ylim=(0, 1))
    figure.savefig(target)
    plt.close(figure)
