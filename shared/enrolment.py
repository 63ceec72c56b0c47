"""A party asks the issuer to be listed: its name, its roles and the public halves of its keys, signed with its own key.

The signature shows that whoever asks holds the signing key, and the certificate that the sealing key is theirs. Whose
name it is, no signature shows: the issuer compares the fingerprint with that person, by telephone.
"""

import re
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.canonical import canonical_json
from shared.errors import BadSetting, MalformedMessage
from shared.fingerprint import fingerprint
from shared.node_key import require_node_key
from shared.roster import Role, check_name, check_roles
from shared.sealing_certificate import SealingCertificate
from shared.signed_document import read_document, sign_document, verify_document

KIND = "zhiyin-enrolment-1"
_KEY = re.compile(r"[0-9a-f]{64}")
_FIELDS = {"name", "roles", "signing_key", "sealing", "node_public_key", "created_at"}


@dataclass(frozen=True, kw_only=True)
class EnrolmentRequest:
    """Raises BadSetting for a field that cannot be used.

    signing_key: Ed25519, 64 hex digits. sealing: the certified sealing key of a helper, None for others.
    node_public_key: P-384 in its one OpenSSH form (`shared.node_key`). created_at: seconds since 1970 UTC.
    """

    name: str
    roles: tuple[Role, ...]
    signing_key: str
    sealing: SealingCertificate | None
    node_public_key: str
    created_at: int

    def __post_init__(self) -> None:
        check_name(self.name)
        check_roles(f"request of {self.name}", self.roles)
        if not isinstance(self.signing_key, str) or not _KEY.fullmatch(self.signing_key):
            raise BadSetting(f"request of {self.name}: signing_key must be 64 hex digits")
        if (self.sealing is None) == ("helper" in self.roles):
            raise BadSetting(f"request of {self.name}: a sealing key belongs to the role helper, and to no other")
        try:
            require_node_key(self.node_public_key)
        except BadSetting as error:
            raise BadSetting(f"request of {self.name}: node_public_key: {error}") from error
        if type(self.created_at) is not int or not 0 <= self.created_at < 2**53:
            raise BadSetting(f"request of {self.name}: created_at must be whole seconds")

    @property
    def fingerprint(self) -> str:
        """Over everything that is asked for: what the issuer and the party compare."""
        return fingerprint(canonical_json(_to_json(self)))


def sign_request(request: EnrolmentRequest, signing_key: Ed25519PrivateKey) -> bytes:
    """A file for the issuer; it holds nothing secret."""
    return sign_document(KIND, _to_json(request), signing_key)


def open_request(data: bytes, now: int) -> EnrolmentRequest:
    """The request, if it was signed with the key that it asks to be listed, and certifies its sealing key with it.

    Raises MalformedMessage, BadSignature, or ExpiredKey for a sealing key that is not certified for now.
    """
    fields, signature = read_document(KIND, data)
    try:
        if set(fields) != _FIELDS:
            raise ValueError(f"a request has the fields {', '.join(sorted(_FIELDS))}")
        sealing = None if fields["sealing"] is None else SealingCertificate(**fields["sealing"])
        request = EnrolmentRequest(**{**fields, "roles": tuple(fields["roles"]), "sealing": sealing})
    except (ValueError, TypeError, BadSetting) as error:
        raise MalformedMessage(f"it is no usable request: {error}") from error
    verify_document(KIND, fields, signature, request.signing_key, "the key that it asks to be listed")
    if request.sealing is not None:
        request.sealing.opened(request.name, request.signing_key, now)
    return request


def _to_json(request: EnrolmentRequest) -> dict[str, Any]:
    sealing = None if request.sealing is None else vars(request.sealing)
    return {**vars(request), "roles": list(request.roles), "sealing": sealing}
