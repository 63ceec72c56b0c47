"""The demonstration as a child process, and every process that descends from it, however it changed its group."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

COMMAND = [sys.executable, "-c", "from simulations.console import main; main()", "demo"]
# The least marketplace that the demonstration takes: most of its time is then the start of processes.
SMALL = ("--users", "1000", "--items", "200", "--trainings", "1")
TENANTS = ("qinghe-university", "lanting-library", "harbour-academy")
ROWS = (
    "popularity",
    "DP popularity",
    "content alone",
    *(f"{tenant} alone" for tenant in TENANTS),
    "federated cooccurrence, weights",
    "federated cooccurrence, factors",
    "federated recon",
    "pooled EASE, no privacy",
    "pooled ALS, no privacy",
    "no federation (control)",
)
MARK = "ZHIYIN_TEST_RUN"


def check_learner(report: dict[str, Any]) -> None:
    """What every report says of the platform: a model that passed, two purchases, and lists that are one."""
    platform = report["platform"]
    assert platform["products"] == report["items"]
    assert (platform["snapshot"], platform["model"], platform["model_version"]) == (1, "market-weights", 1)
    assert platform["epsilon"] == pytest.approx(2.0, rel=1e-3)
    learner = platform["learner"]
    assert learner["before"] == learner["device_before"]
    assert learner["after"] == learner["device_after"]
    assert len(learner["before"]) == len(set(learner["after"])) == 10
    assert len(set(learner["bought"])) == 2
    assert set(learner["bought"]) <= set(learner["before"])
    assert not set(learner["bought"]) & set(learner["after"])
    # What was bought changed more than that it is gone.
    assert learner["after"][:8] != [item for item in learner["before"] if item not in learner["bought"]]


class DemoRun:
    """A started demonstration; whatever is left of it when the block ends is killed, by process id.

    What descends from it is told by a variable of its environment, which children inherit, and by its folder, which
    some are named in their command. `unmarked` proves for a moment of the run that the mark misses nobody.
    """

    def __init__(self, out: Path, *arguments: str) -> None:
        self.out = out
        self._mark = uuid.uuid4().hex
        self._log = out.with_name(out.name + ".log")
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*COMMAND, "--out", str(out), *arguments],
                env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200", MARK: self._mark},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_heed_interrupts,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _ in range(3):  # one that is killed may have started another meanwhile
            for pid in self.family():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.process.wait()

    @property
    def output(self) -> str:
        return self._log.read_text(encoding="utf-8")

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def wait(self, *, timeout_seconds: float) -> int:
        """Its exit code."""
        return self.process.wait(timeout=timeout_seconds)

    def wait_for(self, condition: str, *, timeout_seconds: float = 150) -> None:
        """Until a file of the run's folder matches `condition`, "pattern" or "pattern: text that it holds"."""
        pattern, _, text = condition.partition(": ")
        deadline = time.monotonic() + timeout_seconds
        while not any(text in path.read_text(errors="replace") for path in self.out.glob(pattern)):
            assert self.running, self.output
            assert time.monotonic() < deadline, self.output
            time.sleep(0.05)

    def node(self, tenant: str) -> int:
        """Process id of a tenant's SuperNode, once it is connected."""
        return int((self.out / "flower" / "logs" / f"node-{tenant}.ready").read_text())

    def family(self) -> dict[int, str]:
        """Living processes of this run, itself included: id and command."""
        mark, folder = f"{MARK}={self._mark}".encode(), str(self.out)
        found = {}
        for pid, (_, command) in _processes().items():
            if mark in _environment(pid).split(b"\0") or folder in command:
                found[pid] = command
        return found

    def unmarked(self) -> dict[int, str]:
        """Descendants, by their chain of parents, that `family` does not know: none, or the mark proves nothing."""
        missed: dict[int, str] = {}
        for attempt in range(20):  # at the moment of its exec a process has no environment to read
            family, alive = self.family(), _processes()
            descendants = {self.process.pid}
            while more := {pid for pid, (parent, _) in alive.items() if parent in descendants} - descendants:
                descendants |= more
            found = {pid: alive[pid][1] for pid in descendants - set(family) if pid in alive}
            missed = found if attempt == 0 else {pid: command for pid, command in found.items() if pid in missed}
            if not missed:
                break
            time.sleep(0.05)
        return missed


def _heed_interrupts() -> None:
    """A shell starts background jobs deaf to SIGINT, and children inherit that; a person's terminal does not."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _processes() -> dict[int, tuple[int, str]]:
    """Parent and command of every process that is alive, by id."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                status = (entry / "status").read_text(errors="replace")
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                state, parent = re.search(r"^State:\s*(\w)", status, re.M), re.search(r"^PPid:\s*(\d+)", status, re.M)
                if state and parent and state[1] not in "ZX":
                    found[int(entry.name)] = (int(parent[1]), command)
    return found


def _environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""
