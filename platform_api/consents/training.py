"""Histories for a tenant's own federation client: its consenting learners' purchases, under pseudonyms, by the day.

The client imports them (`zhiyin client import`, columns user, item, timestamp) and only noisy sums leave it.
"""

import base64
import csv
import hashlib
import hmac
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlmodel import Session

from platform_api.consents import queries
from platform_api.problems import Problem
from platform_api.recommendations.history_port import Histories
from platform_api.secrets_of import derived_key
from platform_api.settings import Settings
from shared.catalogue import CatalogueSnapshot

COLUMNS = ("user", "item", "timestamp")


@dataclass(frozen=True, kw_only=True)
class Interaction:
    """One purchase. user: pseudonym, the same on every export of one tenant. day: ISO date, UTC."""

    user: str
    item: str
    day: str


def pseudonym(settings: Settings, tenant_id: str, user_id: str) -> str:
    """HMAC-SHA256 under a key of this service, by tenant: two tenants cannot tell that they know one person."""
    key = derived_key(settings, "training pseudonyms")
    return hmac.new(key, f"{tenant_id}\x00{user_id}".encode(), hashlib.sha256).hexdigest()[:32]


def consenting(session: Session, tenant_id: str, after: str | None, limit: int) -> Sequence[str]:
    """Learners of the tenant who agree to training under the policy that holds now, by id."""
    policy = queries.current_policy(session)
    if policy is None:
        return ()
    return queries.consenting_learners(session, tenant_id, "training", policy.version, after, limit)


def training_histories(
    session: Session,
    histories: Histories,
    settings: Settings,
    tenant_id: str,
    learners: Sequence[str],
    catalogue: CatalogueSnapshot,
) -> list[Interaction]:
    """Purchases of these learners that the snapshot lists, by day, then item: times of day stay here."""
    found = []
    for user_id in learners:
        name = pseudonym(settings, tenant_id, user_id)
        days = sorted((at.date().isoformat(), item) for item, at in histories.held(session, user_id).purchases)
        found += [Interaction(user=name, item=item, day=day) for day, item in days if item in catalogue.index]
    return found


def as_csv(rows: Sequence[Interaction], *, header: bool) -> str:
    """The rows as the client's import reads them."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if header:
        writer.writerow(COLUMNS)
    writer.writerows((row.user, row.item, row.day) for row in rows)
    return text.getvalue()


def seal_place(settings: Settings, user_id: str) -> str:
    """Where a page ended, for a cursor whose signed text anybody can read: the tenant must not learn ids."""
    nonce = os.urandom(12)
    sealed = AESGCM(derived_key(settings, "training cursor")).encrypt(nonce, user_id.encode(), None)
    return base64.urlsafe_b64encode(nonce + sealed).decode()


def open_place(settings: Settings, place: str) -> str:
    """Inverse of `seal_place`; raises Problem (400)."""
    try:
        raw = base64.urlsafe_b64decode(place)
        return AESGCM(derived_key(settings, "training cursor")).decrypt(raw[:12], raw[12:], None).decode()
    except (ValueError, InvalidTag):
        raise Problem("bad-cursor") from None
