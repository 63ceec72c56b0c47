"""A federation for real, on this machine: a SuperLink with TLS, registered nodes with their own keys, and runs.

Its folder holds tls/, link/ (database, secret), operator/ (Flower's settings of the command line), app/ (the unpacked
bundle that runs) and logs/. Everything listens on 127.0.0.1 and ends with the `with` block.
"""

import contextlib
import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from client.bundle import MANIFEST, build_bundle, bundle_digest
from server.superlink import SuperLinkSettings, executor_command, flower_environment, superlink_command
from shared.errors import BadSetting, DeploymentError, ProcessFailed
from shared.node_key import require_node_key
from simulations.deployment.certificates import ServerCertificates, make_server_certificates, write_secret
from simulations.deployment.job import Job, RunValue, run_config_text
from simulations.deployment.processes import (
    LOOPBACK,
    Child,
    Supervisor,
    free_ports,
    require_free_port,
    wait_until,
    wait_until_healthy,
)

CONNECTION = "zhiyin"
START_SECONDS = 180.0
COMMAND_SECONDS = 60.0
REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, kw_only=True)
class Tenant:
    """A partner that takes part: `home` is its folder, with keys/node.key and keys/node.pub in it."""

    name: str
    home: Path


@dataclass(frozen=True, kw_only=True)
class FederationSettings:
    """What a federation is made of.

    folder: for its files, on a local disk. project: the Flower app to run. tenants: who takes part. poll_seconds: how
    often nodes and executors ask for work. heartbeat_seconds: a node that is silent for two of them counts as lost;
    Flower accepts no less than 10. port: of the SuperLink, 0 for any free one. durable: whether the SuperLink keeps its
    registered nodes in a file, which a restart needs; in memory a message takes half the time. gradients: whether nodes
    import torch and Opacus ahead. certificates: of the SuperLink, where they were made before; else it makes its own.
    """

    folder: Path
    project: Path
    tenants: tuple[Tenant, ...]
    poll_seconds: float = 0.5
    heartbeat_seconds: float = 10.0
    port: int = 0
    durable: bool = True
    gradients: bool = True
    certificates: ServerCertificates | None = None

    def __post_init__(self) -> None:
        if len({tenant.name for tenant in self.tenants}) != len(self.tenants):
            raise BadSetting("two tenants of the federation have one name")


class Federation:
    """Start it with `with`, then `run_job`. Nodes and SuperLink can be stopped, killed and started again."""

    def __init__(self, settings: FederationSettings) -> None:
        self.settings = settings
        self.folder = settings.folder.resolve()
        self.app = self.folder / "app"
        self.supervisor = Supervisor(self.folder / "logs")
        self.nodes: dict[str, Child] = {}
        self.link_children: list[Child] = []
        self.digest = ""
        self._tenants = {tenant.name: tenant for tenant in settings.tenants}
        self._stack = contextlib.ExitStack()
        self._num_jobs = 0

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.supervisor)
            self._link = self._prepare()
            self.start_superlink()
            self._register_nodes()
            self.start_nodes()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    @property
    def address(self) -> str:
        """Where the SuperLink listens, host:port."""
        return f"{LOOPBACK}:{self._link.port}"

    @property
    def superlink(self) -> Child:
        return self.link_children[0]

    @property
    def authority(self) -> Path:
        """The certificate that nodes and operators check the SuperLink's against, PEM."""
        return self._link.authority

    def run_job(self, run_config: Mapping[str, RunValue], *, timeout_seconds: float) -> str:
        """Run the project's app to its end and return its log; raises ProcessFailed unless it completed."""
        end = self.start_job(run_config).wait(timeout_seconds=timeout_seconds)
        if not end.completed:
            raise ProcessFailed(f"run {end.run_id} ended as {end.status}; the end of its log:\n{end.log[-4000:]}")
        return end.log

    def start_job(self, run_config: Mapping[str, RunValue], *, project: Path | None = None) -> Job:
        """Start the project's app (or another) with values for the keys that its pyproject.toml declares."""
        self._num_jobs += 1
        command = ["flwr", "run", str(project or self.app), CONNECTION, "--stream"]
        if run_config:
            command += ["--run-config", run_config_text(run_config)]
        child = self.supervisor.start(
            f"job-{self._num_jobs}",
            (command),
            environment=self.environment(self.folder / "operator"),
            working_folder=self.folder,
        )
        return Job(child=child, supervisor=self.supervisor, status_of=self.run_status)

    def run_status(self, run_id: int) -> str:
        """Return what the SuperLink says of a run: "pending", "running", "finished:completed", "finished:failed"…"""
        listing = json.loads(self._flwr("list", CONNECTION, "--run-id", str(run_id), "--format", "json"))
        return str(listing["runs"][0]["status"])

    def start_superlink(self) -> None:
        """Start the SuperLink and the executor of ServerApps, and wait until it answers."""
        require_free_port(self._link.port, purpose="the SuperLink")
        environment = self.environment(self.folder / "link" / "flower")
        link = self.folder / "link"
        self.link_children = [
            self.supervisor.start(
                "superlink", superlink_command(self._link), environment=environment, working_folder=link
            )
        ]
        url = f"https://{self.address}/health"
        wait_until_healthy(self.superlink, url, authority=self.authority, timeout_seconds=START_SECONDS)
        self.link_children.append(
            self.supervisor.start(
                "superlink-executor",
                executor_command(self._link),
                environment=environment,
                working_folder=link,
            )
        )

    def stop_superlink(self) -> None:
        """End the SuperLink, its executor and the ServerApps of both."""
        for child in self.link_children:
            self.supervisor.stop(child)
        self.link_children = []

    def kill_superlink(self) -> None:
        """SIGKILL to the SuperLink, its executor and the ServerApps of both, as a loss of power would look."""
        for child in self.link_children:
            self.supervisor.kill_group(child)
        self.stop_superlink()

    def start_nodes(self, names: Iterable[str] | None = None) -> None:
        """Start the named nodes, all unless given, side by side, and wait until the SuperLink accepted them."""
        tenants = [self._tenants[name] for name in (self._tenants if names is None else names)]
        for tenant in tenants:
            self.nodes[tenant.name] = self._launch_node(tenant)
        for tenant in tenants:
            self._await_node(tenant, self.nodes[tenant.name])

    def start_node(self, tenant: Tenant) -> Child:
        """Start one node, whether or not it is of this federation; raises ProcessFailed if it is turned away."""
        child = self._launch_node(tenant)
        self._await_node(tenant, child)
        return child

    def stop_node(self, name: str) -> None:
        """End a node and what it runs."""
        self.supervisor.stop(self.nodes.pop(name))

    def kill_node(self, name: str) -> None:
        """SIGKILL to a node and the messages it works on."""
        self.supervisor.kill_group(self.nodes[name])
        self.stop_node(name)

    def environment(self, flower_home: Path) -> dict[str, str]:
        """Return the environment for one of Flower's commands with its own folder."""
        return flower_environment(flower_home, start_poll_seconds=self.settings.poll_seconds, inherited=_environment())

    def register(self, public_key: Path, *, name: str) -> int:
        """Let the SuperLink accept the node with this key; returns the number that it goes by from then on.

        Raises BadSetting for a file with anything but one key in its one form, as `zhiyin client init` writes it.
        """
        require_node_key(public_key.read_text(encoding="ascii", errors="replace").removesuffix("\n"))
        said = self._flwr("supernode", "register", str(public_key), CONNECTION, "--name", name, "--format", "json")
        return int(json.loads(said)["node-id"])

    def unregister(self, node_id: int) -> None:
        """Let the SuperLink turn the node with this number away."""
        self._flwr("supernode", "unregister", str(node_id), CONNECTION)

    def _prepare(self) -> SuperLinkSettings:
        for name in ("link/flower", "operator"):
            (self.folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        certificates = self.settings.certificates or make_server_certificates(
            self.folder / "tls", now=datetime.now(UTC)
        )
        write_secret(self.folder / "link" / "executor.secret", os.urandom(32))
        self._stage_app()
        port = self.settings.port or free_ports(1)[0]
        connection = [
            f'[superlink]\ndefault = "{CONNECTION}"\n\n[superlink.{CONNECTION}]',
            f'address = "{LOOPBACK}:{port}"',
            f"root-certificates = {json.dumps(str(certificates.authority))}",
        ]
        (self.folder / "operator" / "config.toml").write_text("\n".join(connection) + "\n", encoding="utf-8")
        return SuperLinkSettings(
            port=port,
            authority=certificates.authority,
            certificate=certificates.certificate,
            private_key=certificates.private_key,
            database=self.folder / "link" / "state.db" if self.settings.durable else None,
            executor_secret=self.folder / "link" / "executor.secret",
        )

    def _stage_app(self) -> None:
        """Unpack the project's bundle once, and run that: an edit of the project meanwhile cannot split the parties."""
        bundle = build_bundle(self.settings.project)
        self.digest = bundle_digest(bundle)
        with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
            archive.extractall(self.app, [name for name in archive.namelist() if name != MANIFEST])
        if bundle_digest(self.app) != self.digest:
            raise DeploymentError(f"the bundle of {self.settings.project} does not come out the same twice")

    def _register_nodes(self) -> None:
        def register(tenant: Tenant) -> None:
            self.register(tenant.home / "keys" / "node.pub", name=tenant.name)

        with ThreadPoolExecutor(max_workers=2) as pool:
            list(pool.map(register, self.settings.tenants))

    def _await_node(self, tenant: Tenant, child: Child) -> None:
        ready = self._ready_file(tenant.name)
        wait_until(child, ready.exists, what="connect to the SuperLink", timeout_seconds=START_SECONDS)

    def _launch_node(self, tenant: Tenant) -> Child:
        self._ready_file(tenant.name).unlink(missing_ok=True)
        command = [
            *(sys.executable, "-m", "client.supernode", "node"),
            *("--home", str(tenant.home)),
            *("--superlink", self.address),
            *("--root-certificates", str(self.authority)),
            *("--private-key", str(tenant.home / "keys" / "node.key")),
            *("--allow", self.digest),
            *("--poll-seconds", str(self.settings.poll_seconds)),
            *("--heartbeat-seconds", str(self.settings.heartbeat_seconds)),
            *("--ready-file", str(self._ready_file(tenant.name))),
            *(() if self.settings.gradients else ("--no-gradients",)),
        ]
        return self.supervisor.start(
            f"node-{tenant.name}",
            command,
            environment=self.environment(tenant.home / "flower"),
            working_folder=REPOSITORY,
        )

    def _ready_file(self, name: str) -> Path:
        return self.folder / "logs" / f"node-{name}.ready"

    def _flwr(self, *arguments: str) -> str:
        """Run one of Flower's commands and return what it printed; raises ProcessFailed with its complaint."""
        try:
            done: subprocess.CompletedProcess[str] = subprocess.run(
                ["flwr", *arguments],
                env=self.environment(self.folder / "operator"),
                cwd=self.folder,
                capture_output=True,
                text=True,
                timeout=COMMAND_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ProcessFailed(f"flwr {arguments[0]} gave no answer in {COMMAND_SECONDS:.0f} s") from error
        if done.returncode != 0:
            raise ProcessFailed(f"flwr {arguments[0]} failed with code {done.returncode}: {done.stderr or done.stdout}")
        return done.stdout


def _environment() -> dict[str, str]:
    """Ours, with Flower's commands taken from beside this interpreter, be its environment activated or not."""
    search = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return dict(os.environ) | {"PATH": search, "PYTHONUNBUFFERED": "1"}
