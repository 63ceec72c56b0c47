"""A node says in one line why it cannot start, and ends without false alarms."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from client import flower_internals, supernode
from client.supernode import NodeSettings
from shared.errors import BadSetting
from simulations.deployment.certificates import make_server_certificates

ROOT = Path(__file__).resolve().parents[2]
NO_ADDRESSES = (
    "foo", "", ":9092", "foo:", "foo:0", "foo:65536", "foo:9092x", "foo:-1", "foo:²", "https://foo:9092", "a b:9092",
    "::1:9092", "[]:9092", "foo:" + "9" * 5_000,
)  # fmt: skip


def node(tmp_path: Path, **changes: object) -> NodeSettings:
    (tmp_path / "node.key").write_text("x")
    authority = tmp_path / "tls" / "ca.crt"
    if not authority.exists():
        make_server_certificates(authority.parent, now=datetime.now(UTC))
    fields: dict[str, object] = {
        "superlink": "127.0.0.1:8000",
        "root_certificates": authority,
        "private_key": tmp_path / "node.key",
        "allowed_digests": frozenset({"0" * 64}),
    }
    return NodeSettings(**(fields | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"allowed_digests": frozenset()}, "no app bundle is allowed"),
        ({"allowed_digests": frozenset({"abc"})}, "no bundle digest"),
        ({"poll_seconds": 0.0}, "poll_seconds must be between"),
        ({"poll_seconds": float("nan")}, "poll_seconds must be between"),
        ({"heartbeat_seconds": 5.0}, "heartbeat_seconds must be between 10 and 1800"),
        ({"private_key": Path("/no/such/key")}, "/no/such/key: no such file"),
        *(({"superlink": text}, "superlink must be host:port") for text in NO_ADDRESSES),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_node_that_could_not_work_or_not_be_safe_does_not_start(
    tmp_path: Path, changes: dict[str, object], complaint: str
) -> None:
    node(tmp_path)
    with pytest.raises(BadSetting, match=complaint):
        node(tmp_path, **changes)


@pytest.mark.parametrize("address", ["foo:1", "10.0.0.7:65535", "[::1]:9092", "superlink.example.org:09092"])
def test_an_address_with_host_and_port_is_accepted(tmp_path: Path, address: str) -> None:
    assert node(tmp_path, superlink=address).superlink == address


@pytest.mark.parametrize(
    "content", [b"", b"garbage", b"\x00\xff" * 500, b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_an_authority_that_is_no_certificate_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "authority.crt"
    path.write_bytes(content)
    with pytest.raises(BadSetting, match=f"{path}: no certificate in PEM") as said:
        node(tmp_path, root_certificates=path)
    assert "\n" not in str(said.value)


LATE_LEAVE = """
import time
from client import flower_internals
flower_internals.ORPHAN_CHECK_SECONDS = 0.01
class Late:
    def __del__(self, sleep=time.sleep):
        sleep(0.3)
flower_internals._end_with_parent()
late = Late()
print("leaving", flush=True)
"""


def test_the_executors_timer_does_not_kill_it_while_it_leaves() -> None:
    done = subprocess.run([sys.executable, "-c", LATE_LEAVE], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "leaving\n"), done.stderr


@pytest.mark.parametrize("shutting_down", [True, False])
def test_an_executor_that_ends_is_an_alarm_only_while_the_node_is_not_shutting_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, shutting_down: bool
) -> None:
    started: list[subprocess.Popen[bytes]] = []
    before_exit: list[Callable[[], None]] = []
    killed = threading.Event()
    popen = subprocess.Popen

    def start(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        descriptor = command[command.index("--ready-descriptor") + 1]
        code = f"import os, time; os.write({descriptor}, b'1'); os.close({descriptor}); time.sleep(60)"
        started.append(popen([sys.executable, "-c", code], **options))
        return started[0]

    monkeypatch.setattr("client.supernode.subprocess.Popen", start)
    kill = os.kill
    monkeypatch.setattr("client.supernode.os.kill", lambda pid, number: killed.set() if pid == os.getpid() else None)
    monkeypatch.setattr(supernode, "SIGNAL_GRACE_SECONDS", 0.05)
    monkeypatch.setattr(flower_internals, "before_exit", before_exit.append)
    with supernode._executor(1, tmp_path, node(tmp_path)):
        if shutting_down:
            before_exit[0]()
        kill(started[0].pid, signal.SIGALRM)
        assert killed.wait(0.5 if shutting_down else 10.0) is not shutting_down
    assert ("task executor ended with code -14" in caplog.text) is not shutting_down


def test_flower_calls_back_before_it_waits_for_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    from flwr.supercore.exit import exit_handler

    monkeypatch.setattr(exit_handler, "registered_exit_handlers", [])
    called: list[str] = []
    flower_internals.before_exit(lambda: called.append("stopping"))
    exit_handler.trigger_exit_handlers(run_before_force_exit=True)
    assert called == ["stopping"]


MANY_MESSAGES = """
import os, time
from types import SimpleNamespace
from flwr.supercore.constant import TaskType
from client import flower_internals

may_end, end_one = os.pipe()

def answer(spec, parent, bundle, say):
    os.read(may_end, 1)
    os._exit(0)

def free():
    return sorted(executor.get_eligible_capacity(set(TaskType))[0])

def freed():
    end = time.monotonic() + 10
    while not free() and time.monotonic() < end:
        time.sleep(0.01)
    return free()

flower_internals._run_clientapp_and_exit = answer
executor = flower_internals.ForkingExecutor()
message = SimpleNamespace(task_type=TaskType.CLIENT_APP)
for _ in range(3):
    assert free() == [TaskType.CLIENT_APP]
    assert executor.launch(message).status.name == "ACCEPTED"
    for _ in range(3):
        assert free() == []
        assert executor.launch(message).status.name == "CAPACITY_REJECTED"
    os.write(end_one, b"x")
    assert freed() == [TaskType.CLIENT_APP]
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    print("nobody is left")
"""


LEFT_BEHIND = """
import os, time
from types import SimpleNamespace
from flwr.supercore.constant import TaskType
from client import flower_internals

may_end, end_all = os.pipe()

def answer(spec, parent, bundle, say):
    if os.fork() == 0:
        os.close(end_all)
        os.read(may_end, 1)
    os._exit(0)

flower_internals._run_clientapp_and_exit = answer
executor = flower_internals.ForkingExecutor()
executor.launch(SimpleNamespace(task_type=TaskType.CLIENT_APP))
end = time.monotonic() + 10
while executor._running and time.monotonic() < end:
    executor.reconcile()
    time.sleep(0.01)
print("free" if not executor._running else "busy")
"""


def test_a_process_that_a_message_leaves_behind_does_not_hold_up_the_node() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LEFT_BEHIND], cwd=ROOT, capture_output=True, text=True, check=False, timeout=20
    )
    assert (done.returncode, done.stdout) == (0, "free\n"), done.stderr


def test_a_node_works_on_one_message_at_a_time_and_takes_the_next_when_it_is_done() -> None:
    done = subprocess.run(
        [sys.executable, "-c", MANY_MESSAGES], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "nobody is left\n"), done.stderr
