"""Children that never outlive their purpose, tried on real processes; every kill goes to an id that the test made."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shared.errors import PortInUse, ProcessFailed
from simulations.deployment.processes import (
    Supervisor,
    free_ports,
    group_members,
    require_free_port,
    wait_until,
    wait_until_healthy,
)

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 10.0

Parent = Callable[[str], tuple[subprocess.Popen[str], int, list[int]]]


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def heed_interrupts() -> None:
    """A shell starts background jobs deaf to SIGINT, and children inherit that; a person's terminal does not."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def gone(pids: list[int]) -> bool:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not any(alive(pid) for pid in pids)


@pytest.fixture
def parent(tmp_path: Path) -> Iterator[Parent]:
    """Start a parent; gives it, its watchdog's id, and the ids of its child and grandchild."""
    started: list[int] = []
    parents: list[subprocess.Popen[str]] = []

    def start(ending: str) -> tuple[subprocess.Popen[str], int, list[int]]:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.deployment_parent", str(tmp_path), ending],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=heed_interrupts,
        )
        parents.append(process)
        assert process.stdout is not None
        watchdog, *family = [int(word) for word in process.stdout.readline().split()]
        started.extend(family)
        return process, watchdog, family

    yield start
    for process in parents:
        process.kill()
        process.communicate()
    for pid in started:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(("ending", "code"), [("return", 0), ("fail", 1)])
def test_a_stubborn_child_and_its_child_end_with_the_block(parent: Parent, ending: str, code: int) -> None:
    process, watchdog, family = parent(ending)

    process.communicate(timeout=PATIENCE_SECONDS)

    assert process.returncode == code
    assert not any(alive(pid) for pid in [watchdog, *family])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, -signal.SIGINT)])
def test_a_stubborn_child_and_its_child_end_when_the_parent_is_asked_to(
    parent: Parent, number: signal.Signals, code: int
) -> None:
    process, watchdog, family = parent("wait")

    process.send_signal(number)
    process.communicate(timeout=PATIENCE_SECONDS)

    assert process.returncode == code
    assert not any(alive(pid) for pid in [watchdog, *family])


def test_a_stubborn_child_and_its_child_end_when_the_parent_is_killed(parent: Parent) -> None:
    process, watchdog, family = parent("wait")
    assert all(alive(pid) for pid in [watchdog, *family])

    process.kill()
    process.communicate(timeout=PATIENCE_SECONDS)

    assert gone([watchdog, *family])


def test_without_the_watchdog_a_killed_parents_children_would_live_on(parent: Parent) -> None:
    process, watchdog, family = parent("wait")

    os.kill(watchdog, signal.SIGKILL)
    process.kill()
    process.communicate(timeout=PATIENCE_SECONDS)

    time.sleep(1.5)
    assert all(alive(pid) for pid in family)


def test_a_killed_childs_own_children_are_still_ended_with_the_group(tmp_path: Path) -> None:
    program = (
        "import subprocess, sys, time;"
        "print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']).pid, flush=True);"
        "time.sleep(600)"
    )
    with Supervisor(tmp_path / "logs", grace_seconds=0.5) as supervisor:
        child = supervisor.start("c", [sys.executable, "-c", program], environment={}, working_folder=tmp_path)
        wait_until(child, lambda: bool(child.log_text().strip()), what="speak", timeout_seconds=PATIENCE_SECONDS)
        supervisor.kill(child)
        assert not child.running
        assert child.exit_code() == -signal.SIGKILL
        assert [str(pid) for pid in group_members(child.pid)] == [child.log_text().strip()]

        supervisor.stop(child)

        assert group_members(child.pid) == ()


def test_a_port_that_is_taken_is_named_before_anything_starts() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PortInUse, match=rf"port {port} on 127\.0\.0\.1 is taken, and the SuperLink needs it"):
            require_free_port(port, purpose="the SuperLink")
    require_free_port(port, purpose="the SuperLink")


def test_free_ports_are_free_and_different() -> None:
    ports = free_ports(20)

    assert len(set(ports)) == 20
    for port in ports:
        require_free_port(port, purpose="a test")


def test_a_child_that_ends_early_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    program = "import sys; print('the reason'); sys.exit(3)"
    with Supervisor(tmp_path / "logs") as supervisor:
        child = supervisor.start("node", [sys.executable, "-c", program], environment={}, working_folder=tmp_path)
        with pytest.raises(ProcessFailed, match=r"(?s)node ended with code 3 before it could answer on .*the reason"):
            wait_until_healthy(child, "http://127.0.0.1:9/health", authority=None, timeout_seconds=PATIENCE_SECONDS)


def test_a_child_that_never_gets_ready_is_reported_in_time(tmp_path: Path) -> None:
    with Supervisor(tmp_path / "logs", grace_seconds=0.5) as supervisor:
        program = "import time; time.sleep(600)"
        child = supervisor.start("node", [sys.executable, "-c", program], environment={}, working_folder=tmp_path)
        with pytest.raises(ProcessFailed, match="node did not get ready within 0 s"):
            wait_until(child, lambda: False, what="get ready", timeout_seconds=0.2)


def test_a_program_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with Supervisor(tmp_path / "logs") as supervisor, pytest.raises(ProcessFailed, match="no-such-program"):
        supervisor.start("x", ["no-such-program"], environment={}, working_folder=tmp_path)


def test_a_child_sees_the_given_environment_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET_OF_THE_PARENT", "x")
    program = "import os; print(sorted(set(os.environ) & {'A_SECRET_OF_THE_PARENT', 'GIVEN'}), flush=True)"
    with Supervisor(tmp_path / "logs") as supervisor:
        child = supervisor.start(
            "c", [sys.executable, "-c", program], environment={"GIVEN": "1"}, working_folder=tmp_path
        )
        while child.running:
            time.sleep(0.02)
        assert child.log_text().strip() == "['GIVEN']"
