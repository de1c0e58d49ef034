"""The smallest program of Hydra that shows where each of its jobs ran."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig


@dataclass
class Task:
    number: int = 0
    seconds: float = 0.0


ConfigStore.instance().store("task", Task)


@hydra.main(version_base="1.3", config_path=None, config_name="task")
def main(task: Task) -> None:
    place = Path(HydraConfig.get().runtime.output_dir)
    (place / "started").touch()
    time.sleep(task.seconds)
    found = {
        "square": task.number**2,
        "array": os.environ.get("SLURM_ARRAY_JOB_ID"),
        "element": os.environ.get("SLURM_ARRAY_TASK_ID"),
    }
    (place / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
