"""The one place that touches what Flower does not publish. It knows one release of Flower and refuses every other.

Three things have no public switch:

- the node runs any code that the SuperLink sends: here, only bundles on an allow-list (`pin_bundles`);
- the node asks for messages every 3 seconds and sends a heartbeat every 30 (`set_pace`);
- the node starts a Python process for every message, 2 to 5 seconds of imports each: here one process imports the
  libraries, and the pinned bundle, once and forks for every message (`run_task_executor`). A message still has a
  process of its own.

Whoever raises the pinned release must read the files in KNOWN_SOURCES again, then update the digests.
"""

import atexit
import contextlib
import gc
import hashlib
import importlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from logging import ERROR
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any, cast

from client.warm_bundle import WarmBundle, forget_our_modules
from shared.errors import BundleRefused, DeploymentError

KNOWN_VERSION = "1.41.0"
KNOWN_SOURCES = {
    "supercore/corestate/in_memory_corestate.py": "2c0455bd2fd8b5dd23daeb6a36617873ddda30faa29194bf0dfb82e7fa921f10",
    "supercore/exit/exit_handler.py": "a13675bf2473258601192f9d9ed3480c44e5e57a41512f2050e81de0c1d51ab0",
    "supercore/heartbeat.py": "5eee250956e13a9b3de9c69b92cef7a0d0c907e20312acd930a4fafc0817c47f",
    "supercore/inflatable/inflatable_utils.py": "077b26d921aa86389f0a9e16bab761bd10525ec66d6f175b56fdf4bac7872d40",
    "supercore/superexec/plugin/base_exec_plugin.py": (
        "08ee26c9a9addcac0c0c4ae54094b59ba92e8a2c8b4648e739792e8780390114"
    ),
    "supercore/superexec/run_superexec.py": "6b4855d76940ae0f257555b6e0e9894cc46b1ee9d5675092b0e16a5053e4b2fa",
    "supernode/cli/flower_supernode.py": "e637b07a731536a63cb3d4e7d9293fef613c425b65363c4c64840aad263de1d9",
    "supernode/fleet_http_connection.py": "8b90826f407ab5d30564379fd1d475f66565b87547ff612eb5672277e92a33c8",
    "supernode/runtime/run_clientapp.py": "fa6612aaeda9cd398de69199b0cf264a38f72c1b9cfdc53644c8d6dab0b70eb6",
    "supernode/start_client_internal.py": "d6342f743fdf768f63305b88414ae2654e9a21bda153739da19c608e8d375067",
}

# A digest and a path, and less than a pipe holds: written at once and read at once.
_LONGEST_WORD = 8_192
PRELOADED = (
    "numpy",
    "scipy.special",
    "safetensors.numpy",
    "cryptography.hazmat.primitives.ciphers.aead",
    "cryptography.hazmat.primitives.asymmetric.ed25519",
    "flwr.clientapp",
    "flwr.supernode.runtime.run_clientapp",
)
# Only for recipes with gradients; torch takes the last one in by itself at its first optimiser, for two seconds.
PRELOADED_FOR_GRADIENTS = ("torch", "opacus", "torch._dynamo")
ORPHAN_CHECK_SECONDS = 0.5
# Answers worked on at once. The ledger and the store take one after the other anyway, and a server that sends many
# messages could otherwise have as many copies of the histories in memory.
MAX_ANSWERS_AT_ONCE = 1


def require_known_flower() -> None:
    """Raise DeploymentError unless the installed Flower is, byte for byte, the release this file was written for."""
    import flwr

    mend = f"install flwr=={KNOWN_VERSION}"
    if flwr.__version__ != KNOWN_VERSION:
        raise DeploymentError(
            f"flwr {flwr.__version__} is installed, but the pin on app bundles is checked for {KNOWN_VERSION} only, "
            f"so the node does not start: {mend}"
        )
    root = Path(flwr.__file__).parent
    for name, known in KNOWN_SOURCES.items():
        path = root / name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != known:
            raise DeploymentError(
                f"{path} is not the file that the pin on bundles was checked for, so the node does not start: {mend}"
            )


def switch_telemetry_off() -> None:
    """Keep this process from reporting its use: the environment is read once, when Flower is imported."""
    _module("flwr.supercore.telemetry").FLWR_TELEMETRY_ENABLED = "0"


def leave_last_session(*, superlink: str, root_certificates: Path, private_key: Path, node_id: int) -> None:
    """Tell the SuperLink that the session which a crash of this node left behind is over.

    Without that it refuses the node until two heartbeats have passed, and a round waits as long for an answer that
    cannot come. The node's own key signs it. Whatever goes wrong is no reason not to start: the SuperLink may have
    forgotten the session by itself.
    """
    import httpx
    from cryptography.hazmat.primitives.serialization import load_ssh_private_key

    key = load_ssh_private_key(private_key.read_bytes(), None)
    authentication = _module("flwr.supernode.node_auth_http_interceptor")
    versions = _module("flwr.supercore.interceptors.http.runtime_version")
    interceptors = [
        versions.RuntimeVersionHttpInterceptor(component_name="SuperNode"),
        authentication.NodeAuthHttpInterceptor(key, key.public_key()),
    ]
    messages = _module("flwr.proto.fleet_pb2")
    client = _module("flwr.supernode.fleet_http_client").FleetHttpClient
    with (
        contextlib.suppress(httpx.HTTPError, RuntimeError),
        client.from_server_address(superlink, False, str(root_certificates), interceptors) as connection,
    ):
        connection.DeactivateNode(messages.DeactivateNodeRequest(node_id=node_id))


def pin_bundles(allowed_digests: frozenset[str], *, on_connected: Callable[[int], None]) -> None:
    """Let this process's SuperNode accept bundles on the list only; call before `run_supernode`.

    Another bundle is refused before it is opened: the SuperLink gets an error for the message (code 7, "invalid FAB"),
    the log says why, and the node goes on. `on_connected` is called once, with the node's id, when the node starts to
    ask for messages.
    """
    require_known_flower()
    internal = _module("flwr.supernode.start_client_internal")
    pull = internal._pull_and_store_message
    connected = False

    def pull_pinned_only(**arguments: Any) -> int | None:
        nonlocal connected
        if not connected:
            connected = True
            on_connected(int(arguments["state"].get_node_id()))
        messages: list[Any] = []
        runs: dict[int, Any] = {}

        def receive() -> Any:
            received = arguments["receive"]()
            if received is not None:
                messages.append(received[0])
            return received

        def get_run(run_id: int) -> Any:
            return runs.setdefault(run_id, arguments["get_run"](run_id))

        def get_fab(fab_hash: str, run_id: int) -> Any:
            fab = arguments["get_fab"](fab_hash, run_id)
            require_allowed(fab, runs[run_id], allowed_digests)
            return fab

        try:
            return cast("int | None", pull(**{**arguments, "receive": receive, "get_run": get_run, "get_fab": get_fab}))
        except BundleRefused as refusal:
            return _answer_refusal(refusal, messages[0], arguments)

    internal._pull_and_store_message = pull_pinned_only


def require_allowed(fab: Any, run: Any, allowed_digests: frozenset[str]) -> None:
    """Raise BundleRefused unless the bundle's own bytes are on the list and the run says the same about them.

    The digest is recomputed: what the SuperLink claims is not used. Name and version of the run build the path that
    the app is loaded from, so they must be those inside the (now trusted) bundle, not ones that lead elsewhere.
    """
    digest = hashlib.sha256(fab.content).hexdigest()
    if digest not in allowed_digests:
        raise BundleRefused(f"app bundle {digest} of run {run.run_id} is not on this node's allow-list")
    if fab.hash_str != digest or run.fab_hash != digest:
        raise BundleRefused(f"run {run.run_id} names another bundle than {digest}, which was delivered for it")
    config = _module("flwr.common.config")
    if (run.fab_id, run.fab_version) != config.get_metadata_from_config(config.get_fab_config(fab.content)):
        raise BundleRefused(f"run {run.run_id} names another app or version than its bundle {digest}")


def set_pace(*, poll_seconds: float, heartbeat_seconds: float) -> None:
    """Set how often this process's SuperNode asks for messages and replies, and how often it shows that it lives.

    The SuperLink calls a node lost after two heartbeats without one; it accepts 10 seconds to 30 minutes.
    """

    def sleep(seconds: float) -> None:
        time.sleep(min(seconds, poll_seconds))

    _module("flwr.supernode.start_client_internal").time = SimpleNamespace(sleep=sleep)
    for name in ("supercore.heartbeat", "supernode.fleet_http_connection", "supercore.corestate.in_memory_corestate"):
        _module(f"flwr.{name}").HEARTBEAT_DEFAULT_INTERVAL = heartbeat_seconds
    _shorten_object_waits(poll_seconds)


def before_exit(callback: Callable[[], None]) -> None:
    """Have `callback` called as soon as this process's SuperNode begins to shut down, before it waits for anything."""
    _module("flwr.supercore.exit").add_exit_handler(callback, run_before_force_exit=True)


def run_supernode(arguments: Sequence[str]) -> None:
    """Run Flower's `flower-supernode` in this process, in its main thread. Ends by SystemExit."""
    from flwr.supernode.cli.flower_supernode import flower_supernode

    sys.argv = ["flower-supernode", *arguments]
    flower_supernode()


def run_task_executor(
    *,
    runtime_api_address: str,
    secret: bytes,
    poll_seconds: float,
    heartbeat_seconds: float,
    gradients: bool,
    ready_descriptor: int,
) -> None:
    """Fork a process for every message that the SuperNode at `runtime_api_address` has; ends with its parent.

    Must be the only thread of its process. A byte goes to `ready_descriptor` when the libraries are there. `secret`
    proves to the SuperNode that this is its executor, and not another program that asks for the messages.
    """
    require_known_flower()
    from flwr.supercore.utils import disable_process_dumping

    _end_with_parent()
    disable_process_dumping(strict=False)  # a core file, or a debugger, would show learners' histories
    for name in PRELOADED + (PRELOADED_FOR_GRADIENTS if gradients else ()):
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            continue  # a device has no torch
    # What was imported is here to stay, so nothing looks through it again; a fork that did would copy it.
    gc.freeze()
    gc.enable()
    with os.fdopen(ready_descriptor, "wb") as ready:
        ready.write(b"1")
    _module("flwr.supercore.heartbeat").HEARTBEAT_DEFAULT_INTERVAL = heartbeat_seconds
    _shorten_object_waits(poll_seconds)
    superexec = _module("flwr.supercore.superexec.run_superexec")
    superexec.get_executor = lambda *_, **__: ForkingExecutor()
    superexec.run_superexec(
        runtime_api_address=runtime_api_address, insecure=True, superexec_auth_secret=secret, parent_pid=None
    )


class ForkingExecutor:
    """Flower's Executor protocol: starts ClientApps, and nothing else, in forks of this process.

    At most MAX_ANSWERS_AT_ONCE forks live at a time. Further messages wait at the SuperNode, which hands out the oldest
    first; one whose sender has stopped waiting is answered all the same, and charged. An answer that never ends keeps
    the node from all others until the node is restarted.
    """

    def __init__(self) -> None:
        # Of each fork, the end of a pipe that says which bundle it unpacked where.
        self._running: dict[int, int] = {}
        self._bundle = WarmBundle()
        # A fork that ended is kept by the kernel until `reconcile` has seen it, so its number is nobody else's.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)

    def get_eligible_capacity(self, supported_task_types: set[Any], **_: Any) -> tuple[set[Any], set[str]]:
        from flwr.supercore.constant import TaskType

        self.reconcile()
        if len(self._running) >= MAX_ANSWERS_AT_ONCE:
            return set(), set()
        # Flower would also start agents, models and connectors, whose code is not the pinned one.
        return supported_task_types & {TaskType.CLIENT_APP}, set()

    def wait_for_capacity(self, *_: Any, **__: Any) -> None:
        return

    def launch(self, spec: Any) -> Any:
        from flwr.supercore.constant import TaskType
        from flwr.supercore.superexec.executor import LaunchResult

        if spec.task_type is not TaskType.CLIENT_APP:
            return LaunchResult.failed(f"this node runs ClientApps only, not {spec.task_type}")
        if len(self._running) >= MAX_ANSWERS_AT_ONCE:
            return LaunchResult.capacity_rejected(f"this node works on {MAX_ANSWERS_AT_ONCE} message at a time")
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        said_by_child, say = os.pipe()
        child = os.fork()
        if child == 0:
            _run_clientapp_and_exit(spec, parent, self._bundle, say)
        os.close(say)
        self._running[child] = said_by_child
        return LaunchResult.accepted()

    def reconcile(self) -> None:
        for child, said in list(self._running.items()):
            ended, status = os.waitpid(child, os.WNOHANG)
            if not ended:
                continue
            del self._running[child]
            # What is there, without waiting for its end: a process that the fork left behind would hold that open.
            os.set_blocking(said, False)
            with os.fdopen(said, "rb", buffering=0) as pipe:
                digest, _, folder = (pipe.read(_LONGEST_WORD) or b"").decode().partition(" ")
            if status == 0 and digest and not self._bundle.digest:
                self._bundle.warm(digest, Path(folder))

    def close(self) -> None:
        return


def _shorten_object_waits(seconds: float) -> None:
    """A message is shown before its arrays have arrived; Flower then waits a second, then two, then four, up to ten."""
    defaults = _module("flwr.supercore.inflatable.inflatable_utils").pull_objects.__kwdefaults__
    defaults["initial_backoff"] = defaults["backoff_cap"] = seconds


def _module(name: str) -> Any:
    """A module of Flower's, to be changed: what it does not export is not in its type."""
    return importlib.import_module(name)


def _answer_refusal(refusal: BundleRefused, message: Any, arguments: dict[str, Any]) -> int:
    from flwr.app import Error, Message
    from flwr.common.constant import ErrorCode
    from flwr.supercore import log

    log(ERROR, "BundleRefused: %s", refusal)
    reply = Message(Error(ErrorCode.INVALID_FAB, str(refusal)), reply_to=message)
    _module("flwr.supernode.start_client_internal")._insert_message(
        reply, arguments["state"], arguments["object_store"]
    )
    return int(message.metadata.run_id)


def _run_clientapp_and_exit(spec: Any, parent: int, bundle: WarmBundle, say: int) -> None:
    """The life of a fork. Leaves by os._exit: the connection and the exit handlers it inherited are its parent's."""
    code = 1
    try:
        from flwr.supercore.exit import exit_handler

        for number in (signal.SIGCHLD, signal.SIGALRM, signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
            signal.signal(number, signal.default_int_handler if number is signal.SIGINT else signal.SIG_DFL)
        exit_handler.registered_exit_handlers.clear()
        forget_our_modules()
        sys.dont_write_bytecode = False  # the bundle is compiled for the first message, not for each
        sys.argv = ["flwr-clientapp"]
        run_clientapp = _module("flwr.supernode.runtime.run_clientapp")
        install = run_clientapp.install_from_fab

        def install_unless_imported(content: bytes, **options: Any) -> None:
            if not bundle.take(content):
                os.write(say, f"{hashlib.sha256(content).hexdigest()} {install(content, **options)}".encode())

        run_clientapp.install_from_fab = install_unless_imported
        run_clientapp.run_clientapp(
            runtime_api_address=spec.runtime_api_address,
            token=spec.token,
            insecure=spec.insecure,
            certificates=None,
            parent_pid=parent,
            runtime_dependency_install=False,
        )
    except SystemExit as exit_request:
        code = exit_request.code if isinstance(exit_request.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _end_with_parent() -> None:
    """Exit soon after the parent died, however it died. A timer and no thread, because this process forks."""
    parent = os.getppid()

    def check(number: int, frame: FrameType | None) -> None:
        if os.getppid() != parent:
            os._exit(0)

    # An interpreter that ends gives up its handlers first; the timer would then kill it in the middle of its leave.
    atexit.register(signal.setitimer, signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, check)
    signal.setitimer(signal.ITIMER_REAL, ORPHAN_CHECK_SECONDS, ORPHAN_CHECK_SECONDS)
