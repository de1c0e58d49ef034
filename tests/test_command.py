import subprocess
import sys


def test_the_command_leaves_a_curve_and_its_figure(tmp_path):
    command = [sys.executable, "-m", "sim", f"hydra.run.dir={tmp_path}"]
    subprocess.run(command, check=True, timeout=120)
    assert (tmp_path / "curves.csv").exists()
    assert (tmp_path / "km_pfs.png").stat().st_size > 1000
