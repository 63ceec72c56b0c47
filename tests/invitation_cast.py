"""A platform that invites, helpers whom it names, and a server's authority, for tests of joining."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.invitation import Invitation, InvitedHelper, sign_invitation
from simulations.deployment.certificates import make_server_certificates
from tests.secagg_cast import certified, public_hex, signing_key

# Now, so that certificates made by tests are valid and homes may be opened by commands, which look at the clock.
NOW = int(datetime.now(UTC).timestamp())
DAY = 86_400
PLATFORM = signing_key("platform")
ISSUER = signing_key("issuer")
PUBLISHER = signing_key("publisher")
CATALOGUE_SIGNER = signing_key("catalogue")
HELPERS = tuple(
    InvitedHelper(
        name=name,
        signing=public_hex(signing_key(name)),
        sealing=certified(name, not_before=0, not_after=NOW + 90 * DAY),
    )
    for name in ("north", "south")
)
DIGEST = "ab" * 32


def certificate(folder: Path) -> str:
    return make_server_certificates(folder / "tls", now=datetime.fromtimestamp(NOW, UTC)).authority.read_text()


def invitation_of(pem: str, /, **changes: Any) -> Invitation:
    url = changes.get("platform_url", "http://127.0.0.1:8000")
    fields: dict[str, Any] = {
        "invited": "清河大学", "role": "tenant", "client_id": "cli_1", "platform_url": url,
        "platform_key": public_hex(PLATFORM), "snapshots_url": f"{url}/api/v1/snapshots",
        "catalogue_key": public_hex(CATALOGUE_SIGNER), "publisher_key": public_hex(PUBLISHER), "model": "courses",
        "issuer_key": public_hex(ISSUER), "app_digest": DIGEST, "superlink": "127.0.0.1:9092", "certificate": pem,
        "helpers": HELPERS, "issued_at": NOW - 60, "expires_at": NOW + 14 * DAY,
    }  # fmt: skip
    return Invitation(**{**fields, **changes})


def signed(pem: str, key: Ed25519PrivateKey = PLATFORM, **changes: Any) -> bytes:
    return sign_invitation(invitation_of(pem, platform_key=public_hex(key), **changes), key)
