"""Child processes that never outlive their purpose.

Every child leads its own session and process group, so that what it spawns (Flower's app processes) can be ended with
it, by group id and never by name. Three things end a group:

1. the `finally` of `Supervisor` (return, failure, KeyboardInterrupt);
2. SIGTERM or SIGHUP to this process, turned into SystemExit while a supervisor is open, so that 1. runs;
3. a watchdog, for the case in which this process cannot act any more (kill -9, a crash of the interpreter). It is a
   small process that knows the groups and holds the reading end of a pipe whose only writer is this process: the
   kernel closes the pipe when this process dies, whatever the cause. PR_SET_PDEATHSIG was not chosen: it exists on
   Linux alone, follows the *thread* that forked, and reaches direct children only, not their children.
"""

import contextlib
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO, Self

from shared.errors import PortInUse, ProcessFailed

LOOPBACK = "127.0.0.1"
GRACE_SECONDS = 5.0
POLL_SECONDS = 0.05
LOG_TAIL_LINES = 15
PROCESS_TABLE = Path("/proc/self/stat")

# Runs with -I -S: no site, no environment, a few milliseconds to start. It leaves signals of the terminal to the
# parent, and reads "+group" and "-group" lines until the pipe closes.
WATCHDOG = """
import os, signal, sys, time
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
groups = []
for line in sys.stdin:
    (groups.append if line[0] == "+" else groups.remove)(int(line[1:]))
def end(number):
    for group in reversed(groups):
        try:
            os.killpg(group, number)
        except ProcessLookupError:
            pass
if groups:
    end(signal.SIGTERM)
    time.sleep(float(sys.argv[1]))
    end(signal.SIGKILL)
"""


@dataclass(frozen=True, kw_only=True)
class Child:
    """A started child: what it is called in messages, where it writes, and its process (leader of its group)."""

    name: str
    log: Path
    process: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.exit_code() is None

    def exit_code(self) -> int | None:
        """Return None while the child runs, then its exit code, negative for a signal.

        The child is looked at without being reaped: its process id, which names its group too, stays taken until the
        group was ended, so that no signal of ours can reach a stranger that was given the same number.
        """
        if self.process.returncode is not None:
            return self.process.returncode
        ended = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is None:
            return None
        return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status

    def log_text(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")


class Supervisor:
    """Starts children and ends them; use it as a context manager, from the main thread if it is to see SIGTERM."""

    def __init__(self, log_folder: Path, *, grace_seconds: float = GRACE_SECONDS) -> None:
        self._log_folder = log_folder
        self._grace_seconds = grace_seconds
        self._children: list[Child] = []
        self._lock = threading.Lock()
        self._watchdog: subprocess.Popen[str] | None = None
        self._handlers: dict[int, signal.Handlers | int | Callable[[int, FrameType | None], object] | None] = {}

    def __enter__(self) -> Self:
        self._log_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._watchdog = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", WATCHDOG, str(self._grace_seconds)],
            stdin=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGHUP):
                if signal.getsignal(number) is signal.SIG_DFL:
                    self._handlers[number] = signal.signal(number, _exit_on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.stop_all()
        finally:
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
            self._handlers.clear()
            if self._watchdog is not None:
                with contextlib.suppress(BrokenPipeError), _closing(self._watchdog.stdin):
                    pass
                self._watchdog.wait()

    @property
    def watchdog_pid(self) -> int:
        """The process that ends the children when this one cannot."""
        if self._watchdog is None:
            raise RuntimeError("a Supervisor has a watchdog inside its `with` block only")
        return self._watchdog.pid

    def start(
        self, name: str, command: Sequence[str], *, environment: Mapping[str, str], working_folder: Path
    ) -> Child:
        """Start `command` with exactly `environment`; its output is appended to `name`.log.

        Raises ProcessFailed if the program does not exist, RuntimeError outside of the `with` block.
        """
        if self._watchdog is None:
            raise RuntimeError("a Supervisor starts children inside its `with` block only")
        log = self._log_folder / f"{name}.log"
        # Under the lock a child cannot exist that the watchdog was not told about, nor be told about twice.
        with self._lock, log.open("ab") as output:
            try:
                process = subprocess.Popen(
                    command,
                    env=dict(environment),
                    cwd=working_folder,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            except OSError as error:
                raise ProcessFailed(f"{name} could not be started: {command[0]}: {error.strerror}") from error
            child = Child(name=name, log=log, process=process)
            self._children.append(child)
            self._tell_watchdog(f"+{process.pid}")
        return child

    def stop(self, child: Child) -> None:
        """End a child and all it spawned: SIGTERM to the group, then SIGKILL to whatever is left after the grace."""
        self._end_groups([child])

    def stop_all(self) -> None:
        """End every child, all groups at once."""
        self._end_groups(list(reversed(self._children)))

    def kill(self, child: Child) -> None:
        """SIGKILL to the child alone, as a crash would look; what it spawned must notice by itself."""
        if child.running:
            os.kill(child.pid, signal.SIGKILL)
            os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

    def kill_group(self, child: Child) -> None:
        """SIGKILL to the child and all it spawned, at once and without a word of warning."""
        _signal_group(child, signal.SIGKILL)
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

    def _end_groups(self, children: Sequence[Child]) -> None:
        for child in children:
            _signal_group(child, signal.SIGTERM)
        deadline = time.monotonic() + self._grace_seconds
        while any(_group_alive(child) for child in children) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        for child in children:
            _signal_group(child, signal.SIGKILL)
            child.process.wait()
            with self._lock:
                if child in self._children:
                    self._children.remove(child)
                    self._tell_watchdog(f"-{child.pid}")

    def _tell_watchdog(self, line: str) -> None:
        if self._watchdog is not None and self._watchdog.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._watchdog.stdin.write(line + "\n")
                self._watchdog.stdin.flush()


def free_ports(count: int) -> tuple[int, ...]:
    """Return ports that nobody listens on at this moment on 127.0.0.1; all different."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) for _ in range(count)]
        for each in sockets:
            each.bind((LOOPBACK, 0))
        return tuple(int(each.getsockname()[1]) for each in sockets)


def require_free_port(port: int, *, purpose: str) -> None:
    """Raise PortInUse, naming the port and what it was for, if somebody already listens on it."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            raise PortInUse(
                f"port {port} on {LOOPBACK} is taken, and {purpose} needs it: "
                "end the program that listens there, or choose another port"
            ) from error


def wait_until_healthy(child: Child, url: str, *, authority: Path | None, timeout_seconds: float) -> None:
    """Poll `url` until it answers 200; raises ProcessFailed when the child ends first or the time is over."""
    context = None if authority is None else ssl.create_default_context(cafile=str(authority))
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
    if context is not None:
        handlers.append(urllib.request.HTTPSHandler(context=context))
    opener = urllib.request.build_opener(*handlers)

    def healthy() -> bool:
        try:
            with opener.open(url, timeout=2.0) as response:
                return bool(response.status == 200)
        except urllib.error.HTTPError as error:
            error.close()
            return False
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    wait_until(child, healthy, what=f"answer on {url}", timeout_seconds=timeout_seconds)


def wait_until(child: Child, condition: Callable[[], bool], *, what: str, timeout_seconds: float) -> None:
    """Poll `condition` while the child lives; raises ProcessFailed with the end of its log otherwise."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        log_end = f"the end of {child.log}:\n{_tail(child.log)}"
        if not child.running:
            raise ProcessFailed(f"{child.name} ended with code {child.exit_code()} before it could {what}; {log_end}")
        if time.monotonic() > deadline:
            raise ProcessFailed(f"{child.name} did not {what} within {timeout_seconds:.0f} s; {log_end}")
        time.sleep(POLL_SECONDS)


def group_members(group: int) -> tuple[int, ...]:
    """Return the ids of the living processes in a process group (Linux: read from /proc)."""
    return tuple(pid for pid, its_group, state in _process_table() if its_group == group and state != "Z")


def _process_table() -> Iterator[tuple[int, int, str]]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                # The command, in brackets, may hold spaces: the fields start behind the last bracket.
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                yield int(folder.name), int(fields[2]), fields[0]


def _group_alive(child: Child) -> bool:
    return child.running or (PROCESS_TABLE.exists() and bool(group_members(child.pid)))


def _signal_group(child: Child, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: EPERM for a group of zombies
        os.killpg(child.pid, number)


def _exit_on_signal(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


@contextlib.contextmanager
def _closing(stream: IO[str] | None) -> Iterator[None]:
    try:
        yield
    finally:
        if stream is not None:
            stream.close()


def _tail(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(lines[-LOG_TAIL_LINES:])
