"""Which part may know which library: the direction of flow, read from the imports themselves."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import sim

ROOT = Path(sim.__file__).parents[1]
HEAVY = ("scipy", "pandas", "lifelines", "matplotlib", "omegaconf", "hydra", "pyarrow", "tqdm")
COMMANDS = {
    "analyse_command.py",
    "calibrate_command.py",
    "catalogue.py",
    "catalogue_command.py",
    "collect_command.py",
    "command.py",
    "complaint.py",
    "conduct.py",
    "estimand.py",
    "figures_command.py",
    "output.py",
    "parameter.py",
    "plan_command.py",
    "pooled.py",
    "predict_command.py",
    "predicted.py",
    "provenance.py",
    "size.py",
    "size_command.py",
    "sweep_command.py",
    "trial_command.py",
    "__main__.py",
}
GATE = {"config.py", "override.py", "schema.py"}


def is_command(path: Path) -> bool:
    """Whether a module of `sim` belongs to the commands."""
    return path.name in COMMANDS or path.parent.name == "sweep"


def modules(folder: str) -> list[Path]:
    found = sorted((ROOT / folder).rglob("*.py"))
    assert found
    return found


def imported(source: str, *, lazy: bool = True) -> set[str]:
    """Full names of what a module imports, also inside functions unless told otherwise."""
    tree = ast.parse(source)
    typing_only = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for child in ast.walk(node)
    }
    nodes = ast.walk(tree) if lazy else iter(tree.body)
    names: set[str] = set()
    for node in nodes:
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def packages(names: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


def test_importing_the_simulator_loads_nothing_heavy():
    code = "import sys; from sim import simulate_cohort; print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    loaded = packages(set(done.stdout.split()))
    assert "numpy" in loaded
    assert loaded.isdisjoint(HEAVY)


def test_the_simulator_knows_numpy_and_the_standard_library_only():
    allowed = {"numpy", "sim", *sys.stdlib_module_names}
    for path in modules("sim"):
        if is_command(path) or path.name in GATE:
            continue
        # Special functions are taken from SciPy where they are needed, inside the function.
        assert packages(imported(path.read_text(), lazy=False)) <= allowed, path.name
        everywhere = packages(imported(path.read_text())) - {"scipy"}
        assert everywhere <= allowed, path.name


def test_configuration_objects_stay_at_the_gate():
    for folder in ("sim", "analysis", "figures"):
        for path in modules(folder):
            if folder == "sim" and (is_command(path) or path.name in GATE):
                continue
            assert packages(imported(path.read_text())).isdisjoint({"omegaconf", "hydra"}), path


def test_the_core_knows_no_files_of_configuration_and_no_analysis():
    outer = {f"sim.{Path(name).stem}." for name in COMMANDS | GATE} | {"sim.sweep."}
    for path in modules("sim"):
        names = imported(path.read_text())
        if not is_command(path):
            assert packages(names).isdisjoint({"analysis", "figures", "configs"}), path.name
        if not is_command(path) and path.name not in GATE:
            assert not {n for n in names if n.startswith(tuple(outer))}, path.name


def test_analysis_and_figures_do_not_simulate():
    makers = ("simulate", "draw_patients", "draw_calendar", "joint_benefit", "observe")
    for folder in ("analysis", "figures"):
        for path in modules(folder):
            names = imported(path.read_text())
            taken = {
                n for n in names if n.startswith("sim.") and n.split(".")[-1].startswith(makers)
            }
            assert not taken, f"{path.name} takes {taken}"
            assert not {n for n in names if n.startswith("sim.randomness")}, path.name
            assert "sim" not in names, path.name
            assert "sim.simulate_cohort" not in names, path.name


def test_figures_compute_nothing_that_could_be_wrong():
    for path in modules("figures"):
        names = imported(path.read_text())
        assert packages(names).isdisjoint({"scipy", "lifelines"}), path.name


def test_analysis_makes_no_pictures():
    for path in modules("analysis"):
        names = packages(imported(path.read_text()))
        assert names.isdisjoint({"matplotlib", "figures"}), path.name


@pytest.mark.parametrize("folder", ["sim", "analysis", "figures"])
def test_lifelines_is_imported_where_it_is_used_because_it_is_slow(folder):
    for path in modules(folder):
        assert "lifelines" not in packages(imported(path.read_text(), lazy=False)), path.name


def test_modules_do_not_import_each_other_in_a_circle():
    graph = {
        f"sim.{path.stem}": {
            ".".join(name.split(".")[:2])
            for name in imported(path.read_text(), lazy=False)
            if name.startswith("sim.")
        }
        for path in modules("sim")
        if path.name != "__init__.py"
    }
    done: set[str] = set()
    while remaining := {m for m in graph if m not in done}:
        ready = {m for m in remaining if graph[m] & graph.keys() <= done}
        assert ready, f"a circle among {sorted(remaining)}"
        done |= ready


def test_the_scan_sees_imports_of_every_kind():
    source = (
        "import scipy.stats\n"
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import pandas\n"
        "def f():\n    from omegaconf import DictConfig\n"
    )
    assert packages(imported(source)) == {"scipy", "typing", "omegaconf"}
    assert packages(imported(source, lazy=False)) == {"scipy", "typing"}
