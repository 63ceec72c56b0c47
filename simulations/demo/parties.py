"""The demonstration's cast: an issuer who signs the roster, a publisher, and one home for each institution.

What three organisations would do on three hosts is done here in three folders: keys are made where they stay, only
public halves are exchanged, and each institution writes its own policy.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from client.durable_files import make_folder, write_file
from client.home import POLICY_FILE, ClientHome
from client.policy import LocalPolicy, PinnedHelper
from client.policy_file import render_policy
from shared.catalogue import CatalogueSnapshot
from shared.roster import Member, Roster, sign_roster

VALID_SECONDS = 7 * 24 * 3600


@dataclass(frozen=True, kw_only=True)
class TenantTerms:
    """What an institution declares and allows in its policy."""

    name: str
    declared_users: int
    is_helper: bool


@dataclass(frozen=True, kw_only=True)
class Budgets:
    """The privacy budget that every institution of the demonstration sets: over all jobs, and for one."""

    epsilon: float
    delta: float
    max_epsilon_per_job: float


@dataclass(frozen=True, kw_only=True, repr=False)
class Cast:
    """Folders and public keys; private keys stay in files.

    folder: holds parties/<name> (one home each), server/ (publisher key, catalogue, roster).
    """

    folder: Path
    homes: Mapping[str, Path]
    helpers: tuple[str, ...]
    issuer_public_key: str
    publisher_public_key: str

    @property
    def server(self) -> Path:
        return self.folder / "server"

    @property
    def roster(self) -> Path:
        return self.server / "roster.bin"

    @property
    def registry(self) -> Path:
        return self.folder / "registry"

    @property
    def catalogue(self) -> Path:
        return self.server / "catalogue.bin"

    @property
    def publisher_key(self) -> Path:
        return self.server / "publisher.key"


def make_cast(
    folder: Path,
    terms: Sequence[TenantTerms],
    catalogue: CatalogueSnapshot,
    *,
    budgets: Budgets,
    app_digests: tuple[str, ...],
    min_users: int,
    now: int,
    policy_changes: Mapping[str, Any] | None = None,
) -> Cast:
    """Make every party's keys, then the roster, then every policy, which pins issuer, helpers and bundle."""
    issuer, publisher = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    helpers = tuple(term.name for term in terms if term.is_helper)
    homes = {term.name: folder / "parties" / term.name for term in terms}
    opened = {
        term.name: ClientHome.create(homes[term.name], policy=LocalPolicy(name=term.name), catalogue=catalogue)
        for term in terms
    }
    cast = Cast(
        folder=folder,
        homes=homes,
        helpers=helpers,
        issuer_public_key=issuer.public_key().public_bytes_raw().hex(),
        publisher_public_key=publisher.public_key().public_bytes_raw().hex(),
    )
    members = tuple(_member(term, opened[term.name], now) for term in terms)
    make_folder(cast.server)
    write_file(cast.roster, sign_roster(Roster(entries=members, issued_at=now, expires_at=now + VALID_SECONDS), issuer))
    write_file(cast.catalogue, catalogue.to_bytes())
    write_file(cast.publisher_key, publisher.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    pins = {
        name: PinnedHelper(signing=opened[name].vault.signing_public, sealing=opened[name].vault.sealing_public)
        for name in helpers
    }
    for term in terms:
        policy = LocalPolicy(
            name=term.name,
            epsilon=budgets.epsilon,
            delta=budgets.delta,
            max_epsilon_per_job=budgets.max_epsilon_per_job,
            declared_users=term.declared_users,
            min_tenants=2,
            min_users=min_users,
            issuer_public_key=cast.issuer_public_key,
            publisher_public_key=cast.publisher_public_key,
            app_digests=app_digests,
            helpers=pins,
            **(policy_changes or {}),
        )
        write_file(homes[term.name] / POLICY_FILE, render_policy(policy).encode())
    return cast


def _member(term: TenantTerms, home: ClientHome, now: int) -> Member:
    return Member(
        name=term.name,
        signing_key=home.vault.signing_public,
        sealing_key=home.vault.sealing_public if term.is_helper else "",
        roles=("tenant", "helper") if term.is_helper else ("tenant",),
        not_before=now - 60,
        not_after=now + VALID_SECONDS,
    )
