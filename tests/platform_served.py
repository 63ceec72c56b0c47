"""A marketplace that answers on a socket, with a catalogue, a federation that it invites to, and a publisher."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvicorn
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from platform_api.snapshots.service import PublishedSnapshots
from server.platform_cli import description
from server.platform_http import PlatformServer
from shared.catalogue import CatalogueSnapshot
from shared.invitation import open_invitation
from shared.roster import Roster, sign_roster
from tests import catalogue_cast
from tests.invitation_cast import DAY, DIGEST, HELPERS, ISSUER, NOW, PUBLISHER, certificate
from tests.platform_cast import PASSWORD, Hand, Person, Shop, opened_shop, settings_for
from tests.platform_histories import publish
from tests.platform_models import NUM_ITEMS, Publisher, artifact
from tests.secagg_cast import member, public_hex


@dataclass
class Served:
    """url: where it answers. folder: with roster.bin and publisher.key of the aggregation side."""

    url: str
    folder: Path
    shop: Shop
    market: catalogue_cast.Market
    operator: Person
    publisher: Publisher
    snapshot: CatalogueSnapshot
    product_ids: list[str]

    def publish_snapshot(self) -> CatalogueSnapshot:
        made = self.operator.post("/snapshots").json()
        with self.shop.app.state.database.reading() as session:
            found: CatalogueSnapshot = self.shop.app.state.snapshots.catalogue(session, made["digest"])
        self.snapshot = found
        return found

    def program(self, *scopes: str, tenant: str | None = None) -> dict[str, Any]:
        """Credentials."""
        tenant_id = None if tenant is None else self.operator.post("/tenants", {"name": tenant}).json()["id"]
        wish = {"name": "program", "scopes": list(scopes), "tenant_id": tenant_id}
        found: dict[str, Any] = self.operator.post("/clients", wish).json()
        return found

    def invite(self, tenant: str = "North university", days: int = 7) -> bytes:
        client = self.program("fl:join", tenant=tenant)
        answer = self.operator.post(f"/clients/{client['id']}/invitations", {"days": days})
        assert answer.status_code == 201, answer.text
        return bytes(answer.content)

    def invited(self) -> Any:
        data = self.invite()
        return data, open_invitation(data, NOW)

    def make_live(self, version: int, **changes: Any) -> None:
        self.publisher.make_live(version, catalogue=self.snapshot, **changes)

    def http(self) -> PlatformServer:
        return PlatformServer(self.url, pause=lambda seconds: None)

    def operator_http(self) -> PlatformServer:
        server = self.http()
        server.log_in_person(self.operator.email, PASSWORD)
        return server


def describe(folder: Path) -> dict[str, Any]:
    """What the aggregation side tells the platform of the federation."""
    entries = tuple(
        member(helper.name, sealing=helper.sealing, roles=("tenant", "helper"), not_after=NOW + 90 * DAY)
        for helper in HELPERS
    )
    roster = sign_roster(Roster(entries=entries, epoch=1, issued_at=NOW - 60, expires_at=NOW + 30 * DAY), ISSUER)
    (folder / "roster.bin").write_bytes(roster)
    return description(roster, public_hex(ISSUER), public_hex(PUBLISHER), DIGEST, "127.0.0.1:9092", certificate(folder))


def write_key(path: Path, key: Ed25519PrivateKey = PUBLISHER) -> Path:
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path.chmod(0o600)
    return path


@contextmanager
def served(folder: Path, **changes: Any) -> Iterator[Served]:
    """On SQLite, with what a federation needs; its clock goes with the time of the day."""
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    federation = folder / "federation.json"
    settings = settings_for(
        f"sqlite:///{folder / 'platform.db'}",
        folder / "data",
        public_url=url,
        federation_file=federation,
        access_token_seconds=86_400,
        **changes,
    )
    federation.write_text(json.dumps(describe(folder)))
    with opened_shop(settings, Hand(datetime.fromtimestamp(NOW - 3_600, UTC))) as shop:
        market = catalogue_cast.open_market(shop)
        ids = market.stock([{"title": f"隐私课程 {number}"} for number in range(NUM_ITEMS)])
        shop.clock.now = datetime.fromtimestamp(NOW, UTC)
        operator = shop.register(None, "platform-operator")
        shop.app.state.snapshots = PublishedSnapshots(settings)
        wish = {"name": "aggregation", "public_key": public_hex(PUBLISHER)}
        made = operator.post("/model-publishers", wish)
        publisher = Publisher(shop, PUBLISHER, shop.machine("models:publish"), operator, made.json()["id"])
        publish(shop)
        with _listening(shop.app, listener):
            found = Served(url, folder, shop, market, operator, publisher, None, ids)  # type: ignore[arg-type]
            found.publish_snapshot()
            yield found


@contextmanager
def _listening(app: Any, listener: socket.socket) -> Iterator[None]:
    config = uvicorn.Config(app, log_config=None, access_log=False, ws="none", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


__all__ = ["Served", "artifact", "describe", "served", "write_key"]
