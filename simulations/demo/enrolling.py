"""Joining in the demonstration: the platform invites, and each institution checks the invitation and pins what it says.

The issuer and the publisher are not the platform. It hands out what they told its operator, and whoever joins compares.
"""

import json
import time
from datetime import UTC, datetime
from pathlib import Path

from client.durable_files import write_file
from client.fetching import FetchedCatalogue, adopt_catalogue
from client.joining import join
from server.platform_cli import description
from shared.invitation import Invitation, open_invitation
from simulations.demo.parties import Cast
from simulations.demo.shop import Shop
from simulations.deployment.certificates import ServerCertificates, make_server_certificates
from simulations.deployment.processes import LOOPBACK

INVITATIONS_FOLDER = "invitations"


def enrol_everybody(
    shop: Shop, cast: Cast, catalogue: FetchedCatalogue, *, app_digest: str, port: int
) -> ServerCertificates:
    """Describe the federation, enrol a program of each tenant, and let each home join by its own invitation.

    port: of the SuperLink, whose certificates are made here because invitations name their authority. In one process
    nobody listens there.
    """
    certificates = make_server_certificates(cast.folder / "tls", now=datetime.now(UTC))
    described = description(
        cast.roster.read_bytes(),
        cast.issuer_public_key,
        cast.publisher_public_key,
        app_digest,
        f"{LOOPBACK}:{port}",
        certificates.authority.read_text(encoding="ascii"),
    )
    write_file(shop.federation_file, json.dumps(described).encode())
    (cast.folder / INVITATIONS_FOLDER).mkdir(mode=0o700)
    for name, home in cast.homes.items():
        program = shop.enrol_program(f"{name}'s node", ["fl:join"], shop.stocked.tenants[name])
        data = _invitation_for(shop, program["id"])
        write_file(invitation_file(cast, name), data)
        # Each of them would compare the fingerprint by telephone; everybody is on this machine.
        join(home, data, opened(data))
        adopt_catalogue(home, catalogue)
    return certificates


def invitation_file(cast: Cast, name: str) -> Path:
    """The invitation of an institution."""
    return cast.folder / INVITATIONS_FOLDER / f"{name}.json"


def opened(data: bytes) -> Invitation:
    return open_invitation(data, int(time.time()))


def _invitation_for(shop: Shop, client_id: str) -> bytes:
    return json.dumps(shop.operator.ask_json("POST", f"/clients/{client_id}/invitations", {"days": 7})).encode()
