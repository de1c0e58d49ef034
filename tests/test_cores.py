"""As many processes as were granted: by the machine, by Slurm, by a container."""

import os

import pytest

from sim.cores import cores


@pytest.fixture(autouse=True)
def large_machine(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(64)))


def write(place, path, text):
    whole = place / path
    whole.parent.mkdir(parents=True, exist_ok=True)
    whole.write_text(text)


def control(place, path, text):
    write(place, f"sys/fs/cgroup/{path}", text)


def test_without_a_grant_it_is_those_that_the_process_may_run_on(tmp_path):
    assert cores({}, tmp_path) == 64


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"SLURM_CPUS_PER_TASK": "4", "SLURM_CPUS_ON_NODE": "8"}, 4),
        ({"SLURM_CPUS_ON_NODE": "1"}, 1),
        ({"SLURM_CPUS_PER_TASK": "128"}, 64),
        ({"SLURM_CPUS_PER_TASK": ""}, 64),
        ({"SLURM_CPUS_PER_TASK": "0"}, 64),
    ],
)
def test_slurm_grants_fewer_than_a_node_has(tmp_path, variables, expected):
    assert cores(variables, tmp_path) == expected


@pytest.mark.parametrize(
    ("limit", "expected"),
    [("200000 100000", 2), ("150000 100000", 2), ("1000 100000", 1), ("max 100000", 64), ("", 64)],
)
def test_a_container_has_a_share_of_processor_time(tmp_path, limit, expected):
    write(tmp_path, "proc/self/cgroup", "0::/\n")
    control(tmp_path, "cpu.max", limit)
    assert cores({}, tmp_path) == expected


def test_the_least_of_all_groups_above_counts(tmp_path):
    write(tmp_path, "proc/self/cgroup", "0::/user.slice/job.scope\n")
    control(tmp_path, "user.slice/job.scope/cpu.max", "max 100000")
    control(tmp_path, "user.slice/cpu.max", "300000 100000")
    control(tmp_path, "other.slice/cpu.max", "100000 100000")
    assert cores({}, tmp_path) == 3


@pytest.mark.parametrize(("quota", "expected"), [("250000", 3), ("-1", 64)])
def test_the_first_version_of_control_groups_counts_too(tmp_path, quota, expected):
    write(tmp_path, "proc/self/cgroup", "4:memory:/\n3:cpu,cpuacct:/docker/1\n")
    control(tmp_path, "cpu/docker/1/cpu.cfs_quota_us", quota)
    control(tmp_path, "cpu/docker/1/cpu.cfs_period_us", "100000")
    assert cores({}, tmp_path) == expected
