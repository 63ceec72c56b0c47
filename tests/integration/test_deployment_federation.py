"""A federation of real processes: TLS, registered nodes, pinned bundles, and what a hostile server can do to it."""

import json
import re
import shutil
import socket
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from client.vault import Vault
from server.superlink import PRIVATE_ROUTES, PUBLIC_ROUTES, flower_environment
from shared.errors import ProcessFailed
from simulations.deployment.certificates import make_server_certificates
from simulations.deployment.control import Control
from simulations.deployment.federation import CONNECTION, Federation, FederationSettings, Tenant
from simulations.deployment.job import Job
from simulations.deployment.processes import Child, group_members
from tests.integration.deployment_apps import hostile_client, write_app

JOB_SECONDS = 120.0


def make_tenant(folder: Path) -> Tenant:
    folder.mkdir()
    Vault.create(folder / "keys")
    return Tenant(name=folder.name, home=folder)


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    folder = tmp_path_factory.mktemp("federation")
    settings = FederationSettings(
        folder=folder / "deployed",
        project=write_app(folder / "good-app", name="good-app"),
        tenants=(make_tenant(folder / "north"), make_tenant(folder / "south")),
        durable=False,
        gradients=False,
    )
    with Federation(settings) as running:
        groups = [child.pid for child in [*running.link_children, *running.nodes.values()]]
        yield running
    assert [pid for group in groups for pid in group_members(group)] == []


def rounds(report: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in report.read_text().splitlines()]


def test_a_run_that_fails_is_known_to_have_failed_though_the_command_line_ends_well(
    federation: Federation, tmp_path: Path
) -> None:
    settings = f'report="{tmp_path / "report"}" rounds=1 fail=true'
    said = subprocess.run(
        ["flwr", "run", str(federation.settings.project), CONNECTION, "--stream", "--run-config", settings],
        env=federation.environment(federation.folder / "operator"),
        cwd=federation.folder,
        capture_output=True,
        text=True,
        timeout=JOB_SECONDS,
        check=True,
    ).stdout

    run = re.search(r"Successfully started run (\d+)", said)
    assert run
    assert "this run was asked to fail" in said
    end = Job(int(run[1]), federation.control).wait(timeout_seconds=JOB_SECONDS)
    assert end.status == "finished:failed"
    assert not end.completed
    assert "this run was asked to fail" in end.log


def test_a_hostile_bundle_is_refused_before_it_is_unpacked_and_the_node_goes_on(
    federation: Federation, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    markers = tmp_path / "markers"
    markers.mkdir()
    hostile = write_app(tmp_path / "hostile-app", name="hostile-app", client=hostile_client(markers))
    stock = start_stock_node(federation, tmp_path / "stock")

    job = federation.start_job({"report": str(tmp_path / "report"), "rounds": 1, "nodes": 3}, project=hostile)
    assert job.wait(timeout_seconds=JOB_SECONDS).completed
    federation.supervisor.stop(stock)

    # The negative control: without the pin the same bundle in the same run was unpacked and did its harm.
    assert [marker.name for marker in markers.iterdir()] == ["stock"]
    assert any("hostile-app" in path.name for path in (tmp_path / "stock" / "flower" / "apps").iterdir())
    refusals = [answer for answer in rounds(tmp_path / "report")[0]["answers"] if "error" in answer]
    assert len(refusals) == 2
    assert all(answer["error"] == 7 and "not on this node's allow-list" in answer["reason"] for answer in refusals)
    for tenant in federation.settings.tenants:
        assert not any("hostile" in str(path) for path in tenant.home.rglob("*"))
        assert "BundleRefused" in federation.nodes[tenant.name].log_text()

    federation.run_job({"report": str(tmp_path / "again"), "rounds": 2}, timeout_seconds=JOB_SECONDS)
    every_node_answered_with_the_bundles_code_from_its_own_home(federation, rounds(tmp_path / "again"))


def every_node_answered_with_the_bundles_code_from_its_own_home(
    federation: Federation, report: list[dict[str, Any]]
) -> None:
    answers = [answer for each in report for answer in each["answers"]]
    homes = {tenant.name: str(tenant.home) for tenant in federation.settings.tenants}
    assert sorted(answer["home"] for answer in answers) == sorted([*homes.values()] * 2)
    assert len({answer["pid"] for answer in answers}) == len(answers), "a message has a process of its own"
    assert all(answer["imported-by"] != answer["pid"] for answer in report[-1]["answers"]), "imported once"
    for answer in answers:
        assert answer["flower-home"] == f"{answer['home']}/flower"
        assert answer["file"].startswith(f"{answer['home']}/flower/apps/zhiyin-tests.good-app."), "not our working tree"
        assert answer["telemetry"] == "0"


def start_stock_node(federation: Federation, home: Path) -> Child:
    """Flower's own node, with a registered key and no pin."""
    make_tenant(home)
    federation.control.register(home / "keys" / "node.pub", name=home.name)
    command = [
        *("flower-supernode", "--superlink", federation.address, "--root-certificates", str(federation.authority)),
        *("--auth-supernode-private-key", str(home / "keys" / "node.key"), "--node-config", f'zhiyin-home="{home}"'),
        *("--host", "127.0.0.1", "--port", str(unused_port())),
    ]
    environment = federation.environment(home / "flower")
    return federation.supervisor.start("node-stock", command, environment=environment, working_folder=home)


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_stolen_node_key_is_turned_away_once_it_is_unregistered_and_the_new_one_serves(
    federation: Federation, tmp_path: Path
) -> None:
    """Procedure (f) of docs/operating.md."""
    west = make_tenant(tmp_path / "west")
    thief = Tenant(name="west-thief", home=tmp_path / "west-thief")
    old = federation.control.register(west.home / "keys" / "node.pub", name="west")
    shutil.copytree(west.home, thief.home)
    federation.control.unregister(old)
    with pytest.raises(ProcessFailed, match="node-west-thief ended with code"):
        federation.start_node(thief)
    stolen = Vault.open(west.home / "keys").node_public
    renewed = Vault.open(west.home / "keys").replace_node_key()
    assert renewed.node_public != stolen
    # A key that was never registered is turned away as well.
    with pytest.raises(ProcessFailed, match="node-west ended with code"):
        federation.start_node(west)

    assert federation.control.register(west.home / "keys" / "node.pub", name="west") != old
    # Started means that the SuperLink took it in and hands it messages.
    federation.supervisor.stop(federation.start_node(west))


def test_a_question_that_the_superlink_refuses_or_never_gets_is_told(federation: Federation) -> None:
    key = federation.settings.tenants[0].home / "keys" / "node.pub"
    with pytest.raises(ProcessFailed, match=r"refused register-node with code 4.*already"):
        federation.control.register(key, name="once more")
    with pytest.raises(ProcessFailed, match="refused list-runs with code 404"):
        federation.control.status(1)
    nobody = Control(f"127.0.0.1:{unused_port()}", federation.authority)
    with pytest.raises(ProcessFailed, match="gave no answer to list-runs"):
        nobody.status(1)


def test_a_home_is_served_by_one_process_at_a_time(federation: Federation) -> None:
    with pytest.raises(ProcessFailed, match=r"(?s)DeploymentError: .*north is served by another process already"):
        federation.start_node(federation.settings.tenants[0])


def test_a_server_with_another_authoritys_certificate_is_not_trusted(federation: Federation, tmp_path: Path) -> None:
    other = make_server_certificates(tmp_path / "tls", now=datetime.now(UTC))

    with urllib.request.urlopen(
        f"https://{federation.address}/health", context=ssl.create_default_context(cafile=str(federation.authority))
    ) as answer:
        assert answer.status == 200
    with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
        urllib.request.urlopen(
            f"https://{federation.address}/health", context=ssl.create_default_context(cafile=str(other.authority))
        )


def test_nobody_takes_a_runs_place_or_a_nodes_message_without_the_executors_secret(federation: Federation) -> None:
    addresses = [f"https://{federation.address}"]
    addresses += [f"http://{host}:{port}" for host, port in listeners(list(federation.nodes.values()))]
    assert len(addresses) == 3
    context = ssl.create_default_context(cafile=str(federation.authority))

    for address in addresses:
        request = urllib.request.Request(
            f"{address}/v1/runtime/acquire-task", data=b"", headers={"Content-Type": "application/protobuf"}
        )
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, context=context if address.startswith("https") else None)
        refused.value.close()
        assert refused.value.code == 401


def test_every_route_of_the_superlink_is_known_as_public_or_private(federation: Federation) -> None:
    with urllib.request.urlopen(
        f"https://{federation.address}/openapi.json",
        context=ssl.create_default_context(cafile=str(federation.authority)),
    ) as answer:
        routes = set(json.load(answer)["paths"])

    public = {route for route in routes if route.startswith(PUBLIC_ROUTES)}
    private = {route for route in routes if route.startswith(PRIVATE_ROUTES)}
    assert public | private == routes
    assert public
    assert not public & private
    assert {"/v1/control/start-run", "/v1/runtime/acquire-task"} <= private


def test_everything_listens_on_loopback_alone(federation: Federation) -> None:
    found = listeners([*federation.link_children, *federation.nodes.values()])

    assert len(found) == 3, "the SuperLink and two nodes"
    assert {host for host, _ in found} == {"127.0.0.1"}


def listeners(children: list[Child]) -> list[tuple[str, int]]:
    """Addresses on which the children, and all that they started, accept connections."""
    owned = {inode for child in children for pid in group_members(child.pid) for inode in open_sockets(pid)}
    return [(host, port) for host, port, inode in listening_sockets() if inode in owned]


def open_sockets(pid: int) -> set[str]:
    links = [path.readlink().name for path in Path(f"/proc/{pid}/fd").iterdir() if path.is_symlink()]
    return {link.removeprefix("socket:[").removesuffix("]") for link in links if link.startswith("socket:[")}


def listening_sockets() -> Iterator[tuple[str, int, str]]:
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            fields = line.split()
            host, _, port = fields[1].partition(":")
            if fields[3] == "0A":
                address = bytes.fromhex(host)
                yield socket.inet_ntoa(address[::-1]) if len(address) == 4 else host, int(port, 16), fields[9]


def test_a_command_of_flowers_runs_in_its_own_folder_and_reports_nothing() -> None:
    environment = flower_environment(
        Path("/somewhere"), start_poll_seconds=0.5, inherited={"NO_PROXY": "inside.example"}
    )

    assert environment == {
        "FLWR_HOME": "/somewhere",
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.5",
        "NO_PROXY": "127.0.0.1,inside.example,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }
