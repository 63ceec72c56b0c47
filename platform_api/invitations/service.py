"""Making invitations: what the operator described of the federation, and what this service knows of itself."""

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlmodel import Session

from platform_api.accounts.tables import MachineClient, Tenant
from platform_api.problems import Problem
from platform_api.settings import Settings
from platform_api.signing_keys import public_key, signing_key
from shared.errors import BadSetting
from shared.invitation import Invitation, InvitedHelper, sign_invitation
from shared.sealing_certificate import SealingCertificate

FIELDS = ("issuer_key", "publisher_key", "app_digest", "superlink", "certificate", "helpers")
MAX_DESCRIPTION_BYTES = 256 * 1024


def invite(session: Session, settings: Settings, client_id: str, days: int, now: datetime) -> bytes:
    """A signed invitation for a program that is enrolled. Raises Problem (404, 409)."""
    client = session.get(MachineClient, client_id)
    if client is None:
        raise Problem("not-found", "no such client")
    if client.revoked_at is not None:
        raise Problem("conflict", "this client was revoked; enrol another one")
    tenant = None if client.tenant_id is None else session.get_one(Tenant, client.tenant_id)
    try:
        invitation = Invitation(
            invited=client.name if tenant is None else tenant.name,
            role="researcher" if tenant is None else "tenant",
            client_id=client.id,
            platform_url=settings.public_url,
            platform_key=public_key(settings, "platform-signing"),
            snapshots_url=f"{settings.public_url}/api/v1/snapshots",
            catalogue_key=public_key(settings, "catalogue-signing"),
            model=settings.recommender,
            issued_at=int(now.timestamp()),
            expires_at=int((now + timedelta(days=days)).timestamp()),
            **_described(settings.federation_file),
        )
    except BadSetting as error:
        raise Problem("conflict", str(error)) from None
    return sign_invitation(invitation, signing_key(settings, "platform-signing"))


def _described(path: Path | None) -> dict[str, Any]:
    # Read at every invitation: helpers certify new sealing keys while the service runs.
    if path is None:
        raise BadSetting("no federation is described; set federation_file to what `zhiyin server describe` wrote")
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(MAX_DESCRIPTION_BYTES))
        if set(found) != set(FIELDS):
            raise ValueError(f"its fields must be {', '.join(FIELDS)}")
        helpers = tuple(
            InvitedHelper(**{**helper, "sealing": SealingCertificate(**helper["sealing"])})
            for helper in found["helpers"]
        )
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise BadSetting(f"the description of the federation cannot be used: {error}") from None
    return {**found, "helpers": helpers}
