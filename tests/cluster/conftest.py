"""A real Slurm and a real Dask cluster, each of this machine alone.

Where one cannot be had its tests are skipped with the reason; with ``RESISTIME_REQUIRE_CLUSTER``
set they fail instead, so that a machine meant to run them cannot skip them unseen.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import pytest

from cluster.dask_machine import Dask, dask_machine
from cluster.slurm_machine import Slurm, SlurmUnavailable, slurm_machine


@pytest.fixture(scope="package")
def slurm() -> Iterator[Slurm]:
    """A Slurm of one node with two processors; started once, calm again after each test.

    Of the package, not the session, for its daemons need not run beside all other tests.
    """
    with contextlib.ExitStack() as stack:
        try:
            machine = stack.enter_context(slurm_machine())
        except SlurmUnavailable as reason:
            if os.environ.get("RESISTIME_REQUIRE_CLUSTER"):
                raise
            pytest.skip(f"no Slurm: {reason}")
        yield machine


@pytest.fixture(autouse=True)
def calm_slurm(request: pytest.FixtureRequest) -> Iterator[None]:
    """Leave no job and no drained node to the next test."""
    if "slurm" not in request.fixturenames:
        yield
        return
    machine: Slurm = request.getfixturevalue("slurm")
    yield
    machine.cancel()
    if "drain" in machine.node_state():
        machine.resume()


@pytest.fixture
def dask_cluster() -> Iterator[Dask]:
    """A scheduler and two workers of Dask, new for each test because tests kill them."""
    pytest.importorskip("distributed", reason="no Dask: the extra 'dask' is not installed")
    with dask_machine() as machine:
        yield machine
