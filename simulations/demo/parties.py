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
from client.enrolling import enrolment_request
from client.home import POLICY_FILE, ClientHome
from client.issuing import register as registers
from client.issuing.folder import IssuerFolder
from client.policy import LocalPolicy, PinnedHelper
from client.policy_file import render_policy
from shared.catalogue import CatalogueSnapshot
from shared.enrolment import open_request, sign_request
from shared.roster import Role, sign_roster

VALID_DAYS = 7


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

    folder: holds parties/<name> (one home each), issuer/ (key, register), server/ (publisher key, catalogue, roster).
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
    pinned: bool = True,
) -> Cast:
    """Make every party's keys, enrol all, publish the roster, then write policies that pin issuer, helpers, bundle.

    pinned: False leaves the pins to whoever joins by an invitation.
    """
    issuer, publisher = IssuerFolder.create(folder / "issuer"), Ed25519PrivateKey.generate()
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
        issuer_public_key=issuer.public,
        publisher_public_key=publisher.public_key().public_bytes_raw().hex(),
    )
    make_folder(cast.server)
    _publish(issuer, [_request(term, opened[term.name], now) for term in terms], cast.roster, now)
    write_file(cast.catalogue, catalogue.to_bytes())
    write_file(cast.publisher_key, publisher.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    pins: dict[str, Any] = {
        "issuer_public_key": cast.issuer_public_key,
        "publisher_public_key": cast.publisher_public_key,
        "app_digests": app_digests,
        "helpers": {name: PinnedHelper(signing=opened[name].vault.signing_public) for name in helpers},
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
            # Everybody is on this machine, with generated data: there is nobody to hide the time from.
            **{"answer_seconds": 0.0, **(policy_changes or {}), **(pins if pinned else {})},
        )
        write_file(homes[term.name] / POLICY_FILE, render_policy(policy).encode())
    return cast


def _request(term: TenantTerms, home: ClientHome, now: int) -> bytes:
    """What an institution sends to the issuer."""
    roles: tuple[Role, ...] = ("tenant", "helper") if term.is_helper else ("tenant",)
    request = enrolment_request(home, home.vault, roles, now=now, sealing_days=VALID_DAYS)
    return sign_request(request, home.vault.signing_key)


def _publish(issuer: IssuerFolder, requests: Sequence[bytes], path: Path, now: int) -> None:
    """What the issuer does with them; nobody telephones, for everybody is on this machine."""
    register = issuer.register
    for request in requests:
        register = registers.enrol(register, open_request(request, now), now=now, days=VALID_DAYS)
    register, roster = registers.next_roster(register, now=now, days=VALID_DAYS)
    issuer.saved(register)
    write_file(path, sign_roster(roster, issuer.signing_key))
