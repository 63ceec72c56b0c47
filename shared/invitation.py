"""An invitation to a federation: everything that a new party has to pin, in one document that a platform signs.

It holds nothing secret. That it was not changed, the signature shows; that it comes from the platform that the party
means, only a comparison of its fingerprint does, over the telephone. The issuer of the list of parties is not the
platform: its key is in here to be compared with the issuer in person.
"""

import re
from dataclasses import dataclass
from typing import Any, Literal, get_args

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from shared.canonical import canonical_json, sha256_hex
from shared.errors import BadSetting, BadSignature, ExpiredKey, MalformedMessage
from shared.fingerprint import fingerprint
from shared.roster import check_name
from shared.sealing_certificate import SealingCertificate
from shared.signed_document import read_document, sign_document, verify_document

KIND = "zhiyin-invitation-1"
Invited = Literal["tenant", "researcher"]
MAX_CERTIFICATE_CHARACTERS = 16_384
MAX_HELPERS = 64
_KEY = re.compile(r"[0-9a-f]{64}")
_MODEL = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_IDENTIFIER = re.compile(r"[A-Za-z0-9_-]{1,64}")
# A name, an IPv4 address or an IPv6 address in brackets; no user, query or fragment.
_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?|\[[0-9a-fA-F:.]{2,45}\])"
_ADDRESS = re.compile(rf"({_HOST}):([0-9]{{1,5}})")
_URL = re.compile(rf"(https?)://({_HOST})(?::([0-9]{{1,5}}))?((?:/[A-Za-z0-9._~-]+)*)")
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_KEYS = ("platform_key", "issuer_key", "publisher_key", "catalogue_key", "app_digest")


@dataclass(frozen=True, kw_only=True)
class InvitedHelper:
    """A helper of the federation. signing: Ed25519, 64 hex digits, to be pinned. sealing: its own certificate."""

    name: str
    signing: str
    sealing: SealingCertificate

    def __post_init__(self) -> None:
        check_name(self.name)
        _require(_fits(_KEY, self.signing), f"helper {self.name}: signing must be 64 hex digits")


@dataclass(frozen=True, kw_only=True)
class Invitation:
    """Raises BadSetting, naming the field, for one that cannot be used.

    invited, role, client_id: who it is for, as the platform knows them; the client's secret travels another way.
    platform_url, platform_key: the platform, and the key that signs this. snapshots_url: of signed catalogue snapshots,
    whose key is catalogue_key. publisher_key, model: who signs models, and the name of the one that is recommended
    from. issuer_key: of whoever signs the list of parties. app_digest: SHA-256 of the app bundle that nodes run.
    superlink, certificate: host:port, and the authority that its certificate comes from, PEM. Keys are Ed25519, in hex;
    times are seconds since 1970 UTC.
    """

    invited: str
    role: Invited
    client_id: str
    platform_url: str
    platform_key: str
    snapshots_url: str
    catalogue_key: str
    publisher_key: str
    model: str
    issuer_key: str
    app_digest: str
    superlink: str
    certificate: str
    helpers: tuple[InvitedHelper, ...]
    issued_at: int
    expires_at: int

    def __post_init__(self) -> None:
        printable = isinstance(self.invited, str) and 0 < len(self.invited) <= 200 and self.invited.isprintable()
        _require(printable, "invited must be 1 to 200 printable characters")
        _require(self.role in get_args(Invited), f"role must be one of {', '.join(get_args(Invited))}")
        _require(_fits(_IDENTIFIER, self.client_id), "client_id must be 1 to 64 letters, digits, '_' and '-'")
        for name in _KEYS:
            _require(_fits(_KEY, getattr(self, name)), f"{name} must be 64 hex digits")
        _require(_fits(_MODEL, self.model), "model must be 1 to 64 of a-z, 0-9 and hyphens")
        for name in ("platform_url", "snapshots_url"):
            _check_url(f"invitation: {name}", getattr(self, name))
        inside = self.snapshots_url.startswith(self.platform_url + "/")
        _require(inside, "snapshots_url must lie below platform_url")
        found = _ADDRESS.fullmatch(self.superlink) if isinstance(self.superlink, str) else None
        _require(found is not None and _is_port(found[2]), "superlink must be host:port")
        _check_certificate(self.certificate)
        _check_helpers(self.helpers)
        times = (self.issued_at, self.expires_at)
        whole = all(type(time) is int and 0 <= time < 2**53 for time in times)
        _require(whole and self.issued_at < self.expires_at, "issued_at and expires_at must be seconds, in this order")

    @property
    def fingerprint(self) -> str:
        """Over every field: what the platform's operator and the party compare."""
        return fingerprint(canonical_json(_to_json(self)))


def sign_invitation(invitation: Invitation, signing_key: Ed25519PrivateKey) -> bytes:
    """The file for the party. Raises BadSetting for a key that is not the invitation's platform_key."""
    public = signing_key.public_key().public_bytes_raw().hex()
    _require(public == invitation.platform_key, "platform_key must be the key that signs")
    return sign_document(KIND, _to_json(invitation), signing_key)


def read_invitation(data: bytes) -> Invitation:
    """The invitation, if it is signed with the key that it names. Raises MalformedMessage or BadSignature."""
    fields, signature = read_document(KIND, data)
    try:
        _require_fields(fields, Invitation.__dataclass_fields__)
        helpers = fields["helpers"]
        if not isinstance(helpers, list) or len(helpers) > MAX_HELPERS:
            raise ValueError(f"helpers must be a list of at most {MAX_HELPERS}")
        invitation = Invitation(**{**fields, "helpers": tuple(map(_read_helper, helpers))})
    except (ValueError, TypeError, BadSetting) as error:
        raise MalformedMessage(f"it is no usable invitation: {error}") from error
    verify_document(KIND, fields, signature, invitation.platform_key, "the platform that it names")
    return invitation


def open_invitation(data: bytes, now: int) -> Invitation:
    """As `read_invitation`, and everything in it holds now: its time, sealing certificates, the server's authority.

    Raises MalformedMessage, BadSignature, ExpiredKey.
    """
    invitation = read_invitation(data)
    if not invitation.issued_at <= now <= invitation.expires_at:
        raise ExpiredKey(
            f"the invitation is valid from {invitation.issued_at} to {invitation.expires_at}, now is {now}; "
            "ask the platform's operator for a new one"
        )
    for helper in invitation.helpers:
        try:
            helper.sealing.opened(helper.name, helper.signing, now)
        except BadSignature as error:
            raise BadSignature(f"invitation: {error}") from error
    start, stop = _validity(invitation.certificate)
    if not start <= now <= stop:
        raise ExpiredKey("the invitation's certificate of the server's authority is not valid now; ask for a new one")
    return invitation


def certificate_fingerprint(certificate: str) -> str:
    """SHA-256 in hex of a PEM certificate's DER form, as other tools print it."""
    return sha256_hex(x509.load_pem_x509_certificate(certificate.encode()).public_bytes(Encoding.DER))


def is_loopback(url: str) -> bool:
    """Whether an accepted URL stays on this machine."""
    found = _URL.fullmatch(url)
    return found is not None and found[2] in _LOOPBACK


def check_platform_url(url: str) -> None:
    """Raise BadSetting unless `url` is one that an invitation may name: https, or http on this machine."""
    _check_url("the platform's address", url)


def _to_json(invitation: Invitation) -> dict[str, Any]:
    helpers = [{**vars(helper), "sealing": vars(helper.sealing)} for helper in invitation.helpers]
    return {**vars(invitation), "helpers": helpers}


def _read_helper(fields: Any) -> InvitedHelper:
    if not isinstance(fields, dict) or not isinstance(fields.get("sealing"), dict):
        raise ValueError("each of helpers must have name, signing and sealing")
    _require_fields(fields, InvitedHelper.__dataclass_fields__)
    return InvitedHelper(**{**fields, "sealing": SealingCertificate(**fields["sealing"])})


def _require_fields(fields: dict[str, Any], wanted: dict[str, Any]) -> None:
    for name in sorted(set(wanted) ^ set(fields)):
        raise ValueError(f"{name} is missing" if name in wanted else f"{name[:64]!r} is no field of this version")


def _check_url(name: str, url: Any) -> None:
    found = _URL.fullmatch(url) if isinstance(url, str) and len(url) <= 500 else None
    if found is None or not (found[3] is None or _is_port(found[3])):
        raise BadSetting(f"{name} must be a plain URL, without a slash at the end")
    if found[1] != "https" and found[2] not in _LOOPBACK:
        raise BadSetting(f"{name} must be https; http is for this machine alone")


def _check_certificate(text: Any) -> None:
    usable = isinstance(text, str) and len(text) <= MAX_CERTIFICATE_CHARACTERS and text.isascii()
    try:
        if not usable:
            raise ValueError("not a short text")
        _validity(text)
    # A version that no standard has is no ValueError to the library.
    except (ValueError, x509.InvalidVersion) as error:
        raise BadSetting("invitation: certificate must be one certificate in PEM") from error


def _validity(certificate: str) -> tuple[float, float]:
    found = x509.load_pem_x509_certificate(certificate.encode())
    return found.not_valid_before_utc.timestamp(), found.not_valid_after_utc.timestamp()


def _check_helpers(helpers: tuple[InvitedHelper, ...]) -> None:
    for what, values in (
        ("name", [helper.name for helper in helpers]),
        ("signing key", [helper.signing for helper in helpers]),
        ("sealing key", [helper.sealing.key for helper in helpers]),
    ):
        # One party under two names would hold all the masks alone.
        _require(len(set(values)) == len(values), f"two helpers share a {what}")


def _is_port(digits: str) -> bool:
    return 0 < int(digits) < 65_536


def _fits(pattern: re.Pattern[str], value: Any) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise BadSetting(f"invitation: {what}")
