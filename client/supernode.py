"""A partner's node: Flower's SuperNode in this process, which runs the app bundles on its allow-list and no other code.

Two processes: this one talks to the SuperLink; the task executor forks a process for every message. They trust each
other by a secret made at the start, so no other program of the machine can ask the node for a learner's message.
"""

import argparse
import contextlib
import fcntl
import gc
import logging
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from client import flower_internals
from client.bundle import parse_digest
from shared.errors import BadSetting, DeploymentError, ProcessFailed, ZhiyinError

LOG = logging.getLogger(__name__)
LOOPBACK = "127.0.0.1"
SWITCHED_OFF = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
}
FLOWER_FOLDER = "flower"
SESSION_FILE = "node-id"
HOME_SETTING = "zhiyin-home"
EXECUTOR_GRACE_SECONDS = 3.0
SIGNAL_GRACE_SECONDS = 1.0
MIN_HEARTBEAT_SECONDS, MAX_HEARTBEAT_SECONDS = 10.0, 1800.0


@dataclass(frozen=True, kw_only=True)
class NodeSettings:
    """What a node needs to know.

    superlink: host:port of the server. root_certificates: the authority that the server's certificate must come from.
    private_key: this node's P-384 key, whose public half is registered with the server. allowed_digests: SHA-256 of
    the app bundles that may run here. poll_seconds: pause between two questions for messages.
    heartbeat_seconds: the server calls the node lost after two of them. port: of the node's own interface on loopback,
    0 for any free one. gradients: import torch and Opacus once at the start (some 300 MB, shared by the messages), and
    not for each message that needs them. ready_file: written when the server has accepted the node.
    """

    superlink: str
    root_certificates: Path
    private_key: Path
    allowed_digests: frozenset[str]
    poll_seconds: float = 1.0
    heartbeat_seconds: float = 30.0
    port: int = 0
    gradients: bool = True
    ready_file: Path | None = None

    def __post_init__(self) -> None:
        _require_address(self.superlink)
        if not self.allowed_digests:
            raise BadSetting(
                "no app bundle is allowed, so the node could do nothing: put a reviewed digest on the list"
            )
        for digest in self.allowed_digests:
            parse_digest(digest)
        for path in (self.root_certificates, self.private_key):
            if not path.is_file():
                raise BadSetting(f"{path}: no such file")
        _require_certificates(self.root_certificates)
        if not 0.01 <= self.poll_seconds <= 60.0:
            raise BadSetting(f"poll_seconds must be between 0.01 and 60, not {self.poll_seconds}")
        if not MIN_HEARTBEAT_SECONDS <= self.heartbeat_seconds <= MAX_HEARTBEAT_SECONDS:
            raise BadSetting(
                f"heartbeat_seconds must be between {MIN_HEARTBEAT_SECONDS:.0f} and {MAX_HEARTBEAT_SECONDS:.0f}, "
                f"not {self.heartbeat_seconds}"
            )


def _require_address(text: str) -> None:
    host, colon, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    named = bool(bare) and "/" not in bare and not any(map(str.isspace, bare)) and (bare != host or ":" not in bare)
    if not (colon and named and port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65_536):
        raise BadSetting(f"superlink must be host:port, like superlink.example.org:9092, not {text!r}")


def _require_certificates(path: Path) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
    except OSError as error:  # ssl.SSLError is one
        reason = getattr(error, "reason", None) or error.strerror
        raise BadSetting(f"{path}: no certificate in PEM can be read there ({reason}); give the authority's") from error


def run(home: Path, settings: NodeSettings) -> None:
    """Serve `home` as a node until SIGINT or SIGTERM; must be called in the main thread. Ends by SystemExit.

    Raises DeploymentError, before anything is started, if the installed Flower is not the release that the pin on
    bundles was checked for. `home` reaches the app as node_config["zhiyin-home"].
    """
    home = home.resolve()
    if '"' in str(home) or "\\" in str(home):
        raise BadSetting(f"{home}: a home must not have a quote or a backslash in its path")
    flower_internals.require_known_flower()
    os.environ.update(SWITCHED_OFF)
    os.environ["FLWR_SUPEREXEC_TASK_POLL_INTERVAL"] = str(settings.poll_seconds)
    flower_internals.switch_telemetry_off()
    with _flower_folder(home) as folder:
        os.environ["FLWR_HOME"] = str(folder)
        _leave_last_session(folder, settings)
        port = settings.port or _free_port()
        with _executor(port, folder, settings) as secret:
            flower_internals.pin_bundles(
                settings.allowed_digests, on_connected=lambda node_id: _note_session(folder, settings, node_id)
            )
            flower_internals.set_pace(poll_seconds=settings.poll_seconds, heartbeat_seconds=settings.heartbeat_seconds)
            flower_internals.run_supernode(_supernode_arguments(home, settings, port, secret))


def _supernode_arguments(home: Path, settings: NodeSettings, port: int, secret_file: Path) -> list[str]:
    return [
        *("--superlink", settings.superlink),
        *("--root-certificates", str(settings.root_certificates)),
        *("--auth-supernode-private-key", str(settings.private_key)),
        *("--node-config", f'{HOME_SETTING}="{home}"'),
        *("--isolation", "process"),
        *("--superexec-auth-secret-file", str(secret_file)),
        *("--host", LOOPBACK),
        *("--port", str(port)),
    ]


@contextlib.contextmanager
def _flower_folder(home: Path) -> Iterator[Path]:
    """Flower's own folder in the home, for this process alone and without unpacked apps.

    Flower takes an unpacked app as it finds it, also half unpacked after a crash, or altered. Each start unpacks anew.
    Raises DeploymentError if another process serves this home: the two would push each other out of the federation.
    """
    folder = home / FLOWER_FOLDER
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DeploymentError(f"{home} is served by another process already; end that one first") from error
        shutil.rmtree(folder / "apps", ignore_errors=True)
        yield folder


def _leave_last_session(folder: Path, settings: NodeSettings) -> None:
    last = folder / SESSION_FILE
    with contextlib.suppress(FileNotFoundError, ValueError):
        flower_internals.leave_last_session(
            superlink=settings.superlink,
            root_certificates=settings.root_certificates,
            private_key=settings.private_key,
            node_id=int(last.read_text(encoding="ascii")),
        )


def _note_session(folder: Path, settings: NodeSettings, node_id: int) -> None:
    gc.enable()
    (folder / SESSION_FILE).write_text(f"{node_id}\n", encoding="ascii")
    if settings.ready_file is not None:
        settings.ready_file.write_text(f"{os.getpid()}\n", encoding="ascii")


@contextlib.contextmanager
def _executor(port: int, folder: Path, settings: NodeSettings) -> Iterator[Path]:
    """Run the task executor beside the node; yields the file with their secret when it can work.

    If the executor ends, so does the node.
    """
    secret_file = folder / "executor.secret"
    secret_file.unlink(missing_ok=True)
    with os.fdopen(os.open(secret_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(os.urandom(32))
    ready, said_by_executor = os.pipe()
    process = subprocess.Popen(
        [
            sys.executable,
            *("-m", "client.supernode", "execute"),
            *("--ready-descriptor", str(said_by_executor)),
            *("--port", str(port)),
            *("--secret-file", str(secret_file)),
            *("--poll-seconds", str(settings.poll_seconds)),
            *("--heartbeat-seconds", str(settings.heartbeat_seconds)),
            *(() if settings.gradients else ("--no-gradients",)),
        ],
        cwd=Path(__file__).resolve().parent.parent,
        stdin=subprocess.DEVNULL,
        pass_fds=(said_by_executor,),
    )
    os.close(said_by_executor)
    stopping = threading.Event()
    flower_internals.before_exit(stopping.set)

    def end_node_with_executor() -> None:
        code = process.wait()
        # A signal to the whole group may end the executor a moment before this process hears of it.
        if not stopping.wait(SIGNAL_GRACE_SECONDS):
            LOG.error("%s", ProcessFailed(f"the node's task executor ended with code {code}, so the node ends too"))
            os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=end_node_with_executor, name="executor-watch", daemon=True).start()
    try:
        # A node that is connected before it can work would let its first messages grow old.
        with os.fdopen(ready, "rb") as line:
            if not line.read(1):
                raise ProcessFailed(f"the node's task executor ended with code {process.wait()} before it could work")
        yield secret_file
    finally:
        stopping.set()
        process.terminate()
        try:
            process.wait(timeout=EXECUTOR_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m client.supernode", description="One node, or its task executor.")
    commands = parser.add_subparsers(dest="command", required=True)
    node = commands.add_parser("node", help="serve a home as a node")
    node.add_argument("--home", type=Path, required=True)
    node.add_argument("--superlink", required=True)
    node.add_argument("--root-certificates", type=Path, required=True)
    node.add_argument("--private-key", type=Path, required=True)
    node.add_argument("--allow", type=parse_digest, action="append", default=[], metavar="DIGEST")
    node.add_argument("--poll-seconds", type=float, default=NodeSettings.poll_seconds)
    node.add_argument("--heartbeat-seconds", type=float, default=NodeSettings.heartbeat_seconds)
    node.add_argument("--port", type=int, default=NodeSettings.port)
    node.add_argument("--no-gradients", action="store_true")
    node.add_argument("--ready-file", type=Path, default=None)
    execute = commands.add_parser("execute", help="the task executor that a node starts for itself")
    execute.add_argument("--port", type=int, required=True)
    execute.add_argument("--ready-descriptor", type=int, required=True)
    execute.add_argument("--secret-file", type=Path, required=True)
    execute.add_argument("--poll-seconds", type=float, required=True)
    execute.add_argument("--heartbeat-seconds", type=float, required=True)
    execute.add_argument("--no-gradients", action="store_true")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the two processes; a refusal to start is one line on stderr and the error's exit code."""
    options = _parser().parse_args(arguments)
    # Either process begins with imports, nothing of which is garbage; looking for some took a sixth of their time.
    gc.disable()
    try:
        if options.command == "execute":
            flower_internals.run_task_executor(
                runtime_api_address=f"{LOOPBACK}:{options.port}",
                secret=options.secret_file.read_bytes(),
                poll_seconds=options.poll_seconds,
                heartbeat_seconds=options.heartbeat_seconds,
                gradients=not options.no_gradients,
                ready_descriptor=options.ready_descriptor,
            )
        else:
            run(
                options.home,
                NodeSettings(
                    superlink=options.superlink,
                    root_certificates=options.root_certificates,
                    private_key=options.private_key,
                    allowed_digests=frozenset(options.allow),
                    poll_seconds=options.poll_seconds,
                    heartbeat_seconds=options.heartbeat_seconds,
                    port=options.port,
                    gradients=not options.no_gradients,
                    ready_file=options.ready_file,
                ),
            )
    except ZhiyinError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from error
    finally:
        gc.enable()


if __name__ == "__main__":
    main()
