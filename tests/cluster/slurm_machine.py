"""A Slurm of one machine for the tests: real daemons under a temporary folder, gone afterwards.

The programs are Debian's. Where they are absent they are installed, which takes root and a
network, and they stay installed; nothing else is left behind. No daemon of the machine is
used or stopped: authentication, accounting and its database are private, on sockets in the
folder and on ports that were free.

Accounting is not optional: only ``sacct`` tells submitit that a task was killed, and without
it a launcher waits for such a task for ever.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ("slurmctld", "slurmd", "slurm-client", "slurmdbd", "munge", "mariadb-server-core")
PROGRAMS = (
    *("slurmctld", "slurmd", "slurmdbd", "munged", "mariadbd"),
    *("sbatch", "srun", "squeue", "sinfo", "sacct", "sacctmgr", "scancel", "scontrol", "setpriv"),
)
CLUSTER = "resistime"
SYSTEM_TABLES = Path("/usr/share/mysql/mysql_system_tables.sql")
NODE_CPUS = 2
NODE_MEGABYTES = 4096

DOWNLOAD_SECONDS = 120.0
LOCK_SECONDS = 20
"""How long to wait for another apt or dpkg to end."""


class SlurmUnavailable(Exception):
    """This machine cannot have a Slurm; the message says why."""


@dataclass(frozen=True)
class Daemon:
    """A program that was started in the foreground, and the file with what it says."""

    process: subprocess.Popen[bytes]
    log: Path


@dataclass(frozen=True)
class Slurm:
    """A running Slurm.

    Attributes
    ----------
    environment : mapping of str to str
        For the commands of Slurm and for whatever calls them: ``SLURM_CONF`` and all that this
        process has, less the variables of a Slurm that it may itself run under.
    node : str
        Name of the only node.
    """

    environment: Mapping[str, str]
    node: str

    def run(self, *command: str, timeout: float = 60.0) -> str:
        """What a command of Slurm prints.

        Raises
        ------
        subprocess.CalledProcessError
            If it fails; a note says what the command said.
        """
        done = subprocess.run(
            command, env=self.environment, timeout=timeout, capture_output=True, text=True
        )
        if done.returncode != 0:
            failure = subprocess.CalledProcessError(
                done.returncode, command, done.stdout, done.stderr
            )
            failure.add_note(done.stderr)
            raise failure
        return done.stdout

    def node_state(self) -> str:
        """State of the node, such as ``idle``, ``mixed``, ``drained`` or ``draining``."""
        return self.run("sinfo", "--noheader", "--format=%T").strip()

    def drain(self) -> None:
        """Let the node take no new job; those that run go on."""
        self.run(*("scontrol", "update", f"nodename={self.node}", "state=drain", "reason=a test"))

    def resume(self) -> None:
        """Let the node take jobs again."""
        self.run("scontrol", "update", f"nodename={self.node}", "state=resume")

    def jobs(self) -> dict[str, str]:
        """State of each job not yet ended by its id, one an element of an array (``7_2``)."""
        lines = self.run("squeue", "--noheader", "--array", "--format=%i %T").splitlines()
        return dict(line.split() for line in lines)

    def accounts(self) -> dict[str, str]:
        """State of each job that ever was by its id, from the accounting; some seconds late."""
        lines = self.run(
            *("sacct", "--noheader", "--parsable2", "--allocations", "--format=JobID,State"),
            "--starttime=now-1day",  # otherwise from midnight
        ).splitlines()
        return dict(line.split("|") for line in lines)

    def processes(self, job: str) -> list[int]:
        """Process ids of a job, as ``jobs`` names it: its script, ``srun`` and the task itself."""
        return [
            process
            for process, variables in _environments(self.environment["SLURM_CONF"])
            if job in _job_names(variables) and _program(process) != "slurmstepd"
        ]

    def kill(self, job: str) -> int:
        """Kill all processes of a job, as the kernel does when memory runs out; how many."""
        processes = self.processes(job)
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        return len(processes)

    def cancel(self, seconds: float = 20.0) -> None:
        """Cancel all jobs and wait until none is left."""
        jobs = self.jobs()
        if jobs:
            self.run("scancel", "--full", *jobs)
        _wait(lambda: not self.jobs(), seconds, "jobs to end")


@contextlib.contextmanager
def slurm_machine() -> Iterator[Slurm]:
    """Start a Slurm, and stop what was started.

    Raises
    ------
    SlurmUnavailable
        If this machine cannot have one.
    """
    if os.geteuid() != 0:
        raise SlurmUnavailable("a Slurm for the tests takes root")
    # Paths of Unix sockets hold 107 characters: not below the folders of pytest.
    with tempfile.TemporaryDirectory(prefix="resistime-slurm-") as folder:
        place = Path(folder)
        _install(place)
        with contextlib.ExitStack() as daemons:
            try:
                slurm = _start_all(place, daemons)
            except (OSError, subprocess.SubprocessError) as error:
                raise SlurmUnavailable(f"cannot start it: {error}") from error
            yield slurm


def _install(place: Path) -> None:
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise SlurmUnavailable(f"no {', '.join(missing)}, and no apt-get to install them with")
    archives = place / "archives"
    (archives / "partial").mkdir(parents=True)
    install = ("install", "--yes", "--no-install-recommends")
    keep = ("-o", f"Dir::Cache::archives={archives}")
    _apt("update", timeout=DOWNLOAD_SECONDS)
    # Downloads may be cut short; dpkg at work may not.
    _apt(*install, *keep, "--download-only", *PACKAGES, timeout=DOWNLOAD_SECONDS)
    _apt(*install, *keep, "--no-download", *PACKAGES)
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        raise SlurmUnavailable(f"no {', '.join(missing)}, although the packages are installed")


def _apt(*arguments: str, timeout: float | None = None) -> None:
    command = (
        *("apt-get", "-q", "-o", f"DPkg::Lock::Timeout={LOCK_SECONDS}"),
        *("-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=15"),
        # Without this, update reports a host it cannot reach as a success with a warning.
        *("-o", "APT::Update::Error-Mode=any"),
        *arguments,
    )
    told = "apt-get " + next(a for a in arguments if not a.startswith("-"))
    try:
        done = subprocess.run(
            command, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"},
            timeout=timeout, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise SlurmUnavailable(f"{told}: not done after {timeout:g} s") from None
    if done.returncode != 0:
        complaints = [line for line in done.stdout.splitlines() if line.startswith("E:")]
        last = (complaints or done.stdout.splitlines() or ["no message"])[0]
        raise SlurmUnavailable(f"{told}: {last}")


def _start_all(place: Path, daemons: contextlib.ExitStack) -> Slurm:
    node = socket.gethostname().partition(".")[0]
    ports = _free_ports(3)
    foreign = ("SLURM", "SBATCH", "SRUN", "SACCT", "SQUEUE", "SINFO", "SCANCEL")
    plain = {name: v for name, v in os.environ.items() if not name.startswith(foreign)}
    slurm = Slurm({**plain, "SLURM_CONF": str(place / "slurm.conf")}, node)

    def start(name: str, *command: str, **variables: str) -> Daemon:
        return daemons.enter_context(
            _daemon(place / f"{name}.log", command, {**slurm.environment, **variables})
        )

    munge = place / "munge.socket"
    key = place / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    munged = start(
        "munged",
        # Forced, for its socket lies in a folder that is closed to others.
        *("munged", "--foreground", "--force", f"--socket={munge}", f"--key-file={key}"),
        *(f"--pid-file={place}/munged.pid", f"--seed-file={place}/munge.seed"),
        "--num-threads=10",
    )

    database = place / "database.socket"
    _make_database(place)
    mariadbd = start(
        "mariadbd",
        *("mariadbd", *_database_options(place)),
        *(f"--socket={database}", f"--pid-file={place}/mariadbd.pid"),
        # The folder lets nobody else in.
        *("--skip-networking", "--skip-grant-tables"),
        # As slurmdbd asks for.
        "--innodb-lock-wait-timeout=900",
    )
    _write_configuration(place, node, ports, munge)
    _wait(munge.exists, 10, "munged", munged)
    _wait(database.exists, 30, "mariadbd", mariadbd)

    # The library that slurmdbd reaches the database with finds the socket by this variable.
    slurmdbd = start("slurmdbd", "slurmdbd", "-D", MYSQL_UNIX_PORT=str(database))
    _wait(lambda: _answers(slurm, "sacctmgr", "--noheader", "show", "cluster"), 30, "slurmdbd",
          slurmdbd)  # fmt: skip
    slurm.run("sacctmgr", "--immediate", "add", "cluster", CLUSTER)
    slurmctld = start("slurmctld", "slurmctld", "-D")
    slurmd = start("slurmd", "slurmd", "-D")
    _wait(lambda: _answers(slurm, "scontrol", "ping"), 20, "slurmctld", slurmctld)
    daemons.callback(_end_jobs, slurm)
    _wait(lambda: slurm.node_state() == "idle", 30, "slurmd", slurmd)
    return slurm


def _make_database(place: Path) -> None:
    """A folder of MariaDB with its system tables: slurmdbd stores a procedure among them."""
    (place / "database").mkdir()
    statements = f"create database mysql;\nuse mysql;\n{SYSTEM_TABLES.read_text()}"
    done = subprocess.run(
        ("mariadbd", *_database_options(place), "--bootstrap"), input=statements,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60,
    )  # fmt: skip
    if done.returncode != 0:
        raise SlurmUnavailable(f"mariadbd --bootstrap: {_last_line(done.stdout)}")


def _database_options(place: Path) -> tuple[str, ...]:
    return (
        *("--no-defaults", "--user=root", f"--datadir={place}/database"),  # in this order
        # Nothing in it is to outlive the machine.
        *("--innodb-flush-method=nosync", "--innodb-buffer-pool-size=64M"),
    )


def _write_configuration(place: Path, node: str, ports: list[int], munge: Path) -> None:
    for name in ("state", "spool"):
        (place / name).mkdir()
    control, compute, accounting = ports
    shared = f"AuthType=auth/munge\nAuthInfo=socket={munge}\nSlurmUser=root\n"
    (place / "slurm.conf").write_text(
        shared
        + f"""
ClusterName={CLUSTER}
SlurmdUser=root
SlurmctldHost={node}(127.0.0.1)
SlurmctldPort={control}
SlurmdPort={compute}
StateSaveLocation={place}/state
SlurmdSpoolDir={place}/spool
SlurmctldPidFile={place}/slurmctld.pid
SlurmdPidFile={place}/slurmd.pid
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={accounting}
# Towards slurmdbd this names the socket, not AuthInfo.
AccountingStoragePass={munge}
MpiDefault=none
# The plugins that need neither systemd nor control groups of their own.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
# Memory is counted, as on most clusters, and not enforced.
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=512
SchedulerParameters=batch_sched_delay=0,bf_interval=1
KillWait=2
ReturnToService=2
# The node is as described here, whatever the machine has: tests see the same one everywhere.
SlurmdParameters=config_overrides
NodeName={node} NodeAddr=127.0.0.1 CPUs={NODE_CPUS} RealMemory={NODE_MEGABYTES}
PartitionName=debug Nodes={node} Default=YES MaxTime=INFINITE State=UP
"""
    )
    # Named, for slurmd would otherwise look for the kind mounted, and end where none is. Not used.
    (place / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\nCgroupAutomount=no\n")
    # Found beside slurm.conf; slurmdbd takes no path, and refuses a file that others can read.
    private = place / "slurmdbd.conf"
    private.touch(mode=0o600)
    private.write_text(
        shared
        + f"""
DbdHost={node}
DbdAddr=127.0.0.1
DbdPort={accounting}
PidFile={place}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm_accounts
"""
    )


@contextlib.contextmanager
def _daemon(
    log: Path, command: tuple[str, ...], environment: Mapping[str, str]
) -> Iterator[Daemon]:
    """A program in the foreground of its own session, ended with the block or with this process."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            ("setpriv", "--pdeathsig", "TERM", *command), env=environment, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        yield Daemon(process, log)
    finally:
        process.terminate()
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(
    holds: Callable[[], bool],
    seconds: float,
    what: str,
    daemon: Daemon | None = None,
) -> None:
    end = time.monotonic() + seconds
    while not holds():
        if daemon is not None and daemon.process.poll() is not None:
            raise SlurmUnavailable(f"{what} ended: {_last_line(daemon.log.read_text())}")
        if time.monotonic() > end:
            raise SlurmUnavailable(f"waited {seconds:g} s for {what}")
        time.sleep(0.1)


def _answers(slurm: Slurm, *command: str) -> bool:
    try:
        slurm.run(*command, timeout=10)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return False
    return True


def _end_jobs(slurm: Slurm) -> None:
    """Leave no process of a job behind, by order or by force."""
    with contextlib.suppress(SlurmUnavailable, subprocess.SubprocessError):
        slurm.cancel()
    for process, variables in _environments(slurm.environment["SLURM_CONF"]):
        if "SLURM_JOB_ID" in variables:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)


def _environments(configuration: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Processes that run under a configuration of Slurm, each with its variables."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            text = (folder / "environ").read_bytes().decode(errors="replace")
        except OSError:  # ended meanwhile
            continue
        variables = dict(entry.partition("=")[::2] for entry in text.split("\0"))
        if variables.get("SLURM_CONF") == configuration:
            yield int(folder.name), variables


def _job_names(variables: Mapping[str, str]) -> set[str]:
    job = variables.get("SLURM_JOB_ID", "")
    array = variables.get("SLURM_ARRAY_JOB_ID", "")
    return {job, f"{array}_{variables.get('SLURM_ARRAY_TASK_ID', '')}"}


def _program(process: int) -> str:
    try:
        return Path(f"/proc/{process}/comm").read_text().strip()
    except OSError:
        return ""


def _free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no message"])[-1]
