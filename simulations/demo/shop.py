"""The marketplace of the demonstration: a platform and a payment provider as processes on this machine."""

import os
import secrets
import sys
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from client.durable_files import make_folder
from client.fetching import FetchedCatalogue, fetch_catalogue
from platform_api.database import Database
from platform_api.schema import migrate
from platform_api.settings import PREFIX, load_settings
from platform_api.snapshots.files import public_key
from server.platform_http import PlatformServer
from simulations.demo.stocking import LogIn, Stocked, stock
from simulations.deployment.federation import REPOSITORY
from simulations.deployment.processes import LOOPBACK, Child, Supervisor, free_ports, wait_until_healthy
from simulations.marketplace import Marketplace

START_SECONDS = 180.0
GOOD_CARD = "4242424242424242"
FEDERATION_FILE = "federation.json"


@dataclass(frozen=True, kw_only=True)
class Catalogues:
    """Where the platform's snapshots are, and the key that its operator gives to partners."""

    platform_url: str
    catalogue_key: str

    @property
    def snapshots_url(self) -> str:
        return f"{self.platform_url}/api/v1/snapshots"


class Shop:
    """Start it with `with`: both processes, a database with the marketplace in it, and an operator who is logged in.

    folder: for the database, model files and logs. model: the name of the model that is recommended from.
    """

    def __init__(self, folder: Path, market: Marketplace, *, seed: int, model: str) -> None:
        self.folder, self.model = folder, model
        self._market, self._seed = market, seed
        self._supervisor = Supervisor(folder / "logs")
        platform_port, provider_port = free_ports(2)
        self.url, self.provider_url = f"http://{LOOPBACK}:{platform_port}", f"http://{LOOPBACK}:{provider_port}"
        self._ports = platform_port, provider_port
        self._settings = self._make_settings()
        self.stocked: Stocked
        self.operator: PlatformServer
        self.children: tuple[Child, ...] = ()

    def __enter__(self) -> Self:
        make_folder(self.folder)
        self._supervisor.__enter__()
        try:
            self._open()
        except BaseException:
            self._supervisor.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._supervisor.__exit__(kind, error, trace)

    @property
    def federation_file(self) -> Path:
        """Where the platform reads what invitations say of the federation."""
        return self.folder / FEDERATION_FILE

    def publish_snapshot(self) -> FetchedCatalogue:
        """Make the first snapshot, as the operator; then fetch it, as any partner does, and verify it."""
        self.operator.ask("POST", "/snapshots")
        key = public_key(load_settings(self._settings))
        return fetch_catalogue(Catalogues(platform_url=self.url, catalogue_key=key), self.folder)

    def log_in(self, log_in: LogIn) -> PlatformServer:
        """Somebody's session. Lasts as long as the service says, a quarter of an hour unless it is set."""
        server = PlatformServer(self.url)
        server.log_in_person(log_in.email, log_in.password)
        return server

    def enrol_program(self, name: str, scopes: list[str], tenant_id: str | None = None) -> dict[str, Any]:
        """A tenant's program, or one of none; its credentials."""
        return self.operator.ask_json("POST", "/clients", {"name": name, "scopes": scopes, "tenant_id": tenant_id})

    def _open(self) -> None:
        platform_port, provider_port = self._ports
        database = Database(self._settings[f"{PREFIX}DATABASE_URL"])
        try:
            migrate(database)  # or the platform would not start
            self.children = (
                self._start("platform", "serve", "--port", str(platform_port)),
                self._start("payments", "sandbox", "--port", str(provider_port)),
            )
            self.stocked = stock(database, self._market, seed=self._seed, now=datetime.now(UTC))
        finally:
            database.close()
        self._await()
        self.operator = self.log_in(self.stocked.log_ins[0])

    def _await(self) -> None:
        for child, url in zip(self.children, (self.url, self.provider_url), strict=True):
            wait_until_healthy(child, f"{url}{_HEALTH[child.name]}", authority=None, timeout_seconds=START_SECONDS)

    def _start(self, name: str, *arguments: str) -> Child:
        kept = {variable: value for variable, value in os.environ.items() if not variable.startswith(PREFIX)}
        return self._supervisor.start(
            name,
            [sys.executable, "-c", "from simulations.console import main; main()", "platform", *arguments],
            environment={**kept, **self._settings, "PYTHONUNBUFFERED": "1"},
            working_folder=REPOSITORY,
        )

    def _make_settings(self) -> Mapping[str, str]:
        given = {
            "DATABASE_URL": f"sqlite:///{self.folder / 'platform.db'}",
            "SECRET_KEY": secrets.token_urlsafe(32),
            "PUBLIC_URL": self.url,
            "DATA_FOLDER": str(self.folder / "data"),
            "ERASURE_JOURNAL": str(self.folder / "erasures.txt"),
            "FEDERATION_FILE": str(self.folder / FEDERATION_FILE),
            "WEBHOOK_SECRET": "whsec_" + b64encode(secrets.token_bytes(24)).decode(),
            "PROVIDER_URL": self.provider_url,
            "PROVIDER_KEY": secrets.token_urlsafe(24),
            "RECOMMENDER": self.model,
            # A demonstration trains for minutes between two requests of one operator.
            "ACCESS_TOKEN_SECONDS": "7200",
        }
        return {f"{PREFIX}{name}": value for name, value in given.items()}


_HEALTH = {"platform": "/readyz", "payments": "/pay/any"}
