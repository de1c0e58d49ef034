"""The Dask cluster of the tests: workers are processes, and one of them can die."""

from __future__ import annotations

import os
import time

import pytest

from cluster.dask_machine import Dask


def test_the_tasks_of_a_killed_worker_are_done_by_the_other(dask_cluster: Dask):
    from distributed import Client, wait

    def square(number: int) -> tuple[int, int]:
        time.sleep(0.3)
        return number**2, os.getpid()

    with Client(dask_cluster.address, timeout=60) as client:
        client.wait_for_workers(2, timeout=60)
        assert set(client.run(os.getpid).values()) == set(dask_cluster.workers.values())
        futures = client.map(square, range(10), pure=False)
        # Both hold a result and are at work, so what dies with one is to be done again.
        wait(futures, return_when="FIRST_COMPLETED", timeout=60)
        assert all(client.processing().values())
        dask_cluster.kill("worker0")
        done = client.gather(futures)
        assert [value for value, _ in done] == [n**2 for n in range(10)]
        assert {process for _, process in done} == {dask_cluster.workers["worker1"]}
        assert len(client.scheduler_info()["workers"]) == 1


def test_every_test_has_a_whole_cluster(dask_cluster: Dask):
    from distributed import Client

    with Client(scheduler_file=str(dask_cluster.file), timeout=60) as client:
        client.wait_for_workers(2, timeout=60)
        assert len(client.scheduler_info()["workers"]) == 2
        with pytest.raises(ZeroDivisionError):
            client.submit(divmod, 1, 0).result(timeout=60)
