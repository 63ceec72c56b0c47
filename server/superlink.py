"""How Flower's SuperLink is started here, and which of its routes the world may see.

One port serves three interfaces:

- /v1/fleet    for the nodes: every request is signed with a registered key;
- /v1/control  for the operator: starts and stops runs, registers nodes. The open-source build asks for NO login;
- /v1/runtime  for the ServerApp and the process that starts it.

Whoever reaches /v1/control runs code of their choice on every node that does not pin its bundles. So the SuperLink
binds to loopback, and a reverse proxy, the only one that partners reach, passes PUBLIC_ROUTES and answers 404 to all
else. With nginx, TLS ended and begun again by the proxy:

    location /v1/fleet/ { proxy_pass https://127.0.0.1:8000; client_max_body_size 16m; }
    location /          { return 404; }

The ServerApp is started by a separate process (isolation "process"), because only so does the SuperLink ask it for a
secret: with isolation "subprocess" anybody who reaches /v1/runtime/acquire-task can take a run's place.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from shared.errors import BadSetting

LOOPBACK = "127.0.0.1"
PUBLIC_ROUTES = ("/v1/fleet/",)
PRIVATE_ROUTES = ("/v1/control/", "/v1/runtime/", "/health", "/docs", "/openapi.json")
SWITCHED_OFF = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
}


@dataclass(frozen=True, kw_only=True)
class SuperLinkSettings:
    """Where the SuperLink listens and what it keeps.

    authority, certificate, private_key: PEM files. database: SQLite file with nodes and runs, so that nodes stay
    registered over a restart (runs that were under way are lost all the same); None for memory.
    executor_secret: file of random bytes that only the operator can read.
    start_poll_seconds: how often the executor asks for a run to start.
    """

    port: int
    authority: Path
    certificate: Path
    private_key: Path
    database: Path | None
    executor_secret: Path
    host: str = LOOPBACK
    start_poll_seconds: float = 0.2

    def __post_init__(self) -> None:
        if not 1 <= self.port <= 65535:
            raise BadSetting(f"port must be between 1 and 65535, not {self.port}")
        for path in (self.authority, self.certificate, self.private_key, self.executor_secret):
            if not path.is_file():
                raise BadSetting(f"{path}: no such file")
        if self.executor_secret.stat().st_mode & 0o077:
            raise BadSetting(f"{self.executor_secret}: others may read it; mend with: chmod 600 {self.executor_secret}")


def superlink_command(settings: SuperLinkSettings) -> list[str]:
    """Return the command of the SuperLink: TLS, registered nodes only, nothing installed at run time."""
    return [
        "flower-superlink",
        *("--host", settings.host),
        *("--port", str(settings.port)),
        *("--ssl-ca-certfile", str(settings.authority)),
        *("--ssl-certfile", str(settings.certificate)),
        *("--ssl-keyfile", str(settings.private_key)),
        *(() if settings.database is None else ("--database", str(settings.database))),
        *("--superexec-auth-secret-file", str(settings.executor_secret)),
        *("--isolation", "process"),
        "--enable-supernode-auth",
        "--disable-runtime-dependency-installation",
    ]


def executor_command(settings: SuperLinkSettings) -> list[str]:
    """Return the command of the process that starts ServerApps; it runs on the SuperLink's machine, beside it."""
    return [
        "flower-superexec",
        *("--runtime-api-address", f"{settings.host}:{settings.port}"),
        *("--root-certificates", str(settings.authority)),
        *("--superexec-auth-secret-file", str(settings.executor_secret)),
    ]


def flower_environment(
    flower_home: Path, *, start_poll_seconds: float, inherited: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the environment for Flower's commands: own folder, nothing reported, nothing installed, no proxy.

    `inherited` is os.environ unless given.
    """
    environment = dict(os.environ if inherited is None else inherited)
    environment |= SWITCHED_OFF
    environment["FLWR_HOME"] = str(flower_home)
    environment["FLWR_SUPEREXEC_TASK_POLL_INTERVAL"] = str(start_poll_seconds)
    loopback = {"127.0.0.1", "localhost"}
    for name in ("NO_PROXY", "no_proxy"):
        environment[name] = ",".join(sorted(loopback | set(filter(None, environment.get(name, "").split(",")))))
    return environment
